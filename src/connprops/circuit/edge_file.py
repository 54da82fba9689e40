"""Writing SONATA edge files: what the demo circuit and drawn synapses have in common."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import h5py
import numpy as np

from connprops.arrays import Ints
from connprops.store.writing import writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_READ = 1 << 20
_CHUNK = 1 << 15


class ForgivingFile(io.RawIOBase):
    """A file for HDF5, which crashes the process if what it holds cannot be written.

    What does not find room is dropped here, so that HDF5 can close the file all the same;
    :meth:`check` says so.
    """

    def __init__(self, path: Path, mode: Literal["w+b", "r+b"] = "w+b") -> None:
        super().__init__()
        self._file = path.open(mode, buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the error of what could not be written, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: ReadableBuffer) -> int:
        """Write all of it, or remember why not."""
        view = memoryview(data)
        done = 0
        while done < view.nbytes and self._error is None:
            try:
                done += self._file.write(view[done:])
            except OSError as error:
                self._error = error
        return view.nbytes

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read all of it; zeros where nothing was written."""
        view = memoryview(buffer)
        done = 0
        while done < view.nbytes and (n := self._file.readinto(view[done:])):
            done += n
        view[done:] = bytes(view.nbytes - done)
        return view.nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or remember why not."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self._error = self._error or error
        return self._file.tell() if size is None else size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


@contextmanager
def created(path: Path) -> Iterator[tuple[h5py.File, ForgivingFile]]:
    """Open a new HDF5 file; :meth:`ForgivingFile.check` tells early that a disk is full."""
    with closing(ForgivingFile(path)) as forgiving:
        with h5py.File(forgiving, "w") as file:
            yield file, forgiving
        forgiving.check()


def create_edges(
    file: h5py.File, name: str, nodes: tuple[str, str], size: int | None
) -> h5py.Group:
    """Create an edge population of one group, with node ids to be filled in.

    ``nodes`` are the names of the source and the target population. The ``size`` is None where it
    will be known only in the end.
    """
    population = file.create_group(f"edges/{name}")
    population.create_group("0")
    # What is constant is a fill value, for which HDF5 stores nothing.
    create_column(population, "edge_type_id", np.dtype(np.int64), size, fill=-1)
    for side, nodes_name in zip(("source", "target"), nodes, strict=True):
        ids = create_column(population, f"{side}_node_id", np.dtype(np.uint64), size)
        ids.attrs["node_population"] = nodes_name
    return population


def create_column(
    group: h5py.Group, name: str, dtype: np.dtype, size: int | None, *, fill: float | None = None
) -> h5py.Dataset:
    """Create a column: contiguous where its size is known, else one that grows."""
    growth = {"maxshape": (None,), "chunks": (_CHUNK,)} if size is None else {}
    return group.create_dataset(name, (size or 0,), dtype, fillvalue=fill, **growth)


def write_indices(
    path: Path, name: str, n_source: int, n_target: int, at_once: int = 1 << 26
) -> None:
    """Add the indices by which a node's edges are found to a file that is closed.

    They hold what libsonata writes, but no time, so that the same edges give the same bytes. Some
    30 bytes are needed for each of the edges that are sorted ``at_once``.
    """
    with writing(path), closing(ForgivingFile(path, "r+b")) as forgiving:
        with h5py.File(forgiving, "r+") as file:
            population = file[f"edges/{name}"]
            for index, side, n_nodes in (("source_to_target", "source", n_source),
                                         ("target_to_source", "target", n_target)):  # fmt: skip
                ids, group = population[f"{side}_node_id"], f"indices/{index}"
                _write_index(population.create_group(group), ids, n_nodes, at_once)
        forgiving.check()


def _write_index(group: h5py.Group, ids: h5py.Dataset, n_nodes: int, at_once: int) -> None:
    """Write of each node a range of ranges of consecutive edges."""
    counts = np.zeros(n_nodes, dtype=np.int64)
    for start in range(0, ids.size, _READ):
        counts += np.bincount(ids[start : start + _READ].astype(np.int64), minlength=n_nodes)
    ends, bits = np.cumsum(counts), int(ids.size).bit_length()
    of_nodes = np.zeros((n_nodes, 2), dtype=np.uint64)
    ranges = group.create_dataset(
        "range_to_edge_id", (0, 2), np.uint64, maxshape=(None, 2), chunks=(_CHUNK, 2)
    )
    first = 0
    while first < n_nodes:
        before = int(ends[first - 1]) if first else 0
        stop = max(int(np.searchsorted(ends, before + at_once, side="right")), first + 1)
        stop = min(stop, first + (1 << (63 - bits)))
        keys = _sorted_keys(ids, first, stop, int(ends[stop - 1]) - before, bits)
        is_new = np.ones(keys.size + 1, dtype=np.bool_)  # and whether one ends before
        is_new[1:-1] = keys[1:] != keys[:-1] + 1
        begins, last = keys[is_new[:-1]], keys[is_new[1:]]
        n_before, edge = ranges.shape[0], (1 << bits) - 1
        ranges.resize(n_before + begins.size, axis=0)
        ranges[n_before:] = np.stack([begins & edge, (last & edge) + 1], axis=1)
        n_ranges = np.bincount(begins >> bits, minlength=stop - first)
        of_nodes[first:stop, 1] = n_before + np.cumsum(n_ranges)
        of_nodes[first:stop, 0] = of_nodes[first:stop, 1] - n_ranges.astype(np.uint64)
        first = stop
    group.create_dataset("node_id_to_ranges", data=of_nodes)


def _sorted_keys(ids: h5py.Dataset, first: int, stop: int, size: int, bits: int) -> Ints:
    """Return the edges of a range of nodes, sorted: the node's bits before those of the edge.

    So the next edge of the same node is the next number.
    """
    keys, n = np.empty(size, dtype=np.int64), 0
    for start in range(0, ids.size, _READ):
        part = ids[start : start + _READ].astype(np.int64)
        rows = np.flatnonzero((part >= first) & (part < stop))
        keys[n : n + rows.size] = ((part[rows] - first) << bits) | (rows + start)
        n += rows.size
    keys.sort()
    return keys
