"""A copy of an edge file sorted by target and source, where its own order helps nothing.

Rows are dealt out by their target to files that memory holds, and each of these is sorted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.display import Progress
from connprops.resources import Resources
from connprops.sources.source import SourceColumn, SourceEdges

Records = NDArray[np.void]

_TARGET, _SOURCE, _EDGE = "@target", "@source", "@edge"
_ENDS = (_TARGET, _SOURCE)

ROWS_AT_ONCE, ROOM_AT_LEAST, FILES_AT_MOST = 1 << 18, 1 << 16, 256
"""Rows that are read at once, rows that may always be sorted at once, and files that are open."""

_MOST_NODES = 1 << 62
"""What no number of a node reaches."""

_SHARE_OF_SORT = 8
"""Part of the memory that the rows being sorted may take."""

_NAMES = "names.json"


def write_sorted(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    folder: Path,
    resources: Resources,
    progress: Progress | None = None,
) -> None:
    """Sort all rows of an edge file by target, source and place, into a file a column."""
    multiplicity = population.columns.get(schema.MULTIPLICITY)  # where rows stand for several
    several = [*columns, *([] if multiplicity is None else [multiplicity])]
    columns = list({column.name: column for column in several}.values())
    fields = [(name, np.dtype(np.int64)) for name in (*_ENDS, _EDGE)]
    fields += [(column.name, np.dtype(column.dtype)) for column in columns]
    layout = np.dtype(sorted(fields, key=lambda field: -field[1].itemsize))
    room = resources.memory // _SHARE_OF_SORT // (2 * layout.itemsize + 16)
    room = min(max(room, ROOM_AT_LEAST), max(ROWS_AT_ONCE, 2 * population.size // FILES_AT_MOST))
    aside = folder.with_suffix(".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    (aside / _NAMES).write_bytes(msgspec.json.encode(layout.names))
    with (
        tempfile.TemporaryDirectory(dir=resources.temp_dir or aside, prefix="connprops-") as dealt,
        ExitStack() as opened,
    ):
        files = []
        for i, name in enumerate(layout.names or ()):
            files.append(opened.enter_context((aside / f"{i}.npy").open("wb")))
            np.lib.format.write_array_header_1_0(
                files[-1],
                {"descr": np.lib.format.dtype_to_descr(layout[name]), "fortran_order": False,
                 "shape": (population.size,)},
            )  # fmt: skip
        rows = _ahead(_records(population, columns, layout, progress))
        first = next(rows, np.empty(0, layout))  # in which nodes reach about as far as in all
        nodes, rows = (-1, int(first[_TARGET].max(initial=0)) + 1), chain([first], rows)
        pieces = _in_order(rows, layout, population.size, _ENDS, nodes, Path(dealt), room)
        done = 0
        for piece in _ahead(pieces):
            for name, file in zip(layout.names or (), files, strict=True):
                file.write(np.ascontiguousarray(piece[name]).data)
            done += piece.size
            if progress:
                progress("sort", done, population.size, "rows")
    aside.rename(folder)


def _ahead(pieces: Iterator[Records]) -> Iterator[Records]:
    """Yield pieces while another thread makes the next."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = pool.submit(next, pieces, None)
            yield piece


def _records(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    layout: np.dtype[np.void],
    progress: Progress | None,
) -> Iterator[Records]:
    """Yield all rows of an edge file, with their ends, their number, and their values."""
    with population.reader() as rows:
        for start in range(0, population.size, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, population.size)
            records = np.empty(stop - start, layout)
            records[_SOURCE], records[_TARGET] = rows.node_ids(start, stop)
            records[_EDGE] = np.arange(start, stop)
            for column in columns:
                records[column.name] = rows.column(column, start, stop)
            yield records
            if progress:
                progress("read", stop, population.size, "rows")


