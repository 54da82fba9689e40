"""Levels of interpolation: from which pathways one without data borrows its model.

A pathway without data takes the first level whose pathways have enough data: 0 the same source
type, targets of the same layer and class; 1 the same source type, targets of the same class;
2 the same layers and classes on both sides; 3 the same classes; 4 all pathways. A level that
needs a class or layer that a type does not have is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.arrays.hierarchy.posterior import posterior
from connprops.families.sample import Moments
from connprops.schema import PATHWAY, ROW_KEYS

Places = NDArray[np.intp]

_NONE: Places = np.empty(0, dtype=np.intp)

OBSERVED = -1
"""The level of a pathway that has data."""

POOL_FROM = 10
"""Number of values from which on a level's pool is taken."""

ALONE_AT_MOST = 4096
"""Number of pathways without data up to which each has a distribution of its own."""

_SHARED_AT = (
    ("source_type", "target_class", "target_layer"),
    ("source_type", "target_class"),
    ("source_class", "target_class", "source_layer", "target_layer"),
    ("source_class", "target_class"),
    (),
)
"""What the pathways of a pool have in common, at each level that begins with source types."""


@dataclass(frozen=True)
class Pools:
    """Pools of pathways that others borrow from, by the levels at which they do.

    ``member`` and ``pool`` are pairs of a lender and a pool that it is in; ``own`` is the pool that
    each borrower has and ``level`` its level, both -1 where it borrows nothing.
    """

    own: Places
    level: NDArray[np.int8]
    member: Places
    pool: Places
    n_pools: int

    @classmethod
    def of(
        cls,
        lenders: Sequence[Places],
        borrowers: Sequence[Places],
        fewest: Sequence[float],
        size: Floats | None = None,
    ) -> Pools:
        """Give each borrower the first level whose group has enough lenders.

        ``lenders`` and ``borrowers`` are their keys at each level, as of :class:`LevelKeys`,
        ``fewest`` what is enough there: lenders, or the sum of their ``size``.
        """
        own = np.full(borrowers[0].size, -1, dtype=np.intp)
        level = np.full(own.size, -1, dtype=np.int8)
        members, pools = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
        n_pools = 0
        for number, (lends, borrows) in enumerate(zip(lenders, borrowers, strict=True)):
            groups, group = np.unique(lends, return_inverse=True)
            large = groups[(np.bincount(group, size) >= fewest[number]) & (groups >= 0)]
            new = (own < 0) & np.isin(borrows, large)
            used = np.unique(borrows[new])
            own[new] = n_pools + np.searchsorted(used, borrows[new])
            level[new] = number
            members.append(np.flatnonzero(np.isin(lends, used)))
            pools.append(n_pools + np.searchsorted(used, lends[members[-1]]))
            n_pools += used.size
        return cls(own, level, np.concatenate(members), np.concatenate(pools), n_pools)


