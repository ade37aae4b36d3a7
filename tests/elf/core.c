/* Accesses to types that another machine lays out: core_target.c has them as they are there. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define PRESERVE __attribute__((preserve_access_index))
#define PROGRAM __attribute__((section("socket"), used)) u64
#define OFFSET(type, path) ((u64)__builtin_preserve_access_index(&((type *)0)->path))
#define FIELD(type, path, what) __builtin_preserve_field_info(((type *)0)->path, what)
#define TYPE(type, what) __builtin_preserve_type_info(*(type *)0, what)
#define ENUM(type, name, what) __builtin_preserve_enum_value(*(type *)name, what)
enum { BYTE_OFFSET, BYTE_SIZE, EXISTS, SIGNED, LSHIFT, RSHIFT };
enum { TYPE_EXISTS, TYPE_SIZE, TYPE_MATCHES };
enum { VALUE_EXISTS, VALUE };

struct inner { int x, y; };
struct moved {
	int first;
	u32 second;
	struct inner in;
	struct inner many[4];
	char name[8];
	u8 low : 3, high : 5;
	int negative : 4;
	union { u32 whole; u16 half; };
	void *pointer;
	int gone;
	int other_kind;
	u8 tail[];
} PRESERVE;
struct widths { u32 grows, shrinks; int signed_grows; u32 enum_like; u32 *ptr; } PRESERVE;
struct moved___flavoured { u32 second; } PRESERVE;
struct absent { int a; } PRESERVE;
struct twice { int a; } PRESERVE;
typedef struct { int a, b; } PRESERVE unnamed_t;
typedef int number_t;
typedef int (*callback_t)(int, struct inner *);
typedef void (*other_callback_t)(int);
typedef void (*callback_absent_t)(int);
enum color { RED = 1, GREEN___local = 2, MAUVE = 9 };
enum wide { SMALL = 1, HUGE = 0x100000000ULL };
union either { int a; u8 b; };
struct alike { int a; struct inner *p; enum wide w; };
struct unlike { int a; };
struct missing_member { int a, nope; };

PROGRAM offset_moved(void *c) { return OFFSET(struct moved, second); }
PROGRAM offset_nested(void *c) { return OFFSET(struct moved, in.y); }
PROGRAM offset_element(void *c) { return OFFSET(struct moved, many[2].y); }
PROGRAM offset_of_element(void *c) { return OFFSET(struct moved, many[1]); }
PROGRAM offset_second(void *c) { return (u64)__builtin_preserve_access_index(&((struct moved *)0)[2].second); }
PROGRAM offset_anonymous(void *c) { return OFFSET(struct moved, half); }
PROGRAM offset_flavoured(void *c) { return OFFSET(struct moved___flavoured, second); }
PROGRAM offset_flexible(void *c) { return OFFSET(struct moved, tail[5]); }
PROGRAM offset_gone(void *c) { return OFFSET(struct moved, gone); }
PROGRAM offset_absent(void *c) { return OFFSET(struct absent, a); }
PROGRAM offset_typedef(void *c) { return OFFSET(unnamed_t, b); }
PROGRAM offset_bits(void *c) { return FIELD(struct moved, high, BYTE_OFFSET); }
#ifdef AMBIGUOUS
PROGRAM offset_twice(void *c) { return OFFSET(struct twice, a); }
#endif
PROGRAM size_name(void *c) { return FIELD(struct moved, name, BYTE_SIZE); }
PROGRAM size_element(void *c) { return FIELD(struct moved, many[1], BYTE_SIZE); }
PROGRAM size_bits(void *c) { return FIELD(struct moved, high, BYTE_SIZE); }
PROGRAM exists(void *c) { return FIELD(struct moved, second, EXISTS) * 2 + FIELD(struct moved, gone, EXISTS); }
PROGRAM exists_other_kind(void *c) { return FIELD(struct moved, other_kind, EXISTS); }
PROGRAM exists_too_far(void *c) { return FIELD(struct moved, many[3], EXISTS); }
PROGRAM signed_bits(void *c) { return FIELD(struct moved, negative, SIGNED); }
PROGRAM signed_not(void *c) { return FIELD(struct moved, second, SIGNED); }
PROGRAM left(void *c) { return FIELD(struct moved, high, LSHIFT); }
PROGRAM right(void *c) { return FIELD(struct moved, high, RSHIFT); }
PROGRAM left_negative(void *c) { return FIELD(struct moved, negative, LSHIFT); }
PROGRAM left_plain(void *c) { return FIELD(struct moved, second, LSHIFT); }
PROGRAM load(struct moved *c) { return c->second; }
PROGRAM load_grows(struct widths *c) { return c->grows; }
PROGRAM load_shrinks(struct widths *c) { return c->shrinks; }
PROGRAM load_signed(struct widths *c) { return c->signed_grows; }
PROGRAM load_pointer(struct widths *c) { return (u64)c->ptr; }
PROGRAM load_other(struct widths *c) { return c->enum_like; }
PROGRAM load_gone(struct moved *c) { if (FIELD(struct moved, gone, EXISTS)) return c->gone; return 3; }
PROGRAM store(struct moved *c) { c->second = 5; return 0; }
PROGRAM store_register(struct moved *c) { c->second = (u64)c; return 0; }
PROGRAM type_size(void *c) { return TYPE(struct moved, TYPE_SIZE); }
PROGRAM type_size_absent(void *c) { return TYPE(struct absent, TYPE_SIZE); }
PROGRAM type_size_union(void *c) { return TYPE(union either, TYPE_SIZE); }
PROGRAM type_exists(void *c) { return TYPE(struct moved, TYPE_EXISTS); }
PROGRAM type_exists_absent(void *c) { return TYPE(struct absent, TYPE_EXISTS); }
PROGRAM type_exists_typedef(void *c) { return TYPE(number_t, TYPE_EXISTS); }
PROGRAM type_exists_callback(void *c) { return TYPE(callback_t, TYPE_EXISTS); }
PROGRAM type_exists_other_callback(void *c) { return TYPE(other_callback_t, TYPE_EXISTS); }
PROGRAM type_exists_absent_callback(void *c) { return TYPE(callback_absent_t, TYPE_EXISTS); }
PROGRAM type_matches(void *c) { return TYPE(struct alike, TYPE_MATCHES); }
PROGRAM type_matches_unlike(void *c) { return TYPE(struct unlike, TYPE_MATCHES); }
PROGRAM type_matches_members(void *c) { return TYPE(struct missing_member, TYPE_MATCHES); }
PROGRAM type_matches_enum(void *c) { return TYPE(enum wide, TYPE_MATCHES); }
PROGRAM type_matches_callback(void *c) { return TYPE(callback_t, TYPE_MATCHES); }
PROGRAM type_id_local(void *c) { return __builtin_btf_type_id(*(struct inner *)0, 0); }
PROGRAM type_id_target(void *c) { return __builtin_btf_type_id(*(struct moved *)0, 1); }
PROGRAM type_id_absent(void *c) { return __builtin_btf_type_id(*(struct absent *)0, 1); }
PROGRAM enum_value(void *c) { return ENUM(enum color, RED, VALUE); }
PROGRAM enum_flavoured(void *c) { return ENUM(enum color, GREEN___local, VALUE); }
PROGRAM enum_exists(void *c) { return ENUM(enum color, RED, VALUE_EXISTS); }
PROGRAM enum_exists_not(void *c) { return ENUM(enum color, MAUVE, VALUE_EXISTS); }
PROGRAM enum_wide(void *c) { return ENUM(enum wide, HUGE, VALUE); }
PROGRAM enum_gone(void *c) { return ENUM(enum color, MAUVE, VALUE); }

char license_text[] __attribute__((section("license"))) = "GPL";
