"""Units of work: ranges of groups that are worked on together, here, by workers, or in shards.

The groups are cut into ranges whose rows fit in memory. Each is a small specification, from which
any process that sees the dataset's folder computes the same tables. In shards, the tables of each
finished unit are files, until all are merged. These are in the folder's ``.statistics.partial``,
with what :mod:`connprops.store.stage` has in each stage::

    pathways.parquet                        counted once, by the shard that came first
    buckets/00012.statistics.parquet, ...   each table of a finished bucket
    ranges/00003.correlations.parquet       of a finished range of pathways
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, TypeAlias
from uuid import uuid4

import numpy as np
import polars as pl
import pyarrow as pa

from connprops import schema
from connprops.arrays import Ints
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice, Groups
from connprops.display import Progress
from connprops.errors import DatasetError
from connprops.export.parts import ROW_GROUP
from connprops.resources import Resources, release_memory
from connprops.statistics.rows import (
    CONNECTIONS_AT_ONCE,
    DatasetRows,
    RowsAhead,
    RowSource,
    put_in_order,
)
from connprops.store.tables import read_table
from connprops.store.writing import leftover_of
from connprops.workers import number_of, of_each_worker, run_units

BYTES_OF_ENDS = 32
"""What a connection costs besides its properties: its nodes, its size, and their order."""

CONNECTIONS_AT_MOST = 100_000
"""Connections that the correlations of a group rest on, those with the smallest sampling keys:
their standard errors are below 0.004."""

_LEAST, _SHARE, _MOST_PER_THREAD = 1 << 27, 8, 1 << 27
"""Bytes that a unit may always take; its share of the memory, for sizes are guesses, and results
stay; and bytes for each thread, of two at least in all, beyond which joining more groups gains
nothing."""

_KEPT = 1 << 29
"""Bytes that a process may hold between two units, freed ones among them."""

_BYTES_OF_ROW = 1 << 10
"""Bytes of which a connection and its synapses, as they are read, take less."""

_READ_AHEAD_FROM = 1 << 31
"""Bytes of memory from which a unit is read while the one before is worked on."""

_UNITS_PER_WORKER = 4
"""Units for each worker, or some would wait for the last."""

_FILES_AT_MOST = 200
"""Files of a dataset that are kept open: a process may have a thousand, as a rule."""

_PASSES_AT_MOST = 8
"""Passes over all rows beyond which these are put in order on disk first."""

GroupTables: TypeAlias = dict[str, pa.Table]
"""What a unit gives: tables by name, keyed by ``group`` and ``property``.

