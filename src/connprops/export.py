"""Edges to Parquet: one sequential pass, part by part.

A part is a contiguous range of the edge file, cut at connection boundaries and ordered by
pathway within. It becomes two files, ``connections/NNNNN.parquet`` and
``synapses/NNNNN.parquet``. Parts do not know of each other, so they can be written anywhere
and in any order, and an interrupted export goes on from the finished ones. Everything is
staged in a hidden folder beside the target and renamed at the end, so that a reader
never sees half a dataset.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

import connprops
from connprops import schema, sonata
from connprops.errors import ConnpropsWarning, DatasetError, OptionError, OutputError
from connprops.node_types import Side, group_nodes, write_nodes
from connprops.parts import (
    MULTIPLICITY,
    RangeSpec,
    RangeSummary,
    Rows,
    SortedRows,
    differs,
    export_range,
    sha256_of,
)
from connprops.profile import Profile, merged
from connprops.resources import Resources

MANIFEST = "manifest.json"

ROWS_PER_PART = 1 << 21
"""Rows of the edge file in a part: small enough that several fit in memory at once."""

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
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write an edge population as a dataset folder, or find it there already.

    Parameters
    ----------
    circuit
        The circuit, from :func:`connprops.sonata.open_circuit`.
    folder
        Where the dataset goes. A dataset of the same input and options is left as it is.
    population
        Edge population; by default the reference's rule (:meth:`sonata.Circuit.population`).
    source_type, target_type
        Node attribute that groups the nodes of each side, or ``"@population"``.
    properties
        Edge columns to export; by default all but positions, sections and dynamics.
    overwrite
        Replace a dataset of another input or other options.
    resume
        Go on from the finished parts of an interrupted export of the same input and options.
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
    CircuitError, OptionError, OutputError
        Where the input cannot be read, an option not met, or the folder not written.
    """
    target = Path(folder)
    resources = resources or Resources()
    edges = circuit.population(population)
    columns = _chosen(edges, properties)
    sides = {
        "source": group_nodes(edges.source.attributes(), edges.source.name, source_type, "source"),
        "target": group_nodes(edges.target.attributes(), edges.target.name, target_type, "target"),
    }
    identity = _identity(edges, sides, columns)
    if _is_reusable(target, identity, overwrite=overwrite):
        return target
    with _staged(target, identity, resume=resume) as stage:
        types = write_nodes(circuit, edges, sides, stage)
        specs = _plan(edges, columns, types, identity, stage)
        summaries = _write_parts(specs, resources, progress)
        _write_manifest(stage, edges, columns, identity, summaries)
    return target


def _chosen(
    edges: sonata.EdgePopulation, properties: Sequence[str] | None
) -> tuple[sonata.EdgeColumn, ...]:
    """Return the columns to export, in the file's order."""
    for name in properties or ():
        if name not in edges.columns and name != schema.N_SYN_PER_CONN:
            raise OptionError.unknown("property", name, edges.columns)
    chosen = [
        column
        for name, column in edges.columns.items()
        if (is_property(name) if properties is None else name in properties)
    ]
    labels = [column.name for column in chosen if column.dtype == "text"]
    if labels and properties is not None:
        raise OptionError.of(
            f"Column {labels[0]!r} of {edges.file} is text with too many values for a property",
            expected=f"at most {sonata.CATEGORIES_AT_MOST} distinct values",
        )
    return tuple(column for column in chosen if column.dtype != "text")


def _identity(
    edges: sonata.EdgePopulation,
    sides: Mapping[str, Side],
    columns: Sequence[sonata.EdgeColumn],
) -> dict[str, Any]:
    """Return what the dataset's content depends on: nothing else may change a byte of it."""
    nodes = hashlib.sha256()
    for side in sides.values():
        content = io.BytesIO()
        side.nodes.write_ipc(content)
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


