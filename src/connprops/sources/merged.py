"""Several populations of edges as one: their rows one after the other, their nodes side by side.

A node is known by its population and its id there. Types are named with the population, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.errors import ConnpropsWarning, OptionError, listing
from connprops.sources.node_types import BY_NODE, BY_POPULATION, ID, NONE
from connprops.sources.source import (
    LEFT_OUT,
    EdgeRows,
    Network,
    SourceColumn,
    SourceEdges,
    SourceNodes,
)


@dataclass(frozen=True, eq=False)
class MergedNodes:
    """The nodes of one side of several populations, which types are named with where they differ.

    ``parts`` are the populations of nodes by the name that stands before their types.
    """

    name: str
    parts: Mapping[str, SourceNodes]
    grouped_by: str
    untyped: ClassVar[str] = "keep"

    @cached_property
    def _own(self) -> dict[str, pl.DataFrame]:
        return {label: nodes.attributes() for label, nodes in self.parts.items()}

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Return what is added to the ids of each population."""
        ends = [int(frame["node"].to_numpy().max(initial=-1)) + 1 for frame in self._own.values()]
        return dict(zip(self._own, np.cumsum([0, *ends[:-1]]).tolist(), strict=True))

    def attributes(self) -> pl.DataFrame:
        """Return ``node``, ids and attributes of all; those that some lack are null there."""
        frames = [self._named(label, frame) for label, frame in self._own.items()]
        types = [frame.schema for frame in frames]
        mixed = {n for a in types for b in types for n in a.keys() & b.keys() if a[n] != b[n]}
        frames = [
            frame.with_columns(pl.col(n).cast(pl.String) for n in frame.columns if n in mixed)
            for frame in frames
        ]
        return pl.concat(frames, how="diagonal")

    def _named(self, label: str, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the nodes of one population, with numbers, ids and types among all."""
        by, known = self.grouped_by, frame[ID if ID in frame.columns else "node"]
        groups = {}
        if len(self.parts) > 1 and by not in (BY_NODE, BY_POPULATION):
            own = pl.col(by).cast(pl.String).fill_null(NONE) if by in frame.columns else pl.lit("")
            named = pl.lit(f"{label}: ") + own if by in frame.columns else pl.lit(label)
            groups = {by: named}
        return frame.with_columns(
            pl.col("node") + self.offsets[label],
            pl.concat_str(pl.lit(f"{label}:"), known.cast(pl.String)).alias(ID),
            pl.lit(label).alias(BY_POPULATION),
            **groups,
        )


@dataclass(frozen=True, eq=False)
class MergedEdges:
    """The rows of several populations, one after the other, with the columns that all have."""

    parts: tuple[SourceEdges, ...]
    ends: tuple[tuple[str, str], ...]
    source: MergedNodes
    target: MergedNodes

    @property
    def name(self) -> str:
        """Return the names of all."""
        return "+".join(edges.name for edges in self.parts)

    @property
    def kind(self) -> str:
        """Return what the edges are."""
        return "+".join(dict.fromkeys(edges.kind for edges in self.parts))

    @property
    def file(self) -> Path:
        """Return the file of the first."""
        return self.parts[0].file

    @cached_property
    def starts(self) -> Ints:
        """Return the first row of each, and the number of all rows."""
        return np.cumsum([0, *(edges.size for edges in self.parts)])

    @property
    def size(self) -> int:
        """Return the number of rows."""
        return int(self.starts[-1])

    @property
    def rows_together(self) -> int:
        """Return how many rows are stored together, of the part that stores most so."""
        return max(edges.rows_together for edges in self.parts)

    @property
    def unmet(self) -> int:
        """Return the number of rows that are left out already."""
        return sum(edges.unmet for edges in self.parts)

    @cached_property
    def columns(self) -> dict[str, SourceColumn]:
        """Return the columns that all have: of numbers, or of the same labels."""
        first, *rest = (edges.columns for edges in self.parts)
        common = [name for name in first if all(name in of_other for of_other in rest)]
        of_all = {name: [first[name], *(other[name] for other in rest)] for name in common}
        return {
            name: SourceColumn(name, _stored(each), each[0].labels, any(c.partial for c in each))
            for name, each in of_all.items()
            if len({c.labels for c in each}) == 1
        }

    @contextmanager
    def reader(self) -> Iterator[_MergedRows]:
        """Open all for reading ranges of rows."""
        with ExitStack() as stack:
            yield _MergedRows(self, [stack.enter_context(e.reader()) for e in self.parts])

    def identity(self) -> dict[str, Any]:
        """Return what tells this content from another's."""
        parts = [edges.identity() for edges in self.parts]
        return {"population": self.name, "file": self.file.name, "merged": parts}

    def state(self) -> dict[str, int]:
        """Return what changes whenever somebody writes one of the files."""
        states = [edges.state() for edges in self.parts]
        return {f"{k} {n}": v for n, state in enumerate(states) for k, v in state.items()}

    def sha256(self) -> str:
        """Return the checksums of all files."""
        return ",".join(edges.sha256() for edges in self.parts)


class _MergedRows:
    """Ranges of rows, of which each population has a part."""

    def __init__(self, edges: MergedEdges, rows: Sequence[EdgeRows]) -> None:
        self._edges, self._rows = edges, rows

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number of each population that has some of the rows, and which these are."""
        starts = self._edges.starts
        for n in range(len(self._rows)):
            first, last = max(start, int(starts[n])), min(stop, int(starts[n + 1]))
            if first < last or (start == stop and n == 0):
                yield n, first - int(starts[n]), max(first, last) - int(starts[n])

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return the source and the target node of each row."""
        sides: tuple[list[Ints], list[Ints]] = [], []
        for n, first, last in self._pieces(start, stop):
            ids = self._rows[n].node_ids(first, last)
            labels = self._edges.ends[n]
            nodes = self._edges.source, self._edges.target
            for side, of_side, label, known in zip(sides, ids, labels, nodes, strict=True):
                side.append(np.where(of_side < 0, of_side, of_side + known.offsets[label]))
        return np.concatenate(sides[0]), np.concatenate(sides[1])

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values, of its dtype."""
        values = [
            self._rows[n].column(self._edges.parts[n].columns[column.name], first, last)
            for n, first, last in self._pieces(start, stop)
        ]
        return np.concatenate(values).astype(column.dtype, copy=False)


class MergedNetwork:
    """A network whose populations of edges are one, or some of them."""

    def __init__(
        self, network: Network, names: Sequence[str], source_type: str, target_type: str
    ) -> None:
        self._network = network
        self.config, self.name = network.config, network.name
        edges = tuple(network.population(name) for name in names)
        pairs = [(e.source.name, e.target.name) for e in edges]
        # Two populations between the same nodes are told apart by the side of the sources.
        apart = len({*pairs}) == len(pairs)
        ends = tuple((e.source.name if apart else e.name, e.target.name) for e in edges)
        sides = []
        for side, by in ((0, source_type), (1, target_type)):
            nodes = [(e.source, e.target)[side] for e in edges]
            parts = {end[side]: of for end, of in zip(ends, nodes, strict=True)}
            sides.append(MergedNodes("+".join(parts), parts, by))
        self._population = MergedEdges(edges, ends, *sides)
        self._say_what_is_left_out()

    def _say_what_is_left_out(self) -> None:
        merged = self._population.columns
        several = [{*edges.columns} for edges in self._population.parts]
        if schema.MULTIPLICITY in set().union(*several) - merged.keys():
            raise OptionError.of(
                f"Populations cannot be merged of which only some have {schema.MULTIPLICITY!r}",
                found=listing(e.name for e in self._population.parts if schema.MULTIPLICITY
                              in e.columns),
                expected="a synapse in each row, or a number of them in each",
            )  # fmt: skip
        lacking = sorted(
            n for n in set().union(*several) - merged.keys() if schema.is_exported_by_default(n)
        )
        if lacking:
            warnings.warn(
                f"columns in which the populations do not agree are left out: {listing(lacking)}",
                ConnpropsWarning,
                stacklevel=4,
            )

    @property
    def populations(self) -> list[str]:
        """Return the name of all together."""
        return [self._population.name]

    def results_folder(self) -> Path:
        """Return the folder of the results where none is given."""
        return self._network.results_folder()

    def population(self, name: str | None = None) -> MergedEdges:  # noqa: ARG002 - there is one
        """Return all together."""
        return self._population

    def node_sets(self, population: Any) -> dict[str, Ints]:
        """Return the ids of each node set among the nodes of one side."""
        ids: dict[str, list[Ints]] = {}
        for label, nodes in population.parts.items():
            for name, of_set in self._network.node_sets(nodes).items():
                ids.setdefault(name, []).append(of_set + population.offsets[label])
        return {name: np.concatenate(several) for name, several in ids.items()}


def _stored(columns: Sequence[SourceColumn]) -> str:
    """Return the type that holds the values of all."""
    several = {column.stored for column in columns}
    if len(several) == 1:
        return several.pop()
    if several & LEFT_OUT.keys():
        return "other"
    return np.result_type(*several).name
