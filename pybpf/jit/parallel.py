"""One batch on several threads at once, each with a share of the packets; native code runs without the GIL.

Without flows the shares are runs of packets. With flows, a number for each packet, packets of one number are in one share, in their order; so what a
program keeps of a flow changes as it would on one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pybpf.errors import of_packet
from pybpf.jit.arrays import addresses_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.jit.native import NativeInstance
    from pybpf.packets import PacketBatch


class Share(NamedTuple):
    """Packets for one thread, of the `data` that all have: number i of them is `numbers[i]` in the batch."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    lengths: NDArray[np.uint32]
    results: NDArray[np.uint64]
    numbers: NDArray[np.intp]


def run_parallel(
    native: NativeInstance,
    batch: PacketBatch,
    results: NDArray[np.uint64],
    threads: int,
    flows: NDArray[np.uint64] | None,
) -> None:
    """Run a program on the packets of a batch: r0 of each goes to its place in `results`.

    The calling thread takes a share too, and returns when all are done. Raises what `NativeInstance.run_batch` raises, for the first of the packets that were
    stopped; each share ends at its own first.
    """
    shares = list(
        _runs(batch, results, threads) if flows is None else _by_flow(batch, results, threads, flows)
    )
    failures: dict[int, BaseException] = {}

    def work(share: Share) -> None:
        done = 0
        try:
            done, error = native.run_arrays(addresses_of(share), share.results, share.lengths)
            if error is not None:
                failures[int(share.numbers[done])] = error
        except Exception as error:
            failures[int(share.numbers[done])] = error

    others = [threading.Thread(target=work, args=(share,), name="pybpf-run") for share in shares[1:]]
    try:
        for thread in others:
            thread.start()
        for share in shares[:1]:
            work(share)
    finally:
        for thread in others:
            if thread.ident is not None:
                thread.join()
    if flows is not None:
        for share in shares:
            results[share.numbers] = share.results
    if failures:
        packet = min(failures)
        raise of_packet(packet, failures[packet])


def _runs(batch: PacketBatch, results: NDArray[np.uint64], threads: int) -> Iterator[Share]:
    import numpy as np

    numbers = np.arange(len(batch))
    for part in np.array_split(numbers, threads):
        if len(part):
            among = slice(int(part[0]), int(part[-1]) + 1)
            yield Share(batch.data, batch.offsets[among], batch.lengths[among], results[among], part)


def _by_flow(
    batch: PacketBatch, results: NDArray[np.uint64], threads: int, flows: NDArray[np.uint64]
) -> Iterator[Share]:
    import numpy as np

    thread = (flows % np.uint64(threads)).astype(np.uint16)  # numbers of 16 bits are sorted by radix
    order = np.argsort(thread, kind="stable")
    ends = np.cumsum(np.bincount(thread, minlength=threads))
    for numbers in np.split(order, ends[:-1]):
        if len(numbers):
            yield Share(batch.data, batch.offsets[numbers], batch.lengths[numbers], results[numbers], numbers)
