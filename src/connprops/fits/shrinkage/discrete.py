"""Hierarchical estimates of lists of values, and of distributions of counts."""

from __future__ import annotations

import numpy as np

from connprops.arrays import Floats
from connprops.arrays.hierarchy.posterior import dirichlet_weight
from connprops.distributions.distributions import Distributions
from connprops.families.discrete import DISTINCT
from connprops.families.sample import Sample
from connprops.fits.fitted import Parameters
from connprops.fits.samples.levels import Pools
from connprops.fits.shrinkage.hierarchy import LEAST, Hierarchy, Moved

_LISTS_FROM = 8  # pathways from which on a level's list of values is taken


def own_lists(own: Parameters, values: Parameters) -> Parameters:
    """Return the own probabilities of the values that are listed now."""
    p = np.full_like(values["p"], np.nan)
    for row, (listed, new) in enumerate(zip(own["val"], values["val"], strict=True)):
        known = dict(zip(listed.tolist(), own["p"][row].tolist(), strict=True))
        has = ~np.isnan(new)
        p[row, has] = [known.get(x, 0.0) for x in new[has].tolist()]
    return {"val": values["val"], "p": p}


def shrunk_lists(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return lists of values with the probabilities of a Dirichlet-multinomial posterior.

    The level's probabilities count as many values as its pathways' concentration says.
    """
    value, p_own, n_rows = own.parameters["val"], own.parameters["p"], len(sample)
    fitted = np.isfinite(value[: hierarchy.n_observed, 0])
    fewest = [_LISTS_FROM] * (len(hierarchy.keys) - 1) + [LEAST]
    keys = [np.where(fitted, key, -1) for key in hierarchy.keys]
    pools = Pools.of(keys, keys, fewest)
    pieces: dict[int, tuple[Floats, Floats, Floats]] = {}
    borrowed = np.full(n_rows, np.nan)
    for pool in range(pools.n_pools):
        members = pools.member[pools.pool == pool]
        listed = np.unique(value[members][~np.isnan(value[members])])
        if listed.size > DISTINCT:
            continue
        p = np.zeros((members.size, listed.size))
        row, column = np.nonzero(~np.isnan(value[members]))
        p[row, np.searchsorted(listed, value[members][row, column])] = p_own[members][row, column]
        order = np.lexsort((*p.T, sample.n[members]))
        members, p, n = members[order], p[order], sample.n[members[order]]
        common = n @ p / n.sum()
        weight = dirichlet_weight(p, n, common)
        for i in np.flatnonzero(pools.own[members] == pool):
            mixed = p[i] + weight[i] * (common - p[i])
            error = np.sqrt(mixed * (1 - mixed) * (1 - weight[i]) / n[i])
            pieces[int(members[i])] = listed, mixed, error
            borrowed[members[i]] = weight[i]
    width = max([value.shape[1], *(listed.size for listed, _, _ in pieces.values())])

    def padded(which: int) -> Floats:
        wide = np.full((n_rows, width), np.nan)
        for member, piece in pieces.items():
            wide[member, : piece[which].size] = piece[which]
        return wide

    values = {"val": padded(0), "p": padded(1)}
    return values, {"val": np.full_like(values["val"], np.nan), "p": padded(2)}, [borrowed]


def shrunk_counts(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return distributions of counts: the mean, and the inverse of the dispersion, if any.

    The error of a mean is by the family's standard deviation.
    """
    n, family = sample.n, own.family
    law, errors, weights = {}, {}, []
    if "dispersion" in own.parameters:
        inverse = 1 / own.parameters["dispersion"]
        error = own.std_error["dispersion"] * inverse**2
        unit = hierarchy.average(n * error**2, n)
        inverse, variance, weight = hierarchy.toward(inverse, unit / n)
        law["dispersion"] = 1 / np.maximum(inverse, 0)
        errors["dispersion"] = np.sqrt(variance) * law["dispersion"] ** 2
        weights.append(weight)
    mean = np.full_like(n, hierarchy.average(sample.mean, n))
    for _ in range(2):  # the error of a small pathway by what its level has for a mean
        error = family.std({**law, "mean": mean})
        mean, variance, weight = hierarchy.toward(sample.mean, error**2 / n)
        mean = np.maximum(mean, family.support({**law, "mean": mean})[0])
    if "dispersion" in law:  # a count varies also by what is not known of the mean
        above = (mean - family.support({**law, "mean": mean})[0]) ** 2
        law["dispersion"] = above / (above / law["dispersion"] + variance)
    errors["mean"] = np.sqrt(variance)
    return {"mean": mean, **law}, errors, [*weights, weight]
