"""Circuits to measure on, each written once into a folder and reused."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from connprops.circuit.edge_file import write_indices
from connprops.demo import write_demo

_TARGETS_AT_ONCE = 200
_SYNAPSES_PER_CONNECTION = 4.33  # 31,212,240 synapses of 7,203,362 connections

_NAMES = (
    "conductance", "decay_time", "depression_time", "facilitation_time", "u_syn",
    "u_hill_coefficient", "conductance_scale_factor", "n_rrp_vesicles",
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """The shape of a circuit: types on each side, synapses, properties (three of which vary)."""

    name: str
    n_types: int
    n_properties: int
    n_neurons: int


HEX0 = Shape("hex0", 18, 17, 26_787)
"""As hexagon 0 of the somatosensory cortex, excitatory to excitatory: 31.2 million synapses."""

TEN_PROPERTIES = Shape("ten_properties", 18, 10, 26_787)
"""The same with ten properties, to compare with figures from before connprops was written."""

FEW_PATHWAYS = Shape("few_pathways", 8, 8, 3_000)
"""So few that the reference, which fits a Gaussian to each histogram, needs only a minute."""

MANY_PATHWAYS = Shape("many_pathways", 60, 17, 20_000)


def demo(work: Path, synapses: int) -> Path:
    """Return the configuration of a demo circuit: 55 m-types, 1,941 pathways, 10 properties."""
    return _apart(_demo, work, synapses)


def _demo(work: Path, synapses: int) -> Path:
    return write_demo(work / f"demo-{synapses}", synapses=synapses).config


def _apart(make: Callable[..., Path], *arguments: object) -> Path:
    """Make a circuit in a process of its own.

    The system counts among the peak memory of a program what its parent had as it started it.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(make, *arguments).result()


def random_circuit(work: Path, shape: Shape, synapses: int, *, indexed: bool = False) -> Path:
    """Return the configuration of a circuit of some shape, sorted by target and source.

    Properties are shared within connections but for the last three, and their means differ from
    pathway to pathway. ``indexed`` adds the indices that the reference needs.
    """
    folder = work / f"{shape.name}-{synapses}"
    config = folder / "circuit_config.json"
    return config if config.is_file() else _apart(_random_circuit, folder, shape, synapses, indexed)


def _random_circuit(folder: Path, shape: Shape, synapses: int, indexed: bool) -> Path:  # noqa: FBT001
    config = folder / "circuit_config.json"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    n_neurons = min(shape.n_neurons, max(4 * shape.n_types, int(synapses**0.5)))
    rng = np.random.default_rng(0)
    types = np.sort(rng.integers(0, shape.n_types, n_neurons))
    _write_nodes(folder / "nodes.h5", types)
    _write_edges(folder / "edges.h5", types, shape, synapses, rng)
    if indexed:
        write_indices(folder / "edges.h5", "neurons__neurons__chemical", n_neurons, n_neurons)
    config.write_text(json.dumps(_CONFIG), encoding="utf-8")
    return config


def _write_nodes(path: Path, types: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        population = file.create_group("nodes/neurons")
        population["node_type_id"] = np.full(types.size, -1)
        columns = {
            "mtype": [f"T{t:02}" for t in range(types.max() + 1)],
            "layer": [str(1 + t % 6) for t in range(types.max() + 1)],
            "synapse_class": ["EXC" if t % 4 else "INH" for t in range(types.max() + 1)],
        }
        for name, labels in columns.items():
            group = population.require_group("0")
            values = np.array(labels, dtype=object)[types]
            group.create_dataset(name, data=values, dtype=h5py.string_dtype())


def _write_edges(
    path: Path, types: np.ndarray, shape: Shape, synapses: int, rng: np.random.Generator
) -> None:
    names = list(_NAMES)
    names += [f"property_{i:02}" for i in range(shape.n_properties - len(names))]
    n_neurons = types.size
    n_sources = max(round(synapses / _SYNAPSES_PER_CONNECTION / n_neurons), 1)
    mean = 1 + rng.random((types.max() + 1, types.max() + 1, len(names)))
    with h5py.File(path, "w") as file:
        population = file.create_group("edges/neurons__neurons__chemical")

        def column(where: str, dtype: type) -> h5py.Dataset:
            return population.create_dataset(
                where, (0,), dtype, maxshape=(None,), chunks=(1 << 18,)
            )

        ids = {side: column(f"{side}_node_id", np.uint64) for side in ("source", "target")}
        for dataset in ids.values():
            dataset.attrs["node_population"] = "neurons"
        dtypes = {"n_rrp_vesicles": np.int16}
        columns = [column(f"0/{name}", dtypes.get(name, np.float32)) for name in names]
        type_ids = column("edge_type_id", np.int64)
        for first in range(0, n_neurons, _TARGETS_AT_ONCE):
            targets = np.arange(first, min(first + _TARGETS_AT_ONCE, n_neurons))
            sources = np.sort(
                rng.integers(0, n_neurons - n_sources, (targets.size, n_sources)), axis=1
            ) + np.arange(n_sources)  # increasing, so each source once
            source, target = sources.ravel(), np.repeat(targets, n_sources)
            n_syn = 1 + rng.poisson(_SYNAPSES_PER_CONNECTION - 1, source.size)
            source_syn, target_syn = np.repeat(source, n_syn), np.repeat(target, n_syn)
            _append(ids["source"], source_syn)
            _append(ids["target"], target_syn)
            _append(type_ids, np.full(source_syn.size, -1))
            for i, dataset in enumerate(columns):
                varies = i >= len(columns) - 3
                of = (source_syn, target_syn) if varies else (source, target)
                scale = mean[types[of[0]], types[of[1]], i]
                if names[i] == "n_rrp_vesicles":
                    values = 1.0 + rng.poisson(scale)
                else:
                    values = scale * rng.standard_gamma(4.0 + i, scale.size) / (4.0 + i)
                _append(dataset, values if varies else np.repeat(values, n_syn))


def _append(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = dataset.shape[0]
    dataset.resize(start + values.size, axis=0)
    dataset[start:] = values


_CONFIG = {
    "version": 2,
    "manifest": {"$BASE_DIR": "."},
    "networks": {
        "nodes": [{"nodes_file": "$BASE_DIR/nodes.h5",
                   "populations": {"neurons": {"type": "biophysical",
                                               "morphologies_dir": "$BASE_DIR",
                                               "biophysical_neuron_models_dir": "$BASE_DIR"}}}],
        "edges": [{"edges_file": "$BASE_DIR/edges.h5",
                   "populations": {"neurons__neurons__chemical": {"type": "chemical"}}}],
    },
}  # fmt: skip
