"""Levels of interpolation: from which pathways one without data borrows its model.

A pathway without data takes the first level whose pathways have enough data: 0 the same source
type, targets of the same layer and class; 1 the same source type, targets of the same class;
2 the same layers and classes on both sides; 3 the same classes; 4 all pathways. A level that
needs a class or layer that a type does not have is skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats
from connprops.arrays.hierarchy import posterior
from connprops.families.sample import Moments
from connprops.schema import PATHWAY, ROW_KEYS

Places = NDArray[np.intp]

OBSERVED = -1
"""The level of a pathway that has data."""

POOL_FROM = 10
"""Number of values from which on a level's pool is taken."""

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
        cls,
        keys: Sequence[Places],
        lends: Bools,
        borrows: Bools,
        fewest: Sequence[float],
        size: Floats | None = None,
    ) -> Pools:
        """Give each pathway that borrows the first level whose group has enough that lend.

        ``keys`` are those of :func:`level_keys`, ``fewest`` what is enough at each level: pathways
        that lend, or the sum of their ``size``.
        """
        own = np.full(lends.size, -1, dtype=np.intp)
        level = np.full(lends.size, -1, dtype=np.int8)
        members, pools = [np.empty(0, dtype=np.intp)], [np.empty(0, dtype=np.intp)]
        n_pools = 0
        for number, (key, enough) in enumerate(zip(keys, fewest, strict=True)):
            counted = lends & (key >= 0)
            weights = None if size is None else size[counted]
            sizes = np.bincount(key[counted], weights, minlength=int(key.max(initial=0)) + 1)
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
        Pool that each missing pathway borrows from: the pathways with data at its level.
    level_of_pool, member_of_pool
        Level of each pool, and an observed pathway (its place in ``observed``) that is in it.
    sample_of_pool
        The sample of each pool: its own, or that of the first wider level that is large enough.
    member, pool
        Pairs of an observed pathway and a sample of pools that it is in.
    n_samples
        Number of samples of pools.
    keys
        The observed pathways' groups at each level: see :func:`level_keys`.
    chain
        The levels that pathways borrow at, besides the widest.
    side
        Whose types the levels 0 and 1 are of.
    crossed
        Groups of the observed pathways by the types of either side, whose effects add to those of
        the levels.
    """

    observed: Places
    missing: Places
    level: NDArray[np.int8]
    pool_of_missing: Places
    level_of_pool: Places
    member_of_pool: Places
    sample_of_pool: Places
    member: Places
    pool: Places
    n_samples: int
    keys: list[Places]
    chain: tuple[int, ...]
    side: str = "source"
    crossed: Sequence[Sequence[Places]] = ()

    @property
    def pathway(self) -> Places:
        """Return the observed, then the missing pathways."""
        return np.concatenate([self.observed, self.missing])

    @property
    def n_pools(self) -> int:
        """Return the number of pools."""
        return self.level_of_pool.size

    @property
    def sample(self) -> Places:
        """Return which sample each has, where those of pools follow those of the observed."""
        n = self.observed.size
        return np.concatenate([np.arange(n), n + self.pool_of_missing])

    def row_keys(self, source: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
        """Return for which pathways each sample is: :data:`connprops.schema.ROW_KEYS`, ``level``.

        Its rows are the observed pathways, then the pools.
        """
        own = np.full(self.observed.size, OBSERVED)
        level = np.concatenate([own, self.level_of_pool]).astype(np.int8)
        members = np.concatenate([self.observed, self.observed[self.member_of_pool]])
        places = np.divmod(members, len(target))
        columns: dict[str, Any] = {"level": level}
        for side, types, place in zip(("source", "target"), (source, target), places, strict=True):
            for name, column in (("type", "type"), ("class", "synapse_class"), ("layer", "layer")):
                columns[f"{side}_{name}"] = types[column].gather(place)
        named = pl.DataFrame(columns)
        shared_at = list(_SHARED_AT)
        if self.side == "target":
            shared_at[:2] = [("target_type", "source_class", "source_layer"),
                             ("target_type", "source_class")]  # fmt: skip
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
    """
    keys, chain, side = level_keys(source, target), tuple(range(5)), "source"
    lends = np.zeros(keys[0].size, dtype=np.bool_)
    lends[observed] = True
    sizes = np.ones(lends.size)
    fewest: list[float] = [1] * len(keys)
    if observations is not None:
        keys, chain, side = _likeliest(source, target, observed, observations)
        fewest = [1 if level in chain else np.inf for level in range(4)] + [1]
    pools = Pools.of(keys, lends, ~lends, fewest)
    samples = pools
    if observations is not None:
        sizes[observed] = observations.n
        samples = Pools.of(keys, lends, ~lends, [*(POOL_FROM * x for x in fewest[:4]), 1], sizes)
    missing = np.flatnonzero(pools.own >= 0)
    pool = pools.own[missing]
    level, sample, member = np.zeros((3, pools.n_pools), dtype=np.intp)
    level[pool], sample[pool] = pools.level[missing], samples.own[missing]
    member[pools.pool[::-1]] = np.searchsorted(observed, pools.member[::-1])
    own = np.full(observed.size, OBSERVED, dtype=np.int8)
    return Levels(
        observed=observed,
        missing=missing,
        level=np.concatenate([own, pools.level[missing]]),
        pool_of_missing=pool,
        level_of_pool=level,
        member_of_pool=member,
        sample_of_pool=sample,
        member=np.searchsorted(observed, samples.member),
        pool=samples.pool,
        n_samples=samples.n_pools,
        keys=[key[observed] for key in keys],
        chain=chain,
        side=side,
        crossed=[] if observations is None else _crossed(source, target, observed, side),
    )


