/* stateless_firewall.c after its values got a counter and its map definition did not. */
#include "bpf_filter.h"
#include "filter_packet.h"

struct verdict {
    uint32_t action;
    uint32_t packets;
};

SEC("maps")
struct oko_map lookup_table = {
    .type = OKO_MAP_TYPE_HASH,
    .key_size = 4,
    .value_size = 4,
    .max_entries = 1000,
};

SEC("filter")
uint64_t value_out_of_bounds(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    struct verdict *verdict;
    uint32_t destination;

    if (offset == 0)
        return 1;
    destination = bpf_ntohl(ip->destination);
    verdict = map_lookup(&lookup_table, &destination);
    if (!verdict)
        return 1;
    /* BLAME: map-value-bounds */
    verdict->packets++;
    return verdict->action != 1;
}
