"""One DuckDB file with a folder's small tables, and ``views.sql`` for the large ones beside it.

The file answers wherever it is carried. Its storage format is one that clients of DuckDB 1.x open;
its tables and columns carry their meanings and units as comments.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from connprops import schema
from connprops.dataset import relations
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import MANIFEST, is_dataset
from connprops.display import Progress
from connprops.errors import DatasetError
from connprops.resources import LEAST_MEMORY, Resources
from connprops.sources.sql_text import literal, quoted
from connprops.store.folder import Folder, new_generation, place_of, reading, write_text
from connprops.store.tables import open_table
from connprops.store.writing import refuse_existing, replacing, sha256_of

DATABASE, VIEWS = "connprops.duckdb", "views.sql"
"""Names of the two files."""

_STORAGE = "v1.0.0"
"""What every client of DuckDB 1.x reads. The default of 2.0 they do not."""

_ROWS_AT_ONCE = 1 << 19
"""Rows of a table that memory holds on their way into the database."""

_FILES_OF = {
    "connection_rows": "connections/*.parquet", "connection_numbers": "connections/*.parquet",
    "synapse_rows": "synapses/*.parquet", "nodes": "nodes.parquet",
    "node_numbers": "nodes.parquet", "node_sets": "node_sets.parquet",
}  # fmt: skip
"""The relations at the bottom of the chain, and their files in a dataset."""

_CHAINS = {
    "connections_in": ("connection_rows", "connections_as_stored", "connections"),
    "synapses_in": ("connection_rows", "synapse_rows", "connections_as_stored",
                    "synapses_as_stored", "synapses"),
    "nodes_in": ("nodes",),
}  # fmt: skip
"""Macros that take the folder of a dataset: the relations that each is made of, it the last."""

_VIEWS_HEAD = f"""\
-- The large tables of this folder, as views beside the tables of {DATABASE}. In a shell:
--   duckdb -readonly FOLDER/{DATABASE} -init FOLDER/{VIEWS}
-- In another client, connected to {DATABASE}, run this file. The views are of the session; they
-- look for their files from the folder that the database lies in, wherever it has been moved to.
set variable folder = (
    select parse_dirpath(path) from duckdb_databases() where database_name = current_database()
);
set file_search_path = getvariable('folder');
"""  # noqa: S608 - our own names


def dataset_of(folder: Folder) -> Dataset | None:
    """Return the dataset that a folder is, or that a run has put into it; None without."""
    for place in (folder.path, folder.file("dataset")):
        if is_dataset(place):
            dataset = Dataset(place)
            if place != folder.path:
                folder.check(f"dataset/{MANIFEST}", sha256_of(dataset.folder / MANIFEST))
            return dataset
    return None


def small_tables(
    folder: Folder, dataset: Dataset | None, but: Collection[str] = ()
) -> dict[schema.Table, pl.LazyFrame]:
    """Return the tables of a folder that memory holds: of its files ``but`` some, and its dataset.

    They are read when they are collected. Raises :class:`DatasetError` where they are not of one
    generation.
    """
    frames: dict[schema.Table, pl.LazyFrame] = {}
    facts: dict[str, Any] = {}
    generations = {} if dataset is None else {"dataset": dataset.manifest.seal}
    for name, table in schema.TABLES.items():
        file = folder.path / f"{name}.parquet"
        if table is not schema.TYPES and file.name not in but and folder.file(file.name).is_file():
            _, frames[table], of_file = open_table(file, table, folder)
            facts |= {key: of_file[key] for key in ("types", "properties") if key in of_file}
            _check_generation(file, of_file, generations)
    if dataset is None and not frames:
        raise DatasetError.of(
            f"{folder.path} holds neither a dataset nor tables of connprops",
            found="a folder of something else" if folder.path.is_dir() else "no such folder",
            expected="the folder of a run, or that of a dataset",
        )
    if dataset is not None:
        properties = [(column.name, column.dtype, column.unit) for column in dataset.columns]
        facts["properties"] = [*properties, (schema.N_SYN_PER_CONN, "int32", "1")]
        facts["types"] = dataset.types.rows()
        names = ("source_population", "target_population", "source_type", "target_type")
        ends = (dataset.identity[name] for name in names)
        frames[schema.EDGE_POPULATION] = _frame(
            schema.EDGE_POPULATION,
            [(dataset.population, *ends, dataset.n_connections, dataset.n_synapses)],
        )
    if "types" in facts:
        frames[schema.TYPES] = _frame(schema.TYPES, facts["types"])
    if "properties" in facts:
        meanings = {name: quantity.meaning for name, quantity in schema.QUANTITIES.items()}
        rows = [(*row, meanings.get(row[0])) for row in facts["properties"]]
        frames[schema.PROPERTIES] = _frame(schema.PROPERTIES, rows)
    if generations:
        rows = sorted(generations.items())
        frames[schema.GENERATIONS] = _frame(schema.GENERATIONS, rows)
    return frames


def _check_generation(file: Path, facts: Mapping[str, Any], known: dict[str, str]) -> None:
    """Raise where a table is of other data than those before it; ``known`` is what they are of.

    Statistics name the dataset that they are of, and a model the statistics.
    """
    if "generation" not in facts:
        return
    named = {"statistics": facts["generation"], "dataset": facts["identity"].get("dataset")}
    if "statistics" in facts:
        named |= {"model": facts["generation"], "statistics": facts["statistics"]}
    for step, generation in named.items():
        if known.setdefault(step, generation) not in (None, generation):
            raise DatasetError.of(
                f"{file} goes with another {step} than the other files of its folder",
                hint="make it again from them: connprops extract for statistics, connprops build "
                "for the model, connprops run for all, with --overwrite",
            )


def _frame(table: schema.Table, rows: Sequence[Sequence[Any]]) -> pl.LazyFrame:
    return pl.LazyFrame(rows, schema=table.polars_schema(), orient="row")


def write_database(
    folder: str | Path,
    *,
    overwrite: bool = False,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Write ``connprops.duckdb`` of a folder's small tables, and ``views.sql`` of its dataset.

    Return the files written: without a dataset there is no ``views.sql``. Two databases of the same
    tables have the same rows, not the same bytes.
    """
    place, limits = Path(folder), resources or Resources()
    if not overwrite:
        refuse_existing(place / DATABASE, place / VIEWS)
    dataset, frames = reading(place, tables_of)
    with new_generation(place, (DATABASE, VIEWS)) as stage:
        write_database_into(stage, place, dataset, frames, limits, progress)
    return (place / DATABASE,) if dataset is None else (place / DATABASE, place / VIEWS)


