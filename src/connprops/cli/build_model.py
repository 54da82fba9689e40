"""The reference's own way: one configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say, warnings_shown


@app.command(
    "build-model",
    epilog=examples(
        "connprops build-model CONFIG.json",
        "connprops build-model CONFIG.json --cv-folds 5 --force-rebuild",
    ),
)
def build_model(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.json",
            help="A model-building configuration of connectome-manipulator, as it is.",
        ),
    ],
    *,
    force_reextract: Annotated[
        bool,
        typer.Option(
            "--force-reextract",
            help="Extract anew also where circuit and options are what they were.",
        ),
    ] = False,
    force_rebuild: Annotated[
        bool,
        typer.Option(
            "--force-rebuild",
            help="Build anew also where statistics and options are what they were.",
        ),
    ] = False,
    cv_folds: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Folds of a cross-validation. [default: the file's CV_folds]"
        ),
    ] = None,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Do what a configuration file of connectome-manipulator says: extract, build, plot."""
    with errors(debug=debug), warnings_shown():
        from connprops.compat.build_model import build_model as run
        from connprops.progress import display

        with display(quiet=quiet) as progress:
            run(
                config,
                force_reextract=force_reextract,
                force_rebuild=force_rebuild,
                cv_folds=cv_folds,
                say=lambda text: say(text, quiet=quiet),
                progress=progress,
            )
