/* What limits a TCP connection, seen from the network: the analysis of Dapper (Ghasemi, Benson, Rexford, SOSR
 * 2017), which dapper.c and dapper_array.c share. They differ in the map that holds connections.
 *
 * A connection is followed from its first SYN until a FIN or RST. The end that the SYN goes to, the server, is
 * taken as the sender of the data, and the other as the receiver. Sequence numbers are compared modulo 2^32. */
#ifndef DAPPER_H
#define DAPPER_H

#include "flow.h"

#define CONNECTIONS 40000

/* When a report is asked for. */
#define REPORT_CONNECTIONS 100          /* connections opened since the last report */
#define REPORT_INTERVAL_NS 10000000000ull /* since the last report */

/* What is called a trouble. */
#define SLOW_REACTION_NS 100000000ull /* the sender had an ACK this long before it sent on */
#define UNDER_WINDOW_PERCENT 30       /* of the receiver's window: less is in flight */
#define WINDOW_COUNT 3                /* segments in succession */

#define DEFAULT_MSS 536 /* RFC 9293, 3.7.1 */

enum seen { SEEN_DATA = 1, SEEN_ACK = 2 };

enum diagnosis {
    SENDER_LIMITED = 1,   /* little in flight, because the sender reacts late */
    NETWORK_LIMITED = 2,  /* the sender had to retransmit */
    RECEIVER_LIMITED = 4, /* the receiver's window was full */
};

struct connection {
    uint32_t sender;            /* end of the flow, 0 or 1 */
    uint32_t seen;              /* of enum seen */
    uint32_t mss;               /* bytes, as the receiver's SYN announced it */
    uint32_t next_sequence;     /* after the last byte that was sent */
    uint32_t acknowledged;      /* before the first byte that was not acknowledged */
    uint32_t window;            /* bytes, the receiver's, before window scaling */
    uint32_t flight;            /* bytes sent and not acknowledged when data was last sent */
    uint32_t previous_flight;   /* the same one segment earlier */
    uint32_t congestion_window; /* bytes, inferred */
    uint32_t duplicate_acks;    /* since the last ACK that was none */
    uint32_t retransmissions;
    uint32_t under_window; /* segments in succession with little of the window in flight */
    uint32_t full_window;  /* segments in succession with all of it in flight */
    uint32_t diagnosis;    /* of enum diagnosis, all that were made */
    uint64_t data_ns;      /* when new data was last sent */
    uint64_t ack_ns;       /* when data was last acknowledged */
    uint64_t reaction_ns;  /* from the last ACK to the data that followed it */
    uint64_t rtt_ns;       /* from the last data to the ACK that followed it */
};

/* The state of the program as a whole: the one value of map "monitor". */
struct monitor {
    uint64_t reported_ns; /* when a report was last asked for; at first, the time of the first segment */
    uint32_t opened;      /* connections since then */
    uint32_t refused;     /* connections that found no room, ever */
};

INLINE void count(uint32_t *counter)
{
    if (*counter != 0xffffffff)
        ++*counter;
}

