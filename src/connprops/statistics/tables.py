"""Where the statistics tables come from: files, or a dataset, aggregated as far as needed."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from connprops import schema
from connprops.arrays.gather import run_rows, run_starts
from connprops.arrays.sorted_samples import MOMENTS, OF_LOGS, QUANTILES
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Grouping
from connprops.display import Progress
from connprops.errors import ConnpropsWarning, DatasetError
from connprops.pathways import enums_of, layout_of, pair_of_number
from connprops.resources import Resources
from connprops.statistics.bucket import BucketSpec
from connprops.statistics.correlations import CorrelationSpec
from connprops.statistics.group_tables import OF_CONNECTIONS
from connprops.statistics.units import (
    PATHWAYS_FILE,
    TABLES_OF,
    GroupTables,
    Unit,
    UnitSpec,
    compute_units,
    file_of_unit,
    is_finished,
    plan_units,
    stage_target,
)
from connprops.store.shards import Shard
from connprops.store.stage import asked_of_shards, keep_for_shards, one_at_a_time, staged_shard
from connprops.store.tables import write_table
from connprops.workers import started, with_processes

_KEYS = {*schema.PATHWAY, "property"}

HISTOGRAM_ROWS_AT_MOST = 1 << 25
"""Rows of histograms beyond which pathways of fewer values than bins have none."""

_VALUES_A_SECOND = 3e7
"""Values that a process aggregates, about."""

_ROWS_OF_PIECE = 1 << 13
"""Rows of a file that are read at once, where it is copied."""


_PLAIN_MOMENTS = [name for name in MOMENTS if name not in OF_LOGS]
_KINDS = [*map(frozenset, (_PLAIN_MOMENTS, OF_LOGS, QUANTILES, OF_CONNECTIONS, ("n_unique",)))]
"""Statistics that are computed together, or not at all where none of them is asked for."""


class ShownFrame(pl.LazyFrame):
    """A lazy frame that shows its first rows, which are computed for that, and not its plan."""

    @classmethod
    def of(cls, rows: pl.LazyFrame) -> ShownFrame:
        """Return a lazy frame as one that shows its rows; so do those made of it."""
        shown: ShownFrame = cls._from_pyldf(rows._ldf)  # type: ignore[assignment]  # noqa: SLF001
        return shown

    def __repr__(self) -> str:
        return f"{self.head().collect()!r}\nthe first rows; collect() gives all"

    __str__ = __repr__

    def _display_(self) -> pl.DataFrame:
        """Return what marimo shows."""
        return self.head().collect()

    def _repr_html_(self) -> str:
        return f"{self.head().collect()._repr_html_()}<p>The first rows; collect() gives all.</p>"


@dataclass(frozen=True)
class StoredTables:
    """Tables in files, by name."""

    scans: Mapping[str, pl.LazyFrame]
    dtypes: Mapping[str, pl.DataType]

    def whole(self, table: schema.Table) -> pl.DataFrame:
        """Return a table."""
        return self.lazy(table).collect()

    def lazy(self, table: schema.Table) -> pl.LazyFrame:
        """Return a table as a lazy frame."""
        if table.name not in self.scans:
            raise DatasetError.of(
                "These statistics were written without the correlations of properties",
                hint="write them with correlations=True, or extract --correlations",
            )
        return self.scans[table.name]

    def pieces(self, tables: Sequence[schema.Table]) -> Iterator[tuple[schema.Table, pl.DataFrame]]:
        """Give tables piece by piece, each in the order of its keys."""
        for table in tables:
            yield from ((table, piece) for piece in pieces_of(self.lazy(table)))


def pieces_of(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """Give the rows of a file piece by piece, in order."""
    return iter(rows.collect_batches(chunk_size=_ROWS_OF_PIECE, maintain_order=True))


class ComputedTables:
    """Tables computed from a dataset, as they are asked for, of one choice of nodes.

    ``together`` are those of several choices that are computed in the same pass.
    """

    def __init__(
        self,
        dataset: Dataset,
        buckets: BucketSpec,
        correlations: CorrelationSpec,
        resources: Resources,
        progress: Progress | None,
    ) -> None:
        self.dataset = dataset
        self.buckets = buckets
        self.correlations = correlations
        (choice,) = buckets.choices
        self.grouping = choice.grouping(dataset)
        self.dtypes = enums_of(self.grouping.types, buckets.properties)
        self.together: Sequence[ComputedTables] = [self]
        self.lock = threading.RLock()
        self._allowed = resources
        self._progress = progress
        self.computed: list[tuple[frozenset[str], dict[str, pl.DataFrame]]] = []
        self.partly: list[tuple[frozenset[str], frozenset[str], pl.DataFrame]] = []
        self.stored: dict[str, pl.LazyFrame] = {}

    @cached_property
    def resources(self) -> Resources:
        """What works: processes of this machine, too, where that is worth it."""
        n_nodes, dataset = len(self.dataset.numbered_nodes), self.dataset
        share = (float(self.grouping.types["n_nodes"].sum()) / max(n_nodes, 1)) ** 2
        varies = {column.name for column in dataset.columns if column.varies}
        n_varying = len(varies.intersection(self.buckets.properties))
        n_values = n_varying * dataset.n_synapses
        n_values += (len(self.buckets.properties) - n_varying) * dataset.n_connections
        return with_processes(self._allowed, share * n_values / _VALUES_A_SECOND)

    def compute_with(self, others: Sequence[ComputedTables]) -> None:
        """Compute in one pass what any of several is asked for: folds of a cross-validation."""
        self.together, self.lock = others, others[0].lock

    @cached_property
    def pathways(self) -> pl.DataFrame:
        """One row per group with connections: its number, its types, and its counts."""
        counts = _count_groups(self.dataset, self.grouping)
        n_target = self.grouping.groups.n_target_codes
        group = pl.col("source_code").cast(pl.Int64) * n_target + pl.col("target_code")
        for side in ("source", "target"):
            types = self.grouping.types.filter(pl.col("side") == side)
            columns = {"code": "code", "type": "type", "synapse_class": "class", "layer": "layer"}
            names = types.select([*columns]).rename({k: f"{side}_{v}" for k, v in columns.items()})
            names = names.cast({n: t for n, t in self.dtypes.items() if n in names.columns})
            counts = counts.join(names, on=f"{side}_code")
        limit, least = self.buckets.max_sample_size, self.buckets.min_sample_size
        sampled = pl.col("n_connections")
        if limit is not None:
            sampled = sampled.clip(upper_bound=limit)
        if least is not None:
            sampled = pl.when(pl.col("n_connections") >= least).then(sampled).otherwise(0)
        return counts.with_columns(group.alias("group"), sampled.alias("n_sampled")).sort("group")

    def whole(self, table: schema.Table) -> pl.DataFrame:
        """Return a table whole; not through Polars, which hears of no signal while it works."""
        return self._collect(table, self.buckets.properties)

    def lazy(self, table: schema.Table) -> pl.LazyFrame:
        """Return a table as a lazy frame, for which only properties that it needs are computed."""
        if table is schema.PATHWAYS:
            return self.whole(table).lazy()
        if table.name in self.stored:
            return self.stored[table.name]

        def scan(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,  # noqa: ARG001 - the tables are small
        ) -> Iterator[pl.DataFrame]:
            names, columns = self._needed(predicate), set(with_columns or table.names)
            columns |= set() if predicate is None else set(predicate.meta.root_names())
            frame = self._some_statistics(names, columns) if table is schema.STATISTICS else None
            if frame is None:
                frame = self._collect(table, names)
            if predicate is not None:
                frame = frame.filter(predicate)
            if n_rows is not None:
                frame = frame.head(n_rows)
            yield frame.select(with_columns) if with_columns is not None else frame

        return register_io_source(scan, schema=layout_of(table, self.dtypes), is_pure=True)

    def _needed(self, predicate: pl.Expr | None) -> tuple[str, ...]:
        """Return the properties that can pass a filter of properties and types."""
        names = self.buckets.properties
        columns = set() if predicate is None else set(predicate.meta.root_names())
        if predicate is None or "property" not in columns or columns - _KEYS:
            return names
        keys = pl.DataFrame({"property": pl.Series(names, dtype=self.dtypes["property"])})
        if columns != {"property"}:
            keys = keys.join(self.pathways.select(schema.PATHWAY), how="cross")
        passing = set(keys.filter(predicate)["property"].cast(pl.String))
        return tuple(name for name in names if name in passing)

    def _collect(self, table: schema.Table, properties: Sequence[str]) -> pl.DataFrame:
        """Return rows of some properties; what has not been computed is computed first."""
        if table is schema.PATHWAYS:
            return self.pathways.select(table.names)
        if table.name in self.stored:
            of_names = pl.col("property").cast(pl.String).is_in([*properties])
            return self.stored[table.name].filter(of_names).collect()
        with self.lock:  # Polars may ask for several tables at once
            there = {p for names, frames in self.computed if table.name in frames for p in names}
            missing = [name for name in properties if name not in there]
            if table is schema.CORRELATIONS and missing:  # pairs of all properties
                made = self._compute([self], self.correlations, [table])
                self.computed.append((frozenset(self.buckets.properties), made[0]))
            elif missing:
                self._compute_buckets(table, missing)
        frames = [
            frames[table.name].filter(pl.col("property").cast(pl.String).is_in([*properties]))
            if names - set(properties)
            else frames[table.name]
            for names, frames in self.computed
            if table.name in frames and not names.isdisjoint(properties)
        ]
        if len(frames) == 1:
            return frames[0]
        return pl.concat([self._empty(table), *frames]).sort(table.keys)

    def _some_statistics(
        self, properties: Sequence[str], columns: AbstractSet[str]
    ) -> pl.DataFrame | None:
        """Return rows of some properties, in which columns of kinds not asked for are null.

        None where all are asked for or there already, or only counts, which come with any; and
        where there is nothing to compute.
        """
        kinds = [kind for kind in _KINDS if not columns.isdisjoint(kind)]
        asked, known, name = frozenset(chain(*kinds)), frozenset(properties), "statistics"
        is_there = name in self.stored or name in self._there(properties)
        if not properties or len(kinds) in (0, len(_KINDS)) or is_there or len(self.together) > 1:
            return None
        with self.lock:
            for names, there, frame in self.partly:
                if known <= names and asked <= there:
                    return frame.filter(pl.col("property").cast(pl.String).is_in([*properties]))
            spec = replace(self.buckets, tables=(name,), properties=(*properties,), columns=asked)
            (made,) = self._compute([self], spec, [schema.STATISTICS])
            self.partly.append((known, asked, made[name]))
            return made[name]

    def take(self, table: schema.Table, rows: pl.LazyFrame) -> None:
        """Take a table of all properties from a file of the same choice."""
        self.stored[table.name] = rows

    def pieces(self, tables: Sequence[schema.Table]) -> Iterator[tuple[schema.Table, pl.DataFrame]]:
        """Give tables piece by piece, each in the order of its keys; keep nothing of them.

        What has been computed or is in files already is taken from there.
        """
        missing = {}
        for table in tables:
            if table is schema.PATHWAYS or table.name in self._there(self.buckets.properties):
                yield table, self.whole(table)
            elif table.name in self.stored:
                yield from ((table, piece) for piece in pieces_of(self.stored[table.name]))
            else:
                missing[table.name] = table
        for spec in (self.buckets, self.correlations):
            of_spec = [table for table in TABLES_OF[spec.kind] if table.name in missing]
            if of_spec:
                yield from self._computed_pieces(self._for_tables(spec, of_spec), of_spec)

    def _there(self, properties: Sequence[str]) -> set[str]:
        """Return the names of the tables that are in memory for all of some properties."""
        names = {name for _, frames in self.computed for name in frames}
        return {
            name
            for name in names
            if {*properties} <= {p for of, frames in self.computed if name in frames for p in of}
        }

    def _computed_pieces(
        self, spec: UnitSpec, tables: Sequence[schema.Table]
    ) -> Iterator[tuple[schema.Table, pl.DataFrame]]:
        """Compute tables; give their rows range by range of groups, which are their order."""
        with started(self.resources, BucketSpec.__module__):  # as soon as possible
            units = plan_units(self.dataset, spec, self.sampled(spec), self.resources)
            ranges = deque(len(list(of_range)) for _, of_range in groupby(units, lambda u: u.first))
            waiting: dict[int, GroupTables] = {}
            first = 0
            for number, (made,) in compute_units(
                self.dataset, spec, units, self.resources, self._progress
            ):
                waiting[number] = made
                while ranges and all(i in waiting for i in range(first, first + ranges[0])):
                    of_units = [waiting.pop(i) for i in range(first, first + ranges[0])]
                    yield from ((table, self.labelled(of_units, table)) for table in tables)
                    first += ranges.popleft()

    def plan(self, spec: UnitSpec, n_shards: int) -> list[Unit]:
        """Return the units in which all tables are computed, enough for so many shards."""
        return plan_units(self.dataset, spec, self.sampled(spec), self.resources, n_shards)

    def write_shard(
        self, folder: Path, shard: Shard, facts: Mapping[str, Any], *, correlations: bool
    ) -> list[Path]:
        """Compute what is not finished of a shard's share; return the files of the whole share.

        ``facts`` are those of the tables' metadata.
        """
        buckets = self._for_tables(self.buckets, TABLES_OF[self.buckets.kind])
        specs: list[UnitSpec] = [buckets, *([self.correlations] if correlations else [])]
        plan = {**facts["options"], "dataset": facts["identity"], "correlations": correlations}
        files = []
        with staged_shard(stage_target(folder), shard) as stage:
            with one_at_a_time(stage):
                # The plan is made once, for it must not depend on the machine of each shard.
                asked = asked_of_shards(stage) or {
                    "facts": dict(facts),
                    **{s.kind: [asdict(unit) for unit in self.plan(s, shard.of)] for s in specs},
                }
                keep_for_shards(stage, plan, shard, asked)
                if not (stage / PATHWAYS_FILE).is_file():
                    pathways = self.whole(schema.PATHWAYS)
                    write_table(pathways, schema.PATHWAYS, stage / PATHWAYS_FILE)
            for spec in specs:
                units = msgspec.convert(asked[spec.kind], list[Unit])
                own = shard.share(range(len(units)))
                self._write_units(stage, spec, units, own)
                tables = TABLES_OF[spec.kind]
                files += [file_of_unit(stage, spec.kind, i, table) for i in own for table in tables]
        return files

    def _write_units(
        self, stage: Path, spec: UnitSpec, units: Sequence[Unit], own: Sequence[int]
    ) -> None:
        """Write the tables of those of a shard's ``own`` units that are not finished."""
        left = [i for i in own if not is_finished(stage, spec.kind, i)]
        if not left:
            return
        for at, (tables,) in compute_units(
            self.dataset, spec, [units[i] for i in left], self.resources, self._progress
        ):
            for table in TABLES_OF[spec.kind]:
                file = file_of_unit(stage, spec.kind, left[at], table)
                write_table(self.labelled([tables], table), table, file, overwrite=True)

    def _compute_buckets(self, table: schema.Table, missing: Sequence[str]) -> None:
        """Aggregate some properties, for all that are computed together."""
        # One sort gives all tables. Pathways are few enough to keep them all, but histograms, which
        # take as long as all else, are made only with what is asked of them; other groups may be as
        # many as connections, and then only what is asked for is made.
        tables = [table]
        if self.grouping.groups.is_pathway:
            there = {t for names, frames in self.computed for t in frames if names & {*missing}}
            there |= self.stored.keys() | ({schema.HISTOGRAMS.name} - {table.name})
            tables = [t for t in TABLES_OF["buckets"] if t.name not in there]
        spec = replace(
            self._for_tables(self.buckets, tables),
            choices=tuple(fold.buckets.choices[0] for fold in self.together),
            properties=tuple(missing),
        )
        for fold, made in zip(
            self.together, self._compute(self.together, spec, tables), strict=True
        ):
            fold.computed.append((frozenset(missing), made))

    def _for_tables(self, spec: UnitSpec, tables: Sequence[schema.Table]) -> UnitSpec:
        """Return what to compute where only some tables are asked for."""
        if isinstance(spec, BucketSpec):
            names = tuple(table.name for table in tables)
            least = self._histogram_from if schema.HISTOGRAMS.name in names else 1
            return replace(spec, tables=names, histogram_from=least)
        return spec

    @cached_property
    def _histogram_from(self) -> int:
        """Return how many values a pathway with a histogram has at least; say so, if several.

        A few values say all by themselves; a histogram of each of millions would say it again, in
        gigabytes.
        """
        n, bins = len(self.sampled(self.buckets)), self.buckets.bins
        n_bins = bins if isinstance(bins, int) else len(bins) - 1
        rows = n * len(self.buckets.properties) * n_bins
        if rows <= HISTOGRAM_ROWS_AT_MOST:
            return 1
        warnings.warn(
            f"histograms are of pathways with {n_bins} values and more: of all {n:,} there "
            f"would be {rows:,} rows; order_statistics has the values of the others",
            ConnpropsWarning,
            stacklevel=2,
        )
        return n_bins

    def _compute(
        self, members: Sequence[ComputedTables], spec: UnitSpec, tables: Sequence[schema.Table]
    ) -> list[dict[str, pl.DataFrame]]:
        """Return tables, for each of those that are computed together."""
        sizes = pl.concat([fold.sampled(spec) for fold in members])
        counts = pl.col("n_connections", "n_synapses").max()
        sizes = sizes.group_by("group").agg(counts).sort("group")
        units = plan_units(self.dataset, spec, sizes, self.resources)
        made = dict(compute_units(self.dataset, spec, units, self.resources, self._progress))
        in_order = [made[i] for i in range(len(units))]
        return [
            {t.name: fold.labelled([of_unit[i] for of_unit in in_order], t) for t in tables}
            for i, fold in enumerate(members)
        ]

    def sampled(self, spec: UnitSpec) -> pl.DataFrame:
        """Return the sizes of the groups that units have something to compute of."""
        sampled = self.pathways.filter(pl.col("n_sampled") > 0, pl.col("n_synapses") >= spec.fewest)
        return sampled.select("group", "n_connections", "n_synapses")

    def labelled(self, results: Sequence[GroupTables], table: schema.Table) -> pl.DataFrame:
        """Return a table of several units in order, with types in the place of group numbers."""
        made = [tables[table.name] for tables in results if tables]
        if not made:
            return self._empty(table)
        rows = pl.DataFrame(pa.concat_tables(made))
        # Rows of a pathway and property are together, and in order: these are what is sorted.
        group = rows["group"].to_numpy()
        code = rows["property"].cast(pl.Categorical()).to_physical().to_numpy()
        starts = run_starts(group, code)
        counts = np.diff(starts, append=group.size)
        of_runs = np.searchsorted(self._names["group"].to_numpy(), group[starts])
        names = self._names.select(schema.PATHWAY)[of_runs].with_columns(
            rows["property"][starts].cast(self.dtypes["property"])
        )
        order = np.lexsort((names["property"].to_physical().to_numpy(), of_runs))
        if (order[1:] < order[:-1]).any():
            rows = rows[run_rows(starts[order], counts[order])]
        names = names[np.repeat(order, counts[order])]
        whole = rows.with_columns(names).select(
            pl.col(name).cast(dtype) for name, dtype in layout_of(table, self.dtypes).items()
        )
        return whole.sort(table.keys) if table is schema.CORRELATIONS else whole

    @cached_property
    def _names(self) -> pl.DataFrame:
        """Return the types of all groups that have statistics, in their order."""
        return self.pathways.filter(pl.col("n_sampled") > 0).select("group", *schema.PATHWAY)

    def _empty(self, table: schema.Table) -> pl.DataFrame:
        return pl.DataFrame(schema=layout_of(table, self.dtypes))


