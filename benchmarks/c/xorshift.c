/* Dependent arithmetic: each step waits for the one before it. */
#include "form.h"

#ifndef STEPS
#define STEPS 64
#endif

PROGRAM(xorshift)
{
    uint64_t x;

    if (!ROOM(64))
        return 0;
    x = *(const uint64_t *)pkt | 1;
    LOOP for (int i = 0; i < STEPS; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x *= 0x2545F4914F6CDD1D;
    }
    return x >> 32;
}
