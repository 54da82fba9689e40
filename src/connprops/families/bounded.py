"""Continuous families on an interval: uniform, truncated normal, beta.

Estimators maximise the likelihood within bounds, for it may have no maximum elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.solvers import box_maximum
from connprops.arrays.trigamma import trigamma
from connprops.families.continuous import LOG_ROOT_2PI, loglik_normal
from connprops.families.family import Estimates, Family, Formulas, Parameter, at_least, varied
from connprops.families.sample import BLOCK, Sample

FARTHEST_SCALE = 10.0
FARTHEST_LOC = 100.0
FARTHEST_END = 10.0
"""How far estimates may go, in ranges of the data: the scale of a truncated normal distribution,
the distance of its location from the data, and that of the ends of a beta distribution."""

_SHAPE_STEPS, _SHAPE_PRECISION, _SHAPE_STEP = 12, 1e-2, 1e-4
_SHAPE_BOUNDS = (-5.0, 6.0)  # of log c: beyond, flat or normal for all that matters

_MIN = Parameter("min", "property", "smallest value")
_MAX = Parameter("max", "property", "largest value")


# Uniform


def _fit_uniform(sample: Sample) -> Estimates:
    none = np.full_like(sample.n, np.nan)
    return {"min": sample.min, "max": sample.max}, {"min": none, "max": none}


UNIFORM = Family(
    name="uniform",
    kind="continuous",
    parameters=(_MIN, _MAX),
    formulas=Formulas(
        support=lambda low, high: (low, high),
        mean=lambda low, high: (low + high) / 2,
        std=lambda low, high: (high - low) / np.sqrt(12),
        logpdf=lambda x, low, high: -np.log(high - low) + 0 * x,
        cdf=lambda x, low, high: (x - low) / (high - low),
        ppf=lambda q, low, high: low + q * (high - low),
        atom=lambda low, high: (low == high, low),
        loglik=lambda sample, low, high: -sample.n * np.log(high - low),
    ),
    requirements=(at_least(2), varied),
    estimate=_fit_uniform,
)


# Truncated normal. Probabilities are taken in logarithms, so that the support may lie anywhere
# in the tails. Moments are integrals over the part of the support that carries weight: the
# closed forms are differences that lose all digits where the distribution is flat or far out.

NODES, NODE_WEIGHTS = (x / 2 for x in np.polynomial.legendre.leggauss(64))
"""Gauss's and Legendre's nodes and weights for integrals from -1/2 to 1/2."""

_FROM_ZERO = NODES + 0.5
_NEGLIGIBLE = 80.0  # exp(-80 / 2) of the greatest density


def _log_mass(low: Floats, high: Floats) -> Floats:
    """Return the logarithm of the standard normal probability of an interval."""
    # Mirrored so that the interval is on the left, where the tail function keeps its digits.
    right = low + high > 0
    low, high = np.where(right, -high, low), np.where(right, -low, high)
    log_high = special.log_ndtr(high)
    mass: Floats = log_high + np.log(-np.expm1(special.log_ndtr(low) - log_high))
    return mass


def _logpdf_truncnorm(x: Floats, loc: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    log_mass = _log_mass((low - loc) / scale, (high - loc) / scale)
    return -0.5 * ((x - loc) / scale) ** 2 - LOG_ROOT_2PI - np.log(scale) - log_mass


def _loglik_truncnorm(
    sample: Sample, loc: Floats, scale: Floats, low: Floats, high: Floats
) -> Floats:
    log_mass = _log_mass((low - loc) / scale, (high - loc) / scale)
    return loglik_normal(sample, loc, scale) - sample.n * log_mass


def _cdf_truncnorm(x: Floats, loc: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    low, x, high = ((bound - loc) / scale for bound in (low, x, high))
    return np.exp(_log_mass(low, x) - _log_mass(low, high))


def _ppf_truncnorm(q: Floats, loc: Floats, scale: Floats, low: Floats, high: Floats) -> Floats:
    z_low, z_high = (low - loc) / scale, (high - loc) / scale
    log_mass = _log_mass(z_low, z_high)
    # From the nearer side, where the tail function keeps its digits.
    below = np.logaddexp(special.log_ndtr(z_low), np.log(q) + log_mass)
    above = np.logaddexp(special.log_ndtr(-z_high), np.log1p(-q) + log_mass)
    z = special.ndtri_exp(np.minimum(np.minimum(below, above), 0))
    x = loc + scale * np.where(above < below, -z, z)
    return np.where(q == 0, low, np.where(q == 1, high, x))


def _quadrature(low: Floats, high: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Return peak (g,), nodes from it and their probabilities (g, 64), and log-integral (g,).

    Of the standard normal distribution within an interval, in units of its greatest density.
    """
    peak = np.clip(0.0, low, high)
    reach = np.sqrt(peak**2 + _NEGLIGIBLE)
    start = np.maximum(low - peak, -reach - peak)
    length = np.minimum(high - peak, reach - peak) - start
    node = start[..., None] + length[..., None] * _FROM_ZERO
    mass = np.exp(-node * (node / 2 + peak[..., None])) * NODE_WEIGHTS
    total = mass.sum(axis=-1)
    return peak, node, mass / total[..., None], np.log(total * length)


