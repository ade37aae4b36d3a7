/* One hop of a router with one arm: sends every IP packet back to where it came from, a hop older.
 *
 * Swaps the Ethernet addresses and takes one from the time to live (IPv4, with the header checksum updated as
 * RFC 1624 has it) or the hop limit (IPv6). Returns XDP_TX for a packet it changed; XDP_PASS, the packet
 * unchanged, for one on its last hop, so that the host answers with ICMP, and for whatever is not IP; XDP_DROP for
 * one that calls itself IP but whose header is cut short or malformed. Up to two VLAN tags stay in place.
 * No maps. */
#include "bpf_xdp.h"
#include "xdp_cursor.h"

/* The time to live is the high byte of a 16-bit word m of the header, so that m' = m - 0x0100, and RFC 1624
 * (equation 3) gives HC' = ~(~HC + ~m + m') = ~(~HC + 0xfeff), sums in one's complement. */
INLINE void age_ipv4(struct ipv4 *ip)
{
    uint32_t sum = (uint16_t)~bpf_ntohs(ip->checksum) + 0xfeff;

    ip->checksum = bpf_htons((uint16_t)~(sum + (sum >> 16)));
    ip->ttl--;
}

INLINE void swap_addresses(struct ethernet *ethernet)
{
#pragma unroll
    for (int i = 0; i < 6; i++) {
        uint8_t byte = ethernet->source[i];

        ethernet->source[i] = ethernet->destination[i];
        ethernet->destination[i] = byte;
    }
}

SEC("xdp")
int xdp_router(struct xdp_md *ctx)
{
    struct cursor cursor = packet_of(ctx);
    struct ethernet *ethernet = cursor.at;
    uint16_t type = take_ethernet(&cursor);

    if (type == bpf_htons(ETHERTYPE_IPV4)) {
        struct ipv4 *ip = take_ipv4(&cursor);

        if (!ip)
            return XDP_DROP;
        if (ip->ttl <= 1)
            return XDP_PASS;
        age_ipv4(ip);
    } else if (type == bpf_htons(ETHERTYPE_IPV6)) {
        struct ipv6 *ip = take(&cursor, sizeof(*ip));

        if (!ip)
            return XDP_DROP;
        if (ip->hop_limit <= 1)
            return XDP_PASS;
        ip->hop_limit--;
    } else {
        return XDP_PASS;
    }
    swap_addresses(ethernet);
    return XDP_TX;
}

const char _license[] SEC("license") = "GPL";
