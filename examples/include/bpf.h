/* What every BPF program here needs and no system header is asked for: integers, byte order, sections,
 * and map definitions as libbpf, bpftool and pybpf read them from BTF. */
#ifndef BPF_H
#define BPF_H

typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;

#define NULL ((void *)0)
#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* BPF objects are little-endian here (-target bpfel), packets are big-endian. */
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
#define bpf_htonl(x) __builtin_bswap32(x)
#define bpf_ntohl(x) __builtin_bswap32(x)

/* A map is an anonymous struct in section ".maps" whose members carry its parameters in their types. */
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name

/* Linux's numbers (enum bpf_map_type), which BTF definitions use whatever the program type. */
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2

#endif
