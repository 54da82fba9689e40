"""Distributions fitted to the samples of one property, and what stands in where none could be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.families.composed import adapted
from connprops.families.discrete import DISCRETE
from connprops.families.family import Estimate, Family, at_least
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import Moments
from connprops.fits.samples.levels import Levels, Places
from connprops.fits.samples.samples import Samples

Names = NDArray[np.str_]
Parameters = dict[str, Floats]

FALLBACKS = ("constant", "discrete", "truncnorm", "uniform")
"""What is tried, in this order, where the family asked for cannot be fitted."""

_MOMENTS = {"mean": "mean", "std": "std", "norm_loc": "mean", "norm_scale": "std"}
"""What stands for a parameter where the family cannot be fitted: of the sample, this."""


@dataclass(frozen=True)
class Fitted:
    """One property, fitted to g samples.

    ``distributions`` are by family, with the places of samples for pathways; ``status`` and
    ``message`` are as in :data:`connprops.schema.FITS`, (g,).
    """

    distributions: Mapping[str, Distributions]
    status: Names
    message: list[str | None]

    @property
    def families(self) -> Names:
        """Return the family of each sample, (g,)."""
        families = np.full(len(self.status), "", dtype="U32")
        for name, distributions in self.distributions.items():
            families[distributions.pathway] = name
        return families

    def estimates(self, family: Family, samples: Places) -> Distributions:
        """Return a family's fits to some samples, NaN where they have another family."""
        own = self.distributions.get(family.name) or _none_of(family)

        def spread(arrays: Parameters) -> Parameters:
            wide = {
                name: np.full((len(self.status), *array.shape[1:]), np.nan)
                for name, array in arrays.items()
            }
            for name, array in arrays.items():
                wide[name][own.pathway] = array
            return {name: array[samples] for name, array in wide.items()}

        values, errors = spread(own.parameters), spread(own.std_error)
        return Distributions(own.family, samples, values, std_error=errors)

    def replaced(self, new: Distributions, message: Sequence[str | None] | None = None) -> Fitted:
        """Give some samples other distributions than they have, with status "ok"."""
        if not new.pathway.size:
            return self
        status, messages = self.status.copy(), list(self.message)
        status[new.pathway] = "ok"
        for row, text in zip(new.pathway, message or [None] * new.pathway.size, strict=True):
            messages[row] = text
        kept = {
            name: distributions.take(~np.isin(distributions.pathway, new.pathway))
            for name, distributions in self.distributions.items()
        }
        return Fitted(_with(kept, new), status, messages)


def _none_of(family: Family) -> Distributions:
    """Return the distributions of no pathway."""
    none = {p.name: np.empty((0, 1) if p.is_list else 0) for p in family.parameters}
    return Distributions(family, np.empty(0, dtype=np.int64), none, std_error=none)


def _with(
    distributions: Mapping[str, Distributions], new: Distributions
) -> dict[str, Distributions]:
    """Return distributions by family with new ones among them, and without empty families."""
    joined = {**distributions}
    name = new.family.name
    joined[name] = joined[name].joined(new) if name in joined else new
    return {name: of_family for name, of_family in joined.items() if of_family.pathway.size}


def fit_with_fallbacks(asked: Names, samples: Samples) -> Fitted:
    """Fit to each sample the family asked for; where it cannot be, the first fallback that can."""
    n = len(samples)
    status = np.full(n, "failed", dtype="U8")
    message: list[str | None] = [None] * n
    distributions: dict[str, Distributions] = {}

    def attempt(name: str, rows: Places) -> None:
        nonlocal distributions
        family = adapted(family_named(name), samples.known)
        estimate = _estimate(family, rows, samples)
        # Without parameters there is nothing to fit: the user's word is taken.
        ok = (estimate.status == "ok") | (not family.parameters)
        status[rows[ok]] = np.where(asked[rows[ok]] == name, "ok", "fallback")
        for row, text in zip(rows[~ok], estimate.message[~ok], strict=True):
            if asked[row] == name:
                message[row] = f"{name}: {text}"
        of_family = Distributions(
            family, rows, estimate.parameters, std_error=estimate.std_error,
            own_value=estimate.parameters,
        )  # fmt: skip
        distributions = _with(distributions, of_family.take(ok))

    for name in np.unique(asked).tolist():
        attempt(name, np.flatnonzero(asked == name))
    for name in np.unique(asked).tolist():  # a few zeros, say, that the family cannot have
        left = np.flatnonzero((status == "failed") & (asked == name))
        if left.size and f"inflated_{name}" in FAMILIES:
            attempt(f"inflated_{name}", left)
    for name in FALLBACKS:
        left = np.flatnonzero((status == "failed") & (asked != name))
        if left.size:
            attempt(name, left)
    return Fitted(distributions, status, message)


