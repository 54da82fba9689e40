"""What can go wrong, said so that it can be mended.

Every message states the fact, what was found, what was expected, and a hint.
Exceptions are raised through :func:`ConnpropsError.of`, which lays the parts out, so
that no message is put together in the middle of other work.
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Self, TextIO

_LISTED = 12
"""How many known names an error lists before it says how many more there are."""


class ConnpropsWarning(UserWarning):
    """Something in the data or the options that changes what is computed."""


class ConnpropsError(Exception):
    """Base of all errors that this package raises on purpose.

    ``exit_code`` is what the command line returns for it.
    """

    exit_code = 2

    @classmethod
    def of(
        cls,
        fact: str,
        *,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> Self:
        """Build the error: ``fact`` in a line, then what was found, expected, and a hint."""
        parts = [fact]
        if found is not None:
            parts.append(f"  found:    {found}")
        if expected is not None:
            parts.append(f"  expected: {expected}")
        if hint is not None:
            parts.append(f"  Hint: {hint}")
        return cls("\n".join(parts))

    @classmethod
    def unknown(
        cls, what: str, name: object, known: Iterable[object], *, hint: str | None = None
    ) -> Self:
        """Build the error for a name that is not one of the ``known`` ones, which it lists."""
        names = [str(k) for k in known]
        close = difflib.get_close_matches(str(name), names, n=1)
        meant = f"did you mean {close[0]!r}?" if close else None
        hints = "; ".join(text for text in (meant, hint) if text)
        return cls.of(f"Unknown {what}: {name!r}", expected=listing(names), hint=hints or None)


class CircuitError(ConnpropsError):
    """A circuit, or a file of it, that cannot be read as SONATA."""


class OptionError(ConnpropsError):
    """An option or argument that cannot be met."""


class DatasetError(ConnpropsError):
    """A dataset folder that is missing, unfinished, damaged or of another version."""


class ModelError(ConnpropsError):
    """A model table or file that does not hold together."""


class QueryError(ConnpropsError):
    """A question in SQL that cannot be answered."""


class WorkerError(ConnpropsError):
    """Work that could not be done since those who did it were lost."""


class OutputError(ConnpropsError):
    """An output that cannot be written, or that would overwrite what is not ours."""


def of_the_machine(error: BaseException) -> str | None:
    """Return a message for what the machine refuses: room, permission, memory; else None.

    Neither a defect of this package nor of its input.
    """
    duckdb = sys.modules.get("duckdb")  # what is not imported has raised nothing
    no_memory: tuple[type[BaseException], ...] = (MemoryError,)
    no_file: tuple[type[BaseException], ...] = (OSError,)
    if duckdb is not None:
        no_memory += (duckdb.OutOfMemoryException,)
        no_file += (duckdb.IOException,)
    if isinstance(error, no_memory):
        return str(
            ConnpropsError.of(
                "Out of memory",
                found=str(error) or None,
                hint="give it more (--memory), fewer threads (--threads), or fewer properties",
            )
        )
    if isinstance(error, no_file):
        return str(ConnpropsError.of("A file cannot be read or written", found=str(error)))
    return None


def listing(names: Iterable[object]) -> str:
    """Write names for a message: quoted, with commas, the first few where there are many."""
    quoted = [repr(str(name)) for name in names]
    if not quoted:
        return "(there is none)"
    shown = ", ".join(quoted[:_LISTED])
    more = len(quoted) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the texts of this package's warnings, each once; others are shown as ever.

    An error takes what was collected with it, as its notes: it may be what a warning was about.
    """
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConnpropsWarning)
        shown = warnings.showwarning

        def keep(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, ConnpropsWarning):
                shown(message, category, filename, lineno, file, line)
            elif str(message) not in texts:
                texts.append(str(message))

        warnings.showwarning = keep
        try:
            yield texts
        except BaseException as error:
            for text in texts:
                error.add_note(text)
            raise
