"""The scale model as files: a SONATA circuit with its truth beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from connprops import schema
from connprops._version import __version__
from connprops.circuit.edge_file import create_column, create_edges, write_indices
from connprops.demo.neurons import THICKNESS
from connprops.demo.scale_model import COLUMNS, ScaleModel
from connprops.display import Progress
from connprops.errors import DatasetError, OptionError, OutputError, listing
from connprops.store.records import read_record, write_record
from connprops.store.stage import new_folder

NODES = "neurons"
"""Name of the node population."""

EDGES = "neurons__neurons__chemical"
"""Name of the edge population."""

_CONFIG, _NODE_SETS = "circuit_config.json", "node_sets.json"
_NODE_FILE, _EDGE_FILE = "nodes.h5", "edges.h5"
_TRUTH = "truth.parquet"
_FILES = (_CONFIG, _NODE_SETS, _NODE_FILE, _EDGE_FILE, _TRUTH)
_NOTE = "demo.json"


@dataclass(frozen=True)
class _Note:
    """What ``demo.json`` says: the recipe, and the sizes of the circuit."""

    synapses: int
    seed: int
    version: str
    n_neurons: int
    n_connections: int
    n_synapses: int


_CONTENT = {
    "version": 2,
    "manifest": {"$BASE_DIR": "."},
    "node_sets_file": f"$BASE_DIR/{_NODE_SETS}",
    "networks": {
        "nodes": [{"nodes_file": f"$BASE_DIR/{_NODE_FILE}",
                   "populations": {NODES: {"type": "point_process"}}}],
        "edges": [{"edges_file": f"$BASE_DIR/{_EDGE_FILE}",
                   "populations": {EDGES: {"type": "chemical"}}}],
    },
}  # fmt: skip

_POINT_NEURON = {"model_type": "point_process", "model_template": "nrn:IntFire1",
                 "morphology": "none"}  # fmt: skip

_ON_SOMA = {
    "afferent_section_id": (np.uint16, 0),
    "afferent_section_pos": (np.float32, 0.5),
    "afferent_section_type": (np.uint8, 1),
    "afferent_segment_id": (np.uint16, 0),
    "afferent_segment_offset": (np.float32, 0.0),
}
"""Columns that SONATA asks for and that are the same for all synapses: the soma is all there is."""

_FEWEST, _MOST = 1_000, 1_000_000_000  # numpy's hypergeometric draws end at a thousand million


@dataclass(frozen=True)
class DemoCircuit:
    """A written demo circuit: where it lies, and how large it is."""

    config: Path
    truth: Path
    n_neurons: int
    n_connections: int
    n_synapses: int


def write_demo(
    folder: str | os.PathLike[str],
    *,
    synapses: int = 200_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> DemoCircuit:
    """Write the scale model as a SONATA circuit, or find it already written.

    The folder then holds ``circuit_config.json``, ``node_sets.json``, ``nodes.h5``, ``edges.h5``
    (sorted by target and source, with indices), and ``truth.parquet``: the distribution of each
    pathway and property, one row per source_type, target_type, property, parameter and position,
    with columns distribution, value and shared_within, in the words of the model table. ``delay``
    and positions, which follow from the geometry, are not in.

    The same ``synapses`` and ``seed`` give the same circuit. Synapses are generated in blocks of
    target neurons and written as they come, about a million in a second, so memory hardly grows
    with their number; libsonata then holds all source ids to index the file, which takes some
    15 bytes a synapse.

    Parameters
    ----------
    folder
        Where to write: a new or an empty folder, or a demo circuit of the same ``synapses`` and
        ``seed``, which is then left as it is.
    synapses
        How many synapses to aim at, 10^3 to 10^9. The number of synapses of a connection is
        random, so the circuit has this number only up to a per cent or so.
    seed
        Seed of all random numbers, not negative.
    progress
        Called after each block with ``"demo"``, synapses written, synapses in all, ``"synapses"``.

    Raises
    ------
    OptionError
        Where ``synapses`` or ``seed`` is out of range.
    OutputError
        Where ``folder`` holds something else, which is left as it is.
    """
    if not _FEWEST <= synapses <= _MOST:
        raise OptionError.of(
            "A demo circuit cannot have this number of synapses",
            found=f"{synapses:,}",
            expected=f"{_FEWEST:,} to {_MOST:,}",
        )
    if seed < 0:
        raise OptionError.of("A seed is not negative", found=str(seed), expected="0, 1, 2, ...")
    target = Path(folder)
    recipe = {"synapses": synapses, "seed": seed, "version": __version__}
    note = _note_if_written(target, recipe)
    if note is None:
        with new_folder(target) as stage:
            model = ScaleModel(synapses, seed)
            _write_nodes(stage / _NODE_FILE, model)
            n_synapses = _write_edges(stage / _EDGE_FILE, model, progress)
            write_record(stage / _NODE_SETS, _node_sets(model))
            write_record(stage / _CONFIG, _CONTENT)
            facts = {"schema_version": schema.VERSION, "table": "truth", **recipe}
            about = {schema.METADATA_KEY: json.dumps(facts)}
            model.truth().write_parquet(stage / _TRUTH, metadata=about)
            n_connections = int(model.pathways.get_column("n_connections").sum())
            note = _Note(synapses, seed, __version__, len(model.neurons), n_connections, n_synapses)
            write_record(stage / _NOTE, note)
    return DemoCircuit(
        target / _CONFIG, target / _TRUTH, note.n_neurons, note.n_connections, note.n_synapses
    )


def _write_nodes(path: Path, model: ScaleModel) -> None:
    """Write the node file: text columns enumerated, as SONATA's ``@library`` has it."""
    neurons = model.neurons
    groups, group = neurons.groups, neurons.group
    etypes = [names.split(" ") for names in groups.get_column("etypes")]
    texts = {
        **{name: groups[name].to_numpy()[group] for name in ("mtype", "layer", "synapse_class")},
        "etype": np.array([etypes[g][e] for g, e in zip(group, neurons.etype, strict=True)]),
        **{name: np.full(len(group), text) for name, text in _POINT_NEURON.items()},
    }
    numbers = dict(zip("xyz", neurons.soma, strict=True)) | {
        f"orientation_{name}": np.full(len(group), value, np.float32)
        for name, value in zip("wxyz", (1, 0, 0, 0), strict=True)
    }
    with h5py.File(path, "w") as file:
        population = file.create_group(f"nodes/{NODES}")
        population.create_dataset("node_type_id", data=np.full(len(group), -1))
        attributes = population.create_group("0")
        for name, text in texts.items():
            labels, codes = np.unique(text.astype(str), return_inverse=True)
            attributes.create_dataset(name, data=codes.astype(np.uint32))
            attributes.create_dataset(
                f"@library/{name}", data=labels.tolist(), dtype=h5py.string_dtype()
            )
        for name, values in numbers.items():
            attributes.create_dataset(name, data=values)


