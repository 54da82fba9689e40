"""The whole way, from a circuit to a model and a report, in one folder.

The folder is marked as ours by ``run.json``, which is there from the first moment and says how
far the run has come. What was checked without reading edges is checked before anything is written.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import resource
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import connprops
from connprops import sonata
from connprops.artifacts import leftover_of, sha256_of, write_text, writing
from connprops.build_options import Settings
from connprops.database import DATABASE, VIEWS, write_database
from connprops.dataset import Dataset
from connprops.errors import (
    ConnpropsError,
    ConnpropsWarning,
    DatasetError,
    OptionError,
    OutputError,
)
from connprops.export import export
from connprops.export_request import Wanted, describe, differences
from connprops.extract import NOT_BY_DEFAULT, extract
from connprops.fit import build
from connprops.manifest import MANIFEST, damage, read_manifest, seal_of
from connprops.model import Model
from connprops.options import RunOptions, read_options
from connprops.progress import Progress
from connprops.report import report
from connprops.resources import release_memory
from connprops.schema import N_SYN_PER_CONN, unit_of
from connprops.selection import select_nodes
from connprops.statistics import TABLES, Property, Statistics, read_statistics
from connprops.summary import RunSummary, Step, property_summaries

RUN_FILE = "run.json"
"""Name of the file that marks a folder as that of a run, and tells of it."""

ARTIFACTS = (
    "dataset",
    *(f"{name}.parquet" for name in TABLES),
    "model.parquet",
    "fits.parquet",
    "scores.parquet",
    "model.json",
    DATABASE,
    VIEWS,
    "report.html",
    RUN_FILE,
)
"""What a run writes."""

_ASKED_FOR = ("correlations.parquet",)
"""What it writes where it is asked to."""

_PROGRAM = "connprops run"
_RECORDED = {
    "state": str, "circuit": str, "input": dict, "options": dict, "versions": dict, "started": str,
}  # fmt: skip
"""What each record of a run has."""

_NO_NAMES = frozenset({"", "build", "circuit", "config", "configs", "sonata"})
"""Names of folders that tell no circuit from another."""

_VERSIONS_OF = ("altair", "bluepysnap", "duckdb", "h5py", "libsonata", "numpy", "polars", "pyarrow", "scipy")  # fmt: skip # noqa: E501


def run(
    circuit: str | Path,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    verify: bool = False,
) -> RunSummary:
    """Export a circuit's edges, describe and model them, and report, all in one folder.

    Parameters
    ----------
    circuit
        Configuration file of the circuit, or its folder.
    out
        The folder: a new, an empty, or a run's one; by default ``NAME-connprops`` in the working
        folder, NAME being the circuit's.
    options
        What to compute; by default everything that there is.
    progress
        Called with step, units done, units in all, and the unit's name.
    overwrite
        Replace the results of a run of another circuit or with other options. Those of the
        same input, options and versions are left as they are, once they have been found intact;
        where only some are, these are reused.
    verify
        Tell whether the circuit is the same by the whole content of its edge file: see
        :func:`connprops.export.export`.

    Returns
    -------
    RunSummary
        What was found, and what it took.

    Raises
    ------
    CircuitError, OptionError, OutputError
        Where the circuit cannot be read, an option not met, or the folder not written.
    """
    options = options or RunOptions()
    steps: list[Step] = []
    with collected_warnings() as collected:
        with _timed("open", steps):
            opened = sonata.open_circuit(circuit)
            wanted = _checked_input(opened, options, verify=verify)
        folder = Path(out) if out is not None else folder_for(opened)
        record: dict[str, Any] = {
            "program": _PROGRAM,
            "circuit": str(opened.config.resolve()),
            "input": wanted.identity,
            "options": options.numbers_depend_on(),
            "versions": _versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _check_folder(folder, record, overwrite=overwrite)
        with _alone_in(folder):
            earlier = record_of(folder)
            if earlier is not None and not reasons_to_run(folder, earlier, record, wanted):
                return RunSummary.from_json(earlier, folder)
            with _recorded(folder, record):
                summary = _all_steps(
                    opened, folder, options, progress, steps, collected, verify=verify
                )
                record |= summary.as_json()
                record["sha256"] = _digests(folder, summary.artifacts)
    return summary


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the texts of this package's warnings, each once; others are shown as ever.

    An error takes what was collected with it, as its notes: it may be what a warning was about.
    """
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConnpropsWarning)
        shown = warnings.showwarning

        def keep(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, ConnpropsWarning):
                shown(message, category, filename, lineno, file, line)
            elif str(message) not in texts:
                texts.append(str(message))

        warnings.showwarning = keep
        try:
            yield texts
        except BaseException as error:
            for text in texts:
                error.add_note(text)
            raise


