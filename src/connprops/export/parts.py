"""One part of a dataset: a range of rows of the edge file, grouped into connections.

:func:`export_range` is the unit of work of an export: a function of its specification, which
writes two files and a note of what they hold, and can be run anywhere and again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal
from uuid import uuid4

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Bools, Ints
from connprops.arrays.arrow import taken, to_arrow, to_numpy
from connprops.arrays.gather import by_id, run_rows, run_starts, value_of
from connprops.dataset.manifest import part_file
from connprops.errors import CircuitError
from connprops.export.profile import Profile, profile
from connprops.export.sorted_rows import SortedRows
from connprops.pathways import number_of_pair
from connprops.sources.predicate import Predicate
from connprops.sources.source import EdgeRows, SourceColumn, SourceEdges
from connprops.store.records import record_or_none
from connprops.store.writing import renamed, sha256_of

ROW_GROUP = 16_384
"""Rows of a Parquet row group: few, for a bucket of pathways reads those that it shares whole."""

_MULTIPLICITY_AT_MOST = 2**31 - 1
"""Synapses that a row can stand for: what a connection's number of them has room for."""

Kind = Literal["connections", "synapses"]

_PLAIN = {"connections": ("pathway",), "synapses": ("pathway", "first_edge")}
"""Columns of whole numbers that mostly repeat the one before; of others, differences are packed."""

_UNLISTED, _UNTYPED = "source or target is no node", "the type of source or target is not known"
UNMET, _FEW = "they do not meet where", "their connection has fewer than min_syn_per_conn"
"""Why rows do not count."""

_SELDOM_READ = {"synapses": ("first_edge", "edge_id"), "connections": ()}
"""Columns that are worth zstd, which takes several times the time of LZ4, to write and to read."""

_DENSE_BITS = 32
"""Bits of whole numbers whose packed differences LZ4 makes hardly any smaller."""


@dataclass(frozen=True)
class RangeSpec:
    """What it takes to write one part: a range of rows, and where they come from and go."""

    folder: Path
    notes: Path
    part: int
    start: int
    stop: int
    population: SourceEdges
    columns: tuple[SourceColumn, ...]
    varying: frozenset[str]
    axis: str | None
    sorted_copy: Path | None
    n_target_types: int
    nodes_sha256: str
    facts: str
    where: Predicate | None
    min_syn_per_conn: int


@dataclass(frozen=True)
class RangeSummary:
    """What one part holds: counts, digests, and what it says about the whole."""

    part: int
    start: int
    stop: int
    n_synapses: int
    n_connections: int
    sha256: dict[str, str]
    varies: tuple[str, ...]
    ordered: bool
    first_key: int
    last_key: int
    contiguous: bool
    profiles: dict[str, Profile]
    left_out: dict[str, int]


def export_range(spec: RangeSpec) -> RangeSummary:
    """Write one part, or find it finished; return what it holds."""
    finished = noted(spec)
    if finished is not None and all(
        (spec.folder / file).is_file() and sha256_of(spec.folder / file) == digest
        for file, digest in finished.sha256.items()
    ):
        return finished
    opened = SortedRows(spec.sorted_copy) if spec.sorted_copy else spec.population.reader()
    with opened as rows:
        summary = write_part(spec, rows, _group_rows(spec, rows))
    note = _note_of(spec)
    with _put_aside(spec, note) as aside:
        aside.write_bytes(msgspec.json.encode(_Note(_key_of(spec), summary)))
    return summary


@dataclass(frozen=True)
class _Note:
    """What is noted of a finished part: which it is, and what it holds."""

    key: dict[str, Any]
    summary: RangeSummary


def noted(spec: RangeSpec) -> RangeSummary | None:
    """Return what is noted of a finished part; None where there is no note of this very part.

    A note may have been cut short when the machine went down: the part is written anew.
    """
    note = record_or_none(_note_of(spec), _Note)
    return note.summary if note is not None and note.key == _key_of(spec) else None


def varying_in(notes: Path) -> frozenset[str]:
    """Return the columns that any finished part, of this plan or another, was seen to vary in."""
    read = (record_or_none(note, _Note) for note in notes.glob("*.json"))
    return frozenset(name for note in read if note is not None for name in note.summary.varies)


def _note_of(spec: RangeSpec) -> Path:
    return spec.notes / f"{spec.part:05d}.json"


def _key_of(spec: RangeSpec) -> dict[str, Any]:
    """Return what a part depends on beside the input and the options of its export."""
    return {"start": spec.start, "stop": spec.stop, "varying": sorted(spec.varying),
            "sorted": spec.sorted_copy is not None}  # fmt: skip


