"""A folder as one thing: its files are of one generation, and one record lists them all.

A generation is written aside and becomes the folder's by one rename. Then its files take their
places, and the record comes last::

    FOLDER/connprops.json          size and checksum of each file
    FOLDER/.connprops.partial-*/   a generation that is being written
    FOLDER/.connprops.next/        one that is complete: what is still in it counts before the rest

Whoever writes next after a crash, or verifies, finishes what it has left.
"""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import uuid4

from connprops import schema
from connprops.errors import ConnpropsError, ConnpropsWarning, DatasetError, OutputError
from connprops.store.records import read_record, write_record
from connprops.store.stage import put_in_place, restored, staged
from connprops.store.writing import (
    leftover_of,
    locked,
    refuse_existing,
    replacing,
    sha256_of,
    sync,
    target_of,
    writing,
)

RECORD = "connprops.json"
"""Name of the file that lists a folder's files."""

_PARTIAL, _NEXT = ".connprops.partial-", ".connprops.next"
_ATTEMPTS = 5

PATIENCE = 30.0
"""Seconds for which others may hold a folder's lock, as a reader does that cleans up."""

_HINT = "write the folder's files again (--overwrite)"

Result = TypeVar("Result")


@dataclass(frozen=True)
class ListedFile:
    """Size and checksum of a file in the record of its folder; None where it has its own alone."""

    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class _Record:
    schema_version: int
    files: dict[str, ListedFile]


class Folder:
    """The generation of a folder that was there when this was made.

    Files of a ``stage``, a generation to come, count before those of the same names.
    """

    def __init__(self, path: str | Path, stage: Path | None = None) -> None:
        self.path = Path(path)
        self._first = stage or self.path / _NEXT
        self.listed: dict[str, ListedFile] | None = None  # by name; None where no record says any
        self.settled = True  # all files have taken their places
        self.written: tuple[int, int] | None = None  # which record it is, of the same content too
        for place in (self.path / _NEXT / RECORD, self.path / RECORD):
            with suppress(FileNotFoundError, NotADirectoryError):
                with place.open("rb") as file:
                    about, content = os.fstat(file.fileno()), file.read()
                self.written = about.st_ino, about.st_mtime_ns
                record = read_record(place, _Record, content=content, sealed=True, hint=_HINT)
                self.listed, self.settled = record.files, place.parent == self.path
                break

    def file(self, name: str) -> Path:
        """Return where a file, or a folder, of the generation is."""
        return _first_of(self._first / name, self.path / name)

    @property
    def names(self) -> list[str]:
        """Return the names of what is in the folder, in order."""
        places = (place for place in (self._first, self.path) if place.is_dir())
        return sorted({item.name for place in places for item in place.iterdir()})

    def open(self, name: str) -> BinaryIO:
        """Open a file, which stays what it is whatever takes its place; see :meth:`check`."""
        for place in (self._first / name, self.path / name):
            with suppress(FileNotFoundError, NotADirectoryError):
                return place.open("rb")
        raise FileNotFoundError(f"No file {self.path / name}")

    def check(self, name: str, sha256: str) -> None:
        """Raise where the record lists another checksum of a file."""
        known = (self.listed or {}).get(name)
        is_to_come = self._first.name != _NEXT and (self._first / name).exists()
        if known is not None and known.sha256 not in (None, sha256) and not is_to_come:
            raise DatasetError.of(
                f"{self.path / name} is damaged: it is not what {RECORD} says",
                hint="take it from a copy, or write it again",
            )


def place_of(folder: Path, name: str) -> Path:
    """Return where a file of a folder's generation is, whatever the record says."""
    return _first_of(folder / _NEXT / name, folder / name)


def _first_of(first: Path, second: Path) -> Path:
    return first if first.exists() else second


def reading(folder: str | Path, read: Callable[[Folder], Result]) -> Result:
    """Return what is read of a folder: all of one generation, the next where it comes meanwhile."""
    place, attempts = Path(folder), 0
    while True:
        if (place / _NEXT).is_dir():
            with suppress(OSError, OutputError):  # a folder that may not be written in stays so
                clean(place)
        opened = Folder(place)
        try:
            return read(opened)
        except ConnpropsError:
            attempts += 1
            # By when it was written: two runs later it may list the same files again.
            is_same = Folder(place).written == opened.written
            if is_same and (opened.settled or attempts == _ATTEMPTS):
                raise


