"""The synapses of listed connections as a table: in memory, as a stream, or as Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops._version import __version__
from connprops.arrays.arrow import to_arrow
from connprops.circuit.circuit import CircuitSource
from connprops.dataset.dataset import Dataset
from connprops.distributions.table import ModelTable
from connprops.draw.circuit_rows import CircuitRows
from connprops.draw.connections import Connections, ConnectionStream, ConnectionTable, Missing
from connprops.draw.synapses import Drawer, in_order, listed_connections
from connprops.draw.types_of_nodes import SIDES, edge_population, node_types
from connprops.errors import OutputError
from connprops.progress import Progress
from connprops.resources import Resources
from connprops.store.writing import replacing

ROWS_PER_GROUP = 122_880


class DrawOptions(TypedDict, total=False):
    """Options of :func:`draw_synapses`."""

    nodes: pl.DataFrame | Dataset | CircuitSource | None
    population: str | None
    missing: Missing
    properties: Sequence[str] | None
    resources: Resources | None


@overload
def draw_synapses(
    model: ModelTable, connections: pl.DataFrame, seed: int = ..., **options: Unpack[DrawOptions]
) -> pl.DataFrame: ...


@overload
def draw_synapses(
    model: ModelTable,
    connections: ConnectionStream,
    seed: int = ...,
    **options: Unpack[DrawOptions],
) -> pa.RecordBatchReader: ...


def draw_synapses(
    model: ModelTable, connections: ConnectionTable, seed: int = 0, **options: Unpack[DrawOptions]
) -> pl.DataFrame | pa.RecordBatchReader:
    """Draw the synapses of connections, with all their properties.

    A value depends on ``seed``, the two nodes of its connection, the property, and the place of
    the synapse within the connection: not on the order of the connections, on others among
    them, or on threads.

    Parameters
    ----------
    model
        The model.
    connections
        One row per connection: source_node and target_node, ids from 0; source_type and
        target_type, unless ``nodes`` tells them; n_syn_per_conn where it is known, else it is
        drawn. A Polars frame, an Arrow table or reader, or a Parquet file.
    seed
        Seed, a whole number. A generator cannot be taken, for its numbers depend on what was
        drawn with it before.
    nodes
        Where the nodes' types are known: a dataset or its folder, a circuit, or a Polars
        frame of side ("source" or "target"), node, type. By default in ``connections``.
    population
        Edge population, where ``nodes`` is a circuit of several.
    missing
        What to do with connections of pathways that the model does not have: "error"; "borrow",
        each takes the distributions of a pathway that was observed, by chance one of the first
        level that has any (see :mod:`connprops.fits.levels`); or "skip", which leaves them out, and
        those of unknown types too.
    properties
        Names of properties, by default all; values do not depend on it.
    resources
        How many threads draw; by default one for each processor.

    Returns
    -------
    polars.DataFrame or pyarrow.RecordBatchReader
        One row per synapse, connection after connection: source_node, target_node,
        source_type, target_type, and the properties but for n_syn_per_conn, within their
        bounds; int64, rounded, where their type is int, else float64. A frame for a
        ``polars.DataFrame``; else a stream, which holds a few hundred thousand synapses at once.

    Raises
    ------
    OptionError
        Where the connections lack a column, name a type or node that is not known, or one
        comes twice; it is then the stream's end that says so.
    DatasetError
        Where a file cannot be read.
    ModelError
        Where the model lacks a pathway, and ``missing`` is "error".
    """
    rows = _Rows(model, seed, **options)
    batches = rows.batches(connections)
    if not isinstance(connections, pl.DataFrame):
        return pa.RecordBatchReader.from_batches(rows.schema, batches)
    frame = pl.DataFrame(pa.Table.from_batches(batches, rows.schema))
    return frame.with_columns(
        pl.col("source_type").cast(pl.Enum(model.source_types)),
        pl.col("target_type").cast(pl.Enum(model.target_types)),
    )


def write_synapses(
    model: ModelTable,
    connections: ConnectionTable | None,
    path: str | Path,
    seed: int = 0,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Unpack[DrawOptions],
) -> int:
    """Draw the synapses of connections, and write them as they come; return their number.

    Parameters
    ----------
    model, seed
        As for :func:`draw_synapses`.
    connections
        As there; or None for the synapses of the circuit ``nodes``, row by row of its edge file.
        Which synapse of its connection a row is, its order in the file says.
    path
        Where to: a Parquet file; or, for a name that ends in ``.h5``, a SONATA edge file. That
        needs a circuit as ``nodes``, of which it has the names of the populations. Without
        ``connections`` it is a copy of the circuit's file, with rows, order and all columns but
        the properties; these keep their type, and are added where they are not in it.
    overwrite
        Whether to replace a file that is there.
    progress
        Called with ``"draw"``, synapses written, those in all (0 where that is
        not known before the end), ``"synapses"``.
    **options
        As for :func:`draw_synapses`; ``missing="skip"`` leaves skipped rows of a copy as they are.

    Raises
    ------
    OptionError, DatasetError, ModelError
        As :func:`draw_synapses`.
    OutputError
        Where the file exists and ``overwrite`` is false, or it cannot be written. As after any
        other error, there is no part of a file then.
    """
    file = Path(path)
    if file.suffix == ".h5":
        from connprops.draw import edges

        if connections is None:
            return edges.redraw_edges(
                model, file, seed, overwrite=overwrite, progress=progress, **options
            )
        return edges.write_edges(
            model, connections, file, seed, overwrite=overwrite, progress=progress, **options
        )
    with replacing(file, overwrite=overwrite) as aside:
        rows = _Rows(model, seed, **options)
        facts = {"schema_version": schema.VERSION, "table": "drawn", "seed": seed,
                 "connprops_version": __version__, "model": model.facts}  # fmt: skip
        described = rows.schema.with_metadata({schema.METADATA_KEY: json.dumps(facts)})
        return _write_parquet(aside, described, rows.batches(connections), progress)


class _Rows:
    """Drawn synapses as Arrow record batches."""

    def __init__(
        self,
        model: ModelTable,
        seed: int,
        *,
        nodes: Any = None,
        population: str | None = None,
        missing: Missing = "error",
        properties: Sequence[str] | None = None,
        resources: Resources | None = None,
    ) -> None:
        self._drawer = Drawer(model, seed, properties)
        self._nodes, self._population = nodes, population
        self._missing = missing
        self._resources = resources or Resources()
        self._types = [pa.array(model.source_types), pa.array(model.target_types)]
        text = pa.dictionary(pa.int32(), pa.string())
        fields = {f"{side}_node": pa.int64() for side in SIDES}
        fields |= {f"{side}_type": text for side in SIDES}
        for name in self._drawer.properties:
            fields[name] = pa.from_numpy_dtype(self._drawer.dtype(name))
        self.schema = pa.schema(fields)

    def batches(self, connections: ConnectionTable | None) -> Iterator[pa.RecordBatch]:
        """Yield the synapses of connections, of the circuit's where none are given."""
        listed = self._of_circuit() if connections is None else self._of_list(connections)
        return in_order(self._batch, listed, self._resources.threads)

    def _of_list(self, connections: ConnectionTable) -> Iterator[Connections]:
        model = self._drawer.model
        nodes = None if self._nodes is None else node_types(self._nodes, model, self._population)
        return listed_connections(self._drawer, connections, nodes, self._missing)

    def _of_circuit(self) -> Iterator[Connections]:
        edges = edge_population(self._nodes, self._population)
        rows = CircuitRows(self._drawer, edges, self._missing, self._resources)
        with edges.reader() as reader:
            for stretches in rows.stretches(reader):
                yield stretches.take(stretches.pathway >= 0)

    def _batch(self, connections: Connections) -> pa.RecordBatch:
        of = np.repeat(np.arange(connections.n_syn.size), connections.n_syn)
        codes = divmod(connections.types, len(self._types[1]))
        arrays = [to_arrow(connections.source[of]), to_arrow(connections.target[of])]
        arrays += [
            pa.DictionaryArray.from_arrays(to_arrow(code.astype(np.int32)[of]), names)
            for code, names in zip(codes, self._types, strict=True)
        ]
        arrays += [to_arrow(values) for values in self._drawer.values(connections).values()]
        return pa.record_batch(arrays, schema=self.schema)


def _write_parquet(
    file: Path, table: pa.Schema, batches: Iterator[pa.RecordBatch], progress: Progress | None
) -> int:
    # Drawn floats hardly repeat: a dictionary of them is tried in vain.
    few = [field.name for field in table if not pa.types.is_floating(field.type)]
    done = 0
    try:
        with pq.ParquetWriter(file, table, compression="snappy", use_dictionary=few) as writer:
            for group in _groups(batches):
                writer.write_table(pa.Table.from_batches(group, table))
                done += sum(batch.num_rows for batch in group)
                if progress is not None:
                    progress("draw", done, 0, "synapses")
    except pa.ArrowException as error:
        raise OutputError.of(f"{file} cannot be written", found=str(error)) from error
    if progress is not None:
        progress("draw", done, done, "synapses")
    return done


def _groups(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Yield batches together until they make a row group."""
    group: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= ROWS_PER_GROUP:
            yield group
            group, rows = [], 0
    if group:
        yield group
