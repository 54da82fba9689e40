"""Whether files are still what was written: every byte, by checksum.

A dataset has the checksums of its files in its manifest, a run in ``run.json``, and each table one
of its own. They are checked without being asked for too: all files of a dataset before it is
reused or continued, each before its first use in a process, and each table whenever it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connprops.dataset.manifest import MANIFEST, damage, read_manifest
from connprops.display import Progress
from connprops.errors import ConnpropsError, DatasetError
from connprops.run.record import RUN_FILE, CompleteRun, record_of
from connprops.store.tables import read_any_table
from connprops.store.writing import sha256_of


@dataclass(frozen=True)
class Verdict:
    """How many files were checked, and what is wrong with those that are damaged."""

    n_checked: int
    damaged: dict[Path, str]

    def lines(self) -> list[str]:
        """Return what is wrong, a line for each file, with its name."""
        return [
            what if what.startswith(str(file)) else f"{file} {what}"
            for file, what in self.damaged.items()
        ]


def verify(path: str | Path, progress: Progress | None = None) -> Verdict:
    """Check a dataset, the folder of a run or of single steps, or a file of one."""
    place = Path(path)
    if place.is_dir():
        is_dataset = (place / MANIFEST).exists()
        return _dataset(place, progress) if is_dataset else _folder(place, progress)
    if place.name == MANIFEST:
        return _dataset(place.parent, progress)
    for folder in place.parents[:2]:
        if place.suffix == ".parquet" and (folder / MANIFEST).is_file():
            name = str(place.relative_to(folder))
            what = "".join(damage(folder, read_manifest(folder), only=name).values())
            return Verdict(1, {place: what} if what else {})
    digest = _digests(place.parent).get(place)
    if digest is not None or place.suffix == ".parquet":
        what = _damage(place, digest)
        return Verdict(1, {place: what} if what else {})
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
    n_files = 1 + sum(1 for _ in manifest.files())
    return Verdict(n_files, {folder / name: what for name, what in damaged.items()})


def _folder(folder: Path, progress: Progress | None) -> Verdict:
    record, dataset, digests = record_of(folder), folder / "dataset", _digests(folder)
    files = sorted({*folder.glob("*.parquet"), *digests} - {dataset / MANIFEST})
    if record is None and not files and not (dataset / MANIFEST).is_file():
        raise DatasetError.of(
            f"{folder} holds nothing that has a checksum",
            expected="a dataset, or the results of a run or of single steps",
        )
    of_dataset = _dataset(dataset, progress) if dataset.is_dir() else Verdict(0, {})
    flaws = {file: _damage(file, digests.get(file)) for file in files}
    if record is not None:
        flaws[folder / RUN_FILE] = record.flaw
    damaged = {file: what for file, what in flaws.items() if what}
    return Verdict(of_dataset.n_checked + len(flaws), of_dataset.damaged | damaged)


def _digests(folder: Path) -> dict[Path, str]:
    """Return the checksums that the record of a run has; none before the run is complete."""
    record = record_of(folder)
    digests = record.sha256 if isinstance(record, CompleteRun) else {}
    return {folder / name: digest for name, digest in digests.items()}


def _damage(file: Path, digest: str | None) -> str:
    """Return what is wrong with a file, by its checksum in a record, or the table's own."""
    if not file.is_file() and digest is not None:
        return "is missing"
    if digest is not None:
        return "" if sha256_of(file) == digest else f"is not what {RUN_FILE} says"
    try:
        read_any_table(file)
    except ConnpropsError as error:
        return str(error)
    return ""
