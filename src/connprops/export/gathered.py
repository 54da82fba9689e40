"""A copy of edges in ranges of targets, for where the order of their rows helps nothing.

Each column is a file of plain numbers. A range of targets is a range of rows in all of them, and
has its rows in the order of the edges: whoever reads a range sorts it, in memory.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Ints
from connprops.display import Progress
from connprops.errors import DatasetError
from connprops.resources import Resources
from connprops.sources.source import SourceColumn, SourceEdges
from connprops.store.records import record_or_none, write_record
from connprops.workers import run_units

ROWS_AT_ONCE = 1 << 16, 1 << 20
"""Rows that a thread brings to their ranges at once, at least and at most."""

_BYTES_OF_ROW = 80
"""Bytes that ends, ranges and orders of a row take, and one column."""

_CONTENT = "content.json"
_ENDS = ("@source", "@target", "@edge")


@dataclass(frozen=True)
class _Content:
    """The rows at which ranges of targets begin, and the end; each column's type and file."""

    cuts: list[int]
    dtypes: dict[str, str]


def write_gathered(
    population: SourceEdges,
    columns: Sequence[SourceColumn],
    folder: Path,
    *,
    n_targets: int,
    n_ranges: int,
    resources: Resources,
    progress: Progress | None = None,
) -> None:
    """Copy all rows of some edges into ``n_ranges`` ranges of targets, of about equal size."""
    multiplicity = population.columns.get(schema.MULTIPLICITY)  # where rows stand for several
    several = [*columns, *([] if multiplicity is None else [multiplicity])]
    by_name = {column.name: column for column in several}
    size = population.size
    of_edge = "int32" if size < 1 << 31 else "int64"
    dtypes = dict.fromkeys(_ENDS[:2], "int32") | {_ENDS[2]: of_edge}
    dtypes |= {name: column.dtype for name, column in by_name.items()}
    pieces = _pieces(size, resources)
    folder.mkdir(exist_ok=True)
    with ThreadPoolExecutor(resources.threads) as threads:
        counts = _counts(population, pieces, n_targets, threads)
        ends = np.cumsum(counts)
        cuts = _cuts(ends, n_ranges)
        ranges = np.searchsorted(cuts[1:-1], ends - counts, side="right")
        content = _Content(cuts, dtypes)
        with _Copy(folder, content, ranges.astype(np.min_scalar_type(len(cuts)))) as copy:

            def brought(turn: int) -> int:
                return copy.add(population, by_name, turn, *pieces[turn])

            with closing(run_units(brought, range(len(pieces)), threads, "piece")) as units:
                done = 0
                for _, n in units:
                    done += n
                    if progress:
                        progress("sort", done, size, "rows")
    write_record(folder / _CONTENT, content)


def _pieces(size: int, resources: Resources) -> list[tuple[int, int]]:
    least, most = ROWS_AT_ONCE
    rows = resources.memory // 2 // resources.threads // _BYTES_OF_ROW
    rows = min(max(rows, least), most)
    return list(pairwise([*range(0, size, rows), size]))


def _node(ids: Ints) -> Ints:
    """Return ids of nodes in 32 bits: those that are of none stay so."""
    return np.clip(ids, -1, (1 << 31) - 1).astype(np.int32)


def _counts(
    population: SourceEdges,
    pieces: Sequence[tuple[int, int]],
    n_targets: int,
    threads: ThreadPoolExecutor,
) -> Ints:
    """Return the rows of each target, those of none first, and last those beyond."""

    def of_piece(piece: tuple[int, int]) -> Ints:
        with population.reader() as rows:
            _, target = rows.node_ids(*piece)
        return np.bincount(_place(target, n_targets), minlength=n_targets + 2)

    counts = np.zeros(n_targets + 2, dtype=np.int64)
    with closing(run_units(of_piece, pieces, threads, "piece")) as units:
        for _, of_one in units:
            counts += of_one
    return counts


def _place(target: Ints, n_targets: int) -> Ints:
    return np.clip(target, -1, n_targets) + 1


