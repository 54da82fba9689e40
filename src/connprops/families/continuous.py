"""Continuous families on a half-line or the whole line, and lists of quantiles.

Estimators maximise the likelihood; standard errors come from the Fisher information. Formulas:
Johnson, Kotz, Balakrishnan, "Continuous Univariate Distributions", 2nd edition, 1994.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.solvers import increasing_root
from connprops.arrays.trigamma import trigamma
from connprops.families.family import (
    Estimates,
    Family,
    Formulas,
    Parameter,
    at_least,
    not_below,
    positive,
    some_positive,
    varied,
)
from connprops.families.sample import Sample

LOG_ROOT_2PI = float(0.5 * np.log(2 * np.pi))

_POSITIVE_MEAN = Parameter("mean", "property", "mean", lower=0)
_STD = Parameter("std", "property", "standard deviation", lower=0)


# Normal


def _fit_normal(sample: Sample) -> Estimates:
    error = sample.std / np.sqrt(sample.n)
    return {"mean": sample.mean, "std": sample.std}, {"mean": error, "std": error / np.sqrt(2)}


def loglik_normal(sample: Sample, mean: Floats, std: Floats) -> Floats:
    """Return the log-likelihood of a normal distribution, (g,)."""
    squares = (sample.std / std) ** 2 + ((sample.mean - mean) / std) ** 2
    return -sample.n * (0.5 * squares + np.log(std) + LOG_ROOT_2PI)


NORMAL = Family(
    name="normal",
    kind="continuous",
    parameters=(Parameter("mean", "property", "mean"), _STD),
    formulas=Formulas(
        support=lambda *_: (-np.inf, np.inf),
        mean=lambda mean, _: mean,
        std=lambda _, std: std,
        logpdf=lambda x, mean, std: -0.5 * ((x - mean) / std) ** 2 - np.log(std) - LOG_ROOT_2PI,
        cdf=lambda x, mean, std: special.ndtr((x - mean) / std),
        ppf=lambda q, mean, std: mean + std * special.ndtri(q),
        atom=lambda mean, std: (std == 0, mean),
        loglik=loglik_normal,
    ),
    requirements=(at_least(2), varied),
    estimate=_fit_normal,
)


# Lognormal


def _fit_lognormal(sample: Sample) -> Estimates:
    error = sample.std_log / np.sqrt(sample.n)
    return (
        {"mean_log": sample.mean_log, "std_log": sample.std_log},
        {"mean_log": error, "std_log": error / np.sqrt(2)},
    )


def _logpdf_lognormal(x: Floats, mean_log: Floats, std_log: Floats) -> Floats:
    log = np.log(x)
    density = -0.5 * ((log - mean_log) / std_log) ** 2 - log - np.log(std_log) - LOG_ROOT_2PI
    return np.where(x > 0, density, -np.inf)


def _loglik_lognormal(sample: Sample, mean_log: Floats, std_log: Floats) -> Floats:
    squares = (sample.std_log**2 + (sample.mean_log - mean_log) ** 2) / std_log**2
    total = -sample.n * (0.5 * squares + sample.mean_log + np.log(std_log) + LOG_ROOT_2PI)
    return np.where(sample.min > 0, total, -np.inf)


LOGNORMAL = Family(
    name="lognormal",
    kind="continuous",
    parameters=(
        Parameter("mean_log", "1", "mean of the natural logarithm"),
        Parameter("std_log", "1", "standard deviation of the natural logarithm", lower=0),
    ),
    formulas=Formulas(
        support=lambda *_: (0.0, np.inf),
        mean=lambda mean_log, std_log: np.exp(mean_log + std_log**2 / 2),
        std=lambda mean_log, std_log: (
            np.exp(mean_log + std_log**2 / 2) * np.sqrt(np.expm1(std_log**2))
        ),
        logpdf=_logpdf_lognormal,
        cdf=lambda x, mean_log, std_log: special.ndtr((np.log(x) - mean_log) / std_log),
        ppf=lambda q, mean_log, std_log: np.exp(mean_log + std_log * special.ndtri(q)),
        atom=lambda mean_log, std_log: (std_log == 0, np.exp(mean_log)),
        loglik=_loglik_lognormal,
    ),
    requirements=(at_least(2), varied, positive),
    estimate=_fit_lognormal,
)


# Gamma, by mean and standard deviation: shape = (mean / std)^2, scale = std^2 / mean.

_LARGE_SHAPE = 100.0  # from here asymptotic series are exact, and differences lose digits


def _log_less_digamma(a: Floats) -> Floats:
    """Return log(a) - digamma(a)."""
    series = 1 / (2 * a) + 1 / (12 * a**2) - 1 / (120 * a**4)
    return np.where(a > _LARGE_SHAPE, series, np.log(a) - special.psi(a))


def _trigamma_less_inverse(a: Floats) -> Floats:
    """Return trigamma(a) - 1 / a."""
    series = 1 / (2 * a**2) + 1 / (6 * a**3) - 1 / (30 * a**5)
    return np.where(a > _LARGE_SHAPE, series, trigamma(a) - 1 / a)


def _stirling(a: Floats) -> Floats:
    """Return a log(a) - a - log(gamma(a))."""
    series = 0.5 * np.log(a / (2 * np.pi)) - 1 / (12 * a) + 1 / (360 * a**3) - 1 / (1260 * a**5)
    return np.where(a > _LARGE_SHAPE, series, special.xlogy(a, a) - a - special.gammaln(a))


def _logpdf_gamma(x: Floats, mean: Floats, std: Floats) -> Floats:
    a, u = (mean / std) ** 2, x / mean
    # Grouped so that nothing of the order of a large shape is left to cancel.
    density: Floats = special.xlogy(a - 1, u) - a * (u - 1) + _stirling(a) - np.log(mean)
    return density


def _loglik_gamma(sample: Sample, mean: Floats, std: Floats) -> Floats:
    a, mean_log = (mean / std) ** 2, sample.mean_log - np.log(mean)
    per_value = (a - 1) * mean_log - a * (sample.mean / mean - 1) + _stirling(a) - np.log(mean)
    # At 0 the density is 0 above shape 1 and infinite below; at 1 moments do not tell.
    return np.where(sample.min > 0, sample.n * per_value, -np.sign(a - 1) * np.inf)


def _fit_gamma(sample: Sample) -> Estimates:
    """Solve log(a) - digamma(a) = log(mean) - mean(log), between 1/(2a) and 1/a (Minka 2002)."""
    mean, cv = sample.mean, sample.std / sample.mean
    # The right-hand side is a difference of near equals where values are close together; there
    # it is the series of -mean(log(1 + (x - mean) / mean)).
    series = cv**2 / 2 - sample.skewness * cv**3 / 3 + (sample.kurtosis + 3) * cv**4 / 4
    close = sample.max - sample.min < 1e-3 * mean
    s = np.where(close, series, np.log(mean) - sample.mean_log)

    def excess(a: Floats) -> tuple[Floats, Floats]:
        return s - _log_less_digamma(a), _trigamma_less_inverse(a)

    start = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    a = increasing_root(excess, 1 / (2 * s), 1 / s, start)
    std = mean / np.sqrt(a)
    # Mean and shape are orthogonal: Var(mean) = mean^2 / (n a), Var(a) = 1 / (n (psi'(a) - 1/a)).
    of_mean = 1 / (sample.n * a)
    of_shape = 1 / (sample.n * a**2 * _trigamma_less_inverse(a))
    return (
        {"mean": mean, "std": std},
        {"mean": mean * np.sqrt(of_mean), "std": std * np.sqrt(of_mean + of_shape / 4)},
    )


GAMMA = Family(
    name="gamma",
    kind="continuous",
    parameters=(_POSITIVE_MEAN, _STD),
    formulas=Formulas(
        support=lambda *_: (0.0, np.inf),
        mean=lambda mean, _: mean,
        std=lambda _, std: std,
        logpdf=_logpdf_gamma,
        cdf=lambda x, mean, std: special.gammainc((mean / std) ** 2, x * mean / std**2),
        ppf=lambda q, mean, std: special.gammaincinv((mean / std) ** 2, q) * std**2 / mean,
        atom=lambda mean, std: (std == 0, mean),
        loglik=_loglik_gamma,
    ),
    requirements=(at_least(2), varied, positive),
    estimate=_fit_gamma,
)


# Exponential

EXPONENTIAL = Family(
    name="exponential",
    kind="continuous",
    parameters=(_POSITIVE_MEAN,),
    formulas=Formulas(
        support=lambda *_: (0.0, np.inf),
        mean=lambda mean: mean,
        std=lambda mean: mean,
        logpdf=lambda x, mean: -x / mean - np.log(mean),
        cdf=lambda x, mean: -np.expm1(-x / mean),
        ppf=lambda q, mean: -mean * np.log1p(-q),
        atom=lambda mean: (mean == 0, mean),
        loglik=lambda sample, mean: -sample.n * (np.log(mean) + sample.mean / mean),
    ),
    requirements=(at_least(1), not_below(0), some_positive),
    estimate=lambda sample: ({"mean": sample.mean}, {"mean": sample.mean / np.sqrt(sample.n)}),
)


# Weibull


def _fit_weibull(sample: Sample) -> Estimates:
    """Solve 1/c = sum(w y exp(c y)) / sum(w exp(c y)) - mean(y), y = log(x / max), for shape c."""
    row, x, _ = sample.points()
    weight = sample.balanced[sample.weight > 0]
    y = np.log(x / sample.max[row])

    def total(values: Floats) -> Floats:
        return np.bincount(row, weights=weight * values, minlength=len(sample)) / sample.n

    mean = total(y)

    def excess(c: Floats) -> tuple[Floats, Floats]:
        power = np.exp(c[row] * y)
        zeroth, first, second = total(power), total(y * power), total(y**2 * power)
        tilted = first / zeroth
        return tilted - mean - 1 / c, second / zeroth - tilted**2 + 1 / c**2

    low = -1 / mean
    high = 1 / (excess(low)[0] + 1 / low)
    std = np.sqrt(total((y - mean[row]) ** 2))
    shape = increasing_root(excess, low, high, np.pi / np.sqrt(6) / std)
    scale = sample.max * total(np.exp(shape[row] * y)) ** (1 / shape)
    # Expected information; with Euler's constant e, 6/pi^2 and 1 + 6 (1 - e)^2 / pi^2.
    of_shape = 6 / np.pi**2
    of_scale = 1 + of_shape * (1 - np.euler_gamma) ** 2
    return (
        {"shape": shape, "scale": scale},
        {
            "shape": shape * np.sqrt(of_shape / sample.n),
            "scale": scale / shape * np.sqrt(of_scale / sample.n),
        },
    )


def _std_weibull(shape: Floats, scale: Floats) -> Floats:
    # Gamma(1 + 2/c) / Gamma(1 + 1/c)^2 - 1 through logarithms, which a large c would cancel.
    ratio = special.gammaln(1 + 2 / shape) - 2 * special.gammaln(1 + 1 / shape)
    std: Floats = scale * special.gamma(1 + 1 / shape) * np.sqrt(np.expm1(ratio))
    return std


def _logpdf_weibull(x: Floats, shape: Floats, scale: Floats) -> Floats:
    u = x / scale
    density: Floats = special.xlogy(shape - 1, u) - u**shape + np.log(shape / scale)
    return density


WEIBULL = Family(
    name="weibull",
    kind="continuous",
    parameters=(
        Parameter("shape", "1", "shape: the hazard grows as x^(shape - 1)", lower=0),
        Parameter("scale", "property", "scale: the quantile 1 - 1/e", lower=0),
    ),
    formulas=Formulas(
        support=lambda *_: (0.0, np.inf),
        mean=lambda shape, scale: scale * special.gamma(1 + 1 / shape),
        std=_std_weibull,
        logpdf=_logpdf_weibull,
        cdf=lambda x, shape, scale: -np.expm1(-((x / scale) ** shape)),
        ppf=lambda q, shape, scale: scale * (-np.log1p(-q)) ** (1 / shape),
        atom=lambda _, scale: (scale == 0, scale),
    ),
    requirements=(at_least(2), varied, positive),
    estimate=_fit_weibull,
)


# Quantiles, at probabilities that narrow towards both ends; between them the density is constant

N_QUANTILES = 33
_OWN_FROM, _COMMON_FROM = 100.0, 10.0
"""Number of values from which quantiles are a sample's own, and say something of all samples'."""

_PARTS = 8  # into which the room is divided that is rounded to a count


def levels(count: int = N_QUANTILES) -> Floats:
    """Return the probabilities of a list of quantiles."""
    return np.asarray(np.sin(np.linspace(0, np.pi / 2, count)) ** 2)


def _own_quantiles(sample: Sample) -> Floats:
    """Return the quantiles of samples, (g, k); repeated values fill as much as they are.

    The distribution ends half a distance of values beyond a sample's extremes that come once, yet
    has no negative values where the sample has none. A count fills the room that is rounded to it.
    """
    own = np.empty((len(sample), N_QUANTILES))
    upto = np.cumsum(sample.weight, axis=1)
    for row, (value, weight, after) in enumerate(
        zip(sample.value, sample.weight, upto, strict=True)
    ):
        x, w = value[weight > 0], weight[weight > 0]
        if sample.known.rounded:
            border = np.stack([x - 0.5, x + 0.5], axis=1).ravel()
            ends = np.stack([after[: x.size] - w, after[: x.size]], axis=1).ravel()
            own[row] = np.interp(levels() * sample.n[row], ends, border)
            continue
        ends = np.stack([after[: x.size] - w + 0.5, after[: x.size] - 0.5], axis=1)
        gaps = np.diff(x, prepend=x[0], append=x[-1])[[min(1, x.size - 1), -2]] / 2
        first, last = x[[0, -1]] + np.where(w[[0, -1]] == 1, gaps, 0.0) * [-1, 1]
        own[row] = np.interp(
            levels() * sample.n[row],
            np.concatenate([[0], ends.ravel(), sample.n[row : row + 1]]),
            np.concatenate([[first if x[0] < 0 else max(first, 0.0)], np.repeat(x, 2), [last]]),
        )
    return own


def common_quantiles(sample: Sample, *, of_logs: bool = False) -> tuple[float, ...]:
    """Return the quantiles that samples have in common, in units of their std from their mean.

    They are those of all values together, each in units of its own sample.
    """
    least = min(_COMMON_FROM, sample.n.max(initial=0))
    sample = sample.take((sample.std > 0) & (sample.n >= least))
    if not len(sample):
        return ()
    group, value, weight = sample.points()
    if sample.known.rounded:
        part = (np.arange(_PARTS) + 0.5) / _PARTS - 0.5
        value = (value[:, None] + part).ravel()
        group, weight = group.repeat(_PARTS), (weight / _PARTS).repeat(_PARTS)
    value = np.log(value) if of_logs else value
    n = sample.n
    mean = np.bincount(group, weight * value, n.size) / n
    std = np.sqrt(np.bincount(group, weight * (value - mean[group]) ** 2, n.size) / (n - 1))
    z = (value - mean[group]) / std[group]
    order = np.argsort(z)
    if (np.diff(z[order]) == 0).any():  # only then does it take longer to be independent of order
        order = np.lexsort((weight, z))
    z, upto = z[order], np.cumsum(weight[order])
    own = np.interp(levels() * upto[-1], upto - weight[order] / 2, z)
    return tuple(standardised(own[None], of_logs=False)[0].tolist())


def standardised(quantile: Floats, *, of_logs: bool) -> Floats:
    """Return lists of quantiles, (g, k), or of their logarithms, with mean 0 and std 1."""
    if of_logs:
        quantile = np.log(np.maximum(quantile, quantile[:, 1:2] / 2))
    mean, std = _mean_quantiles(quantile.T), _std_quantiles(quantile.T)
    return np.asarray((quantile - mean[:, None]) / std[:, None])


def _fit_quantiles(sample: Sample) -> Estimates:
    """Take a sample's own quantiles; of few values, in part the common ones, moved to them."""
    own = _own_quantiles(sample)
    shape = np.array(sample.known.shape or special.ndtri(levels() * 0.998 + 0.001))
    if sample.known.of_logs:
        common = np.exp(sample.mean_log[:, None] + sample.std_log[:, None] * shape)
    else:
        common = sample.mean[:, None] + sample.std[:, None] * shape
    common = np.maximum(common, np.minimum(sample.min, 0.0)[:, None])
    share = np.minimum(sample.n / _OWN_FROM, 1.0)[:, None]
    quantile = share * own + (1 - share) * common
    # Straight lines lose a little of mean and std; where values are repeated, these stay in place.
    mean, std = _mean_quantiles(quantile.T), _std_quantiles(quantile.T)
    moved = sample.mean[:, None] + (quantile - mean[:, None]) * (sample.std / std)[:, None]
    stays = (np.diff(quantile) == 0).any(axis=1) | ((sample.min >= 0) & (moved[:, 0] < 0))
    stays |= sample.known.rounded
    quantile = np.where(stays[:, None], quantile, moved)
    p = levels()
    slope = (quantile[:, 2:] - quantile[:, :-2]) / (p[2:] - p[:-2])
    error = np.full_like(quantile, np.nan)
    error[:, 1:-1] = np.sqrt(p * (1 - p))[1:-1] * slope / np.sqrt(sample.n)[:, None]
    return {"quantile": quantile}, {"quantile": error}


