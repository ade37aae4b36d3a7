/* What bpf_filter.h gives a filter, for a C compiler that makes native code of it: helpers are functions, and a map's definition holds
 * a pointer to the map in its first bytes, written there when the program is loaded. */
#ifndef NATIVE_H
#define NATIVE_H
#define BPF_FILTER_H

#include "bpf.h"
#include "maps.h"

#undef SEC
#define SEC(name)

#define OKO_MAP_TYPE_ARRAY 1
#define OKO_MAP_TYPE_HASH 4

struct oko_map {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t hash_functions;
};

INLINE struct map *map_of(const void *definition)
{
    struct map *map;

    __builtin_memcpy(&map, definition, sizeof(map));
    return map;
}

INLINE void *map_lookup(const void *definition, const void *key)
{
    struct map *map = map_of(definition);

    return map->operations->lookup(map, key);
}

INLINE int64_t map_update(const void *definition, const void *key, const void *value)
{
    struct map *map = map_of(definition);

    return map->operations->update(map, key, value);
}

INLINE int64_t map_delete(const void *definition, const void *key)
{
    struct map *map = map_of(definition);

    return map->operations->delete(map, key);
}

uint64_t time_get_ns(void);

#endif