def folder_for(circuit: sonata.Circuit) -> Path:
    """Return the folder of the results where none is given: named after the circuit.

    That is the name of the folder that the configuration is in, or of the nearest one above
    with a name that says something.
    """
    above = (place.name for place in circuit.config.resolve().parents)
    name = next((name for name in above if name.lower() not in _NO_NAMES), "circuit")
    return Path(f"{name}-connprops")


def write_model(model: Model, folder: Path, *, overwrite: bool) -> None:
    """Write a model, its fits and scores, and its JSON form into a folder."""
    model.write_parquet(folder / "model.parquet", overwrite=overwrite)
    model.write_json(folder / "model.json", overwrite=overwrite)


def _all_steps(
    circuit: sonata.Circuit,
    folder: Path,
    options: RunOptions,
    progress: Progress | None,
    steps: list[Step],
    collected: list[str],
    *,
    verify: bool,
) -> RunSummary:
    means: dict[str, Any] = {"resources": options.resources(), "progress": progress}
    with _timed("export", steps):
        place = export(
            circuit, folder / "dataset", overwrite=True, verify=verify, **options.export(), **means
        )
    dataset = Dataset(place)
    with _timed("extract", steps):
        stats = extract(dataset, **options.extract(), **means)
        if stored := _stored(stats, folder, correlations=options.correlations):
            stats = stored
        else:
            stats.write(folder, correlations=options.correlations, overwrite=True)
    with _timed("build", steps):
        model = build(stats, **options.build(), **means)
        write_model(model, folder, overwrite=True)
    with _timed("database", steps):
        write_database(folder, overwrite=True)
    with _timed("report", steps):
        report(
            stats,
            model,
            folder / "report.html",
            title=f"Synapses of {circuit.name}: {dataset.population}",
            facts=_report_facts(circuit, options),
            warnings=collected,
            overwrite=True,
        )
    return _summary(circuit, folder, dataset, stats, model, steps, collected)


def _summary(
    circuit: sonata.Circuit,
    folder: Path,
    dataset: Dataset,
    stats: Statistics,
    model: Model,
    steps: list[Step],
    collected: list[str],
) -> RunSummary:
    pathways = stats.pathways.select("n_connections", "n_synapses").collect()
    return RunSummary(
        out=folder,
        circuit=str(circuit.config.resolve()),
        population=dataset.population,
        n_pathways=len(pathways),
        n_connections=int(pathways["n_connections"].sum()),
        n_synapses=int(pathways["n_synapses"].sum()),
        properties=property_summaries(stats, model),
        steps=tuple(steps),
        artifacts=(*ARTIFACTS, *(_ASKED_FOR if model.correlations.height else ())),
        warnings=tuple(collected),
    )


def _checked_input(circuit: sonata.Circuit, options: RunOptions, *, verify: bool) -> Wanted:
    """Return what is to be exported, after checking all options that edges need not be read for."""
    wanted = describe(circuit, **options.export(), verify=verify)
    read_options(hist_bins=options.hist_bins, seed=options.seed, p_values=options.p_values)
    for size in (options.min_sample_size_per_group, options.max_sample_size_per_group):
        read_options(max_sample_size_per_group=size or None)
    Settings.checked(_properties(wanted, options.sel_props), **options.build())
    for side, population, selection in (
        ("source", wanted.edges.source, options.sel_src),
        ("target", wanted.edges.target, options.sel_dest),
    ):
        nodes = wanted.sides[side].nodes
        select_nodes(nodes, side, selection, partial(circuit.node_set, population))
    options.resources()
    return wanted


