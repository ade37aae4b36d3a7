/* Reading an XDP packet header by header: a cursor that only moves over bytes that are there. */
#ifndef XDP_CURSOR_H
#define XDP_CURSOR_H

#include "bpf_xdp.h"
#include "packet.h"

struct cursor {
    void *at;
    void *end;
};

INLINE struct cursor packet_of(const struct xdp_md *ctx)
{
    return (struct cursor){(void *)(uint64_t)ctx->data, (void *)(uint64_t)ctx->data_end};
}

/* The next size bytes, and the cursor behind them; NULL, and the cursor where it was, if there are fewer. */
INLINE void *take(struct cursor *cursor, uint64_t size)
{
    void *taken = cursor->at;

    if (taken + size > cursor->end)
        return NULL;
    cursor->at = taken + size;
    return taken;
}

/* Skips the Ethernet header and up to two VLAN tags. Returns the type of what follows as on the wire; 0 if the
 * frame ends before. */
INLINE uint16_t take_ethernet(struct cursor *cursor)
{
    struct ethernet *ethernet = take(cursor, sizeof(*ethernet));
    uint16_t type;

    if (!ethernet)
        return 0;
    type = ethernet->type;
#pragma unroll
    for (int tag = 0; tag < 2; tag++) {
        struct vlan *vlan;

        if (type != bpf_htons(ETHERTYPE_VLAN) && type != bpf_htons(ETHERTYPE_QINQ))
            break;
        vlan = take(cursor, sizeof(*vlan));
        if (!vlan)
            return 0;
        type = vlan->type;
    }
    return type;
}

/* Skips the IPv4 header with its options. NULL if it is not whole or no IPv4 header. */
INLINE struct ipv4 *take_ipv4(struct cursor *cursor)
{
    struct ipv4 *ip = take(cursor, sizeof(*ip));

    if (!ip || ip->version_ihl >> 4 != 4 || ipv4_header_size(ip) < sizeof(*ip) ||
        !take(cursor, ipv4_header_size(ip) - sizeof(*ip)))
        return NULL;
    return ip;
}

#endif
