/* A token bucket whose tokens are nanoseconds of credit: credit grows by one per nanosecond and a packet
 * costs 1 s / RATE of them. No division, and no fraction of a token is ever lost. */
#ifndef TOKEN_BUCKET_H
#define TOKEN_BUCKET_H

#include "bpf.h"

#define RATE 10000 /* packets per second */
#define BURST 10000 /* packets that a full bucket lets through at once */
#define COST_NS (1000000000 / RATE)
#define FULL_NS ((uint64_t)BURST * COST_NS)

struct bucket {
    uint64_t updated_ns; /* when credit_ns was right */
    uint64_t credit_ns;
};

/* Fills the bucket up to now and takes the cost of one packet; returns 0, taking nothing, if it holds less.
 * A clock that steps back adds nothing, and credit grows again from there. */
INLINE int take_token(struct bucket *bucket, uint64_t now)
{
    uint64_t elapsed = now > bucket->updated_ns ? now - bucket->updated_ns : 0;
    uint64_t credit = bucket->credit_ns;

    credit += elapsed < FULL_NS ? elapsed : FULL_NS;
    if (credit > FULL_NS)
        credit = FULL_NS;
    bucket->updated_ns = now;
    bucket->credit_ns = credit < COST_NS ? credit : credit - COST_NS;
    return credit >= COST_NS;
}

#endif
