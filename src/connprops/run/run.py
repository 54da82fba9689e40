"""The whole way, from a circuit to a model and a report, in one folder.

The folder is marked as ours by ``run.json``, which is there from the first moment and says how
far the run has come. What was checked without reading edges is checked before anything is written.
"""

from __future__ import annotations

import json
import resource
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from connprops._version import __version__
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import damage, read_manifest
from connprops.dataset.selection import conditions_of, select_nodes
from connprops.display import Progress
from connprops.errors import (
    ConnpropsError,
    ConnpropsWarning,
    DatasetError,
    OutputError,
    collected_warnings,
)
from connprops.export.export import export
from connprops.export.opening import open_network
from connprops.export.request import ExportRequest, describe, differences
from connprops.fits.property import check_names
from connprops.model.build import build
from connprops.model.model import Model
from connprops.options import BuildOptions, ExtractOptions, RunOptions, read_options
from connprops.query.database import write_database
from connprops.reports.report import report
from connprops.resources import release_memory
from connprops.run.record import (
    ARTIFACTS,
    COMPARED,
    ON_REQUEST,
    RUN_FILE,
    CompleteRun,
    PropertySummary,
    Record,
    Step,
    check_folder,
    digests_of,
    record_of,
    started_with,
    versions,
    write_run,
)
from connprops.run.verify import verify as check_files
from connprops.schema import PATHWAY, unit_of
from connprops.sources.source import Network
from connprops.statistics.extract import chosen_properties, extract
from connprops.statistics.statistics import Statistics, read_statistics
from connprops.store.writing import locked, writing


