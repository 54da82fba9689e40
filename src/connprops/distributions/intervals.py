"""Standard errors that count how alike values are, and 95 % intervals of parameters.

docs/numbers.md, "Intervals", has the methods and how often they hold the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.solvers import box_maximum
from connprops.distributions.distributions import Distributions
from connprops.families.bounded import (
    FARTHEST_END,
    FARTHEST_LOC,
    FARTHEST_SCALE,
    TRUNCNORM,
    beta_bounds,
    beta_curves,
    truncnorm_curves,
)
from connprops.families.family import Family, Parameter
from connprops.families.sample import Sample

LOW, HIGH = 0.025, 0.975

_STEP = 1e-4  # of a parameter, relative, for its derivative
_TERMS = 8
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def with_intervals(
    distributions: Distributions, sample: Sample, n: Floats, within: Floats, size: Floats
) -> Distributions:
    """Return distributions with standard errors and 95 % intervals of their parameters.

    Parameters
    ----------
    distributions
        With the standard errors of independent values, (g,).
    sample
        What they were fitted to.
    n
        Number of values that the errors of each rest on; infinite where they rest on a level.
    within, size
        Correlation of the values of a connection, and how many values the connection of a value
        has, (g,).
    """
    family, errors, interval = distributions.family, {}, {}
    design = _design_effects(distributions, within, size)
    plain = 1 + (size - 1) * within
    with np.errstate(all="ignore"):
        for parameter in family.parameters:
            name = parameter.name
            value = distributions.parameters[name]
            error = distributions.std_error.get(name, np.full_like(value, np.nan))
            effect = design.get(name, plain).reshape(-1, *[1] * (value.ndim - 1))
            errors[name] = error * np.sqrt(effect)
            bounds = _interval_of(family, parameter)(value, errors[name], n / plain)
            interval[name] = np.stack(bounds, axis=-1)
        if family.name == "uniform":
            interval |= _ends_of_uniform(sample, n / plain)
    own = np.flatnonzero(np.isfinite(n))
    if family.name in _PROFILED and own.size:
        part = _profile_intervals(distributions.take(own), sample.take(own), (n / plain)[own])
        for name, bounds_ in part.items():
            interval[name][own] = bounds_
    return replace(distributions, std_error=errors, interval=interval)


def _design_effects(
    distributions: Distributions, within: Floats, size: Floats
) -> dict[str, Floats]:
    """Return how many times larger each parameter's variance is than with independent values.

    An estimate is a mean of the values' influences. These are functions of the normal variables
    beneath the values, of which the k-th Hermite polynomials of two correlate by the k-th power
    of the correlation.
    """
    family, rows = distributions.family, np.flatnonzero(within * (size - 1) > 0)
    names = [p.name for p in family.parameters if not p.is_list and p.name not in ("min", "max")]
    if not (rows.size and names) or len(names) < len(family.parameters) - 2:
        return {}
    part, w = distributions.take(rows).parameters, within[rows]
    with np.errstate(all="ignore"):
        x = family.ppf(np.tile(special.ndtr(_NODES), (rows.size, 1)), part)
        scores = []
        for name in names:
            step = _STEP * np.maximum(np.abs(part[name]), 1e-12)
            sides = [family.logpdf(x, part | {name: part[name] + h}) for h in (step, -step)]
            scores.append((sides[0] - sides[1]) / (2 * step[:, None]))
        score = np.nan_to_num(np.stack(scores, axis=1), posinf=0.0, neginf=0.0)
        information = np.einsum("gpj,gqj,j->gpq", score, score, _WEIGHTS)
        unit = np.sqrt(np.maximum(np.einsum("gpp->gp", information), np.finfo(float).tiny))
        scaled = information / unit[:, :, None] / unit[:, None, :]
        influence = np.linalg.pinv(scaled, hermitian=True) @ (score / unit[:, :, None])
        rho = np.zeros(influence.shape[:2])
        left = influence**2 @ _WEIGHTS
        total = left.copy()
        before, polynomial = np.ones_like(_NODES), _NODES
        for k in range(1, _TERMS + 1):
            share = np.minimum((influence @ (_WEIGHTS * polynomial)) ** 2, left)
            left = left - share
            rho += share * w[:, None] ** k
            before, polynomial = (
                polynomial,
                (_NODES * polynomial - np.sqrt(k) * before) / np.sqrt(k + 1),
            )
        rho = np.where(total > 0, rho / total, w[:, None])
    effects = {}
    for name, of_name in zip(names, rho.T, strict=True):
        effects[name] = np.ones_like(within)
        effects[name][rows] = 1 + (size[rows] - 1) * of_name
    return effects


Bounds = tuple[Floats, Floats]
_Interval = Callable[[Floats, Floats, Floats], Bounds]
"""From an estimate, its standard error, and the number of independent values it is worth."""


def _location(value: Floats, error: Floats, n: Floats) -> Bounds:
    """Return Student's interval of a mean, whose error is of a standard deviation over n."""
    half = error * _student(n)
    return value - half, value + half


