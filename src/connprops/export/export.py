"""Edges to Parquet: one sequential pass, part by part.

A part is a contiguous range of the edge file, cut at connection boundaries and ordered by
pathway within. It becomes two files, ``connections/NNNNN.parquet`` and
``synapses/NNNNN.parquet``. Parts do not know of each other, so they can be written anywhere
and in any order, and an interrupted export goes on from the finished ones. Everything is
staged in a hidden folder beside the target and renamed at the end, so that a reader
never sees half a dataset (:mod:`connprops.store.stage`).

A dataset is a function of its input and options, byte for byte, but for ``source.json``, which
holds the modification time of the edge file.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.dataset.manifest import KINDS, TableFile, read_manifest, write_manifest, write_source
from connprops.declare import takes
from connprops.display import Progress
from connprops.errors import CircuitError, ConnpropsWarning, OptionError
from connprops.export.parts import ROW_GROUP, RangeSpec, RangeSummary, export_range
from connprops.export.plan import in_order, parts_at_once, plan, revised
from connprops.export.request import ExportRequest, describe, is_reusable, manifest_of
from connprops.options import ExportOptions
from connprops.resources import Resources, release_memory
from connprops.sources.node_types import node_tables
from connprops.sources.source import Network
from connprops.store.shards import WHOLE, Shard
from connprops.store.stage import (
    keep_finished,
    keep_for_shards,
    one_at_a_time,
    put_in_place,
    restored,
    staged,
    staged_shard,
)
from connprops.store.writing import replacing, sha256_of
from connprops.workers import run_units


@takes(ExportOptions)
def export(circuit: Network, folder: str | Path, options: ExportOptions) -> Path:
    """Write an edge population as a dataset folder, or find it there already.

    Parameters
    ----------
    circuit
        The circuit or the tables, from :func:`connprops.export.opening.open_network`.
    folder
        Where the dataset goes. One of the same input and options is left as it is, once its
        files have been found intact.

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
    resources, progress, overwrite = options.limits, options.progress, options.overwrite
    shard = None if options.shard is None else _checked_shard(options.shard, options)
    request = describe(circuit, options, options.properties, verify=options.verify)
    if shard is not None:
        if not is_reusable(target, request, overwrite=overwrite, check_files=False):
            _write_shard(request, target, shard, resources, progress)
        return target
    if not is_reusable(target, request, overwrite=overwrite, progress=progress):
        with staged(target) as stage:
            # Again: another process may have made it, or was killed while it put it in place.
            if not is_reusable(target, request, overwrite=overwrite):
                keep_finished(stage, request.depends_on, resume=options.resume)
                tables = write_node_tables(request, stage / "dataset")
                summaries = _write_parts(plan(request, stage), resources, progress)
                finish(request, stage, tables, summaries)
                put_in_place(stage / "dataset", target)
    restored(target)  # or what a process that was killed at its end has left
    warn_of(target)
    return target


def warn_of(target: Path) -> None:
    """Say what in a dataset changes what is computed from it."""
    for text in read_manifest(target).warnings:
        warnings.warn(text, ConnpropsWarning, stacklevel=4)


def finish(
    request: ExportRequest,
    stage: Path,
    tables: Mapping[str, TableFile],
    summaries: Sequence[RangeSummary],
) -> None:
    """Write what makes a folder of parts a dataset: its manifest."""
    if request.edges.state() != request.state:
        raise CircuitError.of(
            f"{request.edges.file} has changed while it was read",
            hint="export again when nobody writes it any more",
        )
    dataset = stage / "dataset"
    written = {dataset / name for summary in summaries for name in summary.sha256}
    for kind in KINDS:  # what another plan of the same parts has left
        for file in {*(dataset / kind).iterdir()} - written:
            file.unlink()
    manifest = manifest_of(request, tables, summaries)
    write_source(dataset, request.state, request.sha256, write_manifest(dataset, manifest))


def _checked_shard(shard: str | tuple[int, int], options: ExportOptions) -> Shard:
    """Return the shard, of which not everything can be asked."""
    if not options.resume:
        raise OptionError.of(
            "A shard always goes on from what is finished",
            found="resume=False (--no-resume)",
            hint="to begin anew, remove the folder .NAME.partial beside the dataset's",
        )
    if options.verify:
        raise OptionError.of(
            "A shard does not read all of the edge file",
            found="verify=True (--verify)",
            hint="export what the shards have merged again with --verify, over it (--overwrite)",
        )
    return Shard.parse(shard)


def _write_shard(
    request: ExportRequest,
    target: Path,
    shard: Shard,
    resources: Resources,
    progress: Progress | None,
) -> None:
    """Write a shard's share of the parts into the stage."""
    with staged_shard(target, shard) as stage:
        with one_at_a_time(stage):
            keep_for_shards(stage, request.depends_on, shard, request.options)
            if not (stage / "dataset" / "nodes.parquet").is_file():
                write_node_tables(request, stage / "dataset")
            specs = plan(request, stage)
        _write_parts(specs, resources, progress, shard)


def write_node_tables(request: ExportRequest, folder: Path) -> dict[str, TableFile]:
    """Write the tables of nodes; return what the manifest says of each."""
    for name in KINDS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    files = {}
    for name, frame in node_tables(request.sides, request.node_sets).items():
        file = folder / f"{name}.parquet"
        with replacing(file, overwrite=True) as aside:
            rows = frame.rechunk().to_arrow()
            table = schema.LARGE.get(name, schema.TYPES)
            fields = [f.with_metadata(schema.field_metadata(table, f.name)) for f in rows.schema]
            rows = pa.Table.from_arrays(rows.columns, schema=pa.schema(fields))
            pq.write_table(rows, aside, row_group_size=ROW_GROUP, compression="zstd")
        files[file.name] = TableFile(len(frame), sha256_of(file))
    return files


def _write_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None, shard: Shard = WHOLE
) -> list[RangeSummary]:
    """Write the parts of a shard, again with what was learnt where the plan was too simple."""
    while True:
        specs = revised(specs, resources, progress)
        summaries = _run_parts(shard.share(specs), resources, progress)
        if specs[0].sorted_copy is None and not in_order(summaries):
            specs = [replace(specs[0], axis="neither")]
        elif len(specs) == 1 or all(
            specs[0].varying.issuperset(summary.varies) for summary in summaries
        ):
            return summaries


def _run_parts(
    specs: list[RangeSpec], resources: Resources, progress: Progress | None
) -> list[RangeSummary]:
    """Write parts in threads of this process, or where the resources say."""
    if not specs:
        return []
    done, total, summaries = 0, sum(spec.stop - spec.start for spec in specs), []
    rows = max(spec.stop - spec.start for spec in specs)
    at_once, _ = parts_at_once(
        rows, specs[0].columns, len(specs), resources, of_sorted=specs[0].sorted_copy is not None
    )
    with ThreadPoolExecutor(at_once) as threads:
        workers = threads if resources.workers is None else resources.workers
        with closing(run_units(export_range, specs, workers, "part")) as exported:
            for _, summary in exported:
                summaries.append(summary)
                done += summary.stop - summary.start
                if progress:
                    progress("export", done, total, "rows")
    release_memory()  # statistics want it next
    return sorted(summaries, key=lambda summary: summary.part)
