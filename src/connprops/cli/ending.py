"""How a command starts and ends: with an exit code for each reason, whatever its streams are."""

from __future__ import annotations

import atexit
import gc
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from connprops.display import printable
from connprops.errors import ConnpropsError, of_the_machine

_CLOSED_PIPE = 128 + signal.SIGPIPE

_OBJECTS = 50_000
"""New objects after which garbage is looked for: 700 by default."""


class Terminated(KeyboardInterrupt):
    """The system has asked the process to end: its time is over, or its terminal has gone."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


def end_when_told() -> None:
    """Let SIGTERM and SIGHUP end the work: what is under way may finish. A second one ends it."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, end)


class _NoPandasForArrow:
    """Hides pandas while pyarrow.dataset is imported, which wants it for nothing that we use.

    Loading it would take a third of the time of a query. Whoever asks for it later gets it.
    """

    @staticmethod
    def find_spec(name: str, _path: object = None, _target: object = None) -> None:
        spec = getattr(sys.modules.get("pyarrow.dataset"), "__spec__", None)
        if name == "pandas" and getattr(spec, "_initializing", False):
            raise ModuleNotFoundError(name=name)


def start_without_pandas() -> None:
    """Let this process, which is all ours, start sooner."""
    sys.meta_path.insert(0, _NoPandasForArrow)


def collect_seldom() -> None:
    """Let this process look for garbage less often than Python does, and not when it ends.

    Imports make a hundred thousand objects that stay: to look at them again and again, and to take
    them apart at the end, takes a tenth of the time of a short command.
    """
    gc.set_threshold(_OBJECTS)
    atexit.register(gc.freeze)  # the last, for it is the first that is registered


def keep_docstrings() -> None:
    """Start again as with ``python -O`` where it is ``-OO``: Altair reads its own docstrings."""
    if sys.flags.optimize > 1:
        n_ours = len(sys.argv) - 1
        options = sys.orig_argv[1 : len(sys.orig_argv) - n_ours]
        flags = [re.sub("O+", "O", text) if re.match("-[A-Za-z]*OO", text) else text
                 for text in options]  # fmt: skip
        environment = {**os.environ, "PYTHONOPTIMIZE": "1"}
        os.execve(sys.executable, [sys.executable, *flags, *sys.argv[1:]], environment)  # noqa: S606


def open_streams() -> None:
    """Let what is written have a place where a stream is closed, and all texts a form."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


@contextmanager
def errors(*, debug: bool) -> Iterator[None]:
    """Turn errors into a message on standard error and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except ConnpropsError as error:
        _fail(f"Error: {error}", error.exit_code, debug=debug)
    except Terminated as told:
        _fail("Terminated; what is finished of an export or of a shard is kept", told.code,
              debug=debug)  # fmt: skip
    except KeyboardInterrupt:
        _fail("Interrupted", 130, debug=debug)
    except typer.Exit:
        raise
    except BrokenPipeError:
        _drop_output()
        raise typer.Exit(_CLOSED_PIPE) from None
    except Exception as error:  # noqa: BLE001 - the last resort: what is left is a defect
        if refused := of_the_machine(error):
            _fail(f"Error: {refused}", ConnpropsError.exit_code, debug=debug)
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if debug else "\n  Hint: --debug shows where it comes from"
        _fail(f"Unexpected error, a defect of connprops: {reason}{hint}", 1, debug=debug)


def end_as(app: Callable[[], object]) -> None:
    """Run the application. Where its reader has gone, Rich and Typer end with 1: say so instead."""
    try:
        app()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            _drop_output()
            raise SystemExit(_CLOSED_PIPE) from None
        raise


def _fail(message: str, code: int, *, debug: bool) -> None:
    with suppress(OSError):  # the terminal may have gone
        show_warnings(getattr(sys.exception(), "__notes__", ()))
        if debug:
            traceback.print_exc()
        say(message, err=True)
        sys.stdout.flush()
        raise typer.Exit(code)
    _drop_output()
    raise typer.Exit(code)


def _drop_output() -> None:
    """Let nothing be written any more, as Python does once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            os.dup2(nowhere, stream.fileno())


def show_warnings(texts: Iterable[str]) -> None:
    """List warnings on standard error."""
    for text in texts:
        say(f"Warning: {text}", err=True)


def say(text: object, *, err: bool = False) -> None:
    """Write a line to standard output, or to standard error."""
    typer.echo(printable(str(text)), err=err)


def say_json(facts: object) -> None:
    """Write facts as JSON to standard output: NaN is null, and paths are texts."""
    import msgspec

    say(msgspec.json.format(msgspec.json.encode(facts, enc_hook=str), indent=1).decode())
