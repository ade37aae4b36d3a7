"""Tristate numbers: what is known of each bit.

A tnum is a pair (value, mask): a bit of `mask` is unknown; the others are as in `value`. It stands for the set
{ x : x & ~mask == value }, so value & mask == 0 always. Known as tnum in Linux (kernel/bpf/tnum.c); the addition and
multiplication follow Vishwanathan et al., "Sound, Precise, and Fast Abstract Interpretation with Tristate Numbers" (CGO 2022).

All functions are pure and cut their results to `w` bits.
"""

from __future__ import annotations

Tnum = tuple[int, int]


def constant(x: int, w: int) -> Tnum:
    """Exactly x: no bit is unknown."""
    return x & ((1 << w) - 1), 0


def from_range(low: int, high: int) -> Tnum:
    """The smallest tnum that holds every x with low <= x <= high: the common prefix, then unknown bits."""
    unknown = (1 << (low ^ high).bit_length()) - 1
    return low & ~unknown, unknown


def intersect(a: Tnum, b: Tnum) -> Tnum | None:
    """The numbers in both: what either knows of a bit is known. None where both know a bit and disagree: no number is in both."""
    if (a[0] ^ b[0]) & ~a[1] & ~b[1]:
        return None
    mask = a[1] & b[1]
    return (a[0] | b[0]) & ~mask, mask


def join(a: Tnum, b: Tnum) -> Tnum:
    """The smallest tnum that holds both: a bit stays known where both know it and agree."""
    mask = a[1] | b[1] | (a[0] ^ b[0])
    return a[0] & ~mask, mask


def includes(a: Tnum, b: Tnum) -> bool:
    """Whether every number of b is one of a: what a knows of a bit b knows too, and the same."""
    return not b[1] & ~a[1] and (b[0] & ~a[1]) == a[0]


def at_least(a: Tnum, x: int) -> int | None:
    """The least number of a that is >= x, None where there is none.

    Take the highest known bit in which x disagrees. If it is one in a, the number already exceeds x there and the unknown
    bits below can be 0. If it is zero, the lowest unknown bit above it that is 0 in x must become 1.
    """
    value, mask = a
    wrong = (x ^ value) & ~mask
    if not wrong:
        return x
    top = wrong.bit_length()
    if not value >> (top - 1) & 1:
        raisable = mask & ~x & -(1 << top)
        if not raisable:
            return None
        top = (raisable & -raisable).bit_length()
        x |= 1 << (top - 1)
        return (x & mask & -(1 << (top - 1))) | value
    return (x & mask & -(1 << top)) | value


def at_most(a: Tnum, x: int, w: int) -> int | None:
    """The greatest number of a that is <= x: complementing every bit turns the order around."""
    full = (1 << w) - 1
    found = at_least((full & ~(a[0] | a[1]), a[1]), full & ~x)
    return None if found is None else full & ~found


def add(a: Tnum, b: Tnum, w: int) -> Tnum:
    """a + b. A bit of the sum is unknown where an operand's is, or where the carry into it differs between the least
    sum (every unknown bit 0) and the greatest (every unknown bit 1): carries are monotone in the operands.
    """
    full = (1 << w) - 1
    least = a[0] + b[0]
    greatest = least + a[1] + b[1]
    mask = ((least ^ greatest) | a[1] | b[1]) & full
    return least & full & ~mask, mask


def sub(a: Tnum, b: Tnum, w: int) -> Tnum:
    """a - b, by the same argument on borrows: the least difference takes a's least and b's greatest."""
    full = (1 << w) - 1
    difference = a[0] - b[0]
    mask = (((difference + a[1]) ^ (difference - b[1])) | a[1] | b[1]) & full
    return difference & full & ~mask, mask


def and_(a: Tnum, b: Tnum) -> Tnum:
    """a & b: one where both are known to be, unknown where both may be one and not both are, zero where one is known to be."""
    ones = a[0] & b[0]
    return ones, (a[0] | a[1]) & (b[0] | b[1]) & ~ones


def or_(a: Tnum, b: Tnum) -> Tnum:
    """a | b: one where either is known to be, unknown where either is unknown and none is one, zero where both are known to be."""
    ones = a[0] | b[0]
    return ones, (a[1] | b[1]) & ~ones


def xor(a: Tnum, b: Tnum) -> Tnum:
    """a ^ b: a bit is unknown where either is, since it changes with that one; the others are those of the known parts."""
    mask = a[1] | b[1]
    return (a[0] ^ b[0]) & ~mask, mask


def shift_left(a: Tnum, k: int, w: int) -> Tnum:
    """a << k: every bit moves with what is known of it, zeros come in."""
    full = (1 << w) - 1
    return (a[0] << k) & full, (a[1] << k) & full


def shift_right(a: Tnum, k: int) -> Tnum:
    """a >> k: every bit moves with what is known of it, zeros come in."""
    return a[0] >> k, a[1] >> k


def sign_extend(a: Tnum, bits: int, w: int) -> Tnum:
    """The lower `bits` of a, extended to w bits: the new bits are what the sign is, unknown if it is."""
    full, low, sign = (1 << w) - 1, (1 << bits) - 1, 1 << (bits - 1)
    value, mask = a[0] & low, a[1] & low
    high = full & ~low
    if mask & sign:
        return value, mask | high
    return (value | high if value & sign else value), mask


def mul(a: Tnum, b: Tnum, w: int) -> Tnum:
    """a * b as the sum over a's bits of b shifted: a known one adds b, an unknown bit adds b or nothing.

    The known parts are summed exactly by one product, the uncertain ones as masks: x * y is the product of the known ones
    plus, for each bit of a, a number of `_beyond`.
    """
    result = constant(a[0] * b[0], w)
    uncertain: Tnum = (0, 0)
    value, mask = a
    shifted = b
    while value | mask:
        if (value | mask) & 1:
            uncertain = add(uncertain, _beyond(value & 1, shifted), w)
        value, mask = value >> 1, mask >> 1
        shifted = shift_left(shifted, 1, w)
    return add(result, uncertain, w)


def _beyond(one: int, b: Tnum) -> Tnum:
    """What a bit times b is beyond the product of what is known of both: for a one b's unknown bits, for an unknown bit all
    or nothing of b.
    """
    return (0, b[1]) if one else (0, b[0] | b[1])


def byte_swap(a: Tnum, bits: int) -> Tnum:
    """The lower `bits` with their bytes in reverse order, zero above: every bit moves with what is known of it."""
    size, low = bits // 8, (1 << bits) - 1

    def swap(x: int) -> int:
        return int.from_bytes((x & low).to_bytes(size, "little"), "big")

    return swap(a[0]), swap(a[1])
