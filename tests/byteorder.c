/* Counts packets in every way in which a program keeps numbers: the same for machines of both byte orders. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define ntohs(x) (x)
#else
#define ntohs(x) __builtin_bswap16(x)
#endif

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;

struct xdp_md {
    u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct flow {
    u16 ethertype;
    u16 size;
    u32 interface;
};

struct counter {
    u64 packets;
    u32 bytes;
    int least : 20;
    u32 odd : 12;
    short last;
    signed char sign;
};

struct {
    __uint(type, 1);
    __uint(max_entries, 256);
    __type(key, struct flow);
    __type(value, struct counter);
} flows SEC(".maps");

struct {
    __uint(type, 2);
    __uint(max_entries, 300);
    __type(key, u32);
    __type(value, u64);
} sizes SEC(".maps");

u64 packets;
u32 octets = 1000000;
u16 last_type = 0xfffe;
long sum = -5;
u64 words[3] = {1, 2, 3};
const volatile u32 step = 0x010203;

SEC("xdp") int count(struct xdp_md *ctx) {
    u8 *data = (u8 *)(long)ctx->data, *end = (u8 *)(long)ctx->data_end;
    if (data + 14 > end)
        return 1;
    u32 length = end - data;
    struct flow flow = {ntohs(*(u16 *)(data + 12)), length, ctx->ingress_ifindex};
    u32 index = length % 300;

    u64 *size = map_lookup(&sizes, &index);
    if (!size)
        return 0;
#if __BPF_CPU_VERSION__ >= 3
    u64 before = __sync_fetch_and_add(size, step);
    __sync_fetch_and_xor(&words[1], before);
    __sync_val_compare_and_swap(&words[2], 3, length);
    __sync_lock_test_and_set(&words[0], before);
#else
    *size += step;
#endif
    __sync_fetch_and_add(&packets, 1);
    __sync_fetch_and_add(&octets, length);
    last_type = flow.ethertype;
    sum += (short)ntohs(*(u16 *)(data + 6));
    sum ^= (u32)ntohs(*(u16 *)(data + 8)) << 16;

    struct counter *seen = map_lookup(&flows, &flow), fresh = {};
    if (!seen) {
        fresh.packets = 1;
        fresh.least = -(int)length;
        map_update(&flows, &flow, &fresh, 0);
        return 2;
    }
    seen->packets += 1;
    seen->bytes += length;
    seen->odd += length & 1;
    seen->last = (short)(length - 700);
    seen->sign = (signed char)length;
    return seen->last < -500 ? 3 : 2;
}
