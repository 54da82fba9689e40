"""The application that commands belong to, and how they speak: errors, warnings, exit codes."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from connprops._version import __version__
from connprops.errors import ConnpropsError, collected_warnings, of_the_machine


def examples(*lines: str) -> str:
    """Return commands as an epilog, where an empty line is what begins a new one."""
    return "\n\n".join(("Examples:", *lines))


app = typer.Typer(
    name="connprops",
    help="Statistics and models of the synapses of SONATA circuits.\n\n"
    "`connprops run CIRCUIT` does everything; export, extract, build and plot are its steps alone, "
    "each taking what the one before has written; `connprops demo` tries it on a circuit of its "
    "own.\n\nExit codes: 0 done, 1 a defect of connprops, 2 input, options or output that will "
    "not do, 130 interrupted, 143 terminated.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("connprops demo", "connprops run CIRCUIT"),
)


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"connprops {__version__}")
        raise typer.Exit


@contextmanager
def errors(*, debug: bool) -> Iterator[None]:
    """Turn errors into a message on standard error and an exit code."""
    try:
        yield
    except ConnpropsError as error:
        _fail(f"Error: {error}", error.exit_code, debug=debug)
    except Terminated:
        _fail("Terminated; what is finished of an export or of a shard is kept", 143, debug=debug)
    except KeyboardInterrupt:
        _fail("Interrupted", 130, debug=debug)
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: what is left is a defect
        if refused := of_the_machine(error):
            _fail(f"Error: {refused}", ConnpropsError.exit_code, debug=debug)
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if debug else "\n  Hint: --debug shows where it comes from"
        _fail(f"Unexpected error, a defect of connprops: {reason}{hint}", 1, debug=debug)


class Terminated(KeyboardInterrupt):
    """The system has asked the process to end: a job's time is over, say."""


def end_when_told() -> None:
    """Let SIGTERM end the work: what is under way may finish. A second one ends it at once."""

    def end(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, end)


def _fail(message: str, code: int, *, debug: bool) -> None:
    show_warnings(getattr(sys.exception(), "__notes__", ()))
    if debug:
        traceback.print_exc()
    typer.echo(message, err=True)
    raise typer.Exit(code)


@contextmanager
def warnings_shown() -> Iterator[None]:
    """List the warnings of what runs inside at its end, on standard error."""
    with collected_warnings() as texts:
        yield
    show_warnings(texts)


def show_warnings(texts: Iterable[str]) -> None:
    """List warnings on standard error."""
    for text in texts:
        typer.echo(f"Warning: {text}", err=True)


def say(text: str, *, quiet: bool) -> None:
    """Print what a command has to tell, unless it is to be quiet."""
    if not quiet:
        typer.echo(text)
