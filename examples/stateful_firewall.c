/* A stateful firewall for TCP over IPv4; one program for both directions.
 *
 * Returns 1 (let through) for every packet of a connection that is being opened, established or being closed,
 * and 0 for every other packet: what was not opened by a SYN, illegal flags, anything but TCP over IPv4,
 * fragments after the first, and a segment that claims to come from where it goes. Up to two VLAN tags and
 * all IP options are skipped. Sequence numbers are not checked.
 *
 * Map sessions, a hash:
 *     key    struct flow (flow.h), 16 bytes
 *     value  struct session, 16 bytes: state, which end of the key is the server, time of the last packet
 *
 * How a connection moves (client: who sent the first SYN; SYN alone means without ACK, FIN and RST):
 *     none or over   any      SYN alone            -> SYN_SENT       1, or 0 if the map is full
 *     SYN_SENT       client   SYN alone                              1
 *     SYN_SENT       server   SYN and ACK          -> SYN_ACKED      1
 *     SYN_ACKED      server   SYN and ACK                            1
 *     SYN_ACKED      client   SYN alone                              1
 *     SYN_ACKED      client   ACK without SYN      -> ESTABLISHED    1 (and as there if it carries a FIN)
 *     ESTABLISHED    client   FIN and ACK          -> CLIENT_CLOSED  1
 *     ESTABLISHED    server   FIN and ACK          -> SERVER_CLOSED  1
 *     x_CLOSED       other    FIN and ACK          -> CLOSED         1
 *     CLOSED         any      SYN alone            -> SYN_SENT       1, a new connection of the same ports
 *     every known    any      RST                  -> none           1
 *     ESTABLISHED and later   everything else                        1
 *     SYN_SENT, SYN_ACKED     everything else                        0
 *
 * A closed session stays, so that the last ACK and repeated FINs pass. One that was idle for longer than
 * RFC 5382 (REQ-5) asks a translator to wait is over: the next packet of its flow is judged as that of an unknown
 * connection. There is no other ageing: whoever owns the map deletes what is over to make room. */
#include "bpf_filter.h"
#include "flow.h"

enum state {
    SYN_SENT = 1,
    SYN_ACKED = 2,
    ESTABLISHED = 3,
    CLIENT_CLOSED = 4,
    SERVER_CLOSED = 5,
    CLOSED = 6,
};

#define SECOND 1000000000ull
#define ESTABLISHED_TIMEOUT_NS (7440 * SECOND)
#define TRANSITORY_TIMEOUT_NS (240 * SECOND)

struct session {
    enum state state;
    uint32_t server; /* end of the flow, 0 or 1 */
    uint64_t last_seen_ns;
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __type(key, struct flow);
    __type(value, struct session);
    __uint(max_entries, 10000);
} sessions SEC(".maps");

INLINE int is_over(const struct session *session, uint64_t now)
{
    uint64_t timeout = session->state == ESTABLISHED ? ESTABLISHED_TIMEOUT_NS : TRANSITORY_TIMEOUT_NS;

    return now > session->last_seen_ns && now - session->last_seen_ns > timeout;
}

/* The state that the packet leaves the session in; 0 if the packet must not pass. */
INLINE uint32_t next_state(uint32_t state, int from_server, uint8_t flags)
{
    int syn_alone = (flags & (TCP_SYN | TCP_ACK | TCP_FIN)) == TCP_SYN;
    int syn_ack = (flags & (TCP_SYN | TCP_ACK | TCP_FIN)) == (TCP_SYN | TCP_ACK);

    if (state == SYN_SENT || state == SYN_ACKED) {
        if (from_server)
            return syn_ack ? SYN_ACKED : 0;
        if (syn_alone)
            return state;
        if (state == SYN_SENT || (flags & (TCP_SYN | TCP_ACK)) != TCP_ACK)
            return 0;
        state = ESTABLISHED;
    }
    if ((flags & (TCP_FIN | TCP_ACK)) != (TCP_FIN | TCP_ACK))
        return state;
    if (state == ESTABLISHED)
        return from_server ? SERVER_CLOSED : CLIENT_CLOSED;
    return state == (from_server ? CLIENT_CLOSED : SERVER_CLOSED) ? CLOSED : state;
}

SEC("filter")
uint64_t stateful_firewall(const void *pkt, uint64_t pkt_len)
{
    struct segment segment;
    struct flow flow;
    struct session *session;
    uint64_t now = time_get_ns();
    uint32_t sender, state;
    uint8_t flags;

    if (!find_segment(pkt, pkt_len, &segment))
        return 0;
    flags = segment.tcp->flags;
    sender = flow_of(&segment, &flow);

    session = map_lookup(&sessions, &flow);
    if ((flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN &&
        (!session || session->state == CLOSED || is_over(session, now))) {
        struct session opened = {.state = SYN_SENT, .server = !sender, .last_seen_ns = now};

        return map_update(&sessions, &flow, &opened) == 0;
    }
    if (!session || is_over(session, now))
        return 0;
    if (flags & TCP_RST) {
        map_delete(&sessions, &flow);
        return 1;
    }
    state = next_state(session->state, sender == session->server, flags);
    if (state == 0)
        return 0;
    session->state = state;
    session->last_seen_ns = now;
    return 1;
}
