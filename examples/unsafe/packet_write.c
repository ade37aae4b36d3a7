/* A hop of a router as a filter: but a filter may only look at the packet. */
#include "bpf_filter.h"
#include "filter_packet.h"

SEC("filter")
uint64_t packet_write(void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    struct ipv4 *ip = pkt + offset;

    if (offset == 0 || ip->ttl <= 1)
        return 0;
    /* BLAME: packet-write */
    ip->ttl = ip->ttl - 1;
    return 1;
}
