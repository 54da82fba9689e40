"""Numbers of many sorted samples at once: moments, quantiles, distinct values, bins.

All follow from the sorted values alone, and all work is vectorised over the samples. The values may
lie in a memory map: they are worked on piece by piece, and sums are made of blocks of fixed size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.arrow import logarithm
from connprops.arrays.gather import run_rows

RANKS_AT_MOST = 256
"""Samples up to this size are kept whole as order statistics, larger ones thinned to about it."""

QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.50, "q75": 0.75, "q95": 0.95}

BLOCK = 1 << 16
"""Values that are summed together; a larger sample's sum is that of its blocks' sums."""

PIECE = 2 * BLOCK
"""Values that are worked on at once: as many as a processor's cache holds."""

_LOOP_FROM = 48
"""Mean size of a sample from which one call of sort for each beats one sort of all."""

_ALONE_FROM = 1 << 12
"""Size of a group from which it is a piece by itself, whose numbers need not be spread."""

_LARGEST_EXPONENT = 1000
"""Powers of two beyond this are not needed to bring the smallest numbers within range."""


@dataclass(frozen=True)
class Piece:
    """Consecutive sorted values: whole groups, or whole blocks of a group.

    ``groups`` says which of the groups with values they are of, ``starts`` and ``n`` where each of
    these lies in the piece, ``offset`` how many values of the sample come before, and ``previous``
    the value before, where it belongs to the first group too.
    """

    values: NDArray[Any]  # of the column's own type
    groups: slice
    starts: Ints
    n: Ints
    offset: int = 0
    previous: NDArray[Any] | None = None

    @property
    def x(self) -> Floats:
        """Return the values as float64."""
        return self.values.astype(np.float64)

    @property
    def new(self) -> Bools:
        """Return whether each value differs from the one before in its group."""
        new = np.ones(self.values.size, dtype=np.bool_)
        new[1:] = self.values[1:] != self.values[:-1]
        new[self.starts] = True
        if self.previous is not None:
            new[0] = bool(self.values[0] != self.previous)
        return new

    @property
    def blocks(self) -> Ints:
        """Return where the blocks begin that are summed apart."""
        if self.n.size == 0 or int(self.n.max()) <= BLOCK:
            return self.starts
        return np.concatenate(
            [np.arange(start, start + n, BLOCK) for start, n in zip(self.starts.tolist(),
                                                                    self.n.tolist(), strict=True)]
        )  # fmt: skip

    def spread(self, of_some: NDArray[Any]) -> NDArray[Any]:
        """Return numbers of the groups with values as numbers of the piece's values.

        Where that is the same number for all of them, it comes alone, (1,).
        """
        of_groups: NDArray[Any] = of_some[self.groups]
        return of_groups if self.n.size == 1 else np.repeat(of_groups, self.n)


