"""The rows of a circuit's edge file, and which synapse of which connection each is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.arrays.arrow import to_arrow, to_numpy
from connprops.circuit.circuit import EdgePopulation, EdgeReader
from connprops.draw.connections import Connections, Missing, Pathways
from connprops.draw.synapses import SYNAPSES_AT_ONCE, Drawer
from connprops.draw.types_of_nodes import node_types
from connprops.resources import Resources


class CircuitRows:
    """The rows of an edge file as stretches of one connection each, and their values."""

    def __init__(
        self, drawer: Drawer, edges: EdgePopulation, missing: Missing, resources: Resources
    ) -> None:
        self._edges = edges
        self._types = node_types(edges, drawer.model)
        self._pathways = Pathways(drawer.model, drawer.known, drawer.seed, missing)
        self._resources = resources

    def stretches(self, reader: EdgeReader) -> Iterator[Connections]:
        """Yield the rows, some at a time, as stretches of rows of one connection each.

        The pathway of connections that are to be skipped is -1.
        """
        places = _places if _sorted(reader, self._edges.size) else self._scattered_places
        for source, target, place in places(reader, self._edges.size):
            starts = np.concatenate([[0], np.flatnonzero(_differ(source, target)) + 1])
            n = np.diff(starts, append=place.size)
            source_of, target_of = source[starts], target[starts]
            types = {"source": self._types.of("source", source_of),
                     "target": self._types.of("target", target_of)}  # fmt: skip
            own, pathway = self._pathways(source_of, target_of, types)
            yield Connections(source_of, target_of, own, pathway, n, place[starts])

    def _scattered_places(self, reader: EdgeReader, size: int) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield what :func:`_places` does, of rows in any order, which are sorted out of core."""
        import duckdb

        def ids() -> Iterator[pa.RecordBatch]:
            start = 0
            for source, target in _node_ids(reader, size):
                row = np.arange(start, start + source.size)
                start += source.size
                yield pa.record_batch([to_arrow(a) for a in (row, source, target)], table)

        table = pa.schema([(name, pa.int64()) for name in ("row", "source", "target")])
        with tempfile.TemporaryDirectory(
            dir=self._resources.temp_dir, prefix="connprops-"
        ) as folder:
            file = Path(folder) / "places.parquet"
            with duckdb.connect(config=self._resources.duckdb_config()) as connection:
                connection.register("edges", pa.RecordBatchReader.from_batches(table, ids()))
                connection.execute(
                    """copy (
                        select source, target,
                            row_number() over (partition by source, target order by row) - 1
                        from edges order by row
                    ) to $file (format parquet)""",
                    {"file": str(file)},
                )
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=SYNAPSES_AT_ONCE):
                    source, target, place = (to_numpy(values) for values in batch)
                    yield source, target, place


def _places(reader: EdgeReader, size: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield ranges of rows, their ends, and the place of each within its connection.

    The rows of a connection must follow each other.
    """
    last, reached = (-1, -1), 0
    for source, target in _node_ids(reader, size):
        new = np.flatnonzero(_differ(source, target)) + 1
        starts = np.concatenate([[0], new])
        lengths = np.diff(starts, append=source.size)
        place = np.arange(source.size) - np.repeat(starts, lengths)
        if (int(source[0]), int(target[0])) == last:
            place[: lengths[0]] += reached
        last, reached = (int(source[-1]), int(target[-1])), int(place[-1]) + 1
        yield source, target, place


def _node_ids(reader: EdgeReader, size: int) -> Iterator[tuple[Ints, Ints]]:
    for start in range(0, size, SYNAPSES_AT_ONCE):
        yield reader.node_ids(start, min(start + SYNAPSES_AT_ONCE, size))


def _differ(source: Ints, target: Ints) -> NDArray[np.bool_]:
    """Return whether each row but the first is of another connection than the one before."""
    return np.asarray((source[1:] != source[:-1]) | (target[1:] != target[:-1]))


def _sorted(reader: EdgeReader, size: int) -> bool:
    """Return whether the rows are sorted by target and source, or by source and target."""
    by_target = by_source = True
    last: tuple[Ints, Ints] | None = None
    for ends in _node_ids(reader, size):
        # The row before comes along, so that no step is left out.
        before = last or (ends[0][:1], ends[1][:1])
        source, target = (np.concatenate(pair) for pair in zip(before, ends, strict=True))
        last = (source[-1:], target[-1:])
        by_target = by_target and _ascending(target, source)
        by_source = by_source and _ascending(source, target)
        if not (by_target or by_source):
            return False
    return True


def _ascending(major: Ints, minor: Ints) -> bool:
    step = np.diff(major)
    return bool(((step > 0) | ((step == 0) & (np.diff(minor) >= 0))).all())
