"""Running an instance over a capture, and what came of it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pybpf.cli.files import failure
from pybpf.cli.output import Progress
from pybpf.errors import BpfError
from pybpf.runtime import Instance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.packets import PacketBatch


@dataclass(slots=True)
class CaptureClock:
    """A clock that shows when the packet in work was captured, in nanoseconds since 1970."""

    now: int = 0

    def __call__(self) -> int:
        """See `pybpf.program_types.Clock`."""
        return self.now


@dataclass(slots=True)
class Outcome:
    """What running gave: how often r0 was which value in all rounds, r0 of each packet in the first one, and seconds.

    `packets` are the packets as the program left them in the first round, where that was asked for.
    """

    values: NDArray[np.uint64]
    counts: Counter[int] = field(default_factory=Counter)
    packets: list[bytes] | None = None
    seconds: float = 0.0

    def rewritten(self, batch: PacketBatch) -> PacketBatch:
        """The batch with its packets as the program left them, times and link type kept."""
        from pybpf.packets import PacketBatch

        if self.packets is None:
            return batch
        left = PacketBatch.from_packets(
            self.packets, timestamps=batch.timestamps.tolist(), link_type=batch.link_type
        )
        # What the snap length cut off is still missing.
        return replace(left, original_lengths=left.lengths + (batch.original_lengths - batch.lengths))


def run_rounds(instance: Instance, batch: PacketBatch, rounds: int) -> Outcome:
    """Run over the whole batch at once, as often as asked. Maps keep what the round before left in them."""
    import numpy as np

    outcome = Outcome(np.zeros(len(batch), np.uint64))
    values = outcome.values
    with Progress("running: round", rounds) as progress:
        for done in range(rounds):
            progress.show(done)
            start = time.perf_counter()
            instance.run_batch(batch, values)
            outcome.seconds += time.perf_counter() - start
            numbers, counts = np.unique(values, return_counts=True)
            outcome.counts.update(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
            if done == 0:
                values = values.copy()
    return outcome


def run_packets(
    instance: Instance, batch: PacketBatch, rounds: int, *, clock: CaptureClock | None, keep: bool
) -> Outcome:
    """Run over one packet after the other: as `run_rounds`, and with `clock` set to each packet's time of capture.

    A further round goes on from where the one before ended in time. `keep` asks for the packets as they are left.
    """
    import numpy as np

    outcome = Outcome(np.zeros(len(batch), np.uint64), packets=[] if keep else None)
    times = batch.timestamps.tolist()
    span = max(times, default=0) - min(times, default=0)
    with Progress("running: packet", rounds * len(batch)) as progress:
        for done in range(rounds):
            for number, packet in enumerate(batch):
                progress.show(done * len(batch) + number)
                if clock is not None:
                    clock.now = times[number] + done * span
                start = time.perf_counter()
                try:
                    result = instance.run(packet)
                except BpfError as error:
                    raise failure(f"packet {number}", error) from error
                outcome.seconds += time.perf_counter() - start
                outcome.counts[result.value] += 1
                if done == 0:
                    outcome.values[number] = result.value
                    if outcome.packets is not None:
                        outcome.packets.append(result.packet)
    return outcome
