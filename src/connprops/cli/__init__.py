"""The command line. Thin: it reads arguments, calls, prints, and turns errors into exit codes."""

# Commands, in the order that help lists them in.
from connprops.cli import (  # noqa: I001
    run, steps, cross_validate, build_model, draw, sql, compare, info, verify,  # noqa: F401
)  # fmt: skip
from connprops.cli.app import app, end_when_told
from connprops.resources import keep_fewer_heaps, use_common_instructions

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    end_when_told()
    keep_fewer_heaps()
    use_common_instructions()
    app()