INLINE int is_after(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

/* The option is looked for where every stack puts it: first. */
INLINE uint32_t announced_mss(const void *pkt, uint64_t pkt_len, const struct segment *segment)
{
    const uint8_t *option = pkt + segment->tcp_offset + sizeof(struct tcp);

    if (tcp_header_size(segment->tcp) < sizeof(struct tcp) + 4 ||
        pkt_len < segment->tcp_offset + sizeof(struct tcp) + 4 || option[0] != 2 || option[1] != 4)
        return DEFAULT_MSS;
    return option[2] << 8 | option[3];
}

/* A segment of the receiver. */
INLINE void on_ack(struct connection *connection, const struct segment *segment, uint64_t now)
{
    uint32_t acknowledgment = bpf_ntohl(segment->tcp->acknowledgment);

    if (!(segment->tcp->flags & TCP_ACK))
        return;
    if (!connection->seen || is_after(acknowledgment, connection->acknowledged)) {
        connection->duplicate_acks = 0;
        connection->acknowledged = acknowledgment;
        connection->ack_ns = now;
        connection->window = bpf_ntohs(segment->tcp->window);
        if (connection->seen & SEEN_DATA)
            connection->rtt_ns = now - connection->data_ns;
        connection->seen |= SEEN_ACK;
    } else if (acknowledgment == connection->acknowledged && segment->payload == 0) {
        count(&connection->duplicate_acks);
    }
}

INLINE uint32_t after_fast_retransmit(const struct connection *connection)
{
    uint64_t window = connection->congestion_window;

    window = connection->previous_flight ? window * connection->flight / connection->previous_flight : window / 2;
    return window < 0xffffffff ? window : 0xffffffff;
}

/* A segment of the sender. Returns the diagnoses that it gives cause to. */
INLINE uint32_t on_data(struct connection *connection, const struct segment *segment, uint64_t now)
{
    uint32_t sequence = bpf_ntohl(segment->tcp->sequence);
    uint32_t next = sequence + segment->payload + (segment->tcp->flags & TCP_SYN ? 1 : 0);
    uint32_t diagnosis = 0;

    if (next == sequence)
        return 0; /* an ACK without data */
    if (connection->seen & SEEN_DATA && !is_after(next, connection->next_sequence)) {
        count(&connection->retransmissions);
        connection->congestion_window =
            connection->duplicate_acks >= 3 ? after_fast_retransmit(connection) : connection->mss;
        return NETWORK_LIMITED;
    }
    if (!connection->seen)
        connection->acknowledged = sequence;
    connection->seen |= SEEN_DATA;
    connection->next_sequence = next;
    connection->data_ns = now;
    if (connection->seen & SEEN_ACK)
        connection->reaction_ns = now - connection->ack_ns;
    connection->previous_flight = connection->flight;
    connection->flight = next - connection->acknowledged;
    if (connection->flight > connection->congestion_window)
        connection->congestion_window = connection->flight;

    if ((uint64_t)connection->flight * 100 < (uint64_t)connection->window * UNDER_WINDOW_PERCENT) {
        count(&connection->under_window);
        connection->full_window = 0;
    } else if (connection->flight == connection->window) {
        count(&connection->full_window);
        connection->under_window = 0;
    } else {
        connection->under_window = connection->full_window = 0;
    }
    if (connection->under_window >= WINDOW_COUNT && connection->reaction_ns > SLOW_REACTION_NS)
        diagnosis |= SENDER_LIMITED;
    if (connection->full_window >= WINDOW_COUNT)
        diagnosis |= RECEIVER_LIMITED;
    return diagnosis;
}

/* Follows one segment of a known connection. Returns 1 if it led to a diagnosis that is new to the connection. */
INLINE int follow(struct connection *connection, const struct segment *segment, uint32_t sender, uint64_t now)
{
    uint32_t diagnosis, before = connection->diagnosis;

    if (sender != connection->sender) {
        on_ack(connection, segment, now);
        return 0;
    }
    diagnosis = before | on_data(connection, segment, now);
    connection->diagnosis = diagnosis;
    return diagnosis != before;
}

/* Is it time for a report? Then the next one is counted from here. */
INLINE int is_due(struct monitor *monitor, int troubled, uint64_t now)
{
    if (monitor->reported_ns == 0)
        monitor->reported_ns = now;
    if (!troubled && monitor->opened < REPORT_CONNECTIONS &&
        (now < monitor->reported_ns || now - monitor->reported_ns < REPORT_INTERVAL_NS))
        return 0;
    monitor->reported_ns = now;
    monitor->opened = 0;
    return 1;
}

INLINE int is_opening(const struct segment *segment)
{
    return (segment->tcp->flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN;
}

INLINE int is_closing(const struct segment *segment)
{
    return segment->tcp->flags & (TCP_FIN | TCP_RST);
}

#endif
