/* The types of core.c as another machine has them. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct inner { long before; int y, x; };
struct moved {
	u64 before;
	struct { int deeper; u32 second; };
	struct inner in;
	struct inner many[3];
	char name[24];
	u16 other : 6, high : 7;
	long pad : 40, negative : 13;
	struct { union { u64 whole; struct { u32 skipped; u16 half; }; }; };
	void *pointer;
	struct inner other_kind;
	int first;
	u8 tail[];
};
struct widths { u64 pad, grows; u16 shrinks; long signed_grows; float enum_like; u32 *ptr; };
struct twice { int a; };
struct twice___other { int pad, a; };
typedef struct { long pad; int b; } unnamed_t;
typedef long number_t;
typedef int (*callback_t)(int, struct inner *);
typedef void (*other_callback_t)(int, int);
enum color { GREEN = 7, RED = 5 };
enum wide { HUGE = 0x200000000ULL, SMALL = 3 };
union either { long a; u8 b; };
struct alike { enum wide w; struct inner *p; int a; long more; };
struct unlike { u16 a; };
struct missing_member { int a; };

struct all {
	struct moved *moved; struct widths *widths; struct twice *twice; struct twice___other *other; unnamed_t *unnamed;
	number_t number; callback_t callback; other_callback_t other_callback; enum color color; enum wide wide; union either *either;
	struct alike alike; struct unlike unlike; struct missing_member missing;
	struct moved moved_; struct widths widths_; struct twice twice_; struct twice___other other_; union either either_;
};

__attribute__((section("socket"), used)) int target(struct all *all) { return all->number + sizeof(*all); }
