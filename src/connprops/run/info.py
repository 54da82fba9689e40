"""Describing what a path holds, and what a run has computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops.circuit.circuit import Circuit
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import damage, is_dataset
from connprops.display import console_on, show_table
from connprops.errors import CircuitError, ConnpropsError
from connprops.export.opening import open_network
from connprops.options import EdgeOptions
from connprops.query.database import DATABASE
from connprops.run.populations import INDEX, SeveralRuns, runs_in
from connprops.run.record import RUN_FILE, CompleteRun, Record, last_words, record_of
from connprops.run.run import why_not_reused
from connprops.schema import METADATA_KEY, TABLES
from connprops.sources.source import LEFT_OUT, Network, SourceEdges
from connprops.store.tables import open_table
from connprops.store.writing import leftover_of

if TYPE_CHECKING:
    from rich.console import Console


def describe(path: Path, stream: TextIO) -> None:
    """Write what a path holds."""
    console = console_on(stream)
    if path.suffix == ".parquet" and not _is_foreign(path):
        _describe_table(path, console)
    elif is_dataset(path):
        _describe_dataset(Dataset(path), console)
    elif (record := record_of(path)) is not None:
        _describe_run(path, record, console)
    elif path.is_dir() and (runs := runs_in(path)):
        _show_several(runs, console)
    elif files := _tables_in(path):
        console.print(f"Tables of a step in {path}")
        _show_tables(files, console)
    else:
        network = open_network(path, EdgeOptions())
        if isinstance(network, Circuit):
            _describe_circuit(network, console)
        else:
            _describe_edges(network.population(), console)


def facts(path: Path) -> dict[str, Any]:
    """Return what a path holds, as JSON has it; ``kind`` says which it is."""
    if path.suffix == ".parquet" and not _is_foreign(path):
        table, rows, about = open_table(path)
        columns = [asdict(column) | {"dtype": str(column.dtype)} for column in table.columns]
        of_table = {"name": table.name, "grain": table.grain, "rows": _n_rows(rows)}
        return {"kind": "table", **of_table, "columns": columns, "about": about}
    if is_dataset(path):
        dataset = Dataset(path)
        return {
            "kind": "dataset",
            "n_synapses": dataset.n_synapses, "n_connections": dataset.n_connections,
            "source_types": dataset.source_types, "target_types": dataset.target_types,
            "properties": [asdict(column) for column in dataset.columns],
            "left_out": dataset.manifest.left_out,
            "damaged": damage(dataset.folder, dataset.manifest),
            "identity": dataset.identity,
        }  # fmt: skip
    if (record := record_of(path)) is not None:
        return {"kind": "run", **asdict(record)}
    if path.is_dir() and (runs := runs_in(path)):
        return {"kind": "runs", "runs": [asdict(run) for run in runs]}
    if files := _tables_in(path):
        of_tables = [(file.name, *_grain_and_rows(file)) for file in files]
        tables = [{"file": name, "grain": grain, "rows": n} for name, grain, n in of_tables]
        return {"kind": "tables", "tables": tables}
    return _facts_of_network(open_network(path, EdgeOptions()))


def _facts_of_network(network: Network) -> dict[str, Any]:
    if isinstance(network, Circuit):
        edges, nodes, faults = _populations(network)
        return {
            "kind": "circuit", "name": network.name, "config": str(network.config),
            "edges": [dict(zip(_OF_EDGES, row, strict=True)) for row in edges],
            "nodes": [dict(zip(_OF_NODES, row, strict=True)) for row in nodes],
            "faults": {name: str(fault) for (_, name), fault in faults.items()},
        }  # fmt: skip
    of = network.population()
    stored = {column.name: column.stored for column in of.columns.values()}
    return {"kind": "edges", "name": of.name, "file": str(of.file), "rows": of.size,
            "columns": stored}  # fmt: skip


_OF_EDGES = ("name", "kind", "source", "target", "rows", "columns")
_OF_NODES = ("name", "kind", "nodes")


def _populations(
    circuit: Circuit,
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]], dict[tuple[str, str], CircuitError]]:
    """Return a circuit's populations of edges and of nodes, and why others cannot be read."""
    edges, nodes, faults = [], [], dict(circuit.faults)
    for e in circuit.edges.values():
        try:
            edges.append((e.name, e.kind, e.source.name, e.target.name, e.size, len(e.columns)))
        except CircuitError as error:
            faults["edges", e.name] = error
    for population in circuit.nodes.values():
        try:
            nodes.append((population.name, population.kind, population.size))
        except CircuitError as error:
            faults["nodes", population.name] = error
    return edges, nodes, faults