def _crossed(
    source: pl.DataFrame, target: pl.DataFrame, observed: Places, side: str
) -> list[list[Places]]:
    """Return the groups of pathways by the types of one side, and by those of the other."""
    types = dict(zip(("source", "target"), np.divmod(observed, len(target)), strict=True))
    other = "target" if side == "source" else "source"
    across = level_keys(source, target, other)[1][observed]
    return [nested([across, types[other], types[other]], (0, 1)), [types[side]]]


_CHAINS = ((0, 1, 3), (0, 2, 3))
"""Two ways up the levels: by classes alone, or by layers too."""


def _likeliest(
    source: pl.DataFrame, target: pl.DataFrame, observed: Places, observations: Observations
) -> tuple[list[Places], tuple[int, ...], str]:
    """Return the keys, the levels, and whose types these begin with: the likeliest for locations.

    Where nothing tells them apart, the first of source types and classes count.
    """
    ways = []
    for side in ("source", "target"):
        keys = level_keys(source, target, side)
        own = [key[observed] for key in keys]
        ways += [
            (posterior(observations.location, observations.variance, nested(own, chain)).loglik,
             keys, chain, side)
            for chain in _CHAINS
        ]  # fmt: skip
    _, keys, chain, side = max(ways, key=lambda way: way[0])
    return keys, chain, side


def nested(keys: Sequence[Places], chain: Sequence[int]) -> list[Places]:
    """Return the groups at some levels, each within one of the next; lacking a key is a group."""
    groups: list[Places] = []
    wider = np.zeros_like(keys[0])
    for level in reversed([level for level in chain if level < len(keys) - 1]):
        pair = wider * (keys[level].max(initial=0) + 2) + keys[level] + 1
        wider = np.unique(pair, return_inverse=True)[1]
        groups.insert(0, wider)
    return groups


