"""Shrinkage: pathways with few values borrow from those of their level, weighed by evidence.

It is parametric empirical Bayes; docs/numbers.md, "Shrinkage", has the method and its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.families.bounded import NODE_WEIGHTS, NODES
from connprops.families.discrete import DISTINCT
from connprops.families.sample import Sample
from connprops.fits.fitted import Fitted, Names, Parameters
from connprops.fits.levels import Places, Pools

LEVEL_FROM = 8
"""Number of pathways from which on a level is taken; the widest is taken from four up."""

_LEAST = 4  # pathways, below which nothing can be said of their variance
_LEAST_DENSITY = 1e-3
_STEPS = 200
_PRECISION = 1e-10


def shrunk(
    distributions: Distributions, sample: Sample, keys: Sequence[Places]
) -> tuple[Distributions, Floats]:
    """Move the parameters of g pathways towards those of their level.

    A pathway with fewer values than the family has parameters, whose estimates are NaN, borrows
    what it lacks. Families that say what the data are (constant, zero), and beta, whose ends and
    shapes hang together too closely, stay as they are. ``keys`` are, narrow to wide, the rows of
    :func:`connprops.fits.levels.level_keys`. Returned is also the level's weight, the mean over
    parameters, (g,): NaN where nothing could be borrowed.
    """
    family, unchanged = distributions.family, np.full(len(sample), np.nan)
    if family.name not in _WAYS:
        return distributions, unchanged
    values, errors = distributions.parameters, distributions.std_error
    first = next(iter(values.values()))
    fitted = np.isfinite(first if first.ndim == 1 else first[:, 0])
    fewest = [LEVEL_FROM] * (len(keys) - 1) + [_LEAST]
    level = _Level(Pools.of(keys, fitted, np.ones_like(fitted), fewest), sample.n)
    borrows = (level.pools.own >= 0) & (fitted | (sample.n < len(family.parameters)))
    if not borrows.any():
        return distributions, unchanged
    values, errors, weights = _WAYS[family.name](values, errors, sample, level)
    lower, upper = family.support(values)
    borrows &= (sample.min >= lower) & (sample.max <= upper)
    moved = Distributions(family, distributions.pathway, values, std_error=errors)
    return (
        distributions.take(~borrows).joined(moved.take(borrows)),
        np.where(borrows, np.mean(weights, axis=0), np.nan),
    )


def with_shrinkage(
    fitted: Fitted, families: Names, observed: Sample, keys: Sequence[Places]
) -> tuple[Fitted, Floats]:
    """Let the observed pathways borrow, those of one family among each other.

    ``families`` are those asked for, of the observed samples and then the pools, whose fits do not
    change. Returned is also how much each observed pathway has borrowed, (g,).
    """
    asked = families[: len(observed)]
    borrowed = np.full(len(observed), np.nan)
    for name in sorted(fitted.distributions.keys() & set(asked.tolist())):
        rows = np.flatnonzero(asked == name)
        own = fitted.estimates(name, rows)
        moved, borrowed[rows] = shrunk(own, observed.take(rows), [key[rows] for key in keys])
        has = fitted.families[rows] == name
        kept = has | ~np.isnan(borrowed[rows])
        note = "; what that leaves open is borrowed from its level"
        message = [
            None if is_own else f"{fitted.message[row]}{note}"
            for row, is_own in zip(rows[kept], has[kept], strict=True)
        ]
        fitted = fitted.replaced(moved.take(kept), message)
    return fitted, borrowed


# The level that a pathway borrows from


@dataclass(frozen=True)
class _Level:
    """The pools of fitted pathways that pathways borrow from, and their numbers of values."""

    pools: Pools
    n: Floats

    def average(self, x: Floats, weight: Floats) -> Floats:
        """Return the weighted mean over a pathway's pool, leaving out NaN, (g,)."""
        pools = self.pools
        x, weight = x[pools.member], weight[pools.member]
        order = _in_order(pools.pool, x, weight)[: np.isfinite(x).sum()]
        x, weight, pool = x[order], weight[order], pools.pool[order]
        with np.errstate(invalid="ignore"):
            total = np.bincount(pool, weight * x, pools.n_pools)
            return self.of_own(total / np.bincount(pool, weight, pools.n_pools))

    def of_own(self, x: Floats) -> Floats:
        """Return what holds for a pathway's own pool, (g,); NaN where it has none."""
        return np.append(x, np.nan)[self.pools.own]

    def unit_variance(self, error: Floats) -> Floats:
        """Return the variance of one value's information, by the errors of the pool's pathways."""
        return self.average(self.n * error**2, self.n)

    def toward(self, own: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
        """Return estimates moved towards their pool's mean, their errors, and the pool's weight.

        An estimate that is NaN becomes the pool's mean. Where the pool has no variance to go by,
        the estimates stay.
        """
        member, n_pools = self.pools.member, self.pools.n_pools
        usable = np.isfinite(own[member]) & (variance[member] > 0)
        y, v, pool = own[member][usable], variance[member][usable], self.pools.pool[usable]
        order = _in_order(pool, y, v)
        y, v, pool = y[order], v[order], pool[order]
        k = np.bincount(pool, minlength=n_pools).astype(np.float64)
        of_pools = (k, *_between(y, v, pool, n_pools))
        k_own, centre, between, precision = (self.of_own(x) for x in of_pools)
        able = (k_own >= _LEAST) & np.isfinite(centre)
        with np.errstate(all="ignore"):
            weight = variance / (variance + between) * (k_own - 3) / (k_own - 1)
            lacks = ~np.isfinite(own)
            weight = np.where(lacks, 1.0, weight)
            moved = np.where(lacks, centre, own + weight * (centre - own))
            # The second term is for the variance between pathways, which is not known either.
            square = variance * (1 - (k_own - 1) / k_own * weight)
            square += 2 / (k_own - 3) * (weight * (own - centre)) ** 2
            square = np.where(lacks, between + 1 / precision, square)
        return (
            np.where(able, moved, own),
            np.where(able, np.sqrt(square), np.sqrt(variance)),
            np.where(able, weight, 0.0),
        )


def _in_order(pool: Places, *content: Floats) -> Places:
    """Return an order that only the content decides: sums of floating numbers depend on it."""
    finite = np.isfinite(content[0])
    return np.lexsort((*content[::-1], pool, ~finite))


def _between(y: Floats, v: Floats, pool: Places, n_pools: int) -> tuple[Floats, Floats, Floats]:
    """Return each pool's mean, the variance between its pathways, and the mean's precision.

    The variance makes the weighted sum of squares what it should be, the number of pathways less
    one. The sum is convex and decreasing in it, so that Newton's steps from 0 only climb.
    """

    def total(x: Floats) -> Floats:
        return np.bincount(pool, x, n_pools).astype(np.float64)

    spread, freedom = np.zeros(n_pools), np.bincount(pool, minlength=n_pools) - 1
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            weight = 1 / (v + spread[pool])
            mean = total(weight * y) / total(weight)
            square = weight * (y - mean[pool]) ** 2
            step = (total(square) - freedom) / total(weight * square)
            step = np.where(np.isfinite(step) & (step > _PRECISION * spread), step, 0.0)
            if not step.any():
                break
            spread += step
    return mean, spread, total(weight)


# Scales on which bounds cannot be left


@dataclass(frozen=True)
class _Scale:
    """A scale, the way back from it, and both ways' slopes, as functions of the parameter."""

    to: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]


