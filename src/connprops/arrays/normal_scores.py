"""Correlations of the normal variables beneath the values of groups, from normal scores.

A Gaussian copula with ties: Mehler's expansion of the scores' covariance, and standard errors from
the influence function. Correlations within classes are those of a one-way analysis of variance with
random effects. docs/numbers.md has the theory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.arrow import exponential, normal_quantile
from connprops.arrays.gather import run_rows, run_starts
from connprops.arrays.solvers import increasing_root

TERMS = 30
"""Terms of the expansion. What is left of it is one term more for each parity, so that the
covariance is exact at r = 1 and -1."""

FEWEST = 4
"""Pairs of values from which a correlation and its standard error are told."""

_BOUND = 0.999
_FIXED_POINT = 2.0**44
_REACH, _STEPS = 5.0, 64

_LOOP_FROM = 48
"""Mean size of a group from which one call of argsort for each beats one sort of all."""

_HALF, _NORMAL = 4, 1 << 62
"""Bytes of values that a number has room for next to a group and a class; and what is added to it,
since numbers with small exponents are all zero to a processor that is told so."""

_IN_CACHE = 1 << 15
"""Numbers that are worked on at once where several arrays of them are to stay in the cache."""

_SCORE, _SQUARE = 2.0**32, 2.0**28
"""Scores and squares are added up as whole numbers of these parts, so that no order matters."""


@dataclass(frozen=True)
class Scores:
    """Normal scores of one property in several groups.

    Attributes
    ----------
    starts, counts
        Rows of each group, which lie together: (g,).
    score
        Score of each row, of mean 0 in each group, (n,).
    order
        Rows in the order of group and value, (n,).
    tie
        Number of the distinct value at each row, (n,); those of a group follow each other.
    group_of_tie, threshold, jump
        For each distinct value its group, the normal quantile below it, and by how much its
        score is above that of the value before; 0 for the first of a group: (t,).
    coefficients
        h_1, h_2, ... of each group, (g, TERMS); all 0 for groups of one distinct value.
    """

    starts: Ints
    counts: Ints
    score: Floats
    order: Ints
    tie: Ints
    group_of_tie: Ints
    threshold: Floats
    jump: Floats
    coefficients: Floats

    @property
    def varies(self) -> Bools:
        """Return which groups have several values, (g,)."""
        return self.coefficients[:, 0] > 0

    @property
    def has_ties(self) -> Bools:
        """Return which groups have ties, (g,)."""
        return np.not_equal(self.coefficients[:, 0], 1.0)

    @cached_property
    def sorted(self) -> Floats:
        """Return the scores in the order of group and value."""
        return self.score[self.order]


def normal_scores(values: Floats, counts: Ints) -> Scores:
    """Return the normal scores of groups of finite values that follow each other, (n,)."""
    starts = np.cumsum(counts) - counts
    group = np.repeat(np.arange(counts.size), counts)
    order = np.lexsort((values, group))
    in_order = values[order]
    is_new = np.ones(values.size, dtype=np.bool_)
    is_new[1:] = (in_order[1:] != in_order[:-1]) | (group[1:] != group[:-1])
    first = np.flatnonzero(is_new)
    size = np.diff(first, append=values.size)
    of_tie = group[first]
    n, is_first = counts[of_tie], first == starts[of_tie]
    below = normal_quantile((first - starts[of_tie]) / n)
    threshold = np.where(is_first, 0.0, below)
    density = np.where(is_first, 0.0, exponential(-(threshold**2) / 2) / np.sqrt(2 * np.pi))
    above = np.where(np.append(is_first[1:], True), 0.0, np.append(density[1:], 0.0))
    mean = (density - above) * n / size
    first_tie = np.flatnonzero(is_first)
    variance = np.add.reduceat(mean**2 * size / n, first_tie) if first_tie.size else np.empty(0)
    free = np.add.reduceat(np.ones_like(size), first_tie) == counts if first_tie.size else is_first
    scale = np.where(free & (variance > 0), np.sqrt(variance), 1.0)
    mean /= scale[of_tie]
    jump = np.where(is_first, 0.0, np.diff(mean, prepend=0.0))
    tie = np.empty(values.size, dtype=np.int64)
    tie[order] = np.cumsum(is_new) - 1
    return Scores(
        starts, counts, mean[tie], order, tie, of_tie, threshold, jump,
        _coefficients(threshold, density * jump, first_tie, free & (variance > 0)),
    )  # fmt: skip


def _coefficients(threshold: Floats, weight: Floats, first_tie: Ints, free: Bools) -> Floats:
    """Return h_k: a step of height m at t adds m He_{k-1}(t) phi(t), by parts."""
    coefficients = np.zeros((first_tie.size, TERMS))
    coefficients[free, 0] = 1.0
    tied = np.flatnonzero(~np.repeat(free, np.diff(first_tie, append=threshold.size)))
    if not tied.size:
        return coefficients
    sizes = np.diff(first_tie, append=threshold.size)[~free]
    starts = np.cumsum(sizes) - sizes
    t, weight = threshold[tied], weight[tied]
    for k, polynomial in enumerate(_hermite(t, TERMS)):
        coefficients[~free, k] = np.add.reduceat(weight * polynomial, starts) / np.sqrt(k + 1)
    return coefficients


def _hermite(x: Floats, n: int) -> list[Floats]:
    """Return the first n Hermite polynomials He_k(x) / sqrt(k!)."""
    polynomials = [np.ones_like(x), x]
    for k in range(1, n - 1):
        polynomials.append((x * polynomials[k] - np.sqrt(k) * polynomials[k - 1]) / np.sqrt(k + 1))
    return polynomials[:n]


@dataclass(frozen=True)
class Latent:
    """Correlations of two properties in several groups, and their standard errors, each (g,)."""

    r: Floats
    std_error: Floats


def latent_correlations(a: Scores, b: Scores) -> Latent:
    """Return the correlations beneath two properties, whose rows are the same.

    NaN where a property has one value only, or pairs are fewer than :data:`FEWEST`; the standard
    error also where ties allow no more than that r is near 1 or -1.
    """
    told = np.flatnonzero(a.varies & b.varies & (a.counts >= FEWEST))
    r, std_error = np.full(a.counts.size, np.nan), np.full(a.counts.size, np.nan)
    if not told.size:
        return Latent(r, std_error)
    coefficients = _series(a, b)[told]
    covariance = (np.add.reduceat(a.score * b.score, a.starts) / a.counts)[told]
    ones = np.ones(told.size)

    def function(x: Floats) -> tuple[Floats, Floats]:
        value, slope = _polynomial(coefficients, x)
        return value - covariance, slope

    slope_at_0 = np.maximum(coefficients[:, 0], 1e-12)
    r[told] = increasing_root(function, -ones, ones, np.clip(covariance / slope_at_0, -1, 1))
    std_error[told] = _std_errors(a, b, r)[told] / _polynomial(coefficients, r[told])[1]
    std_error[(np.abs(r) > _BOUND) & (a.has_ties | b.has_ties)] = np.nan
    return Latent(r, std_error)


def _series(a: Scores, b: Scores) -> Floats:
    """Return the coefficients of r, r^2, ...: (g, TERMS + 2)."""
    series = a.coefficients * b.coefficients
    signs = np.where(np.arange(TERMS) % 2, 1.0, -1.0)
    highest = np.add.reduceat(a.sorted * b.sorted, a.starts) / a.counts
    backwards = 2 * np.repeat(a.starts, a.counts) + np.repeat(a.counts, a.counts) - 1
    reverse = b.sorted[backwards - np.arange(a.score.size)]
    lowest = np.add.reduceat(a.sorted * reverse, a.starts) / a.counts
    at_1, at_minus_1 = highest - series.sum(axis=1), lowest - (series * signs).sum(axis=1)
    odd, even = (at_1 - at_minus_1) / 2, (at_1 + at_minus_1) / 2
    return np.column_stack([series, odd, even])


def _polynomial(coefficients: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Return value and slope of polynomials without constant term, by Horner's scheme."""
    value, slope = np.zeros_like(x), np.zeros_like(x)
    for column in (*coefficients.T[::-1], np.zeros_like(x)):
        slope = slope * x + value
        value = value * x + column
    return value, slope


