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
from connprops.arrays.arrow import exponential, logarithm
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


_MIDDLE = (
    (3.387132872796366608, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.1870074920579083, 5394.1960214247511077,
     21213.794301586595867, 39307.89580009271061, 28729.085735721942674, 5226.495278852545925),
)  # fmt: skip
_TAIL = (
    (1.42343711074968357734, 4.6303378461565452959, 5.7694972214606914055, 3.64784832476320460504,
     1.27045825245236838258, 0.24178072517745061177, 0.0227238449892691845833,
     7.7454501427834140764e-4),
    (1.0, 2.05319162663775882187, 1.6763848301838038494, 0.68976733498510000455,
     0.14810397642748007459, 0.0151986665636164571966, 5.475938084995344946e-4,
     1.05075007164441684324e-9),
)  # fmt: skip
_FAR_TAIL = (
    (6.6579046435011037772, 5.4637849111641143699, 1.7848265399172913358, 0.29656057182850489123,
     0.026532189526576123093, 0.0012426609473880784386, 2.71155556874348757815e-5,
     2.01033439929228813265e-7),
    (1.0, 0.59983220655588793769, 0.13692988092273580531, 0.0148753612908506148525,
     7.868691311456132591e-4, 1.8463183175100546818e-5, 1.4215117583164458887e-7,
     2.04426310338993978564e-15),
)  # fmt: skip
_MIDDLE_TO, _TAIL_TO = 0.425, 5.0


def normal_quantile(p: Floats) -> Floats:
    """Return the quantiles of the standard normal distribution; infinite at 0 and 1.

    Wichura (1988), algorithm AS 241, to 16 digits: SciPy's takes a tenth of a second to import.
    """
    quantiles, flat = np.empty(p.size), p.ravel()
    for start in range(0, p.size, _IN_CACHE):
        quantiles[start : start + _IN_CACHE] = _quantile_of_block(flat[start : start + _IN_CACHE])
    return quantiles.reshape(p.shape)


def _quantile_of_block(p: Floats) -> Floats:
    q = p - 0.5
    z = q * _ratio(_MIDDLE, 0.180625 - q * q)
    (outer,) = np.nonzero(np.abs(q) > _MIDDLE_TO)
    end = np.minimum(p[outer], 1 - p[outer])
    tail = np.sqrt(-logarithm(np.maximum(end, np.finfo(float).tiny)))
    far = _ratio(_TAIL, tail - 1.6)
    if (farther := np.flatnonzero(tail > _TAIL_TO)).size:
        far[farther] = _ratio(_FAR_TAIL, tail[farther] - _TAIL_TO)
    z[outer] = np.copysign(np.where(end > 0, far, np.inf), q[outer])
    return z


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    """Return a ratio of polynomials, whose coefficients begin with that of the power 0."""
    above, below = np.zeros_like(x), np.zeros_like(x)
    for a, b in zip(*(reversed(c) for c in coefficients), strict=True):
        above *= x
        above += a
        below *= x
        below += b
    above /= below
    return above


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
    first = np.flatnonzero(np.diff(a.group_of_tie, prepend=-1))
    return (total - total[first][a.group_of_tie])[a.tie] / _FIXED_POINT


def intraclass_correlations(
    values: NDArray[Any], sizes: Ints, counts: Ints
) -> tuple[Floats, Floats]:
    """Return the intraclass correlations of groups, and their standard errors, (g,) each.

    Parameters
    ----------
    values
        Those of each class, class after class, (n,); what is not finite is left out.
    sizes
        Number of values of each class, (k,).
    counts
        Number of classes of each group, (g,), of which all are positive.

    Returns
    -------
    tuple of numpy.ndarray
        NaN where fewer than two classes have two values or more, or all values are equal. Classes
        of one value take no part.
    """
    values, sizes, counts = _finite_of_several(values, sizes, counts)
    filled = np.flatnonzero(counts)
    correlation, error = np.full((2, counts.size), np.nan)
    if not filled.size:
        return correlation, error
    first = np.cumsum(counts[filled]) - counts[filled]
    n = np.add.reduceat(sizes, first)
    score, squares = _midrank_scores(values, n)
    total = np.add.reduceat(score, np.cumsum(sizes) - sizes) / _SCORE
    of_classes = _sums(total**2 / sizes, first)
    of_all = np.add.reduceat(np.rint(total * _SCORE).astype(np.int64), first) / _SCORE
    k = counts[filled].astype(np.float64)
    second, third = (np.add.reduceat(sizes.astype(np.float64) ** p, first) for p in (2, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_size = (n - second / n) / (k - 1)
        between = (of_classes - of_all**2 / n) / (k - 1)
        within = np.maximum(squares - of_classes, 0.0) / (n - k)
        r = (between - within) / (between + (mean_size - 1) * within)
        r[(k < 2) | (squares == 0)] = np.nan  # noqa: PLR2004
        correlation[filled] = r
        error[filled] = _standard_error(r, n, k, mean_size, second, third)
    return correlation, error


def _finite_of_several(
    values: NDArray[Any], sizes: Ints, counts: Ints
) -> tuple[NDArray[Any], Ints, Ints]:
    """Leave out values that are not finite, then classes of fewer than two values."""
    finite = np.isfinite(values)
    if not finite.all():
        values, sizes = values[finite], np.add.reduceat(finite.astype(np.int64),
                                                        np.cumsum(sizes) - sizes)  # fmt: skip
    several = sizes > 1
    if not several.all():
        values = values[np.repeat(several, sizes)]
        counts = np.add.reduceat(several.astype(np.int64), np.cumsum(counts) - counts)
        sizes = sizes[several]
    return values, sizes, counts


def _midrank_scores(values: NDArray[Any], counts: Ints) -> tuple[Ints, Floats]:
    """Return the normal quantile of each value's rank within its group, of the middle of ties.

    In parts of 1 / :data:`_SCORE`, (n,); and the sum of their squares in each group, (g,).
    """
    scores, squares = np.empty(values.size, dtype=np.int64), np.empty(counts.size)
    ends = np.cumsum(counts)
    first = 0
    while first < counts.size:  # as many groups as the cache has room for
        start = ends[first] - counts[first]
        last = max(int(np.searchsorted(ends, start + _IN_CACHE, side="right")), first + 1)
        own = slice(start, ends[last - 1])
        squares[first:last] = _scores_of_block(values[own], counts[first:last], scores[own])
        first = last
    return scores, squares


def _scores_of_block(values: NDArray[Any], counts: Ints, scores: Ints) -> Floats:
    """Write the scores of some groups, and return the sums of squares."""
    starts = np.cumsum(counts) - counts
    group = np.repeat(np.arange(counts.size), counts)
    if values.size < _LOOP_FROM * counts.size:
        order = np.lexsort((values, group))
    else:
        order = np.concatenate(
            [start + np.argsort(values[start : start + n])
             for start, n in zip(starts.tolist(), counts.tolist(), strict=True)]
        )  # fmt: skip
    ordered = values[order]
    new = np.ones(values.size, dtype=np.bool_)
    new[1:] = ordered[1:] != ordered[:-1]
    new[starts] = True
    first = np.flatnonzero(new)
    ties = np.diff(first, append=values.size)
    of_tie = group[first]
    score = normal_quantile((first - starts[of_tie] + ties / 2) / counts[of_tie])
    score = np.rint(score * _SCORE)
    scores[order] = np.repeat(score.astype(np.int64), ties)
    squares = np.rint((score / _SCORE) ** 2 * _SQUARE).astype(np.int64) * ties
    return np.add.reduceat(squares, np.searchsorted(first, starts)) / _SQUARE


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
