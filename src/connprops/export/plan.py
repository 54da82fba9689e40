"""How an edge file is cut into parts, before its rows are read; and again, with what was learnt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from connprops import schema
from connprops.display import Progress
from connprops.export.parts import (
    RangeSpec,
    RangeSummary,
    differs_within,
    type_codes,
    varying_in,
)
from connprops.export.request import ExportRequest
from connprops.export.sorted_rows import SortedRows, write_sorted
from connprops.resources import Resources
from connprops.sources.source import EdgeRows, SourceColumn
from connprops.store.records import record_or_none, write_record
from connprops.store.stage import one_at_a_time

ROWS_PER_PART = 1 << 21
"""Rows of the edge file in a part at most, about: so few that several fit in memory at once."""

_ROWS_WORTH_A_PART, _PARTS_AT_LEAST = 1 << 19, 8
"""Rows of a part at least; from so many parts on they keep processors busy, and grow first."""

_PARTS_TOGETHER = 4
"""The number of many parts is a multiple of this, so that few threads end at the same time."""

_BYTES_OF_ROW, _BYTES_OF_ENDS = 64, 24
"""Bytes that ids, keys and orders of a row take while its part is written."""

_BYTES_OF_PROGRAM = 200 << 20
"""Bytes that the process takes before it reads anything: Polars, DuckDB, HDF5."""

_CUTS = "cuts.json"


@dataclass(frozen=True)
class _Cuts:
    """The side by which the rows are ordered, and the rows at which parts begin, and the end."""

    axis: str | None
    cuts: list[int]


def plan(request: ExportRequest, stage: Path) -> list[RangeSpec]:
    """Cut the edge file into ranges; see which columns vary within connections."""
    edges, columns, identity = request.edges, request.columns, request.identity
    facts = {"schema_version": schema.VERSION, "population": edges.name,
             "identity": identity["edges"]}  # fmt: skip
    notes = stage / "notes"
    notes.mkdir(exist_ok=True)
    spec = RangeSpec(
        stage / "dataset", notes, 0, 0, edges.size, edges, columns, frozenset(), None, None,
        len(request.sides["target"].types), identity["nodes_sha256"],
        json.dumps(facts, sort_keys=True), request.where, request.asked.min_syn_per_conn,
    )  # fmt: skip
    with edges.reader() as rows:
        planned = _planned_cuts(rows, edges.size, stage / _CUTS)
        return _ranges(replace(spec, axis=planned.axis), rows, planned.cuts)


def _ranges(spec: RangeSpec, rows: EdgeRows, cuts: Sequence[int]) -> list[RangeSpec]:
    """Return a part for each range between cuts; a look at the rows says which columns vary.

    A part that is alone sees that itself.
    """
    is_alone = len(cuts) == 2  # noqa: PLR2004 - a beginning and an end
    varying = frozenset() if is_alone else _probe(rows, cuts[-1], spec.columns)
    return [
        replace(spec, part=part, start=start, stop=stop, varying=varying)
        for part, (start, stop) in enumerate(pairwise(cuts))
    ]


def _rows_of_probe() -> int:
    """Return the rows that are read at once to see how they are ordered, and what varies."""
    return min(1 << 16, ROWS_PER_PART // 2)


def number_of_parts(size: int) -> int:
    """Return how many parts an edge file of so many rows is cut into, where their order allows."""
    least = -(-size // ROWS_PER_PART)
    if least <= _PARTS_AT_LEAST:
        worth = min(size // _ROWS_WORTH_A_PART, _PARTS_AT_LEAST)
        return max(least, worth - worth % 2, 1)  # pairs, lest one thread waits for another
    return -(-least // _PARTS_TOGETHER) * _PARTS_TOGETHER


def _planned_cuts(rows: EdgeRows, size: int, file: Path) -> _Cuts:
    """Return the cuts; kept, for to find them takes two reads a part."""
    if (kept := record_or_none(file, _Cuts)) is not None:
        return kept
    axis = _axis(rows, size)
    cuts = _Cuts(axis, _cuts(rows, size, axis))
    write_record(file, cuts)
    return cuts


def _axis(rows: EdgeRows, size: int) -> str | None:
    """Return the side by which the rows seem ordered, so that parts can be cut there."""
    if number_of_parts(size) == 1:
        return None
    ordered = dict.fromkeys(("target", "source"), True)
    n = _rows_of_probe()
    for start in np.linspace(0, size - n, 8).astype(int).tolist():
        source, target = rows.node_ids(start, start + n)
        for side, ids in (("source", source), ("target", target)):
            ordered[side] &= bool((np.diff(ids[ids >= 0]) >= 0).all())
    return next((side for side, is_so in ordered.items() if is_so), "neither")


def _cuts(rows: EdgeRows, size: int, axis: str | None) -> list[int]:
    """Return the rows at which parts begin, and the end; no connection spans a cut."""
    if axis in (None, "neither"):
        return [0, size]
    cuts = [0]
    n_parts = number_of_parts(size)
    for nominal in (size * part // n_parts for part in range(1, n_parts)):
        if nominal <= cuts[-1]:
            continue
        cut = _next_change(rows, nominal, size, axis)
        if cut < size:
            cuts.append(cut)
    return [*cuts, size]


def _next_change(rows: EdgeRows, row: int, size: int, axis: str | None) -> int:
    """Return the first row at or after ``row`` whose node differs from the row before."""
    start, n = row - 1, min(1 << 12, _rows_of_probe())
    while start < size - 1:
        ids = rows.node_ids(start, min(start + n + 1, size))[axis == "target"]
        change = np.flatnonzero(ids[1:] != ids[:-1])
        if change.size:
            return start + 1 + int(change[0])
        start, n = start + n, 2 * n
    return size


def _probe(rows: EdgeRows, size: int, columns: Sequence[SourceColumn]) -> frozenset[str]:
    """Return the columns seen to vary within connections, in a few blocks of the file."""
    varying = set()
    n = _rows_of_probe()
    for start in sorted({0, max(size // 2 - n // 2, 0), max(size - n, 0)}):
        stop = min(start + n, size)
        source, target = rows.node_ids(start, stop)
        same = (source[1:] == source[:-1]) & (target[1:] == target[:-1])
        for column in columns:
            if column.name not in varying:
                values = rows.column(column, start, stop)
                if differs_within(values, same).any():
                    varying.add(column.name)
    return frozenset(varying)


def sort_first(stage: Path, size: int) -> None:
    """Note that the rows of a stage's edge file are in no order, for those who go on."""
    write_record(stage / _CUTS, _Cuts("neither", [0, size]))


