"""The chain of SQL relations, read from ``sql/``, and the connection that holds them.

A file is one SELECT and gives one relation, named by the file's stem. The relations at
the bottom are those of a dataset's files: ``connection_rows``, ``synapse_rows``, ``nodes``,
``node_sets``, ``types`` and ``pathway_codes``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources as package_resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connprops.errors import ConnpropsError, DatasetError, OptionError
from connprops.resources import Resources

if TYPE_CHECKING:
    import duckdb

CHAIN = (
    "pathway_codes",
    "connections",
    "synapses",
    "pathways",
    "connection_values",
    "synapse_values",
    "sharing",
    "property_values",
    "statistics",
    "distinct_values",
)
"""The relations that every dataset has, each resting on those before it."""

_NAMED = re.compile(r"\b(?:from|join)\s+(\w+)", re.IGNORECASE)

_OF_CONNECTIONS = (
    "source_type",
    "target_type",
    "pathway",
    "source_node",
    "target_node",
    "n_syn_per_conn",
    "first_edge",
)


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
    lines = []
    for line in text(name).splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def named_in(sql: str) -> set[str]:
    """Return the names that follow FROM and JOIN in some SQL: those of relations, among others."""
    return set(_NAMED.findall(sql))


@dataclass(frozen=True)
class DatasetRelations:
    """What the chain of relations needs to know of a dataset.

    ``files`` are those of each relation at the bottom, ``variables`` the DuckDB variables that
    the SQL reads, ``chain`` the relations that can be made, in order.
    """

    files: Mapping[str, Sequence[Path]]
    variables: Mapping[str, int | list[str]]
    chain: tuple[str, ...]

    @classmethod
    def of(
        cls,
        files: Mapping[str, Sequence[Path]],
        n_target_types: int,
        shared: Sequence[str],
        properties: Sequence[str],
    ) -> DatasetRelations:
        """Return the relations of a dataset with these properties; without one, no values."""
        variables: dict[str, int | list[str]] = {
            "n_target_types": n_target_types,
            # What the relation `synapses` takes from the connections; the rest is its own.
            "connection_columns": [*_OF_CONNECTIONS, *shared],
            "properties": [*properties],
        }
        chain = CHAIN if properties else CHAIN[: CHAIN.index("connection_values")]
        return cls(files, variables, chain)

    def connect(self, resources: Resources | None = None) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection in memory with all relations as views."""
        import duckdb

        connection = duckdb.connect(config=(resources or Resources()).duckdb_config())
        for name, files in self.files.items():
            connection.read_parquet([str(file) for file in files]).create_view(name)
        self.define(connection)
        return connection

    def define(self, connection: duckdb.DuckDBPyConnection, present: Collection[str] = ()) -> None:
        """Make the views of the chain, but for those already ``present``."""
        import duckdb

        for name, value in self.variables.items():
            kind = "varchar[]" if isinstance(value, list) else "bigint"
            connection.execute(f"set variable {name} = $value::{kind}", {"value": value})
        for name in self.chain:
            if name in present:
                continue
            try:
                connection.execute(f"create view {name} as {text(name)}")
            except duckdb.Error as error:
                raise DatasetError.of(
                    f"Relation {name!r} cannot be made", found=str(error)
                ) from error


def run(connection: duckdb.DuckDBPyConnection, sql: str, name: str, /, **bound: Any) -> Any:
    """Run a query with bound parameters; an error names the query.

    Raises
    ------
    ConnpropsError
        Where DuckDB refuses the query.
    """
    import duckdb

    try:
        return connection.sql(sql, params=bound or None)
    except duckdb.Error as error:
        raise ConnpropsError.of(f"Query {name!r} failed", found=str(error)) from error
