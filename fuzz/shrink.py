"""Making a finding small: statements, changed bytes, packets and map contents are left out as long as it is still one.

Every statement takes its decisions from bytes of its own (`fuzz.choices`), so a program without one of them is still the
same kind of program, and bytes that become zero choose what is simplest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from fuzz.recipe import Recipe

T = TypeVar("T")

ATTEMPTS: Final = 500
"""Recipes that are tried at most."""


def smallest(recipe: Recipe, fails: Callable[[Recipe], bool], attempts: int = ATTEMPTS) -> Recipe:
    """The smallest recipe found for which `fails` is true as it is for this one: no single step makes it smaller, if time was enough."""
    tried: set[Recipe] = {recipe}
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(recipe):
            if candidate in tried:
                continue
            if len(tried) > attempts:
                return recipe
            tried.add(candidate)
            if fails(candidate):
                recipe, progress = candidate, True
                break
    return recipe


def _smaller(recipe: Recipe) -> Iterator[Recipe]:
    """Recipes that are simpler by one step, the greatest steps first."""
    for packets in _without_parts(recipe.packets):
        yield replace(recipe, packets=packets)
    for rest in _without_parts(recipe.blobs[1:]):
        yield replace(recipe, blobs=(*recipe.blobs[:1], *rest))
    for edits in _without_parts(recipe.edits):
        if edits:
            yield replace(recipe, edits=edits)
    if recipe.entries:
        yield replace(recipe, entries=b"")
    if recipe.type:
        yield replace(recipe, type=0)
    for index, blob in enumerate(recipe.blobs):
        for simpler in _simpler(blob):
            yield replace(recipe, blobs=(*recipe.blobs[:index], simpler, *recipe.blobs[index + 1 :]))
    for index, blob in enumerate(recipe.packets):
        if blob != b"":
            yield replace(recipe, packets=(*recipe.packets[:index], b"", *recipe.packets[index + 1 :]))


def _without_parts(parts: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """The sequence without its halves, quarters, ... and without each single part."""
    size = len(parts)
    while size:
        for start in range(0, len(parts), size):
            yield (*parts[:start], *parts[start + size :])
        size //= 2


def _simpler(blob: bytes) -> Iterator[bytes]:
    """Decisions simpler from some point on, then one by one."""
    end = len(blob.rstrip(b"\0"))
    while end:
        end //= 2
        yield blob[:end].ljust(len(blob), b"\0")
    for index in range(len(blob.rstrip(b"\0"))):
        if blob[index]:
            yield blob[:index] + b"\0" + blob[index + 1 :]
