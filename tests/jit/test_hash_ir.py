import ctypes
import random

import pytest

from pybpf.jit import codegen, hash_ir
from pybpf.lookup3 import hashlittle

LENGTHS = [*range(40), 63, 64, 65, *range(94, 123), 1000, 4095, 4096]


def exported(ir: str, name: str, signature: str, call: str) -> str:
    return f"{ir}\ndefine i32 @{name}({signature}) {{\n  %r = call i32 {call}\n  ret i32 %r\n}}\n"


@pytest.fixture(scope="module")
def module() -> codegen.Code:
    ir = exported(
        hash_ir.hashlittle(),
        "any",
        "ptr %d, i64 %n, i32 %s",
        "@hashlittle(ptr %d, i64 %n, i32 %s)",
    )
    for n in LENGTHS:
        ir += exported(hash_ir.hashlittle_constant(n), f"zero{n}", "ptr %d", f"@hashlittle_{n}(ptr %d)")
        ir += exported(
            hash_ir.hashlittle_seeded(f"inner{n}", n),
            f"seeded{n}",
            "ptr %d, i32 %s",
            f"@inner{n}(ptr %d, i32 %s)",
        )
    names = ["any", *(f"{kind}{n}" for n in LENGTHS for kind in ("zero", "seeded"))]
    return codegen.build(ir, names, codegen.Level.QUICK)


@pytest.mark.slow
def test_every_form_is_the_reference(module: codegen.Code) -> None:
    """Random data at an odd address, every length up to 39, around each limit and up to 4096."""
    chance = random.Random(3)
    word, size = ctypes.c_uint32, ctypes.c_uint64
    any_length = ctypes.CFUNCTYPE(word, ctypes.c_void_p, size, word)(module.address("any"))
    for n in LENGTHS:
        data, seed = chance.randbytes(n), chance.getrandbits(32)
        memory = ctypes.create_string_buffer(b"\xff" + data + b"\xff" * 16)
        address = ctypes.addressof(memory) + 1
        assert any_length(address, n, seed) == hashlittle(data, seed)
        constant = ctypes.CFUNCTYPE(word, ctypes.c_void_p)(module.address(f"zero{n}"))
        assert constant(address) == hashlittle(data)
        seeded = ctypes.CFUNCTYPE(word, ctypes.c_void_p, word)(module.address(f"seeded{n}"))
        assert seeded(address, seed) == hashlittle(data, seed)