_AS_IT_IS = _Scale(lambda x: x, lambda y: y, np.ones_like)
_LOGARITHM = _Scale(np.log, np.exp, lambda x: 1 / x)
# Its bound, the Poisson distribution at infinite dispersion, is 0 here and can take part in a mean.
_RECIPROCAL = _Scale(lambda x: 1 / x, lambda y: 1 / y, lambda x: 1 / x**2)

Moved = tuple[Parameters, Parameters, list[Floats]]
"""Parameters, their standard errors, and the level's weights in them."""

_Way = Callable[[Parameters, Parameters, Sample, _Level], Moved]


def _each(**scales: _Scale) -> _Way:
    """Return the way of families whose parameters can be taken one by one."""

    def way(values: Parameters, errors: Parameters, sample: Sample, level: _Level) -> Moved:
        new, new_errors, weights = {}, {}, []
        for name, scale in scales.items():
            error = errors[name]
            if scale is _AS_IT_IS:  # on its bound, the mean of counts has the variance 0
                error = np.where(np.isfinite(values[name]), np.nan_to_num(error), np.nan)
            with np.errstate(all="ignore"):
                unit = level.unit_variance(error * scale.slope(values[name]))
                moved, error, weight = level.toward(scale.to(values[name]), unit / sample.n)
                new[name] = scale.back(moved)
                new_errors[name] = error / scale.slope(new[name])
            weights.append(weight)
        return new, new_errors, weights

    return way


