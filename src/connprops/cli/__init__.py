"""The command line. Thin: it reads arguments, calls, prints, and turns errors into exit codes."""

# Commands, in the order that help lists them in.
from connprops.cli import run, steps, models, results  # noqa: F401, I001
from connprops.cli import ending
from connprops.cli.app import app
from connprops.resources import keep_fewer_heaps, use_common_instructions

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    ending.keep_docstrings()
    ending.collect_seldom()
    ending.start_without_pandas()
    ending.open_streams()
    ending.end_when_told()
    keep_fewer_heaps()
    use_common_instructions()
    ending.end_as(app)
