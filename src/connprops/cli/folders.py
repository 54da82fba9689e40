"""What a path holds, and whether it is intact."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from connprops.cli.app import argument, command
from connprops.display import Progress


@command(examples=("connprops info CIRCUIT", "connprops info results/fits.parquet"))
def info(
    path: Annotated[
        Path,
        argument(
            "PATH", "A circuit, a dataset, the folder of a run, or a Parquet file of connprops."
        ),
    ],
) -> None:
    """Describe a path: populations and sizes, properties and units, where it came from."""
    from connprops.run.info import describe

    describe(path, sys.stdout)


@command(examples=("connprops verify results", "connprops verify results/dataset"))
def verify(
    path: Annotated[
        Path,
        argument(
            "PATH", "A dataset, the folder of a run or of steps, or a Parquet file of connprops."
        ),
    ],
    *,
    progress: Progress,
) -> str:
    """Check every file against its checksum and number of rows; exit code 2 if one is damaged."""
    from connprops.errors import DatasetError, listing
    from connprops.run.verify import verify as verify_files

    verdict = verify_files(path, progress)
    if verdict.damaged:
        typer.echo("\n".join(verdict.lines()), err=True)
        raise DatasetError.of(
            f"{len(verdict.damaged)} of {verdict.n_checked} files are not as they were written",
            found=listing(verdict.damaged),
            hint="take them from a copy, or write them again with --overwrite: a dataset by "
            "export, statistics by extract, a model by build, all of them by run",
        )
    return f"{verdict.n_checked} files are as they were written"