def revised(
    specs: list[RangeSpec], resources: Resources | None = None, progress: Progress | None = None
) -> list[RangeSpec]:
    """Return the plan with what any process has learnt since.

    Rows that are in no order are sorted first, if there are resources; more columns may vary
    within connections.
    """
    spec, stage = specs[0], specs[0].notes.parent
    sorted_copy = stage / "sorted"
    if resources is not None and spec.axis == "neither":
        with one_at_a_time(stage):
            if not sorted_copy.is_dir():
                columns = (*spec.columns, *(spec.where.columns if spec.where else ()))
                n_nodes = max(code.size for code in type_codes(spec))
                write_sorted(spec.population, columns, n_nodes, sorted_copy, resources, progress)
    if sorted_copy.is_dir():
        # The file's own order helps nothing: the sorted copy of its rows is cut instead.
        with SortedRows(sorted_copy) as rows:
            cuts = _cuts(rows, spec.population.size, "target")
            specs = _ranges(replace(spec, axis="target", sorted_copy=sorted_copy), rows, cuts)
    varying = specs[0].varying
    if len(specs) > 1:
        varying |= varying_in(spec.notes)
    return [replace(spec, varying=varying) for spec in specs]


def in_order(summaries: Sequence[RangeSummary]) -> bool:
    """Return whether no connection can be in two of the parts."""
    with_rows = [summary for summary in summaries if summary.first_key >= 0]
    apart = all(a.last_key < b.first_key for a, b in pairwise(with_rows))
    return apart and all(summary.ordered for summary in summaries)


def parts_at_once(
    rows: int,
    columns: Sequence[SourceColumn],
    n_parts: int,
    resources: Resources,
    *,
    of_sorted: bool = False,
) -> tuple[int, int]:
    """Return how many parts a process writes at the same time, and the bytes that this takes.

    ``rows`` are those of the largest part, ``of_sorted`` of a copy. One part is written whatever
    the memory.
    """
    values = sum(np.dtype(column.dtype).itemsize for column in columns)
    of_row = _BYTES_OF_ROW + 2 * values  # in connections and in synapses
    of_part = max(rows, 1) * (of_row + (_BYTES_OF_ENDS + values if of_sorted else 0))
    allowed = (resources.memory - _BYTES_OF_PROGRAM) // of_part
    n = 1 if resources.workers is not None else max(1, min(resources.threads, n_parts, allowed))
    return n, _BYTES_OF_PROGRAM + n * of_part
