"""The registry of distribution families, and how well a distribution fits a sample.

Adding a family is adding one :class:`Distribution` to the registry. All functions work on many
groups (pathways) at once: parameters are arrays with one element for each group.

Examples
--------
>>> sample = Sample.from_values([[1, 2, 2, 5, 1], [3, 3, 4, 7, 2]])
>>> poisson = distribution("poisson")
>>> poisson.fit(sample).parameters["mean"]
array([2.2, 3.8])
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from connprops.errors import OptionError
from connprops.families import Distribution, Estimate, Parameter, Parameters
from connprops.families_bounded import BETA, TRUNCNORM, UNIFORM
from connprops.families_continuous import EXPONENTIAL, GAMMA, LOGNORMAL, NORMAL, WEIBULL
from connprops.families_discrete import (
    CONSTANT,
    DISCRETE,
    GEOMETRIC,
    NEGATIVE_BINOMIAL,
    POISSON,
    SHIFTED_POISSON,
    ZERO,
    ZTPOISSON,
)
from connprops.samples import Sample

__all__ = [
    "DISTRIBUTIONS",
    "Distribution",
    "Estimate",
    "Parameter",
    "Sample",
    "distribution",
    "ks",
    "wasserstein",
]

DISTRIBUTIONS: Mapping[str, Distribution] = MappingProxyType(
    {
        family.name: family
        for family in (
            CONSTANT,
            NORMAL,
            TRUNCNORM,
            GAMMA,
            POISSON,
            ZTPOISSON,
            DISCRETE,
            ZERO,
            LOGNORMAL,
            WEIBULL,
            BETA,
            EXPONENTIAL,
            UNIFORM,
            NEGATIVE_BINOMIAL,
            GEOMETRIC,
            SHIFTED_POISSON,
        )
    }
)
"""All families by name: the eight of connectome-manipulator, then the others."""

_CELLS = 64


def distribution(name: str) -> Distribution:
    """Return the family of that name.

    Raises
    ------
    OptionError
        Where there is none.
    """
    if name not in DISTRIBUTIONS:
        raise OptionError.unknown("distribution", name, DISTRIBUTIONS)
    return DISTRIBUTIONS[name]


def _cumulated(sample: Sample) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of the sample before and up to each point, each (g, k)."""
    with np.errstate(invalid="ignore"):
        after = np.cumsum(sample.weight, axis=1) / sample.n[:, None]
    return np.concatenate([np.zeros_like(after[:, :1]), after[:, :-1]], axis=1), after


def ks(sample: Sample, distribution: Distribution, params: Parameters) -> NDArray[np.float64]:
    """Return the Kolmogorov-Smirnov distances of samples and distributions, (g,), from 0 to 1.

    The greatest difference between the distribution functions. Both sides of each step are
    compared with the same side of the law, so that it is right for discrete laws too. Points of
    a thinned sample stand in the middle of their cells; it is then exact to half the share of
    the largest cell, 0.0016. NaN where there are no values, or a parameter is NaN.
    """
    before, after = _cumulated(sample)
    below, upto = distribution.cdf_sides(sample.value, params)
    sides = np.maximum(np.abs(after - upto), np.abs(before - below))
    middle = np.abs((before + after) / 2 - (upto + below) / 2)
    distance = np.where(sample.exact[:, None], sides, middle)
    greatest = np.where(sample.weight > 0, distance, 0.0).max(axis=1)
    return np.where(sample.n > 0, greatest, np.nan)


def wasserstein(
    sample: Sample, distribution: Distribution, params: Parameters
) -> NDArray[np.float64]:
    """Return the first Wasserstein distances of samples and distributions, (g,).

    In the values' unit: how far, on average, values must be moved to follow the law, that is
    the integral over q of the quantiles' absolute difference. It is summed over cells of q that
    are cut at each point of the sample and, narrowing towards the ends, at 63 other places, by
    the quantiles in their middles; for discrete laws also at the law's own larger steps.
    """
    steps = _cumulated(sample)[1]
    # Cells narrow towards both ends, to 4e-6, where quantiles may grow without limit.
    inner = np.arange(1, _CELLS) / _CELLS
    inner = inner**3 / (inner**3 + (1 - inner) ** 3)
    inner = np.broadcast_to(inner, (len(sample), inner.size))
    cuts = [steps, inner]
    if distribution.kind == "discrete":
        cuts += distribution.cdf_sides(distribution.ppf(inner, params), params)
    cut = np.concatenate(cuts, axis=1)
    order = np.argsort(cut, axis=1, kind="stable")
    end = np.take_along_axis(cut, order, axis=1)
    start = np.concatenate([np.zeros_like(end[:, :1]), end[:, :-1]], axis=1)
    is_step = order < steps.shape[1]
    point = np.minimum(np.cumsum(is_step, axis=1) - is_step, steps.shape[1] - 1)
    width = end - start
    # The law's own steps may come so near to 1 that the middle is rounded to it.
    middle = np.where(width > 0, np.minimum((start + end) / 2, np.nextafter(1, 0)), 0.5)
    moved = np.abs(
        np.take_along_axis(sample.value, point, axis=1) - distribution.ppf(middle, params)
    )
    return np.where(sample.n > 0, np.sum(width * moved, axis=1), np.nan)
