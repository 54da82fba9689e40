"""Synapses of connections: the values of all properties, drawn from a model.

A value is the quantile of its distribution at a number on (0, 1) that is a function of the seed,
the connection (its node ids), the property's name, and the place of the synapse within the
connection: of nothing else. So it is the same whatever else is drawn, in whatever order, pieces or
threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Ints
from connprops.arrays.random_numbers import keys, named, uniform
from connprops.distributions.copula import Copulas
from connprops.distributions.table import ModelTable
from connprops.draw.connections import (
    Connections,
    ConnectionTable,
    Distinct,
    Missing,
    Pathways,
    column,
    read_connections,
    types_in,
)
from connprops.draw.quantiles import Quantiles
from connprops.draw.types_of_nodes import SIDES, NodeTypes
from connprops.errors import OptionError
from connprops.schema import N_SYN_PER_CONN

Values = dict[str, NDArray[Any]]

SYNAPSES_AT_ONCE = 1 << 15
"""Synapses drawn by a thread in one go: enough to outweigh each call, few enough for the cache."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Drawer:
    """Draws from a model.

    Parameters
    ----------
    model
        The model.
    seed
        Seed of all random numbers, any whole number.
    properties
        Which properties, ``n_syn_per_conn`` aside; all by default. What is drawn of one does not
        depend on the others.

    Attributes
    ----------
    properties
        Their names, in the model's order.
    known
        Whether the model has the distributions of all of them in each pathway, (n_pathways,).

    Raises
    ------
    OptionError
        Where the model has no such property, or the seed is no whole number.
    """

    def __init__(
        self, model: ModelTable, seed: int, properties: Sequence[str] | None = None
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise OptionError.of(
                "A seed", found=repr(seed), expected="a whole number",
                hint="a generator cannot be taken: what is drawn must not depend on its state",
            )  # fmt: skip
        self.model = model
        self.seed = int(seed)
        self.properties = _chosen(model, properties)
        n_pathways = len(model.source_types) * len(model.target_types)
        self.draws_numbers = N_SYN_PER_CONN in model.properties
        wanted = [*self.properties, *([N_SYN_PER_CONN] if self.draws_numbers else [])]
        self._quantiles = {
            name: Quantiles(model.distributions(name), n_pathways) for name in wanted
        }
        self._shared = {name: _shared(model, name, n_pathways) for name in self.properties}
        self._copulas = {shared: model.copulas(shared=shared) for shared in (True, False)}
        self._whole = {name: model.dtype(name) == "int" for name in self.properties}
        self.known = np.logical_and.reduce([q.known for q in self._quantiles.values()])

    def dtype(self, name: str) -> type[np.int64 | np.float64]:
        """Return the type of drawn values."""
        return np.int64 if self._whole[name] else np.float64

    def n_synapses(self, source: Ints, target: Ints, pathway: Ints) -> Ints:
        """Return the number of synapses of connections, (n,): whole, at least 1."""
        key = named(keys(self.seed, source, target), N_SYN_PER_CONN)
        drawn = np.rint(self._quantiles[N_SYN_PER_CONN](pathway, uniform(key)))
        return np.maximum(drawn, 1).astype(np.int64)

    def values(self, connections: Connections) -> Values:
        """Return the properties of the connections' synapses, one connection after the other."""
        n_syn = connections.n_syn
        key = keys(self.seed, connections.source, connections.target)
        of = np.repeat(np.arange(n_syn.size), n_syn)
        place = np.arange(of.size) - (np.cumsum(n_syn) - n_syn - connections.first)[of]
        pathway = connections.pathway
        shared = _Numbers(self._copulas[True], key, pathway)
        unshared = _Numbers(self._copulas[False], key, pathway, of, place)
        found = {}
        for name in self.properties:
            quantiles, is_shared = self._quantiles[name], self._shared[name][pathway]
            if is_shared.all():
                values = quantiles(pathway, shared.of(name))[of]
            elif not is_shared.any():
                values = quantiles(pathway[of], unshared.of(name))
            else:
                rows = np.flatnonzero(is_shared)
                values = np.empty(n_syn.size)
                values[rows] = quantiles(pathway[rows], shared.of(name)[rows])
                values = values[of]
                rows = np.flatnonzero(~is_shared[of])
                values[rows] = quantiles(pathway[of[rows]], unshared.of(name)[rows])
            found[name] = self._typed(name, values)
        return found

    def _typed(self, name: str, values: NDArray[np.float64]) -> NDArray[Any]:
        return np.rint(values).astype(np.int64) if self._whole[name] else values


class _Numbers:
    """The numbers on (0, 1) that connections, or their synapses, have for each property.

    ``key`` and ``pathway`` are those of connections; ``of`` and ``place`` the connection of each
    synapse and its place there, None where there is a number for each connection.
    """

    def __init__(
        self,
        copulas: Copulas,
        key: NDArray[np.uint64],
        pathway: Ints,
        of: Ints | None = None,
        place: Ints | None = None,
    ) -> None:
        self._copulas = copulas
        self._key = key
        self._pathway = pathway if of is None else pathway[of]
        self._of = of
        self._place = place

    def of(self, name: str) -> NDArray[np.float64]:
        """Return those of a property."""
        if name not in self._copulas.properties:
            return self._independent(name)
        rows, correlated = self._correlated
        numbers = self._independent(name)
        numbers[rows] = correlated[:, self._copulas.properties.index(name)]
        return numbers

    def _independent(self, name: str) -> NDArray[np.float64]:
        key = named(self._key, name)
        return uniform(key if self._of is None else key[self._of], self._place)

    @cached_property
    def _correlated(self) -> tuple[Ints, NDArray[np.float64]]:
        """Return the rows of pathways with correlations, and their numbers, (rows, properties)."""
        rows = np.flatnonzero(np.isin(self._pathway, self._copulas.pathway))
        independent = [self._independent(name)[rows] for name in self._copulas.properties]
        normal = special.ndtri(np.stack(independent, axis=1))
        return rows, self._copulas.uniforms(normal, self._pathway[rows])


def _chosen(model: ModelTable, properties: Sequence[str] | None) -> list[str]:
    for name in properties or ():
        if name not in model.properties:
            raise OptionError.unknown("property", name, model.properties)
    return [
        name
        for name in model.properties
        if name != N_SYN_PER_CONN and (properties is None or name in properties)
    ]


def _shared(model: ModelTable, name: str, n_pathways: int) -> NDArray[np.bool_]:
    """Return whether connections of each pathway share a value of a property."""
    rows = model.marginals.filter((pl.col("property") == name) & pl.col("shared_within"))
    place = pl.col("source_type").to_physical().cast(pl.Int64) * len(model.target_types)
    place += pl.col("target_type").to_physical()
    shared = np.zeros(n_pathways, dtype=np.bool_)
    shared[rows.select(place.unique()).to_series().to_numpy()] = True
    return shared


def listed_connections(
    drawer: Drawer, table: ConnectionTable, nodes: NodeTypes | None, missing: Missing
) -> Iterator[Connections]:
    """Yield the connections of a list with their numbers of synapses, a few synapses at a time.

    Raises
    ------
    OptionError, DatasetError, ModelError
        Where the list is not one, or the model does not know a type or a pathway of it.
    """
    pathways = Pathways(drawer.model, drawer.known, drawer.seed, missing)
    distinct = Distinct()
    for batch in read_connections(table):
        source, target = (column(batch, f"{side}_node", 0) for side in SIDES)
        distinct.add(source, target)
        types = {}
        for side, ids in zip(SIDES, (source, target), strict=True):
            found = types_in(batch, side) or (nodes and nodes.of(side, ids))
            if not found:
                raise OptionError.of(
                    f"The types of the {side} nodes are not known",
                    expected=f"the column {side}_type in the connections",
                    hint="or give the nodes: a dataset or a circuit (nodes=, --circuit)",
                )
            types[side] = found
        own, pathway = pathways(source, target, types)
        kept = pathway >= 0
        if N_SYN_PER_CONN in batch.schema.names:
            n_syn = column(batch, N_SYN_PER_CONN, 1)[kept]
        elif drawer.draws_numbers:
            n_syn = drawer.n_synapses(source[kept], target[kept], pathway[kept])
        else:
            raise OptionError.of(
                "The model does not have the number of synapses of a connection",
                expected=f"the column {N_SYN_PER_CONN} in the connections",
            )
        yield from pieces(
            Connections(
                source[kept], target[kept], own[kept], pathway[kept], n_syn, np.zeros_like(n_syn)
            )
        )
    distinct.check()


def pieces(connections: Connections) -> Iterator[Connections]:
    """Yield connections in pieces of a bounded number of synapses; large ones come in several."""
    ends = np.cumsum(connections.n_syn)
    start = 0
    while start < ends.size:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + SYNAPSES_AT_ONCE, side="right"))
        if stop > start:
            yield connections.take(slice(start, stop))
            start = stop
            continue
        one, n = connections.take(slice(start, start + 1)), int(connections.n_syn[start])
        for first in range(0, n, SYNAPSES_AT_ONCE):
            few = np.array([min(SYNAPSES_AT_ONCE, n - first)])
            yield Connections(
                one.source, one.target, one.types, one.pathway, few, one.first + first
            )
        start += 1


def in_order(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int
) -> Iterator[_Result]:
    """Yield a function's results in the order of the items, computed by threads a few ahead."""
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
