#include "maps.h"

#include <stdlib.h>
#include <string.h>

struct element {
    struct element *next;
    uint32_t hash;
    uint8_t key[];
};

static uint32_t rotate(uint32_t x, int bits)
{
    return x << bits | x >> (32 - bits);
}

/* lookup3 (Bob Jenkins, 2006), for little-endian machines and any length. */
static uint32_t lookup3(const uint8_t *data, uint32_t length)
{
    uint32_t a, b, c, words[3];

    a = b = c = 0xdeadbeef + length;
    for (; length > 12; length -= 12, data += 12) {
        memcpy(words, data, 12);
        a += words[0], b += words[1], c += words[2];
        a -= c, a ^= rotate(c, 4), c += b;
        b -= a, b ^= rotate(a, 6), a += c;
        c -= b, c ^= rotate(b, 8), b += a;
        a -= c, a ^= rotate(c, 16), c += b;
        b -= a, b ^= rotate(a, 19), a += c;
        c -= b, c ^= rotate(b, 4), b += a;
    }
    if (length == 0)
        return c;
    memset(words, 0, 12);
    memcpy(words, data, length);
    a += words[0], b += words[1], c += words[2];
    c ^= b, c -= rotate(b, 14);
    a ^= c, a -= rotate(c, 11);
    b ^= a, b -= rotate(a, 25);
    c ^= b, c -= rotate(b, 16);
    a ^= c, a -= rotate(c, 4);
    b ^= a, b -= rotate(a, 14);
    c ^= b, c -= rotate(b, 24);
    return c;
}

static struct element **place(struct map *map, const void *key, uint32_t hash)
{
    struct element **at = &map->buckets[hash & map->mask];

    while (*at && ((*at)->hash != hash || memcmp((*at)->key, key, map->key_size) != 0))
        at = &(*at)->next;
    return at;
}

static uint32_t value_offset(const struct map *map)
{
    return (map->key_size + 3) / 8 * 8 + 4; /* aligned to 8 from the element's start */
}

static void *lookup(struct map *map, const void *key)
{
    struct element *element = *place(map, key, lookup3(key, map->key_size));

    return element ? element->key + value_offset(map) : NULL;
}

static int update(struct map *map, const void *key, const void *value)
{
    uint32_t hash = lookup3(key, map->key_size);
    struct element **at = place(map, key, hash), *element = *at;

    if (!element) {
        if (map->count == map->max_entries)
            return -7;
        element = malloc(sizeof(*element) + value_offset(map) + map->value_size);
        if (!element)
            return -12;
        element->hash = hash;
        element->next = NULL;
        memcpy(element->key, key, map->key_size);
        *at = element;
        map->count++;
    }
    memcpy(element->key + value_offset(map), value, map->value_size);
    return 0;
}

static int delete(struct map *map, const void *key)
{
    struct element **at = place(map, key, lookup3(key, map->key_size)), *element = *at;

    if (!element)
        return -2;
    *at = element->next;
    map->count--;
    free(element);
    return 0;
}

static const struct map_operations hash_operations = {lookup, update, delete};

/* As many buckets as entries, rounded up to a power of two. */
struct map *hash_create(uint32_t key_size, uint32_t value_size, uint32_t max_entries)
{
    struct map *map = calloc(1, sizeof(*map));
    uint32_t buckets = 1;

    while (buckets < max_entries)
        buckets *= 2;
    *map = (struct map){&hash_operations, key_size, value_size, max_entries, 0, buckets - 1, NULL, NULL};
    map->buckets = calloc(buckets, sizeof(*map->buckets));
    return map;
}

static void *array_lookup(struct map *map, const void *key)
{
    uint64_t index = 0;

    memcpy(&index, key, map->key_size);
    return index < map->max_entries ? map->values + index * map->value_size : NULL;
}

static int array_update(struct map *map, const void *key, const void *value)
{
    void *at = array_lookup(map, key);

    if (!at)
        return -7;
    memcpy(at, value, map->value_size);
    return 0;
}

static int array_delete(struct map *map, const void *key)
{
    return -22;
}

static const struct map_operations array_operations = {array_lookup, array_update, array_delete};

struct map *array_create(uint32_t key_size, uint32_t value_size, uint32_t max_entries)
{
    struct map *map = calloc(1, sizeof(*map));

    *map = (struct map){&array_operations, key_size, value_size, max_entries, 0, 0, NULL, NULL};
    map->values = calloc(max_entries, value_size);
    return map;
}

void map_destroy(struct map *map)
{
    for (uint32_t i = 0; map->buckets && i <= map->mask; i++)
        while (map->buckets[i]) {
            struct element *element = map->buckets[i];

            map->buckets[i] = element->next;
            free(element);
        }
    free(map->buckets);
    free(map->values);
    free(map);
}
