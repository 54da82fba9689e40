"""The types of nodes, from wherever they are known: a table, a dataset, a circuit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.circuit.circuit import EdgePopulation, open_circuit
from connprops.circuit.node_types import group_nodes
from connprops.dataset.dataset import Dataset, open_dataset
from connprops.dataset.manifest import MANIFEST
from connprops.distributions.table import ModelTable
from connprops.errors import OptionError, listing

SIDES = ("source", "target")


@dataclass(frozen=True)
class TypeCodes:
    """Types as codes into names: ``codes`` is (n,), of connections or, by id, of nodes."""

    codes: NDArray[np.int64]
    names: list[str]


class NodeTypes:
    """The type of each node of both sides."""

    def __init__(self, sides: dict[str, TypeCodes]) -> None:
        self._sides = sides

    def of(self, side: str, ids: NDArray[np.int64]) -> TypeCodes:
        """Return the types of nodes.

        Raises
        ------
        OptionError
            Where there is no such node.
        """
        known = self._sides[side]
        unknown = ids >= known.codes.size
        codes = known.codes[np.where(unknown, 0, ids)]
        unknown |= codes < 0
        if unknown.any():
            raise OptionError.of(
                f"A {side} node of the connections has no type",
                found=f"node {ids[np.argmax(unknown)]}",
                expected=f"a node id below {known.codes.size:,}",
            )
        return TypeCodes(codes, known.names)


def edge_population(circuit: Any, name: str | None) -> EdgePopulation:
    """Return an edge population of a circuit, a configuration file or a ``bluepysnap.Circuit``.

    Raises
    ------
    OptionError
        Where no circuit is given.
    """
    if circuit is None:
        raise OptionError.of(
            "There is no circuit, of which to take the nodes and the names of the populations",
            expected="its configuration file (nodes=, --circuit)",
        )
    return open_circuit(circuit).population(name)


def node_types(nodes: Any, model: ModelTable, population: str | None = None) -> NodeTypes:
    """Return the types of nodes.

    Parameters
    ----------
    nodes
        A frame with ``side``, ``node`` and ``type``; a dataset or its folder; or a circuit, as an
        edge population, a configuration file or a ``bluepysnap.Circuit``.
    model
        The model: a circuit's nodes are grouped as those that it was made of were.
    population
        Edge population of the circuit: see :meth:`connprops.circuit.circuit.Circuit.population`.

    Raises
    ------
    OptionError
        Where a frame lacks one of the columns.
    """
    if isinstance(nodes, str | Path) and (Path(nodes) / MANIFEST).is_file():
        nodes = open_dataset(nodes)
    match nodes:
        case pl.DataFrame():
            frame = nodes
        case Dataset():
            frame = nodes.nodes.join(
                nodes.types.select("side", "code", "type"), on=["side", "code"]
            )
        case EdgePopulation():
            frame = _of_population(nodes, model)
        case _:
            frame = _of_population(edge_population(nodes, population), model)
    lacking = [name for name in ("side", "node", "type") if name not in frame.columns]
    if lacking:
        raise OptionError.of(
            f"The nodes lack the column {lacking[0]!r}",
            found=listing(frame.columns), expected="side, node, type",
        )  # fmt: skip
    return NodeTypes({side: _by_id(frame.filter(pl.col("side") == side)) for side in SIDES})


def _of_population(edges: EdgePopulation, model: ModelTable) -> pl.DataFrame:
    identity = model.facts.get("identity") or {}
    sides = []
    for side, population in (("source", edges.source), ("target", edges.target)):
        by = str(identity.get(f"{side}_type", "mtype"))
        grouped = group_nodes(population.attributes(), population.name, by, side, report=False)
        sides.append(grouped.nodes.select(pl.lit(side).alias("side"), "node", "type"))
    return pl.concat(sides)


def _by_id(frame: pl.DataFrame) -> TypeCodes:
    names = frame["type"].cast(pl.String).unique().drop_nulls().sort().to_list()
    ids = frame["node"].cast(pl.Int64).to_numpy()
    codes = np.full(int(ids.max()) + 1 if ids.size else 1, -1, dtype=np.int64)
    code = frame["type"].cast(pl.String).cast(pl.Enum(names)).to_physical().cast(pl.Int64)
    codes[ids] = code.fill_null(-1).to_numpy()
    return TypeCodes(codes, names)
