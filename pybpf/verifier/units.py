"""Sums of unknowns that may as well be unknowns themselves: what a certificate claims need not say how they came about.

Let an unknown be part of one sum only, whatever else that sum is part of. Then the sum may be any number, as the unknown may, and a new
unknown in its place says all the same of what is related to what. The state that arrives at a point often knows such a sum under
another name, and has no unknowns for its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pybpf.verifier.values import Atom, Atoms


def simplified(
    sums: Iterable[Atoms], fixed: frozenset[Atom], given: Mapping[Atoms, Atoms]
) -> dict[Atoms, Atoms]:
    """For each sum a simpler one, or itself. What is `fixed` stays; `given` was simplified so elsewhere, and is here, too."""
    simple = {atoms: given.get(atoms, atoms) for atoms in sums}
    for atoms, unit in given.items():
        if len(atoms) == 1 and is_shift(atoms[0]) and len(unit) == 1:
            simple = {each: _replaced(now, atoms[0], unit[0]) for each, now in simple.items()}
    if all(len(atoms) == 1 and not is_shift(atoms[0]) for atoms in simple.values() if atoms):
        return simple
    while (found := _unit(frozenset(simple.values()), fixed)) is not None:
        whole, part = found
        if part is None:
            simple = {each: (("sum", whole),) if now == whole else now for each, now in simple.items()}
        else:
            unit = ("sum", (part,))
            simple = {each: _replaced(now, part, unit) for each, now in simple.items()}
    return simple


def is_shift(atom: Atom) -> bool:
    """Whether an atom is a sum that was shifted left."""
    return isinstance(atom, tuple) and atom[0] == "lsh"


def _unit(sums: frozenset[Atoms], fixed: frozenset[Atom]) -> tuple[Atoms, Atom | None] | None:
    """A sum that may be an unknown, as a whole, or as what is shifted in an atom."""
    parts: dict[Atom, set[Atoms]] = {}
    owners: dict[Atoms, set[Atom | None]] = {}
    work: list[tuple[Atoms, Atom | None]] = [(atoms, None) for atoms in sums]
    while work:
        atoms, owner = work.pop()
        owners.setdefault(atoms, set()).add(owner)
        for atom in atoms:
            if is_shift(atom):
                assert isinstance(atom, tuple)
                work.append((atom[1], atom))
            else:
                parts.setdefault(atom, set()).add(atoms)
    for atom in sorted(parts, key=repr):
        if atom in fixed or len(parts[atom]) > 1:
            continue
        (whole,) = parts[atom]
        if len(owners[whole]) == 1:
            (owner,) = owners[whole]
            if owner is not None or len(whole) > 1:
                return whole, owner
    return None


def _replaced(atoms: Atoms, part: Atom, unit: Atom) -> Atoms:
    """A sum with one of its atoms, wherever it is in it, called otherwise."""
    out: list[Atom] = []
    for atom in atoms:
        if atom == part:
            out.append(unit)
        elif is_shift(atom):
            assert isinstance(atom, tuple)
            out.append((atom[0], _replaced(atom[1], part, unit), *atom[2:]))
        else:
            out.append(atom)
    return tuple(sorted(out, key=repr))
