"""The chain of SQL relations, read from ``sql/``, and the connection that holds them.

A file is one SELECT and gives one relation, named by the file's stem. The relations at
the bottom are those of a dataset's files: ``connection_rows``, ``synapse_rows``, ``nodes``,
``node_sets``, ``types`` and ``pathway_codes``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from importlib import resources as package_resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connprops.errors import ConnpropsError, DatasetError, OptionError
from connprops.resources import Resources

if TYPE_CHECKING:
    import duckdb

    from connprops.dataset.dataset import Dataset

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


def connect(dataset: Dataset, resources: Resources | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in memory with all relations of a dataset as views."""
    import duckdb

    connection = duckdb.connect(config=(resources or Resources()).duckdb_config())
    for name, files in bottom(dataset).items():
        relation = connection.read_parquet([str(file) for file in files])
        relation.create_view(name)
    define(connection, dataset)
    return connection


def bottom(dataset: Dataset) -> dict[str, list[Path]]:
    """Return the relations that the chain rests on, and the files that each is made of."""
    return {
        "connection_rows": dataset.files("connections"),
        "synapse_rows": dataset.files("synapses"),
        "types": [dataset.file("types.parquet")],
        "nodes": [dataset.file("nodes.parquet")],
        "node_sets": [dataset.file("node_sets.parquet")],
    }


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


def define(
    connection: duckdb.DuckDBPyConnection, dataset: Dataset, given: Collection[str] = ()
) -> None:
    """Make the views of the chain, but for those ``given``, on those at the bottom of it."""
    import duckdb

    for name, value in variables(dataset).items():
        kind = "varchar[]" if isinstance(value, list) else "bigint"
        connection.execute(f"set variable {name} = $value::{kind}", {"value": value})
    for name in chain_of(dataset):
        if name in given:
            continue
        try:
            connection.execute(f"create view {name} as {text(name)}")
        except duckdb.Error as error:
            raise DatasetError.of(
                f"Relation {name!r} cannot be made on {dataset.folder}", found=str(error)
            ) from error


def variables(dataset: Dataset) -> dict[str, int | list[str]]:
    """Return the DuckDB variables that the relations of a dataset read."""
    return {
        "n_target_types": len(dataset.target_types),
        # What the relation `synapses` takes from the connections; the rest is the synapses' own.
        "connection_columns": [
            *_OF_CONNECTIONS,
            *(column.name for column in dataset.columns if not column.varies),
        ],
        "properties": [column.name for column in dataset.columns],
    }


def chain_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the relations that can be made of a dataset, in order.

    Without a property there is nothing that values could be of.
    """
    return CHAIN if dataset.columns else CHAIN[: CHAIN.index("connection_values")]


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
