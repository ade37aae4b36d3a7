/* One of every kind of type, for the tests to read what a compiler writes of it. */
struct node;
typedef int (*callback)(void *context, struct node *node, ...);
enum color { RED = -1, GREEN = 5 };
enum large { SMALL = 1, LARGE = 0x100000000ULL };
enum negative { MINUS = -0x100000000LL };
union word {
	int whole;
	char bytes[4];
};
#define tagged __attribute__((btf_type_tag("user")))
struct node {
	struct node *next;
	struct unseen *unseen;
	const char *const name;
	volatile int grid[3][4];
	int (*pair[2])(int);
	callback call;
	enum color color;
	unsigned x : 3, y : 5;
	union {
		int p;
		struct {
			int q, r;
		};
	};
	union word word;
	enum large large;
	enum negative negative;
	_Bool flag;
	char *(*rows)[3];
	int (*(*getter)(void))(int);
	double ratio;
	int tagged *elsewhere;
	__int128 wide;
} __attribute__((btf_decl_tag("mark")));
typedef struct {
	int a;
} unnamed;
extern int outside __attribute__((section(".ksyms")));
static int inside;
struct node node;
unnamed object;
const struct node *constant;
int (*function)(const char *restrict text);

__attribute__((noinline)) static int help(struct node *n)
{
	return n->x + inside++;
}

int entry(void *context)
{
	return help(&node) + object.a + (constant != 0) + (function != 0) + (&outside != 0);
}
