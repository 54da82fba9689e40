"""Where the statistics tables come from: files, or a dataset, aggregated as far as needed."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from connprops import schema
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice, Grouping
from connprops.progress import Progress
from connprops.resources import Resources
from connprops.statistics.bucket import Aggregates, BucketSpec
from connprops.statistics.units import Bucket, aggregate, aggregate_buckets, plan_buckets

_TABLES = (schema.STATISTICS, schema.HISTOGRAMS, schema.VALUES, schema.ORDER_STATISTICS)


class TableSource(ABC):
    """Where the tables come from: something that gives a table for properties and pathways."""

    def __init__(self, dtypes: Mapping[str, pl.DataType]) -> None:
        self.dtypes = dict(dtypes)

    @abstractmethod
    def keys(self) -> pl.DataFrame:
        """Return source_type, target_type of all pathways there are, as Enums."""

    @abstractmethod
    def collect(
        self, table: schema.Table, properties: Sequence[str], pathways: pl.DataFrame | None
    ) -> pl.DataFrame:
        """Return the table's rows of some properties and, unless None, some pathways."""

    def whole(self, table: schema.Table) -> pl.DataFrame:
        """Return a table whole; not through Polars, which hears of no signal while it works."""
        return self.collect(table, self._names, None)

    @property
    def _names(self) -> list[str]:
        """Return the names of the properties."""
        enum = self.dtypes["property"]
        return list(enum.categories) if isinstance(enum, pl.Enum) else []

    def lazy(self, table: schema.Table) -> pl.LazyFrame:
        """Return the table as a lazy frame, for which only what it needs is computed."""
        if table is schema.PATHWAYS:
            return self.collect(table, (), None).lazy()

        def scan(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,  # noqa: ARG001 - the tables are small
        ) -> Iterator[pl.DataFrame]:
            properties, pathways = self._needed(predicate)
            frame = self.collect(table, properties, pathways)
            if predicate is not None:
                frame = frame.filter(predicate)
            if n_rows is not None:
                frame = frame.head(n_rows)
            yield frame.select(with_columns) if with_columns is not None else frame

        return register_io_source(scan, schema=layout_of(table, self.dtypes), is_pure=True)

    def _needed(self, predicate: pl.Expr | None) -> tuple[list[str], pl.DataFrame | None]:
        """Return properties and pathways that can pass a filter; pathways None for all."""
        enum, names = self.dtypes["property"], self._names
        keys = {*schema.PATHWAY, "property"}
        if predicate is None or not set(predicate.meta.root_names()) <= keys:
            return names, None
        everything = self.keys().join(
            pl.DataFrame({"property": pl.Series(names, dtype=enum)}), how="cross"
        )
        kept = everything.filter(predicate)
        wanted = set(kept["property"].cast(pl.String))
        pathways = kept.select(schema.PATHWAY).unique(maintain_order=True)
        whole = len(pathways) == len(self.keys())
        return [name for name in names if name in wanted], None if whole else pathways


class StoredTables(TableSource):
    """Tables read back from files."""

    def __init__(
        self, dtypes: Mapping[str, pl.DataType], frames: Mapping[str, pl.DataFrame]
    ) -> None:
        super().__init__(dtypes)
        self._frames = frames

    def keys(self) -> pl.DataFrame:
        """Return the pathways of the stored table."""
        return self._frames["pathways"].select(schema.PATHWAY)

    def collect(
        self, table: schema.Table, properties: Sequence[str], pathways: pl.DataFrame | None
    ) -> pl.DataFrame:
        """Return a selection of the stored rows."""
        frame = self._frames[table.name]
        if properties and "property" in frame.columns:
            frame = frame.filter(pl.col("property").cast(pl.String).is_in(list(properties)))
        if pathways is not None:
            frame = frame.join(pathways, on=schema.PATHWAY, how="semi", maintain_order="left")
        return frame


_COMPUTING = threading.RLock()
"""Polars may ask for several tables at once; each computation takes all the memory allowed."""


@dataclass(frozen=True)
class _Computed:
    """Tables of some properties, in order."""

    properties: frozenset[str]
    tables: dict[str, pl.DataFrame]

    def of(self, table: schema.Table, properties: Sequence[str]) -> pl.DataFrame:
        """Return the rows of those of its properties that are asked for."""
        frame = self.tables[table.name]
        if self.properties <= set(properties):
            return frame
        return frame.filter(pl.col("property").cast(pl.String).is_in(list(properties)))