def _in_order(
    pieces: Iterator[Records],
    layout: np.dtype[np.void],
    size: int,
    ends: Sequence[str],
    nodes: tuple[int, int],
    folder: Path,
    room: int,
) -> Iterator[Records]:
    """Yield rows, of which ``pieces`` have ``size`` in all, in the order of their ends.

    More of them than there is ``room`` for are dealt out to files by ``nodes``, the range of the
    first of the ends; those of one connection stay in the order they came.
    """
    if not ends:
        yield from pieces
    elif size <= room:
        yield _sorted(np.concatenate([np.empty(0, layout), *pieces]))
    else:
        low, high = nodes
        n = min(-(-2 * size // room), FILES_AT_MOST, high - low)
        width = -(-(high - low) // n)
        for i, (file, n_rows) in enumerate(_dealt(pieces, ends[0], low, width, n, folder)):
            first, last = low + i * width, low + (i + 1) * width if i + 1 < n else _MOST_NODES
            of_file = _read(file, layout, n_rows)
            deeper = (ends, (first, last)) if last - first > 1 else (ends[1:], (-1, _MOST_NODES))
            yield from _in_order(of_file, layout, n_rows, *deeper, folder, room)
            file.unlink()


def _dealt(
    pieces: Iterator[Records], end: str, low: int, width: int, n: int, folder: Path
) -> list[tuple[Path, int]]:
    """Deal rows out to n files by the node at an end; return these with their numbers of rows."""
    sizes = np.zeros(n, dtype=np.int64)
    place = Path(tempfile.mkdtemp(dir=folder))
    names = [place / str(i) for i in range(n)]
    with ExitStack() as opened:
        files = [opened.enter_context(name.open("wb")) for name in names]
        for rows in pieces:
            file = np.minimum((rows[end] - low) // width, n - 1).astype(np.uint16)
            dealt = _taken(rows, np.argsort(file, kind="stable"))
            counts = np.bincount(file, minlength=n)
            sizes += counts
            stops = np.cumsum(counts)
            for i in np.flatnonzero(counts):
                files[i].write(dealt[stops[i] - counts[i] : stops[i]].data)
    return list(zip(names, sizes.tolist(), strict=True))


def _read(file: Path, layout: np.dtype[np.void], size: int) -> Iterator[Records]:
    for start in range(0, size, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, size - start)
        yield np.fromfile(file, layout, count, offset=start * layout.itemsize)


def _sorted(rows: Records) -> Records:
    """Return rows sorted by target and source, those of a connection as they are."""
    source, target = rows[_SOURCE], rows[_TARGET]
    n_sources, n_targets = (int(np.ptp(of)) + 1 if of.size else 1 for of in (source, target))
    bits = rows.size.bit_length()
    if n_sources * n_targets >= 1 << (62 - bits):
        return _taken(rows, np.lexsort((source, target)))
    # One number of both ends and the place is sorted several times as fast.
    key = (target - target.min(initial=0)) * n_sources + (source - source.min(initial=0))
    key = (key << bits) | np.arange(rows.size)
    key.sort()
    return _taken(rows, key & ((1 << bits) - 1))


def _taken(rows: Records, order: Ints) -> Records:
    """Return rows by place, copied as bytes: NumPy copies field by field otherwise."""
    return rows.view(f"V{rows.itemsize}").take(order).view(rows.dtype)


class SortedRows:
    """Rows of the sorted copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.__dict__.pop("_columns", None)

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        names = msgspec.json.decode((self._folder / _NAMES).read_bytes(), type=list[str])
        files = (self._folder / f"{i}.npy" for i in range(len(names)))
        return {name: np.load(file, mmap_mode="r") for name, file in zip(names, files, strict=True)}

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return source and target ids of a range of rows."""
        return self._read(_SOURCE, start, stop), self._read(_TARGET, start, stop)

    def edge_ids(self, start: int, stop: int) -> Ints:
        """Return the rows' places in the edge file."""
        return self._read(_EDGE, start, stop)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values in a range of rows."""
        return self._read(column.name, start, stop)

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return np.array(self._columns[name][start:stop])
