"""The values of the properties of connections' synapses, drawn from a model.

A value is the quantile of its distribution at a number on (0, 1) that is a function of the seed,
the connection (its node ids), the property's name, and the place of the synapse within the
connection: of nothing else. So it is the same whatever else is drawn, in whatever order, pieces or
threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.arrays.random_numbers import keys, named, uniform
from connprops.distributions.copula import Copulas, uniforms
from connprops.distributions.table import ModelTable
from connprops.draw.connections import ConnectionBatch
from connprops.draw.quantiles import Quantiles
from connprops.errors import OptionError
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN

Values = dict[str, NDArray[Any]]
"""Drawn values of each property, (n_synapses,)."""


class Drawer:
    """Draws from a model.

    What is drawn of one of the ``properties`` does not depend on the others; ``dtypes`` are those
    of drawn values. ``complete`` tells whether the model has the distributions of all of them in
    each pathway, (n_pathways,).
    """

    def __init__(
        self, model: ModelTable, seed: int, properties: Sequence[str] | None = None
    ) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise OptionError.of(
                "A seed", found=repr(seed), expected="a whole number",
                hint="a generator cannot be taken: what is drawn must not depend on its state",
            )  # fmt: skip
        for name in properties or ():
            if name not in model.properties:
                raise OptionError.unknown("property", name, model.properties)
        self.model = model
        self.seed = int(seed)
        self.properties = [
            name
            for name in model.properties
            if name != N_SYN_PER_CONN and (properties is None or name in properties)
        ]
        pathways = Pathways(model.source_types, model.target_types)
        self.draws_counts = N_SYN_PER_CONN in model.properties
        drawn = [*self.properties, *([N_SYN_PER_CONN] if self.draws_counts else [])]
        self._quantiles = {
            name: Quantiles(lent.rows, lent.row_of)
            for name, lent in ((name, model.lent(name)) for name in drawn)
        }
        self._within = {name: _within(model, name, pathways) for name in self.properties}
        self._copulas = {shared: model.copulas(shared=shared) for shared in (True, False)}
        self.dtypes: dict[str, np.dtype[Any]] = {
            name: np.dtype(np.int64 if model.dtype(name) == "int" else np.float64)
            for name in self.properties
        }
        complete = [quantiles.has_distribution for quantiles in self._quantiles.values()]
        self.complete = np.logical_and.reduce(complete)

    def n_synapses(self, source: Ints, target: Ints, pathway: Ints) -> Ints:
        """Return the number of synapses of connections, (n,): whole, at least 1."""
        key = named(keys(self.seed, source, target), N_SYN_PER_CONN)
        drawn = np.rint(self._quantiles[N_SYN_PER_CONN](pathway, uniform(key)))
        return np.clip(drawn, 1, 2**62).astype(np.int64)

    def values(self, connections: ConnectionBatch) -> Values:
        """Return the properties of the connections' synapses, one connection after the other."""
        n_syn = connections.n_syn
        key = keys(self.seed, connections.source, connections.target)
        of = np.repeat(np.arange(n_syn.size), n_syn)
        place = np.arange(of.size) - (np.cumsum(n_syn) - n_syn - connections.first)[of]
        pathway = connections.pathway
        shared = _Numbers(self._copulas[True], key, pathway)
        common = _Numbers(self._copulas[False], key, pathway, place=np.full(n_syn.size, -1))
        own = _Numbers(self._copulas[False], key, pathway, of, place)
        drawn = {}
        for name in self.properties:
            quantiles, within = self._quantiles[name], self._within[name][pathway]
            is_shared = within == 1
            if is_shared.all():
                values = quantiles(pathway, shared.of(name))[of]
            elif not is_shared.any():
                values = quantiles(pathway[of], _alike(name, common, own, within, of))
            else:
                rows = np.flatnonzero(is_shared)
                values = np.empty(n_syn.size)
                values[rows] = quantiles(pathway[rows], shared.of(name)[rows])
                values = values[of]
                rows = np.flatnonzero(~is_shared[of])
                numbers = _alike(name, common, own, within, of)[rows]
                values[rows] = quantiles(pathway[of[rows]], numbers)
            if self.dtypes[name] == np.int64:
                values = np.rint(values).astype(np.int64)
            drawn[name] = values
        return drawn


def _alike(name: str, common: _Numbers, own: _Numbers, within: Floats, of: Ints) -> Floats:
    """Return the numbers of synapses, of which those of a connection are alike as far as told.

    Each is made of a part that the connection has and one that the synapse has: ``within`` is the
    share of the former, for each connection, and ``of`` the connection of each synapse.
    """
    numbers = own.of(name)
    partly = (within > 0) & (within < 1)
    if partly.any():
        rows = np.flatnonzero(partly[of])
        at, w = of[rows], within[of[rows]]
        normal = (np.sqrt(within) * special.ndtri(common.of(name)))[at]
        normal += np.sqrt(1 - w) * special.ndtri(numbers[rows])
        numbers[rows] = uniforms(normal)
    return numbers


class _Numbers:
    """The numbers on (0, 1) that connections, or their synapses, have for each property.

    ``key`` and ``pathway`` are those of connections; ``of`` is the connection of each synapse, None
    where there is a number for each connection; ``place`` is the synapse's place there, or another
    number that tells numbers of one connection apart.
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

    def of(self, name: str) -> Floats:
        """Return those of a property."""
        numbers = self._independent(name)
        if name in self._copulas.properties:
            rows, correlated = self._correlated
            numbers[rows] = correlated[:, self._copulas.properties.index(name)]
        return numbers

    def _independent(self, name: str) -> Floats:
        key = named(self._key, name)
        return uniform(key if self._of is None else key[self._of], self._place)

    @cached_property
    def _correlated(self) -> tuple[Ints, Floats]:
        """Return the rows of pathways with correlations, and their numbers, (rows, properties)."""
        rows = np.flatnonzero(np.isin(self._pathway, self._copulas.pathway))
        independent = [self._independent(name)[rows] for name in self._copulas.properties]
        normal = special.ndtri(np.stack(independent, axis=1))
        return rows, self._copulas.uniforms(normal, self._pathway[rows])


def _within(model: ModelTable, name: str, pathways: Pathways) -> Floats:
    """Return how alike the synapses of a connection are, of each pathway."""
    rows = model.marginals.filter(pl.col("property") == name).unique(schema.PATHWAY)
    within = np.zeros(len(pathways))
    numbers, values = (rows.select(column).to_series().to_numpy()
                       for column in (pathways.number_of_row, "within_correlation"))  # fmt: skip
    within[numbers] = values
    return within