def _is_reusable(target: Path, identity: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether the folder holds this very dataset; raise where it holds something else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    manifest = target / MANIFEST
    if not manifest.is_file():
        raise OutputError.of(
            f"{target} exists and is not a connprops dataset",
            found="no manifest.json" if target.is_dir() else "a file",
            expected="a new or an empty folder",
            hint="choose another folder with -o",
        )
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError.of(
            f"{manifest} is damaged", found=str(error), hint="remove the folder and export again"
        ) from error
    if found == identity:
        return True
    if overwrite:
        return False
    changed = sorted(key for key in identity if found.get(key) != identity[key])
    raise OutputError.of(
        f"{target} holds a dataset of another input or of other options",
        found=f"differs in: {', '.join(changed)}",
        hint="give another folder, or overwrite (--overwrite)",
    )


@contextmanager
def _staged(target: Path, identity: Mapping[str, Any], *, resume: bool) -> Iterator[Path]:
    """Give a hidden folder beside the target to write in; put it in the target's place at the end.

    An interrupted export leaves the hidden folder with its finished parts, to go on from.
    """
    stage = target.parent / f".{target.name}.partial"
    try:
        stage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError.of(f"{stage.parent} cannot be written to", found=str(error)) from error
    with _locked(stage, target):
        plan = stage / "identity.json"
        text = json.dumps(identity, sort_keys=True, indent=1)
        if not (resume and plan.is_file() and plan.read_text(encoding="utf-8") == text):
            for item in stage.iterdir():
                if item.name != "lock":
                    shutil.rmtree(item) if item.is_dir() else item.unlink()
        plan.write_text(text, encoding="utf-8")
        try:
            yield stage
        except OSError as error:
            raise OutputError.of(f"Writing {target} failed", found=str(error)) from error
        shutil.rmtree(stage / "summaries")
        plan.unlink()
        (stage / "lock").unlink()
        _sync(stage)
        _put_in_place(stage, target)


@contextmanager
def _locked(stage: Path, target: Path) -> Iterator[None]:
    with (stage / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError.of(
                f"Another process is exporting to {target}",
                hint="wait for it, or give another folder",
            ) from error
        yield


def _put_in_place(stage: Path, target: Path) -> None:
    """Rename the finished folder; an older dataset in its place goes only then."""
    if target.is_dir() and any(target.iterdir()):
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old-", dir=target.parent))
        target.rename(old / target.name)
        stage.rename(target)
        shutil.rmtree(old)
    else:
        stage.rename(target)
    _sync(target.parent)


def _plan(
    edges: sonata.EdgePopulation,
    columns: tuple[sonata.EdgeColumn, ...],
    types: Mapping[str, pl.DataFrame],
    identity: Mapping[str, Any],
    stage: Path,
) -> list[RangeSpec]:
    """Cut the edge file into ranges; see which columns vary within connections."""
    for kind in ("connections", "synapses", "summaries"):
        (stage / kind).mkdir(exist_ok=True)
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
            stage, part, start, stop, edges, columns, varying, axis, None,
            len(types["target"]), identity["nodes_sha256"], facts,
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


def _probe(rows: Rows, size: int, columns: Sequence[sonata.EdgeColumn]) -> frozenset[str]:
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
    if specs[0].sorted_file:
        specs[0].sorted_file.unlink()
    return summaries


def _run_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None
) -> list[RangeSummary]:
    total, done, summaries = specs[-1].stop, 0, []
    with ThreadPoolExecutor(min(resources.threads, len(specs))) as pool:
        try:
            for summary in pool.map(export_range, specs):
                summaries.append(summary)
                done += summary.stop - summary.start
                if progress:
                    progress("export", done, total, "rows")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return summaries


def _sorted_plan(spec: RangeSpec, resources: Resources) -> list[RangeSpec]:
    """Sort the rows by target and source out of core, where the file's order helps nothing."""
    sorted_file = spec.folder / "sorted.parquet"
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
    columns = _with_multiplicity(spec.population, spec.columns)

    def batches() -> Iterator[pa.RecordBatch]:
        with spec.population.reader() as rows:
            for start in range(0, size, _PROBE * 4):
                stop = min(start + _PROBE * 4, size)
                source, target = rows.node_ids(start, stop)
                arrays = [target, source, np.arange(start, stop, dtype=np.int64)]
                arrays += [rows.column(column, start, stop) for column in columns]
                yield pa.record_batch([pa.array(a) for a in arrays], schema=arrow_schema)

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
    population: sonata.EdgePopulation, columns: Sequence[sonata.EdgeColumn]
) -> list[sonata.EdgeColumn]:
    """Return the columns, and ``nsyns`` where the rows stand for several synapses."""
    extra = population.columns.get(MULTIPLICITY)
    return [*columns, extra] if extra is not None else list(columns)


def _write_manifest(
    stage: Path,
    edges: sonata.EdgePopulation,
    columns: Sequence[sonata.EdgeColumn],
    identity: Mapping[str, Any],
    summaries: Sequence[RangeSummary],
) -> None:
    """Write the manifest, which makes the folder a dataset."""
    varying = set().union(*(summary.varies for summary in summaries))
    profiles = {c.name: merged([s.profiles[c.name] for s in summaries]) for c in columns}
    roles = {c.name: profiles[c.name].role(c.dtype, c.labels) for c in columns}
    _warn(profiles, roles)
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
            name: "text with too many distinct values"
            for name, column in edges.columns.items()
            if column.dtype == "text"
        },
        "parts": [
            {"n_synapses": s.n_synapses, "n_connections": s.n_connections, "sha256": s.sha256}
            for s in summaries
        ],
        "tables": {
            name: sha256_of(stage / name)
            for name in ("types.parquet", "nodes.parquet", "node_sets.parquet")
        },
    }
    aside = stage / f".{MANIFEST}"
    with aside.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(stage / MANIFEST)


def _warn(profiles: Mapping[str, Profile], roles: Mapping[str, str]) -> None:
    """Say what in the data changes what is computed from it."""
    for name, profile in profiles.items():
        said = []
        if profile.n_not_finite:
            said.append(
                f"has {profile.n_not_finite:,} values that are NaN or infinite: "
                "they are left out of its statistics"
            )
        if profile.has_sentinel:
            said.append(
                f"is -1 in {profile.n_minus_one:,} places and else never negative: "
                "if -1 stands for 'none' there, leave the property out"
            )
        if roles[name] == "too large":
            said.append("has integers beyond 2^53, which statistics cannot hold exactly")
        for text in said:
            warnings.warn(f"property {name!r} {text}", ConnpropsWarning, stacklevel=5)


def _sync(folder: Path) -> None:
    """Make a folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