def _std_errors(a: Scores, b: Scores, r: Floats) -> Floats:
    """Return the standard errors of the covariances of scores, all else of the copula known."""
    influence = a.score * b.score - _of_thresholds(a, b, r) - _of_thresholds(b, a, r)
    mean = np.add.reduceat(influence, a.starts) / a.counts
    squares = (influence - np.repeat(mean, a.counts)) ** 2
    # Two degrees of freedom less, as with a correlation of known means.
    return np.sqrt(np.add.reduceat(squares, a.starts) / (a.counts * np.maximum(a.counts - 2, 1)))


def _of_thresholds(a: Scores, b: Scores, r: Floats) -> Floats:
    """Return what the thresholds of one property add to the influence of each row, but a constant.

    The other's expected score at a threshold is interpolated between points of a grid.
    """
    points = np.linspace(-_REACH, _REACH, _STEPS + 1)
    expected = np.zeros((r.size, points.size))
    power = np.ones_like(r)
    for k, polynomial in enumerate(_hermite(points, TERMS + 1)[1:]):
        power = power * np.nan_to_num(r)
        expected += (b.coefficients[:, k] * power)[:, None] * polynomial
    place = np.clip((a.threshold + _REACH) * (_STEPS / (2 * _REACH)), 0, _STEPS - 1e-9)
    left = place.astype(np.int64)
    low, high = expected[a.group_of_tie, left], expected[a.group_of_tie, left + 1]
    steps = a.jump * (low + (high - low) * (place - left))
    # Sums of whole numbers, which do not depend on the groups before, though they may overflow.
    total = np.cumsum(np.rint(steps * _FIXED_POINT).astype(np.int64))
    first = run_starts(a.group_of_tie)
    return (total - total[first][a.group_of_tie])[a.tie] / _FIXED_POINT


