"""Hierarchical estimates of distributions between two ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.gather import run_starts
from connprops.arrays.trigamma import trigamma
from connprops.distributions.distributions import Distributions
from connprops.families.bounded import (
    TRUNCNORM,
    Shape,
    shape_variances,
    truncated_shape,
    truncated_shape_of,
)
from connprops.families.family import Family
from connprops.families.sample import Sample
from connprops.fits.fitted import Parameters
from connprops.fits.shrinkage.hierarchy import LEAST, Hierarchy, Moved
from connprops.fits.shrinkage.scales import (
    foretold_log_scale,
    freedom_of,
    shrunk_log_scale,
)

_PAIR = 2
_SHAPES_FROM = (20, 10, 6, 4)
"""Values from which on a pathway's own shape between ends counts, if enough pathways have them."""

_LEAST_DENSITY = 0.05
_LEAST_C = 1e-2
_SHAPE_FROM = 4

_SOFTENED = 8
"""Power of a distribution's share in the variance of its values that goes with its kurtosis where
ends are uncertain. Of a sum it is 2; but ends are sharp, and values beyond would cost too much."""

_OWN_SHAPE_FROM = 200
"""Values from which on a pathway's own shape between ends counts, alone and not with others."""

# Distributions between two ends: shape, then distance and middle of the ends


