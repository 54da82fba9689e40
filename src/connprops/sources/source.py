"""A source of edges: columns, the nodes of both sides, and rows by range.

A SONATA circuit is a source (:mod:`connprops.circuit`), a table of synapses another
(:mod:`connprops.tables`). What reads edges knows these protocols and nothing else of either.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints

CATEGORIES_AT_MOST = 100
"""A text column of edges with more distinct values than this is not a property but a label."""

LEFT_OUT = {
    "text": "text with too many distinct values",
    "other": "values that are neither numbers nor text",
    "several": "several values for each row: more than one dimension",
}
"""Why columns of these types cannot be properties."""


@dataclass(frozen=True)
class SourceColumn:
    """A column of edges or nodes.

    ``stored`` is the type of its values: numbers keep theirs, categories are integer codes into
    ``labels``, ``"text"`` is text that is not made categories of; others are in ``LEFT_OUT``.
    ``partial`` columns have no value in some rows.
    """

    name: str
    stored: str
    labels: tuple[str, ...] | None = None
    partial: bool = False

    @property
    def dtype(self) -> str:
        """Return the type of the values as read: floating, for NaN, where rows may have none."""
        if not self.partial or self.stored in LEFT_OUT:
            return self.stored
        return np.result_type(self.stored, np.float32).name


class SourceNodes(Protocol):
    """The nodes of a side."""

    @property
    def name(self) -> str:
        """Return the name of the population."""

    @property
    def grouped_by(self) -> str:
        """Return the attribute that groups them where none is asked for."""

    @property
    def untyped(self) -> str:
        """Return what to do by default with nodes without a type: "keep" or "leave-out"."""

    def attributes(self) -> pl.DataFrame:
        """Return ``node``, the number of each node, in order, and the attributes that group."""


class EdgeRows(Protocol):
    """Rows of edges, by range."""

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return the source and the target node of each row."""

    def column(self, column: Any, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values, of its dtype."""


class SourceEdges(Protocol):
    """A population of edges. It can be pickled, and be read anywhere."""

    @property
    def name(self) -> str:
        """Return the name of the population."""

    @property
    def kind(self) -> str:
        """Return what the edges are, such as chemical."""

    @property
    def file(self) -> Path:
        """Return the file of the edges, by which messages name them."""

    @property
    def size(self) -> int:
        """Return the number of rows."""

    @property
    def rows_together(self) -> int:
        """Return how many rows are stored together: ranges are best read in multiples of it."""

    @property
    def columns(self) -> Mapping[str, Any]:
        """Return the columns by name, each a :class:`SourceColumn`."""

    @property
    def unmet(self) -> int:
        """Return the number of rows that are left out already, as they do not meet "where"."""

    @property
    def source(self) -> SourceNodes:
        """Return the nodes that edges come from."""

    @property
    def target(self) -> SourceNodes:
        """Return the nodes that edges go to."""

    def reader(self) -> AbstractContextManager[EdgeRows]:
        """Open the edges for reading ranges of rows."""

    def identity(self) -> dict[str, Any]:
        """Return what tells this content from another's."""

    def state(self) -> dict[str, int]:
        """Return what changes whenever somebody writes the edges."""

    def sha256(self) -> str:
        """Return the checksum of all bytes of the edges."""


class Network(Protocol):
    """Nodes and edges that belong together: a circuit, or tables."""

    @property
    def config(self) -> Path:
        """Return the file that names it."""

    @property
    def name(self) -> str:
        """Return a name for people."""

    def results_folder(self) -> Path:
        """Return the folder of the results where none is given."""

    @property
    def populations(self) -> list[str]:
        """Return the names of all populations of edges."""

    def population(self, name: str | None = None) -> Any:
        """Return the :class:`SourceEdges` of that name, or the default ones."""

    def node_sets(self, population: Any) -> dict[str, Ints]:
        """Return the ids of each node set among some nodes."""