def _cells(quantile: Floats) -> Iterator[tuple[float, Floats, Floats]]:
    """Give the cells between quantiles: their probability and both ends."""
    return zip(np.diff(levels(len(quantile))), quantile[:-1], quantile[1:], strict=True)


def _mean_quantiles(quantile: Floats) -> Floats:
    return np.asarray(sum(p * (low + high) / 2 for p, low, high in _cells(quantile)))


def _std_quantiles(quantile: Floats) -> Floats:
    away = quantile - _mean_quantiles(quantile)
    square = sum(p * (a**2 + a * b + b**2) / 3 for p, a, b in _cells(away))
    return np.asarray(np.sqrt(square))


def _step_quantiles(x: Floats, quantile: Floats) -> Floats:
    at_x = (p * ((low == high) & (x == low)) for p, low, high in _cells(quantile))
    return np.asarray(sum(at_x), dtype=np.float64)


def _logpdf_quantiles(x: Floats, quantile: Floats) -> Floats:
    density = np.zeros(np.broadcast_shapes(x.shape, quantile.shape[1:]))
    for p, low, high in _cells(quantile):
        density = np.where((x >= low) & (x <= high) & (high > low), p / (high - low), density)
    step = _step_quantiles(x, quantile)
    return np.log(np.where(step > 0, step, density))


