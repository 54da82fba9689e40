"""An edge file without a configuration, with a file of its nodes or without."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import h5py
import numpy as np
import polars as pl

from connprops.circuit import hdf5
from connprops.circuit.circuit import Circuit, EdgePopulation, NodePopulation, circuit_of
from connprops.circuit.columns import SonataColumn
from connprops.circuit.config import Entry, Networks
from connprops.errors import CircuitError, listing

_MOST_NODES = 1 << 28
"""Nodes that an edge file may imply: each takes room in tables."""


@dataclass(frozen=True)
class ImpliedNodes(NodePopulation):
    """A node population of which only the ids that edges name are known: 0 to the largest."""

    grouped_by: ClassVar[str] = "@population"
    ids: ClassVar[None] = None

    @cached_property
    def size(self) -> int:
        """Return the number of nodes: one more than the largest id."""
        end = 0
        with hdf5.reading(self.file) as h5:
            for population in hdf5.group(h5, "edges").values():
                for side in ("source", "target"):
                    if _nodes_of(population, side) == self.name:
                        blocks = hdf5.blocks(population, f"{side}_node_id")
                        end = max([end, *(int(block.max()) + 1 for block in blocks)])
        if end > _MOST_NODES:
            raise CircuitError.of(
                f"{self.file} names a node that is none, or of nodes that are not given",
                found=f"id {end - 1}", expected=f"ids below {_MOST_NODES:,}",
                hint="give the file of the nodes (--nodes)",
            )  # fmt: skip
        return end

    @cached_property
    def columns(self) -> dict[str, SonataColumn]:
        """Return no columns."""
        return {}

    def attributes(self, only: object = None) -> pl.DataFrame:  # noqa: ARG002 - there are none
        """Return the ids of all nodes."""
        return pl.DataFrame({"node": np.arange(self.size, dtype=np.int64)})


def bare_circuit(edges_file: Path, nodes_file: Path | None) -> Circuit:
    """Return the populations of an edge file as a circuit; without nodes, these are implied."""
    with hdf5.reading(edges_file) as h5:
        if "edges" not in h5:
            raise CircuitError.of(
                f"{edges_file} is HDF5, but no SONATA edge file", found=listing(h5),
                expected="the group 'edges'",
            )  # fmt: skip
        ends = {
            name: tuple(_nodes_of(population, side) for side in ("source", "target"))
            for name, population in hdf5.group(h5, "edges").items()
        }
    if nodes_file is not None:
        entries = [Entry(nodes_file=str(nodes_file))], [Entry(edges_file=str(edges_file))]
        return circuit_of(edges_file, Networks(*entries))
    nodes = {
        name: ImpliedNodes(name, edges_file, None, "implied")
        for name in sorted({name for of_edges in ends.values() for name in of_edges})
    }
    edges = {
        name: EdgePopulation(
            name, edges_file, None, "chemical", *(nodes[of_side] for of_side in of_edges)
        )
        for name, of_edges in ends.items()
    }
    return Circuit(edges_file, nodes, edges, None, {})


def _nodes_of(population: h5py.Group, side: str) -> str:
    """Return the name of the nodes that one side of an edge population refers to."""
    ids = hdf5.dataset(population, f"{side}_node_id")
    return hdf5.text(ids.attrs.get("node_population", ids.attrs.get("network", "nodes")))
