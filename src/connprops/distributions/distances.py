"""How far distributions are apart: Kolmogorov-Smirnov and Wasserstein distances."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions

_DEVIATES = np.linspace(-6.5, 6.5, 261)
"""Where distributions are cut: quantiles at the probabilities of these normal deviates."""

_ATOMS_AT_MOST = 2048
"""Values of a discrete distribution that are gone through one by one; of more, none weighs much."""


def distribution_distances(a: Distributions, b: Distributions) -> tuple[Floats, Floats]:
    """Return KS and Wasserstein distances of distributions, pair by pair, (g,) each."""
    x = np.sort(np.concatenate([_cuts(a), _cuts(b)], axis=1), axis=1)
    (below_a, upto_a), (below_b, upto_b) = a.cdf_sides(x), b.cdf_sides(x)
    left, right = np.abs(below_a - below_b), np.abs(upto_a - upto_b)
    ks = np.maximum(left.max(axis=1), right.max(axis=1))
    area = (right[:, :-1] + left[:, 1:]) / 2 * np.diff(x, axis=1)
    return ks, area.sum(axis=1)


def _cuts(distributions: Distributions) -> Floats:
    """Return values, (g, k), between which the distribution functions are nearly linear."""
    from scipy.special import ndtr

    p = np.tile(ndtr(_DEVIATES), (distributions.pathway.size, 1))
    cuts = distributions.ppf(p)
    if distributions.family.kind != "discrete":
        return cuts
    return np.concatenate([cuts, *_atoms(distributions, cuts)], axis=1)


def _atoms(distributions: Distributions, cuts: Floats) -> Iterator[Floats]:
    """Give the values of discrete distributions, unless too many: (g, k), repeated to fill."""
    low, high = cuts[:, :1], cuts[:, -1:]
    if "val" in distributions.parameters:
        values = distributions.parameters["val"]
        yield np.clip(np.where(np.isnan(values), low, values), low, high)
        return
    width = np.max(high - low, initial=0.0)
    if width <= _ATOMS_AT_MOST:
        yield np.clip(np.floor(low) + np.arange(width + 2), low, high)
