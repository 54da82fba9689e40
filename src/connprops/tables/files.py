"""Tables of any kind as Parquet files on a disk of this machine, which rows are read from.

Parquet files are read where they are. Everything else is copied once, as it streams by, into a
temporary folder: what lies on an object store by Polars, which fetches only the columns that are
wanted, and only the row groups that may meet a condition; text, JSON and tables of DuckDB by
DuckDB; Arrow files and frames by Polars and Arrow.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from connprops.errors import OptionError, TableError, listing
from connprops.resources import Resources
from connprops.sources.sql_text import literal, quoted
from connprops.store.writing import add_samples, sha256_of

if TYPE_CHECKING:
    import duckdb

_ROW_GROUP = 1 << 18
_LARGEST_ROW_GROUP = 1 << 22
"""Rows of a row group up to which a range of rows is read from it without much in vain."""

_OF_TEXT = {
    "csv": "read_csv($files, nullstr=['', 'NA', 'N/A', 'NULL', 'null', 'None'])",
    "jsonl": "read_json($files, format='newline_delimited')",
}
_KINDS = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".arrow": "arrow", ".feather": "arrow",
    ".ipc": "arrow", ".duckdb": "duckdb", ".db": "duckdb",
}  # fmt: skip
_COMPRESSED = (".gz", ".zst")

_COMPARISON = re.compile(
    r'\s*"?(?P<name>\w+)"?\s*(?P<sign>>=|<=|=|>|<)\s*(?P<number>-?\d{1,15}(?:\.\d+)?)\s*'
)

Wanted = Callable[[Sequence[str]], Sequence[str]]
"""Which columns of a table are wanted, of all that it has."""


@dataclass(frozen=True)
class TableFiles:
    """A table as Parquet files: its name, the files, and what tells its content from another's.

    ``unmet`` is the number of rows that were not copied, as they do not meet the condition.
    """

    name: str
    path: Path
    files: tuple[Path, ...]
    facts: dict[str, Any]
    state: dict[str, int]
    is_text: bool
    limits: dict[str, Any]
    unmet: int = 0

    @property
    def schema(self) -> pa.Schema:
        """Return the columns that all the files have."""
        return pq.read_schema(self.files[0])

    def ask(self, query: str) -> pl.DataFrame:
        """Return what a query has of ``rows``."""
        import duckdb

        with duckdb.connect(config=self.limits) as connection:
            connection.read_parquet([str(file) for file in self.files]).create_view("rows")
            answer: pl.DataFrame = connection.sql(query).pl()
            return answer


class TableOpener:
    """Opens tables as Parquet files, with a temporary folder for copies where these are needed."""

    def __init__(self, resources: Resources) -> None:
        self._limits, self._temp_dir = resources.duckdb_config(), resources.temp_dir
        self._folder: Path | None = None
        self._n = 0

    def open(self, table: Any, what: str, wanted: Wanted, where: str | None = None) -> TableFiles:
        """Return a table of edges or nodes, as ``what`` says, with the columns wanted at least.

        Rows that do not meet the condition ``where`` may lack.
        """
        if not isinstance(table, str | Path):
            return self._of_frame(table, what)
        text = str(table)
        if "://" in text:
            return self._of_url(text, wanted, where)
        path, _, name = text.partition("::")
        files = _files_at(Path(path))
        kind = _kind_of(files)
        opened = _checked(files) if kind == "parquet" else ()
        if not opened or _largest_row_group(opened) > _LARGEST_ROW_GROUP:
            with _reading(path, kind):
                opened = (self._copied(kind, files, name),)
        stem = name or Path(path).name.split(".")[0].strip("*?") or what
        facts, state = _facts(files, path)
        return TableFiles(stem, Path(path), opened, facts, state, kind == "csv", self._limits)

    def _of_copy(
        self, name: str, path: str, aside: Path, *, is_text: bool = False, unmet: int = 0
    ) -> TableFiles:
        """Return a copy, which is told from others by all its bytes."""
        state = {"bytes": aside.stat().st_size}
        facts = {"file": path, **state, "sampled_sha256": sha256_of(aside)}
        return TableFiles(name, Path(path), (aside,), facts, state, is_text, self._limits, unmet)

    def _aside(self) -> Path:
        """Return where the next copy goes."""
        if self._folder is None:
            made = tempfile.mkdtemp(dir=self._temp_dir, prefix="connprops-")
            weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
            self._folder = Path(made)
        self._n += 1
        return self._folder / f"{self._n}.parquet"

    def _copied(self, kind: str, files: Sequence[Path], name: str) -> Path:
        """Copy files that are no Parquet, in the order of their rows."""
        import duckdb

        aside = self._aside()
        if kind == "arrow":
            pl.scan_ipc(list(files)).sink_parquet(aside, row_group_size=_ROW_GROUP)
            return aside
        with duckdb.connect(config=self._limits) as connection:
            if kind == "duckdb":
                rows = _table_of(connection, files[0], name)
            else:
                named = literal([str(file) for file in files])
                rows = _OF_TEXT.get(kind, "read_parquet($files)").replace("$files", named)
            connection.execute(
                f"copy (from {rows}) to {literal(str(aside))} "
                f"(format parquet, compression lz4_raw, row_group_size {_ROW_GROUP})"
            )
        return aside

    def _of_frame(self, table: Any, what: str) -> TableFiles:
        """Write a frame, or what streams as Arrow, as it comes."""
        aside = self._aside()
        if isinstance(table, pl.DataFrame | pl.LazyFrame):
            table.lazy().sink_parquet(aside, row_group_size=_ROW_GROUP)
        elif hasattr(table, "__arrow_c_stream__"):
            reader = pa.RecordBatchReader.from_stream(table)
            with pq.ParquetWriter(aside, reader.schema) as writer:
                waiting: list[pa.RecordBatch] = []
                for batch in reader:
                    waiting.append(batch)
                    if sum(b.num_rows for b in waiting) >= _ROW_GROUP:
                        writer.write_table(pa.Table.from_batches(waiting), _ROW_GROUP)
                        waiting = []
                writer.write_table(pa.Table.from_batches(waiting, reader.schema), _ROW_GROUP)
        else:
            raise OptionError.of(
                f"The {what} are no table", found=type(table).__name__,
                expected="a path, a Polars or pandas frame, or what streams as Arrow",
            )  # fmt: skip
        return self._of_copy(what, "(frame)", aside)

    def _of_url(self, url: str, wanted: Wanted, where: str | None) -> TableFiles:
        """Copy the wanted columns of what lies on an object store or a web server."""
        aside, file = self._aside(), Path(url.split("?", maxsplit=1)[0])
        kind = _kind_of([file])
        scans: dict[str, Callable[[str], pl.LazyFrame]] = {
            "parquet": pl.scan_parquet, "csv": pl.scan_csv, "jsonl": pl.scan_ndjson,
            "arrow": pl.scan_ipc,
        }  # fmt: skip
        if kind not in scans:
            raise OptionError.of(f"{url} is of a kind that is read from disks only", found=kind)
        with _reading(url, kind):
            rows = scans[kind](url)
            columns = rows.collect_schema()
            needed = conditions(where or "", columns) if kind == "parquet" else []
            kept = rows.filter(*needed) if needed else rows
            kept.select(wanted(columns.names())).sink_parquet(aside, row_group_size=_ROW_GROUP)
            n_rows = rows.select(pl.len()).collect().item() if needed else 0
        unmet = n_rows - pq.read_metadata(aside).num_rows if needed else 0
        return self._of_copy(
            file.name.split(".")[0], url, aside, is_text=kind == "csv", unmet=unmet
        )


def conditions(where: str, columns: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    """Return what all rows that meet a condition meet, by which a reader may skip row groups.

    That is known of comparisons of columns with numbers, joined by "and". Bounds of floating
    numbers are a little wider than said, so that their rounding does not matter here.
    """
    needed = []
    for part in re.split(r"\band\b", where, flags=re.IGNORECASE):
        comparison = _COMPARISON.fullmatch(part)
        dtype = columns.get(comparison["name"]) if comparison else None
        if comparison is None or dtype is None or not (dtype.is_float() or dtype.is_integer()):
            return []
        column, bound = pl.col(comparison["name"]), float(comparison["number"])
        room = 0.0 if dtype.is_integer() else abs(bound) * 1e-6
        low, high = bound - room, bound + room
        if dtype.is_integer():
            low, high = math.ceil(low), math.floor(high)
        if not comparison["sign"].startswith("<"):
            needed.append(column >= low)
        if not comparison["sign"].startswith(">"):
            needed.append(column <= high)
    return needed


def _files_at(path: Path) -> list[Path]:
    """Return the files that a path names: itself, those of a folder, or those of a pattern."""
    if path.is_dir():
        files = sorted(f for f in path.rglob("*") if f.is_file() and _suffix(f) in _KINDS)
    elif any(sign in path.name for sign in "*?["):
        files = sorted(path.parent.glob(path.name))
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise TableError.of(
            f"No table at {path}",
            found="a folder without any" if path.is_dir() else "no such file",
            expected=f"a file that ends in {', '.join(_KINDS)}, or a folder of them",
        )
    return files


def _suffix(file: Path) -> str:
    suffixes = [s.lower() for s in file.suffixes]
    while suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_table(path: str | Path) -> bool:
    """Return whether a path is that of a table, by its name or by what a folder holds."""
    place = Path(str(path).partition("::")[0])
    if "://" in str(path) or _suffix(place) in _KINDS or "*" in place.name:
        return True
    if not place.is_dir() or (place / "circuit_config.json").exists():
        return False
    return any(_suffix(f) in _KINDS for f in place.iterdir())


def _kind_of(files: Sequence[Path]) -> str:
    kinds = {_KINDS.get(_suffix(file), f"a file that ends in {_suffix(file)!r}") for file in files}
    if len(kinds) > 1 or not kinds <= {*_KINDS.values()}:
        raise TableError.of(
            f"{files[0].parent if len(files) > 1 else files[0]} is no table of one kind",
            found=listing(sorted(kinds)), expected=", ".join(_KINDS),
        )  # fmt: skip
    return kinds.pop()


def _checked(files: list[Path]) -> tuple[Path, ...]:
    """Return Parquet files, all of which must be whole and have the same columns."""
    first: pa.Schema | None = None
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schema = opened.schema_arrow.remove_metadata()
        except (OSError, pa.ArrowException) as error:
            raise TableError.of(
                f"{file} cannot be read as Parquet", found=str(error), hint="damaged, or cut short?"
            ) from error
        first = schema if first is None else first
        if schema != first:
            raise TableError.of(
                f"{file} has other columns than {files[0]}",
                found=listing(f"{f.name} {f.type}" for f in schema if f not in first),
                expected=listing(f"{f.name} {f.type}" for f in first if f not in schema),
            )
    return tuple(files)


def _largest_row_group(files: Sequence[Path]) -> int:
    footers = (pq.read_metadata(file) for file in files)
    sizes = (f.row_group(i).num_rows for f in footers for i in range(f.num_row_groups))
    return max(sizes, default=0)


@contextmanager
def _reading(table: str, kind: str) -> Iterator[None]:
    """Turn what a reader raises into an error that names the table."""
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException):
        raise
    except (duckdb.Error, pl.exceptions.PolarsError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise TableError.of(
            f"{table} cannot be read as {kind}", found="; ".join(lines[:3])
        ) from error


def _table_of(connection: duckdb.DuckDBPyConnection, file: Path, name: str) -> str:
    """Return the table of a DuckDB file that is named, or the only one."""
    connection.execute(f"attach {literal(str(file))} as given (read_only)")
    query = (
        "select table_name from duckdb_tables() where database_name = 'given' union all "
        "select view_name from duckdb_views() where database_name = 'given' and not internal"
    )
    names = [str(table) for (table,) in connection.sql(query).fetchall()]
    if name not in names and (name or len(names) != 1):
        raise OptionError.unknown(f"table of {file}", name, names, hint=f"name it as {file}::TABLE")
    return f"given.{quoted(name or names[0])}"


def _facts(files: Sequence[Path], path: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what tells files from others, and what changes whenever somebody writes them."""
    digest, statuses = hashlib.sha256(), [file.stat() for file in files]
    for file in files:
        add_samples(file, digest)
    n_bytes = sum(status.st_size for status in statuses)
    facts = {"file": Path(path).name, "bytes": n_bytes, "sampled_sha256": digest.hexdigest()}
    return facts, {"bytes": n_bytes, "mtime_ns": max(status.st_mtime_ns for status in statuses)}
