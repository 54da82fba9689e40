"""How far samples are from distributions, and what evidence for families they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.random_numbers import bits
from connprops.families.family import Family, Parameters
from connprops.families.sample import Sample

_CELLS, _TAIL_CELLS = 64, 24
_WIDEST, _NODES = 16, 128  # so many gaps between points are parted, at so many places
_FAR = 1e-9  # probability beyond which nothing is looked at
FOLDS = 5
_RANKS = 1 << 16  # ranks after which folds repeat
_LISTED, _LISTS_AT_ONCE = 512, 256  # whole numbers that are listed, and lists that are together


def _cumulated(sample: Sample) -> tuple[Floats, Floats]:
    """Return the shares of the sample before and up to each point, each (g, k)."""
    with np.errstate(invalid="ignore"):
        after = np.cumsum(sample.weight, axis=1) / sample.n[:, None]
    return np.concatenate([np.zeros_like(after[:, :1]), after[:, :-1]], axis=1), after


Sides = tuple[Floats, Floats]
"""Probabilities of values below each point of a sample, and up to it: (g, k) both."""


def ks(sample: Sample, family: Family, params: Parameters, sides: Sides | None = None) -> Floats:
    """Return the Kolmogorov-Smirnov distances of samples and distributions, (g,), from 0 to 1.

    Both sides of steps are compared; a thinned sample's is exact to 0.0016, half a cell's share.
    NaN where there are no values, or a parameter is NaN. ``sides`` are those of the sample's
    values by the distributions, if they are known.
    """
    before, after = _cumulated(sample)
    below, upto = sides or family.cdf_sides(sample.value, params)
    steps = np.maximum(np.abs(after - upto), np.abs(before - below))
    middle = np.abs((before + after) / 2 - (upto + below) / 2)
    distance = np.where(sample.exact[:, None], steps, middle)
    greatest = np.where(sample.weight > 0, distance, 0.0).max(axis=1)
    return np.where(sample.n > 0, greatest, np.nan)


TESTED_FROM = 20
"""Number of values from which on a distribution is tested."""

_SURELY, _VISIBLY = 1.63, 0.05


def is_rejected(distance: Floats, n: Floats) -> Bools:
    """Return whether Kolmogorov-Smirnov distances reject distributions, (g,).

    Of 20 values or more, a distance times root n above 1.63, which right distributions have in less
    than 1 % (fitted ones in fewer), that is also above 0.05.
    """
    with np.errstate(invalid="ignore"):
        surely = distance * np.sqrt(n) > _SURELY
        return np.asarray((n >= TESTED_FROM) & surely & (distance > _VISIBLY))


def wasserstein(
    sample: Sample, family: Family, params: Parameters, sides: Sides | None = None
) -> Floats:
    """Return the first Wasserstein distances of samples and distributions, (g,), in their unit.

    The area between the distribution functions: a sum over whole numbers for counts, trapezoids
    for continuous families, quantiles for lists and for counts that spread wide. ``sides`` are as
    in :func:`ks`.
    """
    if family.kind == "continuous":
        sides = sides or family.cdf_sides(sample.value, params)
        area = _area_between_points(sample, family, params, sides)
    else:
        low, high = _reach(sample, family, params)
        with np.errstate(over="ignore"):
            narrow = sample.whole & (high - low < _LISTED) & (family.name != "discrete")
        area = np.empty(len(sample))
        # Lists are as long as the longest that is made with them: like goes with like.
        listed = np.flatnonzero(narrow)
        listed = listed[np.argsort((high - low)[listed], kind="stable")]
        for start in range(0, listed.size, _LISTS_AT_ONCE):
            places = listed[start : start + _LISTS_AT_ONCE]
            parameters = _of_rows(params, places, len(sample))
            ends = low[places], high[places]
            area[places] = _area_over_counts(sample.take(places), family, parameters, *ends)
        if (places := np.flatnonzero(~narrow)).size:
            parameters = _of_rows(params, places, len(sample))
            area[places] = _area_by_quantiles(sample.take(places), family, parameters)
    return np.where(sample.n > 0, area, np.nan)


def _of_rows(params: Parameters, rows: NDArray[np.intp], n: int) -> dict[str, Floats]:
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in params.items()}
    return {name: a[rows] if a.shape[:1] == (n,) else a for name, a in arrays.items()}


def _reach(sample: Sample, family: Family, params: Parameters) -> tuple[Floats, Floats]:
    """Return between which values both the sample and all but 1e-9 of the distribution lie."""
    ends = (family.ppf(np.full(len(sample), q), params) for q in (_FAR, 1 - _FAR))
    low, high = ends
    return np.fmin(sample.min, low), np.fmax(sample.max, high)


def _area_over_counts(
    sample: Sample, family: Family, params: Parameters, low: Floats, high: Floats
) -> Floats:
    """Return the area between steps at the whole numbers from low to high."""
    value = low[:, None] + np.arange(int(np.max(high - low)) + 1)
    group, at, weight = sample.points()
    counts = np.zeros(value.shape)
    np.add.at(counts, (group, (at - low[group]).astype(np.intp)), weight)
    share = np.cumsum(counts, axis=1) / sample.n[:, None]
    apart = np.abs(family.cdf(value, params) - share)
    apart[value > high[:, None]] = 0.0  # no distance depends on how far others reach
    return np.asarray(apart.sum(axis=1))


@np.errstate(invalid="ignore", over="ignore", divide="ignore")
def _area_between_points(
    sample: Sample, family: Family, params: Parameters, sides: Sides
) -> Floats:
    """Return the area between the steps of a sample and a continuous distribution function."""
    value, step = sample.value, _cumulated(sample)[1][:, :-1]
    before, reached = sides
    length = np.diff(value, axis=1)
    low, high = reached[:, :-1] - step, before[:, 1:] - step
    area = _trapezoids(length, low, high)
    # The widest gaps, in the tails mostly, are parted: there the distribution is no straight line.
    gaps = min(_WIDEST, length.shape[1])
    if gaps:
        widest = np.argpartition(-length, gaps - 1, axis=1)[:, :gaps]
        start, width, level = (
            np.take_along_axis(x, widest, axis=1)[:, :, None] for x in (value[:, :-1], length, step)
        )
        parts = -(-_NODES // gaps)
        node = (start + width * (np.arange(parts + 1) / parts)).reshape(len(sample), -1)
        below, upto = (
            side.reshape(len(sample), gaps, -1) - level for side in family.cdf_sides(node, params)
        )
        fine = _trapezoids(width / parts, upto[:, :, :-1], below[:, :, 1:]).sum(axis=2)
        np.put_along_axis(area, widest, fine, axis=1)
    above = _beyond(sample.max, reached[:, -1], 1.0, family, params)
    below = _beyond(sample.min, reached[:, 0], 0.0, family, params)
    return np.asarray(area.sum(axis=1) + above + below)


def _trapezoids(width: Floats, left: Floats, right: Floats) -> Floats:
    """Return the areas beneath straight lines from left to right, all of it counted positive."""
    both = np.abs(left) + np.abs(right)
    crossed = (left**2 + right**2) / np.where(both > 0, both, 1.0)
    return np.asarray(width * np.where(left * right < 0, crossed, both) / 2)


def _beyond(
    value: Floats,
    reached: Floats,
    end: float,
    family: Family,
    params: Parameters,
) -> Floats:
    """Return the distance of the part beyond an extreme of the sample, times its mass.

    ``end`` is the probability there, 0 or 1, towards which cells narrow.
    """
    cut = 1 - np.linspace(1, 0, _TAIL_CELLS + 1) ** 3
    mass = end - reached
    middle = reached[:, None] + mass[:, None] * (cut[1:] + cut[:-1]) / 2
    middle = np.clip(middle, np.nextafter(0, 1), np.nextafter(1, 0))
    moved = np.abs(family.ppf(middle, params) - value[:, None])
    area = np.sum(np.diff(cut) * moved, axis=1) * np.abs(mass)
    return np.asarray(np.where(mass == 0, 0.0, area))


@np.errstate(invalid="ignore", over="ignore")
def _area_by_quantiles(sample: Sample, family: Family, params: Parameters) -> Floats:
    """Return the integral of the absolute difference of quantiles, in cells that steps part."""
    steps = _cumulated(sample)[1]
    # Cells narrow towards both ends, to 4e-6, where quantiles may grow without limit.
    inner = np.arange(1, _CELLS) / _CELLS
    inner = inner**3 / (inner**3 + (1 - inner) ** 3)
    inner = np.broadcast_to(inner, (len(sample), inner.size))
    sides = family.cdf_sides(family.ppf(inner, params), params)
    cut = np.concatenate([steps, inner, *sides], axis=1)
    order = np.argsort(cut, axis=1, kind="stable")
    end = np.take_along_axis(cut, order, axis=1)
    start = np.concatenate([np.zeros_like(end[:, :1]), end[:, :-1]], axis=1)
    is_step = order < steps.shape[1]
    point = np.minimum(np.cumsum(is_step, axis=1) - is_step, steps.shape[1] - 1)
    width = end - start
    # The distribution's own steps may come so near to 1 that the middle is rounded to it.
    middle = np.where(width > 0, np.minimum((start + end) / 2, np.nextafter(1, 0)), 0.5)
    moved = np.abs(np.take_along_axis(sample.value, point, axis=1) - family.ppf(middle, params))
    return np.asarray(np.sum(width * moved, axis=1))


# Evidence for families


def n_ends(family: Family) -> int:
    """Return how many parameters of a family are ends of its support."""
    return sum(parameter.name in ("min", "max") for parameter in family.parameters)


def aicc(loglik: Floats, free: Floats, ends: int, n: Floats) -> Floats:
    """Return the corrected information criterion of Akaike, ends of a support counted twice.

    Where n does not exceed the number of parameters by 2, the correction is as if it did.
    """
    regular = free - ends
    correction = regular * (regular + 1) / np.maximum(n - regular - 1, 1)
    return 2 * (free + ends + correction - loglik)


def bic(loglik: Floats, free: Floats, ends: int, n: Floats) -> Floats:
    """Return the information criterion of Schwarz, ends of a support counted twice."""
    return (free + ends) * np.log(n) - 2 * loglik


def of_unlisted(family: Family, sample: Sample) -> Floats:
    """Return what a list of values costs beyond its number of parameters, (g,), in nats.

    A value that occurs once is not listed without it: left out, it would be a stray one, spread
    evenly over the range of the sample.
    """
    if family.name != "discrete":
        return np.zeros_like(sample.n)
    once = np.count_nonzero(np.rint(sample.weight) == 1, axis=1)
    return np.asarray(once * np.log(sample.max - sample.min + 1))


def held_out(family: Family, sample: Sample) -> Floats:
    """Return minus twice the log-likelihood of values left out of the fit, (g,).

    Each value is left out once, in the fold that its rank gives. A fit to m values grants a share
    of 1/(m + 1) to strays, spread evenly over the sample's range.
    """
    deviance = np.zeros(len(sample))
    with np.errstate(over="ignore"):
        width = sample.max - sample.min + (1.0 if family.kind == "discrete" else 0.0)
    for fold in range(FOLDS):
        left_out = weight_of_fold(sample.weight, fold)
        training = sample.with_weights(np.maximum(sample.weight - left_out, 0.0))
        estimate = family.fit(training)
        n = training.n[:, None]
        with np.errstate(all="ignore"):
            density = np.exp(family.logpdf(sample.value, estimate.parameters))
            density = np.where(np.isfinite(density), density, 0.0)
            granted = (n * density + 1 / width[:, None]) / (n + 1)
            logs = np.where(left_out > 0, left_out * np.log(granted), 0.0)
        deviance -= 2 * logs.sum(axis=1)
    return deviance


def weight_of_fold(weight: Floats, fold: int, first: Ints | int = 0) -> Floats:
    """Return which weight of sorted samples' points, (g, k), is in a fold.

    Ranks are counted from ``first``, (g, 1), so that those left out together differ.
    """
    before = np.concatenate([[0], np.cumsum(fold_of_rank(np.arange(_RANKS)) == fold)])
    rank = np.round(np.cumsum(weight, axis=1)).astype(np.int64)
    rank = first + np.concatenate([np.zeros_like(rank[:, :1]), rank], axis=1)
    inside = rank // _RANKS * before[-1] + before[rank % _RANKS]
    return np.asarray(np.diff(inside, axis=1), dtype=np.float64)


def fold_of_rank(rank: Ints) -> Ints:
    """Return in which fold the value of a rank is left out: folds are as good as random."""
    hashed = bits(np.zeros(rank.shape, dtype=np.uint64), rank - 1)
    return (hashed % np.uint64(FOLDS)).astype(np.int64)
