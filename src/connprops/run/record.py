"""What a run says of itself: ``run.json``, from its first moment on."""

from __future__ import annotations

import platform
import resource
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from connprops._version import __version__
from connprops.dataset.manifest import is_dataset
from connprops.display import Progress
from connprops.errors import DatasetError, OutputError
from connprops.query.database import DATABASE, VIEWS
from connprops.statistics.statistics import TABLES
from connprops.store.folder import RECORD, place_of, unfinished
from connprops.store.records import read_record, record_or_none, write_record
from connprops.store.writing import is_leftover, leftover_of, locked, writing

RUN_FILE = "run.json"
"""Name of the file that marks a folder as that of a run."""

ARTIFACTS = (
    "dataset",
    *(f"{name}.parquet" for name in (*TABLES, "model", "fits", "scores")),
    *("model.json", DATABASE, VIEWS, "report.html", RUN_FILE),
)
"""What a run writes."""

ON_REQUEST = ("correlations.parquet",)
"""What it writes where an option asks for it."""

RESULTS = frozenset({*ARTIFACTS, *ON_REQUEST})

_SECONDS_BETWEEN_NOTES = 10.0

COMPARED = ("circuit", "input", "options", "versions")
"""What must be equal for results to be reused."""

_VERSIONS_OF = ("altair", "bluepysnap", "duckdb", "h5py", "libsonata", "numpy", "polars", "pyarrow", "scipy")  # fmt: skip # noqa: E501


@dataclass(frozen=True)
class Doing:
    """Which step a run is at, and what it takes: all that is known of it if it is killed.

    ``grows_with`` says in words what the step's memory grows with; ``memory`` is what the run was
    allowed and ``peak_memory`` the most that it took so far, in bytes.
    """

    step: str
    grows_with: str
    memory: int
    peak_memory: int


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
    doing: Doing | None = None

    @property
    def flaw(self) -> str:
        """Return why the results do not count; empty for those of a complete run."""
        known = {"complete": "", "changed": "has been changed by hand",
                 "killed": "says that the run was killed"}  # fmt: skip
        return known.get(self.state, f"says that the run is {self.state}")


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
    unknown = ["reused", *(n for n in ("error", "doing") if getattr(record, n) is None)]
    content = {name: value for name, value in asdict(record).items() if name not in unknown}
    write_record(folder / RUN_FILE, content, seal=True)


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass
class Course:
    """Notes in the record of a run how far it has come, as it tells of its progress."""

    folder: Path
    record: Record
    memory: int
    progress: Progress | None
    noted: float = 0.0

    def at(self, step: str, grows_with: str) -> None:
        """Note that a step begins, or goes on."""
        doing = Doing(step, grows_with, self.memory, peak_memory())
        self.record = replace(self.record, doing=doing)
        write_run(self.folder, self.record)
        self.noted = time.monotonic()

    def __call__(self, step: str, done: int, total: int, unit: str) -> None:
        """Tell of progress, and note what it takes every few seconds."""
        doing = self.record.doing
        if doing is not None and time.monotonic() - self.noted > _SECONDS_BETWEEN_NOTES:
            self.at(doing.step, doing.grows_with)
        if self.progress:
            self.progress(step, done, total, unit)


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


def last_words(folder: Path) -> str:
    """Return what is known of a run that was killed in a folder; empty where none was.

    A run that is at work holds the lock of its stage.
    """
    stage = leftover_of(folder / "run")
    records = [record_or_none(place / RUN_FILE, Record) for place in (stage, folder)]
    record = next((each for each in records if each is not None), None)
    if record is None or record.state != "running":
        return ""
    if stage.is_dir():
        try:
            with locked(stage, str(folder), shared=True):
                pass
        except OutputError:
            return ""
    if (doing := record.doing) is None:
        return "says that the run was killed before its first step"
    took, allowed = (f"{n / 1e9:.1f} GB" for n in (doing.peak_memory, doing.memory))
    return (
        f"says that the run was killed during {doing.step}; if nobody did it, then the system, for "
        f"want of memory\n  found: it had taken {took}, allowed were {allowed} (--memory); what "
        f"grows there is {doing.grows_with}\n  hint: allow more (--memory, and what the job or the "
        "container may take), or have less at once: fewer properties (--sel-props), coarser types "
        "(--type)"
    )


def check_folder(folder: Path, record: Record, *, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, or that of a run which may be replaced."""
    with writing(folder):
        items = list(folder.iterdir()) if folder.is_dir() else []
        contents = {item.name for item in items if not is_leftover(item)} - unfinished(folder)
        if not folder.exists() or (folder.is_dir() and not contents):
            return  # new, empty, or left by a run that was killed at once
    earlier = record_of(folder)
    if earlier is None:
        of_steps = RESULTS - {RUN_FILE} | {RECORD, "charts"}
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
