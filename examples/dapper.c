/* Dapper: measures TCP connections and says what limits them (dapper.h). This variant keeps connections in a hash.
 *
 * Returns 1 to ask for a report, the maps to be sent to a controller: when REPORT_CONNECTIONS were opened or
 * REPORT_INTERVAL_NS have passed since the last report, or when a connection is given a diagnosis for the first time.
 * Else 0. Only TCP over IPv4 counts; fragments after the first and malformed headers are passed over; up to two
 * VLAN tags and all IP options are skipped.
 *
 * Map connections, a hash:
 *     key    struct flow (flow.h), 16 bytes
 *     value  struct connection (dapper.h), 88 bytes; a first SYN inserts it, the first FIN or RST deletes it
 * Map monitor, an array of one struct monitor (dapper.h), 16 bytes. */
#include "bpf_filter.h"
#include "dapper.h"

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct flow);
    __type(value, struct connection);
    __uint(max_entries, CONNECTIONS);
} connections SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __type(key, uint32_t);
    __type(value, struct monitor);
    __uint(max_entries, 1);
} monitor SEC(".maps");

SEC("filter")
uint64_t dapper(const void *pkt, uint64_t pkt_len)
{
    struct segment segment;
    struct flow flow;
    struct connection *connection;
    struct monitor *total;
    uint64_t now = time_get_ns();
    uint32_t sender, zero = 0;
    int troubled = 0;

    if (!find_segment(pkt, pkt_len, &segment))
        return 0;
    sender = flow_of(&segment, &flow);
    total = map_lookup(&monitor, &zero);
    if (!total)
        return 0;

    connection = map_lookup(&connections, &flow);
    if (connection && is_closing(&segment)) {
        map_delete(&connections, &flow);
    } else if (connection) {
        troubled = follow(connection, &segment, sender, now);
    } else if (is_opening(&segment)) {
        struct connection opened = {.sender = !sender, .mss = announced_mss(pkt, pkt_len, &segment)};

        count(map_update(&connections, &flow, &opened) == 0 ? &total->opened : &total->refused);
    }
    return is_due(total, troubled, now);
}