def _cdf_quantiles(x: Floats, quantile: Floats) -> Floats:
    below = (
        p * np.where(high > low, np.clip((x - low) / (high - low), 0, 1), x >= low)
        for p, low, high in _cells(quantile)
    )
    return np.asarray(sum(below))


def _ppf_quantiles(q: Floats, quantile: Floats) -> Floats:
    p = levels(len(quantile))
    q = np.broadcast_to(q, np.broadcast_shapes(q.shape, quantile.shape[1:]))
    cell = np.clip(np.searchsorted(p, q, side="right") - 1, 0, len(p) - 2)
    low, high = (np.take_along_axis(quantile, at[None], 0)[0] for at in (cell, cell + 1))
    return np.asarray(low + (high - low) * (q - p[cell]) / (p[cell + 1] - p[cell]))


QUANTILES = Family(
    name="quantiles",
    kind="continuous",
    parameters=(
        Parameter(
            "quantile", "property", "quantiles, the k-th of 33 at sin^2(pi k / 64)", is_list=True
        ),
    ),
    formulas=Formulas(
        support=lambda quantile: (quantile[0], quantile[-1]),
        mean=_mean_quantiles,
        std=_std_quantiles,
        logpdf=_logpdf_quantiles,
        cdf=_cdf_quantiles,
        ppf=_ppf_quantiles,
        atom=lambda quantile: (quantile[0] == quantile[-1], quantile[0]),
        step=_step_quantiles,
    ),
    requirements=(at_least(2), varied),
    estimate=_fit_quantiles,
)
"""What no other family fits. A list moves as a whole: to borrow, take a location, a scale, and the
mean of standardised lists, place by place, as :func:`common_quantiles` does."""
