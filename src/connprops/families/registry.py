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

from connprops.errors import OptionError
from connprops.families.bounded import BETA, TRUNCNORM, UNIFORM
from connprops.families.continuous import EXPONENTIAL, GAMMA, LOGNORMAL, NORMAL, WEIBULL
from connprops.families.discrete import (
    CONSTANT,
    DISCRETE,
    GEOMETRIC,
    NEGATIVE_BINOMIAL,
    POISSON,
    SHIFTED_POISSON,
    ZERO,
    ZTPOISSON,
)
from connprops.families.distances import ks, wasserstein
from connprops.families.family import Distribution, Estimate, Parameter
from connprops.families.sample import Sample

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


FAMILIES: Mapping[str, Distribution] = MappingProxyType(
    {d.reference_name: d for d in DISTRIBUTIONS.values() if d.reference_name}
)
"""The families that the reference knows, by its names."""
