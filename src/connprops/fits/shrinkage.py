"""Hierarchical estimates: each pathway's parameters from its own values and from its level's.

docs/numbers.md, "Hierarchical estimates", has the method and its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy import special

from connprops.arrays import Bools, Floats
from connprops.arrays.solvers import inverse_trigamma
from connprops.distributions.distributions import Distributions
from connprops.families.bounded import (
    TRUNCNORM,
    Shape,
    shape_variances,
    truncated_shape,
    truncated_shape_of,
)
from connprops.families.composed import adapted
from connprops.families.continuous import levels as probabilities
from connprops.families.family import Family
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.fitted import (
    Fitted,
    Moved,
    Names,
    Parameters,
    own_lists,
    shrunk_counts,
    shrunk_lists,
)
from connprops.fits.levels import LEAST, Hierarchy, Levels
from connprops.fits.samples import Samples

_PAIR = 2
_SHAPES_FROM = (20, 10, 6, 4)
"""Values from which on a pathway's own shape between ends counts, if enough pathways have them."""

_LEAST_DENSITY = 0.05
_LEAST_C = 1e-2
_SHAPE_FROM = 4
_VASTLY = np.log(1e9)
"""Logarithm of how many times smaller or larger than the median pathway's a number may be to say
something of others': one of 1e-20 among others of 10 stands for 0."""

_SOFTENED = 8
"""Power of a distribution's share in the variance of its values that goes with its kurtosis where
ends are uncertain. Of a sum it is 2; but ends are sharp, and values beyond would cost too much."""

_OWN_LIST = 50.0
"""Number of values of which a pathway's own quantiles count as much as all pathways'."""

_OWN_SHAPE_FROM = 200
"""Values from which on a pathway's own shape between ends counts, alone and not with others."""


def with_shrinkage(
    fitted: Fitted, families: Names, samples: Samples, levels: Levels
) -> tuple[Fitted, Floats]:
    """Give observed pathways and pools hierarchical estimates, those of one family together.

    ``families`` are those asked for, of all ``samples``, the observed ones and then the pools.
    Returned is also the levels' weight in each observed pathway, the mean over parameters: NaN
    where nothing could be borrowed.
    """
    n_observed = levels.observed.size
    borrowed = np.full(len(samples), np.nan)
    for name in sorted(_WAYS.keys() & set(families.tolist())):
        rows = np.flatnonzero(families == name)
        hierarchy = Hierarchy.of(rows, levels)
        family, part = adapted(family_named(name), samples.known), samples.moments(rows)
        own = fitted.estimates(family, rows)
        first = next(iter(own.parameters.values()))
        has_own = np.isfinite(first if first.ndim == 1 else first[:, 0])
        # What varies, or is too little to tell, belongs to the family; other values do not.
        few = part.n < max(len(family.parameters), _PAIR)
        few |= samples.known.rounded & (part.std == 0)
        belongs = (has_own | few) & (rows < n_observed)
        moved, weight = _moved(own, family, part, hierarchy, belongs)
        kept = (belongs | (rows >= n_observed)) & np.isfinite(weight)
        borrowed[rows[kept]] = weight[kept]
        note = "; what that leaves open is borrowed from its level"
        lacks = ~has_own & (rows < n_observed)
        message = [f"{fitted.message[row]}{note}" if lacks[i] else None
                   for i, row in enumerate(rows) if kept[i]]  # fmt: skip
        fitted = fitted.replaced(moved.take(kept), message)
    return fitted, borrowed[:n_observed]


_Way = Callable[[Distributions, Sample, Hierarchy], Moved]


def _moved(
    own: Distributions, family: Family, sample: Sample, hierarchy: Hierarchy, counts: Bools
) -> tuple[Distributions, Floats]:
    """Return hierarchical estimates of all rows, and the levels' weight: NaN where they have none.

    They have none, either, where a value lies outside the estimate's support. ``counts`` are the
    rows whose values count: of pools their pathways' estimates say all there is to say.
    """
    observed = hierarchy.is_observed()
    alone = replace(sample, n=np.where(counts, sample.n, np.nan))
    with np.errstate(all="ignore"):
        values, errors, weights = _WAYS[family.name](own, alone, hierarchy)
    lower, upper = family.support(values)
    inside = ~observed | ((sample.min >= lower) & (sample.max <= upper))
    finite = np.all([np.isfinite(x if x.ndim == 1 else x[:, 0]) for x in values.values()], axis=0)
    own_value = {
        name: np.where(observed[(...,) + (None,) * (x.ndim - 1)], x, np.nan)
        for name, x in own.parameters.items()
    }
    if family.name == "discrete":  # own probabilities of the values that are listed now
        own_value = own_lists(own.parameters, values)
    moved = Distributions(family, own.pathway, values, std_error=errors, own_value=own_value)
    weight = np.mean(weights, axis=0)
    return moved, np.where(
        inside & finite & ~family.beyond_numbers(values, whole=sample.is_integer), weight, np.nan
    )


# Scales: the logarithm of a standard deviation or the like, of which small samples have known bias


