/* The p0f filter as a program that is given a packet of a fixed size. */
#include "bpf_filter.h"

#undef SEC
#define SEC(name) INLINE
#include "examples/p0f.c"

__attribute__((section("filter"), used)) uint64_t p0f_fixed(const void *pkt)
{
    return p0f(pkt, FORM_FIXED);
}
