"""Statistics of every property of every pathway: `extract`, lazy and exact.

The tables are lazy frames. When one is collected, only the properties and pathways that it
needs are aggregated (:mod:`connprops.aggregate`), bucket by bucket; what has been computed for
whole properties is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from connprops import __version__, schema
from connprops.aggregate import BucketSpec
from connprops.artifacts import read_table, refuse_existing, write_table
from connprops.buckets import Bucket
from connprops.correlations import (
    CorrelationSpec,
    GroupRange,
    correlate,
    correlations,
    plan_ranges,
)
from connprops.dataset import Dataset, DatasetColumn, open_circuit
from connprops.errors import DatasetError, OptionError
from connprops.export import Progress
from connprops.html_table import html_table
from connprops.manifest import MANIFEST
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.selection import Choice, Grouping, Selection, plain
from connprops.shards import Shard
from connprops.staged_statistics import Kind, merged, write_shard
from connprops.table_sources import ComputedTables, StoredTables, TableSource

if TYPE_CHECKING:
    import bluepysnap

NOT_BY_DEFAULT = ("@", "delay", "afferent", "efferent", "spine_length")
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
    options, identity, versions : dict
        What was asked for, of which data, and computed by what.
    """

    def __init__(
        self,
        properties: tuple[Property, ...],
        types: pl.DataFrame,
        source: TableSource,
        *,
        options: Mapping[str, Any],
        identity: Mapping[str, Any],
        correlations: Callable[[], pl.DataFrame] | None = None,
        ranges: Kind | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self._correlations = correlations
        self._ranges = ranges
        self.properties = properties
        self.types = types
        self.options = dict(options)
        self.identity = dict(identity)
        self.versions = dict(_versions() if versions is None else versions)
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
    def correlations(self) -> pl.LazyFrame:
        """Return correlations of properties: :data:`connprops.schema.CORRELATIONS`.

        They take another pass over the data, as they are collected. Statistics that were read
        have them where :meth:`write` was told to write them.

        Raises
        ------
        DatasetError
            Where they were not written.
        """
        self._check_correlations()
        layout = layout_of(schema.CORRELATIONS, self._source.dtypes)

        def scan(
            with_columns: list[str] | None,
            predicate: pl.Expr | None,
            n_rows: int | None,
            batch_size: int | None,  # noqa: ARG001 - the table is small
        ) -> Iterator[pl.DataFrame]:
            frame = self._all_correlations
            if predicate is not None:
                frame = frame.filter(predicate)
            if n_rows is not None:
                frame = frame.head(n_rows)
            yield frame.select(with_columns) if with_columns is not None else frame

        return register_io_source(scan, schema=layout, is_pure=True)

    @cached_property
    def _all_correlations(self) -> pl.DataFrame:
        """Return the correlations of all pathways, computed once."""
        found = self._check_correlations()()
        table = schema.CORRELATIONS
        layout = layout_of(table, self._source.dtypes)
        return found.select(pl.col(n).cast(dtype) for n, dtype in layout.items()).sort(table.keys)

    def _check_correlations(self) -> Callable[[], pl.DataFrame]:
        if self._correlations is None:
            raise DatasetError.of(
                "These statistics were written without the correlations of properties",
                hint="write them with correlations=True, or extract --correlations",
            )
        return self._correlations

    @property
    def dataset(self) -> Dataset | None:
        """Return the dataset that these statistics are computed from; None if read from files."""
        return self._source.dataset if isinstance(self._source, ComputedTables) else None

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
            "versions": self.versions,
            "properties": [[p.name, p.dtype, p.unit] for p in self.properties],
            "types": self.types.rows(),
        }

    def write(
        self,
        folder: str | Path,
        *,
        correlations: bool = False,
        overwrite: bool = False,
        shard: str | tuple[int, int] | None = None,
    ) -> list[Path]:
        """Write all tables as Parquet into a folder; return the files.

        Parameters
        ----------
        folder
            Where to.
        correlations
            Whether to compute and write the correlations of properties too.
        overwrite
            Whether to replace files.
        shard
            Compute one share of the buckets alone, ``(3, 20)`` or ``"3/20"``: what a job of an
            array does. Its files wait in a hidden folder for :func:`connprops.merge`. A shard that
            is run again goes on from its finished buckets.

        Raises
        ------
        OutputError
            Where a file is there already and ``overwrite`` is false, or cannot be written; where
            other shards were asked for something else.
        """
        place = Path(folder)
        names = [*TABLES, *([schema.CORRELATIONS.name] if correlations else [])]
        files = [place / f"{name}.parquet" for name in names]
        if not overwrite:
            refuse_existing(*files)
        if shard is not None:
            return self._write_shard(place, Shard.parse(shard), correlations=correlations)
        self._take_over(place)
        for name, file in zip(names, files, strict=True):
            table = schema.TABLES[name]
            is_pairs = table is schema.CORRELATIONS
            frame = self._all_correlations if is_pairs else self._source.whole(table)
            write_table(frame, table, file, overwrite=overwrite, facts=self.facts())
        return files

    def _take_over(self, folder: Path) -> None:
        """Take tables of the folder that are the very same: other bins change histograms alone."""
        if not isinstance(self._source, ComputedTables):
            return
        found = {}
        for name in (*TABLES[1:], schema.CORRELATIONS.name):
            with suppress(DatasetError):  # not there, or damaged: made again
                frame, facts = read_table(folder / f"{name}.parquet", schema.TABLES[name])
                if _of_table(name, facts) == _of_table(name, self.facts()):
                    found[name] = frame
        pairs = found.pop(schema.CORRELATIONS.name, None)
        if pairs is not None:
            self._correlations = lambda: pairs
        self._source.take(found)

    def buckets(self, shard: Shard) -> list[Bucket]:
        """Return the buckets that are computed where each shard has its share.

        Raises
        ------
        OptionError
            Where the statistics were read from files.
        """
        return self._computed().plan(shard.of)

    @property
    def computed_from(self) -> Dataset:
        """Return the dataset that these statistics are computed from.

        Raises
        ------
        OptionError
            Where they were read from files.
        """
        return self._computed().dataset

    def _computed(self) -> ComputedTables:
        if not isinstance(self._source, ComputedTables):
            raise OptionError.of(
                "Statistics that were read from files are not computed", hint="extract a dataset"
            )
        return self._source

    def _write_shard(self, folder: Path, shard: Shard, *, correlations: bool) -> list[Path]:
        source = self._computed()
        kinds = [Kind("buckets", Bucket, source.plan, source.of_buckets)]
        if correlations and self._ranges is not None:
            kinds.append(self._ranges)
        return write_shard(
            folder, shard, self.facts(), lambda: source.whole(schema.PATHWAYS), kinds
        )

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
        """Return what these are, without computing any."""
        nodes = {
            side: int(self.types.filter(pl.col("side") == side)["n_nodes"].sum())
            for side in ("source", "target")
        }
        return html_table(
            f"Statistics of {self.identity['edges']['population']}",
            f"{len(self.source_types)} source types of {nodes['source']:,} nodes, "
            f"{len(self.target_types)} target types of {nodes['target']:,}; lazy frames: "
            "pathways, table, histograms, values, order_statistics, correlations",
            ("property", "type", "unit"),
            [(p.name, p.dtype, p.unit) for p in self.properties],
        )


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
    choice = Choice.of(sel_src, sel_dest, CV_dict, seed, sides)
    grouping = choice.grouping(dataset)
    spec = BucketSpec(
        first=0,
        stop=0,
        properties=(),
        bins=bins,
        min_sample_size=least,
        max_sample_size=most,
        seed=seed,
    )
    source = ComputedTables(
        _dtypes(grouping.types, properties), dataset, choice, spec, resources, progress
    )
    pairs = CorrelationSpec(
        choice, tuple(p.name for p in properties if p.name != N_SYN_PER_CONN), most, seed
    )

    def sizes() -> pl.DataFrame:
        return _sizes(source.lazy(schema.PATHWAYS).collect(), grouping)

    def correlated() -> pl.DataFrame:
        named = sizes()
        found = correlations(dataset, pairs, named, resources, progress)
        return found.join(named, on="group")

    def planned(n_shards: int) -> list[GroupRange]:
        return plan_ranges(dataset, pairs, sizes(), resources, n_shards)

    def of_ranges(ranges: Sequence[GroupRange]) -> Iterator[tuple[int, dict[str, pl.DataFrame]]]:
        table, named = schema.CORRELATIONS, sizes()
        dtypes = layout_of(table, source.dtypes)
        for i, found in correlate(dataset, pairs, ranges, resources, progress):
            labelled = found.join(named, on="group")
            yield i, {table.name: labelled.select(pl.col(n).cast(t) for n, t in dtypes.items())}

    return Statistics(
        properties, grouping.types, source, options=options, identity=dataset.identity,
        correlations=correlated, ranges=Kind("ranges", GroupRange, planned, of_ranges),
    )  # fmt: skip


