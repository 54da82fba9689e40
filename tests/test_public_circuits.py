"""Every public population, against the slow oracle on its raw HDF5 columns."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pytest
from circuits import SHARED
from oracle import assert_agrees

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.statistics.extract import extract

pytestmark = [
    pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here"),
    # Files that are not there, types that span layers, nodes without m-type, -1 as a sentinel.
    pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning"),
]

# circuit, population, nodes files of source and target, node attribute that types are taken from
POPULATIONS = [
    ("functionalizer_1000n", "default", ("nodes.h5",), "mtype"),
    (
        "nbs1_two_cells",
        "external_S1nonbarrel_neurons__S1nonbarrel_neurons__chemical",
        ("external_S1nonbarrel_neurons/nodes.h5", "S1nonbarrel_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "nbs1_two_cells",
        "VPM__S1nonbarrel_neurons__chemical",
        ("VPM/nodes.h5", "S1nonbarrel_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "nbs1_two_cells",
        "POm__S1nonbarrel_neurons__chemical",
        ("POm/nodes.h5", "S1nonbarrel_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "nbs1_two_cells",
        "S1nonbarrel_neurons__S1nonbarrel_neurons__chemical",
        ("S1nonbarrel_neurons/nodes.h5",),
        "mtype",
    ),
    (
        "nbs1_ten_cells",
        "S1nonbarrel_neurons__S1nonbarrel_neurons__chemical",
        ("S1nonbarrel_neurons/nodes.h5",),
        "mtype",
    ),
    (
        "nbs1_ten_cells",
        "VPM__S1nonbarrel_neurons__chemical",
        ("VPM/nodes.h5", "S1nonbarrel_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "nbs1_ten_cells",
        "POm__S1nonbarrel_neurons__chemical",
        ("POm/nodes.h5", "S1nonbarrel_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "thalamus_400",
        "thalamus_neurons__thalamus_neurons__chemical",
        ("networks/nodes/thalamus_neurons/nodes.h5",),
        "mtype",
    ),
    (
        "thalamus_400",
        "thalamus_neurons__thalamus_neurons__electrical_synapse",
        ("networks/nodes/thalamus_neurons/nodes.h5",),
        "mtype",
    ),
    (
        "hippocampus_one_cell",
        "CA3_projections__hippocampus_neurons__chemical_synapse",
        ("CA3_projections/nodes.h5", "hippocampus_neurons/nodes.h5"),
        "mtype",
    ),
    (
        "hippocampus_one_cell",
        "external_hippocampus_neurons__hippocampus_neurons__chemical_synapse",
        ("external_hippocampus_neurons/nodes.h5", "hippocampus_neurons/nodes.h5"),
        "mtype",
    ),
    ("sscx_plasticity_five_cells/sub_L5_5cells", "default", ("All/nodes.h5",), "mtype"),
    ("allen_layer4", "l4_to_l4", ("network/l4_nodes.h5",), "ei"),
    ("bmtk_300cells", "internal_to_internal", ("network/internal_nodes.h5",), "ei"),
    (
        "bmtk_300cells",
        "external_to_internal",
        ("network/external_nodes.h5", "network/internal_nodes.h5"),
        "ei",
    ),
]


def raw_types(file, attribute):
    """Return the type of each node: from HDF5, else the CSV of node types, else the population."""
    with h5py.File(file) as h5:
        ((name, population),) = h5["nodes"].items()
        type_id = population["node_type_id"][:]
        group = population["0"]
        if attribute in group.get("@library", {}):
            labels = group["@library"][attribute].asstr()[:]
            return [labels[i] for i in group[attribute][:].astype(int)]
        if attribute in group:
            return list(group[attribute].asstr()[:])
    types = file.with_name(file.name.replace("nodes.h5", "node_types.csv"))
    if types.is_file():
        with types.open() as rows:
            by_id = {int(r["node_type_id"]): r for r in csv.DictReader(rows, delimiter=" ")}
        return [by_id[int(i)][attribute] for i in type_id]
    return [name] * len(type_id)


def raw_edges(file, population):
    """Return source, target and columns; columns that some group lacks are left out."""
    with h5py.File(file) as h5:
        base = h5[f"edges/{population}"]
        source, target = (base[f"{side}_node_id"][:].astype(int) for side in ("source", "target"))
        groups = [name for name in base if name.isdigit()]
        if len(groups) == 1:
            columns = {k: v[:] for k, v in base[groups[0]].items() if isinstance(v, h5py.Dataset)}
            return source, target, columns
        group_id, index = base["edge_group_id"][:], base["edge_group_index"][:]
        common = set.intersection(*(set(base[name]) for name in groups))
        columns = {name: np.empty(source.size, base[groups[0]][name].dtype) for name in common}
        for number in groups:
            rows = group_id == int(number)
            for name in common:
                columns[name][rows] = base[number][name][:][index[rows]]
        return source, target, columns


@pytest.mark.parametrize(("circuit", "population", "nodes", "by"), POPULATIONS)
def test_statistics_of_a_public_population(tmp_path, circuit, population, nodes, by):
    folder = SHARED / circuit
    config = folder / "circuit_config.json"
    if not config.is_file():
        config = folder / "config.circuit.json"
    opened = resolve_circuit(config)
    edges = opened.population(population)
    source, target, columns = raw_edges(edges.file, population)
    folder_of_dataset = export(
        opened, tmp_path / "d", population=population, source_type=by, target_type=by
    )
    ds = Dataset(folder_of_dataset)
    properties = [name for name in ds.properties if name in columns]
    assert len(properties) >= 1
    types = [raw_types(folder / name, by) for name in (nodes[0], nodes[-1])]
    stats = extract(ds, sel_props=properties)
    assert_agrees(stats, source, target, columns, *types)
