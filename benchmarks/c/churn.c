/* The flow comes or goes, as the first byte of the packet says: an insertion or a deletion in a hash map a packet. */
#include "tuple.h"

PROGRAM(churn)
{
    struct tuple key;
    uint64_t one = 1;

    if (!ROOM(HEADERS))
        return 0;
    key = tuple_of(pkt);
    if (pkt[0] & 1)
        return map_update(&flows, &key, &one) == 0;
    return map_delete(&flows, &key) == 0;
}
