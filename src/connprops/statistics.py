"""Statistics of every property of every pathway: `extract`, lazy and exact.

The tables are lazy frames. When one is collected, only the properties and pathways that it
needs are aggregated (:mod:`connprops.aggregate`), bucket by bucket; what has been computed for
whole properties is kept.
"""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from connprops import relations, schema
from connprops.aggregate import Aggregates, BucketSpec, aggregate_bucket
from connprops.artifacts import read_table, write_table
from connprops.dataset import Dataset, DatasetColumn, open_circuit
from connprops.errors import DatasetError, OptionError
from connprops.export import MANIFEST, Progress
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.selection import Grouping, Selection, group_selected, plain

if TYPE_CHECKING:
    import bluepysnap

_NOT_BY_DEFAULT = ("@", "delay", "afferent", "efferent", "spine_length")
_BYTES_PER_VALUE = 48
"""What one value costs at the height of its aggregation: itself, a copy, and float64 work."""

TABLES = ("pathways", "statistics", "histograms", "values", "order_statistics")


@dataclass(frozen=True)
class Property:
    """A property: its name, the type of its values, its unit."""

    name: str
    dtype: str
    unit: str


class Statistics:
    """Statistics of the properties of pathways, as lazy frames.

    Attributes
    ----------
    properties : tuple of Property
        Those that were asked for; ``n_syn_per_conn`` last.
    types : polars.DataFrame
        Types of both sides, with the number of selected nodes.
    options, identity : dict
        What was asked for, of which data.
    """

    def __init__(
        self,
        properties: tuple[Property, ...],
        types: pl.DataFrame,
        source: _Source,
        *,
        options: Mapping[str, Any],
        identity: Mapping[str, Any],
    ) -> None:
        self.properties = properties
        self.types = types
        self.options = dict(options)
        self.identity = dict(identity)
        self._source = source

    @property
    def pathways(self) -> pl.LazyFrame:
        """Return one row per pathway: :data:`connprops.schema.PATHWAYS`."""
        return self._source.lazy(schema.PATHWAYS)

    @property
    def table(self) -> pl.LazyFrame:
        """Return one row per pathway and property: :data:`connprops.schema.STATISTICS`."""
        return self._source.lazy(schema.STATISTICS)

    @property
    def histograms(self) -> pl.LazyFrame:
        """Return one row per pathway, property and bin: :data:`connprops.schema.HISTOGRAMS`."""
        return self._source.lazy(schema.HISTOGRAMS)

    @property
    def values(self) -> pl.LazyFrame:
        """Return distinct values where they are few: :data:`connprops.schema.VALUES`."""
        return self._source.lazy(schema.VALUES)

    @property
    def order_statistics(self) -> pl.LazyFrame:
        """Return sorted, thinned samples: :data:`connprops.schema.ORDER_STATISTICS`."""
        return self._source.lazy(schema.ORDER_STATISTICS)

    @property
    def dataset(self) -> Dataset | None:
        """Return the dataset that these statistics are computed from; None if read from files."""
        return self._source.dataset if isinstance(self._source, _Computed) else None

    @property
    def source_types(self) -> list[str]:
        """Return the source types in order."""
        return self.types.filter(pl.col("side") == "source").sort("code")["type"].to_list()

    @property
    def target_types(self) -> list[str]:
        """Return the target types in order."""
        return self.types.filter(pl.col("side") == "target").sort("code")["type"].to_list()

    def facts(self) -> dict[str, Any]:
        """Return what the files' metadata says of these statistics."""
        return {
            "identity": self.identity,
            "options": self.options,
            "properties": [[p.name, p.dtype, p.unit] for p in self.properties],
            "types": self.types.rows(),
        }

    def write(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write all tables as Parquet into a folder; return the files.

        Raises
        ------
        OutputError
            Where a file is there already and ``overwrite`` is false, or cannot be written.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        files = []
        for name in TABLES:
            frame = self._source.lazy(schema.TABLES[name]).collect()
            files.append(place / f"{name}.parquet")
            write_table(
                frame, schema.TABLES[name], files[-1], overwrite=overwrite, facts=self.facts()
            )
        return files

    def to_arrays(self) -> dict[str, Any]:
        """Return the dictionaries of connectome-manipulator's ``extract``.

        See :func:`connprops.compat.arrays.to_arrays`.
        """
        from connprops.compat.arrays import to_arrays

        return to_arrays(self)

    def __repr__(self) -> str:
        return (
            f"<Statistics of {len(self.properties)} properties, "
            f"{len(self.source_types)} x {len(self.target_types)} types>"
        )

    def _repr_html_(self) -> str:
        head = self.table.head(10).collect()
        names = ", ".join(html.escape(p.name) for p in self.properties)
        return f"<p><b>Statistics</b> of {names}</p>{head._repr_html_()}"


class _Source(ABC):
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

    def lazy(self, table: schema.Table) -> pl.LazyFrame:
        """Return the table as a lazy frame, for which only what it needs is computed."""
        dtypes = self.dtypes
        if table is schema.PATHWAYS:
            return self.collect(table, (), None).lazy()
        layout = table.polars_schema(**{k: v for k, v in dtypes.items() if k in table.names})

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

        return register_io_source(scan, schema=layout, is_pure=True)

    def _needed(self, predicate: pl.Expr | None) -> tuple[list[str], pl.DataFrame | None]:
        """Return properties and pathways that can pass a filter; pathways None for all."""
        enum = self.dtypes["property"]
        names = list(enum.categories) if isinstance(enum, pl.Enum) else []
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


class _Stored(_Source):
    """Tables read back from files."""

    def __init__(
        self, dtypes: Mapping[str, pl.DataType], frames: Mapping[str, pl.DataFrame]
    ) -> None:
        super().__init__(dtypes)
        self._frames = frames

    def keys(self) -> pl.DataFrame:
        return self._frames["pathways"].select(schema.PATHWAY)

    def collect(
        self, table: schema.Table, properties: Sequence[str], pathways: pl.DataFrame | None
    ) -> pl.DataFrame:
        frame = self._frames[table.name]
        if properties and "property" in frame.columns:
            frame = frame.filter(pl.col("property").cast(pl.String).is_in(list(properties)))
        if pathways is not None:
            frame = frame.join(pathways, on=schema.PATHWAY, how="semi", maintain_order="left")
        return frame


class _Computed(_Source):
    """Tables computed from a dataset."""

    def __init__(
        self,
        dtypes: Mapping[str, pl.DataType],
        dataset: Dataset,
        grouping: Grouping,
        spec: BucketSpec,
        resources: Resources,
        progress: Progress | None,
    ) -> None:
        super().__init__(dtypes)
        self.dataset = dataset
        self._grouping = grouping
        self._spec = spec
        self._resources = resources
        self._progress = progress
        self._done: dict[str, dict[str, pl.DataFrame]] = {}  # by property, then table
        self.family = [self]
        """Others on the same dataset, computed in the same pass: folds of a cross-validation."""

    @cached_property
    def _pathways(self) -> pl.DataFrame:
        """One row per group with connections: its code, its types, and its counts."""
        counts = _count_groups(self.dataset, self._grouping, self._resources)
        group = pl.col("source_code").cast(pl.Int64) * self._grouping.n_target + pl.col(
            "target_code"
        )
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
        return self._pathways.filter(pl.col("n_sampled") > 0).select(schema.PATHWAY)

    def collect(
        self, table: schema.Table, properties: Sequence[str], pathways: pl.DataFrame | None
    ) -> pl.DataFrame:
        if table is schema.PATHWAYS:
            return self._pathways.select(table.names)
        missing = [name for name in properties if name not in self._done]
        if pathways is not None and missing:
            wanted = self._pathways.join(pathways, on=schema.PATHWAY, how="semi")
            frame = self._compute([self], properties, [wanted])[0][table.name]
        else:
            if missing:
                wanted_by = [one._pathways for one in self.family]  # noqa: SLF001 - its own kind
                computed = self._compute(self.family, missing, wanted_by)
                for one, tables in zip(self.family, computed, strict=True):
                    one._keep(tables, missing)  # noqa: SLF001
            frames = [self._done[name][table.name] for name in properties]
            frame = pl.concat(frames) if frames else self._empty(table)
            if pathways is not None:
                frame = frame.join(pathways, on=schema.PATHWAY, how="semi")
        return frame.sort([key for key in table.keys if key in frame.columns])

    def _empty(self, table: schema.Table) -> pl.DataFrame:
        return pl.DataFrame(schema=table.polars_schema(
            **{k: v for k, v in self.dtypes.items() if k in table.names}
        ))  # fmt: skip

    def _keep(self, frames: Mapping[str, pl.DataFrame], properties: Sequence[str]) -> None:
        for name in properties:
            self._done[name] = {
                table: frame.filter(pl.col("property") == name) for table, frame in frames.items()
            }

    def _compute(
        self,
        members: Sequence[_Computed],
        properties: Sequence[str],
        wanted: Sequence[pl.DataFrame],
    ) -> list[dict[str, pl.DataFrame]]:
        """Aggregate some properties of some pathways, bucket by bucket, for some of the family."""
        ordered = tuple(p for p in self.dataset.properties if p in properties)
        sampled = [frame.filter(pl.col("n_sampled") > 0) for frame in wanted]
        counts = ("n_connections", "n_synapses")
        sizes = pl.concat([frame.select("group", *counts) for frame in sampled])
        largest = sizes.group_by("group").agg(pl.col(counts).max()).sort("group")
        results: list[list[Aggregates]] = [[] for _ in members]
        total, done = int(largest["n_connections"].sum()), 0
        for first, stop in self._buckets(largest, ordered):
            specs = [
                replace(one._spec, first=first, stop=stop, properties=ordered)  # noqa: SLF001
                for one in members
            ]
            found = aggregate_bucket(self.dataset, specs, self._resources.threads)
            for of_member, aggregates in zip(results, found, strict=True):
                of_member.append(aggregates)
            inside = largest.filter((pl.col("group") >= first) & (pl.col("group") < stop))
            done += int(inside["n_connections"].sum())
            if self._progress:
                self._progress("extract", done, total, "connections")
        return [
            one._labelled(of_member, frame)  # noqa: SLF001
            for one, of_member, frame in zip(members, results, sampled, strict=True)
        ]

    def _buckets(self, wanted: pl.DataFrame, properties: Sequence[str]) -> list[tuple[int, int]]:
        """Cut the groups into ranges whose rows fit into the memory allowed."""
        varies = any(c.varies and c.name in properties for c in self.dataset.columns)
        per_connection = _BYTES_PER_VALUE * self._resources.threads + 8 * len(properties) + 64
        cost = wanted["n_connections"].to_numpy() * per_connection
        if varies:
            cost = (
                cost + wanted["n_synapses"].to_numpy() * _BYTES_PER_VALUE * self._resources.threads
            )
        allowed = max(self._resources.memory // 8, 1 << 26)
        groups = wanted["group"].to_numpy()
        buckets, first, spent = [], 0, 0
        for i in range(groups.size):
            if spent and spent + cost[i] > allowed:
                buckets.append((int(groups[first]), int(groups[i - 1]) + 1))
                first, spent = i, 0
            spent += int(cost[i])
        if groups.size:
            buckets.append((int(groups[first]), int(groups[-1]) + 1))
        return buckets

    def _labelled(
        self, results: Sequence[Aggregates], wanted: pl.DataFrame
    ) -> dict[str, pl.DataFrame]:
        """Put types in the place of group codes, in all tables."""
        names = wanted.select("group", *schema.PATHWAY)
        frames = {}
        for table in (schema.STATISTICS, schema.HISTOGRAMS, schema.VALUES, schema.ORDER_STATISTICS):
            pieces = [getattr(r, table.name) for r in results if len(getattr(r, table.name))]
            if not pieces:
                frames[table.name] = self._empty(table)
                continue
            frames[table.name] = (
                pl.concat(pieces)
                .join(names, on="group")
                .with_columns(pl.col("property").cast(self.dtypes["property"]))
                .select(
                    pl.col(c.name).cast(c.dtype)
                    if isinstance(c.dtype, type) and c.dtype is not pl.Enum
                    else pl.col(c.name)
                    for c in table.columns
                )
            )
        return frames


def extract(
    data: Dataset | str | Path | bluepysnap.Circuit,
    *,
    min_sample_size_per_group: int | None = None,
    max_sample_size_per_group: int | None = None,
    hist_bins: int | Sequence[float] = 51,
    sel_props: Sequence[str] | None = None,
    sel_src: Selection = None,
    sel_dest: Selection = None,
    edges_popul_name: str | None = None,
    CV_dict: Mapping[str, Any] | None = None,  # noqa: N803 - the reference's name
    by: str | tuple[str, str] | None = None,
    seed: int = 0,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Describe every property of every pathway.

    Parameters
    ----------
    data
        A dataset, a circuit, or a path to either. A circuit is exported on first use.
    min_sample_size_per_group
        Pathways with fewer connections get no statistics.
    max_sample_size_per_group
        Statistics of a pathway with more connections rest on a random subset of them: those
        with the smallest hash of seed, source and target. So the subset is the same
        whatever else is selected, and that of a larger limit contains that of a smaller.
    hist_bins
        Number of bins, or their edges (increasing).
    sel_props
        Properties; by default all but delay and spine_length. An empty list gives
        ``n_syn_per_conn`` alone, which is always there.
    sel_src, sel_dest
        Source and target nodes: None for all, the name of a node set, ids, or a dict of
        attributes with a value or a list of them, which must all hold; its key ``node_set``
        is intersected.
    edges_popul_name
        Edge population, where ``data`` is a circuit; a dataset has but one, which is compared.
    CV_dict
        Cross-validation: ``n_folds``, ``fold_idx`` and ``training_set``. Selected nodes
        of each side are split into folds; training takes those outside the fold, test those in.
    by
        Groups instead of the dataset's types: a node attribute (``"layer"``), ``"@population"``
        for all nodes of a side together, ``"@node"`` for each node apart; one for both sides, or a
        pair for source and target. ``("@node", "@node")`` gives one row per connection.
    seed
        Seed of the subsets and the folds.
    resources, progress
        What may be used, and whom to tell.

    Returns
    -------
    Statistics
        Lazy: nothing is computed before a table is collected.

    Raises
    ------
    OptionError
        Where an option cannot be met: an unknown property, node set, attribute or value, say.
    """
    resources = resources or Resources()
    dataset = _opened(data, edges_popul_name, sel_props, resources, progress)
    properties = _selected_properties(dataset, sel_props)
    bins = _checked_bins(hist_bins)
    _check_sizes(min_sample_size_per_group, max_sample_size_per_group)
    sides = (by, by) if isinstance(by, str) else by
    least, most = min_sample_size_per_group or None, max_sample_size_per_group or None
    options = {
        "min_sample_size_per_group": least,
        "max_sample_size_per_group": most,
        "hist_bins": bins if isinstance(bins, int) else list(bins),
        "sel_props": [p.name for p in properties],
        "sel_src": plain(sel_src),
        "sel_dest": plain(sel_dest),
        "CV_dict": dict(CV_dict) if CV_dict else None,
        "by": list(sides) if sides else None,
        "seed": seed,
    }
    grouping = group_selected(dataset, sel_src, sel_dest, CV_dict, seed, sides)
    spec = BucketSpec(
        first=0,
        stop=0,
        source_code=grouping.source,
        target_code=grouping.target,
        n_target_codes=grouping.n_target,
        is_pathway=sides is None,
        properties=(),
        bins=bins,
        min_sample_size=least,
        max_sample_size=most,
        seed=seed,
    )
    source = _Computed(
        _dtypes(grouping.types, properties), dataset, grouping, spec, resources, progress
    )
    return Statistics(
        properties, grouping.types, source, options=options, identity=dataset.identity
    )


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: statistics of the nodes outside it, and of those in it."""

    training: Statistics
    test: Statistics


def extract_folds(
    data: Dataset | str | Path | bluepysnap.Circuit, n_folds: int, **options: Any
) -> list[Fold]:
    """Describe the training and the test set of every fold, all in one pass over the data.

    Parameters
    ----------
    data
        As for :func:`extract`.
    n_folds
        Number of folds, at least 2.
    **options
        Those of :func:`extract` but ``CV_dict``.

    Returns
    -------
    list of Fold
        Lazy: the first table that is collected computes its properties for all folds.
    """
    folds = []
    for fold in range(n_folds):
        sets = []
        for training in (True, False):
            chosen = {"n_folds": n_folds, "fold_idx": fold, "training_set": training}
            sets.append(extract(data, **options, CV_dict=chosen))
            data = sets[-1].dataset or data
        folds.append(Fold(*sets))
    sources = [s._source for fold in folds for s in (fold.training, fold.test)]  # noqa: SLF001
    for source in sources:
        if isinstance(source, _Computed):
            source.family = [one for one in sources if isinstance(one, _Computed)]
    return folds


def read_statistics(folder: str | Path) -> Statistics:
    """Read the tables that :meth:`Statistics.write` wrote.

    Raises
    ------
    DatasetError
        Where a table is missing, damaged, or not of this package.
    """
    frames: dict[str, pl.DataFrame] = {}
    facts: dict[str, Any] = {}
    for name in TABLES:
        frames[name], facts = read_table(Path(folder) / f"{name}.parquet", schema.TABLES[name])
    try:
        properties = tuple(Property(*p) for p in facts["properties"])
        types = pl.DataFrame(facts["types"], schema=schema.TYPES.polars_schema(), orient="row")
    except (KeyError, TypeError) as error:
        raise DatasetError.of(
            f"The metadata of {folder} is incomplete", found=str(error)
        ) from error
    source = _Stored(_dtypes(types, properties), frames)
    return Statistics(
        properties, types, source, options=facts["options"], identity=facts["identity"]
    )


def _opened(
    data: Dataset | str | Path | bluepysnap.Circuit,
    population: str | None,
    sel_props: Sequence[str] | None,
    resources: Resources,
    progress: Progress | None,
) -> Dataset:
    if isinstance(data, str | Path) and (Path(data) / MANIFEST).is_file():
        data = Dataset(data)
    if not isinstance(data, Dataset):
        extra = [name for name in sel_props or () if name != N_SYN_PER_CONN]
        return open_circuit(
            data,
            edges_popul_name=population,
            properties=extra or None,
            resources=resources,
            progress=progress,
        )
    if population is not None and population != data.population:
        raise OptionError.unknown("edge population", population, [data.population])
    return data


def _selected_properties(dataset: Dataset, names: Sequence[str] | None) -> tuple[Property, ...]:
    """Return the properties asked for, in the dataset's order, ``n_syn_per_conn`` last."""
    for name in names or ():
        if name not in dataset.properties:
            raise OptionError.unknown("property", name, dataset.properties)
    chosen = [
        Property(column.name, column.dtype, column.unit)
        for column in dataset.columns
        if (_by_default(column) if names is None else column.name in names)
    ]
    return (*chosen, Property(N_SYN_PER_CONN, "int64", schema.unit_of(N_SYN_PER_CONN)))


def _by_default(column: DatasetColumn) -> bool:
    """Return whether a column is a property unless another choice is made."""
    is_value = column.role in ("property", "categories")
    return is_value and not any(word in column.name for word in _NOT_BY_DEFAULT)


def _checked_bins(bins: int | Sequence[float]) -> int | tuple[float, ...]:
    if isinstance(bins, int | np.integer) and not isinstance(bins, bool):
        if bins < 1:
            raise OptionError.of("hist_bins is too small", found=str(bins), expected="at least 1")
        return int(bins)
    try:
        edges = tuple(float(edge) for edge in bins)  # type: ignore[union-attr]
    except (TypeError, ValueError) as error:
        raise OptionError.of(
            "hist_bins is neither a number of bins nor their edges", found=repr(bins)
        ) from error
    if len(edges) < 2 or not (np.diff(edges) > 0).all():  # noqa: PLR2004 - a bin has two edges
        raise OptionError.of(
            "hist_bins are no edges", found=repr(bins), expected="at least two, increasing"
        )
    return edges


def _check_sizes(least: int | None, most: int | None) -> None:
    for name, size in (("min_sample_size_per_group", least), ("max_sample_size_per_group", most)):
        if size is not None and size < 0:
            hint = "None or 0 for no limit"
            raise OptionError.of(f"{name} is negative", found=str(size), hint=hint)


def _count_groups(dataset: Dataset, grouping: Grouping, resources: Resources) -> pl.DataFrame:
    """Return connections and synapses of each pair of groups: the relation ``groups``."""
    with dataset.connect(resources) as connection:
        for side in ("source", "target"):
            codes = getattr(grouping, side)
            selected = np.flatnonzero(codes >= 0)
            frame = pl.DataFrame({"node": selected, "code": codes[selected]})
            connection.register(f"{side}_groups", frame.to_arrow())
        counts: pl.DataFrame = relations.run(connection, relations.text("groups"), "groups").pl()
    return counts


def _dtypes(types: pl.DataFrame, properties: Sequence[Property]) -> dict[str, pl.DataType]:
    """Return the Enum of each column that names a type, class, layer or property."""

    def enum(values: pl.Series) -> pl.Enum:
        return pl.Enum(values.drop_nulls().unique().sort().to_list())

    by_side: Callable[[str], pl.Series] = lambda side: (  # noqa: E731 - used twice, right below
        types.filter(pl.col("side") == side).sort("code")["type"]
    )
    classes, layers = enum(types["synapse_class"]), enum(types["layer"])
    return {
        "source_type": pl.Enum(by_side("source").to_list()),
        "target_type": pl.Enum(by_side("target").to_list()),
        "source_class": classes,
        "target_class": classes,
        "source_layer": layers,
        "target_layer": layers,
        "property": pl.Enum([p.name for p in properties]),
    }
