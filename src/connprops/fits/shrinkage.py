"""Shrinkage: pathways with few values borrow from those of their level, weighed by evidence.

It is parametric empirical Bayes (Morris, "Parametric empirical Bayes inference: theory and
applications", Journal of the American Statistical Association 78:47-55, 1983). Each parameter, on a
scale on which its bounds cannot be left, is taken to vary between the pathways of a level by a
normal distribution, whose variance t is what the estimates vary by beyond their own errors v
(Paule, Mandel, "Consensus values and weighting factors", Journal of Research of the National Bureau
of Standards 87:377-385, 1982). A pathway's parameter then is the mean of its own and the level's,
in which the level has the weight v / (v + t), times (k - 3) / (k - 1) of k pathways, as t is
not known but estimated. With many values a pathway keeps its own; where pathways do not differ by
more than chance, small ones get what all have in common.

Errors v are those that a value's information in the level gives, over n, not each pathway's own
estimate of it: the latter is as uncertain as the parameter, and often in league with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Floats
from connprops.families.discrete import DISTINCT
from connprops.families.registry import Family, Sample, family_named
from connprops.fits.fitted import Fitted, joined_width

Parameters = Mapping[str, Floats]

LEVEL_FROM = 8
"""Number of pathways from which on a level is taken; the widest is taken from four up."""

_LEAST = 4  # pathways, below which nothing can be said of their variance
_LEAST_DENSITY = 1e-3
_STEPS = 200
_PRECISION = 1e-10


@dataclass(frozen=True)
class Shrunk:
    """Parameters that have been borrowed for, with standard errors, (g,) or (g, k) each.

    ``borrowed`` is the level's weight in them, the mean over parameters, (g,): NaN where nothing
    could be borrowed, and the parameters are what they were.
    """

    values: Parameters
    errors: Parameters
    borrowed: Floats


def shrunk(
    family: Family,
    values: Mapping[str, Floats],
    errors: Mapping[str, Floats],
    sample: Sample,
    keys: Sequence[NDArray[np.intp]],
) -> Shrunk:
    """Move the parameters of pathways towards those of their level.

    Parameters
    ----------
    family
        The family that was fitted.
    values, errors
        Estimates and standard errors of g pathways, NaN where there are none.
    sample
        The pathways' samples. A pathway with fewer values than the family has parameters
        borrows what it lacks.
    keys
        For each level, narrow to wide, the number that pathways of a group share, (g,), -1 for
        none; see :func:`connprops.fits.levels.level_keys`.

    Returns
    -------
    Shrunk
        Families that are not fitted but say what the data are (constant, zero), and beta, whose
        ends and shapes hang together too closely, are left as they are.
    """
    result = Shrunk(dict(values), dict(errors), np.full(len(sample), np.nan))
    if family.name not in _WAYS:
        return result
    first = next(iter(values.values()))
    fitted = np.isfinite(first if first.ndim == 1 else first[:, 0])
    pools = _Pools.of(keys, fitted, sample.n)
    borrows = (pools.own >= 0) & (fitted | (sample.n < len(family.parameters)))
    if not borrows.any():
        return result
    found = _WAYS[family.name](result.values, result.errors, sample, pools)
    lower, upper = family.support(found.values)
    borrows &= (sample.min >= lower) & (sample.max <= upper)

    def chosen(new: Parameters, old: Mapping[str, Floats]) -> Parameters:
        both = {name: joined_width(new[name], old[name]) for name in new}
        return {name: np.where(_rows(borrows, a), a, b) for name, (a, b) in both.items()}

    return Shrunk(
        chosen(found.values, values),
        chosen(found.errors, errors),
        np.where(borrows, found.borrowed, np.nan),
    )


def _rows(mask: NDArray[np.bool_], like: Floats) -> NDArray[np.bool_]:
    return mask if like.ndim == 1 else mask[:, None]


def with_shrinkage(
    fitted: Fitted, wanted: NDArray[np.str_], observed: Sample, keys: Sequence[NDArray[np.intp]]
) -> tuple[Fitted, Floats]:
    """Let the observed pathways borrow, those that one family is wanted for among each other.

    Parameters
    ----------
    fitted, wanted
        Fits of the observed samples, then of pools, and the families wanted for them.
    observed
        The observed samples, (g,).
    keys
        As for :func:`shrunk`.

    Returns
    -------
    tuple
        The fits, those of the pools unchanged, and how much each pathway has borrowed, (g,).
    """
    n = len(observed)
    borrowed = np.full(n, np.nan)
    choice, status, message = fitted.choice.copy(), fitted.status.copy(), list(fitted.message)
    parameters = dict(fitted.parameters)
    for name in np.unique(wanted[:n]):
        family = str(name)
        rows = np.flatnonzero(wanted[:n] == family)
        if family not in parameters:
            continue
        both = parameters[family]
        own, error = ({key: array[rows] for key, array in part.items()} for part in both)
        some = [key[rows] for key in keys]
        one = shrunk(family_named(family), own, error, observed.take(rows), some)
        values, errors = (
            {key: _put(array, rows, new[key]) for key, array in part.items()}
            for part, new in zip(both, (one.values, one.errors), strict=True)
        )
        parameters[family] = values, errors
        borrowed[rows] = one.borrowed
        for row in rows[~np.isnan(one.borrowed) & (choice[rows] != family)]:
            choice[row], status[row] = family, "ok"
            message[row] = f"{message[row]}; what that leaves open is borrowed from its level"
    used = {name: both for name, both in parameters.items() if (choice == name).any()}
    return Fitted(choice, used, status, message), borrowed


def _put(array: Floats, rows: NDArray[np.intp], new: Floats) -> Floats:
    """Return parameters with some rows replaced, lists padded with NaN as they need be."""
    old, new = joined_width(array, new)
    old = old.copy()
    old[rows] = new
    return old


# Pools: the pathways of a group of some level


@dataclass(frozen=True)
class _Pools:
    """Pools of fitted pathways: pairs of a ``member`` and a ``pool``, and each pathway's ``own``.

    Its own is -1 where there is none. ``n`` are the pathways' numbers of values.
    """

    own: NDArray[np.intp]
    member: NDArray[np.intp]
    pool: NDArray[np.intp]
    n_pools: int
    n: Floats

    @classmethod
    def of(cls, keys: Sequence[NDArray[np.intp]], fitted: NDArray[np.bool_], n: Floats) -> _Pools:
        """Give each pathway the narrowest level with enough fitted pathways in its group."""
        own = np.full(fitted.size, -1, dtype=np.intp)
        members, pools, n_pools = [], [], 0
        for number, key in enumerate(keys):
            least = _LEAST if number == len(keys) - 1 else LEVEL_FROM
            sizes = np.bincount(key[fitted & (key >= 0)], minlength=int(key.max(initial=0)) + 1)
            new = (own < 0) & (key >= 0) & (sizes[key] >= least)
            wanted = np.unique(key[new])
            own[new] = n_pools + np.searchsorted(wanted, key[new])
            inside = np.flatnonzero(fitted & np.isin(key, wanted))
            members.append(inside)
            pools.append(n_pools + np.searchsorted(wanted, key[inside]))
            n_pools += wanted.size
        return cls(own, np.concatenate(members), np.concatenate(pools), n_pools, n)

    def average(self, x: Floats, weight: Floats) -> Floats:
        """Return the weighted mean over a pathway's pool, leaving out NaN, (g,)."""
        x, weight = x[self.member], weight[self.member]
        order = _in_order(self.pool, x, weight)[: np.isfinite(x).sum()]
        x, weight, pool = x[order], weight[order], self.pool[order]
        with np.errstate(invalid="ignore"):
            total = np.bincount(pool, weight * x, self.n_pools)
            return self.of_own(total / np.bincount(pool, weight, self.n_pools))

    def of_own(self, x: Floats) -> Floats:
        """Return what holds for a pathway's own pool, (g,); NaN where it has none."""
        return np.append(x, np.nan)[self.own]

    def unit_variance(self, error: Floats) -> Floats:
        """Return the variance of one value's information, by the errors of the pool's pathways."""
        return self.average(self.n * error**2, self.n)

    def toward(self, own: Floats, variance: Floats) -> tuple[Floats, Floats, Floats]:
        """Return estimates moved towards their pool's mean, their errors, and the pool's weight.

        An estimate that is NaN becomes the pool's mean. Where the pool has no variance to go by,
        the estimates stay.
        """
        usable = np.isfinite(own[self.member]) & (variance[self.member] > 0)
        y, v, pool = own[self.member][usable], variance[self.member][usable], self.pool[usable]
        order = _in_order(pool, y, v)
        y, v, pool = y[order], v[order], pool[order]
        k = np.bincount(pool, minlength=self.n_pools)
        mean, spread, precision = _between(y, v, pool, self.n_pools)
        facts = (mean, spread, k.astype(np.float64), precision)
        centre, between, k_own, precision = (self.of_own(fact) for fact in facts)
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


