/* One source, several forms. A program is written as
 *
 *     PROGRAM(name)
 *     {
 *         if (!ROOM(64))
 *             return 0;
 *         ... pkt[0] to pkt[63] ...
 *     }
 *
 * and becomes, by the macro that is defined: a filter (none; natively too), a program of XDP (FORM_XDP), or one that is given memory
 * of a fixed size as its only argument, as DPDK's library wants it (FORM_FIXED, the size). Results have 32 bits, as those of XDP.
 * Loops are unrolled for DPDK, which knows none. */
#ifndef FORM_H
#define FORM_H

#ifdef FORM_XDP

#include "bpf_xdp.h"

#define PROGRAM(name)                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt, const uint8_t *end);                                      \
    SEC("xdp") int name(struct xdp_md *ctx)                                                                   \
    {                                                                                                         \
        return name##_body((const uint8_t *)(uint64_t)ctx->data, (const uint8_t *)(uint64_t)ctx->data_end);   \
    }                                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt, const uint8_t *end)
#define ROOM(size) (pkt + (size) <= end)
#define map_lookup bpf_map_lookup_elem
#define map_update(map, key, value) bpf_map_update_elem(map, key, value, BPF_ANY)
#define map_delete bpf_map_delete_elem

#else

#include "bpf_filter.h"

#ifdef FORM_FIXED
#define PROGRAM(name)                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt);                                                          \
    SEC("filter") uint64_t name(const uint8_t *pkt)                                                           \
    {                                                                                                         \
        return name##_body(pkt);                                                                              \
    }                                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt)
#define ROOM(size) ((size) <= FORM_FIXED)
#else
#define PROGRAM(name)                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt, uint64_t length);                                         \
    SEC("filter") uint64_t name(const void *pkt, uint64_t length)                                             \
    {                                                                                                         \
        return name##_body(pkt, length);                                                                      \
    }                                                                                                         \
    INLINE uint32_t name##_body(const uint8_t *pkt, uint64_t length)
#define ROOM(size) (length >= (size))
#endif

#endif

#ifdef FORM_FIXED
#define LOOP _Pragma("clang loop unroll(full)")
/* Keeps clang from moving all loads of an unrolled loop to its beginning, for which there are not enough registers. */
#define IN_ORDER __asm__ volatile("" ::: "memory")
#else
#define LOOP
#define IN_ORDER
#endif

#endif
