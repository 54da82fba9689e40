"""The whole way, from a circuit to a model and a report, in one folder.

A new folder is marked as ours by ``run.json``, which is there from the first moment and says how
far the run has come. Results are written aside, in ``.run.partial``, and replace earlier ones all
at once (:mod:`connprops.store.folder`). What was checked without reading edges is checked before
anything is written.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from connprops import schema
from connprops._version import __version__
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import MANIFEST, damage, read_manifest
from connprops.dataset.selection import conditions_of, select_nodes, warn_of_unknown
from connprops.display import Progress
from connprops.errors import (
    ConnpropsError,
    ConnpropsWarning,
    DatasetError,
    OutputError,
    collected_warnings,
)
from connprops.export.export import export, warn_of
from connprops.export.opening import open_network
from connprops.export.request import ExportRequest, describe, differences, is_reusable
from connprops.fits.properties import fit_properties
from connprops.fits.property import check_names
from connprops.model.build import build
from connprops.model.model import Model
from connprops.options import BuildOptions, ExtractOptions, RunOptions, read_options
from connprops.query.database import small_tables, write_database_into
from connprops.reports.expected import read_expected
from connprops.reports.report import report
from connprops.resources import release_memory
from connprops.run.record import (
    ARTIFACTS,
    COMPARED,
    ON_REQUEST,
    RUN_FILE,
    CompleteRun,
    Course,
    PropertySummary,
    Record,
    Step,
    check_folder,
    last_words,
    peak_memory,
    record_of,
    started_with,
    versions,
    write_run,
)
from connprops.run.verify import verify as check_files
from connprops.schema import PATHWAY, unit_of
from connprops.sources.source import Network
from connprops.statistics.extract import chosen_properties, extract
from connprops.statistics.statistics import FILES, TABLES, Statistics, read_statistics
from connprops.store.folder import (
    RECORD,
    Folder,
    ListedFile,
    clean,
    commit,
    listed,
    listing,
    place_of,
)
from connprops.store.writing import leftover_of, locked, make_private, sha256_of, writing
from connprops.workers import started, with_processes

_VALUES_A_SECOND = 5e7
"""Values of synapses that all steps together take in, about."""

_SECONDS_BETWEEN_LOOKS = 0.2

_TOGETHER_FROM = 1 << 32
"""Bytes of memory from which the database is written beside the report."""


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
            request = checked_input(opened, options, verify=verify)
        folder = Path(out) if out is not None else opened.results_folder()
        record = Record(
            state="running",
            circuit=str(opened.config.resolve()),
            input=_read(request, options),
            options=options.numbers_depend_on(),
            versions=versions(),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        check_folder(folder, record, overwrite=overwrite)
        killed = [f"{folder / RUN_FILE} {words}" for words in [last_words(folder)] if words]
        stage = _stage_in(folder)
        with locked(stage, str(folder)):
            (stage / RECORD).unlink(missing_ok=True)  # a commit that was killed may have left it
            earlier = record_of(folder)
            changed, damaged = _reasons(folder, earlier, record, request, progress)
            if isinstance(earlier, CompleteRun) and not changed and not damaged:
                shutil.rmtree(stage)
                return replace(earlier, out=str(folder), reused=True)
            # What has been complete says so until all of the new results are.
            place = stage if place_of(folder, RECORD).is_file() else folder
            write_run(place, record)
            began = time.perf_counter()
            with _failure_noted(record, place, stage), _processes_for(request, options):
                results, known = _all_steps(
                    opened, request, folder, stage, options,
                    Course(place, record, options.limits.memory, progress), steps, collected,
                    verify=verify,
                )  # fmt: skip
            for text in (*killed, *(f"{what}: it is replaced" for what in damaged)):
                warnings.warn(text, ConnpropsWarning, stacklevel=2)  # the report tells of none
            complete = CompleteRun(
                **started_with(record),
                **results,
                state="complete",
                out=str(folder),
                steps=tuple(steps),
                warnings=tuple(collected),
                sha256={name: file.sha256 or "" for name, file in known.items()},
                seconds=round(time.perf_counter() - began, 3),
            )
            write_run(stage, complete)
            known[RUN_FILE] = ListedFile(None, None)  # for its content changes with the day
            commit(folder, stage, {*ARTIFACTS, *ON_REQUEST}, known)
    return complete


def _stage_in(folder: Path) -> Path:
    """Return where a run writes in its folder, both of which are made."""
    stage = leftover_of(folder / "run")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        make_private(stage)
    return stage


def _processes_for(request: ExportRequest, options: RunOptions) -> AbstractContextManager[None]:
    """Start processes that share the work of several steps, where there is enough of it."""
    n_values = request.edges.size * len(request.columns)
    shared = with_processes(options.limits, n_values / _VALUES_A_SECOND)
    return started(shared, extract.__module__, fit_properties.__module__)


@contextmanager
def _failure_noted(record: Record, place: Path, stage: Path) -> Iterator[None]:
    """Note in the record of a run why it failed; a stage in which nothing was finished goes."""
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        with suppress(OutputError):  # where nothing can be written, the first error says why
            write_run(place, replace(record, state="failed", error=reason))
        if place == stage and {item.name for item in stage.iterdir()} <= {RUN_FILE}:
            shutil.rmtree(stage)
        raise


def _all_steps(
    circuit: Network,
    request: ExportRequest,
    folder: Path,
    stage: Path,
    options: RunOptions,
    progress: Course,
    steps: list[Step],
    collected: list[str],
    *,
    verify: bool,
) -> tuple[dict[str, Any], dict[str, ListedFile]]:
    """Do the steps; return what the record of a complete run says of their results, and the files.

    What the folder has already stays there; all else goes to the stage.
    """
    with _timed("export", steps, progress, f"{len(request.columns)} columns of the edges"):
        dataset = _exported(circuit, request, folder, stage, options, progress, verify=verify)
    values = f"{dataset.n_synapses:,} synapses x {len(request.columns)} columns"
    with _timed("extract", steps, progress, values):
        stats = extract(dataset, progress=progress, **options.of(ExtractOptions))
        stats, kept = _described(stats, folder, stage, correlations=options.correlations)
    n_pathways = stats.pathways.select(pl.len()).collect().item()
    fits = f"{n_pathways:,} pathways x {len(stats.properties)} properties"
    with _timed("build", steps, progress, fits):
        model = build(stats, progress=progress, **options.of(BuildOptions))
        model.write_into(stage, options.json_at_most)
    _database_and_report(
        circuit, dataset, stats, model, folder, stage, options, progress, steps, collected, fits
    )
    artifacts = tuple(
        name
        for name in (*ARTIFACTS, *(ON_REQUEST if options.correlations else ()))
        if name in ("dataset", RUN_FILE) or name in kept or (stage / name).exists()
    )
    for item in stage.iterdir():  # of an earlier run that was killed
        if item.name not in artifacts or item.name == RUN_FILE:
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    known = kept | listing(stage, {})
    known |= {f"dataset/{MANIFEST}": listed(dataset.folder / MANIFEST)}
    pathways = stats.pathways.select("n_connections", "n_synapses").collect()
    return {
        "population": dataset.population,
        "n_pathways": len(pathways),
        "n_connections": int(pathways["n_connections"].sum()),
        "n_synapses": int(pathways["n_synapses"].sum()),
        "properties": _property_summaries(stats, model),
        "artifacts": artifacts,
    }, known


def _database_and_report(
    circuit: Network,
    dataset: Dataset,
    stats: Statistics,
    model: Model,
    folder: Path,
    stage: Path,
    options: RunOptions,
    progress: Course,
    steps: list[Step],
    collected: list[str],
    fits: str,
) -> None:
    """Write the database and the report, both at once where there is room for it."""
    limits, unwanted = options.limits, () if options.correlations else ON_REQUEST

    told: list[tuple[str, int, int, str]] = []

    def database() -> None:
        with _timed("database", steps):
            tables = small_tables(Folder(folder, stage), dataset, unwanted)
            write_database_into(
                stage, folder, dataset, tables, limits, lambda *now: told.append(now)
            )

    with ThreadPoolExecutor(1) as pool:
        progress.at("database", fits)
        writing = pool.submit(database)
        together = limits.threads > 1 and limits.memory >= _TOGETHER_FROM
        if not together:
            _wait_for(writing, told, progress)
        with _timed("report", steps, progress, fits):
            report(
                stats,
                model,
                stage / "report.html",
                title=f"Synapses of {circuit.name}: {dataset.population}",
                facts=_report_facts(circuit, options),
                warnings=collected,
                expected=options.expected,
                overwrite=True,
                progress=progress,
            )
        if together:
            _wait_for(writing, told, progress)


def _wait_for(
    work: Future[None], told: Sequence[tuple[str, int, int, str]], progress: Progress
) -> None:
    """Wait for work beside, and tell how far it is."""
    is_done = False
    while not is_done:
        is_done = bool(wait([work], timeout=_SECONDS_BETWEEN_LOOKS).done)
        if told:
            progress(*told[-1])
    work.result()


def _exported(
    circuit: Network,
    request: ExportRequest,
    folder: Path,
    stage: Path,
    options: RunOptions,
    progress: Progress | None,
    *,
    verify: bool,
) -> Dataset:
    """Return the dataset of the folder, where it is what was asked for; else a new one."""
    place = folder / "dataset"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)  # the run says what it replaces
        reusable = is_reusable(place, request, overwrite=True, progress=progress)
    if reusable:
        shutil.rmtree(stage / "dataset", ignore_errors=True)
        warn_of(place)
        return Dataset(place)
    asked = {**options.edges(), "resources": options.resources, "progress": progress}
    return Dataset(export(circuit, stage / "dataset", overwrite=True, verify=verify, **asked))


def _described(
    stats: Statistics, folder: Path, stage: Path, *, correlations: bool
) -> tuple[Statistics, dict[str, ListedFile]]:
    """Return statistics as they are stored, and which of their files are in the folder already."""
    if stored := _stored(stats, stage, correlations=correlations):
        return stored, {}
    names = [*TABLES, *([schema.CORRELATIONS.name] if correlations else [])]
    with suppress(DatasetError):
        before = Folder(folder).listed or {}
        files = {f"{n}.parquet": before.get(f"{n}.parquet") for n in names}
        kept = {name: file for name, file in files.items() if file is not None}
        if len(kept) == len(names) and (
            stored := _stored(stats, folder, correlations=correlations)
        ):
            for name in FILES:  # of an earlier run that was killed
                (stage / name).unlink(missing_ok=True)
            return stored, kept
    stats.write_into(stage, stage, folder, correlations=correlations)
    return stats, {}


_NO_EVIDENCE: dict[str, Any] = {
    **dict.fromkeys(("n_own", "n_level", "n_borrowed", "n_tested", "n_rejected"), 0),
    **dict.fromkeys(("share_own", "p_small", "coverage")),
}


def _property_summaries(stats: Statistics, model: Model) -> tuple[PropertySummary, ...]:
    """Return the summary of each property, in order."""
    table = stats.table.select("property", "shared_within").collect()
    observed = (pl.col("level") < 0) & pl.col("other_property").is_null()
    distributions = model.table.filter(observed).select(*PATHWAY, "property", "distribution")
    rows = model.evidence(stats.pathways.collect()).drop("n_failed").to_dicts()
    evidence = {row.pop("property"): row for row in rows}
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
                **evidence.get(prop.name, _NO_EVIDENCE),
            )
        )
    return tuple(summaries)


def _reasons(
    folder: Path,
    earlier: Record | None,
    record: Record,
    request: ExportRequest,
    progress: Progress | None = None,
) -> tuple[list[str], list[str]]:
    """Return why an earlier run's results cannot stand for those of another; none if they can.

    First in what it is another run, then what is wrong with its files.
    """
    changed = [f"other {n}" for n in COMPARED if getattr(earlier, n, None) != getattr(record, n)]
    if earlier is not None and earlier.flaw:
        changed.append(f"{folder / RUN_FILE} {earlier.flaw}")
    if not place_of(folder, RECORD).exists() and not isinstance(earlier, CompleteRun):
        return changed, []
    try:
        changed += [f"other {name}" for name in differences(folder / "dataset", request) or ()]
    except (DatasetError, OutputError) as error:
        return [*dict.fromkeys(changed)], [str(error)]
    return [*dict.fromkeys(changed)], check_files(folder, progress).lines(
        folder, {*ARTIFACTS, *ON_REQUEST, RECORD}
    )


def checked_input(circuit: Network, options: RunOptions, *, verify: bool) -> ExportRequest:
    """Return what is to be exported, after checking all options that edges need not be read for."""
    request = describe(circuit, options, options.columns, verify=verify)
    columns = [(c.name, c.dtype, unit_of(c.name), c.labels, True) for c in request.columns]
    check_names(options, chosen_properties(columns, options.sel_props))
    for side, population, selection in (
        ("source", request.edges.source, options.sel_src),
        ("target", request.edges.target, options.sel_dest),
    ):
        nodes, members = request.sides[side].nodes, partial(circuit.node_set, population)
        conditions = conditions_of(selection)
        select_nodes(nodes, side, conditions, members)
        warn_of_unknown(nodes, side, conditions)
    return request


def _read(request: ExportRequest, options: RunOptions) -> dict[str, Any]:
    """Return what tells the input of a run from another's: edges, and what they are held against.

    Raises :class:`DatasetError` where a table of expected means will not do.
    """
    if options.expected is None:
        return request.identity
    read_expected(options.expected)
    return {**request.identity, "expected": sha256_of(Path(options.expected))}


def why_not_reused(folder: Path, record: Record) -> list[str]:
    """Return, in lines for people, what the same run would reuse of a folder and what not."""
    try:
        options = read_options(**record.options)
        circuit = open_network(record.circuit, options, options.columns)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConnpropsWarning)
            request = checked_input(circuit, options, verify=False)
    except ConnpropsError as error:
        return [f"cannot be made: {error}"]
    same = replace(record, input=_read(request, options), versions=versions())
    changed, damaged = _reasons(folder, record, same, request)
    if not (reasons := [*changed, *damaged]):
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
def _timed(
    name: str, steps: list[Step], course: Course | None = None, grows_with: str = ""
) -> Iterator[None]:
    if course:
        course.at(name, grows_with)
    started = time.perf_counter()
    yield
    release_memory()
    seconds = time.perf_counter() - started
    steps.append(Step(name, round(seconds, 3), peak_memory()))


def _report_facts(circuit: Network, options: RunOptions) -> dict[str, str]:
    """Return what the report tells of the run beside the tables; not what changes with the day."""
    defaults = RunOptions().numbers_depend_on()
    chosen = {k: v for k, v in options.numbers_depend_on().items() if v != defaults[k]}
    return {
        "circuit": circuit.name,
        "options": json.dumps(chosen, ensure_ascii=False) if chosen else "defaults",
        "connprops": __version__,
    }
