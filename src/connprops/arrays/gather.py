"""Runs of rows that are brought together, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats, Ints

_LONG_RUN = 100
"""Values from which copying a run beats picking its values."""


class Runs:
    """Runs of rows, to be taken from any number of columns.

    Attributes
    ----------
    counts
        Rows of each run, (n,).
    starts
        Where each run begins among the rows that are taken, (n,).
    """

    def __init__(self, first: Ints, counts: Ints) -> None:
        self.counts = counts
        ends = np.cumsum(counts)
        self.starts: Ints = ends - counts
        total = int(ends[-1]) if ends.size else 0
        # Runs that follow each other in the file, as those of a part do, are copied as one.
        breaks = np.flatnonzero(first[1:] != first[:-1] + counts[:-1]) + 1
        self._rows: Ints | None = None
        self._slices: list[slice] = []
        if breaks.size * _LONG_RUN > total:
            self._rows = run_rows(first, counts)
        elif total:
            begins = first[np.concatenate([[0], breaks])]
            lengths = np.diff(self.starts[breaks], prepend=0, append=total)
            self._slices = list(map(slice, begins.tolist(), (begins + lengths).tolist()))

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of a column, in an array of its own."""
        if self._rows is not None:
            return values[self._rows]
        return np.concatenate([values[:0], *(values[piece] for piece in self._slices)])

    def means(self, values: NDArray[Any]) -> Floats:
        """Return the mean of the finite values of each run, NaN where there is none."""
        x = self.of(values).astype(np.float64)
        finite, n = np.isfinite(x), self.counts
        if not finite.all():
            x[~finite] = 0.0
            n = np.add.reduceat(finite.astype(np.int64), self.starts)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = np.add.reduceat(x, self.starts) / n
            if np.isinf(mean).any():  # the sum is beyond the largest number, the mean is not
                scaled = np.add.reduceat(np.ldexp(x, -64), self.starts) / n
                mean = np.where(np.isinf(mean), np.ldexp(scaled, 64), mean)
        return np.asarray(mean)


def run_starts(*columns: NDArray[Any]) -> Ints:
    """Return the rows at which runs of equal rows begin, the first included."""
    begins = np.ones(columns[0].size, dtype=np.bool_)
    np.not_equal(columns[0][1:], columns[0][:-1], out=begins[1:])
    for values in columns[1:]:
        begins[1:] |= values[1:] != values[:-1]
    return np.flatnonzero(begins)


def run_rows(starts: Ints, counts: Ints) -> Ints:
    """Return the rows of runs that begin at ``starts`` and have ``counts`` rows, run after run.

    No run may be empty.
    """
    rows = np.ones(int(counts.sum()), dtype=starts.dtype)
    if starts.size:
        # Each row is one more than the one before, but where a run begins.
        rows[0] = starts[0]
        rows[np.cumsum(counts[:-1])] += starts[1:] - (starts[:-1] + counts[:-1])
    return np.cumsum(rows, dtype=rows.dtype, out=rows)


def by_id(ids: Ints, values: NDArray[Any]) -> NDArray[Any]:
    """Return an array that holds values at their ids, which ascend; -1 where no id is."""
    if not ids.size or ids[-1] == ids.size - 1:
        return values
    at_ids = np.full(int(ids[-1]) + 1, -1, dtype=values.dtype)
    at_ids[ids] = values
    return at_ids


def value_of(ids: Ints, at_ids: NDArray[Any]) -> NDArray[Any]:
    """Return what :func:`by_id` has of ids, -1 for those that are not among its own."""
    inside = (ids >= 0) & (ids < at_ids.size)
    if inside.all():
        return at_ids[ids]
    values = np.full(ids.shape, -1, dtype=at_ids.dtype)
    values[inside] = at_ids[ids[inside]]
    return values
