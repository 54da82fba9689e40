"""The steps of a run: from edges to a dataset, statistics, a model, a database and a report.

What the folder has already stays there; all else goes to a stage, which replaces it at once.
"""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from connprops import schema
from connprops._version import __version__
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import MANIFEST
from connprops.display import Progress
from connprops.errors import ConnpropsWarning, DatasetError
from connprops.export.export import export, warn_of
from connprops.export.request import ExportRequest, is_reusable
from connprops.fits.properties import fit_properties
from connprops.model.build import build
from connprops.model.model import Model
from connprops.options import BuildOptions, ExtractOptions, RunOptions
from connprops.query.database import small_tables, write_database_into
from connprops.reports.data import NO_EVIDENCE
from connprops.reports.report import report
from connprops.resources import release_memory
from connprops.run.record import (
    ARTIFACTS,
    ON_REQUEST,
    RUN_FILE,
    Course,
    PropertySummary,
    Step,
    peak_memory,
)
from connprops.sources.source import Network
from connprops.statistics.extract import extract
from connprops.statistics.statistics import FILES, TABLES, Statistics, read_statistics
from connprops.store.folder import Folder, ListedFile, listed, listing
from connprops.workers import started, with_processes

_VALUES_A_SECOND = 5e7
"""Values of synapses that all steps together take in, about."""

_SECONDS_BETWEEN_LOOKS = 0.2

_TOGETHER_FROM = 1 << 32
"""Bytes of memory from which the database is written beside the report."""


@dataclass(frozen=True)
class Steps:
    """The steps of a run that is under way.

    ``folder`` is where results are, ``stage`` where new ones are written. ``steps``, what each has
    taken, and ``collected``, the warnings so far, grow.
    """

    circuit: Network
    request: ExportRequest
    folder: Path
    stage: Path
    options: RunOptions
    progress: Course
    steps: list[Step]
    collected: list[str]

    def results(self, *, verify: bool) -> tuple[dict[str, Any], dict[str, ListedFile]]:
        """Do all steps; return what the record of a complete run says of them, and the files."""
        options, n_columns = self.options, len(self.request.columns)
        n_values = self.request.edges.size * n_columns
        shared = with_processes(options.limits, n_values / _VALUES_A_SECOND)
        with started(shared, extract.__module__, fit_properties.__module__):
            with self._timed("export", f"{n_columns} columns of the edges"):
                dataset = self._exported(verify=verify)
            with self._timed("extract", f"{dataset.n_synapses:,} synapses x {n_columns} columns"):
                stats = extract(dataset, progress=self.progress, **options.of(ExtractOptions))
                stats, kept = self._described(stats)
            n_pathways = stats.pathways.select(pl.len()).collect().item()
            fits = f"{n_pathways:,} pathways x {len(stats.properties)} properties"
            with self._timed("build", fits):
                model = build(stats, progress=self.progress, **options.of(BuildOptions))
                model.write_into(self.stage, options.json_at_most)
        with self._database(dataset, fits):
            with self._timed("report", fits):
                self._write_report(dataset, stats, model)
            summaries = _property_summaries(stats, model)
            del model  # the database may need its room
        self.steps.sort(key=lambda step: step.name == "report")  # the last, whichever ended first
        artifacts = self._artifacts(kept)
        known = kept | listing(self.stage, {})
        known |= {f"dataset/{MANIFEST}": listed(dataset.folder / MANIFEST)}
        sums = stats.pathways.select(pl.col("n_connections", "n_synapses").sum()).collect()
        return {
            "population": dataset.population,
            "n_pathways": n_pathways,
            **sums.row(0, named=True),
            "properties": summaries,
            "artifacts": artifacts,
        }, known

    def _timed(self, name: str, grows_with: str) -> AbstractContextManager[None]:
        return timed(name, self.steps, self.progress, grows_with)

    def _exported(self, *, verify: bool) -> Dataset:
        """Return the dataset of the folder, where it is what was asked for; else a new one."""
        place, options = self.folder / "dataset", self.options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConnpropsWarning)  # the run says what it replaces
            reusable = is_reusable(place, self.request, overwrite=True, progress=self.progress)
        if reusable:
            shutil.rmtree(self.stage / "dataset", ignore_errors=True)
            warn_of(place)
            return Dataset(place)
        asked = {**options.edges(), "resources": options.resources, "progress": self.progress}
        target = self.stage / "dataset"
        return Dataset(export(self.circuit, target, overwrite=True, verify=verify, **asked))

    def _described(self, stats: Statistics) -> tuple[Statistics, dict[str, ListedFile]]:
        """Return statistics as they are stored, and which of their files the folder has already."""
        correlations = self.options.correlations
        if stored := _stored(stats, self.stage, correlations=correlations):
            return stored, {}
        names = [*TABLES, *([schema.CORRELATIONS.name] if correlations else [])]
        files = [f"{name}.parquet" for name in names]
        with suppress(DatasetError):
            before = Folder(self.folder).listed or {}
            if before.keys() >= {*files} and (
                stored := _stored(stats, self.folder, correlations=correlations)
            ):
                for name in FILES:  # of an earlier run that was killed
                    (self.stage / name).unlink(missing_ok=True)
                return stored, {name: before[name] for name in files}
        stats.write_into(self.stage, self.stage, self.folder, correlations=correlations)
        return stats, {}

    @contextmanager
    def _database(self, dataset: Dataset, grows_with: str) -> Iterator[None]:
        """Write the database: beside what is done meanwhile where there is room, else after it."""
        limits = self.options.limits
        told: list[tuple[str, int, int, str]] = []
        with ThreadPoolExecutor(1) as pool:

            def start() -> Future[None]:
                self.progress.at("database", grows_with)
                return pool.submit(self._write_database, dataset, lambda *now: told.append(now))

            together = limits.threads > 1 and limits.memory >= _TOGETHER_FROM
            writing = start() if together else None
            yield
            if writing is None:
                release_memory()  # of the model, which is let go of by now
            _wait_for(writing or start(), told, self.progress)

    def _write_report(self, dataset: Dataset, stats: Statistics, model: Model) -> None:
        report(
            stats,
            model,
            self.stage / "report.html",
            title=f"Synapses of {self.circuit.name}: {dataset.population}",
            facts=_report_facts(self.circuit, self.options),
            warnings=self.collected,
            expected=self.options.expected,
            overwrite=True,
            progress=self.progress,
        )

    def _write_database(self, dataset: Dataset, progress: Progress) -> None:
        unwanted = () if self.options.correlations else ON_REQUEST
        with timed("database", self.steps):
            tables = small_tables(Folder(self.folder, self.stage), dataset, unwanted)
            write_database_into(
                self.stage, self.folder, dataset, tables, self.options.limits, progress
            )

    def _artifacts(self, kept: Collection[str]) -> tuple[str, ...]:
        """Return the names of all results; remove what else is left in the stage."""
        artifacts = tuple(
            name
            for name in (*ARTIFACTS, *(ON_REQUEST if self.options.correlations else ()))
            if name in ("dataset", RUN_FILE) or name in kept or (self.stage / name).exists()
        )
        for item in self.stage.iterdir():  # of an earlier run that was killed
            if item.name not in artifacts or item.name == RUN_FILE:
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        return artifacts


