"""Questions in SQL, by people, of a run's folder or a dataset: all its tables, and nothing else.

Python reads the files and DuckDB, locked in, asks it for their rows: so a query can neither read
another file nor write one, whatever it says. (A list of allowed folders would not do: DuckDB 2.0
has ``WITH x AS (COPY ... TO ...)``, and would write into them.)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import duckdb
import msgspec
import pyarrow.parquet

from connprops import schema
from connprops.dataset import relations
from connprops.dataset.dataset import Dataset
from connprops.display import Writable, write_csv
from connprops.errors import DatasetError, OptionError, QueryError
from connprops.query.database import attach_joined, create_macros, joined_database, tables_of
from connprops.resources import Resources
from connprops.sources.sql_text import literal
from connprops.store.folder import Folder, output_file, reading
from connprops.store.writing import check_format

_BATCH = 10_000

_PATIENCE = 0.1
"""Seconds after which an interrupt is heard at the latest."""

_PARAMETER = re.compile(
    r"^set variable (?P<name>\w+) = coalesce\(getvariable\('(?P=name)'\), (?P<default>.+)\);"
    r" -- (?P<meaning>.+)$",
    re.MULTILINE,
)
_LOOKS_AROUND = re.compile(
    r"\b(begin|start|create|show|describe|summarize|information_schema|pragma|query(_table)?"
    r"|(duckdb|pg|pragma|sqlite)_\w+)\b|^\s*desc\b",
    re.IGNORECASE,
)
"""Words of statements that say something of tables that they do not name, or whose names they take.
"""

_LINE = re.compile(r"\bLINE (\d+):")


@dataclass(frozen=True)
class QuestionParameter:
    """A parameter of a ready question: its default, as SQL has it, and what it is."""

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Question:
    """A ready question: its name, what it answers, its parameters, and its SQL."""

    name: str
    answers: str
    parameters: tuple[QuestionParameter, ...]
    sql: str


def questions() -> dict[str, Question]:
    """Return the ready questions of ``sql/queries``, by name."""
    ready = {}
    for file in sorted((relations.folder() / "queries").glob("*.sql")):
        text = file.read_text(encoding="utf-8")
        answers = text.split("\n", 1)[0].removeprefix("-- ")
        parameters = [QuestionParameter(**match.groupdict()) for match in _PARAMETER.finditer(text)]
        ready[file.stem] = Question(file.stem, answers, tuple(parameters), text)
    return ready


def question(name: str) -> Question:
    """Return the ready question of that name."""
    ready = questions()
    if name not in ready:
        raise OptionError.unknown(
            "question", name, ready, hint="connprops sql FOLDER --list shows what each answers"
        )
    return ready[name]


class Answer:
    """The rows that a question has, given as they come.

    Attributes
    ----------
    columns : list of str
        Their names.
    types : list of str
        Their types, as DuckDB calls them.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        described = session.connection.description or []
        self.columns = [str(column[0]) for column in described]
        self.types = [str(column[1]) for column in described]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Give the rows, once."""
        connection = self._session.connection
        while batch := self._session.waited(lambda: connection.fetchmany(_BATCH)):
            yield from batch

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the rows as CSV, JSON or Parquet, by the file's name; return the path.

        Raises
        ------
        OptionError
            Where the name ends in none of these.
        OutputError
            Where the file exists and ``overwrite`` is false, or it cannot be written.
        """
        file = Path(path)
        check_format(file)
        with output_file(file, overwrite=overwrite) as aside:
            if file.suffix == ".parquet":
                self._write_parquet(aside)
                return file
            with aside.open("w", encoding="utf-8", newline="") as stream:
                (self.write_csv if file.suffix == ".csv" else self.write_json)(stream)
        return file

    def write_csv(self, stream: Writable) -> None:
        """Write the rows as CSV with a head; nulls are empty.

        A text that a spreadsheet would take for a formula, such as ``=1+1``, has an apostrophe
        before it. JSON and Parquet have texts as they are.
        """
        write_csv(self.columns, self.rows(), stream)

    def write_json(self, stream: Writable) -> None:
        """Write the rows as a JSON array of objects; what is no finite number is null."""
        separator = "[\n"
        for row in self.rows():
            record = msgspec.json.encode(dict(zip(self.columns, row, strict=True)), enc_hook=str)
            stream.write(separator + msgspec.json.format(record, indent=0).decode())
            separator = ",\n"
        stream.write("[]\n" if separator == "[\n" else "\n]\n")

    def _write_parquet(self, file: Path) -> None:
        connection = self._session.connection
        with warnings.catch_warnings():
            # That rows are copied on the way to Arrow costs less than to ask for them again.
            warnings.simplefilter("ignore", UserWarning)
            reader: Any = self._session.waited(lambda: connection.to_arrow_reader(_BATCH))
        with pyarrow.parquet.ParquetWriter(file, reader.schema) as writer:
            while (batch := self._session.waited(lambda: next(reader, None))) is not None:
                writer.write_batch(batch)


