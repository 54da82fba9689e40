"""Distributions of known parameters, and scipy's name for them: the families' oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import optimize, stats

Float = np.ndarray


class _TruncatedPoisson(stats.rv_discrete):
    """The zero-truncated Poisson distribution of a rate, written from its definition."""

    def _pmf(self, k: Float, rate: Float) -> Float:
        return stats.poisson.pmf(k, rate) / -np.expm1(-rate)

    def _cdf(self, k: Float, rate: Float) -> Float:
        none = np.exp(-rate)
        return (stats.poisson.cdf(k, rate) - none) / (1 - none)

    def _ppf(self, q: Float, rate: Float) -> Float:
        none = np.exp(-rate)
        return stats.poisson.ppf(none + q * (1 - none), rate)

    def _stats(self, rate: Float) -> tuple[Any, ...]:
        mean = rate / -np.expm1(-rate)
        return mean, mean * (1 + rate - mean), None, None


_TRUNCATED = _TruncatedPoisson(a=1, name="ztpoisson")


def _ztpoisson(mean: float) -> Any:
    rate = optimize.brentq(lambda r: r / -np.expm1(-r) - mean, 1e-12, mean, xtol=1e-15)
    return _TRUNCATED(rate)


def _truncnorm(norm_loc: float, norm_scale: float, min: float, max: float) -> Any:  # noqa: A002
    a, b = (min - norm_loc) / norm_scale, (max - norm_loc) / norm_scale
    return stats.truncnorm(a, b, norm_loc, norm_scale)


# What scipy calls each family with our parameters.
SCIPY = {
    "normal": lambda mean, std: stats.norm(loc=mean, scale=std),
    "truncnorm": _truncnorm,
    "gamma": lambda mean, std: stats.gamma((mean / std) ** 2, scale=std**2 / mean),
    "poisson": lambda mean: stats.poisson(mu=mean),
    "ztpoisson": _ztpoisson,
    "lognormal": lambda mean_log, std_log: stats.lognorm(std_log, scale=np.exp(mean_log)),
    "weibull": lambda shape, scale: stats.weibull_min(shape, scale=scale),
    "beta": lambda a, b, min, max: stats.beta(a, b, min, max - min),  # noqa: A006
    "exponential": lambda mean: stats.expon(scale=mean),
    "uniform": lambda min, max: stats.uniform(min, max - min),  # noqa: A006
    "negative_binomial": lambda mean, dispersion: stats.nbinom(
        dispersion, dispersion / (dispersion + mean)
    ),
    "shifted_negative_binomial": lambda mean, dispersion: stats.nbinom(
        dispersion, dispersion / (dispersion + mean - 1), loc=1
    ),
    "geometric": lambda mean: stats.geom(1 / mean),
    "shifted_poisson": lambda mean: stats.poisson(mean - 1, loc=1),
}

PARAMETERS: dict[str, list[dict[str, float]]] = {
    "normal": [{"mean": -3, "std": 2}, {"mean": 1e-9, "std": 1e-12}, {"mean": 0, "std": 1e9}],
    "truncnorm": [
        {"norm_loc": 0, "norm_scale": 1, "min": -1, "max": 1},
        {"norm_loc": 0.3, "norm_scale": 0.4, "min": 0, "max": 5},
        {"norm_loc": 5, "norm_scale": 1, "min": -1, "max": 1},
        {"norm_loc": -5, "norm_scale": 1, "min": -1, "max": 1},
        {"norm_loc": -30, "norm_scale": 1, "min": 0, "max": 7},
        {"norm_loc": 0, "norm_scale": 50, "min": -1, "max": 2},
        {"norm_loc": 1e-8, "norm_scale": 1e-9, "min": 0, "max": 1e-7},
    ],
    "gamma": [
        {"mean": 2, "std": 1},
        {"mean": 0.7, "std": 1.9},
        {"mean": 3e-7, "std": 3e-7},
        {"mean": 50, "std": 0.05},
    ],
    "poisson": [{"mean": 0.02}, {"mean": 3}, {"mean": 4000}],
    "ztpoisson": [{"mean": 1.001}, {"mean": 1.3}, {"mean": 4}, {"mean": 90}],
    "lognormal": [{"mean_log": 1, "std_log": 0.5}, {"mean_log": -8, "std_log": 2}],
    "weibull": [{"shape": 0.6, "scale": 2}, {"shape": 1, "scale": 1e-6}, {"shape": 40, "scale": 9}],
    "beta": [
        {"a": 2, "b": 5, "min": 0, "max": 1},
        {"a": 0.6, "b": 0.8, "min": -3, "max": -1},
        {"a": 300, "b": 20, "min": 10, "max": 400},
    ],
    "exponential": [{"mean": 3}, {"mean": 1e-8}],
    "uniform": [{"min": 0, "max": 1}, {"min": -5, "max": -4.5}],
    "negative_binomial": [
        {"mean": 3, "dispersion": 2},
        {"mean": 0.4, "dispersion": 0.05},
        {"mean": 40, "dispersion": 1e4},
    ],
    "shifted_negative_binomial": [{"mean": 4, "dispersion": 2}, {"mean": 1.4, "dispersion": 0.05}],
    "geometric": [{"mean": 1.2}, {"mean": 9}, {"mean": 5000}],
    "shifted_poisson": [{"mean": 1.04}, {"mean": 3.2}, {"mean": 150}],
}


def stacked(distributions: list[dict[str, float]]) -> dict[str, Float]:
    return {
        name: np.array([distribution[name] for distribution in distributions], dtype=float)
        for name in distributions[0]
    }


def loglik_by_scipy(name: str, values: Float, parameters: dict[str, float]) -> float:
    distribution = SCIPY[name](**parameters)
    log = getattr(distribution, "logpdf", None) or distribution.logpmf
    return float(log(values).sum())
