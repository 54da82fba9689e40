"""How well a model foretells data that it has not seen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say, warnings_shown

if TYPE_CHECKING:
    from connprops.model.cross_validation import CrossValidation

_VERDICTS = {True: "yes", False: "no", None: "-"}


@app.command(
    "cross-validate",
    epilog=examples(
        "connprops cross-validate results/dataset --cv-folds 5",
        "connprops cross-validate CIRCUIT -o scores.parquet --chart scores.svg --shrinkage",
    ),
)
def cross_validate_command(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET|CIRCUIT",
            help="Folder of a dataset; or a circuit, which is exported on first use.",
        ),
    ],
    *,
    cv_folds: Annotated[
        int,
        typer.Option(
            "--cv-folds",
            metavar="N",
            rich_help_panel=arg.NUMBERS,
            help="Number of parts; each in turn is held back and foretold.",
        ),
    ] = 5,
    out: Annotated[Path, arg.out("File of the scores, Parquet.")] = Path(
        "cross_validation.parquet"
    ),
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=arg.INPUT,
            help="Draw what is gained over the baseline to a .html, .svg or .png file.",
        ),
    ] = None,
    population: arg.Population = None,
    config: arg.Config = None,
    overwrite: arg.Overwrite = False,
    sel_src: arg.SelSrc = None,
    sel_dest: arg.SelDest = None,
    sel_props: arg.SelProps = None,
    min_size: arg.MinSize = None,
    max_size: arg.MaxSize = None,
    distr_types: arg.DistrTypes = None,
    criterion: arg.Criterion = None,
    shrinkage: arg.Shrinkage = None,
    seed: arg.Seed = None,
    threads: arg.Threads = None,
    memory: arg.Memory = None,
    temp_dir: arg.TempDir = None,
    workers: arg.Workers = None,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Score a model on data held back, beside the choices of connectome-manipulator."""
    with errors(debug=debug), warnings_shown():
        from connprops.model.cross_validation import cross_validate
        from connprops.progress import display
        from connprops.store.writing import refuse_existing

        options = arg.options(
            config,
            population=population,
            sel_src=sel_src,
            sel_dest=sel_dest,
            sel_props=sel_props,
            min_sample_size_per_group=min_size,
            max_sample_size_per_group=max_size,
            distr_types=distr_types,
            criterion=criterion,
            shrinkage=shrinkage,
            seed=seed,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
            workers=workers,
        )
        if chart is not None:
            from connprops.charts.plot import check_chart

            check_chart(chart)
        if not overwrite:
            refuse_existing(out, *[chart] if chart else [])
        with display(quiet=quiet) as progress:
            found = cross_validate(
                data,
                cv_folds=cv_folds,
                resources=options.resources(),
                progress=progress,
                **options.cross_validate(),
            )
        found.write_parquet(out, overwrite=overwrite)
        if chart is not None:
            from connprops.charts.plot import write_chart
            from connprops.charts.scores import cross_validation

            write_chart(cross_validation(found.summary()), chart, overwrite=overwrite)
        if not quiet:
            _show(found)
        say(str(out) if chart is None else f"{out}\n{chart}", quiet=quiet)


def _show(found: CrossValidation) -> None:
    """Write one line per property: how much a test value gains over the baseline."""
    from connprops.display import console_on, show_table

    console = console_on(sys.stdout)
    rows = [
        (
            str(row["property"]),
            str(row["distribution"]),
            str(row["distribution_reference"]),
            f"{row['n']:,}",
            f"{row['gain']:.4f} ± {row['gain_error']:.4f}",
            f"{row['ks']:.3f}",
            f"{row['ks_reference']:.3f}",
            f"{row['n_outside']:,}",
            f"{row['n_outside_reference']:,}",
            _VERDICTS[row["better"]],
        )
        for row in found.summary().iter_rows(named=True)
    ]
    head = ("property", "distribution", "baseline's", "test values", "gain per value", "KS",
            "baseline's", "excluded", "baseline's", "better")  # fmt: skip
    show_table(console, head, rows, numbers=range(3, 9))
