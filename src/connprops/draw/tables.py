"""The synapses of listed connections as a table: in memory, as a stream, or as Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Unpack, overload

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops._version import __version__
from connprops.arrays.arrow import taken, to_arrow
from connprops.display import Progress
from connprops.distributions.table import ModelTable
from connprops.draw.connections import ConnectionBatch, ConnectionStream, ConnectionTable
from connprops.draw.edges import NewEdges, RedrawnEdges, edge_file
from connprops.draw.lookup import SIDES
from connprops.draw.source import DrawOptions, Source
from connprops.errors import OutputError
from connprops.store.folder import output_file
from connprops.store.sealed import KEY, UNSEALED, seal
from connprops.store.writing import check_format

ROWS_PER_GROUP = 122_880


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

    A value depends on the ``seed``, the two nodes of its connection, the property, and the place of
    the synapse within the connection. It does not depend on the order of the connections, on the
    other connections, or on threads.

    Parameters
    ----------
    model
        The model.
    connections
        One row per connection: source_node and target_node, ids from 0, or those of the dataset
        that ``nodes`` is; source_type and target_type, unless ``nodes`` has them; n_syn_per_conn,
        unless it is to be drawn. A Polars frame, an Arrow table or reader, or a Parquet file.
    seed
        A whole number. A generator is refused: its numbers depend on what it drew before.
    nodes
        Where to take the types of the nodes from: a dataset or its folder, a circuit, or a
        Polars frame of side ("source" or "target"), node and type. By default ``connections``.
    population
        Edge population, where ``nodes`` is a circuit of several.
    missing
        What to do with connections of pathways that the model does not have: "error"; "borrow",
        each takes the distributions of a pathway that was observed, by chance one of the first
        level that has any (see :mod:`connprops.fits.samples.levels`); or "skip", which leaves
        them out, and those of unknown types too.
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
        Where the connections lack a column, or name an unknown type or node; or where a
        connection comes twice, which shows at the end of a stream.
    DatasetError
        Where a file cannot be read.
    ModelError
        Where the model lacks a pathway, and ``missing`` is "error".
    """
    source = Source(model, seed, **options)
    table = SynapseTable(source)
    batches = source.batches(table.batch, connections)
    if not isinstance(connections, pl.DataFrame):
        return pa.RecordBatchReader.from_batches(table.schema, batches)
    frame = pl.DataFrame(pa.Table.from_batches(batches, table.schema))
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
        As there; or None for the connections of the dataset that ``nodes`` is, or for the synapses
        of the circuit, row by row of its edge file.
        The rows of a connection are its synapses in the order of the file.
    path
        A Parquet file; or, if the name ends in ``.h5``, a SONATA edge file. That needs a circuit
        as ``nodes`` and takes the names of the populations from it. Without ``connections`` it is
        a copy of the circuit's file in which only the properties differ. They keep their type;
        those that the circuit lacks are added.
    overwrite
        Whether to replace an existing file.
    progress
        Called with ``"draw"``, the synapses written so far, their total (0 until the end if it is
        unknown), and ``"synapses"``.
    **options
        As for :func:`draw_synapses`; ``missing="skip"`` leaves skipped rows of a copy as they are.

    Raises
    ------
    OptionError, DatasetError, ModelError
        As :func:`draw_synapses`.
    OutputError
        Where the file exists and ``overwrite`` is false, or it cannot be written. No error
        leaves a part of a file.
    """
    return write(
        Source(model, seed, **options), connections, path, overwrite=overwrite, progress=progress
    )


def write(
    source: Source,
    connections: ConnectionTable | None,
    path: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Draw the synapses of a source, and write them as they come; return their number."""
    file, anew = Path(path), connections is None
    check_format(file, (".parquet", ".h5"))
    n_done = total = 0
    with output_file(file, overwrite=overwrite) as aside:
        opened: AbstractContextManager[_Parquet | NewEdges | RedrawnEdges]
        if file.suffix == ".h5":
            total = source.edges.size if anew else 0
            opened = edge_file(aside, source, anew=anew)
        else:
            opened = _parquet(aside, source)
        with opened as sink:
            for batch in source.batches(sink.batch, connections):
                n_done += sink.write(batch)
                if progress is not None:
                    progress("draw", n_done, total, "synapses")
        if progress is not None:
            progress("draw", n_done, n_done, "synapses")
        seal(aside)
    return n_done


class SynapseTable:
    """Drawn synapses as Arrow record batches."""

    def __init__(self, source: Source) -> None:
        drawer = source.drawer
        self._drawer, self._ids = drawer, source.ids
        self._types = [pa.array(drawer.model.source_types), pa.array(drawer.model.target_types)]
        fields = {
            f"{side}_node": self._ids[side].type if self._ids else pa.int64() for side in SIDES
        }
        fields |= {f"{side}_type": pa.dictionary(pa.int32(), pa.string()) for side in SIDES}
        fields |= {name: pa.from_numpy_dtype(drawer.dtypes[name]) for name in drawer.properties}
        self.schema = pa.schema(
            pa.field(name, dtype, metadata=schema.field_metadata(schema.SYNAPSES, name))
            for name, dtype in fields.items()
        )

    def batch(self, connections: ConnectionBatch) -> pa.RecordBatch:
        """Return the synapses of the connections that are not skipped."""
        connections = connections.drawn()
        of = np.repeat(np.arange(connections.n_syn.size), connections.n_syn)
        codes = divmod(connections.own_pathway, len(self._types[1]))
        arrays = [to_arrow(connections.source[of]), to_arrow(connections.target[of])]
        if self._ids:
            arrays = [taken(self._ids[s], n) for s, n in zip(SIDES, arrays, strict=True)]
        arrays += [
            pa.DictionaryArray.from_arrays(to_arrow(code.astype(np.int32)[of]), names)
            for code, names in zip(codes, self._types, strict=True)
        ]
        arrays += [to_arrow(values) for values in self._drawer.values(connections).values()]
        return pa.record_batch(arrays, schema=self.schema)


class _Parquet(SynapseTable):
    """Writes batches of synapses together until they make a row group."""

    def __init__(self, source: Source, file: Path) -> None:
        super().__init__(source)
        drawer = source.drawer
        facts = {"schema_version": schema.VERSION, "table": "drawn", "seed": drawer.seed,
                 "connprops_version": __version__, "model": drawer.model.facts}  # fmt: skip
        metadata = {schema.METADATA_KEY: json.dumps(facts), KEY: UNSEALED}
        described = self.schema.with_metadata(metadata)
        # Drawn floats hardly repeat: a dictionary of them is tried in vain.
        few = [field.name for field in self.schema if not pa.types.is_floating(field.type)]
        self.writer = pq.ParquetWriter(file, described, compression="snappy", use_dictionary=few)
        self._group: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> int:
        """Take a batch; return its number of synapses."""
        self._group.append(batch)
        if sum(waiting.num_rows for waiting in self._group) >= ROWS_PER_GROUP:
            self.flush()
        return int(batch.num_rows)

    def flush(self) -> None:
        """Write the batches that wait."""
        if self._group:
            self.writer.write_table(pa.Table.from_batches(self._group, self.schema))
        self._group = []


@contextmanager
def _parquet(file: Path, source: Source) -> Iterator[_Parquet]:
    try:
        sink = _Parquet(source, file)
        with sink.writer:
            yield sink
            sink.flush()
    except pa.ArrowException as error:
        raise OutputError.of(f"{file} cannot be written", found=str(error)) from error
