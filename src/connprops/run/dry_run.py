"""What a step would do: how many tasks, what they read and write, how much memory they take.

Numbers of what is read are exact; those of what is written follow from numbers of rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from connprops.export.plan import number_of_parts, parts_at_once
from connprops.export.request import ExportRequest
from connprops.resources import Resources
from connprops.statistics.statistics import Statistics
from connprops.statistics.units import bytes_at_once
from connprops.store.shards import Shard
from connprops.store.writing import leftover_of
from connprops.workers import number_of

_SAMPLES, _ROWS_OF_SAMPLE = 4, 1 << 15

_BYTES_OF_KEYS = 24
"""Bytes of a connection beside its properties: source, target and first edge."""

_BYTES_OF_CELL = 820
"""Bytes of all tables for one property of one pathway: 470 of histograms, 250 of ordered values."""

_BYTES_OF_PROGRAM, _COPIES_OF_TABLES = 350_000_000, 5
"""What extractions of 10 and of 31 million synapses took beside their rows, with 500 MB to 14 GB
allowed: estimates are 27 % too high at most, and 11 % too low."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def of_export(
    request: ExportRequest, folder: Path, resources: Resources, shard: str | None = None
) -> str:
    """Return what an export would do; samples of the edge file are read."""
    edges, size = request.edges, request.edges.size
    row = 16 + sum(np.dtype(c.dtype).itemsize for c in request.columns)
    n_parts = number_of_parts(size)
    n_connections = size * _connections_per_row(request)
    n_bytes = size * row + _BYTES_OF_KEYS * n_connections
    finished = len(list((leftover_of(folder) / "notes").glob("*.json")))
    at_once, memory = parts_at_once(-(-size // n_parts), request.columns, n_parts, resources)
    own = len(Shard.parse(shard or (1, 1)).share(range(n_parts)))
    lines = [
        ("tasks", f"{n_parts:,} parts" + (f", {finished:,} of them finished" if finished else "")),
        *([("this shard", f"{own:,} parts")] if shard else []),
        ("read", f"{amount(size * row)} of {edges.file}"),
        ("written", f"{amount(n_bytes)} before compression, in {2 * n_parts:,} files, in {folder}"),
        ("connections", f"about {n_connections:,.0f}"),
        *_at_once(at_once, "parts", memory, resources),
    ]
    title = f"Export of {size:,} synapses of {edges.name!r}, {len(request.columns)} properties"
    return _listed(title, lines)


def of_extract(stats: Statistics, folder: Path, shard: str | None = None) -> str:
    """Return what an extraction would do; the connections of each pathway are counted."""
    dataset, pathways = stats.computed.dataset, stats.pathways.collect()
    resources = stats.computed.resources
    n_cells = int((pathways["n_sampled"] > 0).sum()) * len(stats.properties)
    spec = stats.computed.buckets
    share = Shard.parse(shard or (1, 1))
    buckets = stats.computed.plan(spec, share.of)
    n_read = sum(f.stat().st_size for kind in ("connections", "synapses")
                 for f in dataset.files(kind))  # fmt: skip
    written = n_cells * _BYTES_OF_CELL
    memory = _BYTES_OF_PROGRAM + _COPIES_OF_TABLES * written
    memory += bytes_at_once(dataset, spec, buckets, resources)
    lines = [
        ("tasks", f"{len(buckets):,} buckets of pathways"),
        *([("this shard", f"{len(share.share(buckets)):,} buckets")] if shard else []),
        ("read", f"{amount(n_read)} in {2 * dataset.n_parts:,} files, of {dataset.folder}"),
        ("written", f"about {amount(written)} in {folder}"),
        *_at_once(number_of(resources.workers), "buckets", memory, resources),
    ]
    title = (
        f"Statistics of {len(stats.properties)} properties of {len(pathways):,} pathways: "
        f"{int(pathways['n_connections'].sum()):,} connections, "
        f"{int(pathways['n_synapses'].sum()):,} synapses"
    )
    return _listed(title, lines)


def _listed(title: str, lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in lines)])


def _at_once(n: int, what: str, memory: float, resources: Resources) -> list[tuple[str, str]]:
    """Return lines on how many units are at work together, and on the memory that they take."""
    where, each = " in this process", ""
    if resources.workers is not None:
        n, where, each = number_of(resources.workers), ", one in each worker", " in each worker"
    return [("at once", f"{n} {what}{where}"), ("memory", f"about {amount(memory)}{each}")]


def _connections_per_row(request: ExportRequest) -> float:
    """Return how many connections a row of the edge file stands for, from samples."""
    size = request.edges.size
    n = min(_ROWS_OF_SAMPLE, size)
    starts = {int(at) for at in np.linspace(0, size - n, _SAMPLES)} if n else set()
    n_connections = 0
    with request.edges.reader() as rows:
        for start in starts:
            pairs = pl.DataFrame(rows.node_ids(start, start + n), schema=["source", "target"])
            n_connections += pairs.n_unique()
    return n_connections / (n * len(starts)) if starts else 0.0


def amount(n_bytes: float) -> str:
    """Write a number of bytes for people."""
    power = 0
    while n_bytes >= 1000 and power < len(_UNITS) - 1:  # noqa: PLR2004 - kilo
        n_bytes, power = n_bytes / 1000, power + 1
    return f"{n_bytes:.3g} {_UNITS[power]}"
