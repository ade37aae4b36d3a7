/* A p0f signature as a stateless filter.
 *
 * Signature 4:128+0:0:2:8192,8: :df,id+,seq-:0. Returns 1 if the packet is one, else 0. A match wants all of:
 * an untagged Ethernet frame of at least 54 bytes, IPv4 without options, TCP, not a later fragment,
 * time to live 94 to 128 (it began at 128 and has crossed at most 34 hops), don't-fragment set, bit 3 of the
 * type of service clear, window 8192, and no payload by the lengths that the headers state.
 * Maximum segment size, window scale and the order of TCP options are not looked at.
 *
 * p0f_literal.c is the same filter as it is printed in the thesis that describes it. No maps. */
#include "bpf_filter.h"
#include "packet.h"

#define INITIAL_TTL 128
#define MAX_HOPS 34
#define WINDOW 8192
#define TOS_BIT_3 0x08

SEC("filter")
uint64_t p0f(const void *pkt, uint64_t pkt_len)
{
    const struct ethernet *ethernet = pkt;
    const struct ipv4 *ip = pkt + sizeof(*ethernet);
    const struct tcp *tcp = pkt + sizeof(*ethernet) + sizeof(*ip);

    if (pkt_len < sizeof(*ethernet) + sizeof(*ip) + sizeof(*tcp))
        return 0;
    if (ethernet->type != bpf_htons(ETHERTYPE_IPV4) || ip->version_ihl != 0x45 || ip->protocol != PROTOCOL_TCP)
        return 0;
    if (ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET) || !(ip->fragment & bpf_htons(IPV4_DONT_FRAGMENT)))
        return 0;
    if (ip->ttl > INITIAL_TTL || ip->ttl < INITIAL_TTL - MAX_HOPS)
        return 0;
    if (ip->tos & TOS_BIT_3)
        return 0;
    if (tcp->window != bpf_htons(WINDOW))
        return 0;
    return tcp_header_size(tcp) >= sizeof(*tcp) &&
           bpf_ntohs(ip->total_length) == sizeof(*ip) + tcp_header_size(tcp);
}