def _student(n: Floats | float) -> Floats:
    """Return the quantile of t, times what makes a standard deviation over n one over n - 1."""
    finite = np.isfinite(n)
    t = special.stdtrit(np.where(finite, n - 1, np.inf), HIGH)
    return np.where(finite, t * np.sqrt(n / (n - 1)), t)


def _positive_location(value: Floats, error: Floats, n: Floats) -> Bounds:
    """Return the interval of a positive mean or the like: Student's for its logarithm."""
    factor = np.exp(error / value * _student(n))
    return value / factor, value * factor


def _scale(value: Floats, error: Floats, n: Floats) -> Bounds:
    """Return the interval of a standard deviation or the like, by the chi-square distribution.

    Degrees of freedom are those of a normal distribution, n - 1, or as many as the relative error
    says where it is another's.
    """
    lost = np.where(np.isfinite(n), (n - 1) / n, 1.0)
    freedom = lost / (2 * (error / value) ** 2)
    square = value**2 / lost * freedom
    return np.sqrt(square / special.chdtri(freedom, LOW)), np.sqrt(
        square / special.chdtri(freedom, HIGH)
    )


def _inverse_scale(value: Floats, error: Floats, n: Floats) -> Bounds:
    """Return the interval of a parameter that is one over a scale."""
    low, high = _scale(1 / value, error / value**2, n)
    return 1 / high, 1 / low


def _exponential(value: Floats, error: Floats, _: Floats) -> Bounds:
    """Return the exact interval of the mean of exponential values, by the chi-square one."""
    freedom = 2 * (value / error) ** 2
    return value * freedom / special.chdtri(freedom, LOW), value * freedom / special.chdtri(
        freedom, HIGH
    )


def _count(lowest: float, *, spread: bool) -> _Interval:
    """Return the interval of a mean of counts beyond the lowest: of a Poisson number of events.

    Student's factor counts that a ``spread`` was estimated too.
    """

    def interval(value: Floats, error: Floats, n: Floats) -> Bounds:
        error = error * _student(n) / _student(np.inf) if spread else error
        events = ((value - lowest) / error) ** 2
        unit = (value - lowest) / events
        low, high = (special.chdtri(2 * events + 1, p) / 2 for p in (HIGH, LOW))
        return lowest + unit * low, lowest + unit * high

    return interval


def _share(value: Floats, _: Floats, n: Floats) -> Bounds:
    """Return Jeffreys's interval of a probability."""
    n = n.reshape(-1, *[1] * (value.ndim - 1))
    a, b = n * value + 0.5, n * (1 - value) + 0.5
    low, high = (np.asarray(special.betaincinv(a, b, p), dtype=np.float64) for p in (LOW, HIGH))
    return low, high


def _unknown(value: Floats, error: Floats, _: Floats) -> Bounds:
    return np.full_like(value, np.nan), np.full_like(error, np.nan)


_OF: dict[tuple[str, str], _Interval] = {
    ("normal", "mean"): _location,
    ("lognormal", "mean_log"): _location,
    ("gamma", "mean"): _positive_location,
    ("weibull", "scale"): _positive_location,
    ("weibull", "shape"): _inverse_scale,
    ("exponential", "mean"): _exponential,
    ("discrete", "p"): _share,
    ("discrete", "val"): _unknown,
    ("constant", "mean"): _unknown,
    ("quantiles", "quantile"): lambda value, error, n: _location(value, error, n[:, None]),
}


def _interval_of(family: Family, parameter: Parameter) -> _Interval:
    """Return how the interval of a family's parameter is found."""
    if (family.name, parameter.name) in _OF:
        return _OF[family.name, parameter.name]
    if parameter.name == "p_point":
        return _share
    if family.beside is not None:
        return _interval_of(family.beside, parameter)
    if family.kind == "discrete" and parameter.name == "mean":
        return _count(parameter.lower, spread=len(family.parameters) > 1)
    return _scale if parameter.lower == 0 else _location


def _ends_of_uniform(sample: Sample, n: Floats) -> dict[str, Floats]:
    """Return the exact intervals of the ends of uniform distributions."""
    far = (sample.max - sample.min) * np.expm1(-np.log(2 * LOW) / (n - 1))
    far = np.where(np.isfinite(n), far, np.nan)
    return {
        "min": np.stack([sample.min - far, sample.min + 0 * far], axis=-1),
        "max": np.stack([sample.max + 0 * far, sample.max + far], axis=-1),
    }