def _put_aside(
    spec: RangeSpec, path: Path, named: Callable[[Path], Path] | None = None
) -> AbstractContextManager[Path]:
    """Give a path of our own: a worker that was given up may still be writing the same part."""
    return renamed(spec.notes / f"{path.name}.{uuid4().hex}.tmp", path, named)


@dataclass(frozen=True)
class _Grouped:
    """The rows of a part, grouped: how to take them, and where each connection begins.

    Connections are in the order of pathways, those of one pathway as in the file.
    """

    take: Ints | None  # rows of the range in grouped order; None: as they are
    edge_id: Ints | None  # row of the edge file of each grouped row; None: first_edge_id + row
    first_edge_id: int
    starts: Ints  # first grouped row of each connection
    counts: Ints
    source: Ints
    target: Ints
    pathway: NDArray[np.int32]
    left_out: dict[str, int]  # synapses that do not count, by the reason
    ordered: bool
    first_key: int
    last_key: int

    @cached_property
    def n_synapses(self) -> int:
        """Return the number of grouped rows."""
        return int(self.counts.sum())

    @cached_property
    def goes_on(self) -> Bools:
        """Return whether each grouped row but the first is of the connection of the one before."""
        is_same = np.ones(self.n_synapses, dtype=np.bool_)
        is_same[self.starts] = False
        return is_same[1:]

    @cached_property
    def several(self) -> tuple[Ints, Ints]:
        """Return the connections of several synapses, and the first grouped row of each."""
        several = np.flatnonzero(self.counts > 1)
        return several, self.starts[several]

    def edge_ids(self, rows: Ints) -> Ints:
        """Return the rows of the edge file that some grouped rows are."""
        if self.edge_id is not None:
            return to_numpy(taken(to_arrow(self.edge_id), to_arrow(rows)))
        return np.add(rows, self.first_edge_id, dtype=np.int64)


def _group_rows(spec: RangeSpec, rows: EdgeRows) -> _Grouped:
    """Find the connections of a range of rows, and their order by pathway."""
    source, target = rows.node_ids(spec.start, spec.stop)
    source_code, target_code = codes = type_codes(spec)
    take, left_out = _counting(spec, rows, (source, target), codes)
    if take is not None:
        source, target = source[take], target[take]
    keys = source if spec.axis == "source" else target
    first_key, last_key = (int(keys[0]), int(keys[-1])) if keys.size else (-1, -1)
    is_ordered = spec.axis is None or bool((keys[1:] >= keys[:-1]).all())
    repeated = _repeated(spec, rows, take)
    if repeated is not None:
        take = repeated if take is None else take[repeated]
        source, target = source[repeated], target[repeated]
    starts = run_starts(source, target)
    if not _distinct(source[starts], target[starts]):
        order = np.lexsort((source, target))
        take = order if take is None else take[order]
        source, target = source[order], target[order]
        starts = run_starts(source, target)
    counts = np.diff(starts, append=source.size)
    if (counts < spec.min_syn_per_conn).any():
        enough = counts >= spec.min_syn_per_conn
        left_out[_FEW] = int(counts[~enough].sum())
        kept = run_rows(starts[enough], counts[enough])
        take = kept if take is None else take[kept]
        source, target, counts = source[kept], target[kept], counts[enough]
        starts = np.cumsum(counts) - counts
    of_source, of_target = source[starts], target[starts]
    pathway = number_of_pair(source_code[of_source], target_code[of_target], spec.n_target_types)
    is_small = pathway.max(initial=0) < 1 << 16  # NumPy sorts numbers of 16 bits by radix
    order = np.argsort(pathway.astype(np.uint16) if is_small else pathway, kind="stable")
    edge_id = None if take is None else spec.start + take
    if isinstance(rows, SortedRows):
        edge_id = rows.edge_ids(spec.start, spec.stop)
        edge_id = edge_id if take is None else edge_id[take]
    return _Grouped(
        take=take, edge_id=edge_id, first_edge_id=spec.start, starts=starts[order],
        counts=counts[order], source=of_source[order], target=of_target[order],
        pathway=pathway[order], left_out=left_out, ordered=is_ordered, first_key=first_key,
        last_key=last_key,
    )  # fmt: skip


def _counting(
    spec: RangeSpec, rows: EdgeRows, ends: tuple[Ints, Ints], codes: tuple[NDArray[np.int32], ...]
) -> tuple[Ints | None, dict[str, int]]:
    """Return the rows that count, None for all, and how many do not, by the reason."""
    left_out, counts = {}, None
    has_gaps = any(  # which is soon told of most
        (of.size and (of.min() < 0 or of.max() >= code.size)) or (code < 0).any()
        for of, code in zip(ends, codes, strict=True)
    )
    if has_gaps:
        is_node = (ends[0] >= 0) & (ends[1] >= 0)
        of_source, of_target = (value_of(*side) for side in zip(ends, codes, strict=True))
        counts = (of_source >= 0) & (of_target >= 0)
        left_out = {_UNLISTED: int((~is_node).sum()), _UNTYPED: int((is_node & ~counts).sum())}
    if spec.where is not None:
        columns = spec.where.columns
        values = {c.name: rows.column(c, spec.start, spec.stop) for c in columns}
        meets = spec.where.holds(values)
        left_out[UNMET] = int((~meets).sum() if counts is None else (counts & ~meets).sum())
        counts = meets if counts is None else counts & meets
    if counts is None or counts.all():
        return None, {}
    return np.flatnonzero(counts), {why: n for why, n in left_out.items() if n}


