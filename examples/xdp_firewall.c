/* A stateless firewall for XDP: drops what goes to a blocked host or service, and counts it.
 *
 * Map blocked, a hash:
 *     key    struct service, 8 bytes: IPv4 destination and port as on the wire, protocol, a zero byte;
 *            port and protocol 0 stand for the whole host
 *     value  struct drops, 16 bytes: packets, bytes
 * Returns XDP_DROP for a packet whose host, or whose TCP or UDP service, is in the map, and for one that calls
 * itself IPv4 but whose headers are cut short or malformed. Else XDP_PASS: whatever is not IPv4 passes.
 * Up to two VLAN tags and all IP options are skipped. A fragment after the first has no ports and is only judged
 * by its host: what belongs to a dropped first fragment is never put together again. */
#include "bpf_xdp.h"
#include "xdp_cursor.h"

struct service {
    uint32_t address;
    uint16_t port;
    uint8_t protocol;
    uint8_t zero;
};

struct drops {
    uint64_t packets;
    uint64_t bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct service);
    __type(value, struct drops);
    __uint(max_entries, 1024);
} blocked SEC(".maps");

/* Ports lie at the same place in TCP and UDP. */
struct ports {
    uint16_t source;
    uint16_t destination;
};

INLINE int is_blocked(const struct service *service, uint64_t size)
{
    struct drops *drops = bpf_map_lookup_elem(&blocked, service);

    if (!drops)
        return 0;
    __sync_fetch_and_add(&drops->packets, 1);
    __sync_fetch_and_add(&drops->bytes, size);
    return 1;
}

SEC("xdp")
int xdp_firewall(struct xdp_md *ctx)
{
    struct cursor cursor = packet_of(ctx);
    uint64_t size = cursor.end - cursor.at;
    struct service service = {};
    struct ports *ports;
    struct ipv4 *ip;

    if (take_ethernet(&cursor) != bpf_htons(ETHERTYPE_IPV4))
        return XDP_PASS;
    ip = take_ipv4(&cursor);
    if (!ip)
        return XDP_DROP;
    service.address = ip->destination;
    if (is_blocked(&service, size))
        return XDP_DROP;

    if (ip->fragment & bpf_htons(IPV4_FRAGMENT_OFFSET))
        return XDP_PASS;
    if (ip->protocol != PROTOCOL_TCP && ip->protocol != PROTOCOL_UDP)
        return XDP_PASS;
    ports = take(&cursor, sizeof(*ports));
    if (!ports)
        return XDP_DROP;
    service.port = ports->destination;
    service.protocol = ip->protocol;
    return is_blocked(&service, size) ? XDP_DROP : XDP_PASS;
}

const char _license[] SEC("license") = "GPL";
