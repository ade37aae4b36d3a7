/* Counts the packets of known flows: one lookup in a hash map a packet. */
#include "tuple.h"

PROGRAM(count)
{
    struct tuple key;
    uint64_t *packets;

    if (!ROOM(HEADERS))
        return 0;
    key = tuple_of(pkt);
    packets = map_lookup(&flows, &key);
    if (!packets)
        return 0;
    *packets += 1;
    return 1;
}