# By profile likelihood: the values of a parameter at which the likelihood, at its greatest over all
# other parameters, is not much below its greatest of all

_REGULAR = 3.841458820694124  # the 95 % quantile of chi-square with 1 degree of freedom
_OF_END = 5.991464547107979  # of an end that data come close to as 1 / n: 2 degrees
_STEPS = 10
_GOLDEN = (np.sqrt(5) - 1) / 2
_SECTIONS = 20

Curve = Callable[[Floats], Floats]


def _profile_intervals(
    distributions: Distributions, sample: Sample, n: Floats
) -> dict[str, Floats]:
    """Return intervals, (g, 2), of the parameters that have such; NaN for an end without bound.

    ``n`` is the number of independent values that the sample is worth, (g,).
    """
    with np.errstate(all="ignore"):
        return _PROFILED[distributions.family.name](distributions, sample, n)


def _crossing(drop: Curve, best: Floats, far: Floats, bound: Floats | float) -> Floats:
    """Return where a curve that rises from 0 at ``best`` reaches a bound; NaN if not till ``far``.

    By the method of false position, whose stagnant end counts half, for its root, nearly a line.
    """
    low, high = best, far
    at_low, at_high = np.full_like(best, -np.sqrt(bound)), np.sqrt(drop(far)) - np.sqrt(bound)
    reached = at_high >= 0
    x = high
    for _ in range(_STEPS):
        x = high - at_high * (high - low) / (at_high - at_low)
        x = np.where(np.isfinite(x), x, (low + high) / 2)
        value = np.sqrt(np.maximum(drop(x), 0.0)) - np.sqrt(bound)
        above = value >= 0
        at_low = np.where(above, at_low / 2, value)
        at_high = np.where(above, value, at_high / 2)
        low, high = np.where(above, low, x), np.where(above, x, high)
    return np.where(reached, x, np.nan)


