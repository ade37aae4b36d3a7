/* Means to sample packets by their content, and computes with the address of the packet. */
#include "bpf_filter.h"

SEC("filter")
uint64_t pointer_arithmetic(const void *pkt, uint64_t pkt_len)
{
    if (pkt_len < 64)
        return 0;
    /* BLAME: pointer-arithmetic */
    return ((uint64_t)pkt * 2654435761u) % 100 == 0;
}