def run(
    circuit: str | Path,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    verify: bool = False,
) -> CompleteRun:
    """Export a circuit's edges, describe and model them, and report, all in one folder.

    ``out`` is a new or empty folder, or that of a run; by default ``NAME-connprops`` in the working
    folder, NAME being the circuit's. With ``overwrite``, results of another circuit or of other
    options are replaced; those of the same input, options and versions are reused, if they are
    intact. With ``verify``, all bytes of the edge file are compared with those of earlier results.
    """
    options = options or RunOptions()
    steps: list[Step] = []
    with collected_warnings() as collected:
        with _timed("open", steps):
            opened = open_network(circuit, options, options.columns, options.limits)
            request = _checked_input(opened, options, verify=verify)
        folder = Path(out) if out is not None else opened.results_folder()
        record = Record(
            state="running",
            circuit=str(opened.config.resolve()),
            input=request.identity,
            options=options.numbers_depend_on(),
            versions=versions(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        check_folder(folder, record, overwrite=overwrite)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, str(folder)):
            earlier = record_of(folder)
            if isinstance(earlier, CompleteRun) and not reasons_to_run(
                folder, earlier, record, request, progress
            ):
                return replace(earlier, out=str(folder), reused=True)
            write_run(folder, record)
            began = time.perf_counter()
            try:
                results = _all_steps(
                    opened, folder, options, progress, steps, collected, verify=verify
                )
            except BaseException as error:
                reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
                with suppress(
                    OutputError
                ):  # where nothing can be written, the first error says why
                    write_run(folder, replace(record, state="failed", error=reason))
                raise
            complete = CompleteRun(
                **started_with(record),
                **results,
                state="complete",
                out=str(folder),
                steps=tuple(steps),
                warnings=tuple(collected),
                sha256=digests_of(folder, results["artifacts"]),
                seconds=round(time.perf_counter() - began, 3),
            )
            write_run(folder, complete)
    return complete


def _all_steps(
    circuit: Network,
    folder: Path,
    options: RunOptions,
    progress: Progress | None,
    steps: list[Step],
    collected: list[str],
    *,
    verify: bool,
) -> dict[str, Any]:
    """Do the steps; return what the record of a complete run says of their results."""
    with _timed("export", steps):
        place = export(
            circuit,
            folder / "dataset",
            overwrite=True,
            verify=verify,
            **options.edges(),
            resources=options.resources,
            progress=progress,
        )
    dataset = Dataset(place)
    with _timed("extract", steps):
        stats = extract(dataset, progress=progress, **options.of(ExtractOptions))
        if stored := _stored(stats, folder, correlations=options.correlations):
            stats = stored
        else:
            stats.write(folder, correlations=options.correlations, overwrite=True)
    with _timed("build", steps):
        model = build(stats, progress=progress, **options.of(BuildOptions))
        model.write(folder, overwrite=True, json_at_most=options.json_at_most)
    with _timed("database", steps):
        write_database(folder, overwrite=True, resources=options.resources, progress=progress)
    with _timed("report", steps):
        report(
            stats,
            model,
            folder / "report.html",
            title=f"Synapses of {circuit.name}: {dataset.population}",
            facts=_report_facts(circuit, options),
            warnings=collected,
            overwrite=True,
            progress=progress,
        )
    pathways = stats.pathways.select("n_connections", "n_synapses").collect()
    return {
        "population": dataset.population,
        "n_pathways": len(pathways),
        "n_connections": int(pathways["n_connections"].sum()),
        "n_synapses": int(pathways["n_synapses"].sum()),
        "properties": _property_summaries(stats, model),
        "artifacts": tuple(
            name
            for name in (*ARTIFACTS, *(ON_REQUEST if model.correlations.height else ()))
            if name == RUN_FILE or (folder / name).exists()
        ),
    }


def _property_summaries(stats: Statistics, model: Model) -> tuple[PropertySummary, ...]:
    """Return the summary of each property, in order."""
    table = stats.table.select("property", "shared_within").collect()
    observed = (pl.col("level") < 0) & pl.col("other_property").is_null()
    distributions = model.table.filter(observed).select(*PATHWAY, "property", "distribution")
    summaries = []
    for prop in stats.properties:
        used = distributions.filter(pl.col("property") == prop.name).unique()["distribution"]
        counts = used.cast(pl.String).value_counts().sort(
            "count", "distribution", descending=[True, False]
        )  # fmt: skip
        most = counts.row(0) if len(counts) else (None, 0)
        shared = table.filter(pl.col("property") == prop.name)["shared_within"].drop_nulls()
        summaries.append(
            PropertySummary(
                name=prop.name,
                unit=prop.unit,
                distribution=most[0],
                n_pathways=most[1],
                n_observed=len(used),
                shared=float(shared.sum() / len(shared)) if len(shared) else None,
                median_ks=_median_ks(model, prop.name),
            )
        )
    return tuple(summaries)


def _median_ks(model: Model, name: str) -> float | None:
    if model.fits is None:
        return None
    of_data = model.fits.filter((pl.col("property") == name) & (pl.col("level") < 0))
    median = of_data["ks"].drop_nulls().drop_nans().median()
    return float(median) if isinstance(median, int | float) else None


def reasons_to_run(
    folder: Path,
    earlier: Record,
    record: Record,
    request: ExportRequest,
    progress: Progress | None = None,
) -> list[str]:
    """Return why an earlier run's results cannot stand for those of another; none if they can."""
    if earlier.flaw:
        return [f"{folder / RUN_FILE} {earlier.flaw}"]
    changed = [f"other {n}" for n in COMPARED if getattr(earlier, n) != getattr(record, n)]
    try:
        changed += [f"other {name}" for name in differences(folder / "dataset", request) or ()]
    except (DatasetError, OutputError) as error:
        return [*changed, str(error)]
    return [*dict.fromkeys(changed), *check_files(folder, progress).lines()]


def _checked_input(circuit: Network, options: RunOptions, *, verify: bool) -> ExportRequest:
    """Return what is to be exported, after checking all options that edges need not be read for."""
    request = describe(circuit, options, options.columns, verify=verify)
    columns = [(c.name, c.dtype, unit_of(c.name), c.labels, True) for c in request.columns]
    check_names(options, chosen_properties(columns, options.sel_props))
    for side, population, selection in (
        ("source", request.edges.source, options.sel_src),
        ("target", request.edges.target, options.sel_dest),
    ):
        nodes, members = request.sides[side].nodes, partial(circuit.node_set, population)
        select_nodes(nodes, side, conditions_of(selection), members)
    return request


def why_not_reused(folder: Path, record: Record) -> list[str]:
    """Return, in lines for people, what the same run would reuse of a folder and what not."""
    try:
        options = read_options(**record.options)
        circuit = open_network(record.circuit, options, options.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConnpropsWarning)
            request = _checked_input(circuit, options, verify=False)
    except ConnpropsError as error:
        return [f"cannot be made: {error}"]
    same = replace(record, input=request.identity, versions=versions())
    reasons = reasons_to_run(folder, record, same, request)
    if not reasons:
        return ["everything would be reused: input, options, versions and files are the same"]
    dataset = folder / "dataset"
    try:
        again = [f"other {name}" for name in differences(dataset, request) or ()]
        again += [f"{n} {what}" for n, what in damage(dataset, read_manifest(dataset)).items()]
    except (DatasetError, OutputError) as error:
        again = [str(error)]
    verdict = f"exported again ({'; '.join(again)})" if again else "reused"
    return [f"the dataset would be {verdict}", *(f"not complete as it is: {r}" for r in reasons)]


def _stored(stats: Statistics, folder: Path, *, correlations: bool) -> Statistics | None:
    """Return these very statistics as an earlier run has written them; None where it has not."""
    try:
        stored = read_statistics(folder)
        if correlations:
            stored.correlations.collect()
    except DatasetError:
        return None
    same = json.dumps(stored.facts(), sort_keys=True) == json.dumps(stats.facts(), sort_keys=True)
    return stored if same else None


@contextmanager
def _timed(name: str, steps: list[Step]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    release_memory()
    seconds = time.perf_counter() - started
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps.append(Step(name, round(seconds, 3), kibibytes * 1024))


def _report_facts(circuit: Network, options: RunOptions) -> dict[str, str]:
    """Return what the report tells of the run beside the tables; not what changes with the day."""
    defaults = RunOptions().numbers_depend_on()
    chosen = {k: v for k, v in options.numbers_depend_on().items() if v != defaults[k]}
    return {
        "circuit": circuit.name,
        "options": json.dumps(chosen, ensure_ascii=False) if chosen else "defaults",
        "connprops": __version__,
    }