def _properties(wanted: Wanted, names: Sequence[str] | None) -> list[Property]:
    """Return the properties that statistics will be of; columns of identifiers still among them."""
    known = [*(column.name for column in wanted.columns), N_SYN_PER_CONN]
    for name in names or ():
        if name not in known:
            raise OptionError.unknown("property", name, known)
    chosen = [
        Property(column.name, column.dtype, unit_of(column.name))
        for column in wanted.columns
        if names is not None or not any(word in column.name for word in NOT_BY_DEFAULT)
    ]
    return [*chosen, Property(N_SYN_PER_CONN, "int64", unit_of(N_SYN_PER_CONN))]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder of a run: a second process that is to write there is told."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise OutputError.of(
            f"Another process is writing {folder}", hint="wait for it, or give another folder"
        ) from error
    try:
        yield
    finally:
        os.close(handle)


def reasons_to_run(
    folder: Path, earlier: Mapping[str, Any], record: Mapping[str, Any], wanted: Wanted
) -> list[str]:
    """Return why an earlier run's results cannot stand for those of another; none if they can."""
    if earlier["state"] != "complete":
        return [f"the run is {earlier['state']}"]
    if earlier.get("seal") != seal_of(earlier):
        return [f"{folder / RUN_FILE} has been changed by hand"]
    names = {"circuit": "circuit", "input": "input", "options": "options", "versions": "versions"}
    reasons = [f"other {what}" for key, what in names.items() if earlier.get(key) != record[key]]
    dataset = folder / "dataset"
    try:
        reasons += [f"other {name}" for name in differences(dataset, wanted) or ()]
    except (DatasetError, OutputError) as error:
        return [*reasons, str(error)]
    return [*dict.fromkeys(reasons), *damage_of_run(folder, earlier)]


