/* The p0f signature filter as Listing 3.1 of P. Chaignon's thesis prints it; appendix_b.bpf is its bytecode.
 *
 * It differs from p0f.c where the listing does: the window is compared with 8192 as it is loaded on a
 * little-endian host, so that what matches is a window of 32; and neither Ethernet type, IP version,
 * protocol nor fragment offset is looked at, as the flow table's other match fields see to them.
 * Returns 1 on a match, else 0. No maps. */
#include "bpf_filter.h"
#include "packet.h"

SEC("filter")
uint64_t p0f_literal(const void *pkt, uint64_t pkt_len)
{
    const struct ipv4 *ip = pkt + sizeof(struct ethernet);
    const struct tcp *tcp = pkt + sizeof(struct ethernet) + sizeof(*ip);

    if (pkt_len < sizeof(struct ethernet) + sizeof(*ip) + sizeof(*tcp))
        return 0;
    if (ip->ttl > 128 || ip->ttl <= 93 || ipv4_header_size(ip) != sizeof(*ip))
        return 0;
    if (!(ip->fragment & bpf_htons(IPV4_DONT_FRAGMENT)))
        return 0;
    if (ip->tos & 8)
        return 0;
    if (tcp->window != 8192)
        return 0;
    return bpf_ntohs(ip->total_length) == ipv4_header_size(ip) + tcp_header_size(tcp);
}