@contextmanager
def new_generation(folder: Path, replaces: Collection[str] = ()) -> Iterator[Path]:
    """Give an empty folder to write files in, which become those of a folder together.

    Files that it had before stay, but for those that the new one ``replaces``, written or not.
    """
    stage = folder / f"{_PARTIAL}{uuid4().hex}"
    with ExitStack() as held:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            clean(folder)
            with locked(folder, str(folder), wait=math.inf):  # or others clean it up first
                stage.mkdir()
                held.enter_context(locked(stage, str(folder)))
        try:
            yield stage
            commit(folder, stage, replaces)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def commit(
    folder: Path,
    stage: Path,
    replaces: Collection[str] = (),
    known: Mapping[str, ListedFile] | None = None,
) -> None:
    """Make the files of a stage those of a folder, and list those that it keeps.

    Those are what its record listed before, but for what is to be replaced, and what is ``known``
    of others, or of files of the stage.
    """
    with writing(folder), locked(folder, str(folder), wait=math.inf):
        _finish(folder)
        kept = {n: f for n, f in _listed_before(folder).items() if n not in replaces}
        files = kept | dict(known or {}) | listing(stage, known or {})
        write_record(stage / RECORD, _Record(schema.VERSION, files), seal=True, sort_keys=True)
        for item in (*stage.iterdir(), stage):
            sync(item)
        stage.chmod(folder.stat().st_mode & 0o777)  # so that whoever reads one reads the other
        stage.rename(folder / _NEXT)
        sync(folder)
        _finish(folder)


def listing(stage: Path, known: Mapping[str, ListedFile]) -> dict[str, ListedFile]:
    """Return size and checksum of each file of a stage; of a dataset, those of its manifest."""
    files = {}
    for item in sorted(stage.iterdir()):
        file = item / "manifest.json" if item.is_dir() else item
        name = file.relative_to(stage).as_posix()
        if not item.name.startswith(".") and name != RECORD:
            files[name] = known.get(name) or listed(file)
    return files


def listed(file: Path) -> ListedFile:
    """Return size and checksum of a file."""
    return ListedFile(file.stat().st_size, sha256_of(file))


def _listed_before(folder: Path) -> dict[str, ListedFile]:
    """Return what a folder's record lists; of one that is damaged nothing, so that it will show."""
    try:
        return Folder(folder).listed or {}
    except DatasetError as error:
        warnings.warn(
            f"{error}\n  it is replaced, and lists no files but those that are written now",
            ConnpropsWarning,
            stacklevel=2,
        )
        return {}


def _finish(folder: Path) -> None:
    """Put the files of a generation that has become the folder's in their places."""
    following = folder / _NEXT
    if not following.is_dir():
        return
    if (following / RECORD).is_file():
        new = Folder(folder).listed or {}
        for item in sorted(following.iterdir()):
            if item.is_dir():
                with staged(folder / item.name):
                    put_in_place(item, folder / item.name)
            elif item.name != RECORD:
                item.replace(folder / item.name)
        old = {}
        with suppress(DatasetError, OSError):
            old = read_record(folder / RECORD, _Record, sealed=True).files
        for name in old.keys() - new.keys():
            (folder / name).unlink(missing_ok=True)
        sync(following)
        sync(folder)
        (following / RECORD).replace(folder / RECORD)
        sync(folder)
    shutil.rmtree(following)


def unfinished(folder: Path) -> set[str]:
    """Return the names of what unfinished work has left in a folder."""
    run, parts = leftover_of(folder / "run").name, folder.glob(f"{_PARTIAL}*")
    return {run, _NEXT, *(part.name for part in parts)}


def clean(folder: Path) -> None:
    """Finish what a crash has left of a generation that is complete; remove what is not.

    What others are at work on stays.
    """
    with locked(folder, str(folder), wait=PATIENCE):
        _finish(folder)
        restored(folder / "dataset")
        for stage in folder.glob(f"{_PARTIAL}*"):
            with suppress(OutputError), locked(stage, str(folder)):
                shutil.rmtree(stage)


@contextmanager
def output_file(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a path to write a file, which takes its place at the end, and its record's with it.

    As :func:`connprops.store.writing.replacing`, but where the folder has a record of its files,
    it lists this one too.
    """
    if not overwrite:
        refuse_existing(path)
    target = target_of(path)
    if not place_of(target.parent, RECORD).is_file():
        with replacing(path, overwrite=overwrite) as aside:
            yield aside
        return
    with new_generation(target.parent) as stage, replacing(stage / target.name) as aside:
        yield aside


def write_text(path: str | Path, text: str, *, overwrite: bool = False) -> Path:
    """Write text as UTF-8, whole or not at all; return the path."""
    with output_file(path, overwrite=overwrite) as aside:
        aside.write_text(text, encoding="utf-8")
    return Path(path)
