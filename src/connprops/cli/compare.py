"""Two models beside each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, warnings_shown

if TYPE_CHECKING:
    import polars as pl

_SHOWN = ("source_type", "target_type", "property", "distribution_a", "distribution_b",
          "n_a", "n_b", "mean_a", "mean_b", "shift", "ks", "wasserstein")  # fmt: skip


@app.command(
    epilog=examples(
        "connprops compare results other-results",
        "connprops compare results/model.parquet reference.json -o differences.csv",
    )
)
def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A run's folder, or a model as Parquet or JSON.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            rich_help_panel=arg.INPUT,
            help="Write all differences to a .parquet, .csv or .json file.",
        ),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=arg.INPUT,
            help="Draw the differences to a .html, .svg or .png file.",
        ),
    ] = None,
    rows: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many of the largest to print.")
    ] = 10,
    overwrite: arg.Overwrite = False,
    debug: arg.Debug = False,
) -> None:
    """Tell where two models differ: pathways, families, means, and how far they are apart.

    Printed are a line for each property, and the largest distances between distributions that both
    models have from data, those of many values first; FILE has all.
    """
    with errors(debug=debug), warnings_shown():
        import polars as pl

        from connprops.model.comparison import compare as compare_models
        from connprops.model.comparison import summarized, write_comparison
        from connprops.store.writing import check_format

        if out is not None:
            check_format(out)
        if chart is not None:
            from connprops.charts.plot import check_chart

            check_chart(chart)
        found = compare_models(a, b)
        if chart is not None:
            from connprops.charts.plot import write_chart
            from connprops.charts.scores import comparison

            drawn = comparison(found, title=f"{a.name} and {b.name}")
            typer.echo(str(write_chart(drawn, chart, overwrite=overwrite)), err=True)
        if out is not None:
            typer.echo(str(write_comparison(found, out, overwrite=overwrite)), err=True)
        _show(summarized(found))
        apart = found.filter((pl.col("status") == "both") & (pl.col("ks") > 0))
        # As the two-sample test weighs a distance: by the values that both distributions rest on.
        weight = (pl.col("n_a") * pl.col("n_b") / (pl.col("n_a") + pl.col("n_b"))).sqrt()
        ranks = [pl.col("ks") * weight.fill_null(1), "source_type", "target_type", "property"]
        largest = apart.sort(ranks, descending=[True, False, False, False]).head(rows)
        if len(largest):
            _show(largest.select(_SHOWN))


def _show(frame: pl.DataFrame) -> None:
    import polars.selectors as cs

    from connprops.display import console_on, show_table

    numeric = set(frame.select(cs.numeric()).columns)
    rows = [[_cell(value) for value in row] for row in frame.iter_rows()]
    places = [i for i, name in enumerate(frame.columns) if name in numeric]
    show_table(console_on(sys.stdout), frame.columns, rows, numbers=places)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
