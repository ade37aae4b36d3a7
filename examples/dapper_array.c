/* Dapper on arrays: what dapper.c does, with a table that costs less to search and forgets instead of filling up.
 *
 * Return values and packets as in dapper.c. Map connections is an array of CONNECTIONS slots and a connection's slot
 * is hash(flow) modulo their number, so a first SYN always finds a place: it takes the slot over if another
 * connection holds it, whose later segments are then passed over. Both maps have Oko's definition form.
 *
 * Map connections, an array:
 *     key    uint32_t, the slot
 *     value  struct slot, 104 bytes: flow (all zero if the slot is free), then struct connection (dapper.h)
 * Map monitor, an array of one struct monitor (dapper.h); its refused counts connections that lost their slot. */
#include "bpf_filter.h"
#include "dapper.h"

struct slot {
    struct flow flow;
    struct connection connection;
};

SEC("maps")
struct oko_map connections = {
    .type = OKO_MAP_TYPE_ARRAY,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(struct slot),
    .max_entries = CONNECTIONS,
};

SEC("maps")
struct oko_map monitor = {
    .type = OKO_MAP_TYPE_ARRAY,
    .key_size = sizeof(uint32_t),
    .value_size = sizeof(struct monitor),
    .max_entries = 1,
};

INLINE int is_same(const struct flow *a, const struct flow *b)
{
    return a->address[0] == b->address[0] && a->address[1] == b->address[1] && a->port[0] == b->port[0] &&
           a->port[1] == b->port[1] && a->protocol == b->protocol;
}

SEC("filter")
uint64_t dapper_array(const void *pkt, uint64_t pkt_len)
{
    struct segment segment;
    struct flow flow;
    struct slot *slot;
    struct monitor *total;
    uint64_t now = time_get_ns();
    uint32_t sender, index, zero = 0;
    int troubled = 0;

    if (!find_segment(pkt, pkt_len, &segment))
        return 0;
    sender = flow_of(&segment, &flow);
    index = hash(&flow, sizeof(flow)) % CONNECTIONS;
    slot = map_lookup(&connections, &index);
    total = map_lookup(&monitor, &zero);
    if (!slot || !total)
        return 0;

    if (is_same(&slot->flow, &flow) && is_closing(&segment)) {
        *slot = (struct slot){};
    } else if (is_same(&slot->flow, &flow)) {
        troubled = follow(&slot->connection, &segment, sender, now);
    } else if (is_opening(&segment)) {
        if (slot->flow.protocol)
            count(&total->refused);
        *slot = (struct slot){
            .flow = flow,
            .connection = {.sender = !sender, .mss = announced_mss(pkt, pkt_len, &segment)},
        };
        count(&total->opened);
    }
    return is_due(total, troubled, now);
}
