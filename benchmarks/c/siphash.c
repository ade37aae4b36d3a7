/* SipHash-2-4 (Aumasson and Bernstein, 2012) of SIZE bytes under a fixed key. */
#include "form.h"

#ifndef SIZE
#define SIZE 64
#endif

INLINE uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

#define ROUND                                                                                                 \
    do {                                                                                                      \
        v0 += v1, v2 += v3;                                                                                   \
        v1 = rotate(v1, 13) ^ v0, v3 = rotate(v3, 16) ^ v2;                                                   \
        v0 = rotate(v0, 32);                                                                                  \
        v2 += v1, v0 += v3;                                                                                   \
        v1 = rotate(v1, 17) ^ v2, v3 = rotate(v3, 21) ^ v0;                                                   \
        v2 = rotate(v2, 32);                                                                                  \
    } while (0)

PROGRAM(siphash)
{
    uint64_t k0 = 0x0706050403020100, k1 = 0x0f0e0d0c0b0a0908, last = (uint64_t)SIZE << 56;
    uint64_t v0 = k0 ^ 0x736f6d6570736575, v1 = k1 ^ 0x646f72616e646f6d;
    uint64_t v2 = k0 ^ 0x6c7967656e657261, v3 = k1 ^ 0x7465646279746573;

    if (!ROOM(SIZE))
        return 0;
    LOOP for (int i = 0; i < SIZE; i += 8) {
        uint64_t word = *(const uint64_t *)(pkt + i);

        v3 ^= word;
        ROUND;
        ROUND;
        v0 ^= word;
    }
    v3 ^= last;
    ROUND;
    ROUND;
    v0 ^= last;
    v2 ^= 0xff;
    ROUND;
    ROUND;
    ROUND;
    ROUND;
    return (uint32_t)(v0 ^ v1 ^ v2 ^ v3);
}
