"""How progress, tables and texts are shown: on a terminal, in a log, in a notebook, as CSV.

Names in a circuit may be anything: no terminal takes one for a command, no spreadsheet one for a
formula, and no browser one for markup.
"""

from __future__ import annotations

import csv
import html
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[str, int, int, str], None]
"""Called with step, units done, units in all (0 where nobody knows yet), and the unit's name."""

_SECONDS_BETWEEN_LINES = 10.0

_CELLS_OF_BAR = 12
"""So few that numbers have room beside it in a window of 80."""

_WIDTH = 180
"""Columns in which texts of a table break where there is no terminal to ask."""

_ENDLESS = 10**6
"""Columns of a file: what does not fit into fewer is as wide as it is."""

_SPACE = 2
"""Blanks that each column of a table takes beside its text."""

_UNBROKEN = 12
"""Words so short are never broken over lines."""

_PROSE = 16
"""Texts of several words give way down to this width before others do."""

_WORD, _PIECE = re.compile(r"[^ \n]*[ \n]|[^ \n]+"), re.compile(r"[^_]*_|[^_]+")
"""What texts are broken into, and long words."""

_NUMBER = re.compile(r"[-+]?([0-9]|nan|inf|$)")

_COMMANDS = (r"[^\n\t\x20-\x7e\xa0-\uffff\U00010000-\U0010ffff]"
             r"|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # fmt: skip
"""What terminals act upon, or no text can hold: controls, turns of direction, half characters.

It is compiled when it is used, for that takes some milliseconds.
"""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How texts begin that a spreadsheet takes for a formula."""


def printable(text: str) -> str:
    """Return a text with escapes for what a terminal would act upon."""
    return re.sub(_COMMANDS, lambda match: repr(match[0])[1:-1], text)


class Writable(Protocol):
    """What takes text: a file, a terminal."""

    def write(self, text: str, /) -> object:
        """Take a text."""


class Printable:
    """A stream that shows all text as it is: on a terminal, what it would act upon as escapes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, and return how many characters that took."""
        is_shown = self._stream.isatty()
        return self._stream.write(printable(text.replace("\r\n", "\n")) if is_shown else text)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]], stream: Writable) -> None:
    """Write CSV with a head; nulls are empty. A text like a formula has an apostrophe before it."""
    writer = csv.writer(stream, lineterminator="\n")
    for row in chain([columns], rows):
        writer.writerow(
            "'" + cell if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
            for cell in row
        )


@contextmanager
def show_progress(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """Give what to call as work gets done; it writes to ``stream``, by default standard error."""
    stream = stream or sys.stderr
    if quiet:
        yield lambda _step, _done, _total, _unit: None
    elif stream.isatty():
        with _bars(stream) as progress:
            yield progress
    else:
        yield Lines(stream)


class _Clock:
    """Seconds that the present step has taken: it began when the one before was last heard of."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._step = ""
        self._began = self._last = now()

    def seconds(self, step: str) -> tuple[float, bool]:
        """Return the seconds, and whether it is the first time that the step is heard of."""
        is_new, now = step != self._step, self._now()
        if is_new:
            self._step, self._began = step, self._last
        self._last = now
        return now - self._began, is_new


class Lines:
    """Progress as plain lines with the time, for logs: of steps that last, now and then.

    A line says how much is done, how fast, and how long the rest will take at that rate. The first
    comes after ten seconds, the next ones every ten seconds at first and ever more rarely then. A
    step that has had a line has one at its end too.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = _Clock(clock)
        self._lines = 0

    def __call__(self, step: str, done: int, total: int, unit: str) -> None:
        """Write a line if it is time for one."""
        seconds, is_new = self._clock.seconds(step)
        if is_new:
            self._lines = 0
        text = ""
        if 0 < total <= done:
            if self._lines:
                text = f"{total:,} {unit} in {_duration(seconds)}"
            self._lines = 0
        elif seconds >= _SECONDS_BETWEEN_LINES * (self._lines + 1):
            # After n lines a twentieth more of the time, so that a day has a hundred lines or so.
            self._lines = max(self._lines + 1, int(1.05 * seconds / _SECONDS_BETWEEN_LINES))
            share = f" of {total:,} {unit} ({100 * done // total} %)" if total else f" {unit}"
            text = f"{done:,}{share}, {_outlook(done, total, seconds)}"
        if text:
            self._stream.write(f"{time.strftime('%H:%M:%S')} {step}: {text}\n")
            self._stream.flush()


def _outlook(done: int, total: int, seconds: float) -> str:
    """Write how long the rest will take, and at which rate."""
    if not done:
        return "an unknown time left"
    rate = done / max(seconds, 1e-3)
    pace = f"{rate:,.0f} a second" if rate >= 1 else f"{_duration(1 / rate)} each"
    return f"{_duration((total - done) / rate)} left, {pace}" if total else pace


def _duration(seconds: float) -> str:
    """Write a time for people, in its two largest units."""
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole} s" if minutes else f"{whole} s"


@contextmanager
def _bars(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskID, TextColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=_CELLS_OF_BAR),
        TextColumn("{task.fields[amount]}", justify="right"),
        TextColumn("{task.fields[pace]}"),
        console=Console(file=stream),
    )
    tasks: dict[str, TaskID] = {}
    clock = _Clock()

    def progress(step: str, done: int, total: int, unit: str) -> None:
        seconds, _ = clock.seconds(step)
        amount = f"{done:,} / {total:,} {unit}" if total else f"{done:,} {unit}"
        pace = _outlook(done, total, seconds)
        if 0 < total <= done:
            pace = f"in {_duration(seconds)}" if seconds >= 1 else ""
        if step not in tasks:
            tasks[step] = bars.add_task(step, amount=amount, pace=pace)
        bars.update(tasks[step], completed=done, total=total or None, amount=amount, pace=pace)

    with bars:
        yield progress


def drawing() -> Any:
    """Return what draws, :mod:`connprops.charts.plot`, for methods of what is drawn.

    It lies above them, so they know it by name alone: docs/decisions/methods-that-draw.md.
    """
    return import_module("connprops.charts.plot")


def html_table(what: str, sizes: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return HTML: ``what`` in bold, ``sizes`` after it, and a table; all text is escaped."""

    def row(tag: str, cells: Sequence[object]) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    title = f"<p><b>{html.escape(what)}</b>: {html.escape(sizes)}</p>"
    lines = [row("th", head), *(row("td", cells) for cells in rows)]
    return f"{title}<table>{''.join(lines)}</table>"


def console_on(stream: TextIO) -> Console:
    """Return a console that shows every text as it is; endlessly wide where it is no terminal."""
    from rich.console import Console as Rich

    class Console(Rich):
        def print(self, *texts: Any, **more: Any) -> None:
            shown = (printable(text) if isinstance(text, str) else text for text in texts)
            super().print(*shown, **more)

    width = None if stream.isatty() else _ENDLESS
    return Console(file=stream, markup=False, highlight=False, soft_wrap=True, width=width)


def show_table(
    console: Console, head: Sequence[str], rows: Iterable[Sequence[object]], *, digits: int = 6
) -> None:
    """Write a table; columns whose cells all begin as numbers do stand to the right.

    On a terminal too narrow for it, texts break between words, and long words after underscores.
    Numbers never break: columns in the middle are left out instead, and how many is said below.
    """
    from rich import box
    from rich.table import Table

    cells = [[_cell(value, digits) for value in row] for row in rows]
    width = console.width if console.is_terminal else 0
    columns = [
        _Column.of(printable(name), [row[place] for row in cells], width or _WIDTH)
        for place, name in enumerate(head)
    ]
    shown = _fitting(columns, width) if width else columns
    room = (width or _WIDTH) - _SPACE * len(shown)
    while sum(column.width for column in shown) > room:
        widest = max(shown, key=_Column.order)
        if widest.width <= widest.least:
            break
        widest.width -= 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        justify: Any = "right" if column.is_numeric else "left"
        table.add_column(_broken(column.name, column.width), justify=justify, no_wrap=True)
    for place in range(len(cells)):
        table.add_row(*(_broken(column.cells[place], column.width) for column in shown))
    console.print(table)
    if left_out := len(columns) - len(shown) + (len(shown) < len(columns)):
        console.print(f"{left_out} of {len(columns)} columns left out")


@dataclass
class _Column:
    """A column as it is shown: how wide it is, and how narrow it can be."""

    name: str
    cells: list[str]
    is_numeric: bool
    width: int
    least: int

    @classmethod
    def of(cls, name: str, cells: list[str], room: int) -> _Column:
        """Return a column that takes at most a third of the room, unless it is of numbers."""
        from rich.cells import cell_len

        texts = [name, *cells]
        words = [word for text in texts for word in _WORD.findall(text)]
        least = max((_least(word.rstrip()) for word in words), default=0)
        width = max(map(cell_len, texts))
        return cls(name, cells, all(map(_NUMBER.match, cells)), width, min(least, room // 3))

    def order(self) -> tuple[bool, bool, int]:
        """Return what is greatest of the column that gives way next."""
        is_prose = self.width > _PROSE and any(" " in cell for cell in self.cells)
        return self.width > self.least, is_prose, self.width


def _least(word: str) -> int:
    """Return how narrow a column can be for a word."""
    from rich.cells import cell_len

    width = cell_len(word)
    return width if width <= _UNBROKEN else max(_UNBROKEN, *map(cell_len, _PIECE.findall(word)))


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    """Return the columns that fit, from both ends, with one of dots where others are left out."""

    def fits(chosen: Sequence[_Column]) -> bool:
        return sum(column.least + _SPACE for column in chosen) <= width

    if fits(columns):
        return columns
    dots = _Column("…", ["…"] * len(columns[0].cells), is_numeric=False, width=1, least=1)
    first, last = columns[:1], columns[len(columns) :]
    for n_shown in range(1, len(columns)):
        first_more = columns[: n_shown // 2 + 1]
        last_more = columns[len(columns) - (n_shown + 1) // 2 :]
        if not fits([*first_more, dots, *last_more]):
            break
        first, last = first_more, last_more
    return [*first, dots, *last]


def _broken(text: str, width: int) -> str:
    """Return a text in lines of at most a width, broken after spaces and underscores if it can."""
    from rich.cells import cell_len, chop_cells

    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in _WORD.findall(text):
        for piece in [word] if cell_len(word.rstrip()) <= width else _PIECE.findall(word):
            if cell_len(lines[-1] + piece.rstrip()) <= width:
                lines[-1] += piece
            else:
                lines += chop_cells(piece, width) if cell_len(piece.rstrip()) > width else [piece]
    return "\n".join(line.rstrip() for line in lines if line)


def _cell(value: object, digits: int) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if isinstance(value, float) else printable(str(value))
