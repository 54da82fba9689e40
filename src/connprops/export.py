"""Edges to Parquet: one sequential pass, part by part.

A part is a contiguous range of the edge file, cut at connection boundaries and ordered by
pathway within. It becomes two files, ``connections/NNNNN.parquet`` and
``synapses/NNNNN.parquet``. Parts do not know of each other, so they can be written anywhere
and in any order, and an interrupted export goes on from the finished ones. Everything is
staged in a hidden folder beside the target and renamed at the end, so that a reader
never sees half a dataset (:mod:`connprops.staging`).

A dataset is a function of its input and options, byte for byte, but for ``source.json``, which
holds the modification time of the edge file, and its checksum where that was asked for.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import connprops
from connprops import schema, sonata
from connprops.arrow_arrays import to_arrow
from connprops.artifacts import sha256_of, writing
from connprops.edge_columns import CATEGORIES_AT_MOST, LEFT_OUT, EdgeColumn
from connprops.errors import CircuitError, ConnpropsWarning, DatasetError, OptionError, OutputError
from connprops.manifest import (
    MANIFEST,
    damage,
    read_manifest,
    read_source,
    write_manifest,
    write_source,
)
from connprops.node_types import Side, group_nodes, node_sets_of, node_tables
from connprops.parts import (
    MULTIPLICITY,
    ROW_GROUP,
    RangeSpec,
    RangeSummary,
    Rows,
    SortedRows,
    differs,
    export_range,
)
from connprops.profile import Profile, merged
from connprops.resources import Resources
from connprops.staging import keep_finished, put_in_place, staged
from connprops.workers import run_units

ROWS_PER_PART = 1 << 21
"""Rows of the edge file in a part: small enough that several fit in memory at once."""

_BYTES_OF_ROW = 64
"""Bytes that ids, keys and orders of a row take while its part is written."""

_BYTES_OF_PROGRAM = 200 << 20
"""Bytes that the process takes before it reads anything: Polars, DuckDB, HDF5."""

_PROBE = 1 << 16
_NOT_PROPERTIES = ("@", "afferent", "efferent")

Progress = Callable[[str, int, int, str], None]
"""Called with step, units done, units in all, and the unit's name."""


def is_property(name: str) -> bool:
    """Return whether a column is exported by default: synaptic values, not places or ids."""
    return not any(word in name for word in _NOT_PROPERTIES) and name != MULTIPLICITY


