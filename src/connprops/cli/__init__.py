"""The command line. Thin: it reads arguments, calls, prints, and turns errors into exit codes."""

# Commands, in the order that help lists them in.
from connprops.cli import run, steps, models, results  # noqa: F401, I001
from connprops.cli.app import app
from connprops.cli.ending import (
    collect_seldom,
    end_as,
    end_when_told,
    keep_docstrings,
    open_streams,
    start_without_pandas,
)
from connprops.resources import keep_fewer_heaps, use_common_instructions

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    keep_docstrings()
    collect_seldom()
    start_without_pandas()
    open_streams()
    end_when_told()
    keep_fewer_heaps()
    use_common_instructions()
    end_as(app)