def between_ends(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return truncated normal and uniform distributions.

    Their shape is exp(b t - c t^2 / 2), t being the distance from the middle of the ends in units
    of that between them. Distance and middle are estimated by the extremes, or by mean and standard
    deviation where these say more: extremes of n values fall short of the ends by
    1 / ((n - 1) f) on average, f being the density there, with an error of that size.
    """
    n, b, c = sample.n, np.zeros_like(sample.n), np.zeros_like(sample.n)
    v_b = v_c = np.zeros_like(n)
    weights: list[Floats] = []
    if cut := own.family.name == TRUNCNORM.name:
        b, c, v_b, v_c, weights = _own_shapes(sample, hierarchy)
    shape = truncated_shape(b, c)
    unit = shape.std * np.sqrt(n)
    gap_low, gap_high = (1 / np.maximum(f, _LEAST_DENSITY) for f in (shape.low, shape.high))
    spread = (gap_low**2 + gap_high**2) / 2

    freedom = np.where(n > _PAIR, 2 / (2 / (n - 1) + shape.kurtosis / n), n - 1)
    freedom = np.where(n > 1, freedom, np.nan)
    half = freedom / 2
    by_std = (
        np.log(sample.std / shape.std)
        + (np.log(n / (n - 1)) + np.log(half) - special.psi(half)) / 2
    )
    v_std = trigamma(half) / 4
    by_range = np.log(sample.max - sample.min) + np.log1p((gap_low + gap_high) / (n - 1))
    v_range = spread * ((n - 1) ** -2.0 + n**-2.0)
    ranged = v_range < v_std
    own_width = np.where(ranged, by_range, by_std)
    log_width, v_width, weight = hierarchy.toward(own_width, np.where(ranged, v_range, v_std))
    width = np.exp(log_width)
    by_mean = sample.mean - width * shape.mean
    v_mean = (width * unit / n) ** 2
    by_extremes = (sample.min + sample.max + width * (gap_high - gap_low) / (n + 1)) / 2
    v_extremes = spread * width**2 / (2 * (n + 1) * (n + 2))
    extreme = (v_extremes < v_mean) & (n > _PAIR)
    middle, v_middle, other = hierarchy.toward(
        np.where(extreme, by_extremes, by_mean), np.where(extreme, v_extremes, v_mean)
    )
    weights += [weight, other]
    wider = foretold_log_scale(log_width, v_width, own_width) - log_width
    new = _widened(shape, b, c, log_width, wider, middle, v_middle, own.family)
    if cut:
        end = np.sqrt(v_middle + width**2 * v_width / 4)
        new = _farther(new, np.where(ranged & extreme, end, 0.0), sample)
    new["min"], new["max"] = np.fmin(new["min"], sample.min), np.fmax(new["max"], sample.max)
    errors = dict.fromkeys(new, np.full_like(n, np.nan))
    if cut:  # delta method, what is known of b and c being independent
        errors["norm_loc"] = np.sqrt(v_middle + width**2 * (v_b / c**2 + b**2 * v_c / c**4))
        errors["norm_scale"] = new["norm_scale"] * np.sqrt(v_width + v_c / (4 * c**2))
    return new, errors, weights


def _farther(law: Parameters, error: Floats, sample: Sample) -> Parameters:
    """Return truncated normal distributions whose ends, known by extremes, lie farther out.

    A value beyond an end costs most. Mean and standard deviation stay, unless a sample reaches even
    farther: it is not like its level then, whose mean and deviation say little of it.
    """
    law = law | {"min": law["min"] - error, "max": law["max"] + error}
    holds = (law["min"] <= sample.min) & (law["max"] >= sample.max)
    at = np.flatnonzero((error > 0) & holds)
    inner = {"min": (law["min"] + error)[at], "max": (law["max"] - error)[at]}
    inner = {name: inner.get(name, values[at]) for name, values in law.items()}
    mean, std = TRUNCNORM.mean(inner), TRUNCNORM.std(inner)
    part = replace(sample.take(at), mean=mean, std=std, min=law["min"][at], max=law["max"][at])
    for name, values in TRUNCNORM.fit(part).parameters.items():
        law[name][at] = values
    return law


def _widened(
    shape: Shape,
    b: Floats,
    c: Floats,
    log_width: Floats,
    v_width: Floats,
    middle: Floats,
    v_middle: Floats,
    family: Family,
) -> Parameters:
    """Return distributions with the moments that a value has, ends being uncertain."""
    centre = middle + np.exp(log_width + v_width / 2) * shape.mean
    inner = np.exp(2 * (log_width + v_width)) * shape.std**2
    square = inner + v_middle
    if family.name == TRUNCNORM.name:
        own = inner / square
        b, c = truncated_shape_of(shape.skewness * own**1.5, shape.kurtosis * own**_SOFTENED, b, c)
        shape = truncated_shape(b, c)
    width = np.sqrt(square) / shape.std
    middle = centre - width * shape.mean
    new = {"min": middle - width / 2, "max": middle + width / 2}
    if family.name == TRUNCNORM.name:
        new = {"norm_loc": middle + width * b / c, "norm_scale": width / np.sqrt(c), **new}
    return new


def _own_shapes(
    sample: Sample, hierarchy: Hierarchy
) -> tuple[Floats, Floats, Floats, Floats, list[Floats]]:
    """Return b and c, their variances and the levels' weights.

    Given the extremes, the other values are a sample of the same distribution cut off there, whose
    shape has no bias by the extremes; the true ends lie farther out. Estimates of c from few values
    are biased, so that small pathways of the same classes give one estimate together.
    """
    n, low, width = sample.n, sample.min, sample.max - sample.min
    others = np.maximum(n - 2, 1)
    mean = (n * sample.mean - low - sample.max) / others
    square = (n * (sample.std**2 + sample.mean**2) - low**2 - sample.max**2) / others - mean**2
    usable = (n >= _SHAPE_FROM) & (width > 0) & (square > 0)
    large = usable & (n >= _OWN_SHAPE_FROM)
    rows = np.flatnonzero(usable)
    # One estimate for each large pathway, and one for the small ones of each pair of classes, which
    # stands in the row of the largest of them.
    group = np.where(large, np.arange(n.size), n.size)[rows]
    classes = np.append(hierarchy.keys[3], np.full(hierarchy.member.size, -1))[rows]
    group = np.where(large[rows], group, n.size + 1 + classes)
    order = np.lexsort((square[rows], mean[rows], -n[rows], group))
    rows, group = rows[order], group[order]
    starts = run_starts(group)
    at = rows[starts]

    def total(x: Floats) -> Floats:
        return np.add.reduceat(others[rows] * x, starts) if rows.size else x

    count = total(np.ones(rows.size))
    first = total((mean - low)[rows] / width[rows]) / count
    second = (
        total(square[rows] / width[rows] ** 2 + ((mean - low)[rows] / width[rows]) ** 2) / count
    )
    unit = np.ones_like(first)
    within = TRUNCNORM.fit(
        replace(
            sample.take(at), n=count, mean=first, std=np.sqrt(second - first**2), min=0 * unit,
            max=unit,
        )
    ).parameters  # fmt: skip
    c_within = within["norm_scale"] ** -2.0
    b_within = (within["norm_loc"] - 0.5) * c_within
    shape = truncated_shape(b_within, c_within)
    gaps = 1 / np.maximum(shape.low, _LEAST_DENSITY) + 1 / np.maximum(shape.high, _LEAST_DENSITY)
    farther = 1 + np.minimum(gaps * total(1 / (n[rows] - 1)) / count, 1)
    b, c, v_b, v_c = np.full((4, n.size), np.nan)
    # Each pathway has the estimate of all, and the error of its own share in it.
    of_row = np.cumsum(np.isin(np.arange(rows.size), starts)) - 1
    b[rows], c[rows] = (b_within * farther)[of_row], (c_within * farther**2)[of_row]
    weight = np.where(usable, others, 0.0)
    unit_b, unit_c = shape_variances(hierarchy.average(b, weight), hierarchy.average(c, weight))
    share, farther = others[rows], farther[of_row]
    v_b[rows], v_c[rows] = unit_b * farther**2 / share, unit_c * farther**4 / share
    b, v_b, weight_b = hierarchy.toward(b, v_b, least=1)
    c, v_c, weight_c = hierarchy.toward(c, v_c, least=1)
    return b, np.maximum(c, _LEAST_C), v_b, v_c, [weight_b, weight_c]


def beta(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return beta distributions: shapes, then standard deviation and mean, which give the ends."""
    n, values, weights = sample.n, own.parameters, []
    enough = next((least for least in _SHAPES_FROM if np.count_nonzero(n >= least) >= 2 * LEAST), 4)
    shapes, errors = [], {}
    for name in ("a", "b"):
        log = np.where(n >= enough, np.log(values[name]), np.nan)
        unit = hierarchy.average(n * (own.std_error[name] / values[name]) ** 2, n)
        log, variance, weight = hierarchy.toward(log, unit / n)
        shapes.append(np.exp(log))
        errors[name] = np.exp(log) * np.sqrt(variance)
        weights.append(weight)
    a, b = shapes
    total = a + b
    mean, std = a / total, np.sqrt(a * b / (total + 1)) / total
    kurtosis = 6 * ((a - b) ** 2 * (total + 1) - a * b * (total + 2))
    kurtosis /= a * b * (total + 2) * (total + 3)
    own_std = np.log(sample.std * np.sqrt(n / (n - 1)))
    log_std, v_std, weight = shrunk_log_scale(
        own_std, (kurtosis + 2) / 4, freedom_of(sample), hierarchy
    )
    centre, v_centre, other = hierarchy.toward(sample.mean, np.exp(2 * log_std) / n)
    new_std = np.exp(foretold_log_scale(log_std, v_std, own_std))
    width = np.hypot(new_std, np.sqrt(v_centre)) / std
    observed = hierarchy.is_observed()
    low, high = centre - width * mean, centre + width * (1 - mean)
    # Where a shape rises towards an end, extremes say more of it than mean and deviation.
    gaps = [(x * special.beta(a, b) / n) ** (1 / x) for x in (a, b)]
    ranged = gaps[0] + gaps[1] < np.sqrt(v_std + v_centre / width**2)
    wide = (sample.max - sample.min) / (1 - gaps[0] - gaps[1])
    low = np.where(ranged, sample.min - gaps[0] * wide, low)
    high = np.where(ranged, sample.max + gaps[1] * wide, high)
    ends = {"min": np.where(observed, np.fmin(low, sample.min), low),
            "max": np.where(observed, np.fmax(high, sample.max), high)}  # fmt: skip
    errors |= dict.fromkeys(ends, np.full_like(n, np.nan))
    return {"a": a, "b": b, **ends}, errors, [*weights, weight, other]