def export(
    circuit: sonata.Circuit,
    folder: str | Path,
    *,
    population: str | None = None,
    source_type: str = "mtype",
    target_type: str = "mtype",
    properties: Sequence[str] | None = None,
    overwrite: bool = False,
    resume: bool = True,
    verify: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write an edge population as a dataset folder, or find it there already.

    Parameters
    ----------
    circuit
        The circuit, from :func:`connprops.sonata.open_circuit`.
    folder
        Where the dataset goes. One of the same input and options is left as it is, once its
        files have been found intact.
    population
        Edge population; by default the reference's rule (:meth:`sonata.Circuit.population`).
    source_type, target_type
        Node attribute that groups the nodes of each side, or ``"@population"``.
    properties
        Edge columns to export; by default all but positions, sections and dynamics.
    overwrite
        Replace a dataset of another input or other options, or a damaged one.
    resume
        Go on from the finished parts of an interrupted export of the same input and options.
    verify
        Tell whether the edge file is the one that a dataset was made of by its whole content.
        By default its size, its modification time, its structure and samples of it tell.
    resources
        Threads, memory and temporary folder; by default what the machine allows.
    progress
        Called as parts get done.

    Returns
    -------
    Path
        The dataset's folder.

    Raises
    ------
    CircuitError, OptionError, OutputError, DatasetError
        Where the input cannot be read, an option not met, the folder not written, or the dataset
        that it holds is damaged.
    """
    target = Path(folder)
    resources = resources or Resources()
    wanted = describe(circuit, population, source_type, target_type, properties, verify=verify)
    if not _is_reusable(target, wanted, overwrite=overwrite):
        with staged(target) as stage:
            # Again: another process may have made it, or was killed while it put it in place.
            if not _is_reusable(target, wanted, overwrite=overwrite):
                _write_dataset(wanted, stage, resources, progress, resume=resume)
                put_in_place(stage / "dataset", target)
    for text in read_manifest(target)["warnings"]:
        warnings.warn(text, ConnpropsWarning, stacklevel=2)
    return target


@dataclass(frozen=True)
class Wanted:
    """What an export is to be of.

    Attributes
    ----------
    identity
        All that the dataset's content depends on.
    state
        Size and modification time of the edge file.
    sha256
        Its checksum, where that was asked for.
    """

    edges: sonata.EdgePopulation
    columns: tuple[EdgeColumn, ...]
    sides: Mapping[str, Side]
    node_sets: pl.DataFrame
    identity: dict[str, Any]
    state: dict[str, int]
    sha256: str | None


def describe(
    circuit: sonata.Circuit,
    population: str | None = None,
    source_type: str = "mtype",
    target_type: str = "mtype",
    properties: Sequence[str] | None = None,
    *,
    verify: bool = False,
) -> Wanted:
    """Return what an export with these options would be of; no edges are read but samples.

    Parameters and errors are those of :func:`export`.
    """
    edges = circuit.population(population)
    state = edges.state()  # before anything of the file is read
    columns = _chosen(edges, properties)
    sides = {
        "source": group_nodes(edges.source.attributes(), edges.source.name, source_type, "source"),
        "target": group_nodes(edges.target.attributes(), edges.target.name, target_type, "target"),
    }
    node_sets = node_sets_of(circuit, edges)
    identity = _identity(edges, sides, node_sets, columns)
    sha256 = edges.sha256() if verify else None
    return Wanted(edges, columns, sides, node_sets, identity, state, sha256)


def _write_dataset(
    wanted: Wanted, stage: Path, resources: Resources, progress: Progress | None, *, resume: bool
) -> None:
    """Write a dataset into the stage; go on from what is finished of it."""
    edges, folder = wanted.edges, stage / "dataset"
    keep_finished(stage, {"identity": wanted.identity, "state": wanted.state}, resume=resume)
    tables = {
        f"{name}.parquet": _write_rows(table, folder / f"{name}.parquet")
        for name, table in node_tables(wanted.sides, wanted.node_sets).items()
    }
    n_target_types = len(wanted.sides["target"].types)
    specs = _plan(edges, wanted.columns, n_target_types, wanted.identity, stage)
    summaries = _write_parts(specs, resources, progress)
    if edges.state() != wanted.state:
        raise CircuitError.of(
            f"{edges.file} has changed while it was read",
            hint="export again when nobody writes it any more",
        )
    _write_manifest(folder, edges, wanted.columns, wanted.identity, tables, summaries)
    write_source(folder, wanted.state, wanted.sha256)


def _chosen(
    edges: sonata.EdgePopulation, properties: Sequence[str] | None
) -> tuple[EdgeColumn, ...]:
    """Return the columns to export, in the file's order."""
    for name in properties or ():
        if name not in edges.columns and name != schema.N_SYN_PER_CONN:
            raise OptionError.unknown("property", name, edges.columns)
    chosen = [
        column
        for name, column in edges.columns.items()
        if (is_property(name) if properties is None else name in properties)
    ]
    unfit = [column for column in chosen if column.dtype in LEFT_OUT]
    if unfit and properties is not None:
        raise OptionError.of(
            f"Column {unfit[0].name!r} of {edges.file} cannot be a property",
            found=LEFT_OUT[unfit[0].dtype],
            expected=f"numbers, or text with at most {CATEGORIES_AT_MOST} distinct values",
        )
    return tuple(column for column in chosen if column.dtype not in LEFT_OUT)


def _identity(
    edges: sonata.EdgePopulation,
    sides: Mapping[str, Side],
    node_sets: pl.DataFrame,
    columns: Sequence[EdgeColumn],
) -> dict[str, Any]:
    """Return what the dataset's content depends on: nothing else may change a byte of it."""
    nodes = hashlib.sha256()
    for frame in (*(side.nodes for side in sides.values()), node_sets):
        content = io.BytesIO()
        frame.rechunk().write_ipc(content)
        nodes.update(content.getbuffer())
    return {
        "schema_version": schema.VERSION,
        "connprops_version": connprops.__version__,
        "edges": edges.identity(),
        "nodes_sha256": nodes.hexdigest(),
        "source_population": edges.source.name,
        "target_population": edges.target.name,
        "source_type": sides["source"].by,
        "target_type": sides["target"].by,
        "properties": [column.name for column in columns],
    }


def _is_reusable(target: Path, wanted: Wanted, *, overwrite: bool) -> bool:
    """Return whether the folder holds this very dataset; raise where it holds something else."""
    changed = differences(target, wanted)
    if changed is None:
        return False
    if not changed:
        damaged = damage(target, read_manifest(target))
        if not damaged:
            if wanted.sha256 and read_source(target) != {**wanted.state, "sha256": wanted.sha256}:
                write_source(target, wanted.state, wanted.sha256)
            return True
        file, what = next(iter(damaged.items()))
        more = f", and {len(damaged) - 1} more files are damaged" if len(damaged) > 1 else ""
        text = f"{target / file} {what}{more}"
        if overwrite:
            warnings.warn(f"{text}: the dataset is exported again", ConnpropsWarning, stacklevel=4)
            return False
        raise DatasetError.of(text, hint="export again, over it (--overwrite)")
    if overwrite:
        return False
    raise OutputError.of(
        f"{target} holds a dataset of another input or of other options",
        found=f"differs in: {', '.join(changed)}",
        hint="give another folder, or overwrite (--overwrite)",
    )


def differences(target: Path, wanted: Wanted) -> list[str] | None:
    """Return in what a dataset is another than the one described; None where there is none.

    Raises
    ------
    OutputError, DatasetError
        Where the folder holds something else, or what cannot be read.
    """
    with writing(target):
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return None
    if not (target / MANIFEST).is_file():
        raise OutputError.of(
            f"{target} exists and is not a connprops dataset",
            found="no manifest.json" if target.is_dir() else "a file",
            expected="a new or an empty folder",
            hint="choose another folder with -o",
        )
    found = read_manifest(target)["identity"]
    names = wanted.identity.keys() | found.keys()
    changed = sorted(name for name in names if found.get(name) != wanted.identity.get(name))
    before = read_source(target)
    by_content = wanted.sha256 is not None and before.get("sha256") is not None
    known = {"sha256": wanted.sha256} if by_content else wanted.state
    if "edges" not in changed and any(before.get(name) != value for name, value in known.items()):
        changed.append("content of the edge file" if by_content else "time of the edge file")
    return changed


def _write_rows(frame: pl.DataFrame, file: Path) -> dict[str, Any]:
    """Write a table of nodes; return its checksum and its number of rows."""
    with writing(file):
        pq.write_table(frame.to_arrow(), file, row_group_size=ROW_GROUP, compression="zstd")
        return {"sha256": sha256_of(file), "rows": len(frame)}


def _plan(
    edges: sonata.EdgePopulation,
    columns: tuple[EdgeColumn, ...],
    n_target_types: int,
    identity: Mapping[str, Any],
    stage: Path,
) -> list[RangeSpec]:
    """Cut the edge file into ranges; see which columns vary within connections."""
    facts = json.dumps(
        {"schema_version": schema.VERSION, "population": edges.name, "identity": identity["edges"]},
        sort_keys=True,
    )
    with edges.reader() as rows:
        axis = _axis(rows, edges.size)
        cuts = _cuts(rows, edges.size, axis)
        varying = _probe(rows, edges.size, columns)
    return [
        RangeSpec(
            stage / "dataset", stage / "notes", part, start, stop, edges, columns, varying, axis,
            None, n_target_types, identity["nodes_sha256"], facts,
        )
        for part, (start, stop) in enumerate(pairwise(cuts))
    ]  # fmt: skip


def _axis(rows: Rows, size: int) -> str | None:
    """Return the side by which the rows seem ordered, so that parts can be cut there."""
    if size <= ROWS_PER_PART:
        return None
    ordered = dict.fromkeys(("target", "source"), True)
    for start in np.linspace(0, size - _PROBE, 8).astype(int).tolist():
        source, target = rows.node_ids(start, start + _PROBE)
        for side, ids in (("source", source), ("target", target)):
            ordered[side] &= bool((np.diff(ids) >= 0).all())
    return next((side for side, is_so in ordered.items() if is_so), "neither")


def _cuts(rows: Rows, size: int, axis: str | None) -> list[int]:
    """Return the rows at which parts begin, and the end; no connection spans a cut."""
    if axis in (None, "neither"):
        return [0, size]
    cuts = [0]
    for nominal in range(ROWS_PER_PART, size, ROWS_PER_PART):
        if nominal <= cuts[-1]:
            continue
        cut = _next_change(rows, nominal, size, axis)
        if cut < size:
            cuts.append(cut)
    return [*cuts, size]


def _next_change(rows: Rows, row: int, size: int, axis: str | None) -> int:
    """Return the first row at or after ``row`` whose node differs from the row before."""
    for start in range(row - 1, size - 1, _PROBE):
        ids = rows.node_ids(start, min(start + _PROBE + 1, size))[axis == "target"]
        change = np.flatnonzero(ids[1:] != ids[:-1])
        if change.size:
            return start + 1 + int(change[0])
    return size


def _probe(rows: Rows, size: int, columns: Sequence[EdgeColumn]) -> frozenset[str]:
    """Return the columns seen to vary within connections, in a few blocks of the file."""
    varying = set()
    for start in sorted({0, max(size // 2 - _PROBE // 2, 0), max(size - _PROBE, 0)}):
        stop = min(start + _PROBE, size)
        source, target = rows.node_ids(start, stop)
        same = (source[1:] == source[:-1]) & (target[1:] == target[:-1])
        for column in columns:
            if column.name not in varying:
                values = rows.column(column, start, stop)
                if (same & differs(values)).any():
                    varying.add(column.name)
    return frozenset(varying)


def _write_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None
) -> list[RangeSummary]:
    """Write all parts, again with what was learnt where the plan turned out too simple."""
    if specs[0].axis == "neither":
        specs = _sorted_plan(specs[0], resources)
    summaries = _run_parts(specs, resources, progress)
    if not all(s.ordered for s in summaries) or any(
        a.last_key >= b.first_key for a, b in pairwise(summaries)
    ):
        specs = _sorted_plan(specs[0], resources)
        summaries = _run_parts(specs, resources, progress)
    varying = specs[0].varying.union(*(summary.varies for summary in summaries))
    if varying != specs[0].varying:
        specs = [replace(spec, varying=varying) for spec in specs]
        summaries = _run_parts(specs, resources, progress)
    return summaries


def _parts_at_once(specs: Sequence[RangeSpec], resources: Resources) -> int:
    """Return how many parts to write at the same time: as many as threads and memory allow."""
    rows = max(spec.stop - spec.start for spec in specs)
    values = sum(np.dtype(column.dtype).itemsize for column in specs[0].columns)
    of_part = max(rows, 1) * (_BYTES_OF_ROW + 2 * values)  # in connections and in synapses
    allowed = (resources.memory - _BYTES_OF_PROGRAM) // of_part
    return max(1, min(resources.threads, len(specs), allowed))


def _run_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None
) -> list[RangeSummary]:
    done, summaries = 0, []
    with closing(_exported(specs, resources)) as exported:
        for summary in exported:
            summaries.append(summary)
            done += summary.stop - summary.start
            if progress:
                progress("export", done, specs[-1].stop, "rows")
    pa.default_memory_pool().release_unused()  # statistics want it next
    return sorted(summaries, key=lambda summary: summary.part)


def _exported(specs: Sequence[RangeSpec], resources: Resources) -> Generator[RangeSummary]:
    """Write the parts, in threads of this process or where the resources say."""
    if resources.workers is not None:
        yield from (made for _, made in run_units(export_range, specs, resources.workers, "part"))
        return
    with ThreadPoolExecutor(_parts_at_once(specs, resources)) as pool:
        try:
            yield from pool.map(export_range, specs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _sorted_plan(spec: RangeSpec, resources: Resources) -> list[RangeSpec]:
    """Sort the rows by target and source out of core, where the file's order helps nothing."""
    sorted_file = spec.folder.parent / "sorted.parquet"
    size = spec.population.size
    if not sorted_file.is_file():
        _sort_rows(spec, size, sorted_file, resources)
    with SortedRows(sorted_file) as rows:
        cuts = _cuts(rows, size, "target")
        varying = _probe(rows, size, spec.columns)
    return [
        replace(
            spec, part=part, start=start, stop=stop, axis="target", varying=varying,
            sorted_file=sorted_file,
        )
        for part, (start, stop) in enumerate(pairwise(cuts))
    ]  # fmt: skip


def _sort_rows(spec: RangeSpec, size: int, sorted_file: Path, resources: Resources) -> None:
    import duckdb

    columns = _with_multiplicity(spec.population, spec.columns)

    def batches() -> Iterator[pa.RecordBatch]:
        with spec.population.reader() as rows:
            for start in range(0, size, _PROBE * 4):
                stop = min(start + _PROBE * 4, size)
                source, target = rows.node_ids(start, stop)
                arrays = [target, source, np.arange(start, stop, dtype=np.int64)]
                arrays += [rows.column(column, start, stop) for column in columns]
                yield pa.record_batch([to_arrow(a) for a in arrays], schema=arrow_schema)

    arrow_schema = pa.schema(
        [(name, pa.int64()) for name in ("@target", "@source", "@edge")]
        + [(column.name, pa.from_numpy_dtype(np.dtype(column.dtype))) for column in columns]
    )
    unsorted = pa.RecordBatchReader.from_batches(arrow_schema, batches())
    aside = sorted_file.with_suffix(".tmp")
    with duckdb.connect(config=resources.duckdb_config()) as connection:
        connection.register("unsorted", unsorted)
        connection.execute(
            """copy (select * from unsorted order by "@target", "@source", "@edge")
               to $file (format parquet, compression zstd, row_group_size 122880)""",
            {"file": str(aside)},
        )
    aside.rename(sorted_file)


def _with_multiplicity(
    population: sonata.EdgePopulation, columns: Sequence[EdgeColumn]
) -> list[EdgeColumn]:
    """Return the columns, and ``nsyns`` where the rows stand for several synapses."""
    extra = population.columns.get(MULTIPLICITY)
    return [*columns, extra] if extra is not None else list(columns)


def _write_manifest(
    folder: Path,
    edges: sonata.EdgePopulation,
    columns: Sequence[EdgeColumn],
    identity: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Any]],
    summaries: Sequence[RangeSummary],
) -> None:
    """Write the manifest, which makes the folder a dataset."""
    varying = set().union(*(summary.varies for summary in summaries))
    profiles = {c.name: merged([s.profiles[c.name] for s in summaries]) for c in columns}
    roles = {c.name: profiles[c.name].role(c.dtype, c.labels) for c in columns}
    manifest = {
        "schema_version": schema.VERSION,
        "identity": identity,
        "kind": edges.kind,
        "n_synapses": sum(s.n_synapses for s in summaries),
        "n_connections": sum(s.n_connections for s in summaries),
        "contiguous": all(s.contiguous for s in summaries),
        "columns": [
            {
                "name": column.name,
                "dtype": column.dtype,
                "unit": schema.unit_of(column.name),
                "labels": column.labels,
                "varies": column.name in varying,
                "role": roles[column.name],
                "n_not_finite": profiles[column.name].n_not_finite,
            }
            for column in columns
        ],
        "left_out": {
            name: LEFT_OUT[column.dtype]
            for name, column in edges.columns.items()
            if column.dtype in LEFT_OUT
        },
        "parts": [
            {"n_synapses": s.n_synapses, "n_connections": s.n_connections, "sha256": s.sha256}
            for s in summaries
        ],
        "tables": tables,
        "warnings": _warnings(profiles, roles),
    }
    write_manifest(folder, manifest)


def _warnings(profiles: Mapping[str, Profile], roles: Mapping[str, str]) -> list[str]:
    """Return what in the data changes what is computed from it."""
    said = []
    for name, profile in profiles.items():
        if profile.n_not_finite:
            said.append(
                f"property {name!r} has {profile.n_not_finite:,} values that are NaN or infinite: "
                "they are left out of its statistics"
            )
        if profile.has_sentinel:
            said.append(
                f"property {name!r} is -1 in {profile.n_minus_one:,} places and else never "
                "negative: if -1 stands for 'none' there, leave the property out"
            )
        if roles[name] == "too large":
            said.append(
                f"property {name!r} has integers beyond 2^53, which statistics cannot hold exactly"
            )
    return said
