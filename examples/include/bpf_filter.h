/* The program type "filter": a match field of a software switch.
 *
 *     SEC("filter") uint64_t name(const void *pkt, uint64_t pkt_len)
 *
 * pkt is the first byte of the Ethernet header and may only be read; pkt_len is the length of the frame in
 * bytes. The program matches if it returns exactly 1. State lives in maps, and five helpers exist. */
#ifndef BPF_FILTER_H
#define BPF_FILTER_H

#include "bpf.h"

#ifdef BPF_HELPERS_BY_NAME
/* The loader finds the helper by the name of the undefined symbol. */
extern void *map_lookup(const void *map, const void *key);
extern int64_t map_update(const void *map, const void *key, const void *value);
extern int64_t map_delete(const void *map, const void *key);
extern uint64_t time_get_ns(void);
extern uint32_t hash(const void *item, uint64_t size);
#else
/* A call of a constant address compiles to "call NUMBER": no symbol, no relocation. */
static void *(*const map_lookup)(const void *map, const void *key) = (void *)1;
static int64_t (*const map_update)(const void *map, const void *key, const void *value) = (void *)2;
static int64_t (*const map_delete)(const void *map, const void *key) = (void *)3;
static uint64_t (*const time_get_ns)(void) = (void *)5;
static uint32_t (*const hash)(const void *item, uint64_t size) = (void *)6;
#endif

/* The 20-byte map definition of Oko, in section "maps"; its type numbers are not Linux's. */
#define OKO_MAP_TYPE_ARRAY 1
#define OKO_MAP_TYPE_HASH 4

struct oko_map {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t hash_functions; /* of sketches only */
};

#endif