def _sizes(pathways: pl.DataFrame, grouping: Grouping) -> pl.DataFrame:
    """Return the groups that have statistics, by their number, with their types and sizes."""
    sampled = pathways.filter(pl.col("n_sampled") > 0)
    for side in ("source", "target"):
        codes = grouping.types.filter(pl.col("side") == side).select(
            pl.col("type").cast(sampled.schema[f"{side}_type"]).alias(f"{side}_type"),
            pl.col("code").cast(pl.Int64).alias(f"{side}_code"),
        )
        sampled = sampled.join(codes, on=f"{side}_type", maintain_order="left")
    group = pl.col("source_code") * grouping.groups.n_target_codes + pl.col("target_code")
    return sampled.select(
        group.alias("group"), *schema.PATHWAY, "n_connections", "n_synapses"
    ).sort("group")


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: statistics of the nodes outside it, and of those in it."""

    training: Statistics
    test: Statistics


def extract_folds(
    data: Dataset | str | Path | bluepysnap.Circuit, cv_folds: int, **options: Any
) -> list[Fold]:
    """Describe the training and the test set of every fold, all in one pass over the data.

    Parameters
    ----------
    data
        As for :func:`extract`.
    cv_folds
        Number of folds, at least 2.
    **options
        Those of :func:`extract` but ``CV_dict``.

    Returns
    -------
    list of Fold
        Lazy: the first table that is collected computes its properties for all folds.
    """
    folds = []
    for fold in range(cv_folds):
        sets = []
        for training in (True, False):
            chosen = {"n_folds": cv_folds, "fold_idx": fold, "training_set": training}
            sets.append(extract(data, **options, CV_dict=chosen))
            data = sets[-1].dataset or data
        folds.append(Fold(*sets))
    sources = [s._source for fold in folds for s in (fold.training, fold.test)]  # noqa: SLF001
    for source in sources:
        if isinstance(source, ComputedTables):
            source.family = [one for one in sources if isinstance(one, ComputedTables)]
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
        file = Path(folder) / f"{name}.parquet"
        frames[name], found = read_table(file, schema.TABLES[name])
        found.pop("table")
        if facts and facts != found:
            raise DatasetError.of(
                f"The tables in {folder} are not of the same data and options",
                found=f"{file.name} goes with none of those before it",
                hint="write them again, with --overwrite",
            )
        facts = found
    properties, types = _described(facts, folder)
    source = StoredTables(_dtypes(types, properties), frames)
    return Statistics(
        properties, types, source, options=facts["options"], identity=facts["identity"],
        correlations=_stored_correlations(Path(folder), facts), versions=facts.get("versions", {}),
    )  # fmt: skip


def _of_table(name: str, facts: Mapping[str, Any]) -> str:
    """Return all that a table's rows depend on, as text."""
    options = dict(facts["options"])
    if name != schema.HISTOGRAMS.name:
        options.pop("hist_bins", None)
    kept = {key: facts.get(key) for key in ("identity", "versions", "properties", "types")}
    return json.dumps({**kept, "options": options}, sort_keys=True)


