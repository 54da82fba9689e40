"""What is drawn: the synapses of listed connections, or those of a circuit's edge file."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TypedDict, TypeVar, Unpack

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops.arrays import Ints
from connprops.arrays.arrow import places_in, to_arrow, to_numpy
from connprops.arrays.gather import run_starts
from connprops.circuit.circuit import CircuitSource, EdgePopulation, EdgeReader, resolve_circuit
from connprops.dataset.dataset import Dataset, open_dataset
from connprops.dataset.manifest import is_dataset
from connprops.distributions.table import ModelTable
from connprops.draw.connections import (
    ConnectionBatch,
    ConnectionTable,
    as_pairs,
    check_distinct,
    read_connections,
    types_in,
    whole_numbers,
)
from connprops.draw.drawer import Drawer
from connprops.draw.lookup import (
    SIDES,
    Missing,
    PathwayLookup,
    TypeCodes,
    types_of_circuit,
    types_of_table,
)
from connprops.errors import OptionError
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN

_Batch = TypeVar("_Batch")

MOST_SYNAPSES = 10**6
"""Of a connection. Real ones have tens."""

_PLACES = """
    select source, target, row_number() over (partition by source, target order by edge) - 1
    from rows order by edge
"""
"""The place of each row of an edge file within its connection."""


class DrawOptions(TypedDict, total=False):
    """Options of :func:`connprops.draw.draw_synapses`."""

    nodes: pl.DataFrame | Dataset | CircuitSource | None
    population: str | None
    missing: Missing
    properties: Sequence[str] | None
    resources: Resources | None


class Source:
    """The connections to draw from a model, with their pathways, a number of synapses at a time.

    Arguments are those of :func:`connprops.draw.draw_synapses`. ``at_once`` is the number of
    synapses that a thread draws in one go: enough to outweigh each call, few enough for the cache.
    """

    def __init__(
        self,
        model: ModelTable,
        seed: int,
        *,
        at_once: int = 1 << 15,
        **options: Unpack[DrawOptions],
    ) -> None:
        self.drawer = Drawer(model, seed, options.get("properties"))
        self.missing = options.get("missing", "error")
        self.at_once = at_once
        self._lookup = PathwayLookup(model, self.drawer.complete, seed, self.missing)
        self._nodes, self._population = options.get("nodes"), options.get("population")
        self.resources = options.get("resources") or Resources()

    @cached_property
    def edges(self) -> EdgePopulation:
        """Return the edge population of the circuit."""
        if self._nodes is None or self._table is not None:
            raise OptionError.of(
                "There is no circuit to take nodes and names of populations from",
                expected="its configuration file (nodes=, --circuit)",
            )
        return resolve_circuit(self._nodes).population(self._population)

    @cached_property
    def _table(self) -> pl.DataFrame | Dataset | None:
        """Return nodes that are a table or a dataset, or its folder; None where they are not."""
        nodes = self._nodes
        if isinstance(nodes, str | Path) and is_dataset(Path(nodes)):
            return open_dataset(nodes)
        return nodes if isinstance(nodes, pl.DataFrame | Dataset) else None

    @cached_property
    def ids(self) -> dict[str, pa.Array]:
        """Return the ids of the nodes of both sides by number, where a dataset has other ids."""
        dataset = self._table
        if not isinstance(dataset, Dataset) or not dataset.has_ids:
            return {}
        oldest = pl.CompatLevel.oldest()
        return {side: dataset.ids(side).to_arrow(compat_level=oldest) for side in SIDES}

    def _numbers(self, batch: pa.RecordBatch, side: str) -> Ints:
        """Return the numbers of the nodes that a list names."""
        name = f"{side}_node"
        if not self.ids or name not in batch.schema.names:
            return whole_numbers(batch, name, 0)
        ids, known = batch.column(name), self.ids[side]
        try:
            numbers = places_in(ids.cast(known.type), known)
        except pa.ArrowInvalid as error:  # 5.5, say, where ids are whole numbers
            raise OptionError.of(
                f"A {side} node of the connections can be no id of the dataset", found=str(error),
                expected=f"ids as the dataset has, {known.type}",
            ) from None  # fmt: skip
        if numbers.null_count:
            unknown = ids.filter(numbers.is_null())[0]
            raise OptionError.of(
                f"A {side} node of the connections is not known", found=f"node {unknown}",
                expected="an id that the dataset has",
            )  # fmt: skip
        return to_numpy(numbers).astype(np.int64)

    @cached_property
    def _types(self) -> dict[str, TypeCodes]:
        """Return the types of the nodes of both sides; none where no nodes are given."""
        if self._nodes is None:
            return {}
        if self._table is not None:
            return types_of_table(self._table)
        return types_of_circuit(self.edges, self.drawer.model)

    def batches(
        self, batch_of: Callable[[ConnectionBatch], _Batch], connections: ConnectionTable | None
    ) -> Iterator[_Batch]:
        """Yield what a function makes of the connections in order, by threads a few ahead.

        Connections are those of a list, or of the circuit where there is None.
        """
        if connections is None and isinstance(self._table, Dataset):
            connections = self._table.connections
        pieces = self._of_circuit() if connections is None else self._of_list(connections)
        waiting: deque[Future[_Batch]] = deque()
        with ThreadPoolExecutor(self.resources.threads) as pool:
            try:
                for piece in pieces:
                    waiting.append(pool.submit(batch_of, piece))
                    if len(waiting) > 2 * self.resources.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _of_list(self, table: ConnectionTable) -> Iterator[ConnectionBatch]:
        """Yield the connections of a list with their numbers of synapses."""
        seen = []  # at 8 bytes each
        for batch in read_connections(table, max(self.at_once // 2, 1)):
            source, target = (self._numbers(batch, side) for side in SIDES)
            seen.append(as_pairs(source, target))
            types = {}
            for side, ids in zip(SIDES, (source, target), strict=True):
                of_side = types_in(batch, side)
                if of_side is None and self._types:
                    of_side = self._types[side].of_nodes(side, ids)
                if of_side is None:
                    raise OptionError.of(
                        f"The types of the {side} nodes are not known",
                        expected=f"the column {side}_type in the connections",
                        hint="or give the nodes: a dataset or a circuit (nodes=, --circuit)",
                    )
                types[side] = of_side
            own, pathway = self._lookup(source, target, types)
            kept = pathway >= 0
            source, target, own, pathway = source[kept], target[kept], own[kept], pathway[kept]
            if N_SYN_PER_CONN in batch.schema.names:
                n_syn = whole_numbers(batch, N_SYN_PER_CONN, 1)[kept]
            elif self.drawer.draws_counts:
                n_syn = self.drawer.n_synapses(source, target, pathway)
            else:
                raise OptionError.of(
                    "The model does not have the number of synapses of a connection",
                    expected=f"the column {N_SYN_PER_CONN} in the connections",
                )
            _check_counts(source, target, n_syn)
            listed = ConnectionBatch(source, target, own, pathway, n_syn, np.zeros_like(n_syn))
            yield from listed.pieces(self.at_once)
        check_distinct(seen)

    def _of_circuit(self) -> Iterator[ConnectionBatch]:
        """Yield the rows of an edge file, each stretch of one connection as a connection."""
        with self.edges.reader() as reader:
            is_sorted = _is_sorted(self._node_ids(reader))
            places = self._places(reader) if is_sorted else self._scattered_places()
            for source, target, place in places:
                starts = run_starts(source, target)
                source_of, target_of = source[starts], target[starts]
                types = {
                    side: self._types[side].of_nodes(side, ids)
                    for side, ids in zip(SIDES, (source_of, target_of), strict=True)
                }
                own, pathway = self._lookup(source_of, target_of, types)
                n = np.diff(starts, append=place.size)
                yield ConnectionBatch(source_of, target_of, own, pathway, n, place[starts])

    def _node_ids(self, reader: EdgeReader) -> Iterator[tuple[Ints, Ints]]:
        for start in range(0, reader.size, self.at_once):
            yield reader.node_ids(start, min(start + self.at_once, reader.size))

    def _places(self, reader: EdgeReader) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield the ends of rows, and the place of each row within its connection.

        The rows of a connection must follow each other.
        """
        last, reached = (-1, -1), 0
        for source, target in self._node_ids(reader):
            starts = run_starts(source, target)
            lengths = np.diff(starts, append=source.size)
            place = np.arange(source.size) - np.repeat(starts, lengths)
            if (int(source[0]), int(target[0])) == last:
                place[: lengths[0]] += reached
            last, reached = (int(source[-1]), int(target[-1])), int(place[-1]) + 1
            yield source, target, place

    def _scattered_places(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Yield what :meth:`_places` does, of rows in any order, which are sorted on disk."""
        import duckdb

        layout = pa.schema([(name, pa.int64()) for name in ("source", "target", "edge")])

        def batches() -> Iterator[pa.RecordBatch]:
            first = 0
            with self.edges.reader() as reader:
                for source, target in self._node_ids(reader):
                    edge = np.arange(first, first := first + source.size)
                    arrays = [to_arrow(ids) for ids in (source, target, edge)]
                    yield pa.record_batch(arrays, schema=layout)

        limits, folder = self.resources.duckdb_config(), self.resources.temp_dir
        with tempfile.TemporaryDirectory(dir=folder, prefix="connprops-") as place:
            file = Path(place) / "places.parquet"
            with duckdb.connect(config=limits) as connection:
                connection.register("rows", pa.RecordBatchReader.from_batches(layout, batches()))
                connection.execute(
                    f"copy ({_PLACES}) to $file (format parquet)", {"file": str(file)}
                )
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(batch_size=self.at_once):
                    source, target, places = map(to_numpy, batch)
                    yield source, target, places


def _check_counts(source: Ints, target: Ints, n_syn: Ints) -> None:
    """Refuse connections of more synapses than any has: they would fill the disk."""
    if n_syn.size and n_syn.max() > MOST_SYNAPSES:
        most = int(n_syn.argmax())
        raise OptionError.of(
            f"The connection of source_node {source[most]} and target_node {target[most]} has too "
            "many synapses",
            found=f"{n_syn[most]:,}",
            expected=f"at most {MOST_SYNAPSES:,}",
            hint=f"look at {N_SYN_PER_CONN} in the model and in the list of connections",
        )


def _is_sorted(node_ids: Iterator[tuple[Ints, Ints]]) -> bool:
    """Return whether rows are sorted by target and source, or by source and target."""
    orders = [(0, 1), (1, 0)]
    last = np.empty((2, 0), dtype=np.int64)
    for ends in node_ids:
        rows = np.concatenate([last, np.stack(ends)], axis=1)  # from the last row before
        last, step = rows[:, -1:], np.diff(rows)
        orders = [
            (major, minor)
            for major, minor in orders
            if ((step[major] > 0) | ((step[major] == 0) & (step[minor] >= 0))).all()
        ]
        if not orders:
            return False
    return True
