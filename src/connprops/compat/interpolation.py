"""Pathways without data, from the reference's arrays: means over those they borrow from.

Pathways count alike, however many connections they have; that is the reference's way. The
levels are those of :mod:`connprops.fits.samples.levels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.compat.errors import CompatError
from connprops.fits.samples.levels import LevelKeys, borrowed_levels

Arrays = dict[str, NDArray[Any]]
Types = Sequence[Sequence[Any]]

_AVERAGED: dict[str, Callable[[Floats], Any]] = {
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
    by_level = LevelKeys.of(sides[0], sides[1]).sides
    missing = np.setdiff1d(np.arange(mean.size), observed)
    pools = levels.pool_of(missing)
    connections = {name: np.array(array) for name, array in of_connections.items()}
    synapses = {name: np.array(array) for name, array in of_synapses.items()}
    for pool in range(levels.n_pools):
        places = missing[pools == pool]
        borrower = np.divmod(places[0], mean.shape[1])
        keys = by_level[levels.level_of_pool[pool]]
        block = [np.flatnonzero(key == key[i]) for key, i in zip(keys, borrower, strict=True)]
        for arrays, filled in ((of_connections, connections), (of_synapses, synapses)):
            for name, p, value in _borrowed(arrays, *block):
                for place in places:
                    filled[name][*np.divmod(place, mean.shape[1]), *p] = value
    return connections, synapses


def _types(classes: Sequence[Any], layers: Sequence[Any]) -> pl.DataFrame:
    """Return the types of a side as :func:`borrowed_levels` takes them."""
    columns = {"synapse_class": classes, "layer": layers}
    texts = {name: [v if v is None else str(v) for v in of] for name, of in columns.items()}
    return pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String))


def _borrowed(
    arrays: Mapping[str, Any], sources: NDArray[np.intp], targets: NDArray[np.intp]
) -> Iterator[tuple[str, tuple[int, ...], Any]]:
    """Return what a block of pathways lends: name, place of the property if any, and value."""
    for p in np.ndindex(np.shape(arrays["mean"])[2:]):
        # Indexed in the reference's way: sums depend on the order of the cells in memory.
        cells = {name: np.asarray(of)[sources, :, *p][:, targets] for name, of in arrays.items()}
        for name in _AVERAGED.keys() & cells.keys():
            values = cells[name].astype(np.float64)
            yield name, p, np.nan if np.isnan(values).all() else _AVERAGED[name](values)
        if {"val", "cnt"} <= cells.keys():
            values, counts = _merged(cells["val"].ravel(), cells["cnt"].ravel())
            yield from (("val", p, values), ("cnt", p, counts))
            yield "p", p, counts / max(counts.sum(), 1)


def _merged(values: NDArray[Any], counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return distinct values in order with their counts added up; pathways may have none."""
    listed = [i for i, of in enumerate(values) if np.size(of) and np.ndim(of)]
    if not listed:
        return np.empty(0), np.empty(0, dtype=np.int64)
    distinct, which = np.unique(np.concatenate([*values[listed]]), return_inverse=True)
    total = np.zeros(distinct.size, dtype=np.int64)
    np.add.at(total, which, np.concatenate([*counts[listed]]))
    return distinct, total
