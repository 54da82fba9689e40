"""Writing files so that nobody ever sees half of one, and nothing is overwritten unasked."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from connprops.errors import OptionError, OutputError

FORMATS = (".csv", ".json", ".parquet")
"""How the names of files end in which tables are given to people."""


def refuse_existing(*paths: str | Path) -> None:
    """Raise :class:`OutputError` where one of the files is there already."""
    for path in paths:
        if os.path.lexists(path):
            raise OutputError.of(
                f"{path} exists already",
                hint="give another name, or overwrite (overwrite=True, --overwrite)",
            )


def leftover_of(path: str | Path) -> Path:
    """Return where a file is written before it takes its place, and stays if a process is killed.

    The name begins with a dot, so that no pattern finds it; the next attempt uses it again.
    """
    target = Path(path)
    return target.with_name(f".{target.name}.partial")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn an error of the system, such as a full disk, into one that names the file."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError.of(
            f"{path} cannot be written",
            found=str(error),
            hint="make room, or give another place; what is finished is kept" if full else None,
        ) from error


@contextmanager
def locked(path: Path, what: str, *, shared: bool = False, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, which is made where it is not there.

    The lock ends with the process at the latest. A ``shared`` lock is held beside others of its
    kind. With ``wait``, whoever holds it is waited for; else it is an :class:`OutputError` that
    another process is writing ``what``.
    """
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # NFS wants a file to be open for reading for a shared lock, for writing for one alone.
        flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
        handle = os.open(path, flags, 0o666)
        try:
            try:
                fcntl.flock(handle, kind)
            except BlockingIOError as error:
                raise OutputError.of(
                    f"Another process is writing {what}", hint="wait for it, or give another place"
                ) from error
            if _is_still(path, handle):
                yield
                return
        finally:
            os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    """Return whether a path leads to an open file: who held its lock before may have moved it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


@contextmanager
def replacing(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside a file; put it in the file's place at the end.

    If the block raises, the temporary file is removed and what was there stays. A file that exists
    is not replaced unless ``overwrite`` is true.
    """
    target = Path(path)
    if not overwrite:
        refuse_existing(target)
    aside = leftover_of(target)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(aside, str(target)), renamed(aside, target):
            aside.write_bytes(b"")  # of what a killed process left, nothing remains
            yield aside
        sync(target.parent)


@contextmanager
def renamed(aside: Path, target: Path) -> Iterator[Path]:
    """Put a file that is written meanwhile in the target's place; remove it after an error."""
    with writing(target):
        try:
            yield aside
            sync(aside)
            aside.replace(target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def check_format(path: str | Path, formats: Sequence[str] = FORMATS) -> None:
    """Raise :class:`OptionError` unless a file's name ends in a format that we write."""
    if Path(path).suffix not in formats:
        raise OptionError.unknown("format", Path(path).suffix, formats, hint=f"the name was {path}")


def write_text(path: str | Path, text: str, *, overwrite: bool = False) -> Path:
    """Write text as UTF-8, whole or not at all; return the path."""
    with replacing(path, overwrite=overwrite) as aside:
        aside.write_text(text, encoding="utf-8")
    return Path(path)


def sync(path: Path) -> None:
    """Make a file's content, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