def why_not_reused(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Return, in lines for people, what the same run would reuse of a folder and what not."""
    try:
        options = read_options(**{k: v for k, v in record["options"].items() if v is not None})
        circuit = sonata.open_circuit(record["circuit"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConnpropsWarning)
            wanted = _checked_input(circuit, options, verify=False)
    except ConnpropsError as error:
        return [f"cannot be made: {error}"]
    same = {**record, "input": wanted.identity, "versions": _versions()}
    reasons = reasons_to_run(folder, record, same, wanted)
    if not reasons:
        return ["everything would be reused: input, options, versions and files are the same"]
    dataset = folder / "dataset"
    try:
        again = [f"other {name}" for name in differences(dataset, wanted) or ()]
        again += [
            f"{name} {what}" for name, what in damage(dataset, read_manifest(dataset)).items()
        ]
    except (DatasetError, OutputError) as error:
        again = [str(error)]
    verdict = f"exported again ({'; '.join(again)})" if again else "reused"
    return [f"the dataset would be {verdict}", *(f"not complete as it is: {r}" for r in reasons)]


def damage_of_run(folder: Path, record: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the files of a complete run."""
    found = []
    if record.get("seal") != seal_of(record):
        found.append(f"{folder / RUN_FILE} has been changed by hand")
    for name, digest in digests_in(record).items():
        file = folder / name
        if not file.is_file():
            found.append(f"{file} is missing")
        elif sha256_of(file) != digest:
            found.append(f"{file} is not what run.json says: damaged, or changed by hand")
    dataset = folder / "dataset"
    try:
        damaged = damage(dataset, read_manifest(dataset))
    except DatasetError as error:
        return [*found, str(error)]
    return found + [f"{dataset / name} {what}" for name, what in damaged.items()]


def digests_in(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums that a record has; none before the run is complete."""
    digests = record.get("sha256")
    return digests if isinstance(digests, dict) else {}


def _digests(folder: Path, artifacts: Sequence[str]) -> dict[str, str]:
    """Return the checksum of each file of a run's own; its dataset has a manifest of its files."""
    names = [f"dataset/{MANIFEST}", *(n for n in artifacts if n not in ("dataset", RUN_FILE))]
    return {name: sha256_of(folder / name) for name in names}


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


def _check_folder(folder: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, or that of a run which may be replaced."""
    with writing(folder):
        is_new = not folder.exists() or (folder.is_dir() and _is_untouched(folder))
    if is_new:
        return
    earlier = record_of(folder)
    if earlier is None and _is_of_steps(folder):
        if overwrite:
            return
        raise OutputError.of(
            f"{folder} holds the results of single steps",
            hint="choose another folder with -o, or replace them with --overwrite; "
            "a dataset of the same input and options is reused",
        )
    if earlier is None:
        raise OutputError.of(
            f"{folder} holds something else",
            found="a folder without a run's run.json" if folder.is_dir() else "a file",
            expected="a new or an empty folder, or that of an earlier run",
            hint="choose another folder with -o",
        )
    changed = [
        name for name in ("circuit", "input", "options") if earlier.get(name) != record[name]
    ]
    if changed and earlier.get("state") == "complete" and not overwrite:
        raise OutputError.of(
            f"{folder} holds the results of another run",
            found=f"differs in: {', '.join(changed)}",
            hint="choose another folder with -o, or replace them with --overwrite",
        )


def _is_untouched(folder: Path) -> bool:
    """Return whether a folder is empty, but for what a run left that was killed at once."""
    return {item.name for item in folder.iterdir()} <= {leftover_of(RUN_FILE).name}


def _is_of_steps(folder: Path) -> bool:
    """Return whether a folder holds a dataset, and nothing that no step of ours writes."""
    if not (folder / "dataset" / MANIFEST).is_file():
        return False
    written = {*ARTIFACTS, *_ASKED_FOR, "charts"} - {RUN_FILE}
    return {item.name for item in folder.iterdir()} <= written


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return what a run's folder says of the run; None for any other folder."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and record.get("program") == _PROGRAM
    whole = ours and all(type(record.get(key)) is kind for key, kind in _RECORDED.items())
    return record if whole else None


@contextmanager
def _recorded(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Keep ``run.json`` true: running, then complete with all that is in the record, or failed."""
    file = folder / RUN_FILE
    _write_record(file, {"state": "running", **record})
    started = time.perf_counter()
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        with suppress(OutputError):  # where nothing can be written, the first error says why
            _write_record(file, {"state": "failed", "error": reason, **record})
        raise
    seconds = round(time.perf_counter() - started, 3)
    _write_record(file, {"state": "complete", **record, "seconds": seconds})


def _write_record(file: Path, record: Mapping[str, Any]) -> None:
    sealed = {**record, "seal": seal_of(json.loads(json.dumps(record)))}
    write_text(file, json.dumps(sealed, indent=1, ensure_ascii=False) + "\n", overwrite=True)


@contextmanager
def _timed(name: str, steps: list[Step]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    release_memory()
    seconds = time.perf_counter() - started
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps.append(Step(name, round(seconds, 3), kibibytes * 1024))


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _VERSIONS_OF}
    return {"connprops": connprops.__version__, "python": platform.python_version(), **found}


def _report_facts(circuit: sonata.Circuit, options: RunOptions) -> dict[str, str]:
    """Return what the report tells of the run beside the tables; not what changes with the day."""
    defaults = RunOptions().numbers_depend_on()
    chosen = {k: v for k, v in options.numbers_depend_on().items() if v != defaults[k]}
    return {
        "circuit": circuit.name,
        "options": json.dumps(chosen, ensure_ascii=False) if chosen else "defaults",
        "connprops": connprops.__version__,
    }
