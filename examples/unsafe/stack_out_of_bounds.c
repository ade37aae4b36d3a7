/* Counts the bytes of an address by their upper bits: eight counters for the sixteen values of four bits. */
#include "bpf_filter.h"
#include "filter_packet.h"

SEC("filter")
uint64_t stack_out_of_bounds(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    const uint8_t *address = (const uint8_t *)&ip->source;
    uint32_t counts[8] = {};

    if (offset == 0)
        return 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        /* BLAME: stack-bounds */
        counts[address[i] >> 4]++;
    }
    return counts[0] == 4;
}
