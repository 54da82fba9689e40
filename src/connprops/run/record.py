"""What a run says of itself: ``run.json``, from the first moment on, and what it vouches for."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from connprops._version import __version__
from connprops.dataset.manifest import MANIFEST, damage, read_manifest
from connprops.errors import DatasetError, OutputError
from connprops.export.request import Wanted, differences
from connprops.progress import Progress
from connprops.query.database import DATABASE, VIEWS
from connprops.statistics.statistics import TABLES
from connprops.store.records import record_or_none, seal_of, write_record
from connprops.store.writing import leftover_of, sha256_of, writing

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

ASKED_FOR = ("correlations.parquet",)
"""What it writes where it is asked to."""

PROGRAM = "connprops run"
_RECORDED = {
    "state": str, "circuit": str, "input": dict, "options": dict, "versions": dict, "started": str,
}  # fmt: skip
"""What each record of a run has."""

_VERSIONS_OF = ("altair", "bluepysnap", "duckdb", "h5py", "libsonata", "numpy", "polars", "pyarrow", "scipy")  # fmt: skip # noqa: E501


def reasons_to_run(
    folder: Path,
    earlier: Mapping[str, Any],
    record: Mapping[str, Any],
    wanted: Wanted,
    progress: Progress | None = None,
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
    return [*dict.fromkeys(reasons), *damage_of_run(folder, earlier, progress)]


def damage_of_run(
    folder: Path, record: Mapping[str, Any], progress: Progress | None = None
) -> list[str]:
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
        damaged = damage(dataset, read_manifest(dataset), progress=progress)
    except DatasetError as error:
        return [*found, str(error)]
    return found + [f"{dataset / name} {what}" for name, what in damaged.items()]


def digests_in(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums that a record has; none before the run is complete."""
    digests = record.get("sha256")
    return digests if isinstance(digests, dict) else {}


def digests_of(folder: Path, artifacts: Sequence[str]) -> dict[str, str]:
    """Return the checksum of each file of a run's own; its dataset has a manifest of its files."""
    names = [f"dataset/{MANIFEST}", *(n for n in artifacts if n not in ("dataset", RUN_FILE))]
    return {name: sha256_of(folder / name) for name in names}


def check_folder(folder: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
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
    written = {*ARTIFACTS, *ASKED_FOR, "charts"} - {RUN_FILE}
    return {item.name for item in folder.iterdir()} <= written


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return what a run's folder says of the run; None for any other folder."""
    record = record_or_none(folder / RUN_FILE, dict[str, Any])
    if record is None or record.get("program") != PROGRAM:
        return None
    return record if all(type(record.get(k)) is kind for k, kind in _RECORDED.items()) else None


@contextmanager
def recorded(folder: Path, record: dict[str, Any]) -> Iterator[None]:
    """Keep ``run.json`` true: running, then complete with all that is in the record, or failed."""
    file = folder / RUN_FILE
    write_record(file, {"state": "running", **record}, seal=True)
    started = time.perf_counter()
    try:
        yield
    except BaseException as error:
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        with suppress(OutputError):  # where nothing can be written, the first error says why
            write_record(file, {"state": "failed", "error": reason, **record}, seal=True)
        raise
    seconds = round(time.perf_counter() - started, 3)
    write_record(file, {"state": "complete", **record, "seconds": seconds}, seal=True)


def versions() -> dict[str, str]:
    """Return the versions of this package, of Python, and of what results depend on."""
    found = {name: version(name) for name in _VERSIONS_OF}
    return {"connprops": __version__, "python": platform.python_version(), **found}