def _write_edges(path: Path, model: ScaleModel, progress: Progress | None) -> int:
    """Write the edge file, index it, and return its number of synapses, which blocks tell first."""
    ends = np.cumsum([model.connections(b).n_syn.sum() for b in range(model.n_blocks)])
    total = int(ends[-1])
    with h5py.File(path, "w") as file:
        population = create_edges(file, EDGES, (NODES, NODES), total)
        values_of = population["0"]
        for name, (kind, value) in _ON_SOMA.items():
            create_column(values_of, name, np.dtype(kind), total, fill=value)
        for name, dtype in COLUMNS.items():
            create_column(values_of, name, np.dtype(dtype), total)
        for axis in "xyz":  # one column of two names
            values_of[f"afferent_surface_{axis}"] = values_of[f"afferent_center_{axis}"]
        start = 0
        for block, stop in enumerate(ends.tolist()):
            for name, values in model.synapses(block).items():
                where = population if name.endswith("_node_id") else values_of
                where[name][start:stop] = values
            start = stop
            if progress is not None:
                progress("demo", stop, total, "synapses")
    write_indices(path, EDGES, len(model.neurons), len(model.neurons))
    return total


def _node_sets(model: ScaleModel) -> dict[str, Any]:
    return {
        "Mosaic": ["All"],
        "All": ["Excitatory", "Inhibitory"],
        "Excitatory": {"synapse_class": "EXC"},
        "Inhibitory": {"synapse_class": "INH"},
        **{f"Layer{layer}": {"layer": layer} for layer in sorted(THICKNESS)},
        **{mtype: {"mtype": mtype} for mtype in model.neurons.mtypes},
    }


def _note_if_written(target: Path, recipe: Mapping[str, Any]) -> _Note | None:
    """Return the note of the circuit in ``target``, None where nothing is; all else is an error."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        note = read_record(target / _NOTE, _Note)
    except DatasetError as error:
        raise OutputError.of(
            f"{target} holds something that is not a demo circuit",
            expected="a new or an empty folder",
            hint="nothing was written; give another folder",
        ) from error
    if any(getattr(note, key) != value for key, value in recipe.items()):
        raise OutputError.of(
            f"{target} holds another demo circuit",
            found=", ".join(f"{key} {getattr(note, key)}" for key in recipe),
            expected=", ".join(f"{key} {value}" for key, value in recipe.items()),
            hint="nothing was written; give another folder, or remove this one",
        )
    missing = [name for name in _FILES if not (target / name).is_file()]
    if missing:
        raise OutputError.of(
            f"{target} holds a demo circuit that lacks files",
            found=f"no {listing(missing)}",
            hint="nothing was written; remove the folder to have it written again",
        )
    return note