def _count_groups(dataset: Dataset, grouping: Grouping) -> pl.DataFrame:
    """Return connections and synapses of each pair of groups that selected connections join."""
    rows = pl.scan_parquet(dataset.files("connections"), glob=False)
    pair = ("source_code", "target_code")
    whole = grouping.types["n_nodes"].sum() == len(dataset.numbered_nodes)
    if by_pathway := grouping.groups.is_pathway and whole:  # which each row has
        counted = rows.group_by("pathway")
    else:
        for side in ("source", "target"):
            codes = getattr(grouping.groups, f"{side}_code")
            selected = np.flatnonzero(codes >= 0)
            group = pl.LazyFrame({f"{side}_node": selected, f"{side}_code": codes[selected]})
            rows = rows.join(group.cast({f"{side}_node": pl.Int64}), on=f"{side}_node")
        counted = rows.group_by(pair)
    counts = counted.agg(
        pl.len().cast(pl.Int64).alias("n_connections"),
        pl.col(schema.N_SYN_PER_CONN).cast(pl.Int64).sum().alias("n_synapses"),
    ).collect(engine="streaming")
    if by_pathway:
        source, target = pair_of_number(pl.col("pathway"), grouping.groups.n_target_codes)
        counts = counts.select(
            source.alias("source_code"), target.alias("target_code"), pl.exclude("pathway")
        )
    return counts.sort(pair)