class ComputedTables(TableSource):
    """Tables computed from a dataset."""

    def __init__(
        self,
        dtypes: Mapping[str, pl.DataType],
        dataset: Dataset,
        choice: Choice,
        spec: BucketSpec,
        resources: Resources,
        progress: Progress | None,
    ) -> None:
        super().__init__(dtypes)
        self.dataset = dataset
        self._choice = choice
        self._grouping = choice.grouping(dataset)
        self._spec = spec
        self._resources = resources
        self._progress = progress
        self._done: list[_Computed] = []
        self.family = [self]
        """Others on the same dataset, computed in the same pass: folds of a cross-validation."""

    @cached_property
    def _pathways(self) -> pl.DataFrame:
        """One row per group with connections: its code, its types, and its counts."""
        counts = _count_groups(self.dataset, self._grouping)
        n_target = self._grouping.groups.n_target_codes
        group = pl.col("source_code").cast(pl.Int64) * n_target + pl.col("target_code")
        types = self._grouping.types
        sides = {
            side: types.filter(pl.col("side") == side).select(
                pl.col("code").alias(f"{side}_code"),
                pl.col("type").cast(self.dtypes[f"{side}_type"]).alias(f"{side}_type"),
                pl.col("synapse_class").cast(self.dtypes["source_class"]).alias(f"{side}_class"),
                pl.col("layer").cast(self.dtypes["source_layer"]).alias(f"{side}_layer"),
            )
            for side in ("source", "target")
        }
        limit, least = self._spec.max_sample_size, self._spec.min_sample_size
        sampled = pl.col("n_connections")
        if limit is not None:
            sampled = sampled.clip(upper_bound=limit)
        if least is not None:
            sampled = pl.when(pl.col("n_connections") >= least).then(sampled).otherwise(0)
        return (
            counts.join(sides["source"], on="source_code")
            .join(sides["target"], on="target_code")
            .with_columns(group.alias("group"), sampled.alias("n_sampled"))
            .sort("group")
        )

    def keys(self) -> pl.DataFrame:
        """Return the pathways that have statistics."""
        return self._pathways.filter(pl.col("n_sampled") > 0).select(schema.PATHWAY)

    def collect(
        self, table: schema.Table, properties: Sequence[str], pathways: pl.DataFrame | None
    ) -> pl.DataFrame:
        """Return what has been computed, and compute what has not."""
        if table is schema.PATHWAYS:
            return self._pathways.select(table.names)
        # One sort gives all tables. Pathways are few enough to keep them all; other groups may be
        # as many as connections, and then only what is asked for is made.
        together = _TABLES if self._grouping.groups.is_pathway else (table,)
        tables = [one for one in together if self._missing(one, properties)]
        if pathways is not None and self._missing(table, properties):
            wanted = self._pathways.join(pathways, on=schema.PATHWAY, how="semi")
            with _COMPUTING:
                return self._compute([self], properties, [wanted], tables)[0].tables[table.name]
        with _COMPUTING:
            missing = self._missing(table, properties)
            if missing:
                wanted_by = [one._pathways for one in self.family]  # noqa: SLF001 - its own kind
                computed = self._compute(self.family, missing, wanted_by, tables)
                for one, found in zip(self.family, computed, strict=True):
                    one._done.append(found)  # noqa: SLF001
        frames = [
            done.of(table, properties)
            for done in self._done
            if table.name in done.tables and not done.properties.isdisjoint(properties)
        ]
        if not frames:
            return self._empty(table)
        frame = frames[0] if len(frames) == 1 else pl.concat(frames).sort(table.keys)
        if pathways is not None:
            frame = frame.join(pathways, on=schema.PATHWAY, how="semi", maintain_order="left")
        return frame

    def take(self, tables: Mapping[str, pl.DataFrame]) -> None:
        """Take tables of all properties that have been computed before, for the same choice."""
        self._done.append(_Computed(frozenset(self._names), dict(tables)))

    def plan(self, n_shards: int) -> list[Bucket]:
        """Return the buckets in which all tables are computed, enough for so many shards."""
        names = self._all_properties
        return plan_buckets(self.dataset, names, self._sizes([self._sampled()]), self._resources,
                            n_shards)  # fmt: skip

    def of_buckets(
        self, buckets: Sequence[Bucket]
    ) -> Iterator[tuple[int, dict[str, pl.DataFrame]]]:
        """Compute all tables of some buckets; give each one's number and tables, as they end."""
        spec = replace(self._spec, properties=self._all_properties)
        names = self._sampled().select("group", *schema.PATHWAY)
        for i, (found,) in aggregate_buckets(
            self.dataset, [self._choice], spec, buckets, self._resources, self._progress
        ):
            yield i, {table.name: self._labelled([found], names, table) for table in _TABLES}

    @property
    def _all_properties(self) -> tuple[str, ...]:
        return tuple(name for name in self.dataset.properties if name in self._names)

    def _sampled(self) -> pl.DataFrame:
        return self._pathways.filter(pl.col("n_sampled") > 0)

    @staticmethod
    def _sizes(sampled: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Return the groups that several have, with the largest sizes of each."""
        counts = ("n_connections", "n_synapses")
        sizes = pl.concat([frame.select("group", *counts) for frame in sampled])
        return sizes.group_by("group").agg(pl.col(counts).max()).sort("group")

    def _missing(self, table: schema.Table, properties: Sequence[str]) -> list[str]:
        """Return the properties of which a table has not been computed yet."""
        there = {p for done in self._done if table.name in done.tables for p in done.properties}
        return [name for name in properties if name not in there]

    def _empty(self, table: schema.Table) -> pl.DataFrame:
        return pl.DataFrame(schema=layout_of(table, self.dtypes))

    def _compute(
        self,
        members: Sequence[ComputedTables],
        properties: Sequence[str],
        wanted: Sequence[pl.DataFrame],
        tables: Sequence[schema.Table],
    ) -> list[_Computed]:
        """Aggregate some properties of some pathways, for some of the family."""
        sampled = [frame.filter(pl.col("n_sampled") > 0) for frame in wanted]
        results = aggregate(
            self.dataset,
            [one._choice for one in members],  # noqa: SLF001
            replace(
                self._spec,
                properties=tuple(p for p in self.dataset.properties if p in properties),
                tables=tuple(table.name for table in tables),
            ),
            self._sizes(sampled),
            self._resources,
            self._progress,
        )
        found = []
        for one, of_member, frame in zip(members, results, sampled, strict=True):
            names = frame.select("group", *schema.PATHWAY)
            made = {table.name: one._labelled(of_member, names, table) for table in tables}  # noqa: SLF001
            found.append(_Computed(frozenset(properties), made))
        return found

    def _labelled(
        self, results: Sequence[Aggregates], names: pl.DataFrame, table: schema.Table
    ) -> pl.DataFrame:
        """Return a table of several buckets in order, with types in the place of group codes."""
        dtypes = layout_of(table, self.dtypes)
        pieces = [
            pl.DataFrame(of_bucket[table.name])
            .join(names, on="group")
            .select(pl.col(name).cast(dtype) for name, dtype in dtypes.items())
            for of_bucket in results
            if of_bucket
        ]
        whole: pl.DataFrame = pl.concat([self._empty(table), *pieces])
        return whole.sort(table.keys)


def _count_groups(dataset: Dataset, grouping: Grouping) -> pl.DataFrame:
    """Return connections and synapses of each pair of groups that selected connections join."""
    rows = pl.scan_parquet(dataset.files("connections"), glob=False)
    for side in ("source", "target"):
        codes = getattr(grouping.groups, f"{side}_code")
        selected = np.flatnonzero(codes >= 0)
        group = pl.LazyFrame({f"{side}_node": selected, f"{side}_code": codes[selected]})
        rows = rows.join(group.cast({f"{side}_node": pl.Int64}), on=f"{side}_node")
    pair = ("source_code", "target_code")
    return (
        rows.group_by(pair)
        .agg(
            pl.len().cast(pl.Int64).alias("n_connections"),
            pl.col(schema.N_SYN_PER_CONN).cast(pl.Int64).sum().alias("n_synapses"),
        )
        .sort(pair)
        .collect(engine="streaming")
    )


def layout_of(table: schema.Table, dtypes: Mapping[str, pl.DataType]) -> pl.Schema:
    """Return a table's columns with their types, where Enums name types and properties."""
    enums = {**dtypes, "other_property": dtypes["property"]}
    return table.polars_schema(**{name: enums[name] for name in table.names if name in enums})


def enums_of(types: pl.DataFrame, properties: Sequence[str]) -> dict[str, pl.DataType]:
    """Return the Enum of each column that names a type, class, layer or property."""

    def by_code(side: str) -> pl.Enum:
        return pl.Enum(types.filter(pl.col("side") == side).sort("code")["type"].to_list())

    def by_name(values: pl.Series) -> pl.Enum:
        return pl.Enum(values.drop_nulls().unique().sort().to_list())

    classes, layers = by_name(types["synapse_class"]), by_name(types["layer"])
    return {
        "source_type": by_code("source"),
        "target_type": by_code("target"),
        "source_class": classes,
        "target_class": classes,
        "source_layer": layers,
        "target_layer": layers,
        "property": pl.Enum(properties),
    }