def level_keys(source: pl.DataFrame, target: pl.DataFrame, side: str = "source") -> list[Places]:
    """Return, for each level, a number that pathways have in common if they may be pooled.

    It is -1 for a pathway that lacks what the level needs. ``side`` says whose types the levels 0
    and 1 are of.
    """
    (s_class, s_layer), (t_class, t_layer) = (
        [types[name].rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
         for name in ("synapse_class", "layer")]
        for types in (source, target)
    )  # fmt: skip
    s_type, t_type = np.arange(len(source)), np.arange(len(target))
    by_type = [(s_type, _both(t_layer, t_class)), (s_type, t_class)]
    if side == "target":
        by_type = [(_both(s_layer, s_class), t_type), (s_class, t_type)]
    sides = [
        *by_type,
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


LEAST = 4
"""Pathways with an own estimate of a parameter below which nothing can be said of the others'."""


@dataclass(frozen=True)
class Hierarchy:
    """Pathways of one family, the first ``n_observed`` of its rows, and pools that follow them.

    Attributes
    ----------
    n_observed
        Number of observed pathways.
    keys
        Their groups at each level, those of :func:`connprops.fits.levels.level_keys`.
    groups
        Those of them that are nested, from narrow to wide.
    member, step
        An observed pathway in each pool, and the first of its groups that the pool shares.
    crossed
        Groups by types of either side, of the observed pathways.
    """

    n_observed: int
    keys: Sequence[Places]
    groups: Sequence[Places]
    member: Places
    step: Places
    crossed: Sequence[Sequence[Places]] = ()

    @classmethod
    def of(cls, rows: Places, levels: Levels) -> Hierarchy:
        """Return the hierarchy of some samples: observed pathways and pools."""
        observed = rows[rows < levels.observed.size]
        pools = rows[observed.size :] - levels.observed.size
        place = np.full(levels.observed.size, -1)
        place[observed] = np.arange(observed.size)
        keys = [key[observed] for key in levels.keys]
        groups = nested(keys, levels.chain)
        step = np.searchsorted(levels.chain, levels.level_of_pool[pools])
        return cls(
            observed.size,
            keys,
            groups,
            place[levels.member_of_pool[pools]],
            np.minimum(step, len(groups)),
            [[group[observed] for group in stack] for stack in levels.crossed],
        )

    def is_observed(self) -> Bools:
        """Return which rows are observed pathways."""
        return np.arange(self.n_observed + self.member.size) < self.n_observed

    def toward(
        self, own: Floats, variance: Floats, least: int = LEAST, furthest: float = np.inf
    ) -> tuple[Floats, Floats, Floats]:
        """Return what own estimates and the levels say of a parameter, its variance, and a weight.

        All are of all rows, of which pools have no estimate of their own; the weight is that of the
        levels: NaN where too few pathways have an estimate. Estimates further than ``furthest``
        from the median stay as they are, and say nothing of others.
        """
        y, v = own[: self.n_observed], variance[: self.n_observed]
        known = np.isfinite(y) & (v > 0) & np.isfinite(v)
        if np.count_nonzero(known) < least:
            return own, variance, np.full_like(own, np.nan)
        apart = known & (np.abs(y - np.median(y[known])) > furthest)
        best = posterior(np.where(apart, np.nan, y), v, self.groups, self.crossed)
        best = replace(
            best,
            mean=np.where(apart, y, best.mean),
            variance=np.where(apart, v, best.variance),
            weight=np.where(apart, 1.0, best.weight),
        )
        known = self.member >= 0
        new = [np.where(known, x[self.step, self.member], np.nan)
               for x in (best.new_mean, best.new_variance)]  # fmt: skip
        return (
            np.concatenate([best.mean, new[0]]),
            np.concatenate([best.variance, new[1]]),
            np.concatenate([1 - best.weight, np.ones_like(new[0])]),
        )

    def average(self, x: Floats, weight: Floats) -> float:
        """Return a mean over observed pathways, leaving out NaN; no order of theirs matters."""
        x, weight = x[: self.n_observed], weight[: self.n_observed]
        finite = np.isfinite(x) & (weight > 0)
        order = np.lexsort((weight[finite], x[finite]))
        x, weight = x[finite][order], weight[finite][order]
        return float((weight * x).sum() / weight.sum()) if x.size else np.nan