def _describe_circuit(circuit: Circuit, console: Console) -> None:
    console.print(f"Circuit {circuit.name}: {circuit.config}")
    edges, nodes, faults = _populations(circuit)
    head = ("edge population", "kind", "from", "to", "rows", "columns")
    show_table(console, head, [(*row[:-2], f"{row[-2]:,}", row[-1]) for row in edges])
    of_nodes = ("node population", "kind", "nodes")
    show_table(console, of_nodes, [(*row[:-1], f"{row[-1]:,}") for row in nodes])
    for (what, name), fault in faults.items():
        console.print(f"{name!r} of {what} cannot be read: {fault}")


def _is_foreign(file: Path) -> bool:
    """Return whether a Parquet file can be read and is none of ours."""
    try:
        return METADATA_KEY.encode() not in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False


def _describe_edges(edges: SourceEdges, console: Console) -> None:
    console.print(f"Table of edges {edges.name}: {edges.size:,} rows in {edges.file}")
    of_columns = [
        (c.name, c.stored, c.labels and len(c.labels), LEFT_OUT.get(c.stored))
        for c in edges.columns.values()
    ]
    show_table(console, ("property", "type", "labels", "left out"), of_columns)


def _describe_dataset(dataset: Dataset, console: Console) -> None:
    edges = dataset.identity["edges"]
    console.print(
        f"Dataset of {dataset.population}, from {edges['file']}: "
        f"{dataset.n_synapses:,} synapses, {dataset.n_connections:,} connections"
    )
    damaged = damage(dataset.folder, dataset.manifest)
    for name, what in damaged.items():
        console.print(f"{dataset.folder / name} {what}: it would be exported again (--overwrite)")
    if leftover_of(dataset.folder).is_dir():
        console.print(f"An interrupted export waits in {leftover_of(dataset.folder)}")
    if damaged:
        return
    console.print("Every file is intact: an export of the same input and options reuses it")
    console.print(
        f"{len(dataset.source_types)} source types by {dataset.identity['source_type']}, "
        f"{len(dataset.target_types)} target types by {dataset.identity['target_type']}"
    )
    head = ("property", "type", "unit", "within connections", "not finite")
    rows = [
        (c.name, c.dtype, c.unit, "varies" if c.varies else "shared", f"{c.n_not_finite:,}")
        for c in dataset.columns
    ]
    show_table(console, head, rows)
    left_out = dataset.manifest.left_out | {
        c.name: f"no property unless asked for: {c.role}"
        for c in dataset.columns
        if c.role in ("identifier", "too large")
    }
    for name, why in left_out.items():
        console.print(f"{name!r} is left out: {why}")


def _describe_run(folder: Path, record: Record, console: Console) -> None:
    killed = last_words(folder)
    if killed and record.state == "running":
        record = replace(record, state="killed")
    console.print(f"Run on {record.circuit}, {record.state}, started {record.started}")
    if isinstance(record, CompleteRun):
        console.print(_sizes(record))
    elif record.error is not None:
        console.print(record.error)
    if killed:
        console.print(f"{RUN_FILE} {killed}")
    console.print(f"Options, versions and times: {folder / RUN_FILE}")
    if leftover_of(folder / "run").is_dir():
        console.print(f"An interrupted run waits in {leftover_of(folder / 'run')}")
    console.print("The same run again:")
    for line in why_not_reused(folder, record):
        console.print(f"  {line}")
    _show_tables(sorted(folder.glob("*.parquet")), console)


