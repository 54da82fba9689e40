"""How objects show themselves in a notebook: a line that says what they are, and a small table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def html_table(what: str, sizes: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return HTML: ``what`` in bold, ``sizes`` after it, and a table; all text is escaped."""
    lines = [_row("th", head), *(_row("td", cells) for cells in rows)]
    title = f"<p><b>{html.escape(what)}</b>: {html.escape(sizes)}</p>"
    return f"{title}<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"


_WIDTH = 180
"""Columns of a table where there is no terminal to ask."""


def console_on(stream: TextIO) -> Console:
    """Return a console that takes every text as it is; wide enough where it is no terminal."""
    from rich.console import Console

    return Console(
        file=stream,
        markup=False,
        highlight=False,
        soft_wrap=True,
        width=None if stream.isatty() else _WIDTH,
    )


def show_table(
    console: Console,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    digits: int = 6,
) -> None:
    """Write a table; the columns of ``numbers`` stand to the right, floats have some digits."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value, digits) for value in row))
    console.print(table)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