class Classes:
    """How values fall into classes, and these into groups: what several properties share.

    Attributes
    ----------
    sizes
        Number of values of each class, (k,).
    counts
        Number of classes of each group, (g,).
    """

    def __init__(self, sizes: Ints, counts: Ints) -> None:
        self.sizes, self.counts = sizes, counts
        self.filled = np.flatnonzero(counts)
        self.first: Ints = np.cumsum(counts[self.filled]) - counts[self.filled]

    @cached_property
    def n(self) -> Ints:
        """Return the number of values of each group that has classes."""
        return np.add.reduceat(self.sizes, self.first)

    @cached_property
    def powers(self) -> tuple[Floats, Floats]:
        """Return sums of squares and cubes of the sizes, of each group that has classes."""
        sizes = self.sizes.astype(np.float64)
        square = sizes * sizes
        return np.add.reduceat(square, self.first), np.add.reduceat(square * sizes, self.first)

    @cached_property
    def blocks(self) -> list[_Block]:
        """Return as many groups at once as the cache has room for."""
        blocks = []
        ends = np.cumsum(self.n)
        last_class = np.append(self.first[1:], self.sizes.size)
        first = 0
        while first < self.filled.size:
            start = ends[first] - self.n[first]
            last = max(int(np.searchsorted(ends, start + _IN_CACHE, side="right")), first + 1)
            classes = slice(self.first[first], last_class[last - 1])
            blocks.append(_Block(
                slice(start, ends[last - 1]), classes, slice(first, last), self.n[first:last],
                self.sizes[classes], last_class[first:last] - self.first[first:last],
            ))  # fmt: skip
            first = last
        return blocks

    def sums(self, values: NDArray[Any]) -> tuple[Floats, Floats]:
        """Return the sum of scores of each class, (k,), and of their squares, of filled groups.

        A value's score is the normal quantile of its rank within its group, of the middle of ties.
        """
        totals, squares = np.empty(self.sizes.size), np.empty(self.filled.size)
        for block in self.blocks:
            of_block = block.sums(values[block.rows])
            totals[block.classes], squares[block.groups] = of_block
        return totals / _SCORE, squares / _SQUARE