def _toward_log_std(
    own: Floats, unit: Floats, n: Floats, level: _Level
) -> tuple[Floats, Floats, Floats]:
    """Move logarithms of standard deviations towards their level's, set right for small n.

    Their variance is ``unit`` / n times that of a normal distribution over 1 / (2 n): the logarithm
    of a chi-squared variable has known moments.
    """
    bias = (special.psi((n - 1) / 2) + np.log(2 / n)) / 2
    return level.toward(own - bias, unit * special.polygamma(1, (n - 1) / 2) / 2)


def _normal(location: str, scale: str) -> _Way:
    """Return the way of the normal distribution, of values or of logarithms.

    The error of a location follows from the pathway's scale, which is borrowed for first; so it
    is known also where there are too few values for a scale.
    """

    def way(values: Parameters, _: Parameters, sample: Sample, level: _Level) -> Moved:
        with np.errstate(all="ignore"):
            unit = np.where(sample.n > 0, 0.5, np.nan)
            log_std, std_error, weight = _toward_log_std(
                np.log(values[scale]), unit, sample.n, level
            )
            std = np.exp(log_std)
            own = sample.mean if location == "mean" else sample.mean_log
            moved, error, other = level.toward(own, std**2 / sample.n)
        errors = {location: error, scale: std * std_error}
        return {location: moved, scale: std}, errors, [weight, other]

    return way


def _gamma(values: Parameters, errors: Parameters, sample: Sample, level: _Level) -> Moved:
    """Return what gamma fits borrow: std over mean, then the mean, whose errors are independent."""
    with np.errstate(all="ignore"):
        square = (errors["std"] / values["std"]) ** 2 - (errors["mean"] / values["mean"]) ** 2
        unit = level.unit_variance(np.sqrt(square))
        log_ratio = np.log(values["std"] / values["mean"])
        log_ratio, ratio_error, weight = _toward_log_std(log_ratio, unit, sample.n, level)
        ratio = np.exp(log_ratio)
        log_mean, mean_error, other = level.toward(np.log(sample.mean), ratio**2 / sample.n)
        mean = np.exp(log_mean)
    std_error = mean * ratio * np.hypot(mean_error, ratio_error)
    new_errors = {"mean": mean * mean_error, "std": std_error}
    return {"mean": mean, "std": mean * ratio}, new_errors, [weight, other]


_WEIBULL_UNIT = 1 + 6 / np.pi**2 * (1 - np.euler_gamma) ** 2
"""Variance of the logarithm of a Weibull scale by one value, in units of 1 / shape^2."""


def _weibull(values: Parameters, errors: Parameters, sample: Sample, level: _Level) -> Moved:
    """Return what Weibull fits borrow: the shape, which gives the error of the scale, then that."""
    new, new_errors, weights = _each(shape=_LOGARITHM)(values, errors, sample, level)
    with np.errstate(all="ignore"):
        variance = _WEIBULL_UNIT / new["shape"] ** 2 / sample.n
        log_scale, error, weight = level.toward(np.log(values["scale"]), variance)
    scale = np.exp(log_scale)
    return new | {"scale": scale}, new_errors | {"scale": scale * error}, [*weights, weight]


