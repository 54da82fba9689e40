"""The registry of distribution families, and how well a distribution fits a sample.

Adding a family is adding one :class:`Family` to the registry. All functions work on many
groups (pathways) at once: parameters are arrays with one element for each group.

Examples
--------
>>> sample = Sample.from_values([[1, 2, 2, 5, 1], [3, 3, 4, 7, 2]])
>>> poisson = family_named("poisson")
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
from connprops.families.family import Estimate, Family, Parameter
from connprops.families.sample import Sample

__all__ = [
    "FAMILIES",
    "Estimate",
    "Family",
    "Parameter",
    "Sample",
    "family_named",
    "ks",
    "wasserstein",
]

FAMILIES: Mapping[str, Family] = MappingProxyType(
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


def family_named(name: str) -> Family:
    """Return the family of that name.

    Raises
    ------
    OptionError
        Where there is none.
    """
    if name not in FAMILIES:
        raise OptionError.unknown("distribution", name, FAMILIES)
    return FAMILIES[name]


REFERENCE_FAMILIES: Mapping[str, Family] = MappingProxyType(
    {d.reference_name: d for d in FAMILIES.values() if d.reference_name}
)
"""The families that the reference knows, by its names."""
