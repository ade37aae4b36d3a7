/* Variables whose bytes the compiler lays out, for the tests to read back. */
typedef unsigned short __be16;
typedef unsigned int __be32;
typedef unsigned long long __be64;
typedef unsigned char mac[6];
enum state { CLOSED, OPEN = 7 };
enum sign { MINUS = -2, PLUS = 1 };
enum wide { FAR = 0x123456789abcULL };

struct inner {
	short low;
	unsigned int high;
};

struct everything {
	signed char tiny;
	_Bool yes;
	unsigned char no_char[3];
	char text[8];
	char garbage[4];
	long long negative;
	unsigned long long large;
	enum state state, unknown_state;
	enum sign sign;
	enum wide wide;
	double ratio;
	float half;
	struct inner pair[2];
	unsigned int low3 : 3, next7 : 7;
	int negative5 : 5;
	enum state state4 : 4;
	_Bool bit : 1;
	union {
		int whole;
		struct {
			unsigned char first;
			unsigned char rest[3];
		};
	};
	__be16 port;
	const __be32 address;
	__be64 token;
	mac source;
	int grid[2][3];
	struct {} nothing[4];
	void *pointer;
};

struct everything everything = {
	.tiny = -5,
	.yes = 1,
	.no_char = {1, 2, 255},
	.text = "abc",
	.garbage = {'a', 0, 'b', 0},
	.negative = -1234567890123LL,
	.large = 0xfedcba9876543210ULL,
	.state = OPEN,
	.unknown_state = (enum state)9,
	.sign = MINUS,
	.wide = FAR,
	.ratio = 0.5,
	.half = -1.25f,
	.pair = {{-1, 1}, {2, 4000000000u}},
	.low3 = 5,
	.next7 = 100,
	.negative5 = -3,
	.state4 = OPEN,
	.bit = 1,
	.whole = 0x04030201,
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BE16(x) __builtin_bswap16(x)
#define BE32(x) __builtin_bswap32(x)
#define BE64(x) __builtin_bswap64(x)
#else
#define BE16(x) (x)
#define BE32(x) (x)
#define BE64(x) (x)
#endif
	.port = BE16(8080),
	.address = BE32(0x0a000001),
	.token = BE64(0x0102030405060708ULL),
	.source = {2, 0, 0, 0, 0, 1},
	.grid = {{1, 2, 3}, {4, 5, 6}},
	.pointer = (void *)0x1000,
};

int after = 42;
static int hidden = 43;
const volatile int limit = 7;

__attribute__((section("xdp"), used)) int program(void *context)
{
	hidden += after + everything.tiny;
	return limit;
}
