/* Looks for a SYN behind the IP options, and tests the length that the packet states instead of the offset that is
 * read from: a total length of 20 and a header length of 60 bytes are enough to read behind the frame. */
#include "bpf_filter.h"
#include "packet.h"

SEC("filter")
uint64_t wrong_variable(const void *pkt, uint64_t pkt_len)
{
    const struct ipv4 *ip = pkt + sizeof(struct ethernet);
    const struct tcp *tcp;

    if (pkt_len < sizeof(struct ethernet) + sizeof(*ip) || ip->protocol != PROTOCOL_TCP)
        return 0;
    if (pkt_len < sizeof(struct ethernet) + bpf_ntohs(ip->total_length))
        return 0;
    tcp = (const void *)ip + ipv4_header_size(ip);
    /* BLAME: packet-bounds */
    return (tcp->flags & TCP_SYN) != 0;
}
