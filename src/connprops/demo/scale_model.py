"""A scale model of the neocortical microcircuit, with the distributions that its values follow.

The numbers of each pathway are those published for the neocortical microcircuit of juvenile rat
(Markram et al. 2015, Cell 163:456-492, and the NMC portal): connections, synapses per connection,
and mean and standard deviation of five properties of the synapse; see the tables in ``nmc2015/``.
The values are drawn by the distributions with which the Blue Brain Project draws them, one draw for
all synapses of a connection:

========================================= ======================================================
conductance, depression_time,             gamma of the published mean and standard deviation
facilitation_time
decay_time, u_syn                         normal, cut at one standard deviation from the mean
                                          and at 0
n_rrp_vesicles                            1 + Poisson
n_syn_per_conn                            gamma of the published mean and standard deviation,
                                          rounded, and at least 1
========================================= ======================================================

The scale model keeps the probability that two neurons are connected. So connections grow with the
square of the number of neurons, and the number of neurons with the root of that of synapses.

What was not published with the pathways is chosen here, plainly and within what is plausible:

======================== =======================================================================
n_rrp_vesicles           mean 2.5 from excitatory cells (Barros-Zulaica et al. 2019, Front.
                         Synaptic Neurosci. 11:29, find two to three in layer 5), else 1.5
conductance_scale_factor 0.8 excitatory to excitatory, 0.4 excitatory to inhibitory, else 0
u_hill_coefficient       2.79 excitatory to excitatory, 1.09 excitatory to inhibitory, else 1.94
syn_type_id              the portal's number of the synapse type: 100 and above are excitatory
spine_length             gamma of mean 1.2 µm and standard deviation 0.6 µm, for each synapse
positions                somata uniform in a cylinder of radius 230 µm, within their layers;
                         synapses normal about the target's soma, of standard deviation 100 µm,
                         for the cells have no dendrites
delay                    0.1 ms and the straight way from soma to synapse at 300 µm/ms
partners                 random within a pathway, whatever the distance
======================== =======================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.demo.neurons import place_neurons
from connprops.demo.published import (
    FEW,
    GAMMA,
    RRP,
    SPINE,
    SPINE_MEAN,
    SPINE_STD,
    TRUNCNORM,
    apportion,
    count_distribution,
    published_pathways,
)  # fmt: skip
from connprops.distributions.distributions import Distributions
from connprops.distributions.rows import parameter_rows
from connprops.families.registry import FAMILIES

_PLACE = ("afferent_center_x", "afferent_center_y", "afferent_center_z")

COLUMNS: Mapping[str, str] = {
    "conductance": "float32", "decay_time": "float32", "depression_time": "float32",
    "facilitation_time": "float32", "u_syn": "float32", "n_rrp_vesicles": "uint8",
    "conductance_scale_factor": "float32", "u_hill_coefficient": "float32", "syn_type_id": "uint8",
    "spine_length": "float32", "delay": "float32", **dict.fromkeys(_PLACE, "float32"),
}  # fmt: skip
"""The columns of a synapse, and the types that they are stored in."""

_CONSTANT = ("conductance_scale_factor", "syn_type_id", "u_hill_coefficient")

_FAMILY: Mapping[str, str] = {
    **dict.fromkeys((*GAMMA, SPINE), "gamma"),
    **dict.fromkeys(TRUNCNORM, "truncnorm"),
    **dict.fromkeys(_CONSTANT, "constant"),
    RRP: "shifted_poisson",
}
_PUBLISHED_AS = {"norm_loc": "mean", "norm_scale": "std"}

_SCATTER = 100.0  # µm
_VELOCITY = 300.0  # µm/ms
_RELEASE = 0.1  # ms

_BLOCK = 1 << 18
"""Synapses that are generated together, about. Part of the recipe: it seeds the values."""

# What random numbers are for: with the seed and an identity, the key of their stream.
_FOR_NEURONS, _FOR_INPUTS, _FOR_PARTNERS, _FOR_VALUES = range(4)


@dataclass(frozen=True)
class Connections:
    """Connections in the order of (target, source): arrays of one length.

    ``pathway`` is the row of :attr:`ScaleModel.pathways`.
    """

    source: Ints
    target: Ints
    pathway: Ints
    n_syn: Ints


class ScaleModel:
    """The circuit before it is written: neurons and distributions; the rest on demand.

    Whatever is random comes from the seed and the identity of what is drawn: the pathway for the
    numbers of inputs, the block of targets, of which there are ``n_blocks``, for partners and
    values. ``pathways`` has a row for each pathway with connections: types and classes,
    ``n_published`` and ``n_connections``, and parameters as ``<property>_<parameter>``.
    """

    def __init__(self, synapses: int, seed: int) -> None:
        self.seed = seed
        published = published_pathways()
        n_syn = [
            count_distribution(mean, std)
            for mean, std in published.select(
                f"{schema.N_SYN_PER_CONN}_mean", f"{schema.N_SYN_PER_CONN}_std"
            ).iter_rows()
        ]
        n_expected = np.array([p @ value for value, p in n_syn])
        n_published = published.get_column("n_published").to_numpy()
        scale = synapses / (n_published @ n_expected)
        self.neurons = place_neurons(np.sqrt(scale), FEW, self._rng(_FOR_NEURONS))

        n_neurons = np.diff(self.neurons.first)
        source, target = (
            np.searchsorted(self.neurons.mtypes, published.get_column(name).to_list())
            for name in schema.PATHWAY
        )
        n_pairs = n_neurons[source] * (n_neurons[target] - (source == target))
        n_connections = apportion(n_published, n_expected, synapses, most=n_pairs)
        kept = n_connections > 0
        self.pathways = published.with_columns(n_connections=n_connections).filter(kept)
        self._n_syn = [pair for pair, keep in zip(n_syn, kept, strict=True) if keep]
        self._source, self._target = source[kept], target[kept]
        self._n_inputs = self._draw_inputs()
        per_block = max(1, round(_BLOCK * len(self.neurons) / synapses))
        self._bounds = [*range(0, len(self.neurons), per_block), len(self.neurons)]
        self.n_blocks = len(self._bounds) - 1

    def connections(self, block: int) -> Connections:
        """Return the connections onto the neurons of a block."""
        neurons, rng = self.neurons, self._rng(_FOR_PARTNERS, block)
        start, stop = self._bounds[block], self._bounds[block + 1]
        # A cell is a target with its inputs from one m-type.
        target, source_type = np.nonzero(self._n_inputs[start:stop])
        target += start
        own_type = neurons.mtype[target] == source_type
        n_sources = np.diff(neurons.first)[source_type] - own_type
        cell, rank = _distinct(n_sources, self._n_inputs[target, source_type], rng)
        target, source_type = target[cell], source_type[cell]
        rank += own_type[cell] & (rank >= neurons.rank[target])  # steps over the neuron itself
        source = neurons.by_mtype[neurons.first[source_type] + rank]

        pair = np.sort(target * len(neurons) + source)
        target, source = np.divmod(pair, len(neurons))
        pathway = self._pathway_of[neurons.mtype[source], neurons.mtype[target]]
        # With 32 bits the sum of pathway and chance is exact, and stays in the pathway's rows.
        chance = rng.integers(1 << 32, size=len(pathway), dtype=np.uint32) / (1 << 32)
        count, below = self._counts
        n_syn = count[np.searchsorted(below, pathway + chance, side="right") - 1]
        return Connections(source, target, pathway, n_syn)

    def synapses(self, block: int) -> dict[str, NDArray[Any]]:
        """Return the synapses onto a block: columns of both node ids, and :data:`COLUMNS`."""
        rng = self._rng(_FOR_VALUES, block)
        connections = self.connections(block)
        n_syn = connections.n_syn
        shared = self._draw_shared(connections.pathway, rng)
        columns = {
            name: np.repeat(values.astype(COLUMNS[name]), n_syn) for name, values in shared.items()
        }
        columns["source_node_id"] = source = np.repeat(connections.source, n_syn)
        columns["target_node_id"] = target = np.repeat(connections.target, n_syn)
        unit = rng.standard_gamma((SPINE_MEAN / SPINE_STD) ** 2, len(source), np.float32)
        columns[SPINE] = np.float32(SPINE_STD**2 / SPINE_MEAN) * unit
        soma = self.neurons.soma
        scatter = np.float32(_SCATTER) * rng.standard_normal((3, len(source)), np.float32)
        place = soma[:, target] + scatter
        columns |= dict(zip(_PLACE, place, strict=True))
        way = np.sqrt(((place - soma[:, source]) ** 2).sum(axis=0))
        columns["delay"] = np.float32(_RELEASE) + way / np.float32(_VELOCITY)
        return columns

    def truth(self) -> pl.DataFrame:
        """Return the distribution of each pathway and property, laid out as a model's table."""
        all_pathways = np.arange(len(self.pathways))
        parts = {schema.N_SYN_PER_CONN: parameter_rows(self._distributions_of_counts())}
        for name, family in _FAMILY.items():
            parameters = {
                p.name: self._parameters[f"{name}_{_PUBLISHED_AS.get(p.name, p.name)}"]
                for p in FAMILIES[family].parameters
            }
            distributions = Distributions(FAMILIES[family], all_pathways, parameters)
            parts[name] = parameter_rows([distributions])
        shared = {name: name != SPINE for name in _FAMILY} | {schema.N_SYN_PER_CONN: None}
        rows = pl.concat(
            part.with_columns(property=pl.lit(name), shared_within=pl.lit(shared[name], pl.Boolean))
            for name, part in parts.items()
        )
        names = pl.col(*schema.PATHWAY, "property", "distribution", "parameter").cast(pl.String)
        in_order = pl.col("property").cast(pl.Enum([*shared]))
        return (
            rows.with_columns(self.pathways[rows["pathway"]].select(*schema.PATHWAY))
            .select(names, "position", "value", "shared_within")
            .sort(*schema.PATHWAY, in_order, "parameter", "position")
        )

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _draw_inputs(self) -> NDArray[np.int32]:
        """Return how many inputs each neuron (row) has from each m-type (column)."""
        # The connections of a pathway are a random subset of its pairs.
        neurons = self.neurons
        n_inputs = np.zeros((len(neurons), len(neurons.mtypes)), np.int32)
        n_connections = self.pathways.get_column("n_connections").to_list()
        for source, target, n in zip(self._source, self._target, n_connections, strict=True):
            targets = neurons.by_mtype[neurons.first[target] : neurons.first[target + 1]]
            n_sources = neurons.first[source + 1] - neurons.first[source] - (source == target)
            rng = self._rng(_FOR_INPUTS, int(source), int(target))
            n_inputs[targets, source] = rng.multivariate_hypergeometric(
                np.full(len(targets), n_sources), n
            )
        return n_inputs

    @cached_property
    def _pathway_of(self) -> Ints:
        """Row of ``pathways`` for each source type (row) and target type (column)."""
        row = np.full((len(self.neurons.mtypes),) * 2, -1)
        row[self._source, self._target] = np.arange(len(self._source))
        return row

    @cached_property
    def _counts(self) -> tuple[Ints, Floats]:
        """Numbers of synapses, and the row of their pathway plus p of smaller ones."""
        value = np.concatenate([value for value, _ in self._n_syn])
        below = [row + np.cumsum(p) - p for row, (_, p) in enumerate(self._n_syn)]
        return value, np.concatenate(below)

    @cached_property
    def _parameters(self) -> dict[str, Floats]:
        numbers = self.pathways.select(pl.selectors.numeric().cast(pl.Float64))
        return {name: column.to_numpy() for name, column in numbers.to_dict().items()}

    def _draw_shared(self, pathway: Ints, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Draw the values that all synapses of a connection share, one per connection."""
        number = self._parameters
        values: dict[str, NDArray[Any]] = {}
        for name in GAMMA:
            mean, std = number[f"{name}_mean"], number[f"{name}_std"]
            shape, scale = (mean / std) ** 2, std**2 / mean
            values[name] = scale[pathway] * rng.standard_gamma(shape[pathway])
        for name in TRUNCNORM:
            mean, std = number[f"{name}_mean"], number[f"{name}_std"]
            low, high = (ndtr((number[f"{name}_{end}"] - mean) / std) for end in ("min", "max"))
            chance = low[pathway] + (high - low)[pathway] * rng.random(len(pathway))
            values[name] = mean[pathway] + std[pathway] * ndtri(chance)
        values[RRP] = 1 + rng.poisson(number[f"{RRP}_mean"][pathway] - 1)
        for name in _CONSTANT:
            values[name] = number[f"{name}_mean"][pathway]
        return values

    def _distributions_of_counts(self) -> list[Distributions]:
        """Return the distributions of the number of synapses; of a single one it is constant."""
        width = max(len(value) for value, _ in self._n_syn)
        padded = np.full((2, len(self._n_syn), width), np.nan)
        for row, (value, p) in enumerate(self._n_syn):
            padded[:, row, : len(value)] = value, p
        is_single = np.isnan(padded[0, :, 1])
        single, several = np.flatnonzero(is_single), np.flatnonzero(~is_single)
        val, p = padded[:, several]
        return [
            Distributions(FAMILIES["constant"], single, {"mean": padded[0, single, 0]}),
            Distributions(FAMILIES["discrete"], several, {"val": val, "p": p}),
        ]


def _distinct(below: Ints, size: NDArray[np.int32], rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Draw for each cell ``size`` distinct numbers less than ``below``: cells and numbers, sorted.

    What was drawn twice is drawn again, so that all subsets are equally likely.
    """
    stride = int(below.max(initial=1))
    drawn = np.empty(0, np.int64)
    missing = size.astype(np.int64)
    while missing.any():
        cell = np.repeat(np.arange(len(size)), missing)
        more = cell * stride + rng.integers(0, below[cell])
        drawn = np.sort(np.concatenate([drawn, more]))
        drawn = drawn[np.diff(drawn, prepend=-1) > 0]
        missing = size - np.bincount(drawn // stride, minlength=len(size))
    cell, number = np.divmod(drawn, stride)
    return cell, number
