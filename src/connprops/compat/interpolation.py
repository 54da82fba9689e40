"""Pathways without data, from the reference's arrays: means over those they borrow from.

Pathways count alike, however many connections they have; that is the reference's way. The
levels are those of :mod:`connprops.fits.levels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.compat.errors import CompatError
from connprops.fits.levels import OBSERVED, borrowed_levels

Arrays = dict[str, NDArray[Any]]
Types = Sequence[Sequence[Any]]
Block = tuple[tuple[int, ...], tuple[int, ...]]
"""Source and target types of the pathways that one borrows from."""
Value = tuple[str, tuple[int, ...], Any]
"""Name of a statistic, index of the property if there is any, and what it is."""

_AVERAGED: dict[str, Callable[[NDArray[np.float64]], Any]] = {
    "mean": np.nanmean,
    "std": np.nanmean,
    "min": np.nanmin,
    "max": np.nanmax,
    "norm_loc": np.nanmean,
    "norm_scale": np.nanmean,
    # The majority decides, and a tie means no: numpy rounds 0.5 to 0.
    "shared_within": lambda array: np.round(np.nanmean(array)),
}


def interpolated(
    of_connections: Mapping[str, Any], of_synapses: Mapping[str, Any], classes: Types, layers: Types
) -> tuple[Arrays, Arrays]:
    """Return copies of both dictionaries in which pathways without data have borrowed some.

    A pathway has no data where the mean number of synapses per connection is not finite. What it
    borrows depends on the given arrays only, never on what other such pathways have borrowed.

    Parameters
    ----------
    of_connections, of_synapses
        As the reference's ``extract`` returns them: arrays (sources, targets), and (sources,
        targets, properties).
    classes, layers
        Synapse class and layer of the types of either side.

    Raises
    ------
    CompatError
        Where no pathway has data.
    """
    mean = np.asarray(of_connections["mean"], dtype=np.float64)
    observed = np.flatnonzero(np.isfinite(mean))
    if not observed.size:
        raise CompatError.of(
            "No pathway has data, so there is nothing to build a model from",
            hint="a smaller min_sample_size_per_group, or a wider selection?",
        )
    sides = [_types(*side) for side in zip(classes, layers, strict=True)]
    levels = borrowed_levels(sides[0], sides[1], observed)
    given = of_connections, of_synapses
    filled = tuple({name: np.array(array) for name, array in of.items()} for of in given)
    borrowed: dict[Block, list[list[Value]]] = {}
    level_of_missing = levels.level[levels.level != OBSERVED].tolist()
    for place, level in zip(levels.missing.tolist(), level_of_missing, strict=True):
        at = divmod(place, mean.shape[1])
        block = _lenders(level, at, classes, layers)
        if block not in borrowed:
            borrowed[block] = [_borrowed(of, block) for of in given]
        for of, values in zip(filled, borrowed[block], strict=True):
            for name, p, value in values:
                of[name][*at, *p] = value
    return filled[0], filled[1]


def _types(classes: Sequence[Any], layers: Sequence[Any]) -> pl.DataFrame:
    """Return the types of a side as :func:`borrowed_levels` takes them."""
    columns = {"synapse_class": classes, "layer": layers}
    return pl.DataFrame(
        {name: pl.Series([None if v is None else str(v) for v in values], dtype=pl.String)
         for name, values in columns.items()}
    )  # fmt: skip


def _lenders(level: int, at: tuple[int, int], classes: Types, layers: Types) -> Block:
    """Return the types of the pathways that those of one level borrow from."""
    by_class = (True, True, True, True, False)[level]
    by_layer = (True, False, True, False, False)[level]
    sides = []
    for one, of_class, of_layer in zip(at, classes, layers, strict=True):
        alike = (
            i
            for i in range(len(of_class))
            if (not by_class or of_class[i] == of_class[one])
            and (not by_layer or of_layer[i] == of_layer[one])
        )
        sides.append(tuple(alike))
    # The first two levels stay with the source type.
    return ((at[0],), sides[1]) if level <= 1 else (sides[0], sides[1])


def _borrowed(of: Mapping[str, Any], block: Block) -> list[Value]:
    """Return what a block of pathways lends, for one of the dictionaries."""
    sources, targets = (np.array(types) for types in block)
    lent: list[Value] = []
    for p in np.ndindex(np.shape(of["mean"])[2:]):
        # Indexed in the reference's way: sums depend on the order of the cells in memory.
        cells = {name: np.asarray(of[name])[sources, :, *p][:, targets] for name in of}
        for name in _AVERAGED.keys() & cells.keys():
            values = cells[name].astype(np.float64)
            known = not np.isnan(values).all()
            lent.append((name, p, _AVERAGED[name](values) if known else np.nan))
        if {"val", "cnt"} <= cells.keys():
            values, counts = _merged(cells["val"].ravel(), cells["cnt"].ravel())
            shares = counts / max(counts.sum(), 1)
            lent += [("val", p, values), ("cnt", p, counts), ("p", p, shares)]
    return lent


def _merged(values: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distinct values in order with their counts added up; pathways may have none."""
    some = [i for i, one in enumerate(values) if np.size(one) and np.ndim(one)]
    if not some:
        return np.empty(0), np.empty(0, dtype=np.int64)
    distinct, which = np.unique(np.concatenate([values[i] for i in some]), return_inverse=True)
    total = np.zeros(distinct.size, dtype=np.int64)
    np.add.at(total, which, np.concatenate([counts[i] for i in some]))
    return distinct, total