Tables of Arrow, for there are many and small ones: a call of Polars takes a tenth of a millisecond
or more. They also cross processes, where pickling frames stops for ever now and then in Polars 2.1.
"""


def concat_tables(tables: Sequence[GroupTables]) -> GroupTables:
    """Return the tables of several properties as one each."""
    kinds = tables[0] if tables else ()
    return {kind: pa.concat_tables([of_kind[kind] for of_kind in tables]) for kind in kinds}


@dataclass(frozen=True)
class Unit:
    """A range of groups, and the properties of theirs that are worked on at once."""

    first: int
    stop: int
    properties: tuple[str, ...]
    on_disk: bool  # one group, whose rows are too many for memory
    n_connections: int


@dataclass(frozen=True)
class UnitSpec(ABC):
    """What is computed of units, as other processes can be sent it.

    ``choices`` say how nodes form groups; they differ in the nodes that take part. Rows of a unit
    are taken at once if ``in_memory``, else sampled as they are read. Groups of less than
    ``fewest`` synapses give nothing.
    """

    choices: tuple[Choice, ...]
    properties: tuple[str, ...]
    max_sample_size: int | None
    seed: int

    kind: ClassVar[str]
    unit_name: ClassVar[str]
    step: ClassVar[str]
    in_memory: ClassVar[bool]
    fewest: ClassVar[int]

    @abstractmethod
    def bytes_of(
        self, dataset: Dataset, sizes: pl.DataFrame, properties: Sequence[str], threads: int
    ) -> Ints:
        """Return the bytes that each group takes while some properties are worked on."""

    @abstractmethod
    def compute(
        self, rows: RowSource, groups: Sequence[Groups], unit: Unit, resources: Resources
    ) -> list[GroupTables]:
        """Return the tables of a unit, for each choice."""


def plan_units(
    dataset: Dataset, spec: UnitSpec, sizes: pl.DataFrame, resources: Resources, n_shards: int = 1
) -> list[Unit]:
    """Cut groups into units whose rows fit in a worker's memory, enough for all workers.

    ``sizes`` has the groups in order: ``group``, ``n_connections``, ``n_synapses``. Each
    of ``n_shards`` has as many workers.
    """
    at_least = _UNITS_PER_WORKER * number_of(resources.workers) * n_shards
    own = of_each_worker(resources)
    least, allowed = bytes_of_unit(own)
    cost = spec.bytes_of(dataset, sizes, spec.properties, own.threads)
    n_threads = own.threads if isinstance(resources.workers, int) else max(own.threads, 2)
    most = _MOST_PER_THREAD * n_threads
    share = min(allowed, max(least, min(most, int(cost.sum()) // at_least)))
    total = np.cumsum(cost)
    units: list[Unit] = []
    start = 0
    while start < total.size:
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + share, side="right")), start + 1)
        units += _units_of_range(dataset, spec, sizes[start:stop], own.threads, allowed)
        start = stop
    return units


def _units_of_range(
    dataset: Dataset, spec: UnitSpec, sizes: pl.DataFrame, threads: int, allowed: int
) -> list[Unit]:
    """Return the units of a range of groups, of as many properties at once as memory holds.

    The properties of a group that alone is too large are taken apart, as far as need be; where one
    of them is still too large, it is sorted on disk.
    """
    names = spec.properties
    at_once = len(names)

    def fits(properties: tuple[str, ...]) -> bool:
        cost = spec.bytes_of(dataset, sizes, properties, threads)
        return not spec.in_memory or bool(cost.sum() <= allowed)

    while at_once > 1 and not fits(names[:at_once]):
        at_once = (at_once + 1) // 2
    first, stop = int(sizes["group"][0]), int(sizes["group"][-1]) + 1
    n_connections = int(sizes["n_connections"].sum())
    parts = [names[i : i + at_once] for i in range(0, len(names), at_once)]
    return [Unit(first, stop, part, not fits(part), n_connections) for part in parts]


def bytes_of_unit(resources: Resources) -> tuple[int, int]:
    """Return the bytes that a unit may always take, and those that it may take at most."""
    return resources.unit_memory or (_LEAST, max(resources.memory // _SHARE, _LEAST // 2))


def bytes_at_once(
    dataset: Dataset, spec: UnitSpec, units: Sequence[Unit], resources: Resources
) -> int:
    """Return the bytes that a worker takes for the largest of some units, about."""
    threads = of_each_worker(resources).threads
    per_connection = dataset.n_synapses / max(dataset.n_connections, 1)
    n_connections = pl.Series("n_connections", [unit.n_connections for unit in units], pl.Int64)
    sizes = pl.DataFrame([n_connections, (n_connections * per_connection).alias("n_synapses")])
    costs = (
        spec.bytes_of(dataset, sizes[i : i + 1], unit.properties, threads).sum()
        for i, unit in enumerate(units)
    )
    return int(max(costs, default=0))


@dataclass(frozen=True)
class Task:
    """All that is needed to work on a unit, wherever the dataset's folder can be read."""

    folder: Path
    generation: str
    spec: UnitSpec
    unit: Unit
    resources: Resources
    rows: RowSource | None  # other than the dataset itself
    of_pass: str | None = None  # by which a process that works on several knows them again


_open_rows: dict[str, DatasetRows] = {}
"""The rows that this process, as a worker, reads in one pass."""


