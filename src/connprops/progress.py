"""Telling how far the work is: bars on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[str, int, int, str], None]
"""Called with step, units done, units in all, and the unit's name."""

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def display(*, quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """Give what to call as work gets done; it writes to ``stream``, by default standard error."""
    stream = stream or sys.stderr
    if quiet:
        yield lambda _step, _done, _total, _unit: None
    elif stream.isatty():
        with _bars(stream) as progress:
            yield progress
    else:
        yield Lines(stream)


class Lines:
    """Progress as plain lines with the time, for logs: of steps that last, now and then.

    A line tells how much is done, how fast, and how long the rest will take at that rate. The first
    comes after ten seconds, the next ones every ten seconds at first and ever more rarely then. A
    step that has had a line has one at its end too.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._step = ""
        self._began = self._last = clock()
        self._lines = 0

    def __call__(self, step: str, done: int, total: int, unit: str) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        if step != self._step:
            self._step, self._began, self._lines = step, self._last, 0
        self._last = now
        seconds = now - self._began
        if done >= total:
            if self._lines:
                self._write(f"{total:,} {unit} in {_duration(seconds)}")
            self._lines = 0
        elif seconds >= _SECONDS_BETWEEN_LINES * (self._lines + 1):
            # After n lines a twentieth more of the time, so that a day has a hundred lines or so.
            self._lines = max(self._lines + 1, int(1.05 * seconds / _SECONDS_BETWEEN_LINES))
            rate = done / seconds
            left = _duration((total - done) / rate) if done else "an unknown time"
            self._write(
                f"{done:,} of {total:,} {unit} ({100 * done // total} %), "
                f"{rate:,.0f} a second, {left} left"
            )

    def _write(self, text: str) -> None:
        self._stream.write(f"{time.strftime('%H:%M:%S')} {self._step}: {text}\n")
        self._stream.flush()


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
    from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}", justify="right"),
        TimeElapsedColumn(),
        console=Console(file=stream),
    )
    tasks: dict[str, TaskID] = {}

    def progress(step: str, done: int, total: int, unit: str) -> None:
        amount = f"{done:,} / {total:,} {unit}"
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=total, amount=amount)
        bars.update(tasks[step], completed=done, total=total, amount=amount)

    with bars:
        yield progress
