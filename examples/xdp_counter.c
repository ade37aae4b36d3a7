/* Counts packets and bytes per IP protocol.
 *
 * Map counters, an array:
 *     key    uint32_t, the protocol (IPv4) or next header (IPv6, extension headers are not followed);
 *            256 for whatever is not IP or too short to tell
 *     value  struct counter, 16 bytes: packets, bytes of the whole frames
 * Always returns XDP_PASS. Up to two VLAN tags are skipped; every fragment counts. */
#include "bpf_xdp.h"
#include "xdp_cursor.h"

#define NOT_IP 256

struct counter {
    uint64_t packets;
    uint64_t bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct counter);
    __uint(max_entries, NOT_IP + 1);
} counters SEC(".maps");

INLINE uint32_t protocol_of(struct cursor cursor)
{
    uint16_t type = take_ethernet(&cursor);

    if (type == bpf_htons(ETHERTYPE_IPV4)) {
        struct ipv4 *ip = take(&cursor, sizeof(*ip));

        return ip ? ip->protocol : NOT_IP;
    }
    if (type == bpf_htons(ETHERTYPE_IPV6)) {
        struct ipv6 *ip = take(&cursor, sizeof(*ip));

        return ip ? ip->next_header : NOT_IP;
    }
    return NOT_IP;
}

SEC("xdp")
int xdp_counter(struct xdp_md *ctx)
{
    struct cursor cursor = packet_of(ctx);
    uint32_t protocol = protocol_of(cursor);
    struct counter *counter = bpf_map_lookup_elem(&counters, &protocol);

    if (counter) {
        __sync_fetch_and_add(&counter->packets, 1);
        __sync_fetch_and_add(&counter->bytes, cursor.end - cursor.at);
    }
    return XDP_PASS;
}

const char _license[] SEC("license") = "GPL";
