"""Write ``tables.md``, the reference of tables, from the schema and the SQL files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from connprops import schema
from connprops.dataset import relations
from connprops.query.session import questions

_INTRODUCTION = """\
# Tables

Made by `python docs/make_tables.py` from `connprops.schema` and the files of `sql/`.

The small tables are in a run's folder as `NAME.parquet`, and all together in `connprops.duckdb`,
where meanings and units are comments. Columns in **bold** are the keys: no two rows have the
same. In the column *unit*, `property` means the unit of the row's property, and `1` a number
without a unit. A column can hold nulls only where its type says so.

The values of text and enumerated columns are codes of labels, from 0; the manifest of the dataset
has the labels. All of their distinct values are in `values`. Their rows in `statistics` are of the
codes, whose means and deviations are no quantities; in `fits` they are null.

Any client of DuckDB 1.x or later opens `connprops.duckdb`. For the large tables, run `views.sql`
first. It works from any working directory, and wherever you move the folder:

```sh
duckdb -readonly OUT/connprops.duckdb -init OUT/views.sql
```

Without `views.sql`, use the macros that take the folder of a dataset: `from
connections_in('OUT/dataset')`, `synapses_in`, `nodes_in`. `connprops sql OUT "SELECT ..."` sees
all tables.
"""

_DTYPES = {
    pl.Enum: "text",
    pl.String: "text",
    pl.Boolean: "true or false",
    pl.List(pl.Int64): "list of int64",
    pl.List(pl.Float64): "list of float64",
}


def page() -> str:
    """Return the page, Markdown."""
    small = [*schema.TABLES.values(), schema.PROPERTIES, schema.EDGE_POPULATION, schema.GENERATIONS]
    parts = [_INTRODUCTION, "## Small tables\n"]
    parts += [_table(table) for table in small]
    parts.append("## Large tables\n\nViews of the Parquet files of the dataset.\n")
    parts += [_table(table) for table in schema.LARGE.values()]
    parts += ["## Relations\n\nEach is a file of `sql/` and uses those before it.\n"]
    parts.append(
        "".join(
            f"- `{name}`: {relations.grain(name)}\n"
            for name in (*relations.BY_ID, *relations.CHAIN)
        )
    )
    parts += ["## Macros\n", "".join(_macros())]
    parts.append("## Ready-made queries\n\n`connprops sql OUT --query NAME --param K=V`\n")
    parts.append("".join(_questions()))
    return "\n".join(parts)


def _table(table: schema.Table) -> str:
    rows = [
        f"### {table.name}\n\n{table.grain[0].upper()}{table.grain[1:]}.\n",
        "| column | type | unit | meaning |\n|---|---|---|---|",
    ]
    for column in table.columns:
        name = f"**`{column.name}`**" if column.key else f"`{column.name}`"
        dtype = _DTYPES.get(column.dtype, str(column.dtype).lower())
        null = ", or null" if column.nullable else ""
        meaning = column.meaning.replace("|", "\\|")
        rows.append(f"| {name} | {dtype}{null} | {column.unit} | {meaning} |")
    return "\n".join(rows) + "\n"


def _macros() -> Iterator[str]:
    """Give a line for each macro: how it is called, and the comment that stands before it."""
    comment: list[str] = []
    lines = iter(relations.text("macros").splitlines())
    for line in lines:
        if line.startswith("-- "):
            comment.append(line.removeprefix("-- "))
        elif line.startswith("create or replace macro "):
            call = line.removeprefix("create or replace macro ")
            while ") as table" not in call:
                call += next(lines).strip()
            yield f"- `{call.split(' as table')[0]}`: {' '.join(comment)}\n"
        elif not line:
            comment = []


def _questions() -> Iterator[str]:
    for name, asked in questions().items():
        yield f"- `{name}`: {asked.answers}\n"
        for parameter in asked.parameters:
            yield f"  - `{parameter.name}`, {parameter.default}: {parameter.meaning}\n"


if __name__ == "__main__":
    Path(__file__).with_name("tables.md").write_text(page(), encoding="utf-8")
