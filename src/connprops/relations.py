"""The chain of SQL relations, read from ``sql/``, and the connection that holds them.

A file is one SELECT and gives one relation, named by the file's stem. The relations at
the bottom are those of a dataset's files: ``connection_rows``, ``synapse_rows``, ``nodes``,
``node_sets``, ``types`` and ``pathway_codes``.
"""

from __future__ import annotations

from functools import cache
from importlib import resources as package_resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from connprops.errors import ConnpropsError, DatasetError, OptionError
from connprops.resources import Resources

if TYPE_CHECKING:
    from connprops.dataset import Dataset

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
    return installed if installed.is_dir() else Path(__file__).parents[2] / "sql"


def text(name: str) -> str:
    """Return the SQL of a relation or, by ``"queries/NAME"``, of a ready question."""
    file = folder() / f"{name}.sql"
    if not file.is_file():
        known = [str(f.relative_to(folder()).with_suffix("")) for f in folder().rglob("*.sql")]
        raise OptionError.unknown("SQL relation", name, sorted(known))
    return file.read_text(encoding="utf-8")


def connect(dataset: Dataset, resources: Resources | None = None) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB connection in memory with all relations of a dataset as views."""
    connection = duckdb.connect(config=(resources or Resources()).duckdb_config())
    base = {
        "connection_rows": dataset.files("connections"),
        "synapse_rows": dataset.files("synapses"),
        "types": [dataset.folder / "types.parquet"],
        "nodes": [dataset.folder / "nodes.parquet"],
        "node_sets": [dataset.folder / "node_sets.parquet"],
    }
    for name, files in base.items():
        relation = connection.read_parquet([str(file) for file in files])
        relation.create_view(name)
    n_targets = len(dataset.target_types)
    connection.execute("set variable n_target_types = $n", {"n": n_targets})
    # What the relation `synapses` takes from the connections; the rest is the synapses' own.
    names = [*_OF_CONNECTIONS, *(column.name for column in dataset.columns if not column.varies)]
    connection.execute("set variable connection_columns = $names::varchar[]", {"names": names})
    properties = [column.name for column in dataset.columns]
    connection.execute("set variable properties = $names::varchar[]", {"names": properties})
    # Without a property there is nothing that values could be of.
    chain = CHAIN if properties else CHAIN[: CHAIN.index("connection_values")]
    for name in chain:
        try:
            connection.execute(f"create view {name} as {text(name)}")
        except duckdb.Error as error:
            raise DatasetError.of(
                f"Relation {name!r} cannot be made on {dataset.folder}", found=str(error)
            ) from error
    return connection


def run(connection: duckdb.DuckDBPyConnection, sql: str, name: str, **bound: Any) -> Any:
    """Run a query with bound parameters; an error names the query.

    Raises
    ------
    ConnpropsError
        Where DuckDB refuses the query.
    """
    try:
        return connection.sql(sql, params=bound or None)
    except duckdb.Error as error:
        raise ConnpropsError.of(f"Query {name!r} failed", found=str(error)) from error