def _in_order(pool: NDArray[np.intp], *content: Floats) -> NDArray[np.intp]:
    """Return an order that only the content decides: sums of floating numbers depend on it."""
    finite = np.isfinite(content[0])
    return np.lexsort((*content[::-1], pool, ~finite))


def _between(
    y: Floats, v: Floats, pool: NDArray[np.intp], n_pools: int
) -> tuple[Floats, Floats, Floats]:
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

_Way = Callable[[Parameters, Parameters, Sample, _Pools], Shrunk]


def _each(**scales: _Scale) -> _Way:
    """Return the way of families whose parameters can be taken one by one."""

    def way(values: Parameters, errors: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
        new, new_errors, weights = {}, {}, []
        for name, scale in scales.items():
            error = errors[name]
            if scale is _AS_IT_IS:  # on its bound, the mean of counts has the variance 0
                error = np.where(np.isfinite(values[name]), np.nan_to_num(error), np.nan)
            with np.errstate(all="ignore"):
                unit = pools.unit_variance(error * scale.slope(values[name]))
                moved, error, weight = pools.toward(scale.to(values[name]), unit / sample.n)
                new[name] = scale.back(moved)
                new_errors[name] = error / scale.slope(new[name])
            weights.append(weight)
        return Shrunk(new, new_errors, np.mean(weights, axis=0))

    return way


def _toward_log_std(
    own: Floats, unit: Floats, n: Floats, pools: _Pools
) -> tuple[Floats, Floats, Floats]:
    """Move logarithms of standard deviations towards their pool's.

    That of n normal values is too small on average, by 0.98 where n is 2: it is set right. Its
    variance is ``unit`` / n times what it is of a normal distribution over 1 / (2 n): the logarithm
    of a chi-squared variable has known moments.
    """
    bias = (special.psi((n - 1) / 2) + np.log(2 / n)) / 2
    return pools.toward(own - bias, unit * special.polygamma(1, (n - 1) / 2) / 2)


def _normal(location: str, scale: str) -> _Way:
    """Return the way of the normal distribution, of values or of logarithms.

    The error of a location follows from the pathway's scale, which is borrowed for first; so it
    is known also where there are too few values for a scale.
    """

    def way(values: Parameters, _: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
        with np.errstate(all="ignore"):
            unit = np.where(sample.n > 0, 0.5, np.nan)
            log_std, std_error, weight = _toward_log_std(
                np.log(values[scale]), unit, sample.n, pools
            )
            std = np.exp(log_std)
            own = sample.mean if location == "mean" else sample.mean_log
            moved, error, other = pools.toward(own, std**2 / sample.n)
        return Shrunk(
            {location: moved, scale: std},
            {location: error, scale: std * std_error},
            (weight + other) / 2,
        )

    return way


def _gamma(values: Parameters, errors: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
    """Return what gamma fits borrow: std over mean, then the mean, whose errors are independent."""
    with np.errstate(all="ignore"):
        square = (errors["std"] / values["std"]) ** 2 - (errors["mean"] / values["mean"]) ** 2
        unit = pools.unit_variance(np.sqrt(square))
        log_ratio = np.log(values["std"] / values["mean"])
        log_ratio, ratio_error, weight = _toward_log_std(log_ratio, unit, sample.n, pools)
        ratio = np.exp(log_ratio)
        log_mean, mean_error, other = pools.toward(np.log(sample.mean), ratio**2 / sample.n)
        mean = np.exp(log_mean)
    return Shrunk(
        {"mean": mean, "std": mean * ratio},
        {"mean": mean * mean_error, "std": mean * ratio * np.hypot(mean_error, ratio_error)},
        (weight + other) / 2,
    )


_WEIBULL_UNIT = 1 + 6 / np.pi**2 * (1 - np.euler_gamma) ** 2
"""Variance of the logarithm of a Weibull scale by one value, in units of 1 / shape^2."""


def _weibull(values: Parameters, errors: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
    """Return what Weibull fits borrow: the shape, which gives the error of the scale, then that."""
    first = _each(shape=_LOGARITHM)(values, errors, sample, pools)
    with np.errstate(all="ignore"):
        variance = _WEIBULL_UNIT / first.values["shape"] ** 2 / sample.n
        log_scale, error, weight = pools.toward(np.log(values["scale"]), variance)
    scale = np.exp(log_scale)
    return Shrunk(
        {**first.values, "scale": scale},
        {**first.errors, "scale": scale * error},
        (first.borrowed + weight) / 2,
    )


# Distributions between two ends. With t the distance from their middle, in units of that between
# them (so from -1/2 to 1/2), the density is proportional to exp(b t - c t^2 / 2).

_NODES, _NODE_WEIGHTS = (x / 2 for x in np.polynomial.legendre.leggauss(64))


def _between_ends(values: Parameters, _: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
    """Return what truncated normal and uniform distributions borrow: shape, then width and middle.

    Extremes of n values fall short of the ends by 1 / ((n - 1) f) of their distance on average, f
    being the density there, with an error of that size. They are set right by as much, though no
    further than the level's extremes, before they are borrowed for.
    """
    low, high, n = sample.min, sample.max, sample.n
    width, middle = np.where(high > low, high - low, np.nan), (low + high) / 2
    shape: dict[str, Floats] = {name: np.zeros_like(width) for name in "bc"}
    shape_errors, weights = dict(shape), []
    if "norm_scale" in values:
        precision = (width / values["norm_scale"]) ** 2
        own = {"b": (values["norm_loc"] - middle) / width * precision, "c": precision}
        units = _unit_variances(*(pools.average(y, n) for y in own.values()))
        for name, unit in zip("bc", units, strict=True):
            shape[name], shape_errors[name], weight = pools.toward(own[name], unit / n)
            weights.append(weight)
    with np.errstate(all="ignore"):
        at_low, at_high = _end_densities(shape["b"], shape["c"])
        least, most = _extremes(low, high, pools)
        new_low = np.maximum(low - width / (n - 1) / at_low, least)
        new_high = np.minimum(high + width / (n - 1) / at_high, most)
        spread = (at_low**-2.0 + at_high**-2.0) / 2
        log_width, _unused, weight = pools.toward(
            np.log(new_high - new_low), spread * ((n - 1) ** -2.0 + n**-2.0)
        )
        weights.append(weight)
        width = np.exp(log_width)
        middle = np.where(n > 1, (new_low + new_high) / 2, middle)
        variance = spread * width**2 / (2 * (n + 1) * (n + 2))
        middle, _unused, weight = pools.toward(middle, variance)
        weights.append(weight)
        new = {
            "min": np.minimum(np.maximum(middle - width / 2, least), low),
            "max": np.maximum(np.minimum(middle + width / 2, most), high),
        }
    none = np.full_like(width, np.nan)
    new_errors = {"min": none, "max": none}
    if "norm_scale" in values:
        b, c, (error_b, error_c) = shape["b"], shape["c"], shape_errors.values()
        width, middle = new["max"] - new["min"], (new["max"] + new["min"]) / 2
        new["norm_loc"], new["norm_scale"] = middle + width * b / c, width / np.sqrt(c)
        # Delta method, with what is known of b and c taken as independent.
        new_errors["norm_loc"] = width * np.hypot(error_b / c, b * error_c / c**2)
        new_errors["norm_scale"] = new["norm_scale"] * error_c / (2 * c)
    return Shrunk(new, new_errors, np.mean(weights, axis=0))


def _masses(b: Floats, c: Floats) -> tuple[Floats, Floats, Floats]:
    """Return probabilities at nodes, (g, 64), the densities at both ends, (g,) each."""
    t = np.append(_NODES, (-0.5, 0.5))
    exponent = b[:, None] * t - c[:, None] * t**2 / 2
    density = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    mass = density[:, :-2] * _NODE_WEIGHTS
    total = mass.sum(axis=1)
    return mass / total[:, None], density[:, -2] / total, density[:, -1] / total


def _end_densities(b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Return the densities at both ends, at least 0.001: no sample tells of an end beyond."""
    _, low, high = _masses(b, c)
    return np.maximum(low, _LEAST_DENSITY), np.maximum(high, _LEAST_DENSITY)


def _unit_variances(b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Return the variances of b and c by one value: the inverse of their information."""
    p = _masses(b, c)[0]
    t, half = _NODES, _NODES**2 / 2

    def mean(x: Floats) -> Floats:
        return np.asarray((p * x).sum(axis=1))

    in_b = mean(t**2) - mean(t) ** 2
    in_c = mean(half**2) - mean(half) ** 2
    both = mean(t * half) - mean(t) * mean(half)
    determinant = in_b * in_c - both**2
    return in_c / determinant, in_b / determinant


def _extremes(low: Floats, high: Floats, pools: _Pools) -> tuple[Floats, Floats]:
    """Return the smallest and the largest end in a pathway's pool."""
    least, most = np.full(pools.n_pools, np.inf), np.full(pools.n_pools, -np.inf)
    np.minimum.at(least, pools.pool, low[pools.member])
    np.maximum.at(most, pools.pool, high[pools.member])
    return pools.of_own(least), pools.of_own(most)


# Lists of values


def _listed(values: Parameters, errors: Parameters, sample: Sample, pools: _Pools) -> Shrunk:
    """Return lists of values with the probabilities of a Dirichlet-multinomial posterior.

    The level's probabilities count as many values as its pathways' concentration says, which
    is estimated by moments (Brier, "Analysis of contingency tables under cluster sampling",
    Biometrika 67:591-596, 1980).
    """
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
        for i, member in enumerate(members):
            if pools.own[member] == pool:
                mixed = p[i] + weight[i] * (common - p[i])
                error = np.sqrt(mixed * (1 - mixed) * (1 - weight[i]) / n[i])
                pieces[int(member)] = listed, mixed, error
                borrowed[member] = weight[i]
    width = max((one[0].size for one in pieces.values()), default=0)
    width = max(width, values["val"].shape[1])

    def padded(old: Floats, which: int | None) -> Floats:
        wide = np.full((len(sample), width), np.nan)
        wide[:, : old.shape[1]] = old
        for member, piece in pieces.items():
            wide[member] = np.nan
            if which is not None:
                wide[member, : piece[which].size] = piece[which]
        return wide

    return Shrunk(
        {"val": padded(values["val"], 0), "p": padded(values["p"], 1)},
        {"val": padded(errors["val"], None), "p": padded(errors["p"], 2)},
        borrowed,
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
