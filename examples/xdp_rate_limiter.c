/* The rate limiter of rate_limiter.c for XDP: a token bucket per IPv4 source address.
 *
 * Returns XDP_DROP for a packet whose source has used up its rate, else XDP_PASS. RATE packets per second, and
 * BURST at once after a pause (token_bucket.h). What is not IPv4 passes; what calls itself IPv4 but is cut short or
 * malformed is dropped. Up to two VLAN tags are skipped. CPUs share a bucket without a lock, so that a burst over
 * several of them may gain a few packets.
 *
 * Map buckets, a hash:
 *     key    uint32_t, the source address as on the wire
 *     value  struct bucket (token_bucket.h), 16 bytes: time of the last refill, credit, both in ns
 * Map overflow, an array of one struct bucket: the bucket that all sources share which find the hash full. */
#include "bpf_xdp.h"
#include "token_bucket.h"
#include "xdp_cursor.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, uint32_t);
    __type(value, struct bucket);
    __uint(max_entries, 1000);
} buckets SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct bucket);
    __uint(max_entries, 1);
} overflow SEC(".maps");

SEC("xdp")
int xdp_rate_limiter(struct xdp_md *ctx)
{
    struct cursor cursor = packet_of(ctx);
    uint64_t now = bpf_ktime_get_ns();
    uint32_t source, zero = 0;
    struct bucket *bucket;
    struct ipv4 *ip;

    if (take_ethernet(&cursor) != bpf_htons(ETHERTYPE_IPV4))
        return XDP_PASS;
    ip = take_ipv4(&cursor);
    if (!ip)
        return XDP_DROP;
    source = ip->source;
    bucket = bpf_map_lookup_elem(&buckets, &source);
    if (!bucket) {
        struct bucket first = {.updated_ns = now, .credit_ns = FULL_NS - COST_NS};

        if (bpf_map_update_elem(&buckets, &source, &first, BPF_ANY) == 0)
            return XDP_PASS;
        bucket = bpf_map_lookup_elem(&overflow, &zero);
        if (!bucket)
            return XDP_PASS;
    }
    return take_token(bucket, now) ? XDP_PASS : XDP_DROP;
}

const char _license[] SEC("license") = "GPL";