class SortedSamples:
    """Finite values sorted within each group, one group after the other in one array.

    Attributes
    ----------
    counts
        Number of values of each group, zero included, (g,).
    filled
        The groups that have any, (s,).
    n
        Their counts, (s,).
    low, high
        Their extremes, of the column's own type, (s,).
    """

    def __init__(self, values: NDArray[Any], counts: Ints) -> None:
        self.counts = counts
        self.filled = np.flatnonzero(counts)
        self.n = counts[self.filled]
        self._values = values
        self._ends = np.cumsum(self.n)
        self._starts = self._ends - self.n
        self._alone = np.append(np.flatnonzero(self.n >= min(_ALONE_FROM, PIECE)), self.filled.size)
        self.low, self.high = values[self._starts], values[self._ends - 1]

    def spread(self, of_some: NDArray[Any], fill: float = np.nan) -> NDArray[Any]:
        """Return numbers of the groups with values as numbers of all groups."""
        if self.filled.size == self.counts.size:
            return of_some
        full = np.full((self.counts.size, *of_some.shape[1:]), fill, dtype=np.float64)
        full[self.filled] = of_some
        return full

    def of_at_least(self, least: int) -> SortedSamples:
        """Return the samples of so many values at least; the groups of the others have none."""
        chosen = self.n >= least
        if chosen.all():
            return self
        counts = np.where(self.counts >= least, self.counts, 0)
        return SortedSamples(self._values[np.repeat(chosen, self.n)], counts)

    def pieces(self) -> Iterator[Piece]:
        """Give groups together as far as they are small, and large ones in blocks."""
        first = 0
        while first < self.filled.size:
            start = int(self._starts[first])
            alone = int(self._alone[np.searchsorted(self._alone, first)])
            if alone == first:
                yield from self._pieces_of(first)
                stop = first + 1
            else:
                within = int(np.searchsorted(self._ends, start + PIECE, side="right"))
                stop = min(within, alone)
                groups = slice(first, stop)
                values = self._values[start : int(self._ends[stop - 1])]
                n = self._ends[groups] - self._starts[groups]
                yield Piece(values, groups, self._starts[groups] - start, n, start)
            first = stop

    def _pieces_of(self, group: int) -> Iterator[Piece]:
        """Give the values of one group."""
        begin, end = int(self._starts[group]), int(self._ends[group])
        for start in range(begin, end, PIECE):
            values = self._values[start : min(start + PIECE, end)]
            previous = self._values[start - 1] if start > begin else None
            n = np.array([values.size])
            yield Piece(values, slice(group, group + 1), n * 0, n, start, previous)

    def at(self, group: Ints, rank: Ints) -> Floats:
        """Return the values of some ranks, each of one of the groups with values."""
        values: Floats = self._values[self._starts[group] + rank].astype(np.float64)
        return values

    def of_one(self, group: int) -> NDArray[Any]:
        """Return the values of one of the groups with values."""
        return self._values[self._starts[group] : self._ends[group]]

    def of_several(self, groups: Ints) -> NDArray[Any]:
        """Return the values of several of the groups with values."""
        return self._values[run_rows(self._starts[groups], self.n[groups])]


def sort_samples(raw: NDArray[Any], counts: Ints) -> SortedSamples:
    """Sort each group's values, in place, so ``raw`` is lost; leave out what is not finite."""
    values, n = raw, counts[counts > 0]
    starts = np.cumsum(n) - n
    if n.size and values.size / n.size < _LOOP_FROM:
        values = values[np.lexsort((values, np.repeat(np.arange(n.size), n)))]
    else:
        for start, stop in zip(starts.tolist(), (starts + n).tolist(), strict=True):
            values[start:stop].sort()
    if values.dtype.kind == "f" and n.size:
        low, high = values[starts], values[starts + n - 1]  # NaN is sorted to the end
        all_finite = (np.isfinite(low) & np.isfinite(high)).all()
        if not all_finite:
            finite = np.isfinite(values)
            values, counts = values[finite], counts.copy()
            counts[counts > 0] = np.add.reduceat(finite.astype(np.int64), starts)
        if not all_finite or (low <= 0).any():
            values += values.dtype.type(0)  # zeros all have the same sign
    return SortedSamples(values, counts)


def append_to_file(file: Path, values: NDArray[Any]) -> None:
    """Write the finite values of some to the end of a file."""
    with file.open("ab") as end:
        (values[np.isfinite(values)] if values.dtype.kind == "f" else values).tofile(end)


def sort_file(file: Path, dtype: np.dtype[Any]) -> SortedSamples:
    """Return the values of a file as a sample; the system keeps in memory what fits."""
    size = file.stat().st_size // dtype.itemsize
    values = np.memmap(file, dtype, "r+", shape=(size,)) if size else np.empty(0, dtype)
    return sort_samples(np.asarray(values), np.array([size]))


def smallest(key: NDArray[np.uint64], counts: Ints, limit: int, *, large: int = 100) -> Bools:
    """Return which rows have the smallest keys of their group; of equal keys, the first rows.

    ``large`` is the mean size from which groups are looked at one by one.
    """
    starts = np.cumsum(counts) - counts
    above = np.flatnonzero(counts > limit)
    if above.size * large > key.size:  # many small ones: all at once
        order = np.lexsort((key, np.repeat(np.arange(counts.size), counts)))
        rank = np.arange(key.size) - np.repeat(starts, counts)
        kept = np.zeros(key.size, dtype=np.bool_)
        kept[order[rank < limit]] = True
        return kept
    kept = np.ones(key.size, dtype=np.bool_)
    for i in above.tolist():
        of_group = slice(starts[i], starts[i] + counts[i])
        largest = np.partition(key[of_group], limit - 1)[limit - 1]
        chosen = key[of_group] < largest
        equal = np.flatnonzero(key[of_group] == largest)
        chosen[equal[: limit - np.count_nonzero(chosen)]] = True
        kept[of_group] = chosen
    return kept