def fit_labels(samples: Samples) -> Fitted:
    """Fit the probabilities of labels by their codes, however many there are."""
    family = replace(DISCRETE, requirements=(at_least(1),))
    rows = np.arange(len(samples))
    estimate = _estimate(family, rows, samples)
    all_of_them = Distributions(
        DISCRETE, rows, estimate.parameters, std_error=estimate.std_error,
        own_value=estimate.parameters,
    )  # fmt: skip
    status = np.full(len(samples), "ok", dtype="U8")
    return Fitted(_with({}, all_of_them), status, [None] * len(samples))


def _estimate(family: Family, rows: Places, samples: Samples) -> Estimate:
    """Return a family's estimates of some samples, made block by block, once of each."""
    _, first, which = np.unique(samples.place[rows], return_index=True, return_inverse=True)
    if first.size < rows.size:
        kept = np.sort(first)
        return _estimate(family, rows[kept], samples).take(np.searchsorted(kept, first)[which])
    blocks, parts = [], []
    for block, part in samples.blocks(rows):
        blocks.append(block)
        parts.append(family.fit(part))
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate(blocks))

    def stacked(values: Sequence[Parameters]) -> Parameters:
        return {name: _of_one_width([part[name] for part in values])[order] for name in values[0]}

    return Estimate(
        stacked([part.parameters for part in parts]), stacked([part.std_error for part in parts]),
        np.concatenate([part.status for part in parts])[order],
        np.concatenate([part.message for part in parts])[order],
    )  # fmt: skip


def _of_one_width(arrays: Sequence[Floats]) -> Floats:
    """Return arrays behind each other, lists (g, k) padded with NaN to the longest."""
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    together = np.full((sum(len(array) for array in arrays), width), np.nan)
    start = 0
    for array in arrays:
        together[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return together


def with_unweighted_means(
    fitted: Fitted, asked: Names, observed: Moments, levels: Levels
) -> Fitted:
    """Give pathways without data the mean parameters of those that they borrow from.

    Each pathway counts alike, however many values it has, as connectome-manipulator has it: the
    parameters' arithmetic means, the least ``min``, the greatest ``max``. A pathway that the
    family cannot be fitted to, a constant one say, counts with its data's mean and standard
    deviation, in families that have these parameters. Families that list values keep the fit of
    the pool, in which counts are added up, and so do those without any parameters to average.
    """
    n = len(observed)
    for name in np.unique(asked[n:]).tolist():
        family = family_named(name)
        if not family.parameters or any(p.is_list for p in family.parameters):
            continue
        has = name in fitted.distributions
        own = fitted.estimates(family, np.arange(n)).parameters if has else {}
        averages = {p.name: _unweighted(p.name, own, observed, levels) for p in family.parameters}
        finite = np.all([np.isfinite(mean) for mean in averages.values()], axis=0)
        pools = np.flatnonzero(finite & (asked[n:] == name))
        values = {key: mean[pools] for key, mean in averages.items()}
        fitted = fitted.replaced(Distributions(family, n + pools, values))
    return fitted


def _unweighted(parameter: str, own: Parameters, observed: Moments, levels: Levels) -> Floats:
    """Return one parameter of each pool from its members, NaN where none has it."""
    extreme = parameter in ("min", "max")
    moment = parameter if extreme else _MOMENTS.get(parameter)
    value = getattr(observed, moment) if moment else np.full(len(observed), np.nan)
    if parameter in own:
        value = np.where(np.isnan(own[parameter]), value, own[parameter])
    lent, pool = value[levels.member], levels.pool
    lent, pool = lent[np.isfinite(lent)], pool[np.isfinite(lent)]
    if extreme:
        ends = np.full(levels.n_pools, np.inf if parameter == "min" else -np.inf)
        (np.minimum if parameter == "min" else np.maximum).at(ends, pool, lent)
        return ends
    # Added in order of size, not of the pathways: sums of floating numbers depend on it.
    order = np.lexsort((lent, pool))
    total = np.bincount(pool[order], weights=lent[order], minlength=levels.n_pools)
    count = np.bincount(pool, minlength=levels.n_pools)
    return total / np.where(count > 0, count, np.nan)
