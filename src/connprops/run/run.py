"""The whole way, from a circuit to a model and a report, in one folder.

A new folder is marked as ours by ``run.json``, which is there from the first moment and says how
far the run has come. Results are written aside, in ``.run.partial``, and replace earlier ones all
at once (:mod:`connprops.store.folder`). What was checked without reading edges is checked before
anything is written.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from connprops.dataset.manifest import damage, read_manifest
from connprops.dataset.selection import conditions_of, select_nodes, warn_of_unknown
from connprops.display import Progress
from connprops.errors import (
    ConnpropsError,
    ConnpropsWarning,
    DatasetError,
    OutputError,
    collected_warnings,
)
from connprops.export.opening import open_network
from connprops.export.request import ExportRequest, describe, differences
from connprops.fits.checks import check_names
from connprops.options import RunOptions, read_options
from connprops.reports.expected import read_expected
from connprops.run.record import (
    COMPARED,
    RESULTS,
    RUN_FILE,
    CompleteRun,
    Course,
    Record,
    Step,
    check_folder,
    last_words,
    record_of,
    versions,
    write_run,
)
from connprops.run.steps import Steps, timed
from connprops.run.verify import verify as check_files
from connprops.schema import unit_of
from connprops.sources.node_types import node_set
from connprops.sources.source import Network
from connprops.statistics.extract import chosen_properties
from connprops.store.folder import RECORD, ListedFile, clean, commit, place_of
from connprops.store.writing import leftover_of, locked, make_private, sha256_of, writing


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
        with timed("open", steps):
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
            course = Course(place, record, options.limits.memory, progress)
            work = Steps(opened, request, folder, stage, options, course, steps, collected)
            with _failure_noted(record, place, stage):
                results, known = work.results(verify=verify)
            for text in (*killed, *(f"{what}: it is replaced" for what in damaged)):
                warnings.warn(text, ConnpropsWarning, stacklevel=2)  # the report tells of none
            complete = CompleteRun(
                **vars(replace(record, state="complete")),
                **results,
                out=str(folder),
                steps=tuple(steps),
                warnings=tuple(collected),
                sha256={name: file.sha256 or "" for name, file in known.items()},
                seconds=round(time.perf_counter() - began, 3),
            )
            write_run(stage, complete)
            known[RUN_FILE] = ListedFile(None, None)  # for its content changes with the day
            commit(folder, stage, RESULTS, known)
    return complete


def _stage_in(folder: Path) -> Path:
    """Return where a run writes in its folder, both of which are made."""
    stage = leftover_of(folder / "run")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        clean(folder)
        make_private(stage)
    return stage


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


def _reasons(
    folder: Path,
    earlier: Record | None,
    record: Record,
    request: ExportRequest,
    progress: Progress | None,
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
    damaged = check_files(folder, progress).lines(folder, RESULTS | {RECORD})
    return [*dict.fromkeys(changed)], damaged


def checked_input(circuit: Network, options: RunOptions, *, verify: bool) -> ExportRequest:
    """Return what is to be exported, after checking all options that edges need not be read for."""
    request = describe(circuit, options, options.columns, verify=verify)
    columns = [(c.name, c.dtype, unit_of(c.name), c.labels, True) for c in request.columns]
    check_names(options, chosen_properties(columns, options.sel_props))
    for side, population, selection in (
        ("source", request.edges.source, options.sel_src),
        ("target", request.edges.target, options.sel_dest),
    ):
        nodes, members = request.sides[side].nodes, partial(node_set, circuit, population)
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
    changed, damaged = _reasons(folder, record, same, request, progress=None)
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
