"""Hierarchical estimates of all families.

docs/numbers.md, "Hierarchical estimates", has the method and its sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from connprops.arrays import Bools, Floats
from connprops.distributions.distributions import Distributions
from connprops.families.composed import adapted
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.fitted import Fitted, Names
from connprops.fits.samples.levels import Levels
from connprops.fits.samples.samples import Samples
from connprops.fits.shrinkage.discrete import own_lists, shrunk_counts, shrunk_lists
from connprops.fits.shrinkage.ends import beta, between_ends
from connprops.fits.shrinkage.hierarchy import Hierarchy
from connprops.fits.shrinkage.points import beside_point
from connprops.fits.shrinkage.scales import Way, exponential, gamma, normal, quantiles, weibull


def with_shrinkage(
    fitted: Fitted, families: Names, samples: Samples, levels: Levels
) -> tuple[Fitted, Floats]:
    """Give observed pathways and pools hierarchical estimates, those of one family together.

    ``families`` are those asked for, of all ``samples``, the observed ones and then the pools.
    Returned is also the levels' weight in each observed pathway, the mean over parameters: NaN
    where nothing could be borrowed.
    """
    n_observed = levels.observed.size
    borrowed = np.full(len(samples), np.nan)
    for name in np.unique(families).tolist():
        family, rows = adapted(family_named(name), samples.known), np.flatnonzero(families == name)
        alone = family.beside or family
        if alone.name not in _WAYS:
            continue
        hierarchy = Hierarchy.of(rows, levels)
        part = samples.moments(rows) if alone is family else samples.other_moments(rows)
        own = fitted.estimates(family, rows)
        first = next(iter(own.parameters.values()))
        has_own = np.isfinite(first if first.ndim == 1 else first[:, 0])
        # What varies, or is too little to tell, belongs to the family; other values do not.
        few = part.n < max(len(alone.parameters), 2)
        few |= samples.known.rounded & (part.std == 0)
        belongs = (has_own | few) & (rows < n_observed)
        way = _WAYS[alone.name]
        if alone is not family:
            way = beside_point(alone, way, np.where(belongs, samples.n[rows], np.nan))
        moved, weight = _moved(own, way, part, hierarchy, belongs)
        kept = (belongs | (rows >= n_observed)) & np.isfinite(weight)
        borrowed[rows[kept]] = weight[kept]
        note = "; what that leaves open is borrowed from its level"
        lacks = ~has_own & (rows < n_observed)
        message = [f"{fitted.message[row]}{note}" if lacks[i] else None
                   for i, row in enumerate(rows) if kept[i]]  # fmt: skip
        fitted = fitted.replaced(moved.take(kept), message)
    return fitted, borrowed[:n_observed]


def _moved(
    own: Distributions, way: Way, sample: Sample, hierarchy: Hierarchy, counts: Bools
) -> tuple[Distributions, Floats]:
    """Return hierarchical estimates of all rows, and the levels' weight: NaN where they have none.

    They have none, either, where a value lies outside the estimate's support. ``counts`` are the
    rows whose values count: of pools their pathways' estimates say all there is to say.
    """
    family, observed = own.family, hierarchy.is_observed()
    alone = replace(sample, n=np.where(counts, sample.n, np.nan))
    with np.errstate(all="ignore"):
        values, errors, weights = way(own, alone, hierarchy)
    lower, upper = family.support(values)
    inside = ~(observed & ((sample.min < lower) | (sample.max > upper)))
    finite = np.all([np.isfinite(x if x.ndim == 1 else x[:, 0]) for x in values.values()], axis=0)
    own_value = {
        name: np.where(observed[(...,) + (None,) * (x.ndim - 1)], x, np.nan)
        for name, x in own.parameters.items()
    }
    if family.name == "discrete":  # own probabilities of the values that are listed now
        own_value = own_lists(own.parameters, values)
    moved = Distributions(family, own.pathway, values, std_error=errors, own_value=own_value)
    weight = np.mean(weights, axis=0)
    return moved, np.where(
        inside & finite & ~family.beyond_numbers(values, whole=sample.is_integer), weight, np.nan
    )


_WAYS: Mapping[str, Way] = {
    "normal": normal("mean", "std"),
    "lognormal": normal("mean_log", "std_log"),
    "gamma": gamma,
    "weibull": weibull,
    "exponential": exponential,
    "truncnorm": between_ends,
    "uniform": between_ends,
    "beta": beta,
    "quantiles": quantiles,
    "discrete": shrunk_lists,
    **dict.fromkeys(
        ("poisson", "ztpoisson", "shifted_poisson", "geometric", "negative_binomial",
         "shifted_negative_binomial"),
        shrunk_counts,
    ),
}  # fmt: skip
