"""Levels of interpolation: from which pathways one without data borrows its model.

A pathway without data takes the first level at which some pathway has data: 0 the same source
type, targets of the same layer and class; 1 the same source type, targets of the same class;
2 the same layers and classes on both sides; 3 the same classes; 4 all pathways. A level that
needs a class or layer that a type does not have is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Bools

Places = NDArray[np.intp]

OBSERVED = -1
"""The level of a pathway that has data."""


@dataclass(frozen=True)
class Pools:
    """Pools of pathways that others borrow from, by the levels at which they do.

    ``member`` and ``pool`` are pairs of a pathway and a pool that it is in; ``own`` is the pool
    that each pathway borrows from and ``level`` its level, both -1 where it borrows nothing.
    """

    own: Places
    level: NDArray[np.int8]
    member: Places
    pool: Places
    n_pools: int

    @classmethod
    def of(
        cls, keys: Sequence[Places], lends: Bools, borrows: Bools, fewest: Sequence[int]
    ) -> Pools:
        """Give each pathway that borrows the first level whose group has enough that lend.

        ``keys`` are those of :func:`level_keys`, ``fewest`` what is enough at each level.
        """
        own = np.full(lends.size, -1, dtype=np.intp)
        level = np.full(lends.size, -1, dtype=np.int8)
        members, pools = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
        n_pools = 0
        for number, (key, enough) in enumerate(zip(keys, fewest, strict=True)):
            sizes = np.bincount(key[lends & (key >= 0)], minlength=int(key.max(initial=0)) + 1)
            new = borrows & (own < 0) & (key >= 0) & (sizes[key] >= enough)
            groups = np.unique(key[new])
            own[new] = n_pools + np.searchsorted(groups, key[new])
            level[new] = number
            members.append(np.flatnonzero(lends & np.isin(key, groups)))
            pools.append(n_pools + np.searchsorted(groups, key[members[-1]]))
            n_pools += groups.size
        return cls(own, level, np.concatenate(members), np.concatenate(pools), n_pools)


@dataclass(frozen=True)
class Levels:
    """Which pathways borrow from which; a pool is a set of observed ones that lend.

    Attributes
    ----------
    observed, missing
        Numbers of pathways with data, and of those without that can borrow.
    level
        Level of the observed, then of the missing ones, int8.
    pool_of_missing
        Pool that each missing pathway borrows from.
    member, pool
        Pairs of an observed pathway (its place in ``observed``) and a pool that it is in.
    n_pools
        Number of pools.
    """

    observed: Places
    missing: Places
    level: NDArray[np.int8]
    pool_of_missing: Places
    member: Places
    pool: Places
    n_pools: int

    @property
    def pathway(self) -> Places:
        """Return the observed, then the missing pathways."""
        return np.concatenate([self.observed, self.missing])

    @property
    def sample(self) -> Places:
        """Return which sample each has, where those of pools follow those of the observed."""
        n = self.observed.size
        return np.concatenate([np.arange(n), n + self.pool_of_missing])


def borrowed_levels(source: pl.DataFrame, target: pl.DataFrame, observed: Places) -> Levels:
    """Find the level and the pool of every pathway without data.

    Parameters
    ----------
    source, target
        Types of each side in order, with ``synapse_class`` and ``layer``.
    observed
        Numbers of the pathways with data, increasing.
    """
    keys = level_keys(source, target)
    lends = np.zeros(keys[0].size, dtype=np.bool_)
    lends[observed] = True
    pools = Pools.of(keys, lends, ~lends, [1] * len(keys))
    missing = np.flatnonzero(pools.own >= 0)
    own = np.full(observed.size, OBSERVED, dtype=np.int8)
    return Levels(
        observed=observed,
        missing=missing,
        level=np.concatenate([own, pools.level[missing]]),
        pool_of_missing=pools.own[missing],
        member=np.searchsorted(observed, pools.member),
        pool=pools.pool,
        n_pools=pools.n_pools,
    )


def level_keys(source: pl.DataFrame, target: pl.DataFrame) -> list[Places]:
    """Return, for each level, a number that pathways have in common if they may be pooled.

    It is -1 for a pathway that lacks what the level needs.
    """
    (s_class, s_layer), (t_class, t_layer) = (
        [types[name].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
         for name in ("synapse_class", "layer")]
        for types in (source, target)
    )  # fmt: skip
    s_type = np.arange(len(source))
    sides = [
        (s_type, _both(t_layer, t_class)),
        (s_type, t_class),
        (_both(s_layer, s_class), _both(t_layer, t_class)),
        (s_class, t_class),
        (np.zeros_like(s_type), np.zeros_like(t_class)),
    ]
    return [_both(s[:, None], t[None, :]).ravel() for s, t in sides]


def _both(a: Places, b: Places) -> Places:
    """Return a number for each pair, -1 where either is -1."""
    width = int(b.max(initial=0)) + 1
    pair: Places = np.where((a < 0) | (b < 0), -1, a * width + b)
    return pair
