"""Looking whether what was written is still what was written: every byte, by checksum.

A dataset has the checksums of its files in its manifest, a run in ``run.json``, and each table one
of its own. What is checked without being asked for: all files of a dataset before it is reused or
gone on with, each before its first use in a process; each table whenever it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from connprops.dataset.manifest import MANIFEST, damage, read_manifest
from connprops.errors import ConnpropsError, DatasetError
from connprops.progress import Progress
from connprops.run.record import RUN_FILE, digests_in, record_of
from connprops.store.records import seal_of
from connprops.store.tables import read_any_table
from connprops.store.writing import sha256_of


@dataclass(frozen=True)
class Verdict:
    """How many files were looked at, and what is wrong with those that are damaged."""

    n_checked: int
    damaged: dict[Path, str]

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.n_checked + other.n_checked, {**self.damaged, **other.damaged})


def verify(path: str | Path, progress: Progress | None = None) -> Verdict:
    """Check a dataset, the folder of a run or of single steps, or a file of one.

    ``progress`` is called as the files of a dataset have been looked at.

    Raises
    ------
    DatasetError
        Where there is nothing that has a checksum.
    """
    place = Path(path)
    if place.is_dir() and (place / MANIFEST).exists():
        return _dataset(place, progress)
    if place.is_dir():
        return _folder(place, progress)
    if place.suffix == ".parquet":
        of_dataset = [folder for folder in place.parents[:2] if (folder / MANIFEST).is_file()]
        check = partial(_file_of_dataset, folder=of_dataset[0]) if of_dataset else _table
        return _one(place, check)
    if place.name == MANIFEST:
        return _dataset(place.parent, progress)
    digests = digests_in(record_of(place.parent) or {})
    if place.name in digests:
        return _one(place, partial(_digest, digest=digests[place.name]))
    raise DatasetError.of(
        f"{place} has no checksum to be compared with",
        found="a file" if place.is_file() else "nothing",
        expected="a dataset, the folder of a run, or a Parquet file of connprops",
    )


def _dataset(folder: Path, progress: Progress | None) -> Verdict:
    try:
        manifest = read_manifest(folder)
    except DatasetError as error:
        return Verdict(1, {folder / MANIFEST: str(error)})
    damaged = damage(folder, manifest, progress=progress)
    n = 1 + sum(1 for _ in manifest.files())
    return Verdict(n, {folder / name: what for name, what in damaged.items()})


def _folder(folder: Path, progress: Progress | None) -> Verdict:
    record = record_of(folder)
    tables = sorted(folder.glob("*.parquet"))
    if record is None and not tables and not (folder / "dataset" / MANIFEST).is_file():
        raise DatasetError.of(
            f"{folder} holds nothing that has a checksum",
            expected="a dataset, or the results of a run or of single steps",
        )
    verdict = Verdict(0, {})
    if (folder / "dataset").is_dir():
        verdict += _dataset(folder / "dataset", progress)
    digests = {folder / name: digest for name, digest in digests_in(record or {}).items()}
    for file in sorted({*tables, *digests} - {folder / "dataset" / MANIFEST}):
        if file.suffix == ".parquet":
            verdict += _one(file, _table)
        if file in digests and file not in verdict.damaged:
            verdict += _one(file, partial(_digest, digest=digests[file]))
    if record is not None:
        verdict += _one(folder / RUN_FILE, partial(_record, record=record))
    return verdict


def _record(_file: Path, record: dict[str, Any]) -> str:
    if record["state"] != "complete":
        return f"says that the run is {record['state']}"
    return "" if record.get("seal") == seal_of(record) else "has been changed by hand"


def _one(file: Path, check: Callable[[Path], str]) -> Verdict:
    """Return the verdict on one file; an error of the check is what is wrong."""
    try:
        what = check(file)
    except ConnpropsError as error:
        what = str(error)
    return Verdict(1, {file: what} if what else {})


def _table(file: Path) -> str:
    read_any_table(file)
    return ""


def _digest(file: Path, digest: str) -> str:
    if not file.is_file():
        return "is missing"
    return "" if sha256_of(file) == digest else f"is not what {RUN_FILE} says"


def _file_of_dataset(file: Path, folder: Path) -> str:
    found = damage(folder, read_manifest(folder), only=str(file.relative_to(folder)))
    return "".join(found.values())