def _in_blocks(function: Callable[..., Sequence[Floats]], *arrays: Floats) -> Sequence[Floats]:
    """Return a function's results of arrays, (g,), of as many rows at once as a block's nodes."""
    arrays = np.broadcast_arrays(*arrays)
    size, n = max(BLOCK // NODES.size, 1), arrays[0].size
    if arrays[0].ndim != 1 or n <= size:
        return function(*arrays)
    blocks = [function(*(x[i : i + size] for x in arrays)) for i in range(0, n, size)]
    return tuple(map(np.concatenate, zip(*blocks, strict=True)))


def _moments_truncnorm(loc: Floats, scale: Floats, low: Floats, high: Floats) -> Sequence[Floats]:
    """Return mean and standard deviation."""
    return _in_blocks(_moments_of_block, loc, scale, low, high)


def _moments_of_block(
    loc: Floats, scale: Floats, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    _, node, p, _ = _quadrature((low - loc) / scale, (high - loc) / scale)
    mean = np.sum(p * node, axis=-1)
    variance = np.sum(p * (node - mean[..., None]) ** 2, axis=-1)
    return np.clip(loc, low, high) + scale * mean, scale * np.sqrt(variance)


def truncnorm_curves(
    b: Floats, c: Floats, mean: Floats, variance: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return log-likelihood per value, its gradient and Hessian in (b, c)."""
    scale, offset = 1 / np.sqrt(c), b / c
    loc = mean + offset
    peak, node, p, log_total = _quadrature(-loc / scale, (1 - loc) / scale)
    # Against exp(b t - c t^2 / 2) the standard density lacks the factor exp(b^2 / (2 c)).
    log_integral = log_total + np.log(scale) + (b * offset - peak**2) / 2
    value = -c * variance / 2 - log_integral
    t = (np.clip(loc, 0, 1) - mean)[:, None] + node * scale[:, None]
    half = -(t**2) / 2
    expected = np.stack([np.sum(p * t, axis=1), np.sum(p * half, axis=1)], axis=1)
    deviation = np.stack([t, half], axis=1) - expected[:, :, None]
    hessian = -np.einsum("hk,hik,hjk->hij", p, deviation, deviation)
    observed = np.stack([np.zeros_like(b), -variance / 2], axis=1)
    return value, observed - expected, hessian


def _fit_truncnorm(sample: Sample) -> Estimates:
    """Maximise the likelihood over location and scale, the support being the data's range."""
    unit = sample.max - sample.min
    mean, variance = (sample.mean - sample.min) / unit, (sample.std / unit) ** 2

    def plane(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        return truncnorm_curves(x[:, 0], x[:, 1], mean[rows], variance[rows])

    everywhere = np.full_like(mean, np.inf)
    least = np.full_like(mean, 1 / FARTHEST_SCALE**2)
    # Between 1 / variance of a narrow distribution and the expansion of a nearly flat one.
    c = np.maximum((1 / variance - 12) * (1 + 18 * variance), least)
    b, c = box_maximum(
        plane,
        np.stack([np.zeros_like(c), c], axis=1),
        np.stack([-everywhere, least], axis=1),
        np.stack([everywhere, everywhere], axis=1),
    ).T

    beyond = np.flatnonzero(np.abs(mean + b / c - 0.5) > 0.5 + FARTHEST_LOC)
    slope = np.where(b < 0, -FARTHEST_LOC - mean, 1 + FARTHEST_LOC - mean)[beyond]

    def line(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        along = np.stack([slope[rows], np.ones(len(rows))], axis=1)
        groups = beyond[rows]
        value, gradient, hessian = truncnorm_curves(
            slope[rows] * x[:, 0], x[:, 0], mean[groups], variance[groups]
        )
        return (
            value,
            np.einsum("hi,hi->h", gradient, along)[:, None],
            np.einsum("hij,hi,hj->h", hessian, along, along)[:, None, None],
        )

    start = np.maximum(np.abs(b[beyond] / slope), least[beyond])[:, None]
    c[beyond] = box_maximum(line, start, least[beyond, None], everywhere[beyond, None])[:, 0]
    b[beyond] = slope * c[beyond]

    # Delta method from (b, c) to location mean + b / c and scale c^(-1/2).
    information = -truncnorm_curves(b, c, mean, variance)[2] * sample.n[:, None, None]
    jacobian = np.zeros_like(information)
    jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 1, 1] = 1 / c, -b / c**2, -0.5 * c**-1.5
    inside = c > least
    inside[beyond] = False
    errors = np.full((len(c), 2), np.nan)
    errors[inside] = _standard_errors(information[inside], jacobian[inside])
    none = np.full_like(unit, np.nan)
    return (
        {
            "norm_loc": sample.min + unit * (mean + b / c),
            "norm_scale": unit / np.sqrt(c),
            "min": sample.min,
            "max": sample.max,
        },
        {
            "norm_loc": unit * errors[:, 0],
            "norm_scale": unit * errors[:, 1],
            "min": none,
            "max": none,
        },
    )


def _standard_errors(information: Floats, jacobian: Floats) -> Floats:
    """Return standard errors (h, p); parameters without information are taken as known."""
    scale = np.sqrt(np.einsum("hii->hi", information))
    scale = np.where(scale > 0, scale, 1.0)
    inverse = np.linalg.pinv(information / scale[:, :, None] / scale[:, None, :], hermitian=True)
    jacobian = jacobian / scale[:, None, :]
    variance: Floats = np.einsum("hij,hjk,hik->hi", jacobian, inverse, jacobian)
    return np.sqrt(variance)


# The same with t, the distance from the middle of the ends in units of that between them: the
# density is proportional to exp(b t - c t^2 / 2).


class Shape(NamedTuple):
    """Moments of t, and the densities at its ends -1/2 and 1/2, (g,) each."""

    mean: Floats
    std: Floats
    skewness: Floats
    kurtosis: Floats
    low: Floats
    high: Floats


def truncated_shape(b: Floats, c: Floats) -> Shape:
    """Return the moments of truncated normal distributions in units of their support."""
    return Shape(*_in_blocks(_shape_of_block, b, c))


def _shape_of_block(b: Floats, c: Floats) -> Shape:
    t = np.append(NODES, (-0.5, 0.5))
    exponent = b[:, None] * t - c[:, None] * t**2 / 2
    density = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    mass = density[:, :-2] * NODE_WEIGHTS
    total = mass.sum(axis=1)
    mean = (mass * NODES).sum(axis=1) / total
    z = NODES - mean[:, None]
    second, third, fourth = ((mass * z**k).sum(axis=1) / total for k in (2, 3, 4))
    std = np.sqrt(second)
    return Shape(
        mean, std, third / std**3, fourth / second**2 - 3, density[:, -2] / total,
        density[:, -1] / total,
    )  # fmt: skip


def shape_variances(b: float, c: float) -> tuple[float, float]:
    """Return the variances of b and c by one value: the inverse of their information."""
    density = np.exp(b * NODES - c * NODES**2 / 2)
    p = density * NODE_WEIGHTS / (density * NODE_WEIGHTS).sum()
    terms = np.stack([NODES, NODES**2 / 2])
    terms -= (terms @ p)[:, None]
    information = (terms * p) @ terms.T
    if not np.isfinite(information).all():
        return np.nan, np.nan
    return tuple(np.diag(np.linalg.inv(information)))


def truncated_shape_of(
    skewness: Floats, kurtosis: Floats, b: Floats, c: Floats
) -> tuple[Floats, Floats]:
    """Return b and c of given skewness and kurtosis, as near as can be to those given.

    By Newton's method, whose steps are shortened where they lead no nearer.
    """

    def distance(b: Floats, log: Floats, rows: NDArray[np.intp]) -> Floats:
        shape = truncated_shape(b, np.exp(log))
        return np.stack([shape.skewness - skewness[rows], shape.kurtosis - kurtosis[rows]])

    b, log = b.copy(), np.log(c)
    left = np.flatnonzero(np.isfinite(b + c + skewness + kurtosis))
    here = distance(b[left], log[left], left)
    length = np.ones(left.size)
    for _ in range(_SHAPE_STEPS):
        far = (np.abs(here).max(axis=0, initial=0) > _SHAPE_PRECISION) & (length > _SHAPE_PRECISION)
        left, here, length = left[far], here[:, far], length[far]
        if not left.size:
            break
        at, at_log = b[left], log[left]
        by_b = (distance(at + _SHAPE_STEP, at_log, left) - here) / _SHAPE_STEP
        by_log = (distance(at, at_log + _SHAPE_STEP, left) - here) / _SHAPE_STEP
        determinant = by_b[0] * by_log[1] - by_b[1] * by_log[0]
        step = (here[0] * by_log[1] - here[1] * by_log[0]) / determinant
        step_log = (by_b[0] * here[1] - by_b[1] * here[0]) / determinant
        reach = 2 + np.abs(at) / 2
        new = at - length * np.clip(step, -reach, reach)
        new_log = np.clip(at_log - length * np.clip(step_log, -1.0, 1.0), *_SHAPE_BOUNDS)
        there = distance(new, new_log, left)
        nearer = (there**2).sum(axis=0) < (here**2).sum(axis=0)
        b[left], log[left] = np.where(nearer, new, at), np.where(nearer, new_log, at_log)
        here = np.where(nearer, there, here)
        length = np.where(nearer, np.minimum(2 * length, 1.0), length / 4)
    return b, np.exp(log)


TRUNCNORM = Family(
    name="truncnorm",
    kind="continuous",
    parameters=(
        Parameter("norm_loc", "property", "mean of the normal distribution before truncation"),
        Parameter("norm_scale", "property", "standard deviation before truncation", lower=0),
        _MIN,
        _MAX,
    ),
    formulas=Formulas(
        support=lambda _, __, low, high: (low, high),
        mean=lambda *params: _moments_truncnorm(*params)[0],
        std=lambda *params: _moments_truncnorm(*params)[1],
        logpdf=_logpdf_truncnorm,
        cdf=_cdf_truncnorm,
        ppf=_ppf_truncnorm,
        atom=lambda loc, scale, low, high: (
            (scale == 0) | (low == high),
            np.clip(loc, low, high),
        ),
        loglik=_loglik_truncnorm,
    ),
    requirements=(at_least(4), varied),
    estimate=_fit_truncnorm,
)


# Beta on any interval

_SHAPES = (1e-3, 1e7)  # bounds of both shapes
_REGULAR = 2.0  # the shape above which an end's error is normal


def beta_curves(x: Floats, y: Floats, share: Floats) -> tuple[Floats, Floats, Floats]:
    """Return log-likelihood per value, its gradient and Hessian in the logarithms.

    These are of both shapes and of the gaps between the data and both ends, in units of the data's
    range; ``y`` are values in it, of which each is a ``share``.
    """
    natural = np.exp(x)
    a, b, u, v = natural.T
    left, right = y + u[:, None], 1 - y + v[:, None]

    def average(values: Floats) -> Floats:
        return np.asarray(np.sum(share * values, axis=1))

    unit, both = 1 + u + v, a + b - 1
    log_left = average(np.log(left)) - np.log(unit)
    log_right = average(np.log(right)) - np.log(unit)
    by_left, by_right = average(1 / left), average(1 / right)
    value = (a - 1) * log_left + (b - 1) * log_right - np.log(unit) - special.betaln(a, b)
    joint, joint_slope = special.psi(a + b), trigamma(a + b)
    gradient = natural * np.stack(
        [
            log_left - special.psi(a) + joint,
            log_right - special.psi(b) + joint,
            (a - 1) * by_left - both / unit,
            (b - 1) * by_right - both / unit,
        ],
        axis=1,
    )
    hessian = np.empty((len(x), 4, 4))
    hessian[:, 0, 0] = joint_slope - trigamma(a)
    hessian[:, 1, 1] = joint_slope - trigamma(b)
    hessian[:, 2, 2] = both / unit**2 - (a - 1) * average(left**-2.0)
    hessian[:, 3, 3] = both / unit**2 - (b - 1) * average(right**-2.0)
    hessian[:, 0, 1] = hessian[:, 1, 0] = joint_slope
    hessian[:, 0, 2] = hessian[:, 2, 0] = by_left - 1 / unit
    hessian[:, 1, 3] = hessian[:, 3, 1] = by_right - 1 / unit
    hessian[:, 0, 3] = hessian[:, 3, 0] = hessian[:, 1, 2] = hessian[:, 2, 1] = -1 / unit
    hessian[:, 2, 3] = hessian[:, 3, 2] = both / unit**2
    hessian *= natural[:, :, None] * natural[:, None, :]
    hessian[:, np.arange(4), np.arange(4)] += gradient
    return value, gradient, hessian


def _fit_beta(sample: Sample) -> Estimates:
    """Maximise the likelihood over both shapes and both ends, by their logarithms."""
    width = sample.max - sample.min
    y = (sample.value - sample.min[:, None]) / width[:, None]
    share = sample.balanced / sample.n[:, None]

    def curves(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        return beta_curves(x, y[rows], share[rows])

    lower, upper = beta_bounds(sample.n)
    best = box_maximum(curves, np.log(_start_beta(sample)), lower, upper)
    a, b, u, v = np.exp(best).T

    information = -beta_curves(best, y, share)[2] * sample.n[:, None, None]
    never = np.zeros_like(a, dtype=bool)
    fixed = np.stack([never, never, a <= 1, b <= 1], axis=1)
    information[fixed[:, :, None] | fixed[:, None, :]] = 0
    jacobian = np.zeros_like(information)
    jacobian[:, np.arange(4), np.arange(4)] = np.stack([a, b, width * u, width * v], axis=1)
    inside = ((best > lower) & (best < upper) | fixed).all(axis=1)
    errors = np.full_like(best, np.nan)
    errors[inside] = _standard_errors(information[inside], jacobian[inside])
    errors[np.stack([never, never, a <= _REGULAR, b <= _REGULAR], axis=1)] = np.nan
    estimates = (a, b, sample.min - width * u, sample.max + width * v)
    names = ("a", "b", "min", "max")
    return dict(zip(names, estimates, strict=True)), dict(zip(names, errors.T, strict=True))


def beta_bounds(n: Floats) -> tuple[Floats, Floats]:
    """Return the bounds of the logarithms of both shapes and both gaps of n values, (g, 4) each."""
    shape = np.full_like(n, _SHAPES[0])
    least = np.stack([shape, shape, n**-2.0, n**-2.0], axis=1)
    most = np.array([_SHAPES[1], _SHAPES[1], FARTHEST_END, FARTHEST_END])
    return np.log(least), np.log(np.broadcast_to(most, least.shape))


def _start_beta(sample: Sample) -> Floats:
    """Return first shapes and gaps (g, 4), from four moments by Pearson's type I, else from two."""
    width = sample.max - sample.min
    skew, tail = sample.skewness**2, sample.kurtosis
    total = 3 * (tail - skew + 2) / (1.5 * skew - tail)
    total = np.where((total > 0) & np.isfinite(total), total, 1e3)
    support = sample.std / 2 * np.sqrt((2 + total) ** 2 * skew + 16 * (1 + total))
    lean = np.sqrt(skew / (skew + 16 * (1 + total) / (2 + total) ** 2))
    left = (1 - np.sign(sample.skewness) * lean) / 2  # share of a in a + b
    gaps = (
        np.clip(gap / width, 1 / sample.n, 0.9 * FARTHEST_END)
        for gap in (
            left * support - (sample.mean - sample.min),
            (1 - left) * support - (sample.max - sample.mean),
        )
    )
    u, v = gaps
    unit = 1 + u + v
    mean = ((sample.mean - sample.min) / width + u) / unit
    variance = (sample.std / width / unit) ** 2
    total = np.maximum(mean * (1 - mean) / variance - 1, 1e-2)
    return np.stack([mean * total, (1 - mean) * total, u, v], axis=1)


def _std_beta(a: Floats, b: Floats, low: Floats, high: Floats) -> Floats:
    return (high - low) * np.sqrt(a * b / (a + b + 1)) / (a + b)


def _logpdf_beta(x: Floats, a: Floats, b: Floats, low: Floats, high: Floats) -> Floats:
    y = (x - low) / (high - low)
    kernel = special.xlogy(a - 1, y) + special.xlogy(b - 1, (high - x) / (high - low))
    return np.asarray(kernel - special.betaln(a, b) - np.log(high - low), dtype=np.float64)


BETA = Family(
    name="beta",
    kind="continuous",
    parameters=(
        Parameter("a", "1", "shape at the lower end", lower=0),
        Parameter("b", "1", "shape at the upper end", lower=0),
        _MIN,
        _MAX,
    ),
    formulas=Formulas(
        support=lambda _, __, low, high: (low, high),
        mean=lambda a, b, low, high: low + (high - low) * a / (a + b),
        std=_std_beta,
        logpdf=_logpdf_beta,
        cdf=lambda x, a, b, low, high: special.betainc(a, b, (x - low) / (high - low)),
        ppf=lambda q, a, b, low, high: low + (high - low) * special.betaincinv(a, b, q),
        atom=lambda _, __, low, high: (low == high, low),
    ),
    requirements=(at_least(4), varied),
    estimate=_fit_beta,
)
