"""Small SONATA circuits for tests, written from plain arrays."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

SHARED = Path(os.environ.get("CONNPROPS_CIRCUITS", Path(__file__).parents[2] / "shared" / "data"))
"""Folder of public circuits. Tests that use them skip where it is absent."""


def write_nodes(
    file: Path, name: str, attributes: Mapping[str, Sequence], *, size: int, library: bool = True
) -> None:
    """Write a node population; text attributes enumerated where ``library``."""
    with h5py.File(file, "w") as h5:
        group = h5.create_group(f"nodes/{name}/0")
        h5[f"nodes/{name}/node_type_id"] = np.full(size, -1)
        for key, values in attributes.items():
            array = np.asarray(values)
            if array.dtype.kind not in "OSU":
                group[key] = array
            elif library:
                labels, codes = np.unique(array, return_inverse=True)
                group[key] = codes.astype(np.uint32)
                group.create_dataset(
                    f"@library/{key}", data=labels.astype(object), dtype=h5py.string_dtype()
                )
            else:
                group.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())


def write_edges(
    file: Path,
    name: str,
    source: Sequence[int],
    target: Sequence[int],
    columns: Mapping[str, Sequence],
    *,
    nodes: tuple[str, str] = ("All", "All"),
) -> None:
    """Write an edge population of one group, without indices."""
    with h5py.File(file, "w") as h5:
        base = h5.create_group(f"edges/{name}")
        for side, ids, population in (
            ("source", source, nodes[0]),
            ("target", target, nodes[1]),
        ):
            base[f"{side}_node_id"] = np.asarray(ids, dtype=np.uint64)
            base[f"{side}_node_id"].attrs["node_population"] = population
        base["edge_type_id"] = np.full(len(source), -1)
        group = base.create_group("0")
        for key, values in columns.items():
            array = np.asarray(values)
            if array.dtype.kind in "OSU":
                group.create_dataset(key, data=array.astype(object), dtype=h5py.string_dtype())
            else:
                group[key] = array


def write_circuit(
    folder: Path,
    source: Sequence[int],
    target: Sequence[int],
    columns: Mapping[str, Sequence],
    *,
    mtype: Sequence[str],
    attributes: Mapping[str, Sequence] | None = None,
    node_sets: Mapping[str, object] | None = None,
    population: str = "default",
    library: bool = True,
) -> Path:
    """Write a circuit of one node and one edge population; return its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    write_nodes(
        folder / "nodes.h5",
        "All",
        {"mtype": list(mtype), **(attributes or {})},
        size=len(mtype),
        library=library,
    )
    write_edges(folder / "edges.h5", population, source, target, columns)
    config = {
        "version": 2,
        "manifest": {"$BASE_DIR": "."},
        "networks": {
            "nodes": [
                {
                    "nodes_file": "$BASE_DIR/nodes.h5",
                    "populations": {
                        "All": {
                            "type": "biophysical",
                            "morphologies_dir": "$BASE_DIR",
                            "biophysical_neuron_models_dir": "$BASE_DIR",
                        }
                    },
                }
            ],
            "edges": [
                {
                    "edges_file": "$BASE_DIR/edges.h5",
                    "populations": {population: {"type": "chemical"}},
                }
            ],
        },
    }
    if node_sets is not None:
        (folder / "node_sets.json").write_text(json.dumps(node_sets))
        config["node_sets_file"] = "$BASE_DIR/node_sets.json"
    path = folder / "circuit_config.json"
    path.write_text(json.dumps(config))
    return path


def two_types(folder: Path, *, shuffled: bool = False, seed: int = 0) -> Path:
    """Write a circuit of two m-types with one shared and one varying property."""
    rng = np.random.default_rng(seed)
    mtype = ["L4_PC"] * 6 + ["L5_BC"] * 4
    pairs = [(s, t) for t in range(10) for s in range(10) if (s * 7 + t * 3) % 4]
    counts = rng.integers(1, 5, len(pairs))
    source = np.repeat([s for s, _ in pairs], counts)
    target = np.repeat([t for _, t in pairs], counts)
    columns = {
        "conductance": np.repeat(rng.gamma(4, 0.2, len(pairs)), counts).astype(np.float32),
        "delay": rng.uniform(0.1, 3, source.size).astype(np.float32),
        "u_syn": rng.normal(0.5, 0.1, source.size).astype(np.float32),
        "n_rrp_vesicles": np.repeat(1 + rng.poisson(1, len(pairs)), counts).astype(np.int16),
        "decay_time": np.full(source.size, 1.74, dtype=np.float32),
        "afferent_center_x": rng.normal(0, 100, source.size).astype(np.float32),
    }
    if shuffled:
        order = rng.permutation(source.size)
        source, target = source[order], target[order]
        columns = {name: values[order] for name, values in columns.items()}
    return write_circuit(
        folder,
        source,
        target,
        columns,
        mtype=mtype,
        attributes={
            "synapse_class": ["EXC"] * 6 + ["INH"] * 4,
            "layer": ["4"] * 6 + ["5"] * 4,
            "region": ["left", "right"] * 5,
        },
        node_sets={"Left": {"region": "left"}, "Excitatory": {"synapse_class": "EXC"}},
    )
