"""All errors of this package.

Every message states the fact, what was found, what was expected, and a hint.
:func:`ConnpropsError.of` lays these parts out.
"""

from __future__ import annotations

import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Self

_NO_TEXT = "[\0\ud800-\udfff]"  # compiled when it is used: a millisecond or two

_LISTED = 12
"""Names that an error lists before it says how many more there are."""


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
        parts = {"  found:    ": found, "  expected: ": expected, "  Hint: ": hint}
        lines = [head + text for head, text in parts.items() if text is not None]
        return cls("\n".join([fact, *lines]))

    @classmethod
    def unknown(
        cls,
        what: str,
        name: object,
        known: Iterable[object],
        *,
        hint: str | None = None,
        at_most: int = _LISTED,
    ) -> Self:
        """Build the error for a name that is not one of the ``known`` ones."""
        names = [str(k) for k in known]
        hints = [hint] if hint else []
        for similar in difflib.get_close_matches(str(name), names, n=1):
            hints.insert(0, f"did you mean {similar!r}?")
        expected = listing(names, at_most)
        return cls.of(f"Unknown {what}: {name!r}", expected=expected, hint="; ".join(hints) or None)


class CircuitError(ConnpropsError):
    """A circuit, or a file of it, that cannot be read as SONATA."""


class TableError(ConnpropsError):
    """A table of synapses or of nodes that cannot be read, or contradicts itself."""


class OptionError(ConnpropsError):
    """An option or argument with a value that is not possible."""


class DatasetError(ConnpropsError):
    """A dataset folder that is missing, unfinished, damaged or of another version."""


class ModelError(ConnpropsError):
    """A model table or file that contradicts itself."""


class QueryError(ConnpropsError):
    """A query in SQL that fails or is not allowed."""


class WorkerError(ConnpropsError):
    """Work that could not be done because its workers were lost."""


class OutputError(ConnpropsError):
    """An output that cannot be written, or that would overwrite another file."""


def of_the_machine(error: BaseException) -> str | None:
    """Return a message for what the machine refuses (room, permission, memory); else None."""
    duckdb = sys.modules.get("duckdb")  # what is not imported has raised nothing
    if isinstance(
        error, MemoryError if duckdb is None else (MemoryError, duckdb.OutOfMemoryException)
    ):
        hint = "give it more (--memory), fewer threads (--threads), or fewer properties"
        return str(ConnpropsError.of("Out of memory", found=str(error) or None, hint=hint))
    if isinstance(error, RecursionError):
        return str(ConnpropsError.of("The input is nested too deeply", found=str(error)))
    if isinstance(error, OSError if duckdb is None else (OSError, duckdb.IOException)):
        return str(ConnpropsError.of("A file cannot be read or written", found=str(error)))
    return None


def is_text(text: str) -> bool:
    """Return whether a text can be written and be a path: no half characters, no zero byte."""
    return not re.search(_NO_TEXT, text)


def listing(names: Iterable[object], at_most: int = _LISTED) -> str:
    """Write names for a message: quoted, with commas, the first few where there are many."""
    quoted = [repr(str(name)) for name in names]
    if not quoted:
        return "(there is none)"
    shown = ", ".join(quoted[:at_most])
    more = len(quoted) - at_most
    return f"{shown} and {more} more" if more > 0 else shown


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the texts of this package's warnings, each once; others are shown as ever.

    An error takes what was collected with it, as its notes: it may be what a warning was about.
    """
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ConnpropsWarning)
        show = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, ConnpropsWarning):
                show(message, category, *where, **more)
            elif str(message) not in texts:
                texts.append(str(message))

        warnings.showwarning = keep
        try:
            yield texts
        except BaseException as error:
            for text in texts:
                error.add_note(text)
            raise
