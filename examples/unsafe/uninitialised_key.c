/* A firewall per service whose key has a byte that nobody writes: the padding behind its last member. */
#include "bpf_filter.h"
#include "filter_packet.h"

struct service {
    uint32_t address;
    uint16_t port;
    uint8_t protocol;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct service);
    __type(value, uint32_t);
    __uint(max_entries, 1000);
} blocked SEC(".maps");

SEC("filter")
uint64_t uninitialised_key(const void *pkt, uint64_t pkt_len)
{
    struct segment segment;
    struct service service;

    if (!find_segment(pkt, pkt_len, &segment))
        return 1;
    service.address = segment.ip->destination;
    service.port = segment.tcp->destination;
    service.protocol = segment.ip->protocol;
    /* BLAME: uninitialised-stack */
    return map_lookup(&blocked, &service) == NULL;
}
