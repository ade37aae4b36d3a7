/* Walks the TCP options with a loop, whose end the packet decides: the length test keeps every read inside the frame,
 * but an option of length 0 keeps the program busy for ever. */
#include "bpf_filter.h"
#include "filter_packet.h"

SEC("filter")
uint64_t loop(const void *pkt, uint64_t pkt_len)
{
    struct segment segment;
    uint64_t offset;

    if (!find_segment(pkt, pkt_len, &segment))
        return 0;
    offset = segment.tcp_offset + sizeof(struct tcp);
    /* BLAME: back-edge */
    while (offset < 128 && pkt_len >= offset + 2) {
        const uint8_t *option = pkt + offset;

        if (option[0] == 2)
            return 1;
        offset += option[1];
    }
    return 0;
}
