/* stateless_firewall.c returning what the lookup found, which is an address, instead of whether it found something. */
#include "bpf_filter.h"
#include "filter_packet.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1000);
} lookup_table SEC(".maps");

SEC("filter")
uint64_t pointer_leak(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    uint32_t destination;

    if (offset == 0)
        return 0;
    destination = bpf_ntohl(ip->destination);
    return (uint64_t)map_lookup(&lookup_table, &destination);
    /* BLAME: pointer-leak */
}
