"""The chain of SQL relations, read from ``sql/``, and the connection that holds them.

A file is one SELECT and gives one relation, named by the file's stem. The relations at
the bottom are those of a dataset's files: ``connection_rows``, ``synapse_rows``, ``nodes``,
``node_sets`` and ``types``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources as package_resources
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from connprops.errors import DatasetError, OptionError
from connprops.resources import Resources

if TYPE_CHECKING:
    import duckdb
    import polars as pl

CHAIN = (
    "connections_as_stored", "connections", "synapses_as_stored", "synapses", "pathways",
    "connection_values", "synapse_values", "sharing", "property_values",
    "intraclass_correlations", "statistics", "distinct_values",
)  # fmt: skip
"""The relations that every dataset has, each resting on those before it."""

BY_ID = {"nodes": "node_numbers", "connection_rows": "connection_numbers"}
"""Relations that name nodes by the ids of the input, where these are not their numbers: of what."""

_NAMED = re.compile(r"\b(?:from|join)\s+(\w+)", re.IGNORECASE)

_OF_CONNECTIONS = (
    "source_type", "target_type", "pathway", "source_node", "target_node", "n_syn_per_conn",
    "first_edge",
)  # fmt: skip


@cache
def folder() -> Path:
    """Return the folder of the SQL files: the wheel's, or an editable checkout's."""
    installed = Path(str(package_resources.files("connprops"))) / "sql"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "sql"


def text(name: str) -> str:
    """Return the SQL of a relation or, by ``"queries/NAME"``, of a ready question."""
    file = folder() / f"{name}.sql"
    if not file.is_file():
        known = [str(f.relative_to(folder()).with_suffix("")) for f in folder().rglob("*.sql")]
        raise OptionError.unknown("SQL relation", name, sorted(known))
    return file.read_text(encoding="utf-8")


def grain(name: str) -> str:
    """Return what one row of a relation is, which the first comment of its file says."""
    comment = takewhile(lambda line: line.startswith("--"), text(name).splitlines())
    return " ".join(line.removeprefix("--").strip() for line in comment)


def named_in(sql: str) -> set[str]:
    """Return the names that follow FROM and JOIN in some SQL: those of relations, among others."""
    return set(_NAMED.findall(sql))


@dataclass(frozen=True)
class DatasetRelations:
    """The chain of relations of one dataset.

    At the bottom each is of ``files``, or one of the ``frames``; ``shared`` are the properties of
    which the synapses of a connection have one value.
    """

    files: Mapping[str, Sequence[Path]]
    frames: Mapping[str, pl.DataFrame]
    n_target_types: int
    properties: Sequence[str]
    shared: Sequence[str]

    @property
    def variables(self) -> dict[str, int | list[str]]:
        """Return the DuckDB variables that the SQL reads."""
        return {
            "n_target_types": self.n_target_types,
            # What the relation `synapses_as_stored` takes of connections; the rest is its own.
            "connection_columns": [*_OF_CONNECTIONS, *self.shared],
            "properties": [*self.properties],
        }

    @property
    def bottom(self) -> set[str]:
        """Return the names of the relations that are of files or frames."""
        return {*self.files, *self.frames}

    @property
    def chain(self) -> tuple[str, ...]:
        """Return the relations that can be made, in order; without properties, none of values."""
        by_id = tuple(name for name in BY_ID if name not in self.bottom)
        return by_id + (CHAIN if self.properties else CHAIN[: CHAIN.index("connection_values")])

    def sql(self, name: str) -> str:
        """Return the SQL of a relation of this dataset."""
        if not self.properties and name in ("connections", "synapses"):
            return f"from {name}_as_stored"  # there is nothing that could be NaN
        return text(name)

    def connect(self, resources: Resources | None = None) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection in memory with all relations as views."""
        import duckdb

        connection = duckdb.connect(config=(resources or Resources()).duckdb_config())
        for name, files in self.files.items():
            connection.read_parquet([str(file) for file in files]).create_view(name)
        for name, frame in self.frames.items():
            connection.register(name, frame)
        self.define(connection)
        return connection

    def define(
        self, connection: duckdb.DuckDBPyConnection, present: Collection[str] = ()
    ) -> list[str]:
        """Make the views of the chain, but for those already ``present``; return their names."""
        import duckdb

        for name, value in self.variables.items():
            kind = "varchar[]" if isinstance(value, list) else "bigint"
            connection.execute(f"set variable {name} = $value::{kind}", {"value": value})
        names = [name for name in self.chain if name not in present]
        for name in names:
            try:
                connection.execute(f"create view {name} as {self.sql(name)}")
            except duckdb.Error as error:
                fact = f"Relation {name!r} cannot be made"
                raise DatasetError.of(fact, found=str(error)) from error
        return names
