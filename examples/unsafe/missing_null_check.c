/* stateless_firewall.c believing that every destination is in the table. */
#include "bpf_filter.h"
#include "filter_packet.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, uint32_t);
    __uint(max_entries, 1000);
} lookup_table SEC(".maps");

SEC("filter")
uint64_t missing_null_check(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    const uint32_t *action;
    uint32_t destination;

    if (offset == 0)
        return 1;
    destination = bpf_ntohl(ip->destination);
    action = map_lookup(&lookup_table, &destination);
    /* BLAME: maybe-null */
    return *action != 1;
}
