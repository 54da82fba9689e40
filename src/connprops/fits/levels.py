"""Levels of interpolation: from which pathways one without data borrows its model.

A pathway without data takes the first level at which some pathway has data: 0 the same source
type, targets of the same layer and class; 1 the same source type, targets of the same class;
2 the same layers and classes on both sides; 3 the same classes; 4 all pathways. A level that
needs a class or layer that a type does not have is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

OBSERVED = -1
"""The level of a pathway that has data."""


@dataclass(frozen=True)
class Levels:
    """Which pathways borrow from which.

    Pathways are numbered source index times number of target types plus target index. A pool
    is a set of observed pathways that some missing ones borrow from.

    Attributes
    ----------
    observed, missing
        Pathways with and without data, (n_observed,) and (n_missing,).
    level
        Level of the observed, then of the missing ones, int8.
    pool_of_missing
        Pool that each missing pathway borrows from, (n_missing,).
    member, pool
        Pairs of an observed pathway (its place in ``observed``) and a pool that it is in.
    n_pools
        Number of pools.
    """

    observed: NDArray[np.intp]
    missing: NDArray[np.intp]
    level: NDArray[np.int8]
    pool_of_missing: NDArray[np.intp]
    member: NDArray[np.intp]
    pool: NDArray[np.intp]
    n_pools: int


def borrowed_levels(
    source: pl.DataFrame, target: pl.DataFrame, observed: NDArray[np.intp]
) -> Levels:
    """Find the level and the pool of every pathway without data.

    Parameters
    ----------
    source, target
        Types of each side in order, with ``synapse_class`` and ``layer``.
    observed
        Pathways with data.
    """
    n_source, n_target = len(source), len(target)
    everything = np.arange(n_source * n_target)
    missing = np.setdiff1d(everything, observed)
    keys = level_keys(source, target)
    level = np.full(missing.size, -1, dtype=np.int8)
    pool_of_missing = np.full(missing.size, -1, dtype=np.intp)
    members: list[NDArray[np.intp]] = []
    pools: list[NDArray[np.intp]] = []
    n_pools = 0
    for number, key in enumerate(keys if observed.size else []):
        open_ = np.flatnonzero(level < 0)
        wanted = np.unique(key[missing[open_]])
        wanted = wanted[(wanted >= 0) & np.isin(wanted, key[observed])]
        served = open_[np.isin(key[missing[open_]], wanted)]
        level[served] = number
        pool_of_missing[served] = n_pools + np.searchsorted(wanted, key[missing[served]])
        inside = np.flatnonzero(np.isin(key[observed], wanted))
        members.append(inside)
        pools.append(n_pools + np.searchsorted(wanted, key[observed[inside]]))
        n_pools += wanted.size
    nothing = np.empty(0, dtype=np.intp)
    return Levels(
        observed=observed,
        missing=missing[level >= 0],
        level=np.concatenate([np.full(observed.size, OBSERVED, dtype=np.int8), level[level >= 0]]),
        pool_of_missing=pool_of_missing[level >= 0],
        member=np.concatenate([nothing, *members]),
        pool=np.concatenate([nothing, *pools]),
        n_pools=n_pools,
    )


def level_keys(source: pl.DataFrame, target: pl.DataFrame) -> list[NDArray[np.intp]]:
    """Return, for each level, a number that pathways have in common if they may be pooled.

    It is -1 for a pathway that lacks what the level needs.
    """
    s_class, s_layer = _number(source["synapse_class"]), _number(source["layer"])
    t_class, t_layer = _number(target["synapse_class"]), _number(target["layer"])
    s_type = np.arange(len(source))
    zero = np.zeros_like
    sides = [
        (s_type, _both(t_layer, t_class)),
        (s_type, t_class),
        (_both(s_layer, s_class), _both(t_layer, t_class)),
        (s_class, t_class),
        (zero(s_type), zero(np.arange(len(target)))),
    ]
    return [_both(s[:, None], t[None, :]).ravel() for s, t in sides]


def _number(values: pl.Series) -> NDArray[np.intp]:
    """Return values as numbers, -1 for null."""
    known = values.drop_nulls().unique().sort().to_list()
    number = {value: i for i, value in enumerate(known)}
    return np.array([number.get(value, -1) for value in values], dtype=np.intp)


def _both(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return a number for each pair, -1 where either is -1."""
    width = int(b.max(initial=0)) + 1
    pair: NDArray[np.intp] = np.where((a < 0) | (b < 0), -1, a * width + b)
    return pair