@dataclass(frozen=True)
class _Block:
    """Some groups: their values, their classes, and which of all those that are."""

    rows: slice
    classes: slice
    groups: slice
    n: Ints  # values of each group
    sizes: Ints  # values of each class
    counts: Ints  # classes of each group

    @cached_property
    def starts(self) -> Ints:
        """Where each group begins among the values."""
        return np.cumsum(self.n) - self.n

    @cached_property
    def scores(self) -> Floats:
        """Return what the ranks of all groups score where there are no ties."""
        rank = np.arange(self.n.sum()) - np.repeat(self.starts, self.n)
        return _whole_scores((rank + 0.5) / np.repeat(self.n, self.n))

    @cached_property
    def squares(self) -> Ints:
        """Return the sums of their squares in each group."""
        return np.add.reduceat(_whole_squares(self.scores), self.starts)

    def sums(self, values: NDArray[Any]) -> tuple[Floats, Ints]:
        """Return sums of scores of classes, and of squares of groups, both in whole numbers."""
        of_class, new = self._in_order(values)
        first = np.flatnonzero(new)
        scores, squares = self.scores, self.squares
        if first.size < values.size:
            scores, squares = self._with_ties(first, np.diff(first, append=values.size))
        totals: Floats = np.bincount(of_class, scores, self.sizes.size)  # type: ignore[assignment]
        return totals, squares

    def _with_ties(self, first: Ints, ties: Ints) -> tuple[Floats, Ints]:
        """Return the scores in order, and the sums of their squares."""
        tied = np.flatnonzero(ties > 1)
        first, ties = first[tied], ties[tied]
        group = np.searchsorted(self.starts, first, side="right") - 1
        rows = run_rows(first, ties)
        score = _whole_scores((first - self.starts[group] + ties / 2) / self.n[group])
        scores, squares = self.scores.copy(), self.squares.copy()
        np.subtract.at(squares, np.repeat(group, ties), _whole_squares(scores[rows]))
        np.add.at(squares, group, _whole_squares(score) * ties)
        scores[rows] = np.repeat(score, ties)
        return scores, squares

    def _in_order(self, values: NDArray[Any]) -> tuple[Ints, Bools]:
        """Return the class of each value in the order of group and value, and which are new."""
        new = np.ones(values.size, dtype=np.bool_)
        if values.dtype.itemsize > _HALF:
            order = self._order(values)
            ordered = values[order]
            np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
            new[self.starts] = True
            return np.repeat(np.arange(self.sizes.size), self.sizes)[order], new
        # Group, value and class side by side in one number: these are sorted in a third of the time
        # that it takes to put values in order. As floats, which positive ones may be, still sooner.
        bits = self.sizes.size.bit_length()
        group = np.repeat(np.arange(self.n.size), self.counts)
        key = np.repeat(_NORMAL + (group << (bits + 32)) + np.arange(self.sizes.size), self.sizes)
        key += _whole(values) << bits
        key.view(np.float64).sort()
        np.greater(key[1:] ^ key[:-1], (1 << bits) - 1, out=new[1:])
        key &= (1 << bits) - 1
        return key, new

    def _order(self, values: NDArray[Any]) -> Ints:
        """Return the rows in the order of group and value."""
        if values.size < _LOOP_FROM * self.n.size:
            return np.lexsort((values, np.repeat(np.arange(self.n.size), self.n)))
        return np.concatenate(
            [start + np.argsort(values[start : start + n])
             for start, n in zip(self.starts.tolist(), self.n.tolist(), strict=True)]
        )  # fmt: skip


def _whole(values: NDArray[Any]) -> Ints:
    """Return whole numbers from 0 up to 2^32 that are in the same order."""
    if values.dtype.kind == "u":
        return values.astype(np.int64)
    if values.dtype.kind == "f":
        values = (values.astype(np.float32) + np.float32(0)).view(np.int32)  # zeros have no sign
        values ^= (values >> 31) & 0x7FFFFFFF
    return values + np.int64(1 << 31)


def _whole_scores(p: Floats) -> Floats:
    """Return normal quantiles in parts of 1 / :data:`_SCORE`."""
    scores = normal_quantile(p)
    scores *= _SCORE
    return np.rint(scores, out=scores)


def _whole_squares(scores: Floats) -> Ints:
    """Return the squares of such scores in parts of 1 / :data:`_SQUARE`."""
    return np.rint((scores / _SCORE) ** 2 * _SQUARE).astype(np.int64)


