/* The 5-tuple of a packet of TCP or UDP over IPv4 without options, as a key of 13 bytes. */
#ifndef TUPLE_H
#define TUPLE_H

#include "form.h"
#include "packet.h"

#ifndef ENTRIES
#define ENTRIES 100000
#endif

struct tuple {
    uint32_t source;
    uint32_t destination;
    uint16_t source_port;
    uint16_t destination_port;
    uint8_t protocol;
} __attribute__((packed));

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct tuple);
    __type(value, uint64_t);
    __uint(max_entries, ENTRIES);
} flows SEC(".maps");

#define HEADERS (sizeof(struct ethernet) + sizeof(struct ipv4) + sizeof(struct tcp))

INLINE struct tuple tuple_of(const uint8_t *pkt)
{
    const struct ipv4 *ip = (const void *)(pkt + sizeof(struct ethernet));
    const struct tcp *tcp = (const void *)(ip + 1);

    return (struct tuple){ip->source, ip->destination, tcp->source, tcp->destination, ip->protocol};
}

#endif