# Distributions between two ends. With t the distance from their middle, in units of that between
# them (so from -1/2 to 1/2), the density is proportional to exp(b t - c t^2 / 2).


def _between_ends(values: Parameters, _: Parameters, sample: Sample, level: _Level) -> Moved:
    """Return what truncated normal and uniform distributions borrow: shape, then width and middle.

    Extremes of n values fall short of the ends by 1 / ((n - 1) f) of their distance on average, f
    being the density there, with an error of that size. They are set right by as much, though no
    further than the level's extremes, before they are borrowed for.
    """
    low, high, n = sample.min, sample.max, sample.n
    width, middle = np.where(high > low, high - low, np.nan), (low + high) / 2
    b = c = error_b = error_c = np.zeros_like(width)
    weights = []
    if "norm_scale" in values:
        c = (width / values["norm_scale"]) ** 2
        b = (values["norm_loc"] - middle) / width * c
        unit_b, unit_c = _unit_variances(level.average(b, n), level.average(c, n))
        b, error_b, weight_b = level.toward(b, unit_b / n)
        c, error_c, weight_c = level.toward(c, unit_c / n)
        weights += [weight_b, weight_c]
    with np.errstate(all="ignore"):
        at_low, at_high = _masses(b, c)[1:]
        # At least 0.001: no sample tells of an end beyond.
        at_low, at_high = (np.maximum(density, _LEAST_DENSITY) for density in (at_low, at_high))
        least, most = _extremes(low, high, level)
        new_low = np.maximum(low - width / (n - 1) / at_low, least)
        new_high = np.minimum(high + width / (n - 1) / at_high, most)
        spread = (at_low**-2.0 + at_high**-2.0) / 2
        log_width, _unused, weight = level.toward(
            np.log(new_high - new_low), spread * ((n - 1) ** -2.0 + n**-2.0)
        )
        weights.append(weight)
        width = np.exp(log_width)
        middle = np.where(n > 1, (new_low + new_high) / 2, middle)
        variance = spread * width**2 / (2 * (n + 1) * (n + 2))
        middle, _unused, weight = level.toward(middle, variance)
        weights.append(weight)
        new = {
            "min": np.minimum(np.maximum(middle - width / 2, least), low),
            "max": np.maximum(np.minimum(middle + width / 2, most), high),
        }
    new_errors = dict.fromkeys(new, np.full_like(width, np.nan))
    if "norm_scale" in values:
        width, middle = new["max"] - new["min"], (new["max"] + new["min"]) / 2
        new["norm_loc"], new["norm_scale"] = middle + width * b / c, width / np.sqrt(c)
        # Delta method, with what is known of b and c taken as independent.
        new_errors["norm_loc"] = width * np.hypot(error_b / c, b * error_c / c**2)
        new_errors["norm_scale"] = new["norm_scale"] * error_c / (2 * c)
    return new, new_errors, weights


