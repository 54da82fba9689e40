"""Statistics of every property of every pathway: lazy tables, computed or read from files.

When a table is collected, only the properties that it needs are aggregated
(``statistics.bucket``), bucket by bucket; what has been computed is kept: histograms when asked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from connprops import schema
from connprops._version import __version__
from connprops.arrays.histogram import normals_through_histograms
from connprops.dataset.dataset import Dataset
from connprops.display import drawing, html_table
from connprops.errors import DatasetError, OptionError
from connprops.pathways import enums_of, layout_of, rows_of_types
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.tables import (
    ComputedTables,
    ShownFrame,
    StoredTables,
)
from connprops.store.folder import Folder, new_generation, reading
from connprops.store.records import seal_of
from connprops.store.shards import Shard
from connprops.store.tables import TableWriter, open_table
from connprops.store.writing import refuse_existing, replacing

TABLES = ("pathways", "statistics", "histograms", "values", "order_statistics")

FILES = frozenset(f"{name}.parquet" for name in (*TABLES, schema.CORRELATIONS.name))
"""The files of statistics in a folder: others of these names make way."""


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
        tables: ComputedTables | StoredTables,
        *,
        options: Mapping[str, Any],
        identity: Mapping[str, Any],
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.properties = properties
        self.types = types
        self.options = dict(options)
        self.identity = dict(identity)
        own = {"connprops": __version__, "numpy": np.__version__, "pyarrow": pa.__version__}
        self.versions = own if versions is None else dict(versions)
        self._tables = tables

    @property
    def pathways(self) -> pl.LazyFrame:
        """Return one row per pathway: :data:`connprops.schema.PATHWAYS`."""
        return ShownFrame.of(self._tables.lazy(schema.PATHWAYS))

    @property
    def table(self) -> pl.LazyFrame:
        """Return one row per pathway and property: :data:`connprops.schema.STATISTICS`.

        A query computes the properties and the kinds of statistics that it needs: means cost half.
        """
        return ShownFrame.of(self._tables.lazy(schema.STATISTICS))

    @property
    def histograms(self) -> pl.LazyFrame:
        """Return one row per pathway, property and bin: :data:`connprops.schema.HISTOGRAMS`."""
        return ShownFrame.of(self._tables.lazy(schema.HISTOGRAMS))

    @property
    def values(self) -> pl.LazyFrame:
        """Return distinct values where they are few: :data:`connprops.schema.VALUES`."""
        return ShownFrame.of(self._tables.lazy(schema.VALUES))

    @property
    def order_statistics(self) -> pl.LazyFrame:
        """Return sorted, thinned samples: :data:`connprops.schema.ORDER_STATISTICS`."""
        return ShownFrame.of(self._tables.lazy(schema.ORDER_STATISTICS))

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
        return ShownFrame.of(self._tables.lazy(schema.CORRELATIONS))

    @property
    def dataset(self) -> Dataset | None:
        """Return the dataset that these statistics are computed from; None if read from files."""
        return self._tables.dataset if isinstance(self._tables, ComputedTables) else None

    @property
    def source_types(self) -> list[str]:
        """Return the source types in order."""
        return self._types_of("source")

    @property
    def target_types(self) -> list[str]:
        """Return the target types in order."""
        return self._types_of("target")

    def _types_of(self, side: str) -> list[str]:
        return self.types.filter(pl.col("side") == side).sort("code")["type"].to_list()

    def facts(self) -> dict[str, Any]:
        """Return what the files' metadata says of these statistics; ``generation`` is its digest.

        Tables of one generation go together. The identity has the seal of the dataset.
        """
        facts = {
            "identity": self.identity,
            "options": self.options,
            "versions": self.versions,
            "properties": [p.facts() for p in self.properties],
            "types": self.types.rows(),
        }
        return {**facts, "generation": seal_of(facts)}

    def of_types(self, types: pl.DataFrame) -> Statistics:
        """Return the statistics of some types alone: rows of :attr:`types`."""
        scans = {
            name: rows_of_types(self._tables.lazy(schema.TABLES[name]), types) for name in TABLES
        }
        tables = StoredTables(scans, self._tables.dtypes)
        return Statistics(
            self.properties, types, tables, options=self.options, identity=self.identity,
            versions=self.versions,
        )  # fmt: skip

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
            number = Shard.parse(shard)
            return self.computed.write_shard(place, number, self.facts(), correlations=correlations)
        with new_generation(place, FILES) as stage:
            self.write_into(stage, place, correlations=correlations)
        return files

    def write_into(self, stage: Path, *earlier: Path, correlations: bool) -> None:
        """Write all tables into a stage; those that ``earlier`` folders have too are copied."""
        for folder in earlier:
            self._take_over(folder)
        names = [*TABLES, *([schema.CORRELATIONS.name] if correlations else [])]
        files = {schema.TABLES[name]: stage / f"{name}.parquet" for name in names}
        with ExitStack() as stack:
            writers = {}
            for table, file in files.items():
                aside = stack.enter_context(replacing(file, overwrite=True))
                dtypes = layout_of(table, self._tables.dtypes)
                writers[table.name] = TableWriter(aside, table, dtypes, self.facts())
            for table, rows in self._tables.pieces([*files]):
                writers[table.name].write(rows)
            for writer in writers.values():
                writer.close()
        if isinstance(self._tables, ComputedTables):
            for table, file in files.items():
                if table is not schema.PATHWAYS:
                    self._tables.take(table, open_table(file, table).rows)

    def _take_over(self, folder: Path) -> None:
        """Take tables of the folder that are the very same: other bins change histograms alone."""
        if not isinstance(self._tables, ComputedTables):
            return
        for name in (*TABLES[1:], schema.CORRELATIONS.name):
            table = schema.TABLES[name]
            with suppress(DatasetError):  # not there, or damaged: made again
                stored = open_table(folder / f"{name}.parquet", table)
                if _of_table(name, stored.facts) == _of_table(name, self.facts()):
                    self._tables.take(table, stored.rows)

    @property
    def computed(self) -> ComputedTables:
        """Return the tables as what computes them.

        Raises
        ------
        OptionError
            Where the statistics were read from files.
        """
        if not isinstance(self._tables, ComputedTables):
            raise OptionError.of(
                "Statistics that were read from files are not computed", hint="extract a dataset"
            )
        return self._tables

    def plot(self, property: str, statistic: str = "mean") -> Any:  # noqa: A002
        """Draw a statistic of a property over all pathways, as an Altair chart.

        :func:`connprops.plot` draws data beside a model, and more.

        Raises
        ------
        OptionError
            Where there is no such property or statistic.
        """
        return drawing().map_of(self, property, statistic)

    def to_arrays(
        self, *, order: Sequence[str] | None = None, fitted: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Return the dictionaries of arrays of connectome-manipulator's ``extract``.

        ``shared_within`` follows the reference's rule: constant properties of several connections
        are not shared, those of which nothing is known are. Edges of histograms and distinct values
        have the type of the property's column.

        Parameters
        ----------
        order
            Order of the properties; by default theirs.
        fitted
            Properties to fit normal distributions to, which takes most of the time; by default all.
            Others have ``norm_loc`` and ``norm_scale`` NaN.

        Returns
        -------
        dict
            ``syns_per_conn_data`` (arrays of sources x targets), ``conn_prop_data`` (also x
            properties), ``m_types``, ``m_type_class``, ``m_type_layer``, ``syn_props``,
            ``hist_bins``. NaN where a pathway has no statistics.
        """
        names = ("histograms", "pathways", "statistics", "values")  # with the first, all are made
        tables = {name: self._tables.whole(schema.TABLES[name]).lazy() for name in names}
        types, nodes = self.types, self.dataset.nodes if self.dataset else pl.DataFrame()
        if nodes.schema.get("layer", pl.String()).is_integer():  # the circuit's are numbers
            types = types.cast({"layer": nodes.schema["layer"]})
        arrays = to_arrays(self.properties, types, tables, order=order, fitted=fitted)
        return {**arrays, "hist_bins": self.options["hist_bins"]}

    def __repr__(self) -> str:
        return (
            f"<Statistics of {len(self.properties)} properties, "
            f"{len(self.source_types)} x {len(self.target_types)} types>"
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the table to whatever speaks Arrow: Polars, DuckDB, pandas, pyarrow."""
        return self.table.collect().__arrow_c_stream__(requested_schema)

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
            [
                (p.name, f"{len(p.labels)} labels" if p.labels else p.dtype, p.unit)
                for p in self.properties
            ],
        )


def read_statistics(folder: str | Path | Folder) -> Statistics:
    """Read the tables that :meth:`Statistics.write` wrote.

    Raises
    ------
    DatasetError
        Where a table is missing, damaged, or not of this package.
    """
    if not isinstance(folder, Folder):
        return reading(folder, read_statistics)
    scans: dict[str, pl.LazyFrame] = {}
    facts: dict[str, Any] = {}
    for name in TABLES:
        file = folder.path / f"{name}.parquet"
        _, scans[name], about = open_table(file, schema.TABLES[name], folder)
        about.pop("table")
        if facts and facts != about:
            raise DatasetError.of(
                f"The tables in {folder.path} are not of the same data and options",
                found=f"{file.name} goes with none of those before it",
                hint="write them again, with --overwrite",
            )
        facts = about
    correlations = folder.path / f"{schema.CORRELATIONS.name}.parquet"
    if folder.file(correlations.name).is_file():
        _, rows, about = open_table(correlations, schema.CORRELATIONS, folder)
        if all(about.get(k) == facts.get(k) for k in ("identity", "options", "properties")):
            scans[schema.CORRELATIONS.name] = rows
    properties, types = described(facts, folder.path)
    dtypes = enums_of(types, [p.name for p in properties])
    return Statistics(
        properties, types, StoredTables(scans, dtypes), options=facts["options"],
        identity=facts["identity"], versions=facts.get("versions", {}),
    )  # fmt: skip


def described(
    facts: Mapping[str, Any], folder: str | Path
) -> tuple[tuple[Property, ...], pl.DataFrame]:
    """Return the properties and the types that the metadata of tables name."""
    try:
        properties = tuple(Property.of_facts(*p) for p in facts["properties"])
        types = pl.DataFrame(facts["types"], schema=schema.TYPES.polars_schema(), orient="row")
    except (KeyError, TypeError) as error:
        raise DatasetError.of(
            f"The metadata of {folder} is incomplete", found=str(error)
        ) from error
    return properties, types


def _of_table(name: str, facts: Mapping[str, Any]) -> str:
    """Return all that a table's rows depend on, as text."""
    options = dict(facts["options"])
    if name != schema.HISTOGRAMS.name:
        options.pop("hist_bins", None)
    kept = {key: facts.get(key) for key in ("identity", "versions", "properties", "types")}
    return json.dumps({**kept, "options": options}, sort_keys=True)


_KEYS = ("mean", "std", "min", "max", "hist", "norm_loc", "norm_scale", "val", "cnt", "p")
_OBJECTS = frozenset({"hist", "val", "cnt", "p"})


def to_arrays(
    properties: Sequence[Property],
    types: pl.DataFrame,
    tables: Mapping[str, pl.LazyFrame],
    *,
    order: Sequence[str] | None = None,
    fitted: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the arrays of :meth:`connprops.statistics.statistics.Statistics.to_arrays`.

    ``tables`` are pathways, statistics, histograms and values, by name.
    """
    dtypes = {p.name: np.dtype(p.dtype) for p in properties}
    names = [name for name in dtypes if name != N_SYN_PER_CONN]
    syn_props = names if order is None else [name for name in order if name in names]
    sides = [types.filter(pl.col("side") == side).sort("code") for side in ("source", "target")]
    shape = (len(sides[0]), len(sides[1]))
    syns = _empty(shape)
    props = _empty((*shape, len(syn_props)))
    props["shared_within"] = np.full((*shape, len(syn_props)), np.nan)
    place = {name: i for i, name in enumerate(syn_props)}
    rows = _rows(tables)
    if lacking := sum(row["left"] is None for row in rows):
        raise OptionError.of(
            "Arrays need a histogram of each pathway and property",
            found=f"none of {lacking:,}", hint="extract fewer pathways or properties at once",
        )  # fmt: skip
    histograms = [_histogram(row, dtypes[row["property"]]) for row in rows]
    wanted = [i for i, row in enumerate(rows) if fitted is None or row["property"] in fitted]
    normals = dict(
        zip(wanted, normals_through_histograms([histograms[i] for i in wanted]), strict=True)
    )
    for i, row in enumerate(rows):
        at: tuple[int, ...] = (row["source"], row["target"])
        data = syns
        if row["property"] != N_SYN_PER_CONN:
            at, data = (*at, place[row["property"]]), props
            data["shared_within"][at] = _shared(row)
        for name in ("mean", "std", "min", "max"):
            data[name][at] = row[name]
        dtype = dtypes[row["property"]]
        if i in normals:
            accepted = not np.isnan(normals[i][0])
            normal = normals[i] if accepted else (row["mean"], row["std"])
            data["norm_loc"][at], data["norm_scale"][at] = normal
        data["hist"][at] = histograms[i]
        for name, column, of_column in (
            ("val", "value", dtype), ("cnt", "count_of_value", np.int64), ("p", "p", np.float64)
        ):  # fmt: skip
            data[name][at] = np.array(row[column], dtype=of_column) if row[column] else []
    return {
        "syns_per_conn_data": syns,
        "conn_prop_data": props,
        "m_types": [side["type"].to_list() for side in sides],
        "m_type_class": [side["synapse_class"].to_list() for side in sides],
        "m_type_layer": [side["layer"].to_list() for side in sides],
        "syn_props": syn_props,
    }


def _empty(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        name: np.full(shape, np.nan, dtype=object if name in _OBJECTS else np.float64)
        for name in _KEYS
    }


def _rows(tables: Mapping[str, pl.LazyFrame]) -> list[dict[str, Any]]:
    """Return one row per pathway and property, with its histogram and its distinct values."""
    keys = ["source_type", "target_type", "property"]
    histograms = (
        tables["histograms"].group_by(keys).agg(pl.col("left", "right", "count").sort_by("bin"))
    )
    values = tables["values"].group_by(keys).agg(
        pl.col("value", "p").sort_by("value"),
        pl.col("count").sort_by("value").alias("count_of_value"),
    )  # fmt: skip
    connections = tables["pathways"].select("source_type", "target_type", "n_connections")
    source, target = (pl.col(name).to_physical() for name in schema.PATHWAY)
    return (
        tables["statistics"]
        .join(histograms, on=keys, how="left")
        .join(values, on=keys, how="left")
        .join(connections, on=keys[:2])
        .with_columns(source=source, target=target)
        .collect()
        .to_dicts()
    )


def _histogram(row: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return counts and edges, these of the column's type where it is a floating one."""
    edges = np.array([*row["left"], row["right"][-1]])
    if dtype.kind == "f" and (edges.astype(dtype) == edges).all():  # else it has no room for them
        edges = edges.astype(dtype)
    return np.array(row["count"]), edges


def _shared(row: dict[str, Any]) -> float:
    if row["shared_within"] is not None:
        return float(row["shared_within"])
    several = row["n_connections"] > 1
    constant = row["n_unique"] == 1 and row["n_null"] == 0
    return float(not (several and constant))
