/* Maps as a software switch in C has them: sizes known at run time only, every operation behind a function pointer of the map's type; a hash map
 * is chains of allocated elements. They are for one thread. */
#ifndef MAPS_H
#define MAPS_H

#include <stdint.h>

struct map;

struct map_operations {
    void *(*lookup)(struct map *map, const void *key);
    int (*update)(struct map *map, const void *key, const void *value);
    int (*delete)(struct map *map, const void *key);
};

struct map {
    const struct map_operations *operations;
    uint32_t key_size, value_size, max_entries, count, mask;
    struct element **buckets; /* of a hash */
    uint8_t *values;          /* of an array */
};

struct map *hash_create(uint32_t key_size, uint32_t value_size, uint32_t max_entries);
struct map *array_create(uint32_t key_size, uint32_t value_size, uint32_t max_entries);
void map_destroy(struct map *map);

#endif
