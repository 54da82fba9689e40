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
delay                    0.1 ms and the straight way from soma to synapse at 300 µm/ms
positions                somata uniform in a cylinder of radius 230 µm, within their layers;
                         synapses uniform along the dendrites of a schematic cell
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
from scipy.special import gammainc, ndtr, ndtri

from connprops import schema
from connprops.demo.anatomy import place_neurons, places_on_dendrites
from connprops.demo.published import table

COLUMNS: Mapping[str, str] = {
    "conductance": "float32",
    "decay_time": "float32",
    "depression_time": "float32",
    "facilitation_time": "float32",
    "u_syn": "float32",
    "n_rrp_vesicles": "uint8",
    "conductance_scale_factor": "float32",
    "u_hill_coefficient": "float32",
    "syn_type_id": "uint8",
    "spine_length": "float32",
    "delay": "float32",
    **{f"afferent_{place}_{axis}": "float32" for place in ("center", "surface") for axis in "xyz"},
    "afferent_section_id": "uint16",
    "afferent_section_pos": "float32",
    "afferent_section_type": "uint8",
    "afferent_segment_offset": "float32",
}
"""The columns of a synapse, and the types that they are stored in."""

_GAMMA = ("conductance", "depression_time", "facilitation_time")
_TRUNCNORM = ("decay_time", "u_syn")
_CONSTANT = ("conductance_scale_factor", "syn_type_id", "u_hill_coefficient")
_RRP = "n_rrp_vesicles"
_SPINE = "spine_length"
_SPINE_MEAN, _SPINE_STD = 1.2, 0.6  # µm

_PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "gamma": {"mean": "mean", "std": "std"},
    "truncnorm": {"norm_loc": "mean", "norm_scale": "std", "min": "min", "max": "max"},
    "shifted_poisson": {"mean": "mean"},
    "constant": {"mean": "mean"},
}
"""The parameters of each distribution, and what follows the property in their column's name."""

_DISTRIBUTION: Mapping[str, str] = {
    **dict.fromkeys((*_GAMMA, _SPINE), "gamma"),
    **dict.fromkeys(_TRUNCNORM, "truncnorm"),
    **dict.fromkeys(_CONSTANT, "constant"),
    _RRP: "shifted_poisson",
}

_VELOCITY = 300.0  # µm/ms
_RELEASE = 0.1  # ms

_FEW = 3
"""Connections that a pathway keeps, and neurons that an m-type keeps, however small the model."""

_SHARE_OF_FEW = 0.25
"""Largest share of the synapses that may go into keeping small pathways."""

_NEGLIGIBLE = 1e-10
"""Probability below which a number of synapses per connection counts as impossible."""

_BLOCK = 1 << 18
"""Synapses that are generated together, about. Part of the recipe: it seeds the values."""

# What random numbers are for: with the seed and an identity, the key of their stream.
_FOR_NEURONS, _FOR_INPUTS, _FOR_PARTNERS, _FOR_VALUES = range(4)


