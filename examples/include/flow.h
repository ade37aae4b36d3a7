/* The 5-tuple of a connection, the same for both of its directions. */
#ifndef FLOW_H
#define FLOW_H

#include "filter_packet.h"

/* Numbers in the byte order of packets, by the names that Linux gives them. */
typedef uint16_t __be16;
typedef uint32_t __be32;

/* The key of the maps that hold connections: 16 bytes, addresses and ports as on the wire. End 0 is the end
 * whose (address, port) pair is the smaller number, whoever sent the packet: sorting addresses and ports
 * each on their own would give A:1 <-> B:2 the key of A:2 <-> B:1. */
struct flow {
    __be32 address[2];
    __be16 port[2];
    uint8_t protocol;
    uint8_t zero[3];
};

INLINE uint64_t endpoint(uint32_t address, uint16_t port)
{
    return (uint64_t)bpf_ntohl(address) << 16 | bpf_ntohs(port);
}

/* Fills in every byte of *flow. Returns which end of it sent the segment, 0 or 1. */
INLINE uint32_t flow_of(const struct segment *segment, struct flow *flow)
{
    const struct ipv4 *ip = segment->ip;
    const struct tcp *tcp = segment->tcp;

    *flow = (struct flow){.protocol = ip->protocol};
    if (endpoint(ip->source, tcp->source) < endpoint(ip->destination, tcp->destination)) {
        flow->address[0] = ip->source;
        flow->address[1] = ip->destination;
        flow->port[0] = tcp->source;
        flow->port[1] = tcp->destination;
        return 0;
    }
    flow->address[0] = ip->destination;
    flow->address[1] = ip->source;
    flow->port[0] = tcp->destination;
    flow->port[1] = tcp->source;
    return 1;
}

#endif
