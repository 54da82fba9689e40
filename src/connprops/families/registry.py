"""The registry of distribution families; a new one is one more :class:`Family` in it.

Examples
--------
>>> from connprops.families.sample import Sample
>>> sample = Sample.from_values([[1, 2, 2, 5, 1], [3, 3, 4, 7, 2]])
>>> family_named("poisson").fit(sample).parameters["mean"]
array([2.2, 3.8])
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from connprops.errors import OptionError
from connprops.families.bounded import BETA, TRUNCNORM, UNIFORM
from connprops.families.composed import inflated
from connprops.families.continuous import EXPONENTIAL, GAMMA, LOGNORMAL, NORMAL, QUANTILES, WEIBULL
from connprops.families.discrete import (
    CONSTANT,
    DISCRETE,
    GEOMETRIC,
    NEGATIVE_BINOMIAL,
    POISSON,
    SHIFTED_NEGATIVE_BINOMIAL,
    SHIFTED_POISSON,
    ZERO,
    ZTPOISSON,
)  # fmt: skip
from connprops.families.family import Family


def _by_name(*families: Family) -> Mapping[str, Family]:
    return MappingProxyType({family.name: family for family in families})


REFERENCE_FAMILIES = _by_name(
    CONSTANT, NORMAL, TRUNCNORM, GAMMA, POISSON, ZTPOISSON, DISCRETE, ZERO
)
"""The families that connectome-manipulator has too, by name, which is the same there."""

FAMILIES = _by_name(
    *REFERENCE_FAMILIES.values(), LOGNORMAL, WEIBULL, BETA, EXPONENTIAL, UNIFORM,
    NEGATIVE_BINOMIAL, GEOMETRIC, SHIFTED_POISSON, SHIFTED_NEGATIVE_BINOMIAL,
    QUANTILES, *map(inflated, (GAMMA, LOGNORMAL, NORMAL, TRUNCNORM, ZTPOISSON)),
)  # fmt: skip
"""All families by name: those of connectome-manipulator, then the others."""


def family_named(name: str) -> Family:
    """Return the family of that name; an :class:`OptionError` where there is none."""
    if name not in FAMILIES:
        raise OptionError.unknown("distribution", name, FAMILIES, at_most=len(FAMILIES))
    return FAMILIES[name]
