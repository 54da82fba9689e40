"""Putting together what the shards of an export or of an extraction have left."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from connprops import schema
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import is_dataset, read_manifest
from connprops.errors import ConnpropsWarning, DatasetError, OutputError, listing
from connprops.export.export import finish, write_node_tables
from connprops.export.opening import open_network
from connprops.export.parts import noted
from connprops.export.plan import in_order, plan, revised, sort_first
from connprops.export.request import describe, is_reusable
from connprops.options import EdgeOptions
from connprops.pathways import enums_of, layout_of
from connprops.statistics.statistics import FILES, TABLES, described, read_statistics
from connprops.statistics.units import TABLES_OF, is_finished, merged, stage_of, stage_target
from connprops.store.folder import new_generation
from connprops.store.shards import ranges, shards_of
from connprops.store.stage import asked_of_shards, check_same, put_in_place, staged
from connprops.store.tables import write_table
from connprops.store.writing import leftover_of, refuse_existing


def merge(folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Put together what all shards have left: a dataset, or tables of statistics.

    It takes seconds, computes nothing, and gives the bytes that one process would have written.

    Parameters
    ----------
    folder
        The folder that the shards write to. A dataset that is there already is left
        as it is.
    overwrite
        Replace another dataset, or other tables.

    Returns
    -------
    list of Path
        The dataset's folder, or the files of the tables.

    Raises
    ------
    OutputError
        Where shards are still at work, or have not finished, each of which is named; and where
        something else is in the place.
    CircuitError
        Where the circuit is not where it was, or not what it was.
    """
    target = Path(folder)
    if asked_of_shards(leftover_of(target)) is not None:
        return [_merge_dataset(target, overwrite=overwrite)]
    if asked_of_shards(stage_of(target)) is not None:
        return _merge_statistics(target, overwrite=overwrite)
    if is_dataset(target):
        if damaged := Dataset(target).verify():
            raise DatasetError.of(f"{target} is damaged", found=listing(damaged))
        return [target]
    tables = [target / f"{name}.parquet" for name in TABLES]
    if all(file.is_file() for file in tables):
        read_statistics(target)  # or the error that a table has
        return tables
    raise OutputError.of(
        f"No shards have left anything at {target}",
        hint="give the folder that they write to, with -o",
    )


def _merge_dataset(target: Path, *, overwrite: bool) -> Path:
    """Make a dataset of the parts that all shards of an export have written."""
    with staged(target) as stage:
        asked = asked_of_shards(stage) or {}
        path, n_shards = asked.pop("circuit"), asked.pop("shards")
        properties, options = asked.pop("properties"), EdgeOptions(**asked)
        request = describe(open_network(path, options, properties), options, properties)
        check_same(stage, request.depends_on)
        if not is_reusable(target, request, overwrite=overwrite):
            specs = revised(plan(request, stage))
            notes = [noted(spec) for spec in specs]
            summaries = [summary for summary in notes if summary is not None]
            left = [spec.part for spec, summary in zip(specs, notes, strict=True) if not summary]
            _check_whole(str(target), "parts", left, len(specs), n_shards)
            if not in_order(summaries):
                sort_first(stage, request.edges.size)
                raise OutputError.of(
                    f"The rows of {request.edges.file} are in no order",
                    hint="run all shards again: the first of them sorts the rows",
                )
            finish(request, stage, write_node_tables(request, stage / "dataset"), summaries)
            put_in_place(stage / "dataset", target)
    for text in read_manifest(target).warnings:
        warnings.warn(text, ConnpropsWarning, stacklevel=3)
    return target


def _merge_statistics(folder: Path, *, overwrite: bool) -> list[Path]:
    """Write the tables of statistics of which all shards have written buckets."""
    with staged(stage_target(folder)) as stage:
        asked = asked_of_shards(stage) or {}
        units = {kind: len(asked[kind]) for kind in TABLES_OF if kind in asked}
        for kind, n in units.items():
            left = [i for i in range(n) if not is_finished(stage, kind, i)]
            _check_whole(str(folder), kind, left, n, asked["shards"])
        if not overwrite:
            refuse_existing(*(folder / f"{name}.parquet" for name in TABLES))
        facts = asked["facts"]
        names = (*TABLES, *([schema.CORRELATIONS.name] if "ranges" in units else []))
        with new_generation(folder, FILES) as new:
            properties, types = described(facts, stage)
            dtypes = enums_of(types, [p.name for p in properties])
            for name in names:
                table = schema.TABLES[name]
                kind = "ranges" if table is schema.CORRELATIONS else "buckets"
                empty = pl.DataFrame(schema=layout_of(table, dtypes))
                frame = merged(stage, table, empty, units[kind])
                write_table(frame, table, new / f"{name}.parquet", facts=facts)
        return [folder / f"{name}.parquet" for name in names]


def _check_whole(target: str, units: str, left: Sequence[int], n: int, n_shards: int) -> None:
    """Raise :class:`OutputError`, which names the shards to run again, where units are left."""
    if left:
        shards = ranges(shards_of(left, n, n_shards))
        raise OutputError.of(
            f"{target} is not finished: {len(left):,} of {n:,} {units} are missing",
            found=f"all but {ranges(left)}",
            hint=f"run of the {n_shards} shards {shards} again; what they have finished is kept",
        )