@contextmanager
def timed(
    name: str, steps: list[Step], course: Course | None = None, grows_with: str = ""
) -> Iterator[None]:
    """Note what a step takes, and that it has begun."""
    if course:
        course.at(name, grows_with)
    started_at = time.perf_counter()
    yield
    release_memory()
    seconds = time.perf_counter() - started_at
    steps.append(Step(name, round(seconds, 3), peak_memory()))


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


def _report_facts(circuit: Network, options: RunOptions) -> dict[str, str]:
    """Return what the report tells of the run beside the tables; not what changes with the day."""
    defaults = RunOptions().numbers_depend_on()
    chosen = {k: v for k, v in options.numbers_depend_on().items() if v != defaults[k]}
    return {
        "circuit": circuit.name,
        "options": json.dumps(chosen, ensure_ascii=False) if chosen else "defaults",
        "connprops": __version__,
    }


def _property_summaries(stats: Statistics, model: Model) -> tuple[PropertySummary, ...]:
    """Return the summary of each property, in order."""
    table = stats.table.select("property", "shared_within").collect()
    fitted = model.fits if model.fits is not None else schema.FITS.polars_schema().to_frame()
    observed = fitted.lazy().filter(pl.col("level") < 0).group_by("property", "distribution")
    families = observed.len().with_columns(pl.col(pl.Enum).cast(pl.String)).collect()
    rows = model.evidence(stats.pathways.collect()).drop("n_failed").to_dicts()
    evidence = {row.pop("property"): row for row in rows}
    summaries = []
    for prop in stats.properties:
        used = families.filter(property=prop.name).select("distribution", "len").rows()
        family, n = min(used, key=lambda row: (-row[1], row[0]), default=(None, 0))
        shared = table.filter(pl.col("property") == prop.name)["shared_within"].drop_nulls()
        summaries.append(
            PropertySummary(
                prop.name, prop.unit, distribution=family, n_pathways=n,
                n_observed=sum(count for _, count in used),
                shared=float(shared.sum() / len(shared)) if len(shared) else None,
                **evidence.get(prop.name, NO_EVIDENCE),
            )
        )  # fmt: skip
    return tuple(summaries)
