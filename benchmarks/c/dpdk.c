/* DPDK's library, for Python: load a program that is given memory of a fixed size, and run its machine code over packets. */
#include <rte_bpf.h>

void *dpdk_load(const void *instructions, uint32_t count, uint64_t size)
{
    struct rte_bpf_prm parameters = {
        .ins = instructions,
        .nb_ins = count,
        .prog_arg = {.type = RTE_BPF_ARG_PTR, .size = size},
    };

    return rte_bpf_load(&parameters);
}

void *dpdk_code(const void *program)
{
    struct rte_bpf_jit jit;

    return rte_bpf_get_jit(program, &jit) == 0 ? (void *)jit.func : NULL;
}

void dpdk_destroy(void *program)
{
    rte_bpf_destroy(program);
}

void dpdk_run(uint64_t (*code)(void *), uint8_t *base, const uint64_t *offsets, uint64_t *results, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        results[i] = code(base + offsets[i]);
}