class Session:
    """A folder's tables in a DuckDB connection of its own, in memory.

    Parameters
    ----------
    folder
        The folder of a run, of several runs, whose tables are those of all, or of a dataset.
    allow_files
        Whether queries may read and write other files, and reach the network.
    resources
        Memory, threads and the place for what does not fit.
    progress_bar
        Whether DuckDB may draw one for long queries where it thinks that somebody is looking; it
        does so on standard output.

    Raises
    ------
    DatasetError
        Where the folder holds neither, or a file is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        allow_files: bool = False,
        resources: Resources | None = None,
        progress_bar: bool = True,
    ) -> None:
        self.connection = duckdb.connect(config=(resources or Resources()).duckdb_config())
        if not progress_bar:
            self.connection.execute("set enable_progress_bar = false")
        self._dataset: Dataset | None = None
        self._tables: dict[str, str] = {}
        self._relations: list[str] = []
        self._folder, self._is_whole, self._has_answered = folder, False, False
        self._joined = joined_database(folder)
        if self._joined is not None:
            self._tables = attach_joined(self.connection, self._joined)
            self._is_whole = True
        else:
            self._open()
        if allow_files:
            self._complete()
        else:
            self.connection.execute("set enable_external_access = false")
            self.connection.execute("set lock_configuration = true")

    def _open(self, *, with_rows: bool = False) -> dict[str, Any]:
        """Register the small tables of a run or a dataset; return the rows of its files, if asked.

        Of each table no more is read than a query asks for, each time that it names it.
        """

        def opened(folder: Folder) -> tuple[Dataset | None, dict[Any, Any], dict[str, Any]]:
            dataset, frames = tables_of(folder)
            return dataset, frames, _rows_of(dataset) if with_rows and dataset else {}

        self._dataset, frames, rows = reading(self._folder, opened)
        self._tables = {table.name: table.grain for table in frames}
        for table, frame in frames.items():
            self.connection.register(table.name, frame)
        return rows

    def _rows(self, dataset: Dataset) -> dict[str, Any]:
        """Return the rows of a dataset's files; of the one in its place, if nobody has seen it."""
        try:
            return _rows_of(dataset)
        except DatasetError:
            if self._has_answered:
                raise
            return self._open(with_rows=True)

    def _complete(self) -> bool:
        """Define all else, unless that is done: rows of the dataset, what rests on them, macros.

        To look at all of it takes DuckDB longer than most questions of small tables.
        """
        if self._is_whole:
            return False
        if self._dataset is not None:
            for name, rows in self._rows(self._dataset).items():
                self.connection.register(name, rows)
            for name, frame in self._dataset.relations.frames.items():
                if name not in self._tables:
                    self.connection.register(name, frame)
            self._relations = self._dataset.relations.define(self.connection, self._tables)
            large = {name: table.grain for name, table in schema.LARGE.items()}
            self._tables |= large | {
                name: relations.grain(name) for name in self._relations if name not in large
            }
        create_macros(self.connection)
        self._is_whole = True
        return True

    @property
    def tables(self) -> dict[str, str]:
        """Return what a row of each table is, by the table's name."""
        self._complete()
        return self._tables

    def _execute(self, sql: str) -> None:
        """Run a statement; all else is defined first where it may want that."""
        if _LOOKS_AROUND.search(sql):
            self._complete()
        try:
            self.connection.execute(sql)
        except duckdb.CatalogException:  # there is no such table, or not yet
            if not self._complete():
                raise
            self.connection.execute(sql)
        self._has_answered = True

    def ask(self, sql: str) -> Answer:
        """Run statements, the last of which gives the answer.

        Raises
        ------
        QueryError
            Where one is wrong or not allowed; the message shows the line.
        DatasetError
            Where another dataset has taken the place of the one that was opened.
        """
        if self._dataset is not None:
            self._dataset.check_not_replaced()
        place = 0
        for statement in self._statements(sql):
            place = sql.index(statement.query, place)
            first_line = sql.count("\n", 0, place)
            self.waited(partial(self._execute, statement.query), first_line)
        return Answer(self)

    def ask_ready(self, name: str, parameters: Mapping[str, str] | None = None) -> Answer:
        """Ask a ready question; ``parameters`` are texts, read as the defaults' types.

        Raises
        ------
        OptionError
            Where there is no such question or parameter, or a text is not of the type.
        QueryError
            Where the folder lacks a table that it needs, or has several populations.
        """
        asked = question(name)
        self.set_parameters(asked, parameters or {})
        return self.ask(asked.sql)

    def set_parameters(self, asked: Question, parameters: Mapping[str, str]) -> None:
        """Set the parameters of a ready question; the others get their defaults."""
        if self._joined is not None:
            raise QueryError.of(
                "Ready questions are of one edge population",
                found=f"several, in {self._joined}",
                hint="ask the folder of one of them, or write SQL: each row has its population",
            )
        defaults = {parameter.name: parameter.default for parameter in asked.parameters}
        for name in parameters:
            if name not in defaults:
                raise OptionError.unknown(f"parameter of {asked.name}", name, defaults)
        for name, default in defaults.items():
            text = parameters.get(name)
            (kind,) = self.connection.sql(f"select typeof({default})").fetchall()[0]
            value = default if text is None else f"{literal(text)}::{kind}"
            try:
                self.connection.execute(f"set variable {name} = {value}")
            except duckdb.Error as error:
                raise OptionError.of(
                    f"Parameter {name!r} of {asked.name!r} is of another type",
                    found=repr(text),
                    expected=f"a value such as {default}",
                ) from error

    def explain(self, sql: str) -> str:
        """Return DuckDB's plan for the last of some statements; those before it are run."""
        *before, last = (statement.query for statement in self._statements(sql))
        for query in (*before, f"explain {last}"):
            self.waited(partial(self._execute, query))
        return "\n".join(str(row[1]) for row in self.connection.fetchall())

    def show_sql(self, sql: str) -> str:
        """Return some statements, and before them the relations that they rest on, in order."""
        self._statements(sql)  # or the error that they have
        self._complete()
        needed: set[str] = set()
        waiting = [sql]
        while waiting:
            for name in relations.named_in(waiting.pop()) & set(self._relations) - needed:
                needed.add(name)
                waiting.append(relations.text(name))
        chain = [name for name in self._relations if name in needed]
        parts = [f"-- {name}\n{relations.text(name).rstrip()}\n" for name in chain]
        return "\n".join([*parts, sql.rstrip()])

    def waited(self, work: Callable[[], Any], first_line: int = 0) -> Any:
        """Return what ``work`` does in DuckDB, which an interrupt of ours ends.

        DuckDB itself does not hear it before it is done.
        """
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(work)
            try:
                # A thread that only waits does not hear a signal that another one was given.
                while not wait([future], timeout=_PATIENCE).done:
                    pass
                return future.result()
            except KeyboardInterrupt:
                self.connection.interrupt()
                raise
            except (duckdb.Error, OSError) as error:
                if self._dataset is not None:
                    self._dataset.check_in_place()
                raise _explained(error, first_line) from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _statements(self, sql: str) -> list[duckdb.Statement]:
        try:
            statements = self.connection.extract_statements(sql)
        except duckdb.Error as error:
            raise _explained(error, 0) from error
        if not statements:
            raise QueryError.of("There is no SQL in the query", expected="such as: from pathways")
        return statements


def _rows_of(dataset: Dataset) -> dict[str, Any]:
    """Return the rows of a dataset's files, by the name of their relation."""
    import pyarrow.dataset  # takes a while, and many questions are of small tables alone

    try:
        return {
            name: pyarrow.dataset.dataset([str(file) for file in files], format="parquet")
            for name, files in dataset.relations.files.items()
        }
    except OSError as error:
        dataset.check_in_place()
        raise DatasetError.of(f"{dataset.folder} cannot be read", found=str(error)) from error


def _explained(error: duckdb.Error | OSError, first_line: int) -> QueryError:
    """Return the error with lines counted from the beginning of all statements."""
    text = _LINE.sub(lambda line: f"LINE {int(line[1]) + first_line}:", str(error))
    hint = None
    if isinstance(error, duckdb.PermissionException):
        hint = "queries may use the tables of the folder alone; --allow-files lifts that"
    elif isinstance(error, duckdb.CatalogException):
        hint = "connprops sql FOLDER --list shows the tables that there are"
    return QueryError.of("The query failed", found=text.replace("\n", "\n  "), hint=hint)
