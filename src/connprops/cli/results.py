"""Looking into results: in SQL, as a database; what a path holds, and whether it is intact."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from connprops.cli.app import argument, command, out, setting
from connprops.cli.ending import say, say_json
from connprops.display import Printable, Progress, console_on, show_table
from connprops.errors import ConnpropsError, DatasetError, OptionError, listing
from connprops.options import RunOptions

if TYPE_CHECKING:
    from connprops.query.session import Answer, Session

_ANSWER = "Answer"


@command(
    "threads", "memory", "temp_dir",
    examples=(
        'connprops sql results "from pathways limit 5"',
        "connprops sql results --list",
        "connprops sql results --query strongest_pathways --param n=5",
        "connprops sql results --query in_degree -o in_degree.csv",
    ),
)  # fmt: skip
def sql(
    folder: Annotated[Path, argument("OUT", "The folder of a run, or of a dataset.")],
    statement: Annotated[str | None, argument("SQL", "The question, in DuckDB's SQL.")] = None,
    *,
    file: Annotated[
        str | None, setting("FILE", "Read it from a file; - for the input.", "--file", "-f")
    ] = None,
    query: Annotated[str | None, setting("NAME", "A ready question instead.")] = None,
    param: Annotated[
        list[str] | None, setting("K=V", "A parameter of a ready question. May be repeated.")
    ] = None,
    list_all: Annotated[
        bool, setting("", "List tables, and ready questions and their parameters.", "--list")
    ] = False,
    out: Annotated[
        Path | None, out("Write the answer to a .csv, .json or .parquet file.", "FILE", _ANSWER)
    ] = None,
    as_csv: Annotated[bool, setting("", "Print it as CSV.", "--csv", panel=_ANSWER)] = False,
    as_json: Annotated[bool, setting("", "Print it as JSON.", "--json", panel=_ANSWER)] = False,
    rows: Annotated[int, setting("N", "Rows of a printed table.", panel=_ANSWER, min=1)] = 40,
    show_sql: Annotated[
        bool,
        setting("", "Print the SQL, and that of what it rests on.", "--show-sql", panel=_ANSWER),
    ] = False,
    explain: Annotated[
        bool, setting("", "Print DuckDB's plan instead.", "--explain", panel=_ANSWER)
    ] = False,
    overwrite: Annotated[bool, setting("", "Replace FILE.", "--overwrite", panel=_ANSWER)] = False,
    allow_files: Annotated[
        bool, setting("", "Let SQL use other files and the network.", "--allow-files")
    ] = False,
    options: RunOptions,
) -> None:
    """Answer a question in SQL, over all tables of a run or a dataset.

    The answer goes to standard output, and all else to standard error. Nothing is changed, and no
    other file is read, unless --allow-files is given. Without a question, a terminal gets a prompt
    for many: that of the program duckdb, if there is one, else one of connprops.
    """
    from connprops.query.session import Session
    from connprops.store.writing import check_format

    asks = any((statement, file, query, list_all)) or not sys.stdin.isatty()
    _check_sources((statement, file, query), param, list_all=list_all or not asks)
    if not asks:
        _become_duckdb(folder)
    if out is not None:
        check_format(out)
    limits = options.resources  # and no bar of progress, as standard output is the answer's
    with Session(folder, allow_files=allow_files, resources=limits, progress_bar=False) as session:
        if list_all or not asks:
            _list(session) if list_all else converse(session, rows)
            return
        text = _text(session, statement, file, query, param or [])
        if show_sql:
            say(session.show_sql(text))
        elif explain:
            say(session.explain(text))
        elif out is not None:
            say(session.ask(text).write(out, overwrite=overwrite), err=True)
        elif as_csv:
            session.ask(text).write_csv(Printable(sys.stdout))
        elif as_json:
            session.ask(text).write_json(Printable(sys.stdout))
        else:
            _show(session.ask(text), rows)


@command("threads", "memory", "temp_dir", examples=("connprops database steps",))
def database(
    folder: Annotated[Path, argument("FOLDER", "Folder that extract and build wrote to.")],
    *,
    overwrite: bool,
    options: RunOptions,
    progress: Progress,
) -> str:
    """Put the tables of a folder into connprops.duckdb, for other DuckDB clients; run does so too.

    Beside it goes views.sql, which gives the large tables to a session.
    """
    from connprops.query.database import write_database

    files = write_database(
        folder, overwrite=overwrite, resources=options.resources, progress=progress
    )
    return "\n".join(map(str, files))


@command(examples=("connprops info CIRCUIT", "connprops info results/fits.parquet"))
def info(
    path: Annotated[
        Path,
        argument(
            "PATH", "A circuit, a dataset, the folder of a run, or a Parquet file of connprops."
        ),
    ],
    *,
    as_json: bool,
) -> None:
    """Describe a path: populations and sizes, properties and units, where it came from."""
    from connprops.run import info as about

    if as_json:
        say_json(about.facts(path))
    else:
        about.describe(path, sys.stdout)


@command(examples=("connprops verify results", "connprops verify results/dataset"))
def verify(
    path: Annotated[
        Path,
        argument(
            "PATH", "A dataset, the folder of a run or of steps, or a Parquet file of connprops."
        ),
    ],
    *,
    as_json: bool,
    progress: Progress,
) -> str | None:
    """Check every file against its checksum and number of rows; exit code 2 if one is damaged."""
    from connprops.run.verify import verify as verify_files

    verdict = verify_files(path, progress)
    if as_json:
        damaged = {str(file): what for file, what in verdict.damaged.items()}
        say_json({**asdict(verdict), "damaged": damaged})
    if verdict.damaged:
        if not as_json:
            say("\n".join(verdict.lines(path)), err=True)
        raise DatasetError.of(
            f"{len(verdict.damaged)} of {verdict.n_checked} files are not as they were written",
            found=listing(verdict.damaged),
            hint="take them from a copy, or write them again with --overwrite: a dataset by "
            "export, statistics by extract, a model by build, all of them by run",
        )
    if as_json:
        return None
    waiting = [
        f"{place} holds what an interrupted command had finished" for place in verdict.waiting
    ]
    return "\n".join([f"{verdict.n_checked} files are as they were written", *waiting])


def _become_duckdb(folder: Path) -> None:
    """Go on as the program duckdb, with all tables of a run's folder, where it is installed."""
    from connprops.query.database import DATABASE, VIEWS

    program, files = shutil.which("duckdb"), [folder / DATABASE, folder / VIEWS]
    if program is not None and all(file.is_file() for file in files):
        database, views = map(str, files)
        os.execv(program, [program, "-readonly", database, "-init", views])  # noqa: S606


