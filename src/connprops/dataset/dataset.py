"""An exported dataset: a handle on its files, as Polars lazy frames and as SQL."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.dataset.manifest import MANIFEST, damage, damage_since, opened, seal_at, written
from connprops.dataset.relations import BY_ID, DatasetRelations
from connprops.display import html_table
from connprops.errors import ConnpropsError, DatasetError, OptionError
from connprops.pathways import Pathways
from connprops.sources.node_types import ID

if TYPE_CHECKING:
    import duckdb

    from connprops.resources import Resources


class Dataset:
    """The synapses of one edge population, on disk.

    Nothing is read before it is asked for. ``connections`` and ``synapses`` are lazy frames;
    ``sql`` answers queries over the relations of ``sql/``. A handle never reads what replaced the
    dataset that it opened: of that, it raises :class:`DatasetError`. Nor does a frame that it gave:
    the name of a file of rows has a part of the file's checksum.
    """

    def __init__(self, folder: str | Path, generation: str | None = None) -> None:
        self.folder, self.manifest = opened(Path(folder))
        if generation not in (None, self.manifest.seal):
            raise self._replaced()
        self._written = written(self.folder / MANIFEST)
        self.columns = self.manifest.columns
        self.identity = self.manifest.identity
        self.population: str = self.identity["edges"]["population"]
        self.n_synapses = self.manifest.n_synapses
        self.n_connections = self.manifest.n_connections
        self._checks = {name: (sha256, rows) for name, sha256, rows in self.manifest.files()}
        self._intact: dict[str, list[Path]] = {}

    @property
    def properties(self) -> list[str]:
        """Return the names of the properties, ``n_syn_per_conn`` last."""
        return [*(column.name for column in self.columns), schema.N_SYN_PER_CONN]

    @cached_property
    def types(self) -> pl.DataFrame:
        """Return the types of both sides: :data:`connprops.schema.TYPES`."""
        frame = self.read("types.parquet")
        schema.TYPES.check(frame, str(self.folder / "types.parquet"))
        return frame.select(schema.TYPES.names)

    @cached_property
    def source_types(self) -> list[str]:
        """Return the source types by their code."""
        return self.types.filter(side="source").sort("code")["type"].to_list()

    @cached_property
    def target_types(self) -> list[str]:
        """Return the target types by their code."""
        return self.types.filter(side="target").sort("code")["type"].to_list()

    @cached_property
    def numbered_nodes(self) -> pl.DataFrame:
        """Return the nodes of both sides by their numbers, with ``"@id"`` if they have others."""
        return self.read("nodes.parquet")

    @property
    def nodes(self) -> pl.DataFrame:
        """Return the nodes of both sides: side, node, code, and their attributes."""
        nodes = self.numbered_nodes
        return nodes.with_columns(node=ID).drop(ID) if self.has_ids else nodes

    @property
    def has_ids(self) -> bool:
        """Return whether the input names nodes by other ids than their numbers from 0."""
        return ID in self.numbered_nodes.columns

    def ids(self, side: str) -> pl.Series:
        """Return the ids of the nodes of a side by their numbers; null where there is no node."""
        of_side = self.numbered_nodes.filter(side=side).select("node", ID)
        n = int(of_side["node"].to_numpy().max(initial=-1)) + 1
        numbers = pl.DataFrame({"node": np.arange(n)})
        return numbers.join(of_side, on="node", how="left", maintain_order="left")[ID]

    @cached_property
    def node_sets(self) -> pl.DataFrame:
        """Return the node sets of both sides, as ranges of nodes: side, node_set, start, stop."""
        return self.read("node_sets.parquet")

    def node_population(self, side: str) -> str:
        """Return the name of the node population of a side."""
        return str(self.identity[f"{side}_population"])

    def node_set(self, side: str, name: str) -> NDArray[np.int64]:
        """Return the node ids of a node set of the circuit, on one side, sorted.

        Raises
        ------
        OptionError
            Where the circuit has no such node set.
        """
        sets = self.node_sets.filter(pl.col("side") == side)
        ranges = sets.filter(pl.col("node_set") == name).select("start", "stop").rows()
        if not ranges:
            names = sets["node_set"].unique(maintain_order=True)
            raise OptionError.unknown("node set", name, names)
        return np.concatenate([np.arange(start, stop) for start, stop in ranges])

    def files(self, kind: str) -> list[Path]:
        """Return the files of ``"connections"`` or ``"synapses"``, in the order of the parts.

        Raises
        ------
        DatasetError
            Where a file is damaged. Each is checked when it is first asked for.
        """
        self.check_not_replaced()
        if kind not in self._intact:
            names = [name for name in self._checks if name.startswith(f"{kind}/")]
            with ThreadPoolExecutor() as pool:
                self._intact[kind] = list(pool.map(self._intact_file, names))
        return self._intact[kind]

    def _intact_file(self, name: str) -> Path:
        """Return a file of the dataset, after a look at its checksum."""
        path = self.folder / name
        if damaged := damage_since(path, *self._checks[name]):
            raise self._damaged(path, damaged)
        return path

    def read(self, name: str) -> pl.DataFrame:
        """Return the rows of one of the dataset's small files, after a look at its checksum.

        Raises
        ------
        DatasetError
            Where the file is damaged.
        """
        self.check_not_replaced()
        path = self.folder / name
        try:
            content = path.read_bytes()
            intact = hashlib.sha256(content).hexdigest() == self._checks[name][0]
            damaged = "" if intact else "is not what its checksum says"
        except OSError as error:
            damaged = "is missing" if not path.exists() else f"cannot be read: {error}"
        if damaged:
            raise self._damaged(path, damaged)
        return pl.read_parquet(io.BytesIO(content))

    def _damaged(self, path: Path, how: str) -> DatasetError:
        self.check_in_place()
        return DatasetError.of(
            f"{path} {how}",
            hint="connprops verify lists all that is damaged; export again, with --overwrite",
        )

    def check_not_replaced(self) -> None:
        """Raise :class:`DatasetError` where another dataset has taken this one's place."""
        if seal_at(self.folder) != self.manifest.seal:
            raise self._replaced()

    def check_in_place(self) -> None:
        """Raise :class:`DatasetError` where files that cannot be read are not those it opened.

        They may have made way for others, and then been written again, all the same.
        """
        if written(self.folder / MANIFEST) != self._written:
            raise self._replaced()

    def _replaced(self) -> DatasetError:
        return DatasetError.of(
            f"The dataset in {self.folder} was replaced since it was opened", hint="open it again"
        )

    @property
    def n_parts(self) -> int:
        """Return the number of parts."""
        return len(self.manifest.parts)

    @property
    def connections(self) -> pl.LazyFrame:
        """Return one row per connection, with its types and its shared values."""
        rows = pl.scan_parquet(self.files("connections"), glob=False)
        for side in ("source", "target") if self.has_ids else ():
            ids = pl.DataFrame({"@node": self.ids(side)}).with_row_index(f"{side}_node")
            ids = ids.with_columns(pl.col(f"{side}_node").cast(pl.Int64))
            rows = (
                rows.join(ids.lazy(), on=f"{side}_node", how="left", maintain_order="left")
                .with_columns(pl.col("@node").alias(f"{side}_node"))
                .drop("@node")
            )
        types = Pathways(self.source_types, self.target_types).names_of(pl.col("pathway"))
        return rows.select(*types, pl.all())

    @property
    def synapses(self) -> pl.LazyFrame:
        """Return one row per synapse, with every property."""
        varying = [column.name for column in self.columns if column.varies]
        rows = pl.scan_parquet(self.files("synapses"), glob=False).drop("pathway")
        return self.connections.drop(varying).join(rows, on="first_edge")

    @cached_property
    def relations(self) -> DatasetRelations:
        """Return the SQL relations of the dataset, of files that are intact."""
        rows, nodes = (BY_ID[n] if self.has_ids else n for n in ("connection_rows", "nodes"))
        files = {rows: self.files("connections"), "synapse_rows": self.files("synapses")}
        frames = {"types": self.types, nodes: self.numbered_nodes, "node_sets": self.node_sets}
        properties = [column.name for column in self.columns]
        shared = [column.name for column in self.columns if not column.varies]
        return DatasetRelations(files, frames, len(self.target_types), properties, shared)

    def connect(self, resources: Resources | None = None) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB connection with the dataset's relations as views; close it yourself."""
        return self.relations.connect(resources)

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return self.connect()

    def sql(self, query: str, /, **bound: Any) -> duckdb.DuckDBPyRelation:
        """Answer a query over the dataset's relations; ``bound`` fills its ``$names``."""
        import duckdb

        self.check_not_replaced()
        try:
            return self._connection.sql(query, params=bound or None)
        except duckdb.Error as error:
            raise ConnpropsError.of(f"Query {query!r} failed", found=str(error)) from error

    def verify(self) -> list[str]:
        """Return the files that are missing or not what the export has written."""
        return list(damage(self.folder, self.manifest))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return (self.folder, self.manifest) == (other.folder, other.manifest)

    def __hash__(self) -> int:
        return hash((self.folder, self.n_synapses))

    def __repr__(self) -> str:
        return (
            f"<Dataset {self.population!r}: {self.n_synapses:,} synapses, "
            f"{self.n_connections:,} connections, {len(self.properties)} properties>"
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the synapses, batch by batch, to whatever speaks Arrow: Polars, DuckDB, pyarrow."""
        import pyarrow as pa

        layout = self.synapses.head(0).collect().to_arrow().schema
        batches = self.synapses.collect_batches()
        stream = (batch for rows in batches for batch in rows.to_arrow().cast(layout).to_batches())
        return pa.RecordBatchReader.from_batches(layout, stream).__arrow_c_stream__(
            requested_schema
        )

    def _repr_html_(self) -> str:
        return html_table(
            f"Dataset {self.population}",
            f"{self.n_synapses:,} synapses in {self.n_connections:,} connections, "
            f"{len(self.source_types)} source and {len(self.target_types)} target types, in "
            f"{self.folder}",
            ("property", "type", "unit", "within connections"),
            [(c.name, c.dtype, c.unit, "varies" if c.varies else "shared") for c in self.columns],
        )


def open_dataset(folder: str | Path) -> Dataset:
    """Open an exported dataset.

    Raises
    ------
    DatasetError
        Where the folder holds none, or one of a later version.
    """
    return Dataset(folder)
