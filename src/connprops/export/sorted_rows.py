"""A copy of an edge file in the order of target and source, where its own order helps nothing.

Rows are dealt out by their target to files that memory holds. Each is sorted when it is read.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import msgspec
import numpy as np
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.display import Progress
from connprops.resources import Resources
from connprops.sources.source import EdgeRows, SourceColumn, SourceEdges

Records = NDArray[np.void]

_TARGET, _SOURCE, _EDGE = "@target", "@source", "@edge"
_ENDS = (_TARGET, _SOURCE)

ROWS_AT_ONCE, ROOM_AT_LEAST, FILES_AT_MOST = 1 << 18, 1 << 16, 256
"""Rows that are read at once, rows that may always be sorted at once, and files that are open."""

ROWS_TOGETHER_AT_MOST = 1 << 20
"""Rows that are read at once at most, where more than usual are stored together."""

_CACHED, _DEALT_AT_ONCE = 1 << 12, 1 << 16
"""Rows that a cache holds while their columns are taken from them; and while they are dealt out."""

_BUFFER = 1 << 17
"""Bytes that are dealt to a file before they are written to it."""

_NARROW, _WIDE = 1 << 30, 1 << 62
"""What no number reaches that is kept in 32 bits; and none at all."""

_READERS_AT_MOST = 4
"""Threads that read rows: what they read is dealt out by one, in a third of the time."""

_SHARE_OF_SORT = 8
"""Part of the memory that the rows being sorted may take."""

_INDEX = "index.json"


@dataclass(frozen=True)
class _File:
    """A file of rows that come before those of the next; whether they are in order within."""

    name: str
    size: int
    in_order: bool


@dataclass(frozen=True)
class _Index:
    layout: list[tuple[str, str]]
    files: list[_File]


def write_sorted(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    n_nodes: int,
    folder: Path,
    resources: Resources,
    progress: Progress | None = None,
) -> None:
    """Deal all rows of an edge file out to files, in the order of target, source and place.

    Numbers of nodes from ``n_nodes`` on are of no node.
    """
    multiplicity = population.columns.get(schema.MULTIPLICITY)  # where rows stand for several
    several = [*columns, *([] if multiplicity is None else [multiplicity])]
    columns = list({column.name: column for column in several}.values())
    layout = _layout(columns, n_nodes, population.size)
    room = resources.memory // _SHARE_OF_SORT // (2 * layout.itemsize + 16)
    room = min(max(room, ROOM_AT_LEAST), max(ROWS_AT_ONCE, 2 * population.size // FILES_AT_MOST))
    aside = folder.with_suffix(".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    n_readers = min(resources.threads, _READERS_AT_MOST)
    rows = _records(population, columns, layout, n_readers, progress)
    files = _dealt_out(rows, layout, population.size, _ENDS, (-1, None), aside, room)
    described = [(name, layout[name].str) for name in layout.names or ()]
    (aside / _INDEX).write_bytes(msgspec.json.encode(_Index(described, list(files))))
    aside.rename(folder)


def _layout(columns: Sequence[SourceColumn], n_nodes: int, size: int) -> np.dtype[np.void]:
    """Return how a row is kept: narrow, for all are written and read once more."""
    node, edge = (np.dtype(np.int32 if n < _NARROW else np.int64) for n in (n_nodes, size))
    fields = [*((end, node) for end in _ENDS), (_EDGE, edge)]
    fields += [(_field(column), np.dtype(column.dtype)) for column in columns]
    return np.dtype(sorted(fields, key=lambda field: -field[1].itemsize))


def _field(column: SourceColumn) -> str:
    """Return the name of a column's values: NumPy renames what has none, as an index in CSV."""
    return f"={column.name}"


def _records(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    layout: np.dtype[np.void],
    n_readers: int,
    progress: Progress | None,
) -> Iterator[Records]:
    """Yield all rows of an edge file, with their ends, their number, and their values.

    Threads, each with a reader of its own, read the next pieces meanwhile.
    """
    with ExitStack() as opened:
        readers = [opened.enter_context(population.reader()) for _ in range(n_readers)]
        pool = opened.enter_context(ThreadPoolExecutor(n_readers))
        coming: deque[Future[Records]] = deque()
        at_once = _rows_at_once(population.rows_together)
        for start, reader in zip(range(0, population.size, at_once), cycle(readers)):
            stop = min(start + at_once, population.size)
            if len(coming) == n_readers:
                yield coming.popleft().result()
            coming.append(pool.submit(_read_records, reader, columns, layout, start, stop))
            if progress:
                progress("sort", stop, population.size, "rows")
        while coming:
            yield coming.popleft().result()


