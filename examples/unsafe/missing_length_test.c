/* p0f_literal.c without its length test: a frame of 14 bytes has no time to live to look at. */
#include "bpf_filter.h"
#include "packet.h"

SEC("filter")
uint64_t missing_length_test(const void *pkt, uint64_t pkt_len __attribute__((unused)))
{
    const struct ipv4 *ip = pkt + sizeof(struct ethernet);

    /* BLAME: packet-bounds */
    if (ip->ttl > 128 || ip->ttl <= 93)
        return 0;
    return bpf_ntohs(ip->total_length) == 40;
}
