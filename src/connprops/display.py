"""How objects show themselves in a notebook: a line that says what they are, and a small table."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


def html_table(what: str, sizes: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return HTML: ``what`` in bold, ``sizes`` after it, and a table; all text is escaped."""
    lines = [_row("th", head), *(_row("td", cells) for cells in rows)]
    title = f"<p><b>{html.escape(what)}</b>: {html.escape(sizes)}</p>"
    return f"{title}<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"
