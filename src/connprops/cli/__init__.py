"""The command line. Thin: it reads arguments, calls, prints, and turns errors into exit codes."""

from connprops.cli import whole, steps, info  # noqa: F401, I001 - commands, in help's order
from connprops.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line."""
    app()
