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
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

import connprops
from connprops import schema, sonata
from connprops.artifacts import replacing, sha256_of, write_text, writing
from connprops.edge_columns import CATEGORIES_AT_MOST, LEFT_OUT, EdgeColumn
from connprops.errors import CircuitError, ConnpropsWarning, DatasetError, OptionError, OutputError
from connprops.manifest import (
    MANIFEST,
    content_of,
    damage,
    read_manifest,
    read_source,
    write_manifest,
    write_source,
)
from connprops.node_types import Side, group_nodes, node_sets_of, node_tables
from connprops.parts import (
    ROW_GROUP,
    RangeSpec,
    RangeSummary,
    Rows,
    differs,
    export_range,
    varying_in,
)
from connprops.resources import Resources, release_memory
from connprops.shards import WHOLE, Shard
from connprops.sorted_copy import MULTIPLICITY, SortedRows, write_sorted
from connprops.staging import (
    keep_finished,
    keep_for_shards,
    one_at_a_time,
    put_in_place,
    staged,
    staged_shard,
)
from connprops.workers import run_units

ROWS_PER_PART = 1 << 21
"""Rows of the edge file in a part: small enough that several fit in memory at once."""

_BYTES_OF_ROW = 64
"""Bytes that ids, keys and orders of a row take while its part is written."""

_BYTES_OF_PROGRAM = 200 << 20
"""Bytes that the process takes before it reads anything: Polars, DuckDB, HDF5."""

_PROBE = 1 << 16
_CUTS = "cuts.json"
_PATHWAYS_AT_MOST = 2**31 - 1
"""Pathways that have a code of their own in 32 bits."""
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
    shard: str | tuple[int, int] | None = None,
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
    shard
        Write one share of the parts alone, ``(3, 20)`` or ``"3/20"``: what a job of an array does.
        They wait beside the folder; :func:`connprops.merge` makes the dataset when all are there.
        A shard that is run again goes on from its finished parts.
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
    if shard is not None:
        _check_shard(resume=resume, verify=verify)
        wanted = describe(circuit, population, source_type, target_type, properties)
        _export_shard(
            circuit, wanted, target, Shard.parse(shard), resources, progress, overwrite=overwrite
        )
        return target
    wanted = describe(circuit, population, source_type, target_type, properties, verify=verify)
    if not is_reusable(target, wanted, overwrite=overwrite):
        with staged(target) as stage:
            # Again: another process may have made it, or was killed while it put it in place.
            if not is_reusable(target, wanted, overwrite=overwrite):
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

    @property
    def depends_on(self) -> dict[str, Any]:
        """Return by name what finished parts are of: one that differs makes them useless."""
        return {**self.identity, "time of the edge file": self.state}


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
    n_pathways = len(sides["source"].types) * len(sides["target"].types)
    if n_pathways > _PATHWAYS_AT_MOST:
        raise OptionError.of(
            "There are too many types", found=f"{n_pathways:,} pathways",
            expected=f"at most {_PATHWAYS_AT_MOST:,}", hint="group by another attribute",
        )  # fmt: skip
    node_sets = node_sets_of(circuit, edges)
    identity = _identity(edges, sides, node_sets, columns)
    sha256 = edges.sha256() if verify else None
    return Wanted(edges, columns, sides, node_sets, identity, state, sha256)


def _write_dataset(
    wanted: Wanted, stage: Path, resources: Resources, progress: Progress | None, *, resume: bool
) -> None:
    """Write a dataset into the stage; go on from what is finished of it."""
    keep_finished(stage, wanted.depends_on, resume=resume)
    tables = write_node_tables(wanted, stage / "dataset")
    finish(wanted, stage, tables, _write_parts(plan(wanted, stage), resources, progress))


def finish(
    wanted: Wanted,
    stage: Path,
    tables: Mapping[str, Mapping[str, Any]],
    summaries: Sequence[RangeSummary],
) -> None:
    """Write what makes a folder of parts a dataset: its manifest."""
    if wanted.edges.state() != wanted.state:
        raise CircuitError.of(
            f"{wanted.edges.file} has changed while it was read",
            hint="export again when nobody writes it any more",
        )
    content = content_of(wanted.edges, wanted.columns, wanted.identity, tables, summaries)
    write_manifest(stage / "dataset", content)
    write_source(stage / "dataset", wanted.state, wanted.sha256)