def _versions() -> dict[str, str]:
    """Return the versions of what computes statistics."""
    return {"connprops": __version__, "numpy": np.__version__, "pyarrow": pa.__version__}


def _described(
    facts: Mapping[str, Any], folder: str | Path
) -> tuple[tuple[Property, ...], pl.DataFrame]:
    """Return the properties and the types that the metadata of tables name."""
    try:
        properties = tuple(Property(*p) for p in facts["properties"])
        types = pl.DataFrame(facts["types"], schema=schema.TYPES.polars_schema(), orient="row")
    except (KeyError, TypeError) as error:
        raise DatasetError.of(
            f"The metadata of {folder} is incomplete", found=str(error)
        ) from error
    return properties, types


def write_merged(
    stage: Path, folder: Path, n_units: Mapping[str, int], facts: Mapping[str, Any]
) -> list[Path]:
    """Write the tables of statistics of which all units are in a stage; return the files.

    ``n_units`` has the number of units of each kind that there is.
    """
    properties, types = _described(facts, stage)
    dtypes = _dtypes(types, properties)
    files = []
    for name in (*TABLES, *([schema.CORRELATIONS.name] if "ranges" in n_units else [])):
        table = schema.TABLES[name]
        kind = "ranges" if table is schema.CORRELATIONS else "buckets"
        empty = pl.DataFrame(schema=layout_of(table, dtypes))
        frame = merged(stage, table, empty, n_units[kind])
        file = folder / f"{name}.parquet"
        files.append(write_table(frame, table, file, overwrite=True, facts=facts))
    return files


def _stored_correlations(
    folder: Path, facts: Mapping[str, Any]
) -> Callable[[], pl.DataFrame] | None:
    """Return the correlations beside statistics; None where there are none of the same data."""
    file = folder / f"{schema.CORRELATIONS.name}.parquet"
    if not file.is_file():
        return None
    frame, its_facts = read_table(file, schema.CORRELATIONS)
    same = all(its_facts.get(k) == facts.get(k) for k in ("identity", "options", "properties"))
    return (lambda: frame) if same else None


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
    return is_value and not any(word in column.name for word in NOT_BY_DEFAULT)


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


def layout_of(table: schema.Table, dtypes: Mapping[str, pl.DataType]) -> pl.Schema:
    """Return a table's columns with their types, where Enums name types and properties."""
    enums = {**dtypes, "other_property": dtypes["property"]}
    return table.polars_schema(**{name: enums[name] for name in table.names if name in enums})


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
