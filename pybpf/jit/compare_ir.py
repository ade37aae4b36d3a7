"""IR of the comparison of a packet with what a `Conjunction` asks for.

    i64 @differs(ptr %packet)   a bit for each byte, in their order, that is not as it should be; 0 where all are

Two loads cover the bytes, each as long as both may be without going beyond, so some bytes may be covered twice.
"""

from __future__ import annotations

from collections.abc import Iterable

from pybpf.jit.bytes_ir import function
from pybpf.jit.conjunction import Conjunction


def differs(conjunction: Conjunction) -> str:
    """The function. The packet is at least `conjunction.end` bytes long."""
    span = len(conjunction.mask)
    width = max(width for width in (2, 4, 8, 16, 32) if width <= span)
    body = ""
    for name, start in (("low", 0), ("high", span - width)):
        type_, window = f"<{width} x i8>", slice(start, start + width)
        body += f"""  %{name}.at = getelementptr inbounds i8, ptr %packet, i64 {conjunction.first + start}
  %{name} = load {type_}, ptr %{name}.at, align 1
  %{name}.asked = and {type_} %{name}, {_bytes(conjunction.mask[window])}
  %{name}.wrong = icmp ne {type_} %{name}.asked, {_bytes(conjunction.value[window])}
  %{name}.bits = bitcast <{width} x i1> %{name}.wrong to i{width}
  %{name}.wide = zext i{width} %{name}.bits to i64
"""
    body += f"""  %high.up = shl i64 %high.wide, {width}
  %result = or i64 %low.wide, %high.up
  ret i64 %result"""
    return function("i64 @differs(ptr %packet)", body)


def _bytes(values: Iterable[int]) -> str:
    return "<" + ", ".join(f"i8 {value}" for value in values) + ">"