def _check_shard(*, resume: bool, verify: bool) -> None:
    """Raise :class:`OptionError` for what cannot be asked of a shard."""
    if not resume:
        raise OptionError.of(
            "A shard always goes on from what is finished",
            found="resume=False (--no-resume)",
            hint="to begin anew, remove the folder .NAME.partial beside the dataset's",
        )
    if verify:
        raise OptionError.of(
            "A shard does not read all of the edge file",
            found="verify=True (--verify)",
            hint="connprops verify --circuit compares a dataset with its circuit",
        )


def _export_shard(
    circuit: sonata.Circuit,
    wanted: Wanted,
    target: Path,
    shard: Shard,
    resources: Resources,
    progress: Progress | None,
    *,
    overwrite: bool,
) -> None:
    """Write a shard's share of the parts into the stage, unless the dataset is there."""
    changed = differences(target, wanted)
    if changed == []:
        return
    if changed and not overwrite:
        raise _another(target, changed)
    asked = {
        "circuit": str(circuit.config.resolve()),
        "population": wanted.edges.name,
        "source_type": wanted.sides["source"].by,
        "target_type": wanted.sides["target"].by,
        "properties": [column.name for column in wanted.columns],
    }
    with staged_shard(target, shard) as stage:
        with one_at_a_time(stage):
            keep_for_shards(stage, wanted.depends_on, shard, asked)
            if not (stage / "dataset" / "nodes.parquet").is_file():
                write_node_tables(wanted, stage / "dataset")
            specs = plan(wanted, stage)
        _write_parts(specs, resources, progress, shard)


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


def is_reusable(target: Path, wanted: Wanted, *, overwrite: bool) -> bool:
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
    raise _another(target, changed)


