"""Fuzzing of pybpf: programs that get past the verifier's first checks, and properties that every one of them must have."""
