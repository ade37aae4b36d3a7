/* Packet headers as they lie on the wire: every field of more than a byte is big-endian.
 * Sources: IEEE 802.3 and 802.1Q, RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 768 (UDP). */
#ifndef PACKET_H
#define PACKET_H

#include "bpf.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100 /* 802.1Q */
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8 /* 802.1ad, the outer of two tags */

struct ethernet {
    uint8_t destination[6];
    uint8_t source[6];
    uint16_t type;
};

/* What follows an ETHERTYPE_VLAN or ETHERTYPE_QINQ. */
struct vlan {
    uint16_t control; /* priority 3 bits, drop eligible 1, identifier 12 */
    uint16_t type;
};

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define IPV4_DONT_FRAGMENT 0x4000
#define IPV4_FRAGMENT_OFFSET 0x1fff

struct ipv4 {
    uint8_t version_ihl; /* version 4 bits, header length 4 bits in 4-byte words */
    uint8_t tos;
    uint16_t total_length; /* header and payload */
    uint16_t id;
    uint16_t fragment; /* flags 3 bits, offset 13 bits in 8-byte units */
    uint8_t ttl;
    uint8_t protocol;
    uint16_t checksum;
    uint32_t source;
    uint32_t destination;
};

INLINE uint64_t ipv4_header_size(const struct ipv4 *ip)
{
    return (ip->version_ihl & 15) * 4;
}

struct ipv6 {
    uint32_t version_class_label;
    uint16_t payload_length;
    uint8_t next_header;
    uint8_t hop_limit;
    uint8_t source[16];
    uint8_t destination[16];
};

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

struct tcp {
    uint16_t source;
    uint16_t destination;
    uint32_t sequence;
    uint32_t acknowledgment;
    uint8_t data_offset; /* header length 4 bits in 4-byte words, reserved 4 bits */
    uint8_t flags;
    uint16_t window;
    uint16_t checksum;
    uint16_t urgent;
};

INLINE uint64_t tcp_header_size(const struct tcp *tcp)
{
    return (tcp->data_offset >> 4) * 4;
}

struct udp {
    uint16_t source;
    uint16_t destination;
    uint16_t length;
    uint16_t checksum;
};

#endif
