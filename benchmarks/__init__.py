"""pybpf against what else runs such programs: ``python -m benchmarks``.

contest    runs competitors in turns and takes medians of ratios
traffic    packets: mixes that a filter sees, flows that a map sees
toolchain  C compilers: programs in C as bytecode, and as native code
chained    a hash map in C, as a software switch has it
pybpf_side, native, kernel, dpdk   the competitors
suites     what is compared with what
marks      what the ratios should be
report, page, plot                 tables for a terminal, for docs/performance.md, and its picture
"""