def _log_scale(
    own: Floats, unit: Floats | float, freedom: Floats, hierarchy: Hierarchy
) -> tuple[Floats, Floats, Floats]:
    """Return logarithms of standard deviations moved towards their level's, without their bias.

    Their variance is ``unit`` / n times that of a normal distribution over 1 / (2 n): the logarithm
    of a chi-squared variable has known moments.
    """
    # Of two values, whose logarithms depend less on the shape, half as much.
    half = freedom / 2 / (2 * unit) ** np.where(freedom > 1, 1.0, 0.5)
    bias = (special.psi(half) - np.log(half)) / 2
    variance = unit * special.polygamma(1, freedom / 2) / 2
    return hierarchy.toward(own - bias, variance, furthest=_VASTLY)


def _freedom(sample: Sample) -> Floats:
    return np.where(sample.n > 1, sample.n - 1, np.nan)


def _or(estimate: Floats, moment: Floats) -> Floats:
    """Return estimates, and a sample's moment where there are too few values for one."""
    return np.where(np.isfinite(estimate), estimate, moment)


def _mean_of_logs(mean: Floats, variance: Floats, own: Floats) -> Floats:
    """Return means of numbers whose logarithms are normal, none above what is observed.

    The mean of a log-normal distribution is beyond any of its numbers if its spread is large.
    """
    greatest = np.nanmax(own, initial=-np.inf)
    return np.exp(np.maximum(mean, np.minimum(mean + variance / 2, greatest)))