def _totals(
    sample: SortedSamples, terms: Callable[[Piece], Iterable[Floats | None]]
) -> tuple[Floats, ...]:
    """Return sums over the values of each group, (s,) each, of several terms; None is all zeros.

    Numpy adds pairwise within a block, and the sums of blocks, whatever piece a block comes with.
    """
    of_blocks: list[list[Floats]] = []
    for piece in sample.pieces():
        blocks = piece.blocks
        for i, numbers in enumerate(terms(piece)):
            if i == len(of_blocks):
                of_blocks.append([])
            of_blocks[i].append(
                np.zeros(blocks.size) if numbers is None else np.add.reduceat(numbers, blocks)
            )
    n_blocks = -(-sample.n // BLOCK)
    first = np.cumsum(n_blocks) - n_blocks
    return tuple(np.add.reduceat(np.concatenate(sums), first) for sums in of_blocks)


def moments(sample: SortedSamples, *, of_logs: bool = True) -> dict[str, Floats]:
    """Return mean, std, min, max, skewness, kurtosis, mean_log, std_log of each group.

    One pass adds up powers of the distance from the median; docs/numbers.md says why. Without
    ``of_logs``, moments of logarithms are NaN.
    """
    n = sample.n
    if not n.size:
        return {name: np.full(sample.counts.size, np.nan) for name in MOMENTS}
    low, high = sample.low.astype(np.float64), sample.high.astype(np.float64)
    median = sample.at(np.arange(n.size), n // 2)
    # Powers of two keep squares of very large and very small numbers within range, exactly.
    exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1]
    scale = np.ldexp(1.0, np.minimum(-exponent, _LARGEST_EXPONENT))
    extreme = ~((scale > 1e-60) & (scale < 1e60)) & (scale > 0)  # noqa: PLR2004
    scale = np.where(extreme, scale, 1.0)
    centre = median * scale
    room = np.ldexp(1.0, np.frexp(n + 1.0)[1])  # the power of two from n + 2 on
    # Next to this power of two, above all partial sums, only leading digits have room.
    above = np.ldexp(room, np.frexp(np.maximum(np.abs(low), np.abs(high)) * scale)[1])
    above[(low >= 0) | (high <= 0)] = 0.0  # nothing cancels: all digits are leading ones
    positive = (low > 0) & of_logs
    log_centre = logarithm(np.where(positive, median, 1.0))

    def powers(piece: Piece) -> Iterator[Floats | None]:
        x = piece.x
        scaled = x * piece.spread(scale) if extreme.any() else x
        if above[piece.groups].any():
            yield from _digits(scaled, piece.spread(above), piece.spread(room))
        else:
            yield from (scaled, None, None)
        d = scaled - piece.spread(centre)
        yield d
        square = d * d
        yield square
        d *= square
        yield d
        square *= square
        yield square
        if positive[piece.groups].any():
            inside = x if positive[piece.groups].all() else np.where(x > 0, x, 1.0)
            log = logarithm(inside) - piece.spread(log_centre)
            yield log
            log *= log
            yield log
        else:
            yield from (None, None)

    leading, following, rest, *sums = _totals(sample, powers)
    s1, s2, s3, s4, log1, log2 = (total / n for total in sums)
    with np.errstate(over="ignore"):  # rounding up beyond the largest number
        mean = np.clip(((leading + following) + rest) / n / scale, low, high)
    m2, skewness, kurtosis = _about_mean(s1, s2, s3, s4, low == high)
    std_log = np.where(low == high, 0.0, np.sqrt(np.maximum(log2 - log1 * log1, 0.0)))
    statistics = {
        "mean": mean,
        "std": np.sqrt(m2) / scale,
        "min": low,
        "max": high,
        "skewness": skewness,
        "kurtosis": kurtosis,
        "mean_log": np.where(positive, log_centre + log1, np.nan),
        "std_log": np.where(positive, std_log, np.nan),
    }
    return {name: sample.spread(numbers) for name, numbers in statistics.items()}


def _about_mean(
    s1: Floats, s2: Floats, s3: Floats, s4: Floats, constant: Bools
) -> tuple[Floats, Floats, Floats]:
    """Return variance, skewness and kurtosis from mean powers of the distance from any centre."""
    m2 = np.maximum(s2 - s1 * s1, 0.0)
    m2[constant] = 0.0
    square = s1 * s1
    m3 = s3 - 3 * s1 * s2 + 2 * square * s1
    m4 = s4 - 4 * s1 * s3 + 6 * square * s2 - 3 * square * square
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(m2 > 0, m3 / (m2 * np.sqrt(m2)), np.nan)
        kurtosis = np.where(m2 > 0, m4 / (m2 * m2) - 3.0, np.nan)
    return m2, skewness, kurtosis


def _digits(x: Floats, above: Floats, room: Floats) -> Iterator[Floats]:
    """Give values as sums of three: their leading digits, those that follow, and the rest."""
    for _ in range(2):
        leading = (above + x) - above
        yield leading
        x = x - leading
        above = above * room * np.finfo(np.float64).eps
    yield x


OF_LOGS = ("mean_log", "std_log")
MOMENTS = ("mean", "std", "min", "max", "skewness", "kurtosis", *OF_LOGS)


def quantiles(sample: SortedSamples) -> dict[str, Floats]:
    """Return quantiles by linear interpolation (Hyndman and Fan 1996, definition 7)."""
    by_name = {}
    group = np.arange(sample.filled.size)
    for name, q in QUANTILES.items():
        place = q * (sample.n - 1)
        below = np.floor(place).astype(np.int64)
        t = place - below
        a = sample.at(group, below)
        b = sample.at(group, np.minimum(below + 1, sample.n - 1))
        # From the nearer end, so that equal neighbours give their value exactly.
        with np.errstate(over="ignore", invalid="ignore"):
            step = b - a
            between = np.where(t < 0.5, a + step * t, b - step * (1 - t))  # noqa: PLR2004
        by_name[name] = sample.spread(np.where(np.isinf(step), a * (1 - t) + b * t, between))
    return by_name


def count_distinct(sample: SortedSamples) -> Ints:
    """Return the number of distinct values of each group, 0 for an empty one."""
    counts = np.zeros(sample.counts.size, dtype=np.int64)
    for piece in sample.pieces():
        new = piece.new
        counts[sample.filled[piece.groups]] += (
            np.count_nonzero(new)
            if piece.n.size == 1
            else np.add.reduceat(new.astype(np.int64), piece.starts)
        )
    return counts


def distinct_values(sample: SortedSamples, wanted: Bools) -> tuple[Ints, Floats, Ints]:
    """Return the distinct values of the wanted ones among the groups with values.

    For each value: which of the groups with values it is of, the value, and how often.
    """
    groups, values, places = [np.empty(0, np.int64)], [np.empty(0)], [np.empty(0, np.int64)]
    for piece in sample.pieces():
        if not wanted[piece.groups].any():
            continue
        at = np.flatnonzero(piece.new & piece.spread(wanted))
        of_piece = np.searchsorted(piece.starts, at, side="right") - 1
        groups.append(piece.groups.start + of_piece)
        values.append(piece.values[at].astype(np.float64))
        places.append(piece.offset + at)
    group, place = np.concatenate(groups), np.concatenate(places)
    end = np.cumsum(sample.n)[group]
    following = np.append(place[1:], end[-1:])
    count = np.minimum(following, end) - place
    return group, np.concatenate(values), count


@lru_cache(maxsize=4096)
def ranks(n: int) -> Ints:
    """Return the ranks that order statistics of a sample of size n are kept at.

    Large samples: evenly spaced, with more towards both ends, at doubling distances.
    """
    if n <= RANKS_AT_MOST:
        return np.arange(n)
    even = np.round(np.linspace(0, n - 1, RANKS_AT_MOST // 2 + 1)).astype(np.int64)
    tail = 2 ** np.arange(int(math.log2(n / (RANKS_AT_MOST // 2))) + 1, dtype=np.int64)
    return np.unique(np.concatenate([even, tail, n - 1 - tail]))
