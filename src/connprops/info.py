"""Telling what something is: a circuit, a dataset, a run's folder, or a table of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from connprops import schema, sonata
from connprops.dataset import Dataset
from connprops.errors import DatasetError
from connprops.export import MANIFEST
from connprops.run import RUN_FILE, record_of
from connprops.summary import console_on, show_table


def describe(path: Path, stream: TextIO) -> None:
    """Write what a path is.

    Raises
    ------
    CircuitError, DatasetError
        Where it is none of these.
    """
    if path.suffix == ".parquet":
        _describe_table(path, stream)
    elif (path / MANIFEST).is_file():
        _describe_dataset(Dataset(path), stream)
    elif (record := record_of(path)) is not None:
        _describe_run(path, record, stream)
    else:
        _describe_circuit(sonata.open_circuit(path), stream)


def _describe_circuit(circuit: sonata.Circuit, stream: TextIO) -> None:
    console = console_on(stream)
    console.print(f"Circuit {circuit.name}: {circuit.config}")
    show_table(
        console,
        ("edge population", "kind", "from", "to", "rows", "columns"),
        [
            (
                edges.name,
                edges.kind,
                edges.source.name,
                edges.target.name,
                f"{edges.size:,}",
                f"{len(edges.columns)}",
            )
            for edges in circuit.edges.values()
        ],
        numbers=(4, 5),
    )
    show_table(
        console,
        ("node population", "kind", "nodes"),
        [(nodes.name, nodes.kind, f"{nodes.size:,}") for nodes in circuit.nodes.values()],
        numbers=(2,),
    )


def _describe_dataset(dataset: Dataset, stream: TextIO) -> None:
    console = console_on(stream)
    edges = dataset.identity["edges"]
    console.print(
        f"Dataset of {dataset.population}, from {edges['file']}: "
        f"{dataset.n_synapses:,} synapses, {dataset.n_connections:,} connections"
    )
    console.print(
        f"{len(dataset.source_types)} source types by {dataset.identity['source_type']}, "
        f"{len(dataset.target_types)} target types by {dataset.identity['target_type']}"
    )
    show_table(
        console,
        ("property", "type", "unit", "within connections", "not finite"),
        [
            (c.name, c.dtype, c.unit, "varies" if c.varies else "shared", f"{c.n_not_finite:,}")
            for c in dataset.columns
        ],
        numbers=(4,),
    )


def _describe_run(folder: Path, record: dict[str, Any], stream: TextIO) -> None:
    console = console_on(stream)
    console.print(f"Run on {record['circuit']}, {record['state']}, started {record['started']}")
    if record["state"] == "complete":
        console.print(
            f"{record['population']}: {record['n_pathways']:,} pathways, "
            f"{record['n_connections']:,} connections, {record['n_synapses']:,} synapses"
        )
    elif "error" in record:
        console.print(record["error"])
    console.print(f"Options, versions and times: {folder / RUN_FILE}")
    show_table(
        console,
        ("file", "one row per", "rows"),
        [
            (file.name, _table_of(file)[0].grain.removeprefix("one row per "), f"{_rows(file):,}")
            for file in sorted(folder.glob("*.parquet"))
        ],
        numbers=(2,),
    )


def _describe_table(file: Path, stream: TextIO) -> None:
    table, facts = _table_of(file)
    console = console_on(stream)
    console.print(f"Table {table.name}: {table.grain}; {_rows(file):,} rows")
    show_table(
        console,
        ("column", "unit", "meaning"),
        [(column.name, column.unit, column.meaning) for column in table.columns],
    )
    if "options" in facts:
        console.print(f"Options: {json.dumps(facts['options'], ensure_ascii=False)}")


def _table_of(file: Path) -> tuple[schema.Table, dict[str, Any]]:
    """Return which table a file holds, and the facts that go with it."""
    try:
        raw = pl.read_parquet_metadata(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DatasetError.of(f"{file} cannot be read as Parquet", found=str(error)) from error
    facts = schema.read_metadata(raw, str(file))
    name = str(facts.get("table"))
    if name not in schema.TABLES:
        raise DatasetError.unknown("table", name, schema.TABLES)
    return schema.TABLES[name], facts


def _rows(file: Path) -> int:
    return int(pl.scan_parquet(file).select(pl.len()).collect().item())