@dataclass(frozen=True)
class Connections:
    """Connections in the order of (target, source): arrays of one length.

    ``pathway`` is the row of :attr:`ScaleModel.pathways`.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    pathway: NDArray[np.int64]
    n_syn: NDArray[np.int64]


class ScaleModel:
    """The circuit before it is written: neurons and distributions; the rest on demand.

    Whatever is random comes from the seed and the identity of what is drawn: the pathway for the
    numbers of inputs, the block of targets for partners and values.

    Parameters
    ----------
    synapses
        Number of synapses to aim at.
    seed
        Seed of all random numbers, not negative.

    Attributes
    ----------
    neurons : Neurons
        The neurons, in an order without a system.
    pathways : polars.DataFrame
        One row per pathway with connections: source_type, target_type, source_class,
        target_class, ``n_published`` and ``n_connections``, published and in the model, and the
        parameters of its distributions as ``<property>_<parameter>``.
    n_blocks : int
        Into how many blocks of target neurons the circuit is cut.
    """

    def __init__(self, synapses: int, seed: int) -> None:
        self.seed = seed
        published = _published_pathways()
        distributions = [
            _count_distribution(mean, std)
            for mean, std in published.select(
                f"{schema.N_SYN_PER_CONN}_mean", f"{schema.N_SYN_PER_CONN}_std"
            ).iter_rows()
        ]
        n_expected = np.array([p @ value for value, p in distributions])
        n_published = published.get_column("n_published").to_numpy()
        scale = synapses / (n_published @ n_expected)
        self.neurons = place_neurons(np.sqrt(scale), _FEW, self._rng(_FOR_NEURONS))

        n_neurons = np.diff(self.neurons.first)
        source, target = (
            np.searchsorted(self.neurons.mtypes, published.get_column(name).to_list())
            for name in schema.PATHWAY
        )
        n_pairs = n_neurons[source] * (n_neurons[target] - (source == target))
        n_connections = _apportion(n_published, n_expected, synapses, most=n_pairs)
        kept = n_connections > 0
        self.pathways = published.with_columns(n_connections=n_connections).filter(kept)
        self._distributions = [
            distribution for distribution, keep in zip(distributions, kept, strict=True) if keep
        ]
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
        """Return the synapses onto the neurons of a block.

        The columns are ``source_node_id``, ``target_node_id`` and those of :data:`COLUMNS`.
        """
        rng = self._rng(_FOR_VALUES, block)
        connections = self.connections(block)
        n_syn = connections.n_syn
        shared = self._draw_shared(connections.pathway, rng)
        columns = {
            name: np.repeat(values.astype(COLUMNS[name]), n_syn) for name, values in shared.items()
        }
        columns["source_node_id"] = source = np.repeat(connections.source, n_syn)
        columns["target_node_id"] = target = np.repeat(connections.target, n_syn)
        unit = rng.standard_gamma((_SPINE_MEAN / _SPINE_STD) ** 2, len(source), np.float32)
        columns[_SPINE] = np.float32(_SPINE_STD**2 / _SPINE_MEAN) * unit
        columns |= places_on_dendrites(self.neurons, target, rng)
        soma = {"x": self.neurons.x, "y": self.neurons.y, "z": self.neurons.z}
        way = [columns[f"afferent_center_{axis}"] - soma[axis][source] for axis in soma]
        distance = np.sqrt(way[0] ** 2 + way[1] ** 2 + way[2] ** 2)
        columns["delay"] = np.float32(_RELEASE) + distance / np.float32(_VELOCITY)
        return columns

    def truth(self) -> pl.DataFrame:
        """Return the distribution of each pathway and property, laid out as a model's table.

        One row per source_type, target_type, property, parameter and position, with columns
        distribution, value and shared_within. Delay and positions, which follow from the
        geometry, have none.
        """
        distributions = pl.concat(
            [*(self._distribution(name) for name in _DISTRIBUTION), self._distribution_of_counts()],
            how="diagonal_relaxed",
        )
        words: dict[str, list[str] | pl.Series] = {
            **dict.fromkeys(schema.PATHWAY, self.neurons.mtypes),
            "property": [*_DISTRIBUTION, schema.N_SYN_PER_CONN],
            **{
                name: distributions.get_column(name).unique().sort()
                for name in ("distribution", "parameter")
            },
        }
        return distributions.select(
            *(pl.col(name).cast(pl.Enum(known)) for name, known in words.items()),
            "position",
            "value",
            "shared_within",
        ).sort(*schema.PATHWAY, "property", "parameter", "position")

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def _draw_inputs(self) -> NDArray[np.int32]:
        """Return how many inputs each neuron (row) has from each m-type (column).

        The connections of a pathway are a random subset of its pairs, so the numbers of inputs
        of its targets have a multivariate hypergeometric distribution.
        """
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
    def _pathway_of(self) -> NDArray[np.int64]:
        """Row of ``pathways`` for each source type (row) and target type (column)."""
        row = np.full((len(self.neurons.mtypes),) * 2, -1)
        row[self._source, self._target] = np.arange(len(self._source))
        return row

    @cached_property
    def _counts(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """All distributions of the number of synapses in one table: one search draws from all.

        The values, and the row of the pathway plus the probability of smaller values.
        """
        value = np.concatenate([value for value, _ in self._distributions])
        below = [row + np.cumsum(p) - p for row, (_, p) in enumerate(self._distributions)]
        return value, np.concatenate(below)

    @cached_property
    def _parameters(self) -> dict[str, NDArray[np.float64]]:
        numbers = self.pathways.select(pl.selectors.numeric().cast(pl.Float64))
        return {name: column.to_numpy() for name, column in numbers.to_dict().items()}

    def _draw_shared(
        self, pathway: NDArray[np.int64], rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Draw the values that all synapses of a connection share, one per connection."""
        number = self._parameters
        values: dict[str, NDArray[Any]] = {}
        for name in _GAMMA:
            mean, std = number[f"{name}_mean"], number[f"{name}_std"]
            shape, scale = (mean / std) ** 2, std**2 / mean
            values[name] = scale[pathway] * rng.standard_gamma(shape[pathway])
        for name in _TRUNCNORM:
            mean, std = number[f"{name}_mean"], number[f"{name}_std"]
            low, high = (ndtr((number[f"{name}_{end}"] - mean) / std) for end in ("min", "max"))
            chance = low[pathway] + (high - low)[pathway] * rng.random(len(pathway))
            values[name] = mean[pathway] + std[pathway] * ndtri(chance)
        values[_RRP] = 1 + rng.poisson(number[f"{_RRP}_mean"][pathway] - 1)
        for name in _CONSTANT:
            values[name] = number[f"{name}_mean"][pathway]
        return values

    def _distribution(self, name: str) -> pl.DataFrame:
        distribution = _DISTRIBUTION[name]
        parameters = {
            parameter: pl.col(f"{name}_{column}")
            for parameter, column in _PARAMETERS[distribution].items()
        }
        return (
            self.pathways.select(*schema.PATHWAY, **parameters)
            .unpivot(index=schema.PATHWAY, variable_name="parameter")
            .with_columns(
                property=pl.lit(name),
                distribution=pl.lit(distribution),
                position=pl.lit(0, pl.Int32),
                shared_within=pl.lit(name != _SPINE),
            )
        )

    def _distribution_of_counts(self) -> pl.DataFrame:
        rows = []
        for row, (value, p) in enumerate(self._distributions):
            if len(value) == 1:
                rows.append((row, "constant", "mean", value.tolist()))
            else:
                rows.append((row, "discrete", "val", value.tolist()))
                rows.append((row, "discrete", "p", p.tolist()))
        return (
            pl.DataFrame(
                rows,
                {
                    "row": pl.UInt32,
                    "distribution": pl.String,
                    "parameter": pl.String,
                    "value": pl.List(pl.Float64),
                },
                orient="row",
            )
            .with_columns(position=pl.int_ranges(pl.col("value").list.len(), dtype=pl.Int32))
            .explode("value", "position")
            .join(self.pathways.select(*schema.PATHWAY).with_row_index("row"), on="row")
            .with_columns(
                property=pl.lit(schema.N_SYN_PER_CONN), shared_within=pl.lit(None, pl.Boolean)
            )
        )


