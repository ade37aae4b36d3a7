/* Accesses to types of the running kernel. */
typedef unsigned int u32; typedef unsigned long long u64; typedef unsigned char u8; typedef unsigned short u16;
#define SEC(name) __attribute__((section(name), used))
#define P __attribute__((preserve_access_index))
struct task_struct { int pid; int tgid; struct task_struct *real_parent; char comm[16]; unsigned long nope_field; unsigned in_execve:1; } P;
struct task_struct___old { long nothere; } P;
enum pid_type___x { PIDTYPE_PID___1 = 99, PIDTYPE_NOPE = 77, PIDTYPE_SID = 55 };
struct missing_struct { int a; } P;
SEC("socket") int offset(void *ctx) { return (long)__builtin_preserve_access_index(&((struct task_struct*)0)->tgid); }
SEC("socket") int exists(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->nope_field, 2) + 2*__builtin_preserve_field_info(((struct task_struct*)0)->comm, 2); }
SEC("socket") int size(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->comm, 1); }
SEC("socket") int commoff(void *ctx) { return (long)__builtin_preserve_access_index(&((struct task_struct*)0)->comm[3]); }
SEC("socket") int lsh(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->in_execve, 4); }
SEC("socket") int rsh(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->in_execve, 5); }
SEC("socket") int bitoff(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->in_execve, 0); }
SEC("socket") int sgn(void *ctx) { return __builtin_preserve_field_info(((struct task_struct*)0)->pid, 3); }
SEC("socket") u64 tsize(void *ctx) { return __builtin_preserve_type_info(*(struct task_struct*)0, 1); }
SEC("socket") u64 texists(void *ctx) { return __builtin_preserve_type_info(*(struct missing_struct*)0, 0); }
SEC("socket") u64 tmatch(void *ctx) { return __builtin_preserve_type_info(*(struct task_struct*)0, 2); }
SEC("socket") u64 tid(void *ctx) { return __builtin_btf_type_id(*(struct task_struct*)0, 1); }
SEC("socket") u64 lid(void *ctx) { return __builtin_btf_type_id(*(struct task_struct*)0, 0); }
SEC("socket") u64 ev(void *ctx) { return __builtin_preserve_enum_value(*(enum pid_type___x *)PIDTYPE_SID, 1); }
SEC("socket") u64 ee(void *ctx) { return __builtin_preserve_enum_value(*(enum pid_type___x *)PIDTYPE_NOPE, 0); }
SEC("socket") u64 guarded(void *ctx) { struct task_struct *t = ctx; if (__builtin_preserve_field_info(t->nope_field, 2)) return t->nope_field; return 7; }
SEC("socket") u64 unguarded(void *ctx) { struct task_struct *t = ctx; return t->nope_field; }
char _license[] SEC("license") = "GPL";