def compute_unit(task: Task) -> list[GroupTables]:
    """Return the tables of a unit, for each choice of nodes."""
    dataset = Dataset(task.folder, task.generation)
    groups = [choice.grouping(dataset).groups for choice in task.spec.choices]
    rows = task.rows or _open_rows.get(task.of_pass or "")
    if rows is None:
        _open_rows.clear()
        rows = _dataset_rows(dataset, any_of(groups), task.resources, keep=bool(task.of_pass))
        if task.of_pass:
            _open_rows[task.of_pass] = rows
    tables = task.spec.compute(rows, groups, task.unit, task.resources)
    # Or each unit would leave pieces that the next has no use for.
    release_memory(above=min(task.resources.memory // _SHARE, _KEPT))
    return tables


def compute_units(
    dataset: Dataset,
    spec: UnitSpec,
    units: Sequence[Unit],
    resources: Resources,
    progress: Progress | None,
) -> Iterator[tuple[int, list[GroupTables]]]:
    """Work on units; give each one's number and its tables for each choice, as they end."""
    own, n_properties = of_each_worker(resources), max(len(spec.properties), 1)
    weights = [unit.n_connections * max(len(unit.properties), 1) for unit in units]
    done = 0
    with ExitStack() as stack:
        shared = replace(own, workers=resources.workers)
        groups = any_of([choice.grouping(dataset).groups for choice in spec.choices])
        keep = groups.is_pathway and fits_one_pass(dataset, units, shared)
        rows = _rows_for(dataset, spec, groups, units, shared, stack, keep=keep)
        ahead = isinstance(rows, RowsAhead)  # one thread is busy with reading
        own = replace(own, workers=None, threads=own.threads - ahead)
        of_pass = uuid4().hex if keep else None
        tasks = [
            Task(dataset.folder, dataset.manifest.seal, spec, unit, own, rows, of_pass)
            for unit in units
        ]
        for i, tables in run_units(compute_unit, tasks, resources.workers, spec.unit_name):
            yield i, tables
            done += weights[i]
            if progress:
                total = sum(weights) // n_properties
                progress(spec.step, done // n_properties, total, "connections")


def _rows_for(
    dataset: Dataset,
    spec: UnitSpec,
    groups: Groups,
    units: Sequence[Unit],
    resources: Resources,
    stack: ExitStack,
    *,
    keep: bool,
) -> RowSource | None:
    """Return where units have their rows from; None for the dataset, which each opens itself."""
    ranges = list(dict.fromkeys((unit.first, unit.stop) for unit in units))
    apart = not keep and len(ranges) > 1 and lie_apart(dataset, groups, len(ranges), resources)
    if resources.workers is not None and not apart:
        return None
    rows = _dataset_rows(dataset, groups, resources, keep=keep)
    if apart:
        made = TemporaryDirectory(dir=resources.temp_dir, prefix="connprops-")
        folder = Path(stack.enter_context(made))
        return put_in_order(rows, ranges, spec.properties, folder)
    if not spec.in_memory or resources.threads == 1 or resources.memory < _READ_AHEAD_FROM:
        return rows
    requests = [(unit.first, unit.stop, unit.properties) for unit in units if not unit.on_disk]
    return stack.enter_context(RowsAhead(rows, requests))


def _dataset_rows(
    dataset: Dataset, groups: Groups, resources: Resources, *, keep: bool = False
) -> DatasetRows:
    at_once = min(max(bytes_of_unit(resources)[1] // _BYTES_OF_ROW, 1), CONNECTIONS_AT_ONCE)
    return DatasetRows(dataset, groups, at_once=at_once, threads=resources.threads, keep=keep)


def fits_one_pass(dataset: Dataset, units: Sequence[Unit], resources: Resources) -> bool:
    """Return whether pathways can be read in one pass: what it keeps of each part fits in memory.

    Processes of this machine make a pass each, in which they skip what others work on.
    """
    properties = {unit.properties for unit in units if not unit.on_disk}
    if not _are_here(resources) or len(properties) != 1:
        return False
    n_files = 2 * dataset.n_parts
    kept = n_files * ROW_GROUP * (BYTES_OF_ENDS + 8 * len(*properties))
    return n_files <= _FILES_AT_MOST and kept <= bytes_of_unit(resources)[1]


def lie_apart(dataset: Dataset, groups: Groups, n_ranges: int, resources: Resources) -> bool:
    """Return whether reading ranges of groups where they are takes many passes over all rows.

    A range of pathways takes at least one row group of each part. Workers elsewhere may not see
    what is put in order here, so their pathways are read in place in any case.
    """
    if not groups.is_pathway:
        return True
    if not _are_here(resources):
        return False
    of_range = min(ROW_GROUP * dataset.n_parts, dataset.n_connections)
    return n_ranges * of_range > _PASSES_AT_MOST * dataset.n_connections


def _are_here(resources: Resources) -> bool:
    """Return whether all workers are this process, or others of this machine."""
    return resources.workers is None or isinstance(resources.workers, int)


def any_of(several: Sequence[Groups]) -> Groups:
    """Return the groups with the nodes that any of several select."""
    return replace(
        several[0],
        source_code=np.maximum.reduce([groups.source_code for groups in several]),
        target_code=np.maximum.reduce([groups.target_code for groups in several]),
    )


TABLES_OF = {
    "buckets": (schema.STATISTICS, schema.HISTOGRAMS, schema.VALUES, schema.ORDER_STATISTICS),
    "ranges": (schema.CORRELATIONS,),
}
"""The tables that each kind of unit gives."""

PATHWAYS_FILE = "pathways.parquet"


def stage_target(folder: Path) -> Path:
    """Return the name whose stage holds what shards of a folder's statistics have finished."""
    return folder / "statistics"


def stage_of(folder: Path) -> Path:
    """Return the stage of a folder's statistics."""
    return leftover_of(stage_target(folder))


def is_finished(stage: Path, kind: str, i: int) -> bool:
    """Return whether the tables of a unit are there and intact."""
    try:
        for table in TABLES_OF[kind]:
            read_table(file_of_unit(stage, kind, i, table), table)
    except DatasetError:
        return False
    return True


def merged(stage: Path, table: schema.Table, empty: pl.DataFrame, n_units: int) -> pl.DataFrame:
    """Return a table of all units; ``empty`` has its columns."""
    if table is schema.PATHWAYS:
        return read_table(stage / PATHWAYS_FILE, table)[0]
    kind = next(kind for kind, tables in TABLES_OF.items() if table in tables)
    files = [file_of_unit(stage, kind, i, table) for i in range(n_units)]
    frames = (read_table(file, table)[0].cast(empty.schema) for file in files)
    return pl.concat([empty, *frames])


def file_of_unit(stage: Path, kind: str, i: int, table: schema.Table) -> Path:
    """Return the file of a table of a finished unit."""
    return stage / kind / f"{i:05d}.{table.name}.parquet"