def _masses(b: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
    """Return probabilities at nodes, (g, 64), the densities at both ends, (g,) each."""
    t = np.append(NODES, (-0.5, 0.5))
    exponent = b[:, None] * t - c[:, None] * t**2 / 2
    density = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    mass = density[:, :-2] * NODE_WEIGHTS
    total = mass.sum(axis=1)
    return mass / total[:, None], density[:, -2] / total, density[:, -1] / total


def _unit_variances(b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Return the variances of b and c by one value: the inverse of their information."""
    p = _masses(b, c)[0]
    t, half = NODES, NODES**2 / 2

    def mean(x: Floats) -> Floats:
        return np.asarray((p * x).sum(axis=1))

    in_b = mean(t**2) - mean(t) ** 2
    in_c = mean(half**2) - mean(half) ** 2
    both = mean(t * half) - mean(t) * mean(half)
    determinant = in_b * in_c - both**2
    return in_c / determinant, in_b / determinant


def _extremes(low: Floats, high: Floats, level: _Level) -> tuple[Floats, Floats]:
    """Return the smallest and the largest end in a pathway's pool."""
    pools = level.pools
    least, most = np.full(pools.n_pools, np.inf), np.full(pools.n_pools, -np.inf)
    np.minimum.at(least, pools.pool, low[pools.member])
    np.maximum.at(most, pools.pool, high[pools.member])
    return level.of_own(least), level.of_own(most)


# Lists of values


def _listed(values: Parameters, errors: Parameters, sample: Sample, level: _Level) -> Moved:
    """Return lists of values with the probabilities of a Dirichlet-multinomial posterior.

    The level's probabilities count as many values as its pathways' concentration says.
    """
    pools = level.pools
    pieces: dict[int, tuple[Floats, Floats, Floats]] = {}
    borrowed = np.full(len(sample), np.nan)
    for pool in range(pools.n_pools):
        members = pools.member[pools.pool == pool]
        value = values["val"][members]
        listed = np.unique(value[~np.isnan(value)])
        if listed.size > DISTINCT:
            continue
        p = np.zeros((members.size, listed.size))
        row, column = np.nonzero(~np.isnan(value))
        p[row, np.searchsorted(listed, value[row, column])] = values["p"][members][row, column]
        order = np.lexsort((*p.T, sample.n[members]))
        members, p = members[order], p[order]
        n = sample.n[members]
        common = n @ p / n.sum()
        weight = _dirichlet_weight(p, n, common)
        for i in np.flatnonzero(pools.own[members] == pool):
            mixed = p[i] + weight[i] * (common - p[i])
            error = np.sqrt(mixed * (1 - mixed) * (1 - weight[i]) / n[i])
            pieces[int(members[i])] = listed, mixed, error
            borrowed[members[i]] = weight[i]
    width = max([values["val"].shape[1], *(listed.size for listed, _, _ in pieces.values())])

    def padded(old: Floats, which: int | None) -> Floats:
        wide = np.full((len(sample), width), np.nan)
        wide[:, : old.shape[1]] = old
        for member, piece in pieces.items():
            wide[member] = np.nan
            if which is not None:
                wide[member, : piece[which].size] = piece[which]
        return wide

    return (
        {"val": padded(values["val"], 0), "p": padded(values["p"], 1)},
        {"val": padded(errors["val"], None), "p": padded(errors["p"], 2)},
        [borrowed],
    )


def _dirichlet_weight(p: Floats, n: Floats, common: Floats) -> Floats:
    """Return the weight of the common probabilities in those of each pathway, (k,)."""
    k, categories = p.shape
    if categories == 1:
        return np.zeros(k)
    # Pearson's statistic is (categories - 1) (1 + (n - 1) r) on average, r being how much
    # values of a pathway have in common, and 1 / r - 1 the concentration.
    pearson = n * ((p - common) ** 2 / common).sum(axis=1)
    alike = (pearson.sum() / (categories - 1) - (k - 1)) / max((n - 1).sum(), 1)
    alike = min(max(alike, 0.0), 1.0)
    weight: Floats = (1 - alike) / ((1 - alike) + alike * n) * (k - 3) / (k - 1)
    return weight


_COUNT = _each(mean=_AS_IT_IS)
_WAYS: Mapping[str, _Way] = {
    "normal": _normal("mean", "std"),
    "lognormal": _normal("mean_log", "std_log"),
    "gamma": _gamma,
    "weibull": _weibull,
    "exponential": _each(mean=_LOGARITHM),
    "truncnorm": _between_ends,
    "uniform": _between_ends,
    "discrete": _listed,
    "poisson": _COUNT,
    "ztpoisson": _COUNT,
    "shifted_poisson": _COUNT,
    "geometric": _COUNT,
    "negative_binomial": _each(mean=_AS_IT_IS, dispersion=_RECIPROCAL),
}