def _repeated(spec: RangeSpec, rows: EdgeRows, take: Ints | None) -> Ints | None:
    """Return each row taken as often as it has synapses, where rows stand for ``nsyns`` of them."""
    column = spec.population.columns.get(schema.MULTIPLICITY)
    if column is None:
        return None
    counts = rows.column(column, spec.start, spec.stop)
    counts = counts if take is None else counts[take]
    whole = counts.astype(np.float64)
    if column.partial:
        whole[np.isnan(whole)] = 1.0  # rows that do not say are of one synapse
    odd = ~((whole >= 1) & (whole <= _MULTIPLICITY_AT_MOST) & (whole == np.floor(whole)))
    if odd.any():
        raise CircuitError.of(
            f"{spec.population.file}: column {schema.MULTIPLICITY!r} must hold numbers of synapses",
            found=f"{counts[odd][0]}",
            expected=f"whole numbers from 1 to {_MULTIPLICITY_AT_MOST:,}",
        )
    return np.repeat(np.arange(counts.size), whole.astype(np.int64))


def _distinct(source: Ints, target: Ints) -> bool:
    """Return whether no pair of nodes occurs twice."""
    if not source.size:
        return True
    key = target.astype(np.uint64) * np.uint64(int(source.max()) + 1) + source.astype(np.uint64)
    if (key[1:] > key[:-1]).all():
        return True
    key.sort()
    return bool((key[1:] != key[:-1]).all())


def type_codes(spec: RangeSpec) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the type code of each source node and of each target node."""
    return _codes(str(spec.folder), spec.nodes_sha256)


@lru_cache(maxsize=2)
def _codes(folder: str, nodes_sha256: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:  # noqa: ARG001 - part of the cache's key
    names = ["side", "node", "code"]
    nodes = pl.read_parquet(Path(folder) / "nodes.parquet", columns=names, glob=False).sort("node")
    of_side = (nodes.filter(side=side) for side in ("source", "target"))
    source, target = (
        by_id(of["node"].to_numpy(), of["code"].to_numpy().astype(np.int32)) for of in of_side
    )
    return source, target


def write_part(spec: RangeSpec, rows: EdgeRows, part: _Grouped) -> RangeSummary:
    """Write the rows of a part, and return what it holds."""
    tables, varies, profiles = _tables(spec, rows, part)
    varying = spec.varying.union(varies)
    return RangeSummary(
        part=spec.part, start=spec.start, stop=spec.stop, n_synapses=part.n_synapses,
        n_connections=part.counts.size,
        sha256=dict(_write_table(table, spec, kind, varying) for kind, table in tables.items()),
        varies=tuple(varies), ordered=part.ordered, first_key=part.first_key,
        last_key=part.last_key, contiguous=part.take is None and spec.sorted_copy is None,
        profiles=profiles, left_out=part.left_out,
    )  # fmt: skip


def _tables(
    spec: RangeSpec, rows: EdgeRows, part: _Grouped
) -> tuple[dict[Kind, pa.Table], list[str], dict[str, Profile]]:
    """Return a part's tables, which columns vary within connections, and what each column holds."""
    # Rows in 32 bits are taken in less time.
    narrow: np.dtype[Any] = np.dtype("i4" if part.n_synapses < np.iinfo(np.int32).max else "i8")
    counts, starts = part.counts, part.starts.astype(narrow)
    first_edge, all_rows = part.edge_ids(starts), run_rows(starts, counts)
    connections: dict[str, pa.Array] = {
        "pathway": to_arrow(part.pathway),
        "source_node": to_arrow(part.source.astype(np.int64, copy=False)),
        "target_node": to_arrow(part.target.astype(np.int64, copy=False)),
        schema.N_SYN_PER_CONN: to_arrow(counts.astype(np.int32)),
        "first_edge": to_arrow(first_edge),
    }
    synapses: dict[str, pa.Array] = {
        "pathway": to_arrow(_repeated_runs(part.pathway, counts)),
        "first_edge": to_arrow(np.repeat(first_edge, counts)),
        "edge_id": to_arrow(part.edge_ids(all_rows)),
    }
    first_rows, grouped_rows = to_arrow(starts), to_arrow(all_rows)
    first_synapses = to_arrow((np.cumsum(counts) - counts).astype(narrow))
    varies, profiles = [], {}
    for column in spec.columns:
        values = rows.column(column, spec.start, spec.stop)
        if part.take is not None:
            values = values[part.take]
        of_rows, within = to_arrow(values), _varies_within(values, part)
        if column.name in spec.varying or within is not None:
            synapses[column.name] = of_synapses = taken(of_rows, grouped_rows)
            firsts = taken(of_synapses, first_synapses)  # which are in their order there
        else:
            firsts = taken(of_rows, first_rows)
        of_connections = to_numpy(firsts)
        # What connections share need not be looked at once more for each of their synapses.
        shared = within is None
        profiles[column.name] = profile(of_connections, counts) if shared else profile(values)
        if within is not None:
            varies.append(column.name)
        connections[column.name] = to_arrow(of_connections, within)
    return {"connections": pa.table(connections), "synapses": pa.table(synapses)}, varies, profiles


