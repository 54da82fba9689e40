"""Files that carry a checksum of themselves, wherever they are taken: the seal.

Each format keeps a place for it in what it says of itself: the metadata of Parquet, an attribute of
HDF5, a key of JSON. The checksum is that of the file with zeros in this place.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from connprops.errors import DatasetError

KEY = "connprops.seal"
"""Name of what holds the seal."""

_MARK, _ZEROS = b"connprops-sha256:", b"0" * 64

UNSEALED = (_MARK + _ZEROS).decode()
"""What a format writes in the place of the seal, before there is one."""

_PARQUET, _HDF5 = b"PAR1", b"\x89HDF"
_FOOTER = 8
"""Bytes at the end of a Parquet file: the length of its metadata, and its name."""

_HEAD = 1 << 16
"""Bytes at the beginning of an HDF5 file, among which are the attributes that it began with."""

_PIECE = 1 << 20


def seal(file: Path) -> None:
    """Put the seal into its place in a file."""
    with file.open("r+b") as content:
        at = _place(content)
        checksum, _ = _checksums(content, at)
        content.seek(at)
        content.write(checksum)


def is_sealed(content: BinaryIO) -> bool:
    """Return whether a file has a seal, right or wrong."""
    return _place(content) >= 0


def check_seal(content: BinaryIO, file: Path) -> str:
    """Raise unless each byte of a file is as it was when it was sealed; return its SHA-256."""
    at = _place(content)
    if at < 0 and file.suffix == ".parquet" and not _is_parquet(content):
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", hint="another format, or cut short?"
        )
    if at < 0:
        raise DatasetError.of(
            f"{file} was not written by connprops", expected="a file with its checksum within"
        )
    content.seek(at)
    written = content.read(len(_ZEROS))
    checksum, sha256 = _checksums(content, at)
    if written != checksum:
        raise DatasetError.of(
            f"{file} is damaged: it is not what its checksum says",
            hint="take it from a copy, or write it again",
        )
    return sha256


def checked(content: BinaryIO, file: Path) -> bytes:
    """Return the bytes of a file, which are those that were sealed if it has a seal."""
    if is_sealed(content):
        check_seal(content, file)
    content.seek(0)
    return content.read()


def _place(content: BinaryIO) -> int:
    """Return where the digits of the seal are; -1 where there are none."""
    start, text = _described(content)
    at = text.rfind(_MARK)
    return -1 if at < 0 else start + at + len(_MARK)


def _described(content: BinaryIO) -> tuple[int, bytes]:
    """Return the bytes in which a file says what it is, and where they begin."""
    content.seek(0)
    head = content.read(len(_PARQUET))
    if head == _HDF5:
        return len(head), content.read(_HEAD)
    if not _is_parquet(content):
        content.seek(0)
        return 0, b"" if head == _PARQUET else content.read()
    content.seek(-_FOOTER, os.SEEK_END)
    length = int.from_bytes(content.read(4), "little")
    return content.seek(-_FOOTER - length, os.SEEK_END), content.read(length)


def _is_parquet(content: BinaryIO) -> bool:
    """Return whether a file begins and ends as Parquet, with room for its metadata."""
    size = content.seek(0, os.SEEK_END)
    content.seek(0)
    head = content.read(len(_PARQUET))
    content.seek(max(size - _FOOTER, 0))
    tail = content.read(_FOOTER)
    length = int.from_bytes(tail[:4], "little")
    return {head, tail[4:]} == {_PARQUET} and size >= len(_PARQUET) + _FOOTER + length


def _checksums(content: BinaryIO, at: int) -> tuple[bytes, str]:
    """Return the SHA-256 of a file as it was before it was sealed, and as it is."""
    before = hashlib.sha256()
    content.seek(0)
    while left := at - content.tell():
        before.update(content.read(min(left, _PIECE)))
    now = before.copy()
    before.update(_ZEROS)
    now.update(content.read(len(_ZEROS)))
    while piece := content.read(_PIECE):
        before.update(piece)
        now.update(piece)
    return before.hexdigest().encode(), now.hexdigest()
