"""Hierarchical estimates of distributions beside a point, which a share of the values equals."""

from __future__ import annotations

import numpy as np

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.families.family import Family
from connprops.families.sample import Sample
from connprops.fits.shrinkage.hierarchy import Hierarchy, Moved
from connprops.fits.shrinkage.scales import Way

_LEAST_SHARE = 0.01
"""No level is taken to have less than this part of the common share, of the point or the others."""


def beside_point(family: Family, way: Way, n: Floats) -> Way:
    """Return the way of a family whose values, n of them, are a point's beside the others.

    Its samples are of the others, which move as those of the family alone do.
    """

    def moved(own: Distributions, others: Sample, hierarchy: Hierarchy) -> Moved:
        names = [parameter.name for parameter in family.parameters]
        alone = Distributions(
            family, own.pathway, {name: own.parameters[name] for name in names},
            std_error={name: own.std_error[name] for name in names},
        )  # fmt: skip
        values, errors, weights = way(alone, others, hierarchy)
        share, variance, weight = _shrunk_shares(1 - others.n / n, n, hierarchy)
        none = np.full_like(share, np.nan)
        values |= {"point": np.full_like(share, others.known.point), "p_point": share}
        errors |= {"point": none, "p_point": np.sqrt(variance)}
        return values, errors, [*weights, weight]

    return moved


def _shrunk_shares(own: Floats, n: Floats, hierarchy: Hierarchy) -> tuple[Floats, Floats, Floats]:
    """Return shares of n values each moved towards their level's, with their variance and weight.

    How far a few values are off is by the share of their level, not by their own: small shares
    would be taken for the surer ones.
    """
    total = np.nansum(n[: hierarchy.n_observed])
    common = (hierarchy.average(own, n) * total + 1) / (total + 2)
    share, _, weight = hierarchy.toward(own, common * (1 - common) / n)
    level = np.where(weight > 0, (share - (1 - weight) * own) / weight, common)
    level = np.clip(level, _LEAST_SHARE * common, 1 - _LEAST_SHARE * (1 - common))
    share, variance, weight = hierarchy.toward(own, level * (1 - level) / n)
    return np.clip(share, 0, 1), variance, weight
