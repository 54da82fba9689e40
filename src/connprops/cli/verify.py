"""Whether what was written is still there, as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say


@app.command(epilog=examples("connprops verify results", "connprops verify results/dataset"))
def verify(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A dataset, the folder of a run or of steps, or a Parquet file of connprops.",
        ),
    ],
    *,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Check every file against its checksum and number of rows; exit code 2 if one is damaged."""
    with errors(debug=debug):
        from connprops.errors import DatasetError, listing
        from connprops.progress import display
        from connprops.run.verify import verify as verify_files

        with display(quiet=quiet) as progress:
            verdict = verify_files(path, progress)
        for file, what in verdict.damaged.items():
            typer.echo(what if what.startswith(str(file)) else f"{file} {what}", err=True)
        if verdict.damaged:
            raise DatasetError.of(
                f"{len(verdict.damaged)} of {verdict.n_checked} files are not as they were written",
                found=listing(verdict.damaged),
                hint="take them from a copy, or write them again with --overwrite: a dataset by "
                "export, statistics by extract, a model by build, all of them by run",
            )
        say(f"{verdict.n_checked} files are as they were written", quiet=quiet)