def converse(session: Session, rows: int, read: Callable[[str], str] = input) -> None:
    """Answer one statement after the other, each of which ends with a semicolon, up to the end."""
    with suppress(ImportError):
        import readline  # noqa: F401 - gives the prompt its history
    say("SQL ends with ; and Ctrl-D ends this. Tables: " + ", ".join(session.tables), err=True)
    lines: list[str] = []
    while True:
        try:
            lines.append(read("...> " if lines else "sql> "))
        except EOFError:
            say("", err=True)
            return
        except KeyboardInterrupt:
            lines.clear()
            say("", err=True)
            continue
        if not lines[-1].rstrip().endswith(";"):
            lines = lines if any(map(str.strip, lines)) else []
            continue
        text = "\n".join(lines)
        lines.clear()
        try:
            _show(session.ask(text), rows)
        except ConnpropsError as error:
            say(f"Error: {error}", err=True)
        except KeyboardInterrupt:
            say("Interrupted", err=True)


def _check_sources(
    sources: Sequence[str | None], param: list[str] | None, *, list_all: bool
) -> None:
    """Refuse a command that names no question, or several; ``sources`` ends with the query."""
    if sum(source is not None for source in sources) != (not list_all):
        raise OptionError.of(
            "It is not clear what to answer", expected="one of SQL, -f FILE, --query, --list"
        )
    if param and sources[-1] is None:
        raise OptionError.of("--param goes with --query", found=", ".join(param))


def _text(
    session: Session, sql: str | None, file: str | None, query: str | None, parameters: list[str]
) -> str:
    """Return the SQL that is asked for; the parameters of a ready question are set."""
    from connprops.query.session import question

    if query is not None:
        pairs = [text.partition("=") for text in parameters]
        if wrong := [name for name, equals, _ in pairs if not equals]:
            raise OptionError.of("--param", found=repr(wrong[0]), expected="NAME=VALUE")
        asked = question(query)
        session.set_parameters(asked, {name: value for name, _, value in pairs})
        return asked.sql
    if file == "-":
        return sys.stdin.read()
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError.of(f"{file} cannot be read", found=str(error)) from error
    return sql or ""


def _list(session: Session) -> None:
    from connprops.query.session import questions

    console = console_on(sys.stdout)
    show_table(console, ("table", "what a row is"), list(session.tables.items()))
    ready = [
        (q.name, q.answers, ", ".join(f"{p.name}={p.default.strip(chr(39))}" for p in q.parameters))
        for q in questions().values()
    ]
    show_table(console, ("question", "what it answers", "parameters"), ready)


def _show(answer: Answer, at_most: int) -> None:
    rows = answer.rows()
    show_table(console_on(sys.stdout), answer.columns, islice(rows, at_most))
    if more := sum(1 for _ in rows):
        say(f"{more:,} more rows; --rows N, --csv, --json or -o FILE give them", err=True)
