"""Edge files: their indices are those of libsonata, without its times."""

from __future__ import annotations

import time

import h5py
import libsonata
import numpy as np
import pytest

from connprops.circuit.edge_file import create_edges, created, write_indices


def edges(path, source, target):
    with created(path) as (file, _):
        population = create_edges(file, "e", ("a", "b"), len(source))
        population["source_node_id"][:] = source
        population["target_node_id"][:] = target
    return path


def indices(path):
    with h5py.File(path) as file:
        group = file["edges/e/indices"]
        return {f"{i}/{name}": d[:].tolist() for i in group for name, d in group[i].items()}


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
@pytest.mark.parametrize("order", ["target", "source", "none"])
@pytest.mark.parametrize("at_once", [7, 1 << 26])
def test_indices_are_those_of_libsonata(tmp_path, n, order, at_once):
    rng = np.random.default_rng(n)
    source, target = rng.integers(0, 20, n), rng.integers(2, 30, n)
    rows = {"target": np.lexsort((source, target)), "source": np.lexsort((target, source))}
    rows = rows.get(order, np.arange(n))
    ours, theirs = (edges(tmp_path / name, source[rows], target[rows]) for name in "ab")
    write_indices(ours, "e", 25, 31, at_once)
    libsonata.EdgePopulation.write_indices(str(theirs), "e", 25, 31)
    assert indices(ours) == indices(theirs)
    if n:
        population = libsonata.EdgePopulation(str(ours), "", "e")
        found = population.afferent_edges(int(target[0])).flatten()
        assert found.tolist() == np.flatnonzero(target[rows] == target[0]).tolist()


def test_the_same_edges_give_the_same_bytes_at_any_time(tmp_path):
    contents = set()
    for name in "ab":
        path = edges(tmp_path / name, [1, 0, 1], [0, 0, 2])
        write_indices(path, "e", 2, 3)
        contents.add(path.read_bytes())
        time.sleep(1.1)  # HDF5 counts seconds
    assert len(contents) == 1
