/* A program, and two loops over packets: one that calls it through a pointer, one that it is inlined into. */
#include "native.h"

#include <time.h>

uint64_t NAME(const void *pkt, uint64_t length) __attribute__((always_inline));
#include SOURCE

uint64_t time_get_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint64_t outlined(const void *pkt, uint64_t length)
{
    return NAME(pkt, length);
}

void called(const uint8_t *base, const uint64_t *offsets, const uint32_t *lengths, uint64_t *results, uint64_t n)
{
    uint64_t (*volatile chosen)(const void *, uint64_t) = outlined;
    uint64_t (*program)(const void *, uint64_t) = chosen;

    for (uint64_t i = 0; i < n; i++)
        results[i] = program(base + offsets[i], lengths[i]);
}

void inlined(const uint8_t *base, const uint64_t *offsets, const uint32_t *lengths, uint64_t *results, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        results[i] = NAME(base + offsets[i], lengths[i]);
}
