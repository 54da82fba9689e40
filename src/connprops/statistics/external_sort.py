"""Sort more values than memory holds: sorted runs on disk, merged into one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats, Ints
from connprops.arrays.sorted_samples import PIECE, Piece, SortedSamples
from connprops.errors import DatasetError

_RUN_READ_AT_LEAST = 1 << 12
"""Values read of a run at once, or reading would be mostly seeking."""


class SampleOnDisk(SortedSamples):
    """The sorted values of one group, in a file."""

    def __init__(self, file: Path, dtype: np.dtype[Any], size: int) -> None:
        self.counts = np.array([size])
        self.some = np.flatnonzero(self.counts)
        self._file, self._dtype, self._size = file, dtype, size
        self.low = self._read(0, min(size, 1))
        self.high = self._read(max(size - 1, 0), min(size, 1))

    def pieces(self) -> Iterator[Piece]:
        """Give the values in pieces of several blocks."""
        previous = None
        for start in range(0, self._size, PIECE):
            values = self._read(start, min(PIECE, self._size - start))
            one = np.array([values.size])
            yield Piece(values, slice(0, 1), np.zeros(1, np.int64), one, start, previous)
            previous = values[-1]

    def at(self, group: Ints, rank: Ints) -> Floats:  # noqa: ARG002 - there is but one group
        """Return the values of some ranks."""
        values = [self._read(place, 1) for place in rank.tolist()]
        return np.concatenate([np.empty(0, self._dtype), *values]).astype(np.float64)

    def count_below(self, groups: slice, edges: Floats) -> Ints:  # noqa: ARG002
        """Return how many values lie below each edge, (1, edges)."""
        below = np.zeros(edges.shape, dtype=np.int64)
        for piece in self.pieces():
            below += np.searchsorted(piece.x, edges)
        return below

    def _read(self, start: int, count: int) -> NDArray[Any]:
        return _read_values(self._file, self._dtype, start, count)


class ExternalSort:
    """Takes values in any order, and gives the finite ones sorted.

    Parameters
    ----------
    folder
        Where to write. The files are its owner's to remove.
    memory
        Bytes to use at most, about.
    """

    def __init__(self, folder: Path, memory: int) -> None:
        self._folder = folder
        self._memory = memory
        self._waiting: list[NDArray[Any]] = []
        self._dtype: np.dtype[Any] = np.dtype(np.float64)
        self._bytes = 0
        self._runs: list[tuple[Path, int]] = []

    def add(self, values: NDArray[Any]) -> None:
        """Take values, all of one type."""
        self._dtype = values.dtype
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)] + values.dtype.type(0)  # zeros of one sign
        self._waiting.append(values)
        self._bytes += values.nbytes
        if 3 * self._bytes > self._memory:  # the values, all of them together, and what sort takes
            self._write_run()

    def finish(self) -> SampleOnDisk:
        """Return the sorted sample."""
        self._write_run()
        size = sum(n for _, n in self._runs)
        if len(self._runs) == 1:
            return SampleOnDisk(self._runs[0][0], self._dtype, size)
        file = self._folder / "sorted.bin"
        with file.open("wb") as place:
            for values in self._merged():
                place.write(values.tobytes())
        for run, _ in self._runs:
            run.unlink()
        return SampleOnDisk(file, self._dtype, size)

    def _write_run(self) -> None:
        values = np.concatenate([np.empty(0, self._dtype), *self._waiting])
        self._waiting, self._bytes = [], 0
        if not values.size:
            return
        values.sort()
        file = self._folder / f"run-{len(self._runs)}.bin"
        values.tofile(file)
        self._runs.append((file, values.size))

    def _merged(self) -> Iterator[NDArray[Any]]:
        """Give the values of all runs in order.

        Of each run the next values are held. All values up to the least of the runs' last held ones
        can go, for what is still to be read is not below.
        """
        share = self._memory // (3 * self._dtype.itemsize * max(len(self._runs), 1))
        at_once = max(share, _RUN_READ_AT_LEAST)
        held = [np.empty(0, self._dtype)] * len(self._runs)
        taken = [0] * len(self._runs)
        while True:
            for i, (file, n) in enumerate(self._runs):
                if not held[i].size and taken[i] < n:
                    held[i] = _read_values(file, self._dtype, taken[i], min(at_once, n - taken[i]))
                    taken[i] += held[i].size
            unfinished = [h[-1] for h, t, (_, n) in zip(held, taken, self._runs, strict=True)
                          if t < n]  # fmt: skip
            if unfinished:
                cuts = [np.searchsorted(h, min(unfinished), side="right") for h in held]
            else:
                cuts = [np.intp(h.size) for h in held]
            ready = np.concatenate(
                [np.empty(0, self._dtype), *(h[:cut] for h, cut in zip(held, cuts, strict=True))]
            )
            if not ready.size:
                return
            ready.sort()
            yield ready
            held = [h[cut:] for h, cut in zip(held, cuts, strict=True)]


def _read_values(file: Path, dtype: np.dtype[Any], start: int, count: int) -> NDArray[Any]:
    if not count:
        return np.empty(0, dtype)
    values = np.fromfile(file, dtype=dtype, count=count, offset=start * dtype.itemsize)
    if values.size != count:
        raise DatasetError.of(
            f"The temporary file {file} is shorter than it was written",
            found=f"{file.stat().st_size:,} bytes",
            expected=f"at least {(start + count) * dtype.itemsize:,}",
            hint="something else removed or changed files in the temporary folder",
        )
    return values