def tables_of(folder: Folder) -> tuple[Dataset | None, dict[schema.Table, pl.LazyFrame]]:
    """Return the dataset of a folder, and the tables that memory holds."""
    dataset = dataset_of(folder)
    return dataset, small_tables(folder, dataset)


def write_database_into(
    stage: Path,
    folder: Path,
    dataset: Dataset | None,
    frames: Mapping[schema.Table, pl.LazyFrame],
    limits: Resources,
    progress: Progress | None,
) -> None:
    """Write the two files into a stage, for the folder in which the dataset will be."""
    _write(stage / DATABASE, frames, dataset, limits, progress)
    if dataset is not None:
        prefix = "" if dataset.folder.absolute() == folder.absolute() else "dataset/"
        write_text(stage / VIEWS, _views(dataset, prefix, frames), overwrite=True)


@contextmanager
def _new_database(
    file: Path, config: dict[str, Any], temp_dir: Path
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    """Give a connection to a new database, which becomes the file, and a folder for the time.

    DuckDB takes a question mark in a path for the beginning of a query, as URLs have it, and a
    backslash for a slash: it writes where the file's folder has no say.
    """
    with (
        replacing(file, overwrite=True) as aside,
        tempfile.TemporaryDirectory(dir=temp_dir, prefix="connprops-") as temporary,
        duckdb.connect(config=config) as connection,
    ):
        made = Path(temporary) / DATABASE
        connection.execute(
            f"attach {literal(str(made))} as artifact (storage_version '{_STORAGE}'); use artifact"
        )
        yield connection, Path(temporary)
        connection.execute("use memory; detach artifact")
        shutil.copyfile(made, aside)


def write_joined(file: Path, databases: Mapping[str, Path], limits: Resources) -> None:
    """Write one database of those of several populations, by name: their tables one below another.

    Each row has the name of its ``population`` in front. Macros, which are of one model, have no
    place there.
    """
    with _new_database(file, limits.duckdb_config(), limits.temp_dir) as (connection, temporary):
        of_table: dict[str, list[str]] = {}
        for number, (population, place) in enumerate(databases.items()):
            link = temporary / f"{number}.duckdb"
            link.symlink_to(place.absolute())
            connection.execute(f"attach {literal(str(link))} as of{number} (read_only)")
            query = f"select table_name from duckdb_tables() where database_name = 'of{number}'"  # noqa: S608
            for (name,) in connection.sql(query).fetchall():
                of_table.setdefault(name, []).append(
                    f"select {literal(population)} as population, * "  # noqa: S608 - quoted
                    f"from of{number}.main.{quoted(name)}"
                )
        of_run = (schema.EDGE_POPULATION, schema.PROPERTIES, schema.GENERATIONS)
        for table in (*of_run, *schema.TABLES.values()):
            name = table.name
            if selects := of_table.get(name):
                rows = " union all by name ".join(selects)
                connection.execute(f"create table {quoted(name)} as {rows}")
                connection.execute(_comments(table, "table"))
                connection.execute(
                    f"comment on column {quoted(name)}.population is 'name of the edge population'"
                )


def joined_database(folder: str | Path) -> Path | None:
    """Return the database over several populations that a folder has; None for other folders."""
    place = Path(folder)
    file = place_of(place, DATABASE)
    if not file.is_file() or is_dataset(place / "dataset"):
        return None
    return file if any(is_dataset(of_one / "dataset") for of_one in place.iterdir()) else None


def attach_joined(connection: duckdb.DuckDBPyConnection, file: Path) -> dict[str, str]:
    """Give a connection the tables of a database of several populations; return what a row is.

    Raises
    ------
    DatasetError
        Where the file is none.
    """
    with tempfile.TemporaryDirectory(prefix="connprops-") as temporary:
        link = Path(temporary) / DATABASE  # a question mark in a path would begin a query
        link.symlink_to(file.absolute())
        try:
            connection.execute(f"attach {literal(str(link))} as joined (read_only)")
        except duckdb.Error as error:
            raise DatasetError.of(f"{file} cannot be read", found=str(error)) from error
    query = "select table_name, comment from duckdb_tables() where database_name = 'joined'"
    tables = dict(connection.sql(query).fetchall())
    for name in tables:
        connection.execute(f"create view {quoted(name)} as from joined.{quoted(name)}")
    return tables


_RELATION = re.compile(r"\brelation := '(\w+)'")
"""A table that a macro is given by name."""


def create_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the macros of ``sql/macros.sql`` whose tables the connection has."""
    names = connection.sql("select table_name from duckdb_tables() union all "
                           "select view_name from duckdb_views()").fetchall()  # fmt: skip
    present = {name for (name,) in names}
    for statement in connection.extract_statements(relations.text("macros")):
        named = relations.named_in(statement.query) | {*_RELATION.findall(statement.query)}
        if named & schema.TABLES.keys() <= present:
            connection.execute(statement)


def _comments(table: schema.Table, kind: str, dataset: Dataset | None = None) -> str:
    """Return statements that comment a table (``kind`` "table" or "view") and its columns.

    With a dataset, its properties are columns too.
    """
    units = {"": "", "property": " [unit of the property]"}
    texts = {c.name: c.meaning + units.get(c.unit, f" [{c.unit}]") for c in table.columns}
    for column in dataset.columns if dataset else ():
        quantity = schema.QUANTITIES.get(column.name)
        meaning = quantity.meaning if quantity else "a property of the synapses"
        texts[column.name] = f"{meaning} [{column.unit or 'unit not known'}]"
    name = quoted(table.name)
    lines = [f"comment on {kind} {name} is {literal(table.grain)};"]
    lines += [
        f"comment on column {name}.{quoted(column)} is {literal(text)};"
        for column, text in texts.items()
    ]
    return "\n".join(lines)


def _write(
    file: Path,
    frames: Mapping[schema.Table, pl.LazyFrame],
    dataset: Dataset | None,
    limits: Resources,
    progress: Progress | None,
) -> None:
    """Write the tables and macros into a new database."""
    # Whatever it may have is filled with blocks it has written, beside what this process holds.
    megabytes = max(limits.memory // 8, LEAST_MEMORY) >> 20
    config = {**limits.duckdb_config(), "memory_limit": f"{megabytes} MiB"}
    with _new_database(file, config, limits.temp_dir) as (connection, _):
        connection.execute("set enable_progress_bar = false")
        for done, (table, frame) in enumerate(frames.items(), 1):
            connection.register("rows", pl.DataFrame(schema=frame.collect_schema()))
            connection.execute(f"create table {quoted(table.name)} as from rows")
            for rows in frame.collect_batches(chunk_size=_ROWS_AT_ONCE, maintain_order=True):
                connection.register("rows", rows)
                connection.execute(f"insert into {quoted(table.name)} from rows")
            connection.unregister("rows")
            connection.execute(_comments(table, "table"))
            if progress:
                progress("database", done, len(frames), "tables")
        create_macros(connection)
        if dataset is not None:
            for name, chain in _CHAINS.items():
                connection.execute(_folder_macro(name, chain, dataset))


def _folder_macro(name: str, chain: tuple[str, ...], dataset: Dataset) -> str:
    """Return the macro whose rows are those of a chain's last relation, read from a folder."""
    numbers = tuple(relations.BY_ID.values()) if dataset.has_ids else ()
    sources = {
        relation: f"from read_parquet(folder || '/{_FILES_OF[relation]}')"
        if relation in dataset.relations.bottom
        else _with_values(relation, dataset)
        for relation in (*numbers, *chain)
    }
    parts = ",\n".join(f"{relation} as (\n{source})" for relation, source in sources.items())
    return f"create macro {name}(folder) as table with {parts}\nfrom {chain[-1]}"


def _with_values(relation: str, dataset: Dataset) -> str:
    """Return a relation's SQL with what is set as variables elsewhere written into it."""
    text = dataset.relations.sql(relation)
    for variable, value in dataset.relations.variables.items():
        text = text.replace(f"getvariable('{variable}')", literal(value))
    return text


def _views(dataset: Dataset, prefix: str, frames: Mapping[schema.Table, pl.LazyFrame]) -> str:
    parts = [_VIEWS_HEAD]
    for name, files in _FILES_OF.items():
        if name not in dataset.relations.bottom:
            continue
        source = f"read_parquet({literal(prefix + files)})"
        parts.append(f"create or replace temp view {name} as\nfrom {source};\n")
    there = {table.name for table in frames}
    for name in dataset.relations.chain:
        if name not in there:
            text = _with_values(name, dataset).rstrip()
            parts.append(f"create or replace temp view {name} as\n{text};\n")
    for name, table in schema.LARGE.items():
        has_properties = name in ("connections", "synapses")
        parts.append(_comments(table, "view", dataset if has_properties else None) + "\n")
    return "\n".join(parts)