@dataclass(frozen=True)
class LevelKeys:
    """What pathways have in common, if they may be pooled, at each level.

    ``sides`` are, for each level, numbers of source types and of target types that pathways of one
    pool share, -1 where a type lacks what the level needs. ``side`` says whose types the levels 0
    and 1 are of. Types that no level tells apart are of one kind: pathways are as many as pairs of
    types, their kinds few.
    """

    sides: Sequence[tuple[Places, Places]]
    side: str = "source"

    @classmethod
    def of(cls, source: pl.DataFrame, target: pl.DataFrame, side: str = "source") -> LevelKeys:
        """Return the keys of types of both sides, with ``synapse_class`` and ``layer``."""
        (s_class, s_layer), (t_class, t_layer) = (
            [types[name].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
             for name in ("synapse_class", "layer")]
            for types in (source, target)
        )  # fmt: skip
        s_type, t_type = np.arange(len(source)), np.arange(len(target))
        by_type = [(s_type, _both(t_layer, t_class)), (s_type, t_class)]
        if side == "target":
            by_type = [(_both(s_layer, s_class), t_type), (s_class, t_type)]
        by_class = [
            (_both(s_layer, s_class), _both(t_layer, t_class)),
            (s_class, t_class),
            (np.zeros_like(s_type), np.zeros_like(t_class)),
        ]
        return cls([*by_type, *by_class], side)

    def of_pathways(self, numbers: Places) -> list[Places]:
        """Return the keys of pathways at each level, -1 where one lacks what the level needs."""
        source, target = np.divmod(numbers, max(self.sides[0][1].size, 1))
        return [_both(s[source], t[target], _width(t)) for s, t in self.sides]

    @cached_property
    def kinds(self) -> tuple[Places, Places]:
        """Return the kind of each source type and of each target type."""
        source, target = (
            np.unique(np.stack(of_side), axis=1, return_inverse=True)[1].reshape(-1)
            for of_side in zip(*self.sides, strict=True)
        )
        return source, target

    def kind_of(self, numbers: Places) -> Places:
        """Return the kind of pathways: that of both types."""
        source, target = np.divmod(numbers, max(self.sides[0][1].size, 1))
        return self.kinds[0][source] * _width(self.kinds[1]) + self.kinds[1][target]

    def of_kinds(self) -> tuple[Places, list[Places]]:
        """Return the number of pathways of each kind, and its keys at each level."""
        first, counts = zip(
            *(np.unique(kinds, return_index=True, return_counts=True)[1:] for kinds in self.kinds),
            strict=True,
        )
        keys = [
            _both(s[first[0], None], t[None, first[1]], _width(t)).ravel() for s, t in self.sides
        ]
        return np.outer(*counts).ravel(), keys


def _width(keys: Places) -> int:
    """Return how many numbers keys of one side may be."""
    return int(keys.max(initial=0)) + 1


def _both(a: Places, b: Places, width: int | None = None) -> Places:
    """Return a number for each pair, -1 where either is -1."""
    pair: Places = np.where((a < 0) | (b < 0), -1, a * (width or _width(b)) + b)
    return pair


