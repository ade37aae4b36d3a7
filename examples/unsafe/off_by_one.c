/* stateless_firewall.c with a length test that is one byte short: of a frame of 33 bytes it reads 34. */
#include "bpf_filter.h"
#include "packet.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1000);
} lookup_table SEC(".maps");

SEC("filter")
uint64_t off_by_one(const void *pkt, uint64_t pkt_len)
{
    const struct ipv4 *ip = pkt + sizeof(struct ethernet);
    uint32_t destination;

    if (pkt_len < sizeof(struct ethernet) + sizeof(*ip) - 1)
        return 1;
    /* BLAME: packet-bounds */
    destination = bpf_ntohl(ip->destination);
    return map_lookup(&lookup_table, &destination) == NULL;
}