def _normal(location: str, scale: str) -> _Way:
    """Return the way of the normal distribution, of values or of logarithms."""

    def way(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
        by_sample = sample.mean if location == "mean" else sample.mean_log
        mean = _or(own.parameters[location], by_sample)
        std = own.parameters[scale]
        freedom = _freedom(sample)
        unbiased = np.log(std * np.sqrt(sample.n / freedom))
        log_std, v_std, weight = _log_scale(unbiased, 0.5, freedom, hierarchy)
        furthest = np.inf if location == "mean" else _VASTLY
        v_own = np.exp(2 * log_std) / sample.n
        mean, v_mean, other = hierarchy.toward(mean, v_own, furthest=furthest)
        # A value that is not known yet varies also by what is not known of the mean.
        law = {location: mean, scale: np.sqrt(np.exp(2 * (log_std + v_std)) + v_mean)}
        errors = {location: np.sqrt(v_mean), scale: np.exp(log_std) * np.sqrt(v_std)}
        return law, errors, [weight, other]

    return way


def _gamma(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return gamma distributions: std over mean, then the mean, whose errors are independent."""
    log_ratio = np.log(own.parameters["std"] / own.parameters["mean"])
    common = np.exp(-2 * hierarchy.average(log_ratio, sample.n))
    unit = 1 / (4 * (common**2 * special.polygamma(1, common) - common))
    # The estimate of greatest likelihood has n degrees of freedom where it should have n - 1.
    freedom = _freedom(sample)
    own_ratio = log_ratio + np.log(sample.n / freedom) / 2
    log_ratio, v_ratio, weight = _log_scale(own_ratio, unit, freedom, hierarchy)
    shape = np.exp(-2 * log_ratio)
    total = sample.n * shape  # the shape of the sum of the values
    own_mean = np.log(_or(own.parameters["mean"], sample.mean))
    own_mean += np.log(total) - special.psi(total)
    log_mean, v_mean, other = hierarchy.toward(
        own_mean, special.polygamma(1, total), furthest=_VASTLY
    )
    mean = _mean_of_logs(log_mean, v_mean, own_mean)
    # The logarithm of a value varies also by what is not known of the mean.
    shape = inverse_trigamma(special.polygamma(1, np.exp(-2 * (log_ratio + v_ratio))) + v_mean)
    std = mean / np.sqrt(shape)
    errors = {"mean": mean * np.sqrt(v_mean), "std": std * np.sqrt(v_mean + v_ratio)}
    return {"mean": mean, "std": std}, errors, [weight, other]


_GUMBEL = np.pi**2 / 6
_WEIBULL_SHAPE = 1 / _GUMBEL
_WEIBULL_SCALE = 1 + (1 - np.euler_gamma) ** 2 / _GUMBEL
"""Variances of log shape and log scale by one value, the latter in units of 1 / shape^2."""


def _weibull(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return Weibull distributions: the shape, which gives the error of the scale, then that."""
    freedom = _freedom(sample)
    own_log = -np.log(own.parameters["shape"]) + np.log(sample.n / freedom) / 2
    log_inverse, v_shape, weight = _log_scale(own_log, _WEIBULL_SHAPE, freedom, hierarchy)
    inverse = np.exp(log_inverse)
    own_scale = np.where(sample.n > 1, np.log(own.parameters["scale"]),
                         sample.mean_log + np.euler_gamma * inverse)  # fmt: skip
    log_scale, v_scale, other = hierarchy.toward(
        own_scale, _WEIBULL_SCALE * inverse**2 / sample.n, furthest=_VASTLY
    )
    mean = _mean_of_logs(log_scale, v_scale, own_scale) * special.gamma(1 + inverse)
    wide = np.sqrt(np.exp(2 * (log_inverse + v_shape)) + v_scale / _GUMBEL)
    scale = mean / special.gamma(1 + wide)
    errors = {"shape": np.sqrt(v_shape) / wide, "scale": scale * np.sqrt(v_scale)}
    return {"shape": 1 / wide, "scale": scale}, errors, [weight, other]


def _exponential(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return exponential distributions: the mean's logarithm."""
    own_log = np.log(_or(own.parameters["mean"], sample.mean))
    own_log += np.log(sample.n) - special.psi(sample.n)
    log_mean, variance, weight = hierarchy.toward(
        own_log, special.polygamma(1, sample.n), furthest=_VASTLY
    )
    mean = _mean_of_logs(log_mean, variance, own_log)
    return {"mean": mean}, {"mean": mean * np.sqrt(variance)}, [weight]


# Distributions between two ends: shape, then distance and middle of the ends


def _between_ends(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
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
    v_std = special.polygamma(1, half) / 4
    by_range = np.log(sample.max - sample.min) + np.log1p((gap_low + gap_high) / (n - 1))
    v_range = spread * ((n - 1) ** -2.0 + n**-2.0)
    ranged = v_range < v_std
    log_width, v_width, weight = hierarchy.toward(
        np.where(ranged, by_range, by_std), np.where(ranged, v_range, v_std)
    )
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
    new = _widened(shape, b, c, log_width, v_width, middle, v_middle, own.family)
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
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: group.size])
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


def _beta(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
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
    log_std, v_std, weight = _log_scale(
        np.log(sample.std * np.sqrt(n / (n - 1))), (kurtosis + 2) / 4, _freedom(sample), hierarchy
    )
    centre, v_centre, other = hierarchy.toward(sample.mean, np.exp(2 * log_std) / n)
    width = np.sqrt(np.exp(2 * (log_std + v_std)) + v_centre) / std
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


# Quantiles: location and scale of their shape, which all pathways have in common


def _quantiles(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return lists of quantiles: those that pathways have in common, with locations and scales.

    The weight of these is 1 / (1 + (n / 50)^2) beside a pathway's own list of n values, and 0 where
    values are repeated: a point is no matter of scale.
    """
    n, known, listed = sample.n, sample.known, own.parameters["quantile"]
    shape = np.array(known.shape or special.ndtri(probabilities() * 0.998 + 0.001))
    location, std = (sample.mean, sample.std)
    if known.of_logs:
        location, std = sample.mean_log, sample.std_log
    fourth = (np.diff(probabilities()) * ((shape[1:] + shape[:-1]) / 2) ** 4).sum()
    freedom = _freedom(sample)
    own_std = np.log(std * np.sqrt(n / freedom))
    log_std, v_std, weight = _log_scale(own_std, max(fourth - 1, 1) / 4, freedom, hierarchy)
    location, v_location, other = hierarchy.toward(location, np.exp(2 * log_std) / n)
    # No pathway spreads more than all together: of lists of logarithms the last would be vast.
    most = np.hypot(np.nanmax(std, initial=0.0), np.nanstd(location[: hierarchy.n_observed]))
    scale = np.fmin(np.sqrt(np.exp(2 * (log_std + v_std)) + v_location), most)
    quantile = location[:, None] + scale[:, None] * shape
    error = np.sqrt(v_location[:, None] + (scale[:, None] * shape) ** 2 * v_std[:, None])
    if known.of_logs:
        quantile = np.exp(quantile)
        error *= quantile
    at = np.flatnonzero(np.isfinite(listed).any(axis=1) & np.isfinite(n))
    if at.size:
        repeats = (np.diff(listed[at]) == 0).any(axis=1) & (n[at] >= _OWN_LIST)
        share = np.where(repeats, 0.0, 1 / (1 + (n[at] / _OWN_LIST) ** 2))[:, None]
        quantile[at] = share * quantile[at] + (1 - share) * listed[at]
        of_own = np.nan_to_num(own.std_error["quantile"][at])
        error[at] = np.hypot(share * error[at], (1 - share) * of_own)
    observed = hierarchy.is_observed()
    quantile[:, 0] = np.where(observed, np.fmin(quantile[:, 0], sample.min), quantile[:, 0])
    quantile[:, -1] = np.where(observed, np.fmax(quantile[:, -1], sample.max), quantile[:, -1])
    return {"quantile": quantile}, {"quantile": error}, [weight, other]


_WAYS: Mapping[str, _Way] = {
    "normal": _normal("mean", "std"),
    "lognormal": _normal("mean_log", "std_log"),
    "gamma": _gamma,
    "weibull": _weibull,
    "exponential": _exponential,
    "truncnorm": _between_ends,
    "uniform": _between_ends,
    "beta": _beta,
    "quantiles": _quantiles,
    "discrete": shrunk_lists,
    **dict.fromkeys(
        ("poisson", "ztpoisson", "shifted_poisson", "geometric", "negative_binomial",
         "shifted_negative_binomial"),
        shrunk_counts,
    ),
}  # fmt: skip
