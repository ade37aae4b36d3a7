"""Running an example as its users do: load, verify, instantiate, run; on every engine and for every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import pybpf
from tests.examples.models import Maps, Model

EXAMPLES = Path(__file__).parents[2] / "examples"


class Clock:
    """A clock that the test moves, in nanoseconds."""

    def __init__(self) -> None:
        self.now = 1_000_000 * 10**9

    def __call__(self) -> int:
        return self.now


class Example:
    """An instance of an example, and the clock that it reads."""

    def __init__(self, name: str, cpu: str, engine: str) -> None:
        self.clock = Clock()
        program = verified(name, cpu)
        self.arrays = {spec.name for spec in program.program.maps if spec.type == "array"}
        self.instance = pybpf.instantiate(program, engine=engine, clock=self.clock)
        self.maps = self.instance.maps

    def run(self, frame: bytes) -> int:
        return self.instance.run(frame).value

    def packet_after(self, frame: bytes) -> bytes:
        return bytes(self.instance.run(frame).packet)

    def contents(self) -> Maps:
        """Every map as bytes by bytes; of an array, the entries that are not all zero."""
        return {
            name: {
                bytes(key): bytes(value)
                for key, value in entries.items()
                if name not in self.arrays or any(bytes(value))
            }
            for name, entries in self.maps.items()
        }

    def prepare(self, model: Model) -> None:
        """Gives the maps the contents that the model begins with."""
        for name, entries in model.maps().items():
            for key, value in entries.items():
                self.maps[name][key] = value

    def agrees(self, model: Model, frame: bytes) -> int:
        """Runs the example and its model on the frame, sees that they say the same, and returns what they say."""
        verdict = self.run(frame)
        assert verdict == model.run(frame, self.clock.now), frame.hex()
        return verdict


@cache
def verified(name: str, cpu: str) -> pybpf.VerifiedProgram:
    return pybpf.verify(pybpf.load(EXAMPLES / "objects" / cpu / f"{name}.o").programs[name])


Start = Callable[[str], Example]


@pytest.fixture(params=["interpreter", "jit"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["v1", "v3"])
def cpu(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(cpu: str, engine: str) -> Start:
    return lambda name: Example(name, cpu, engine)
