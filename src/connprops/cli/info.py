"""What something is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, warnings_shown


@app.command(epilog=examples("connprops info CIRCUIT", "connprops info results/fits.parquet"))
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A circuit, a dataset, the folder of a run, or a Parquet file of connprops.",
        ),
    ],
    *,
    debug: arg.Debug = False,
) -> None:
    """Tell what something is: populations and sizes, properties and units, where it came from."""
    with errors(debug=debug), warnings_shown():
        from connprops.run.info import describe

        describe(path, sys.stdout)
