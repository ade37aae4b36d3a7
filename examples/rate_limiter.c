/* A rate limiter: a token bucket per IPv4 source address.
 *
 * Returns 1 (match: drop) for a packet whose source has used up its rate, else 0. RATE packets per second, and
 * BURST at once after a pause (token_bucket.h). Frames without a whole IPv4 header are never limited. Up to two
 * VLAN tags are skipped; every fragment counts as a packet.
 *
 * Map buckets, a hash:
 *     key    uint32_t, the source address as on the wire
 *     value  struct bucket (token_bucket.h), 16 bytes: time of the last refill, credit, both in ns
 * Map overflow, an array of one struct bucket: the bucket that all sources share which find the hash full. */
#include "bpf_filter.h"
#include "filter_packet.h"
#include "token_bucket.h"

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

SEC("filter")
uint64_t rate_limiter(const void *pkt, uint64_t pkt_len)
{
    uint64_t offset = ipv4_offset(pkt, pkt_len);
    const struct ipv4 *ip = pkt + offset;
    struct bucket *bucket;
    uint64_t now = time_get_ns();
    uint32_t source, zero = 0;

    if (offset == 0)
        return 0;
    source = ip->source;
    bucket = map_lookup(&buckets, &source);
    if (!bucket) {
        struct bucket first = {.updated_ns = now, .credit_ns = FULL_NS - COST_NS};

        if (map_update(&buckets, &source, &first) == 0)
            return 0;
        bucket = map_lookup(&overflow, &zero);
        if (!bucket)
            return 0;
    }
    return !take_token(bucket, now);
}
