"""Writing SONATA edge files: what the demo circuit and drawn synapses have in common."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from connprops.errors import OutputError
from connprops.store.writing import writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_CHUNK = 1 << 15
_INDEX_BYTES = 64
"""Of an edge in the indices, at most: two ranges of two numbers, and those of the nodes."""


class ForgivingFile(io.RawIOBase):
    """A new file for HDF5, which crashes the process if what it holds cannot be written.

    What does not find room is dropped here, so that HDF5 can close the file all the same;
    :meth:`check` says so.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = path.open("w+b", buffering=0)
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


def write_indices(path: Path, name: str, n_source: int, n_target: int) -> None:
    """Add libsonata's indices, by which a node's edges are found, to a file that is closed.

    libsonata holds all ids of a side to make them: some 15 bytes an edge.
    """
    import libsonata

    with writing(path), h5py.File(path, "r") as file:
        n_edges = file[f"edges/{name}/source_node_id"].size
    _make_sure_of_room(path, _INDEX_BYTES * (n_edges + n_source + n_target))
    try:
        libsonata.EdgePopulation.write_indices(
            str(path), name, source_node_count=n_source, target_node_count=n_target
        )
    except (libsonata.SonataError, RuntimeError) as error:
        raise OutputError.of(f"{path} cannot be indexed", found=str(error)) from error


def _make_sure_of_room(path: Path, n_bytes: int) -> None:
    """Raise :class:`OSError` where a file cannot grow by so much: HDF5 would crash later."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), size, n_bytes)
        finally:
            os.truncate(path, size)
