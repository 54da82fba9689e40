"""Distributions of many samples of one property: the fits, and what stands in where they failed.

What is here turns samples and the families wanted for them into :class:`Fitted`, and puts the
parameters of the reference's rules in their place, for those who ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.families.family import Estimate
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.levels import Levels

Parameters = Mapping[str, Floats]

FALLBACKS = ("constant", "discrete", "truncnorm", "uniform")
"""What is tried, in this order, where the family asked for cannot be fitted."""

_MOMENTS = {"mean": "mean", "std": "std", "norm_loc": "mean", "norm_scale": "std"}
"""What stands for a parameter where the family cannot be fitted: of the sample, this."""


@dataclass(frozen=True)
class Fitted:
    """One property, fitted to g samples.

    Attributes
    ----------
    choice
        Family of each, (g,).
    parameters
        By family: parameters and their standard errors, (g,) or (g, k) each; those of samples of
        other families mean nothing.
    status, message
        As in :data:`connprops.schema.FITS`, (g,).
    """

    choice: NDArray[np.str_]
    parameters: Mapping[str, tuple[Parameters, Parameters]]
    status: NDArray[np.str_]
    message: list[str | None]

    def replaced(self, family: str, rows: NDArray[np.intp], values: Parameters) -> Fitted:
        """Give some samples these parameters of a family, without standard errors."""
        if not rows.size:
            return self
        choice, status, message = self.choice.copy(), self.status.copy(), list(self.message)
        choice[rows], status[rows] = family, "ok"
        for row in rows:
            message[row] = None
        errors = {name: np.full_like(value, np.nan) for name, value in values.items()}
        put = _put(self.parameters.get(family), (values, errors), rows, choice.size)
        parameters = {**self.parameters, family: put}
        used = {name: parameters[name] for name in parameters if (choice == name).any()}
        return Fitted(choice, used, status, message)


def fit_with_fallbacks(wanted: NDArray[np.str_], samples: Sample) -> Fitted:
    """Fit to each sample the family wanted; where it can't be, the first fallback that can."""
    n = len(samples)
    choice = np.full(n, "", dtype="U32")
    status = np.full(n, "failed", dtype="U8")
    message: list[str | None] = [None] * n
    parameters: dict[str, tuple[Parameters, Parameters]] = {}

    def attempt(name: str, rows: NDArray[np.intp]) -> None:
        family = family_named(name)
        estimate = family.fit(samples.take(rows))
        # A distribution without parameters has nothing to fit: it is taken at its user's word.
        found = (estimate.status == "ok") | (not family.parameters)
        choice[rows[found]] = name
        status[rows[found]] = np.where(wanted[rows[found]] == name, "ok", "fallback")
        for row, text in zip(rows[~found], estimate.message[~found], strict=True):
            if wanted[row] == name:
                message[row] = f"{name}: {text}"
        if found.any():
            parameters[name] = _put(parameters.get(name), _of(estimate, found), rows[found], n)

    for name in np.unique(wanted):
        attempt(str(name), np.flatnonzero(wanted == name))
    for name in FALLBACKS:
        left = np.flatnonzero((choice == "") & (wanted != name))
        if left.size:
            attempt(name, left)
    return Fitted(choice, parameters, status, message)


def _of(estimate: Estimate, rows: NDArray[np.bool_]) -> tuple[Parameters, Parameters]:
    values = {name: array[rows] for name, array in estimate.parameters.items()}
    return values, {name: array[rows] for name, array in estimate.std_error.items()}


def _put(
    before: tuple[Parameters, Parameters] | None,
    new: tuple[Parameters, Parameters],
    rows: NDArray[np.intp],
    n: int,
) -> tuple[Parameters, Parameters]:
    """Return values and errors of n samples, NaN but for what there was and what is new."""
    both: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for place, old, part in zip(both, before or ({}, {}), new, strict=True):
        for name, array in part.items():
            was = old.get(name, np.full((n, *array.shape[1:]), np.nan))
            place[name], put = joined_width(was.copy(), array)
            place[name][rows] = put
    return both


def joined_width(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return both arrays, lists (g, k) padded with NaN to the longer of both."""
    if a.ndim == 1:
        return a, b
    width = max(a.shape[1], b.shape[1])
    first, second = (
        np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=np.nan) for x in (a, b)
    )
    return first, second


def with_unweighted_means(
    fitted: Fitted, wanted: NDArray[np.str_], observed: Sample, levels: Levels
) -> Fitted:
    """Give pathways without data the mean parameters of those that they borrow from.

    Each pathway counts alike, however many values it has, as connectome-manipulator has it: the
    parameters' arithmetic means, the least ``min``, the greatest ``max``. A pathway that the
    family cannot be fitted to, a constant one say, counts with its data's mean and standard
    deviation, in families that have these parameters. Families that list values keep the fit of
    the pool, in which counts are added up, and so do those without any parameters to average.

    Parameters
    ----------
    fitted
        Fits of the observed samples, and then the pools.
    wanted
        Families wanted for each of them.
    observed, levels
        The observed samples, and who borrows of whom.
    """
    n = len(observed)
    for name in np.unique(wanted[n:]):
        family = family_named(str(name))
        if not family.parameters or any(p.is_list for p in family.parameters):
            continue
        own = fitted.parameters.get(str(name), ({}, {}))[0]
        means = {
            p.name: _unweighted(p.name, own, fitted.choice[:n] == name, observed, levels)
            for p in family.parameters
        }
        known = np.all([np.isfinite(mean) for mean in means.values()], axis=0)
        pools = np.flatnonzero(known & (wanted[n:] == name))
        fitted = fitted.replaced(
            str(name), n + pools, {key: mean[pools] for key, mean in means.items()}
        )
    return fitted


def _unweighted(
    parameter: str, own: Parameters, has: NDArray[np.bool_], observed: Sample, levels: Levels
) -> Floats:
    """Return one parameter of each pool from its members, NaN where none has it."""
    value = np.full(len(observed), np.nan)
    if parameter in ("min", "max"):
        value = getattr(observed, parameter)
    elif parameter in _MOMENTS:
        value = getattr(observed, _MOMENTS[parameter])
    if parameter in own:
        value = np.where(has, own[parameter][: len(observed)], value)
    lent, pool = value[levels.member], levels.pool
    lent, pool = lent[np.isfinite(lent)], pool[np.isfinite(lent)]
    if parameter in ("min", "max"):
        extreme = np.full(levels.n_pools, np.inf if parameter == "min" else -np.inf)
        (np.minimum if parameter == "min" else np.maximum).at(extreme, pool, lent)
        return extreme
    # Added in order of size, not of the pathways: sums of floating numbers depend on it.
    order = np.lexsort((lent, pool))
    total = np.bincount(pool[order], weights=lent[order], minlength=levels.n_pools)
    count = np.bincount(pool, minlength=levels.n_pools)
    return total / np.where(count > 0, count, np.nan)