def _another(target: Path, changed: Sequence[str]) -> OutputError:
    return OutputError.of(
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


def write_node_tables(wanted: Wanted, folder: Path) -> dict[str, dict[str, Any]]:
    """Write the tables of nodes; return the checksum and the number of rows of each."""
    for name in ("connections", "synapses"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        f"{name}.parquet": _write_rows(table, folder / f"{name}.parquet")
        for name, table in node_tables(wanted.sides, wanted.node_sets).items()
    }


def _write_rows(frame: pl.DataFrame, file: Path) -> dict[str, Any]:
    with replacing(file, overwrite=True) as aside:
        pq.write_table(frame.to_arrow(), aside, row_group_size=ROW_GROUP, compression="zstd")
    return {"sha256": sha256_of(file), "rows": len(frame)}


def plan(wanted: Wanted, stage: Path) -> list[RangeSpec]:
    """Cut the edge file into ranges; see which columns vary within connections."""
    edges, columns, identity = wanted.edges, wanted.columns, wanted.identity
    facts = json.dumps(
        {"schema_version": schema.VERSION, "population": edges.name, "identity": identity["edges"]},
        sort_keys=True,
    )
    notes = stage / "notes"
    notes.mkdir(exist_ok=True)
    with edges.reader() as rows:
        axis, cuts = _planned_cuts(rows, edges.size, stage / _CUTS)
        varying = _probe(rows, edges.size, columns)
    return [
        RangeSpec(
            stage / "dataset", notes, part, start, stop, edges, columns, varying, axis,
            None, len(wanted.sides["target"].types), identity["nodes_sha256"], facts,
        )
        for part, (start, stop) in enumerate(pairwise(cuts))
    ]  # fmt: skip


def _planned_cuts(rows: Rows, size: int, file: Path) -> tuple[str | None, list[int]]:
    """Return the axis and the cuts; kept, for to find them takes two reads a part."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return kept["axis"], kept["cuts"]
    except (OSError, ValueError, KeyError, TypeError):
        axis = _axis(rows, size)
        cuts = _cuts(rows, size, axis)
        write_text(file, json.dumps({"axis": axis, "cuts": cuts}), overwrite=True)
        return axis, cuts


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
    specs: list[RangeSpec],
    resources: Resources,
    progress: Progress | None,
    shard: Shard = WHOLE,
) -> list[RangeSummary]:
    """Write the parts of a shard, again with what was learnt where the plan was too simple."""
    specs = as_learnt(specs, resources)
    summaries = _run_parts(shard.share(specs), resources, progress)
    if not in_order(summaries):
        specs = as_learnt([replace(specs[0], axis="neither")], resources)
        summaries = _run_parts(shard.share(specs), resources, progress)
    varying = specs[0].varying.union(*(summary.varies for summary in summaries))
    if varying != specs[0].varying:
        specs = [replace(spec, varying=varying) for spec in specs]
        summaries = _run_parts(shard.share(specs), resources, progress)
    return summaries


def sort_first(stage: Path, size: int) -> None:
    """Note that the rows of a stage's edge file are in no order, for those who go on."""
    write_text(stage / _CUTS, json.dumps({"axis": "neither", "cuts": [0, size]}), overwrite=True)


def as_learnt(specs: list[RangeSpec], resources: Resources | None) -> list[RangeSpec]:
    """Return the plan with what has been learnt since, by whichever process.

    The rows may be in no order, and are then sorted; more columns may vary within connections.
    Without resources to sort with, what is not sorted yet stays as it is.
    """
    stage = specs[0].notes.parent
    sorted_file = stage / "sorted.parquet"
    if resources is not None and specs[0].axis == "neither":
        with one_at_a_time(stage):
            if not sorted_file.is_file():
                write_sorted(specs[0].population, specs[0].columns, sorted_file, resources)
    if sorted_file.is_file():
        specs = _sorted_plan(specs[0], sorted_file)
    varying = specs[0].varying | varying_in(specs[0].notes)
    return [replace(spec, varying=varying) for spec in specs]


def in_order(summaries: Sequence[RangeSummary]) -> bool:
    """Return whether no connection can be in two of the parts."""
    apart = all(a.last_key < b.first_key for a, b in pairwise(summaries))
    return apart and all(summary.ordered for summary in summaries)


def parts_at_once(
    rows: int, columns: Sequence[EdgeColumn], n_parts: int, resources: Resources
) -> tuple[int, int]:
    """Return how many parts a process writes at the same time, and the bytes that this takes.

    Parameters
    ----------
    rows
        Rows of the largest part.
    columns
        What is exported.
    n_parts
        Number of parts.
    resources
        Threads and memory, of which no more is taken; one part is written in any case.
    """
    values = sum(np.dtype(column.dtype).itemsize for column in columns)
    of_part = max(rows, 1) * (_BYTES_OF_ROW + 2 * values)  # in connections and in synapses
    allowed = (resources.memory - _BYTES_OF_PROGRAM) // of_part
    n = 1 if resources.workers is not None else max(1, min(resources.threads, n_parts, allowed))
    return n, _BYTES_OF_PROGRAM + n * of_part


def _run_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None
) -> list[RangeSummary]:
    if not specs:
        return []
    done, total, summaries = 0, sum(spec.stop - spec.start for spec in specs), []
    with closing(_exported(specs, resources)) as exported:
        for summary in exported:
            summaries.append(summary)
            done += summary.stop - summary.start
            if progress:
                progress("export", done, total, "rows")
    release_memory()  # statistics want it next
    return sorted(summaries, key=lambda summary: summary.part)


def _exported(specs: Sequence[RangeSpec], resources: Resources) -> Generator[RangeSummary]:
    """Write the parts, in threads of this process or where the resources say."""
    if resources.workers is not None:
        yield from (made for _, made in run_units(export_range, specs, resources.workers, "part"))
        return
    rows = max(spec.stop - spec.start for spec in specs)
    at_once, _ = parts_at_once(rows, specs[0].columns, len(specs), resources)
    with ThreadPoolExecutor(at_once) as pool:
        try:
            yield from pool.map(export_range, specs)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _sorted_plan(spec: RangeSpec, sorted_file: Path) -> list[RangeSpec]:
    """Cut the sorted copy of the rows into ranges, where the file's own order helps nothing."""
    size = spec.population.size
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
