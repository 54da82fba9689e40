"""Opening circuits and tables: each is a source, exported on first use and reused afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connprops.dataset.dataset import Dataset
from connprops.declare import shared, takes
from connprops.display import Progress
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.options import EdgeOptions, ExportOptions, TableOptions
from connprops.resources import Resources
from connprops.sources.merged import MergedNetwork
from connprops.sources.source import Network
from connprops.tables.files import is_table

if TYPE_CHECKING:
    from connprops.circuit.circuit import CircuitSource

_OF_TABLES = ("source", "target", "node_id", "count")


def open_network(
    path: CircuitSource,
    options: EdgeOptions,
    properties: Sequence[str] | None = None,
    resources: Resources | None = None,
) -> Network:
    """Return the source that a path is: a circuit, or a table as the options say."""
    if isinstance(path, str | Path) and is_table(path):
        from connprops.tables.table import TableNetwork

        return TableNetwork(path, options, properties, resources)
    from connprops.circuit.bare import bare_circuit
    from connprops.circuit.circuit import resolve_circuit

    if isinstance(path, str | Path) and Path(path).suffix in (".h5", ".hdf5", ".sonata"):
        nodes = None if options.nodes is None else Path(options.nodes)
        return merged(bare_circuit(Path(path), nodes), options)
    of_tables = [n for n in (*_OF_TABLES, "nodes") if getattr(options, n) is not None]
    if of_tables:
        raise OptionError.of(
            f"{of_tables[0]} is an option of tables", found=f"a circuit, {path}",
            expected="a table of synapses or connections: Parquet, CSV, ...",
        )  # fmt: skip
    return merged(resolve_circuit(path), options)


def merged(network: Network, options: EdgeOptions) -> Network:
    """Return a network as it is, or one of the populations to merge, where that is asked for."""
    if not options.merge_populations:
        return network
    asked, known = options.population or "all", network.populations
    names = known if asked == "all" else [name.strip() for name in asked.split(",")]
    if len(names) == 1:
        return network
    by = ((side or options.type or "mtype") for side in (options.source_type, options.target_type))
    return MergedNetwork(network, names, *by)


def open_circuit(
    circuit: CircuitSource,
    folder: str | Path | None = None,
    *,
    edges_popul_name: str | None = None,
    merge_populations: bool = False,
    source_type: str = "mtype",
    target_type: str = "mtype",
    properties: Sequence[str] | None = None,
    overwrite: bool = False,
    verify: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Open a circuit: export its edges on first use, reuse the dataset afterwards.

    Without ``folder`` the dataset goes to ``NAME-connprops/dataset`` in the working folder,
    NAME being the circuit's, where ``connprops run`` puts it too. With ``merge_populations``,
    ``edges_popul_name`` may name several, ``"A,B"``, or ``"all"``. The other options are those of
    :func:`connprops.export.export.export`.
    """
    from connprops.circuit.circuit import resolve_circuit

    options = ExportOptions(
        population=edges_popul_name, merge_populations=merge_populations, source_type=source_type,
        target_type=target_type, properties=properties, overwrite=overwrite, verify=verify,
        resources=resources, progress=progress,
    )  # fmt: skip
    return _exported(merged(resolve_circuit(circuit), options), folder, options)


@takes(TableOptions)
def open_table(edges: Any, nodes: Any, options: TableOptions) -> Dataset:
    """Open a table of synapses or connections: export it on first use, reuse it afterwards.

    Parameters
    ----------
    edges
        One row per synapse, or per connection with a column ``count``: a path, or a frame. Paths
        are of Parquet files, folders or patterns of them, Arrow (Feather), CSV and TSV, JSON lines,
        each perhaps compressed by gzip, ``FILE.duckdb::TABLE``, or on object stores. Frames are of
        Polars, pandas, or whatever streams as Arrow.
    nodes
        One row per neuron: its id, its type and other attributes, or None. Without, types are
        columns of the edges.

    Returns
    -------
    Dataset
        The dataset, whose nodes have the ids of the tables.

    Raises
    ------
    TableError, OptionError, OutputError
        Where a table cannot be read or contradicts itself, an option not met, the folder not
        written.
    """
    from connprops.tables.table import TableNetwork

    asked = replace(options, nodes=nodes)
    table = TableNetwork(edges, asked, asked.properties, asked.limits)
    return _exported(table, asked.folder, asked)


def _exported(network: Network, folder: str | Path | None, options: ExportOptions) -> Dataset:
    """Return the dataset of a network, in its usual place where no folder is given."""
    place = Path(folder) if folder else network.results_folder() / "dataset"
    return Dataset(export(network, place, **shared(options, ExportOptions)))
