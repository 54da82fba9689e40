"""Writing files so that nobody ever sees half of one, and nothing is overwritten unasked.

A file is written in a folder beside its place, ``.NAME.RANDOM.tmp``: new, with a name that nobody
can foresee, and closed to others. So nobody can read it too early, or have it written elsewhere
through a link of theirs, even where all may write to the folder; and it gets the permissions that
any new file gets there. A process that is killed leaves the folder to the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from connprops.errors import OptionError, OutputError

_SAMPLED_BLOCKS = 64
_SAMPLED_BYTES = 4096

FORMATS = (".csv", ".json", ".parquet")
"""How the names of files end in which tables are given to people."""

_ASIDE = re.compile(r"\..*\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""Names of folders in which files are written."""

_SHOWN = 50
"""Characters of a file's name in that of such a folder: systems take 255 bytes."""

_PAUSE = 0.01
"""Seconds between two looks at a lock that others hold."""

_LOCK = ".lock"


def refuse_existing(*paths: str | Path) -> None:
    """Raise :class:`OutputError` where one of the files is there already."""
    for path in paths:
        if os.path.lexists(path):
            raise OutputError.of(
                f"{path} exists already",
                hint="give another name, or overwrite (overwrite=True, --overwrite)",
            )


def target_of(path: str | Path) -> Path:
    """Return the place to write to: where a link leads, unless another user has planted it."""
    try:
        target = Path(os.path.realpath(path))
        if Path(path).is_symlink() and _may_be_planted(Path(path)):
            raise OutputError.of(
                f"{path} is a link that another user has made",
                found=f"it leads to {target}",
                hint="give another name, or the place itself",
            )
    except (OSError, ValueError) as error:
        raise OutputError.of(f"{str(path)!r} cannot be written", found=str(error)) from error
    return target


def _may_be_planted(link: Path) -> bool:
    """Return whether a link is neither ours nor its folder's owner's, where others may write."""
    folder = link.parent.stat()
    trusted = (os.geteuid(), 0, folder.st_uid)
    return bool(folder.st_mode & 0o022) and link.lstat().st_uid not in trusted


def leftover_of(path: str | Path) -> Path:
    """Return where a folder is written before it takes its place, and stays if a process is killed.

    The name begins with a dot, so that no pattern finds it; the next attempt uses it again.
    """
    target = target_of(path)
    return target.parent / f".{target.name}.partial"


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
def locked(path: Path, what: str, *, shared: bool = False, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of a folder, or of a file, which is made where it is not there.

    The lock ends with the process at the latest. A ``shared`` lock is held beside others of its
    kind. Whoever holds it is waited for, ``wait`` seconds at most; then it is an
    :class:`OutputError` that another process is writing ``what``. The folder of a lock file is
    closed to others.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    until = time.monotonic() + wait
    while True:
        # NFS wants a file to be open for reading for a shared lock, for writing for one alone.
        flags = os.O_RDONLY
        if not path.is_dir():
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            make_private(path.parent)
        handle = os.open(path, flags, 0o600)
        try:
            try:
                _lock(handle, kind, until)
            except BlockingIOError as error:
                raise OutputError.of(
                    f"Another process is writing {what}", hint="wait for it, or give another place"
                ) from error
            if _is_still(path, handle):
                yield
                return
        finally:
            os.close(handle)


def _lock(handle: int, kind: int, until: float) -> None:
    """Lock an open file; raise :class:`BlockingIOError` where others hold it longer."""
    while True:
        try:
            return fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE)


def _is_still(path: Path, handle: int) -> bool:
    """Return whether a path leads to an open file: who held its lock before may have moved it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def make_private(folder: Path) -> None:
    """Make a folder that is closed to others, or use ours; refuse a link or another user's."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        there = folder.lstat()
        what = "a link or a file"
        if stat.S_ISDIR(there.st_mode):
            with tempfile.TemporaryFile(dir=folder) as ours:  # owners may have other ids there
                if os.fstat(ours.fileno()).st_uid == there.st_uid:
                    return
            what = "a folder of another user"
        raise OutputError.of(
            f"{folder} is in the way, where unfinished work goes",
            found=what,
            hint="remove it, or give a place where only you may write",
        ) from None


@contextmanager
def replacing(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside a file; put it in the file's place at the end.

    If the block raises, the temporary file is removed and what was there stays. A file that exists
    is not replaced unless ``overwrite`` is true.
    """
    if not overwrite:
        refuse_existing(path)
    target = target_of(path)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _clean_once(target.parent)
        with folder_aside(target) as folder, renamed(folder / target.name, target) as aside:
            yield aside
            if not overwrite:  # another process may have been faster
                refuse_existing(target)
        sync(target.parent)


@contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """Give a new folder beside a file that no other user can enter; it goes at the end."""
    folder = target.parent / f".{target.name[:_SHOWN]}.{secrets.token_hex(8)}.tmp"
    try:
        with locked(folder / _LOCK, str(target)):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Return whether a folder is one that a file is or was to be written in."""
    if not _ASIDE.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    names = {item.name for item in path.iterdir()}
    return not names or _LOCK in names


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left of files in a folder."""
    with suppress(OSError, OutputError):  # what cannot be looked into, or has just gone
        for item in filter(is_leftover, folder.iterdir()):
            with suppress(OSError, OutputError), locked(item / _LOCK, str(item)):
                shutil.rmtree(item)


_clean_once = lru_cache(1024)(remove_leftovers)
"""Removes leftovers when this process first writes to a folder."""


@contextmanager
def renamed(
    aside: Path, target: Path, named: Callable[[Path], Path] | None = None
) -> Iterator[Path]:
    """Put a file that is written meanwhile in the target's place; remove it after an error.

    ``named`` gives it another name than the target's, which follows from what was written.
    """
    with writing(target):
        try:
            yield aside
            sync(aside)
            aside.replace(target if named is None else named(aside))
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def check_format(path: str | Path, formats: Sequence[str] = FORMATS) -> None:
    """Raise :class:`OptionError` unless a file's name ends in a format that we write."""
    if Path(path).suffix not in formats:
        raise OptionError.unknown("format", Path(path).suffix, formats, hint=f"the name was {path}")


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


def add_samples(path: Path, digest: hashlib._Hash) -> None:
    """Add blocks sampled evenly from a file to a digest, which takes milliseconds."""
    with path.open("rb") as raw:
        last = max(path.stat().st_size - _SAMPLED_BYTES, 0)
        for block in range(_SAMPLED_BLOCKS):
            raw.seek(last * block // (_SAMPLED_BLOCKS - 1))
            digest.update(raw.read(_SAMPLED_BYTES))
