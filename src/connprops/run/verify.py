"""Whether files are still what was written: every byte, by checksum.

A dataset has the checksums of its files in its manifest, any other folder in ``connprops.json``,
and each table, model and drawn file one of its own. They are checked without being asked for too:
all files of a dataset before it is reused or continued, each before its first use in a process, and
each table whenever it is read.

A record that is missing, or cannot be read, is damage, and so is a file that it should list.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from connprops.dataset.manifest import MANIFEST, SOURCE, damage, is_dataset, read_manifest
from connprops.display import Progress
from connprops.errors import DatasetError, OutputError
from connprops.query.database import DATABASE, VIEWS
from connprops.run.record import RESULTS, RUN_FILE, CompleteRun, last_words, record_of
from connprops.statistics.statistics import TABLES
from connprops.store.folder import RECORD, Folder, clean, listed
from connprops.store.sealed import check_seal, is_sealed
from connprops.store.stage import restored
from connprops.store.writing import leftover_of

_MARKS = {RUN_FILE, DATABASE, VIEWS, *(f"{name}.parquet" for name in TABLES)}
"""Files that are never written without a record."""


@dataclass(frozen=True)
class Verdict:
    """How many files were checked, and what is wrong with those that are damaged.

    ``waiting`` are folders of finished work of which something was interrupted.
    """

    n_checked: int
    damaged: dict[Path, str]
    waiting: list[Path] = field(default_factory=list)

    def lines(self, top: Path, names: Collection[str] | None = None) -> list[str]:
        """Return what is wrong, a line for each file, with its name; some of a folder alone."""
        return [
            what if what.startswith(str(file)) else f"{file} {what}"
            for file, what in self.damaged.items()
            if names is None or file.relative_to(top).parts[0] in names
        ]


def verify(path: str | Path, progress: Progress | None = None) -> Verdict:
    """Check a dataset, the folder of a run or of single steps, or a file of one.

    What a crash has left in a folder is put in order first, unless another process works there.
    """
    place = Path(path)
    if not place.exists():
        with suppress(OSError):
            restored(place)
    if place.is_dir():
        return _folder(place, progress)
    if place.name in (MANIFEST, SOURCE):
        return _dataset(place.parent, progress)
    for folder in place.parents[:2]:
        if place.suffix == ".parquet" and is_dataset(folder):
            name = str(place.relative_to(folder))
            what = "".join(damage(folder, read_manifest(folder), only=name).values())
            return Verdict(1, {place: what} if what else {})
    beside = Folder(place.parent)
    if place.name not in (beside.listed or {}) and not _may_be_sealed(place):
        raise DatasetError.of(
            f"{place} has no checksum to be compared with",
            found="a file" if place.is_file() else "nothing",
            expected="a dataset, the folder of a run, or a file that connprops has written",
        )
    what = _damage(beside, place.name)
    return Verdict(1, {place: what} if what else {})


def _dataset(folder: Path, progress: Progress | None) -> Verdict:
    with suppress(OSError):  # where nothing can be written, nothing is put in order
        restored(folder)
    waiting = [place for place in [leftover_of(folder)] if place.is_dir()]
    try:
        manifest = read_manifest(folder)
    except DatasetError as error:
        return Verdict(1, {folder / MANIFEST: str(error)}, waiting)
    damaged = damage(folder, manifest, progress=progress)
    n_files = 2 + sum(1 for _ in manifest.files())
    return Verdict(n_files, {folder / name: what for name, what in damaged.items()}, waiting)


def _folder(top: Path, progress: Progress | None) -> Verdict:
    with suppress(OSError, OutputError):
        clean(top)
    try:
        folder = Folder(top)
    except DatasetError as error:
        return Verdict(1, {top / RECORD: str(error)})
    names = folder.names
    parts = [_dataset(top, progress)] if MANIFEST in names else []
    parts += [_dataset(top / "dataset", progress)] if "dataset" in names else []
    if folder.listed is not None:  # charts, for one; other folders are not this one's
        parts += [_folder(top / n, progress) for n in names if (top / n / RECORD).is_file()]
    own = {n for n in names if n in RESULTS or n.endswith(".parquet")}
    own |= {n for n in names if n.endswith(".h5") and _may_be_sealed(top / n)}
    if MANIFEST in names:  # which lists the dataset's own files
        own &= RESULTS
    flaws = {name: _damage(folder, name) for name in sorted({*own, *(folder.listed or {})})}
    flaws |= _flaws_of_records(folder)
    flaws.pop("dataset", None)
    if not flaws and not parts:
        raise DatasetError.of(
            f"{top} holds nothing that has a checksum",
            expected="a dataset, or the results of a run or of single steps",
        )
    damaged = {top / name: what for name, what in flaws.items() if what}
    run = leftover_of(top / "run")
    return Verdict(
        len(flaws) + sum(part.n_checked for part in parts),
        {file: what for part in parts for file, what in part.damaged.items()} | damaged,
        [*([run] if run.is_dir() else []), *(place for part in parts for place in part.waiting)],
    )


def _flaws_of_records(folder: Folder) -> dict[str, str]:
    """Return what is wrong with the record of a folder, and with that of a run."""
    flaws, present = {}, {*folder.names}
    if folder.listed is not None:
        flaws[RECORD] = ""
    elif _MARKS & present:
        flaws[RECORD] = "is missing: nothing says which files belong together"
    if RUN_FILE in present:
        record = record_of(folder.path)
        flaw = "cannot be read" if record is None else record.flaw
        flaws[RUN_FILE] = flaw and (last_words(folder.path) or flaw)
        of_run = record.sha256 if isinstance(record, CompleteRun) else {}
        for name, digest in of_run.items():
            file = (folder.listed or {}).get(name)
            if file is None or file.sha256 != digest:
                flaws[name] = f"is not what {RUN_FILE} says"
    return {name: what for name, what in flaws.items() if what or name in (RECORD, RUN_FILE)}


def _damage(folder: Folder, name: str) -> str:
    """Return what is wrong with a file, by the record of its folder or its own checksum."""
    expected, file = (folder.listed or {}).get(name), folder.file(name)
    if expected is not None:
        if not file.is_file():
            return "is missing"
        as_written = expected.sha256 is None or listed(file) == expected
        return "" if as_written else f"is not what {RECORD} says"
    if folder.listed is not None and name in RESULTS and name != "dataset":
        return f"is not listed in {RECORD}"
    try:
        if _may_be_sealed(file):
            with file.open("rb") as content:
                check_seal(content, file)
    except DatasetError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return ""


def _may_be_sealed(file: Path) -> bool:
    """Return whether a file can have a checksum of its own: tables do, others may."""
    if file.suffix == ".parquet":
        return True
    if file.suffix not in (".json", ".h5") or not file.is_file():
        return False
    with file.open("rb") as content:
        return is_sealed(content)
