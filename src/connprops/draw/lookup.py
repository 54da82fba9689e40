"""The types of nodes and the pathways of connections, with what the model lacks of either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.random_numbers import keys, named, uniform
from connprops.circuit.circuit import EdgePopulation
from connprops.dataset.dataset import Dataset
from connprops.distributions.table import ModelTable
from connprops.errors import ModelError, OptionError, listing
from connprops.fits.samples.levels import borrowed_levels
from connprops.pathways import Pathways
from connprops.sources.node_types import TYPE, group_nodes

SIDES = ("source", "target")

Missing = Literal["error", "borrow", "skip"]
"""What to do with connections of a pathway that the model has no distributions of."""

_NAMED = 5
"""Pathways that an error names."""


@dataclass(frozen=True)
class TypeCodes:
    """Types as codes into names: ``codes`` is (n,), of connections or, by id, of nodes."""

    codes: Ints
    names: list[str]

    def of_nodes(self, side: str, ids: Ints) -> TypeCodes:
        """Return the types of nodes, from those of all nodes by id."""
        unknown = ids >= self.codes.size
        codes = self.codes[np.where(unknown, 0, ids)]
        unknown |= codes < 0
        if unknown.any():
            raise OptionError.of(
                f"A {side} node of the connections has no type",
                found=f"node {ids[np.argmax(unknown)]}",
                expected=f"a node id below {self.codes.size:,}",
            )
        return TypeCodes(codes, self.names)


def types_of_table(nodes: pl.DataFrame | Dataset) -> dict[str, TypeCodes]:
    """Return the types of the nodes of both sides, by id."""
    if isinstance(nodes, Dataset):
        types = nodes.types.select("side", "code", "type")
        nodes = nodes.numbered_nodes.join(types, on=["side", "code"])
    lacking = [name for name in ("side", "node", "type") if name not in nodes.columns]
    if lacking:
        raise OptionError.of(
            f"The nodes lack the column {lacking[0]!r}",
            found=listing(nodes.columns), expected="side, node, type",
        )  # fmt: skip
    return {side: _by_id(nodes.filter(pl.col("side") == side)) for side in SIDES}


def types_of_circuit(edges: EdgePopulation, model: ModelTable) -> dict[str, TypeCodes]:
    """Return the types of the nodes of both sides, grouped as those that the model was made of."""
    identity = model.facts.get("identity") or {}
    types = {}
    for side, population in (("source", edges.source), ("target", edges.target)):
        by = str(identity.get(f"{side}_type", "mtype"))
        grouped = group_nodes(population.attributes(), population.name, by, side, report=False)
        types[side] = _by_id(grouped.nodes.with_columns(type=TYPE))
    return types


def _by_id(frame: pl.DataFrame) -> TypeCodes:
    types = frame["type"].cast(pl.String)
    names = types.unique().drop_nulls().sort().to_list()
    ids = frame["node"].cast(pl.Int64).to_numpy()
    codes = np.full(int(ids.max()) + 1 if ids.size else 1, -1, dtype=np.int64)
    codes[ids] = types.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    return TypeCodes(codes, names)


class PathwayLookup:
    """The pathway of each connection, and what to do with those that the model lacks.

    ``complete``, (n_pathways,), tells whether the model has all that is drawn of a pathway. With
    ``missing="borrow"`` a connection takes the distributions of an observed pathway of the first
    level that has any (:mod:`connprops.fits.samples.levels`), at random by ``seed``.
    """

    def __init__(self, model: ModelTable, complete: Bools, seed: int, missing: Missing) -> None:
        if missing not in get_args(Missing):
            raise OptionError.unknown("value of missing", missing, get_args(Missing))
        self._pathways = Pathways(model.source_types, model.target_types)
        self._complete = complete
        self._seed = seed
        self._missing = missing
        self._pools = _Pools(model, self._pathways, complete) if missing == "borrow" else None

    def __call__(
        self, source: Ints, target: Ints, types: dict[str, TypeCodes]
    ) -> tuple[Ints, Ints]:
        """Return the pathway of each connection, and that to draw from; -1 where to skip it."""
        source_code, target_code = (self._codes(side, types[side]) for side in SIDES)
        own = source_code * self._pathways.shape[1] + target_code
        own[(source_code < 0) | (target_code < 0)] = -1
        pathway = np.where((own >= 0) & self._complete[own], own, -1)
        lost = np.flatnonzero((pathway < 0) & (own >= 0))
        if lost.size and self._missing == "error":
            raise self._lacks(own[lost])
        if lost.size and self._pools:
            number = uniform(named(keys(self._seed, source[lost], target[lost]), "pathway"))
            pathway[lost] = self._pools.pick(own[lost], number)
            if (pathway[lost] < 0).any():
                raise self._lacks(own[lost][pathway[lost] < 0])
        return own, pathway

    def _codes(self, side: str, types: TypeCodes) -> Ints:
        """Return the model's code of each node's type, -1 where it has none."""
        names = self._pathways.source_types if side == "source" else self._pathways.target_types
        code_of = {name: code for code, name in enumerate(names)}
        code = np.array([code_of.get(name, -1) for name in types.names], dtype=np.int64)
        unknown = [types.names[i] for i in np.unique(types.codes).tolist() if code[i] < 0]
        if unknown and self._missing != "skip":
            raise OptionError.unknown(
                f"{side} type of connections", unknown[0], names,
                hint="missing='skip' (--missing skip) leaves its connections out",
            )  # fmt: skip
        return code[types.codes]

    def _lacks(self, pathways: Ints) -> ModelError:
        names = [" to ".join(self._pathways.names(p)) for p in np.unique(pathways).tolist()]
        return ModelError.of(
            f"The model lacks {len(names)} of the connections' pathways",
            found=", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else ""),
            expected="the distributions of all its properties in each",
            hint="missing='borrow' or 'skip' (--missing) says what else to do with them",
        )


class _Pools:
    """The observed pathways from which one that the model lacks borrows."""

    def __init__(self, model: ModelTable, pathways: Pathways, complete: Bools) -> None:
        rows = model.marginals.filter(pl.col("level") >= 0)
        observed = complete.copy()
        observed[rows.select(pathways.number_of_row.unique()).to_series().to_numpy()] = False
        chosen = observed if observed.any() else complete
        sides = [model.types.filter(pl.col("side") == side).sort("code") for side in SIDES]
        self._levels = levels = borrowed_levels(sides[0], sides[1], np.flatnonzero(chosen))
        order = np.argsort(levels.pool, kind="stable")
        self._members = levels.observed[levels.member[order]]
        self._ends = np.searchsorted(levels.pool[order], np.arange(levels.n_pools + 1))

    def pick(self, pathway: Ints, number: Floats) -> Ints:
        """Return a pathway of the pool of each, by a number from 0 to 1; -1 where it has none."""
        pool = self._levels.pool_of(pathway)
        picked = np.full(pathway.shape, -1, dtype=np.int64)
        has = np.flatnonzero(pool >= 0)
        start, stop = self._ends[pool[has]], self._ends[pool[has] + 1]
        picked[has] = self._members[start + ((stop - start) * number[has]).astype(np.int64)]
        return picked
