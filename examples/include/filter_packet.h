/* Finding headers in a filter program, where the only bound is the length of the frame.
 *
 * Up to two VLAN tags are skipped. IPv4 options are skipped, so that the TCP header lies at an offset that is
 * known only at run time and is compared with the length as such. */
#ifndef FILTER_PACKET_H
#define FILTER_PACKET_H

#include "packet.h"

/* Offset of the IPv4 header in the frame; 0 if there is none, or not all of its 20 fixed bytes. */
INLINE uint64_t ipv4_offset(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = sizeof(struct ethernet);
    uint16_t type;
    const struct ipv4 *ip;

    if (pkt_len < offset)
        return 0;
    type = ((const struct ethernet *)pkt)->type;
#pragma unroll
    for (int tag = 0; tag < 2; tag++) {
        if (type != bpf_htons(ETHERTYPE_VLAN) && type != bpf_htons(ETHERTYPE_QINQ))
            break;
        if (pkt_len < offset + sizeof(struct vlan))
            return 0;
        type = ((const struct vlan *)(pkt + offset))->type;
        offset += sizeof(struct vlan);
    }
    if (type != bpf_htons(ETHERTYPE_IPV4) || pkt_len < offset + sizeof(struct ipv4))
        return 0;
    ip = pkt + offset;
    if (ip->version_ihl >> 4 != 4 || ipv4_header_size(ip) < sizeof(struct ipv4))
        return 0;
    return offset;
}

/* A TCP segment over IPv4 with all of its 20 fixed bytes in the frame. */
struct segment {
    const struct ipv4 *ip;
    const struct tcp *tcp;
    uint64_t tcp_offset; /* in the frame */
    uint32_t payload;    /* bytes of data, by the lengths that the headers state */
};

/* Fills in *segment and returns 1; returns 0 for anything but a TCP segment of a connection: other protocols,
 * fragments after the first (which hold no TCP header), headers that contradict one another, and segments that claim
 * to come from where they go. */
INLINE int find_segment(const void *pkt, uint64_t pkt_len, struct segment *segment)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    const struct tcp *tcp;
    uint64_t headers;

    if (offset == 0 || ip->protocol != PROTOCOL_TCP || ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET))
        return 0;
    offset += ipv4_header_size(ip);
    if (pkt_len < offset + sizeof(struct tcp))
        return 0;
    tcp = pkt + offset;
    headers = ipv4_header_size(ip) + tcp_header_size(tcp);
    if (tcp_header_size(tcp) < sizeof(struct tcp) || bpf_ntohs(ip->total_length) < headers)
        return 0;
    if (ip->source == ip->destination && tcp->source == tcp->destination)
        return 0;
    segment->ip = ip;
    segment->tcp = tcp;
    segment->tcp_offset = offset;
    segment->payload = bpf_ntohs(ip->total_length) - headers;
    return 1;
}

#endif
