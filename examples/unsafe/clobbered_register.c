/* Calls a helper from inline assembly and does not tell the compiler that a call destroys r1 to r5, so that it keeps
 * the packet pointer in r1. */
#include "bpf_filter.h"
#include "packet.h"

INLINE uint64_t now_ns(void)
{
    uint64_t now;

    asm volatile("call 5\n\t%0 = r0" : "=r"(now) : : "r0");
    return now;
}

SEC("filter")
uint64_t clobbered_register(const void *pkt, uint64_t pkt_len)
{
    const struct ipv4 *ip = pkt + sizeof(struct ethernet);
    uint64_t now;

    if (pkt_len < sizeof(struct ethernet) + sizeof(*ip))
        return 0;
    now = now_ns();
    /* BLAME: uninitialised-register */
    return (ip->id ^ now) % 100 == 0;
}
