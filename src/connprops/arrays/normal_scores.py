"""Correlations of the normal variables beneath the values of groups, from normal scores.

A Gaussian copula with ties: Mehler's expansion of the scores' covariance, and standard errors from
the influence function. docs/numbers.md has the theory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.arrow import exponential
from connprops.arrays.solvers import increasing_root

TERMS = 30
"""Terms of the expansion. What is left of it is one term more for each parity, so that the
covariance is exact at r = 1 and -1."""

FEWEST = 4
"""Pairs of values from which a correlation and its standard error are told."""

_BOUND = 0.999
_FIXED_POINT = 2.0**44
_REACH, _STEPS = 5.0, 64


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
    from scipy.special import ndtri  # a tenth of a second to import, and not always needed

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
    below = ndtri((first - starts[of_tie]) / n)
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
    found = np.zeros((first_tie.size, TERMS))
    found[free, 0] = 1.0
    tied = np.flatnonzero(~np.repeat(free, np.diff(first_tie, append=threshold.size)))
    if not tied.size:
        return found
    sizes = np.diff(first_tie, append=threshold.size)[~free]
    starts = np.cumsum(sizes) - sizes
    t, weight = threshold[tied], weight[tied]
    for k, polynomial in enumerate(_hermite(t, TERMS)):
        found[~free, k] = np.add.reduceat(weight * polynomial, starts) / np.sqrt(k + 1)
    return found


def _hermite(x: Floats, n: int) -> list[Floats]:
    """Return the first n Hermite polynomials He_k(x) / sqrt(k!)."""
    found = [np.ones_like(x), x]
    for k in range(1, n - 1):
        found.append((x * found[k] - np.sqrt(k) * found[k - 1]) / np.sqrt(k + 1))
    return found[:n]


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
    one = np.ones(told.size)

    def function(x: Floats) -> tuple[Floats, Floats]:
        value, slope = _polynomial(coefficients, x)
        return value - covariance, slope

    slope_at_0 = np.maximum(coefficients[:, 0], 1e-12)
    r[told] = increasing_root(function, -one, one, np.clip(covariance / slope_at_0, -1, 1))
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
    first = np.flatnonzero(np.diff(a.group_of_tie, prepend=-1))
    return (total - total[first][a.group_of_tie])[a.tie] / _FIXED_POINT