def intraclass_correlations(values: NDArray[Any], classes: Classes) -> tuple[Floats, Floats]:
    """Return the intraclass correlations of groups, and their standard errors, (g,) each.

    ``values`` are those of each class, class after class, (n,); what is not finite is left out.
    NaN where fewer than two classes have two values or more, or all values are equal. Classes of
    one value take no part.
    """
    values, classes = _finite_of_several(values, classes)
    correlation, error = np.full((2, classes.counts.size), np.nan)
    filled, first, n = classes.filled, classes.first, classes.n
    if not filled.size:
        return correlation, error
    total, squares = classes.sums(values)
    of_classes = _sums(total**2 / classes.sizes, first)
    of_all = np.add.reduceat(np.rint(total * _SCORE).astype(np.int64), first) / _SCORE
    k = classes.counts[filled].astype(np.float64)
    second, third = classes.powers
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_size = (n - second / n) / (k - 1)
        between = (of_classes - of_all**2 / n) / (k - 1)
        within = np.maximum(squares - of_classes, 0.0) / (n - k)
        r = (between - within) / (between + (mean_size - 1) * within)
        r[(k < 2) | (squares == 0)] = np.nan  # noqa: PLR2004
        correlation[filled] = r
        error[filled] = _standard_error(r, n, k, mean_size, second, third)
    return correlation, error


def _finite_of_several(values: NDArray[Any], classes: Classes) -> tuple[NDArray[Any], Classes]:
    """Leave out values that are not finite, then classes of fewer than two values."""
    sizes, counts = classes.sizes, classes.counts
    finite = np.isfinite(values)
    if not finite.all():
        values, sizes = values[finite], np.add.reduceat(finite.astype(np.int64),
                                                        np.cumsum(sizes) - sizes)  # fmt: skip
    several = sizes > 1
    if not several.all():
        values = values[np.repeat(several, sizes)]
        counts = np.add.reduceat(several.astype(np.int64), np.cumsum(counts) - counts)
        sizes = sizes[several]
    return values, classes if sizes is classes.sizes else Classes(sizes, counts)


def _sums(terms: Floats, starts: Ints) -> Floats:
    """Return sums whose bits do not depend on the order of their terms."""
    return np.add.reduceat(np.rint(terms * _SQUARE).astype(np.int64), starts) / _SQUARE


def _standard_error(
    r: Floats, n: Ints, k: Floats, mean_size: Floats, second: Floats, third: Floats
) -> Floats:
    """Return the large-sample standard error for classes of unequal sizes (Smith 1957)."""
    r = np.clip(r, 0.0, 1.0)
    of_within = (1 + r * (mean_size - 1)) ** 2 / (n - k)
    uneven = second - 2 * third / n + (second / n) ** 2
    of_between = (k - 1) * (1 - r) * (1 + r * (2 * mean_size - 1)) + r**2 * uneven
    error: Floats = (1 - r) / mean_size * np.sqrt(2 * (of_within + of_between / (k - 1) ** 2))
    return error


def latent_intraclass(r: Floats, error: Floats, p: Floats) -> tuple[Floats, Floats]:
    """Return correlations within classes of the normal variables beneath values with ties.

    ``r`` are those of the scores and ``error`` their standard errors, (g,); ``p`` the shares of the
    distinct values in order, (g, k), padded with zeros.
    """
    upto = np.minimum(np.cumsum(p, axis=1), 1.0)
    held = p > 0
    score = np.where(held, normal_quantile(np.where(held, upto - p / 2, 0.5)), 0.0)
    variance = (p * score**2).sum(axis=1) - (p * score).sum(axis=1) ** 2
    inner = held[:, 1:] & (upto[:, :-1] < 1)
    threshold = np.where(inner, normal_quantile(np.where(inner, upto[:, :-1], 0.5)), 0.0)
    weight = np.where(inner, np.diff(score, axis=1), 0.0)
    weight *= exponential((-(threshold**2) / 2).ravel()).reshape(threshold.shape) / np.sqrt(
        2 * np.pi
    )
    terms = [(weight * polynomial).sum(axis=1) ** 2 / (k + 1)
             for k, polynomial in enumerate(_hermite(threshold, TERMS))]  # fmt: skip
    rest = np.maximum(variance - np.sum(terms, axis=0), 0.0)
    coefficients = np.stack([*terms, rest], axis=1) / variance[:, None]

    def function(x: Floats) -> tuple[Floats, Floats]:
        value, slope = _polynomial(coefficients, x)
        return value - np.maximum(r, 0.0), slope

    start = np.clip(r / coefficients[:, 0], 0.0, 1.0)
    root = increasing_root(function, np.zeros_like(r), np.ones_like(r), start)
    # Below 0 chance alone decides: it goes on as it begins.
    latent = np.where(r < 0, r / coefficients[:, 0], root)
    return latent, error / _polynomial(coefficients, np.maximum(latent, 0.0))[1]