def _tables_in(folder: Path) -> list[Path]:
    """Return the tables that a step has written into a folder."""
    return [f for f in sorted(folder.glob("*.parquet")) if f.stem in TABLES and not _is_foreign(f)]


def _show_tables(files: Sequence[Path], console: Console) -> None:
    rows = []
    for file in files:
        try:
            grain, n = _grain_and_rows(file)
            rows.append((file.name, grain, f"{n:,}"))
        except ConnpropsError as error:
            rows.append((file.name, str(error).splitlines()[0], ""))
    show_table(console, ("file", "one row per", "rows"), rows)


def _grain_and_rows(file: Path) -> tuple[str, int]:
    """Return of what a table has a row each, and how many rows."""
    table, rows, _ = open_table(file)
    return table.grain.removeprefix("one row per "), _n_rows(rows)


def _n_rows(rows: pl.LazyFrame) -> int:
    return int(rows.select(pl.len()).collect().item())


def _describe_table(file: Path, console: Console) -> None:
    table, rows, facts = open_table(file)
    console.print(f"Table {table.name}: {table.grain}; {_n_rows(rows):,} rows")
    columns = [(column.name, column.unit, column.meaning) for column in table.columns]
    show_table(console, ("column", "unit", "meaning"), columns)
    if "options" in facts:
        console.print(f"Options: {json.dumps(facts['options'], ensure_ascii=False)}")


def show_summary(run: CompleteRun | SeveralRuns, stream: TextIO) -> None:
    """Write what a run has computed, as tables."""
    console = console_on(stream)
    if isinstance(run, SeveralRuns):
        _show_several(run.runs, console)
        console.print(f"Everything lies in {run.out}: a folder each, {INDEX}, {DATABASE}")
        return
    console.print(_sizes(run))
    show_table(
        console,
        ("property", "unit", "distribution", "of pathways", "shared within",
         "on own values (of connections)", "on their level", "without values", "rejected",
         "left-out values in 90 % ranges"),
        [
            (
                p.name,
                p.unit,
                p.distribution,
                f"{p.n_pathways:,} of {p.n_observed:,}",
                _share(p.shared),
                f"{p.n_own:,}" + ("" if p.share_own is None else f" ({100 * p.share_own:.0f} %)"),
                f"{p.n_level:,}",
                f"{p.n_borrowed:,}",
                f"{p.n_rejected:,} of {p.n_tested:,}",
                "" if p.coverage is None else f"{100 * p.coverage:.0f} %",
            )
            for p in run.properties
        ],
    )  # fmt: skip
    steps = [(s.name, f"{s.seconds:.2f}", f"{s.peak_memory / 2**20:,.0f} MiB") for s in run.steps]
    show_table(console, ("step", "seconds", "peak memory by then"), steps)
    if run.reused:
        console.print("Nothing has changed since: these are that run's results, which are intact")
    console.print(f"Everything lies in {run.out}")
    for artifact in run.artifacts:
        console.print(f"  {artifact}")


def _show_several(runs: Sequence[CompleteRun], console: Console) -> None:
    rows = [
        (
            run.population,
            *(f"{n:,}" for n in (run.n_pathways, run.n_connections, run.n_synapses)),
            len(run.properties),
            "as before" if run.reused else f"{run.seconds:.1f}",
        )
        for run in runs
    ]
    head = ("edge population", "pathways", "connections", "synapses", "properties", "seconds")
    show_table(console, head, rows)


def _sizes(run: CompleteRun) -> str:
    return (
        f"{run.population}: {run.n_pathways:,} pathways, "
        f"{run.n_connections:,} connections, {run.n_synapses:,} synapses"
    )


def _share(part: float | None) -> str:
    if part is None:
        return "-"
    return {0.0: "no", 1.0: "yes"}.get(part, f"in {100 * part:.0f} % of pathways")
