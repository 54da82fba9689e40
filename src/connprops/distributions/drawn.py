"""Distributions of drawn values: within their bounds, and rounded where they are whole numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.families.composed import rounded
from connprops.families.family import Family, Parameters

_LISTED_AT_MOST = 512
"""Range of whole numbers up to which each counts."""

_LISTS_AT_ONCE = 256
"""Number of lists of whole numbers that are gone through together."""

_FAR = 1e-12
"""Probability beyond which drawn numbers are not listed on either side."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_FURTHEST = 8.2
"""Normal deviate beyond which no probability is left."""


@dataclass(frozen=True, kw_only=True)
class _Bounded(Family):
    """A family with two parameters more, ``lower`` and ``upper``: what is beyond lies on them."""

    base: Family

    def _distributions(self, params: Parameters) -> Distributions:
        own = {p.name: np.asarray(params[p.name]) for p in self.parameters}
        lower, upper = np.asarray(params["lower"]), np.asarray(params["upper"])
        return Distributions(self.base, np.arange(lower.size), own, lower, upper)

    def cdf(self, x: ArrayLike, params: Parameters) -> Floats:
        return self._distributions(params).cdf(x)

    def cdf_sides(self, x: ArrayLike, params: Parameters) -> tuple[Floats, Floats]:
        return self._distributions(params).cdf_sides(x)

    def ppf(self, q: ArrayLike, params: Parameters) -> Floats:
        return self._distributions(params).ppf(q)

    def moments(self, params: Parameters) -> tuple[Floats, Floats]:
        return _moments(self._distributions(params))

    def mean(self, params: Parameters) -> Floats:
        return self.moments(params)[0]

    def std(self, params: Parameters) -> Floats:
        return self.moments(params)[1]


def as_drawn(distributions: Distributions, *, whole: bool) -> tuple[Family, dict[str, Floats]]:
    """Return the family and the parameters of what is drawn from distributions.

    Bounds are kept, and then values are rounded where drawn ones are ``whole``. The family is the
    same where neither matters.
    """
    family, parameters = distributions.family, distributions.parameters
    lower, upper = distributions.lower, distributions.upper
    if whole:  # a value within bounds is rounded to one within rounded bounds
        lower, upper = np.rint(lower), np.rint(upper)
    for name in {"val", *(["mean"] if family.name == "constant" else [])} & parameters.keys():
        low, high = (lower[:, None], upper[:, None]) if name == "val" else (lower, upper)
        value = np.clip(parameters[name], low, high)
        return family, {**parameters, name: np.rint(value) if whole else value}
    family = family.unrounded or family
    if whole and family.kind == "continuous":
        family = rounded(family)
    if not (np.isfinite(lower) | np.isfinite(upper)).any():
        return family, parameters
    return _Bounded(**vars(family), base=family), {**parameters, "lower": lower, "upper": upper}


@np.errstate(all="ignore")
def _moments(distributions: Distributions) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of values within bounds, (g,) each.

    Where a bound cuts, they are those of the bounds and of the quantiles between; of counts that
    are not too many, of each.
    """
    family, parameters = distributions.family, distributions.parameters
    lower, upper = distributions.lower, distributions.upper
    below = np.where(lower > -np.inf, family.cdf(lower, parameters), 0.0)
    upto = np.where(upper < np.inf, family.cdf_sides(upper, parameters)[0], 1.0)
    is_cut = (below > 0) | (upto < 1)
    listed = np.zeros_like(is_cut)
    if family.kind == "discrete":
        low, high = distributions.ppf(np.tile([_FAR, 1 - _FAR], (len(distributions), 1))).T
        listed = is_cut & (high - low <= _LISTED_AT_MOST)
    mean, std = np.empty((2, len(distributions)))
    if (whole := np.flatnonzero(~is_cut)).size:
        mean[whole], std[whole] = family.moments(distributions.take(whole).parameters)
    if (counts := np.flatnonzero(listed)).size:
        ends = low[counts], high[counts]
        mean[counts], std[counts] = _moments_of_counts(distributions.take(counts), *ends)
    if (parts := np.flatnonzero(is_cut & ~listed)).size:
        masses = below[parts], upto[parts]
        mean[parts], std[parts] = _moments_of_quantiles(distributions.take(parts), *masses)
    return mean, std


def _moments_of_counts(
    distributions: Distributions, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of counts between two, beyond which there are none."""
    mean, std = np.empty((2, len(distributions)))
    # Lists are as long as the longest that is made with them: like goes with like.
    order = np.argsort(high - low, kind="stable")
    for start in range(0, order.size, _LISTS_AT_ONCE):
        rows = order[start : start + _LISTS_AT_ONCE]
        mean[rows], std[rows] = _of_lists(distributions.take(rows), low[rows], high[rows])
    return mean, std


def _of_lists(distributions: Distributions, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of counts, each of which is listed."""
    value = np.floor(low[:, None]) + np.arange(np.max(high - low) + 2)
    upto = distributions.family.cdf(value, distributions.parameters)
    upto[value >= distributions.upper[:, None]] = 1.0
    value = np.clip(value, distributions.lower[:, None], distributions.upper[:, None])
    return _of_points(value, np.diff(upto, axis=1, prepend=0.0))


def _moments_of_quantiles(
    distributions: Distributions, below: Floats, upto: Floats
) -> tuple[Floats, Floats]:
    """Return mean and standard deviation by quantiles between masses below the bounds."""
    from scipy.special import ndtr, ndtri

    first, last = np.clip(ndtri(np.stack([below, upto])), -_FURTHEST, _FURTHEST)[:, :, None]
    deviate = first + (last - first) * (_NODES + 1) / 2
    weight = (last - first) * _WEIGHTS * np.exp(-(deviate**2) / 2) / np.sqrt(8 * np.pi)
    lower, upper = distributions.lower, distributions.upper
    at_ends = np.where(below > 0, lower, 0.0), np.where(upto < 1, upper, 0.0)
    quantiles = distributions.family.ppf(ndtr(deviate), distributions.parameters)
    return _of_points(
        np.column_stack([quantiles, *at_ends]), np.column_stack([weight, below, 1 - upto])
    )


def _of_points(value: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of weighted points, (g, k)."""
    p = weight / weight.sum(axis=1, keepdims=True)
    mean = (p * value).sum(axis=1)
    return mean, np.sqrt((p * (value - mean[:, None]) ** 2).sum(axis=1))