def _repeated_runs(values: NDArray[Any], counts: Ints) -> NDArray[Any]:
    """Return each value as often as its count says, where most are equal to the one before."""
    begins = run_starts(values)
    return np.repeat(values[begins], np.add.reduceat(counts, begins)) if values.size else values


def _varies_within(values: NDArray[Any], part: _Grouped) -> Bools | None:
    """Return which connections have several values; None where none has."""
    different = differs_within(values, part.goes_on)
    if not different.any():
        return None
    varies, (several, second) = np.zeros(part.counts.size, dtype=np.bool_), part.several
    varies[several] = at_once = different[second]  # which the second value tells of most
    if (left := several[~at_once]).size:
        n = part.counts[left] - 1
        later = different[run_rows(part.starts[left], n)]
        varies[left] = np.logical_or.reduceat(later, np.cumsum(n) - n)
    return varies


def differs_within(values: NDArray[Any], goes_on: Bools) -> Bools:
    """Return whether each value but the first differs from the one before in its connection.

    ``goes_on`` says whether that is of the same connection. NaN equals NaN.
    """
    different: Bools = values[1:] != values[:-1]
    different &= goes_on
    if values.dtype.kind == "f" and different.any():
        nan = np.isnan(values)
        if nan.any():
            different &= ~(nan[1:] & nan[:-1])
    return different


def _write_table(
    table: pa.Table, spec: RangeSpec, kind: Kind, varying: frozenset[str]
) -> tuple[str, str]:
    """Write a table as Parquet; return the file's name and its digest."""
    # Where there can be no nulls, none need be encoded and decoded.
    layout = pa.schema(
        [pa.field(f.name, f.type, kind == "connections" and f.name in varying,
                  schema.field_metadata(schema.LARGE[kind], f.name)) for f in table.schema],
        metadata={schema.METADATA_KEY: spec.facts},
    )  # fmt: skip
    table = pa.Table.from_arrays(table.columns, schema=layout)
    digest, name = "", ""

    def named(aside: Path) -> Path:
        nonlocal digest, name
        digest = sha256_of(aside)
        name = part_file(kind, spec.part, digest)
        return spec.folder / name

    path = spec.folder / f"{kind}/{spec.part:05d}.parquet"
    # A file of Python's own would want the interpreter for each page.
    with _put_aside(spec, path, named) as aside, pa.OSFile(os.fsencode(aside), "wb") as file:
        encode(table, kind, file)
    return name, digest


def _codec(field: pa.Field, kind: Kind) -> str:
    """Return how pages of a column are compressed, once its values are encoded."""
    if field.name in _SELDOM_READ[kind]:
        return "zstd"
    is_packed = pa.types.is_integer(field.type) and field.name not in _PLAIN[kind]
    is_dense = is_packed and not field.nullable and field.type.bit_width <= _DENSE_BITS
    return "none" if is_dense else "lz4"


def encode(table: pa.Table, kind: Kind, file: BinaryIO | pa.NativeFile) -> None:
    """Write a table as Parquet, each column in the encoding that suits it best."""
    integers = {f.name: "DELTA_BINARY_PACKED" for f in table.schema if pa.types.is_integer(f.type)}
    encodings = integers | dict.fromkeys(_PLAIN[kind], "PLAIN")
    codecs = {f.name: _codec(f, kind) for f in table.schema}
    pq.write_table(
        table,
        file,
        row_group_size=ROW_GROUP,
        compression=codecs,
        compression_level={n: 1 for n, codec in codecs.items() if codec == "zstd"} or None,
        # Dictionaries, pyarrow's default, double time and size of floats, and of most integers.
        use_dictionary=False,
        column_encoding=encodings,
        write_statistics=[f.name for f in table.schema if not pa.types.is_floating(f.type)],
    )
