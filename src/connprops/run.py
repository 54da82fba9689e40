"""The whole way, from a circuit to a model and a report, in one folder.

The folder is marked as ours by ``run.json``, which is there from the first moment and says how
far the run has come. What was checked without reading edges is checked before anything is written.
"""

from __future__ import annotations

import json
import platform
import resource
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import connprops
from connprops import sonata
from connprops.artifacts import write_text
from connprops.dataset import Dataset
from connprops.distributions import distribution
from connprops.errors import ConnpropsWarning, OptionError, OutputError
from connprops.export import MANIFEST, export
from connprops.fit import build
from connprops.model import Model
from connprops.node_types import group_nodes
from connprops.options import RunOptions
from connprops.progress import Progress
from connprops.report import report
from connprops.schema import N_SYN_PER_CONN
from connprops.selection import select_nodes
from connprops.statistics import TABLES, Statistics, extract
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
    "report.html",
    RUN_FILE,
)
"""What a run writes."""

_PROGRAM = "connprops run"
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
        Replace the results of a run of another circuit or with other options. Those of
        the same input and options are written again in any case, and its dataset reused.

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
            edges = _checked_input(opened, options)
        folder = Path(out) if out is not None else folder_for(opened)
        record: dict[str, Any] = {
            "program": _PROGRAM,
            "circuit": str(opened.config.resolve()),
            "input": edges.identity(),
            "options": options.numbers_depend_on(),
            "versions": _versions(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _check_folder(folder, record, overwrite=overwrite)
        with _recorded(folder, record):
            summary = _all_steps(opened, folder, options, progress, steps, collected)
            record |= summary.as_json()
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
) -> RunSummary:
    means: dict[str, Any] = {"resources": options.resources(), "progress": progress}
    with _timed("export", steps):
        place = export(circuit, folder / "dataset", overwrite=True, **options.export(), **means)
    dataset = Dataset(place)
    with _timed("extract", steps):
        stats = extract(dataset, **options.extract(), **means)
        stats.write(folder, overwrite=True)
    with _timed("build", steps):
        model = build(stats, progress=progress, **options.build())
        write_model(model, folder, overwrite=True)
    with _timed("report", steps):
        report(
            stats,
            model,
            folder / "report.html",
            title=f"Synapses of {circuit.name}: {dataset.population}",
            facts=_report_facts(circuit, options, steps),
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
        artifacts=ARTIFACTS,
        warnings=tuple(collected),
    )


def _checked_input(circuit: sonata.Circuit, options: RunOptions) -> sonata.EdgePopulation:
    """Return the edge population, after checking all names that can be without reading edges."""
    edges = circuit.population(options.population)
    known = [*edges.columns, N_SYN_PER_CONN]
    for what, names in {
        "property": options.sel_props or (),
        "property in distr_types": options.distr_types,
        "property in data_types": options.data_types,
        "property in data_bounds": options.data_bounds,
        "property in shared_within": options.shared_within,
    }.items():
        for name in names:
            if name not in known:
                raise OptionError.unknown(what, name, known)
    for families in options.distr_types.values():
        for family in [families] if isinstance(families, str) else families:
            if family != "auto":
                distribution(family)
    for side, population, by, selection in (
        ("source", edges.source, options.source_type, options.sel_src),
        ("target", edges.target, options.target_type, options.sel_dest),
    ):
        nodes = population.attributes()
        group_nodes(nodes, population.name, by, side, report=False)
        select_nodes(nodes, side, selection, partial(circuit.node_set, population))
    options.resources()
    return edges


def _check_folder(folder: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, or that of a run which may be replaced."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
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


def _is_of_steps(folder: Path) -> bool:
    """Return whether a folder holds a dataset, and nothing that no step of ours writes."""
    if not (folder / "dataset" / MANIFEST).is_file():
        return False
    written = {*ARTIFACTS, "charts"} - {RUN_FILE}
    return {item.name for item in folder.iterdir()} <= written


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return what a run's folder says of the run; None for any other folder."""
    try:
        record = json.loads((folder / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(record, dict) and record.get("program") == _PROGRAM
    return record if ours else None


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
        _write_record(file, {"state": "failed", "error": reason, **record})
        raise
    seconds = round(time.perf_counter() - started, 3)
    _write_record(file, {"state": "complete", **record, "seconds": seconds})


def _write_record(file: Path, record: Mapping[str, Any]) -> None:
    write_text(file, json.dumps(record, indent=1, ensure_ascii=False) + "\n", overwrite=True)


@contextmanager
def _timed(name: str, steps: list[Step]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    steps.append(Step(name, round(seconds, 3), kibibytes * 1024))


def _versions() -> dict[str, str]:
    found = {name: version(name) for name in _VERSIONS_OF}
    return {"connprops": connprops.__version__, "python": platform.python_version(), **found}


def _report_facts(
    circuit: sonata.Circuit, options: RunOptions, steps: list[Step]
) -> dict[str, str]:
    """Return what the report tells of the run beside the tables."""
    defaults = RunOptions().numbers_depend_on()
    chosen = {k: v for k, v in options.numbers_depend_on().items() if v != defaults[k]}
    return {
        "circuit": str(circuit.config),
        "options": json.dumps(chosen, ensure_ascii=False) if chosen else "defaults",
        "connprops": connprops.__version__,
        **{f"seconds to {step.name}": f"{step.seconds:.2f}" for step in steps},
    }
