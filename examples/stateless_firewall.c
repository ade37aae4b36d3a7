/* A stateless firewall: one verdict per destination address.
 *
 * Map lookup_table, a hash in Oko's definition form:
 *     key    uint32_t, the IPv4 destination in host byte order (172.16.0.14 is the bytes 14 0 16 172)
 *     value  uint32_t, 1 to drop, 2 to pass
 * Returns 0 (no match, the packet is not forwarded) for a destination to drop, 1 (match) for every other:
 * one to pass, one the table does not know, and frames without a whole IPv4 header such as ARP and IPv6.
 * Up to two VLAN tags are skipped; every fragment has a destination and is judged by it. */
#define BPF_HELPERS_BY_NAME
#include "bpf_filter.h"
#include "filter_packet.h"

enum { DROP = 1, PASS = 2 };

SEC("maps")
struct oko_map lookup_table = {
    .type = OKO_MAP_TYPE_HASH,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(uint32_t),
    .max_entries = 1000,
};

SEC("filter")
uint64_t stateless_firewall(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    const uint32_t *action;
    uint32_t destination;

    if (offset == 0)
        return 1;
    destination = bpf_ntohl(ip->destination);
    action = map_lookup(&lookup_table, &destination);
    return !(action && *action == DROP);
}