def _published_pathways() -> pl.DataFrame:
    """Return the published pathways with the parameters of all their distributions."""

    def by_class(*, onto_exc: float, onto_inh: float, inhibitory: float) -> pl.Expr:
        from_excitatory = pl.col("source_class") == "EXC"
        return (
            pl.when(from_excitatory & (pl.col("target_class") == "EXC"))
            .then(onto_exc)
            .when(from_excitatory)
            .then(onto_inh)
            .otherwise(inhibitory)
        )

    classes = table("mtypes").select("mtype", target_class="synapse_class").unique()
    return (
        table("pathways")
        .rename({"n_connections": "n_published"})
        .join(table("synapse_types"), on="synapse_type")
        .rename({"synapse_class": "source_class", "synapse_type": "syn_type_id_mean"})
        .join(classes, left_on="target_type", right_on="mtype")
        .with_columns(
            **{
                f"{_RRP}_mean": by_class(onto_exc=2.5, onto_inh=2.5, inhibitory=1.5),
                "conductance_scale_factor_mean": by_class(
                    onto_exc=0.8, onto_inh=0.4, inhibitory=0.0
                ),
                "u_hill_coefficient_mean": by_class(onto_exc=2.79, onto_inh=1.09, inhibitory=1.94),
                f"{_SPINE}_mean": pl.lit(_SPINE_MEAN),
                f"{_SPINE}_std": pl.lit(_SPINE_STD),
            },
            **{
                f"{name}_{edge}": (pl.col(f"{name}_mean") + sign * pl.col(f"{name}_std")).clip(0)
                for name in _TRUNCNORM
                for edge, sign in (("min", -1), ("max", 1))
            },
        )
        .sort(*schema.PATHWAY)
    )


def _count_distribution(mean: float, std: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the distribution of the number of synapses of a connection: values and probabilities.

    A gamma distribution of the published mean and standard deviation, rounded, and at least 1.
    Where the standard deviation is 0, all connections have the mean, which then is a whole number.
    """
    if std == 0:
        return np.array([round(mean)]), np.ones(1)
    value = np.arange(1, 2 + round(mean + 50 * std))
    at_most = gammainc((mean / std) ** 2, (value + 0.5) * mean / std**2)
    p = np.diff(at_most, prepend=0.0)
    possible = p > _NEGLIGIBLE
    return value[possible], p[possible] / p[possible].sum()


def _apportion(
    n_published: NDArray[np.float64],
    n_syn: NDArray[np.float64],
    synapses: int,
    *,
    most: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return whole numbers of connections in proportion to the published ones.

    One factor for all pathways, then rounded (Webster's method), such that ``synapses`` are
    expected, with ``n_syn`` a connection. Small pathways keep a few connections where these are
    no more than were published, and cost a small share of the synapses.
    """
    floors = (np.minimum(np.floor(n_published), few) for few in range(_FEW, -1, -1))
    least = next(floor for floor in floors if floor @ n_syn <= _SHARE_OF_FEW * synapses)

    def numbers(factor: float) -> NDArray[np.float64]:
        return np.clip(np.rint(factor * n_published), np.minimum(least, most), most)

    low, high = 0.0, 10 * synapses / float(n_published @ n_syn)
    for _ in range(60):  # halvings: beyond the digits of a double
        middle = (low + high) / 2
        if numbers(middle) @ n_syn < synapses:
            low = middle
        else:
            high = middle
    return numbers(high).astype(np.int64)


def _distinct(
    below: NDArray[np.int64], size: NDArray[np.int32], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw for each cell ``size`` distinct numbers less than ``below``: cells and numbers, sorted.

    What was drawn twice is drawn again until nothing is missing, so that all subsets are equally
    likely.
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
