"""Telling how far the work is: bars on a terminal, a line now and then elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

Progress = Callable[[str, int, int, str], None]
"""Called with step, units done, units in all, and the unit's name."""

_SECONDS_BETWEEN_LINES = 5.0


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
    """Progress as plain lines with the time: at a step's end, and every few seconds within."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._last = clock()
        self._finished: set[str] = set()

    def __call__(self, step: str, done: int, total: int, unit: str) -> None:
        """Write a line if it is time for one."""
        now = self._clock()
        ends = done >= total and step not in self._finished
        if not ends and (done >= total or now - self._last < _SECONDS_BETWEEN_LINES):
            return
        if ends:
            self._finished.add(step)
        self._last = now
        share = f" ({100 * done // total} %)" if 0 < total > done else ""
        time_of_day = time.strftime("%H:%M:%S")
        self._stream.write(f"{time_of_day} {step}: {done:,} of {total:,} {unit}{share}\n")
        self._stream.flush()


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