@dataclass(frozen=True)
class Levels:
    """Which pathways borrow from which; a pool is a set of observed ones that lend.

    Attributes
    ----------
    observed
        Numbers of pathways with data.
    by_level
        What pathways have in common at each level.
    pool_of_kind
        Pool that pathways of each kind borrow from if they have no data, -1 where there is none.
    level_of_pool, member_of_pool
        Level of each pool, and an observed pathway (its place in ``observed``) that is in it.
    sample_of_pool
        The sample of each pool: its own, or that of the first wider level that is large enough.
    member, pool
        Pairs of an observed pathway and a sample of pools that it is in.
    n_samples
        Number of samples of pools.
    keys
        The observed pathways' groups at each level.
    chain
        The levels that pathways borrow at, besides the widest.
    crossed
        Groups of the observed pathways by the types of either side, whose effects add to those of
        the levels.
    alone, crossed_of_pools
        Where each pathway without data is a pool of its own, their numbers, increasing, and their
        groups by the types of either side.
    """

    observed: Places
    by_level: LevelKeys
    pool_of_kind: Places
    level_of_pool: Places
    member_of_pool: Places
    sample_of_pool: Places
    member: Places
    pool: Places
    n_samples: int
    keys: list[Places]
    chain: tuple[int, ...]
    crossed: Sequence[Sequence[Places]] = ()
    alone: Places | None = None
    crossed_of_pools: Sequence[Sequence[Places]] = ()

    @property
    def n_pools(self) -> int:
        """Return the number of pools."""
        return self.level_of_pool.size

    def pool_of(self, numbers: Places) -> Places:
        """Return the pool that pathways without data borrow from, -1 where there is none."""
        if self.alone is not None:
            at = np.searchsorted(self.alone, numbers)
            return np.where(np.append(self.alone, -1)[at] == numbers, at, -1)
        pools: Places = self.pool_of_kind[self.by_level.kind_of(numbers)]
        return pools

    def with_effects(
        self, source: pl.DataFrame, target: pl.DataFrame, further: Places = _NONE
    ) -> Levels:
        """Return the levels in which pathways without data have the effects of both their types.

        Each is a pool of its own then: unless they are very many, for a model's rows should grow
        with the data and not with pairs of types. ``further`` ones have data, and lend nothing.
        """
        n = self.observed.size
        if len(source) * len(target) - n - further.size > ALONE_AT_MOST:
            return self
        with_data = np.concatenate([self.observed, further])
        others = np.setdiff1d(np.arange(len(source) * len(target)), with_data)
        pool = self.pool_of(others)
        others, pool = others[pool >= 0], pool[pool >= 0]
        both = np.concatenate([self.observed, others])
        crossed = _crossed(source, target, both, self.by_level.side)
        return replace(
            self,
            alone=others,
            level_of_pool=self.level_of_pool[pool],
            member_of_pool=self.member_of_pool[pool],
            sample_of_pool=self.sample_of_pool[pool],
            crossed=[[group[:n] for group in stack] for stack in crossed],
            crossed_of_pools=[[group[n:] for group in stack] for stack in crossed],
        )

    def among(self, rows: Places) -> Levels:
        """Return the levels of some observed pathways, of which no others borrow."""
        return replace(
            self,
            observed=self.observed[rows],
            pool_of_kind=np.full_like(self.pool_of_kind, -1),
            level_of_pool=_NONE,
            member_of_pool=_NONE,
            sample_of_pool=_NONE,
            member=_NONE,
            pool=_NONE,
            n_samples=0,
            keys=[key[rows] for key in self.keys],
            crossed=[[group[rows] for group in stack] for stack in self.crossed],
            alone=None,
            crossed_of_pools=(),
        )

    def row_keys(self, source: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
        """Return for which pathways each sample is: :data:`connprops.schema.ROW_KEYS`, ``level``.

        Its rows are the observed pathways, then the pools.
        """
        own = np.full(self.observed.size, OBSERVED)
        level = np.concatenate([own, self.level_of_pool]).astype(np.int8)
        lent = self.observed[self.member_of_pool] if self.alone is None else self.alone
        members = np.concatenate([self.observed, lent])
        places = np.divmod(members, len(target))
        columns: dict[str, Any] = {"level": level}
        for side, types, place in zip(("source", "target"), (source, target), places, strict=True):
            for name, column in (("type", "type"), ("class", "synapse_class"), ("layer", "layer")):
                columns[f"{side}_{name}"] = types[column].gather(place)
        named = pl.DataFrame(columns)
        shared_at = list(_SHARED_AT)
        if self.by_level.side == "target":
            shared_at[:2] = [("target_type", "source_class", "source_layer"),
                             ("target_type", "source_class")]  # fmt: skip
        if self.alone is not None:
            shared_at = [PATHWAY] * len(shared_at)
        return named.select(
            *(
                pl.when(
                    pl.col("level").is_in(
                        [at for at, names in enumerate(shared_at) if key in names]
                        + [OBSERVED] * (key in PATHWAY)
                    )
                ).then(key)
                for key in ROW_KEYS
            ),
            "level",
        )


@dataclass(frozen=True)
class Observations:
    """What observed pathways say of the levels: numbers of values, locations and their variance."""

    n: Floats
    location: Floats
    variance: Floats


def observations_of(sample: Moments) -> Observations:
    """Return the observations of samples: means, of logarithms if all values are positive."""
    positive = bool((sample.min > 0).all())
    mean, std = (sample.mean_log, sample.std_log) if positive else (sample.mean, sample.std)
    order = np.lexsort((std, sample.n))
    within = float((sample.n * std**2)[order].sum()) / max(float((sample.n - 1).sum()), 1.0)
    return Observations(sample.n, mean, within / sample.n)


def borrowed_levels(
    source: pl.DataFrame,
    target: pl.DataFrame,
    observed: Places,
    observations: Observations | None = None,
    further: Places = _NONE,
) -> Levels:
    """Find the level and the pool of every pathway without data.

    Parameters
    ----------
    source, target
        Types of each side in order, with ``synapse_class`` and ``layer``.
    observed
        Numbers of the pathways with data, increasing.
    observations
        Of these pathways. They say which side's types and which levels tell most, and a pool then
        has at least :data:`POOL_FROM` values. Without them source types and all levels count, and
        any pathway with data makes a pool.
    further
        Numbers of other pathways with data, which neither lend nor borrow.
    """
    by_level, chain = LevelKeys.of(source, target), tuple(range(5))
    fewest: list[float] = [1] * len(by_level.sides)
    if observations is not None:
        by_level, chain = _likeliest(source, target, observed, observations)
        fewest = [1 if level in chain else np.inf for level in range(4)] + [1]
    keys = by_level.of_pathways(observed)
    n_of_kind, keys_of_kind = by_level.of_kinds()
    with_data = by_level.kind_of(np.concatenate([observed, further]))
    n_observed = np.bincount(with_data, minlength=n_of_kind.size)
    lacking = np.flatnonzero(n_of_kind > n_observed)
    borrowers = [key[lacking] for key in keys_of_kind]
    samples = pools = Pools.of(keys, borrowers, fewest)
    if observations is not None:
        enough = [*(POOL_FROM * x for x in fewest[:4]), 1]
        samples = Pools.of(keys, borrowers, enough, observations.n)
    pool_of_kind = np.full(n_of_kind.size, -1, dtype=np.intp)
    pool_of_kind[lacking] = pools.own
    borrows = pools.own >= 0
    level, sample, member = np.zeros((3, pools.n_pools), dtype=np.intp)
    level[pools.own[borrows]] = pools.level[borrows]
    sample[pools.own[borrows]] = samples.own[borrows]
    member[pools.pool[::-1]] = pools.member[::-1]
    return Levels(
        observed=observed,
        by_level=by_level,
        pool_of_kind=pool_of_kind,
        level_of_pool=level,
        member_of_pool=member,
        sample_of_pool=sample,
        member=samples.member,
        pool=samples.pool,
        n_samples=samples.n_pools,
        keys=keys,
        chain=chain,
        crossed=[] if observations is None else _crossed(source, target, observed, by_level.side),
    )


def _crossed(
    source: pl.DataFrame, target: pl.DataFrame, observed: Places, side: str
) -> list[list[Places]]:
    """Return the groups of pathways by the types of one side, and by those of the other."""
    types = dict(zip(("source", "target"), np.divmod(observed, len(target)), strict=True))
    other = "target" if side == "source" else "source"
    across = LevelKeys.of(source, target, other).of_pathways(observed)[1]
    return [nested([across, types[other], types[other]], (0, 1)), [types[side]]]


_CHAINS = ((0, 1, 3), (0, 2, 3))
"""Two ways up the levels: by classes alone, or by layers too."""


def _likeliest(
    source: pl.DataFrame, target: pl.DataFrame, observed: Places, observations: Observations
) -> tuple[LevelKeys, tuple[int, ...]]:
    """Return the keys and the levels that are the likeliest for locations.

    Where nothing tells them apart, the first of source types and classes count.
    """
    ways = []
    for side in ("source", "target"):
        by_level = LevelKeys.of(source, target, side)
        keys = by_level.of_pathways(observed)
        ways += [
            (posterior(observations.location, observations.variance, nested(keys, chain)).loglik,
             by_level, chain)
            for chain in _CHAINS
        ]  # fmt: skip
    _, by_level, chain = max(ways, key=lambda way: way[0])
    return by_level, chain


def nested(keys: Sequence[Places], chain: Sequence[int]) -> list[Places]:
    """Return the groups at some levels, each within one of the next; lacking a key is a group."""
    groups: list[Places] = []
    wider = np.zeros_like(keys[0])
    for level in reversed([level for level in chain if level < len(keys) - 1]):
        pair = wider * (keys[level].max(initial=0) + 2) + keys[level] + 1
        wider = np.unique(pair, return_inverse=True)[1]
        groups.insert(0, wider)
    return groups
