"""Continuous families on a half-line or the whole line.

Estimators maximise the likelihood; standard errors come from the Fisher information. Formulas:
Johnson, Kotz, Balakrishnan, "Continuous Univariate Distributions", 2nd edition, 1994.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.solvers import increasing_root
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
    return np.where(a > _LARGE_SHAPE, series, special.polygamma(1, a) - 1 / a)


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
