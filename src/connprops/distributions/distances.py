"""TODO."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from connprops.arrays import Floats
from connprops.distributions.distributions import Laws

_DEVIATES = np.linspace(-6.5, 6.5, 261)
"""Where distributions are cut: quantiles at the probabilities of these normal deviates."""


_ATOMS_AT_MOST = 2048
"""Values of a discrete law that are gone through one by one; of more, none weighs much."""


def law_distances(a: Laws, b: Laws) -> tuple[Floats, Floats]:
    """Return KS and Wasserstein distances of laws, pair by pair, (g,) each."""
    x = np.sort(np.concatenate([_cuts(a), _cuts(b)], axis=1), axis=1)
    (below_a, upto_a), (below_b, upto_b) = a.cdf_sides(x), b.cdf_sides(x)
    left, right = np.abs(below_a - below_b), np.abs(upto_a - upto_b)
    ks = np.maximum(left.max(axis=1), right.max(axis=1))
    area = (right[:, :-1] + left[:, 1:]) / 2 * np.diff(x, axis=1)
    return ks, area.sum(axis=1)


def _cuts(laws: Laws) -> Floats:
    """Return values, (g, k), between which a law's distribution function is nearly linear."""
    from scipy.special import ndtr

    p = np.tile(ndtr(_DEVIATES), (laws.pathway.size, 1))
    cuts = laws.ppf(p)
    if laws.family.kind != "discrete":
        return cuts
    return np.concatenate([cuts, *_atoms(laws, cuts)], axis=1)


def _atoms(laws: Laws, cuts: Floats) -> Iterator[Floats]:
    """Give the values of discrete laws, where they are not too many: (g, k), repeated to fill."""
    low, high = cuts[:, :1], cuts[:, -1:]
    if "val" in laws.parameters:
        values = laws.parameters["val"]
        yield np.clip(np.where(np.isnan(values), low, values), low, high)
        return
    width = np.max(high - low, initial=0.0)
    if width <= _ATOMS_AT_MOST:
        yield np.clip(np.floor(low) + np.arange(width + 2), low, high)
