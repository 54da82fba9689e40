"""Statistics of every property of every pathway: lazy tables, computed or read from files.

When a table is collected, only the properties and pathways that it needs are aggregated
(``statistics.bucket``), bucket by bucket; what has been computed for whole properties is
kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from connprops import schema
from connprops._version import __version__
from connprops.dataset.dataset import Dataset
from connprops.display import html_table
from connprops.errors import DatasetError, OptionError
from connprops.schema import Property
from connprops.statistics.arrays import to_arrays
from connprops.statistics.staged_statistics import Kind, write_shard
from connprops.statistics.tables import (
    ComputedTables,
    StoredTables,
    TableSource,
    enums_of,
    layout_of,
)
from connprops.statistics.units import Bucket
from connprops.store.shards import Shard
from connprops.store.tables import read_table, write_table
from connprops.store.writing import refuse_existing

TABLES = ("pathways", "statistics", "histograms", "values", "order_statistics")


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

        See :func:`connprops.statistics.arrays.to_arrays`.
        """
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
    properties, types = described(facts, folder)
    source = StoredTables(enums_of(types, [p.name for p in properties]), frames)
    return Statistics(
        properties, types, source, options=facts["options"], identity=facts["identity"],
        correlations=_stored_correlations(Path(folder), facts), versions=facts.get("versions", {}),
    )  # fmt: skip


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


def described(
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