def _rows_at_once(together: int) -> int:
    """Return how many rows are read at once: those that are stored together, lest twice."""
    return min(max(ROWS_AT_ONCE // together, 1) * together, ROWS_TOGETHER_AT_MOST)


def _read_records(
    rows: EdgeRows,
    columns: Sequence[SourceColumn],
    layout: np.dtype[np.void],
    start: int,
    stop: int,
) -> Records:
    records = np.empty(stop - start, layout)
    of_no_node = _NARROW if layout[_SOURCE] == np.int32 else _WIDE
    for end, ids in zip((_SOURCE, _TARGET), rows.node_ids(start, stop), strict=True):
        records[end] = np.minimum(ids, of_no_node)
    records[_EDGE] = np.arange(start, stop)
    for column in columns:
        records[_field(column)] = rows.column(column, start, stop)
    return records


def _dealt_out(
    pieces: Iterator[Records],
    layout: np.dtype[np.void],
    size: int,
    ends: Sequence[str],
    nodes: tuple[int, int | None],
    folder: Path,
    room: int,
) -> Iterator[_File]:
    """Write rows, of which ``pieces`` have ``size`` in all, to files in the order of their ends.

    More of them than there is ``room`` for go to files by ``nodes``, the range of the first of the
    ends, as far as it is known; those of one connection stay in the order they came.
    """
    low, high = nodes
    end = ends[0] if ends else _TARGET
    if high is None:  # the first piece tells about as much as all
        first = next(pieces, np.empty(0, layout))
        high = max(int(first[end].max(initial=low)) + 1, low + 2)
        pieces = chain([first], pieces)
    n = min(-(-2 * size // room), FILES_AT_MOST, high - low) if ends and size > room else 1
    width = -(-(high - low) // n)
    dealt = _dealt(pieces, end, low, width, n)
    for i, (file, n_rows) in enumerate(_written(dealt, n, folder)):
        if n == 1 or n_rows <= room:
            yield _File(file.name, n_rows, in_order=not ends)
            continue
        start, stop = low + i * width, low + (i + 1) * width if i + 1 < n else None
        deeper = (ends[1:], (-1, None)) if stop == start + 1 else (ends, (start, stop))
        yield from _dealt_out(_read(file, layout, 0, n_rows), layout, n_rows, *deeper, folder, room)
        file.unlink()


def _dealt(
    pieces: Iterator[Records], end: str, low: int, width: int, n: int
) -> Iterator[tuple[Records, Ints]]:
    """Yield rows in the order of n files by the node at an end, and how many are of each."""
    blocks = (piece[i : i + _DEALT_AT_ONCE] for piece in pieces
              for i in range(0, piece.size, _DEALT_AT_ONCE))  # fmt: skip
    for rows in blocks:
        file = np.minimum((rows[end] - low) // width, n - 1).astype(np.uint16)
        order = np.argsort(file, kind="stable")
        yield _as_bytes(rows).take(order), np.bincount(file, minlength=n)


def _written(dealt: Iterator[tuple[Records, Ints]], n: int, folder: Path) -> list[tuple[Path, int]]:
    """Write what is dealt out to n files; return these with their numbers of rows."""
    sizes = np.zeros(n, dtype=np.int64)
    names = [folder / f"{uuid4().hex}.rows" for _ in range(n)]
    with ExitStack() as opened:
        files = [opened.enter_context(name.open("wb", _BUFFER)) for name in names]
        for rows, counts in dealt:
            sizes += counts
            stops = np.cumsum(counts)
            for i in np.flatnonzero(counts):
                files[i].write(rows[stops[i] - counts[i] : stops[i]].data)
    return list(zip(names, sizes.tolist(), strict=True))


def _read(file: Path, layout: np.dtype[np.void], start: int, stop: int) -> Iterator[Records]:
    """Yield a range of the rows of a file."""
    for at in range(start, stop, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, stop - at)
        yield np.fromfile(file, layout, count, offset=at * layout.itemsize)


def _order(rows: Records) -> Ints:
    """Return the order of rows by target and source, in which those of a connection stay."""
    source, target = (rows[end].astype(np.int64) for end in (_SOURCE, _TARGET))
    n_sources, n_targets = (int(np.ptp(of)) + 1 if of.size else 1 for of in (source, target))
    bits = rows.size.bit_length()
    if n_sources * n_targets >= 1 << (62 - bits):
        return np.lexsort((source, target))
    # One number of both ends and the place is sorted several times as fast.
    key = (target - target.min(initial=_WIDE)) * n_sources
    key += source - source.min(initial=_WIDE)
    key = (key << bits) | np.arange(rows.size)
    key.sort()
    order: Ints = key & ((1 << bits) - 1)
    return order


def _as_bytes(rows: Records) -> Records:
    """Return rows that NumPy copies whole, not field by field."""
    return rows.view(f"V{rows.itemsize}")


class SortedRows:
    """Rows of the sorted copy: those of the range that was read last are in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index = msgspec.json.decode((folder / _INDEX).read_bytes(), type=_Index)
        self._layout = np.dtype(self._index.layout)
        self._last: tuple[tuple[int, int], dict[str, NDArray[Any]]] = (0, 0), {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._last = (0, 0), {}

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return source and target ids of a range of rows."""
        columns = self._columns(start, stop)
        return columns[_SOURCE], columns[_TARGET]

    def edge_ids(self, start: int, stop: int) -> Ints:
        """Return the rows' places in the edge file."""
        return self._columns(start, stop)[_EDGE].astype(np.int64, copy=False)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values in a range of rows."""
        return self._columns(start, stop)[_field(column)]

    def _columns(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        if self._last[0] == (start, stop) and self._last[1]:
            return self._last[1]
        names, size = self._layout.names or (), stop - start
        columns: dict[str, NDArray[Any]] = {n: np.empty(size, self._layout[n]) for n in names}
        first = 0
        for file in self._index.files:
            low, high = max(start, first), min(stop, first + file.size)
            if low < high:
                place = slice(low - start, high - start)
                into = {name: values[place] for name, values in columns.items()}
                self._read(file, low - first, high - first, into)
            first += file.size
        self._last = (start, stop), columns
        return columns

    def _read(self, file: _File, start: int, stop: int, into: dict[str, NDArray[Any]]) -> None:
        """Read a range of the sorted rows of a file."""
        first, n = (start, stop - start) if file.in_order else (0, file.size)
        offset = first * self._layout.itemsize
        rows = np.fromfile(self._folder / file.name, self._layout, n, offset=offset)
        order = np.arange(n) if file.in_order else _order(rows)[start:stop]
        for at in range(0, order.size, _CACHED):
            block = _as_bytes(rows).take(order[at : at + _CACHED]).view(self._layout)
            for name, values in into.items():
                values[at : at + _CACHED] = block[name]
