"""What a run says of itself: ``run.json``, from its first moment on."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from connprops._version import __version__
from connprops.dataset.manifest import is_dataset
from connprops.errors import DatasetError, OutputError
from connprops.query.database import DATABASE, VIEWS
from connprops.statistics.statistics import TABLES
from connprops.store.folder import RECORD, place_of, unfinished
from connprops.store.records import read_record, record_or_none, write_record
from connprops.store.writing import is_leftover, writing

RUN_FILE = "run.json"
"""Name of the file that marks a folder as that of a run."""

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

ON_REQUEST = ("correlations.parquet",)
"""What it writes where an option asks for it."""

COMPARED = ("circuit", "input", "options", "versions")
"""What must be equal for results to be reused."""

_VERSIONS_OF = ("altair", "bluepysnap", "duckdb", "h5py", "libsonata", "numpy", "polars", "pyarrow", "scipy")  # fmt: skip # noqa: E501


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of a run when it begins, and in which state it is."""

    state: str
    circuit: str
    input: dict[str, Any]
    options: dict[str, Any]
    versions: dict[str, str]
    started: str
    program: Literal["connprops run"] = "connprops run"
    error: str | None = None

    @property
    def flaw(self) -> str:
        """Return why the results do not count; empty for those of a complete run."""
        if self.state == "changed":
            return "has been changed by hand"
        return "" if self.state == "complete" else f"says that the run is {self.state}"


@dataclass(frozen=True)
class PropertySummary:
    """How the pathways of one property that have data of their own were modelled.

    ``distribution`` is the most frequent one, which ``n_pathways`` of the ``n_observed`` have.
    ``shared`` is the fraction of pathways in which connections share one value, None where no
    pathway shows it. The others are as in :meth:`connprops.Model.evidence`.
    """

    name: str
    unit: str
    distribution: str | None
    n_pathways: int
    n_observed: int
    shared: float | None
    n_own: int
    n_level: int
    n_borrowed: int
    share_own: float | None
    n_tested: int
    n_rejected: int
    p_small: float | None
    coverage: float | None = None


@dataclass(frozen=True)
class Step:
    """Seconds that one step of a run took, and the process's peak memory by its end, in bytes."""

    name: str
    seconds: float
    peak_memory: int


@dataclass(frozen=True, kw_only=True)
class CompleteRun(Record):
    """What a run has computed, what it took, and the checksums of its files."""

    out: str
    population: str
    n_pathways: int
    n_connections: int
    n_synapses: int
    properties: tuple[PropertySummary, ...]
    steps: tuple[Step, ...]
    artifacts: tuple[str, ...]
    warnings: tuple[str, ...]
    sha256: dict[str, str]
    seconds: float
    reused: bool = field(default=False, compare=False)


def write_run(folder: Path, record: Record) -> None:
    """Write ``run.json``, sealed."""
    unknown = ("reused", *(["error"] if record.error is None else []))
    content = {name: value for name, value in asdict(record).items() if name not in unknown}
    write_record(folder / RUN_FILE, content, seal=True)


def record_of(folder: Path) -> Record | None:
    """Return what a run's folder says of the run; None for any other folder."""
    file = place_of(folder, RUN_FILE)
    record = record_or_none(file, Record)
    if record is None or record.state != "complete":
        return record
    try:
        return read_record(file, CompleteRun, sealed=True)
    except DatasetError:
        return replace(record, state="changed")


def started_with(record: Record) -> dict[str, Any]:
    """Return what a record has from the first moment on, but for the state."""
    return {f.name: getattr(record, f.name) for f in fields(Record) if f.name != "state"}


def check_folder(folder: Path, record: Record, *, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, or that of a run which may be replaced."""
    with writing(folder):
        items = list(folder.iterdir()) if folder.is_dir() else []
        contents = {item.name for item in items if not is_leftover(item)} - unfinished(folder)
        if not folder.exists() or (folder.is_dir() and not contents):
            return  # new, empty, or left by a run that was killed at once
    earlier = record_of(folder)
    if earlier is None:
        of_steps = {*ARTIFACTS, *ON_REQUEST, RECORD, "charts"} - {RUN_FILE}
        if not is_dataset(place_of(folder, "dataset")) or contents - of_steps:
            raise OutputError.of(
                f"{folder} holds something else",
                found="a folder without a run's run.json" if folder.is_dir() else "a file",
                expected="a new or an empty folder, or that of an earlier run",
                hint="choose another folder with -o",
            )
        if not overwrite:
            raise OutputError.of(
                f"{folder} holds the results of single steps",
                hint="choose another folder with -o, or replace them with --overwrite; "
                "a dataset of the same input and options is reused",
            )
        return
    changed = [n for n in COMPARED[:3] if getattr(earlier, n) != getattr(record, n)]
    if changed and earlier.state in ("complete", "changed") and not overwrite:
        raise OutputError.of(
            f"{folder} holds the results of another run",
            found=f"differs in: {', '.join(changed)}",
            hint="choose another folder with -o, or replace them with --overwrite",
        )


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python, and of what results depend on."""
    packages = {name: version(name) for name in _VERSIONS_OF}
    return {"connprops": __version__, "python": platform.python_version(), **packages}