def _cuts(ends: Ints, n_ranges: int) -> list[int]:
    """Return the rows at which ranges begin, and the end, given where the rows of targets end."""
    size, cuts = int(ends[-1]), [0]
    for nominal in (size * number // n_ranges for number in range(1, n_ranges)):
        cut = int(ends[np.searchsorted(ends, nominal)])
        if cuts[-1] < nominal and cut < size:
            cuts.append(cut)
    return [*cuts, size]


class _Copy:
    """The files of a copy, to which pieces are added: at the same time, each in its turn."""

    def __init__(self, folder: Path, content: _Content, ranges: NDArray[Any]) -> None:
        self._content, self._ranges = content, ranges
        self._next = np.array(content.cuts[:-1])
        self._turn, self._changed = 0, threading.Condition()
        with ExitStack() as opening:
            self._files = {}
            for i, (name, dtype) in enumerate(content.dtypes.items()):
                file = os.open(folder / str(i), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                opening.callback(os.close, file)
                os.truncate(file, content.cuts[-1] * np.dtype(dtype).itemsize)
                self._files[name] = file
            self._open = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def add(
        self,
        population: SourceEdges,
        columns: dict[str, SourceColumn],
        turn: int,
        start: int,
        stop: int,
    ) -> int:
        """Bring rows to their ranges, behind those of the pieces before; return their number."""
        with population.reader() as rows:
            with self._turn_of(turn):
                source, target = rows.node_ids(start, stop)
                of_rows = self._ranges[_place(target, self._ranges.size - 2)]
                counts = np.bincount(of_rows, minlength=self._next.size)
                begins = self._allotted(turn, counts)
            order = np.argsort(of_rows, kind="stable")
            edges = np.arange(start, stop)
            for name, values in zip(_ENDS, (_node(source), _node(target), edges), strict=True):
                self._write(name, values[order], begins, counts)
            del source, target, edges
            for name, column in columns.items():
                values = rows.column(column, start, stop)
                self._write(name, values[order], begins, counts)
        return stop - start

    def _allotted(self, turn: int, counts: Ints) -> Ints:
        """Wait for the pieces before; return where the rows of each range go."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn >= turn)
            begins = self._next.copy()
            self._next += counts
        return begins

    @contextmanager
    def _turn_of(self, turn: int) -> Iterator[None]:
        """Let the next piece have its turn afterwards, also after an error, which ends them all."""
        try:
            yield
        finally:
            with self._changed:
                self._turn = max(self._turn, turn + 1)
                self._changed.notify_all()

    def _write(self, name: str, values: NDArray[Any], begins: Ints, counts: Ints) -> None:
        dtype = np.dtype(self._content.dtypes[name])
        bytes_of = values.astype(dtype, copy=False).view(np.uint8).data
        done = 0
        for begin, count in zip(begins.tolist(), counts.tolist(), strict=True):
            rest = bytes_of[done * dtype.itemsize : (done + count) * dtype.itemsize]
            at, done = begin * dtype.itemsize, done + count
            while rest:
                written = os.pwrite(self._files[name], rest, at)
                rest, at = rest[written:], at + written


class GatheredRows:
    """Rows of the copy."""

    def __init__(self, folder: Path) -> None:
        content = record_or_none(folder / _CONTENT, _Content)
        if content is None:
            raise DatasetError.of(f"{folder} is damaged", hint="remove it, and export again")
        self._folder, self._content = folder, content
        self._numbers = {name: str(i) for i, name in enumerate(content.dtypes)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Do nothing: files are open while they are read."""

    @property
    def cuts(self) -> list[int]:
        """Return the rows at which ranges of targets begin, and the end."""
        return self._content.cuts

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return source and target ids of a range of rows."""
        source, target = (self._read(name, start, stop).astype(np.int64) for name in _ENDS[:2])
        return source, target

    def edge_ids(self, start: int, stop: int) -> Ints:
        """Return the rows' places among the edges."""
        return self._read(_ENDS[2], start, stop).astype(np.int64)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        """Return a column's values in a range of rows."""
        return self._read(column.name, start, stop)

    def _read(self, name: str, start: int, stop: int) -> NDArray[Any]:
        dtype = np.dtype(self._content.dtypes[name])
        file = self._folder / self._numbers[name]
        values = np.fromfile(file, dtype, stop - start, offset=start * dtype.itemsize)
        if values.size != stop - start:
            raise DatasetError.of(
                f"{file} is cut short", hint="remove its folder, and export again"
            )
        return values


def is_gathered(folder: Path) -> bool:
    """Return whether a folder holds a whole copy."""
    return (folder / _CONTENT).is_file()