def _greatest(curve: Curve, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return where curves of one maximum are greatest, and their values, by golden sections."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = curve(left), curve(right)
    for _ in range(_SECTIONS):
        to_left = at_left >= at_right
        high, low = np.where(to_left, right, high), np.where(to_left, low, left)
        new = np.where(to_left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
        at_new = curve(new)
        left, right = np.where(to_left, new, right), np.where(to_left, left, new)
        at_left, at_right = (
            np.where(to_left, at_new, at_right),
            np.where(to_left, at_left, at_new),
        )
    x = (low + high) / 2
    return x, curve(x)


# Truncated normal, in units of the data's range from its smallest value


def _truncnorm(_: Distributions, sample: Sample, n: Floats) -> dict[str, Floats]:
    """Return the intervals of location and scale given the extremes, and those of the ends.

    Between the extremes, the other values are a sample of the same distribution cut off there.
    """
    width = sample.max - sample.min
    mean, std = (sample.mean - sample.min) / width, sample.std / width
    others = np.maximum(sample.n - 2, 1)
    inner = (sample.n * mean - 1) / others
    square = np.maximum((sample.n * (std**2 + mean**2) - 1) / others - inner**2, 1e-12)
    zero = np.zeros_like(n)
    unit = replace(sample, min=zero, max=zero + 1)
    inside = replace(unit, n=n * others / sample.n, mean=inner, std=np.sqrt(square))
    within = partial(_likelihood, inside)
    far_loc = np.full_like(n, np.arcsinh(FARTHEST_LOC))
    scales = np.full_like(n, np.log(1e-4)), np.full_like(n, np.log(FARTHEST_SCALE))

    def of_loc(x: Floats) -> Floats:
        return _greatest(lambda y: within(np.sinh(x), np.exp(y), zero, zero + 1), *scales)[1]

    def of_scale(y: Floats) -> Floats:
        return _greatest(
            lambda x: within(np.sinh(x), np.exp(y), zero, zero + 1), -far_loc, far_loc
        )[1]

    loc, most = _greatest(of_loc, -far_loc, far_loc)
    scale = _greatest(lambda y: within(np.sinh(loc), np.exp(y), zero, zero + 1), *scales)[0]
    intervals = {
        name: np.stack([_crossing(lambda x: 2 * (most - curve(x)), at, end, _REGULAR)  # noqa: B023
                        for end in ends], axis=-1)
        for name, curve, at, ends in (("norm_loc", of_loc, loc, (-far_loc, far_loc)),
                                      ("norm_scale", of_scale, scale, (scale - 2, scales[1])))
    }  # fmt: skip
    intervals = {
        "norm_loc": sample.min[:, None] + width[:, None] * np.sinh(intervals["norm_loc"]),
        "norm_scale": width[:, None] * np.exp(intervals["norm_scale"]),
    }
    gaps = np.log(1e-6) + zero, np.log(FARTHEST_END) + zero
    for name, side in (("min", -1.0), ("max", 1.0)):
        # Mirrored, so that the end is always the lower one.
        of_gap = partial(_with_gap, n, mean if side < 0 else 1 - mean, std)
        top = of_gap(gaps[0])
        gap = np.exp(_crossing(lambda x: 2 * (top - of_gap(x)), *gaps, _OF_END))  # noqa: B023
        extreme = sample.min if side < 0 else sample.max
        ends = [extreme + side * width * gap, extreme]
        intervals[name] = np.stack(ends if side < 0 else ends[::-1], axis=-1)
    return intervals


def _with_gap(n: Floats, mean: Floats, std: Floats, gap: Floats) -> Floats:
    """Return the greatest log-likelihood where the lower end lies so far below the data.

    ``gap`` is its logarithm; mean and standard deviation are in units of the data's range.
    """
    support = 1 + np.exp(gap)
    mean, variance = (mean + np.exp(gap)) / support, (std / support) ** 2

    def curves(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        return truncnorm_curves(x[:, 0], x[:, 1], mean[rows], variance[rows])

    least = np.full_like(n, 1 / FARTHEST_SCALE**2)
    start = np.maximum((1 / variance - 12) * (1 + 18 * variance), least)
    lower = np.stack([np.full_like(n, -np.inf), least], axis=1)
    best = box_maximum(
        curves, np.stack([np.zeros_like(n), start], axis=1), lower, np.full_like(lower, np.inf)
    )
    value: Floats = truncnorm_curves(best[:, 0], best[:, 1], mean, variance)[0]
    return np.asarray(n * (value - np.log(support)))


def _likelihood(sample: Sample, loc: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    parameters = {"norm_loc": loc, "norm_scale": scale, "min": low, "max": high}
    return TRUNCNORM.loglik(sample, parameters)


# Beta, in the logarithms of both shapes and both gaps


def _beta(distributions: Distributions, sample: Sample, n: Floats) -> dict[str, Floats]:
    width = sample.max - sample.min
    y = (sample.value - sample.min[:, None]) / width[:, None]
    share = sample.balanced / sample.n[:, None]
    p = distributions.parameters
    gaps = (sample.min - p["min"]) / width, (p["max"] - sample.max) / width
    best = np.log(np.stack([p["a"], p["b"], *gaps], axis=1))
    lower, upper = beta_bounds(sample.n)
    best = np.clip(best, lower, upper)

    def curves(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        return beta_curves(x, y[rows], share[rows])

    top = beta_curves(best, y, share)[0]

    def drop(i: int, at: Floats) -> Floats:
        low, high, start = lower.copy(), upper.copy(), best.copy()
        low[:, i] = high[:, i] = start[:, i] = at
        most: Floats = beta_curves(box_maximum(curves, start, low, high), y, share)[0]
        return np.asarray(2 * n * (top - most))

    # Ends adapt to few values, and shapes to ends. By simulation (docs/numbers.md):
    of_shape, of_end = _REGULAR * (1 + 120 / (n + 50)), _OF_END * (1 + 20 / n)
    intervals = {}
    for i, name in enumerate(("a", "b", "min", "max")):
        bound = of_shape if i < 2 else of_end  # noqa: PLR2004
        ends = [_crossing(partial(drop, i), best[:, i], far[:, i], bound)
                for far in (lower, upper)]  # fmt: skip
        intervals[name] = np.exp(np.stack(ends, axis=-1))
    for name, side, extreme in (("min", -1, sample.min), ("max", 1, sample.max)):
        near, far = np.nan_to_num(intervals[name][:, 0]), intervals[name][:, 1]
        ends = [extreme + side * width * near, extreme + side * width * far]
        intervals[name] = np.stack(ends[::side], axis=-1)
    return intervals


def _negative_binomial(
    distributions: Distributions, sample: Sample, n: Floats
) -> dict[str, Floats]:
    family, p = distributions.family, distributions.parameters
    best = np.log(np.minimum(p["dispersion"], 1e8))
    top = family.loglik(sample, p)

    def drop(x: Floats) -> Floats:
        at = family.loglik(sample, {"mean": p["mean"], "dispersion": np.exp(x)})
        return 2 * n / sample.n * (top - at)

    ends = [_crossing(drop, best, np.full_like(best, np.log(far)), _REGULAR)
            for far in (1e-4, 1e10)]  # fmt: skip
    return {"dispersion": np.exp(np.stack(ends, axis=-1))}


_PROFILED = {"truncnorm": _truncnorm, "beta": _beta, "negative_binomial": _negative_binomial}
