"""Models: scored on data held back, compared, drawn from, and built as a configuration says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, cast

import connprops as cp
from connprops.cli.app import argument, command, out, setting
from connprops.cli.ending import say, say_json
from connprops.display import Progress, console_on, show_table
from connprops.options import (
    OUTPUT,
    SELECTION,
    CrossValidateOptions,
    FitOptions,
    RunOptions,
    SampleOptions,
    SeedOptions,
    parse_names,
)
from connprops.resources import Resources

if TYPE_CHECKING:
    from polars import DataFrame

    from connprops.draw.lookup import Missing
    from connprops.model.builders import Grouping
    from connprops.model.conversion import Format


def chart_file(text: str) -> Any:
    """Return the option that says where a chart goes."""
    return setting("FILE", text, "--chart", panel=OUTPUT)


@command(
    "population", SampleOptions, FitOptions, SeedOptions, Resources,
    examples=(
        "connprops cross-validate results/dataset --cv-folds 5",
        "connprops cross-validate CIRCUIT -o scores.parquet --chart scores.svg",
    ),
)  # fmt: skip
def cross_validate(
    data: Annotated[
        Path,
        argument(
            "DATASET|CIRCUIT", "Folder of a dataset; or a circuit, which is exported on first use."
        ),
    ],
    *,
    out: Annotated[Path, out("File of the scores, Parquet.")] = Path("cross_validation.parquet"),
    chart: Annotated[
        Path | None, chart_file("Draw the gain over the baseline to a .html, .svg or .png file.")
    ] = None,
    cv_folds: int,
    overwrite: bool,
    options: RunOptions,
    progress: Progress,
) -> Callable[[TextIO], None]:
    """Score a model on data held back, beside the choices of connectome-manipulator."""
    from connprops.store.writing import check_format, refuse_existing

    check_format(out, (".parquet",))
    files = [out, chart] if chart else [out]
    if chart:
        from connprops.charts.plot import check_chart, write_chart

        check_chart(chart)
    if not overwrite:
        refuse_existing(*files)
    scores = cp.cross_validate(
        data, cv_folds=cv_folds, edges_popul_name=options.population, progress=progress,
        **options.of(CrossValidateOptions),
    )  # fmt: skip
    scores.write_parquet(out, overwrite=overwrite)
    summary = scores.summary()
    if chart:
        from connprops.charts.scores import cross_validation

        write_chart(cross_validation(summary), chart, overwrite=overwrite)

    def show(stream: TextIO) -> None:
        _show_scores(summary, stream)
        stream.writelines(f"{file}\n" for file in files)

    return show


def _show_scores(summary: DataFrame, stream: TextIO) -> None:
    """Write one line per property: how much a test value gains over the baseline."""
    rows = [
        (
            row["property"],
            f"{row['distribution']} ({row['distribution_reference']})",
            f"{row['n']:,}",
            f"{row['gain']:.3f} ± {row['gain_error']:.3f}",
            f"{row['ks']:.3f} ({row['ks_reference']:.3f})",
            f"{row['n_outside']:,} ({row['n_outside_reference']:,})",
            {True: "yes", False: "no", None: None}[row["better"]],
        )
        for row in summary.iter_rows(named=True)
    ]
    head = ("property", "distribution", "test values", "gain per value", "KS", "excluded", "better")
    console = console_on(stream)
    show_table(console, head, rows)
    console.print("In parentheses: the baseline, the choices of connectome-manipulator.")


@command(
    examples=(
        "connprops compare results other-results",
        "connprops compare results/model.parquet reference.json -o differences.csv",
    )
)
def compare(
    a: Annotated[Path, argument("A", "A run's folder, or a model as Parquet or JSON.")],
    b: Annotated[Path, argument("B", "Another one.")],
    *,
    out: Annotated[
        Path | None, out("Write all differences to a .parquet, .csv or .json file.", "FILE")
    ] = None,
    chart: Annotated[
        Path | None, chart_file("Draw the differences to a .html, .svg or .png file.")
    ] = None,
    rows: Annotated[int, setting("N", "How many of the largest to print.", min=0)] = 10,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Show where two models differ: pathways, distributions, means, and their distances.

    Printed are a line for each property, and the largest distances between distributions that both
    models have from data, those of many values first; FILE has all.
    """
    import polars as pl

    from connprops.model.comparison import summarized, write_comparison
    from connprops.store.writing import check_format

    if out:
        check_format(out)
    if chart:
        from connprops.charts.plot import check_chart, write_chart

        check_chart(chart)
    differences = cp.compare(a, b)
    if chart:
        from connprops.charts.scores import comparison

        drawn = comparison(differences, title=f"{a.name} and {b.name}")
        say(write_chart(drawn, chart, overwrite=overwrite), err=True)
    if out:
        say(write_comparison(differences, out, overwrite=overwrite), err=True)
    if as_json:
        say_json(summarized(differences).to_dicts())
        return
    pathway = pl.format("{}\N{NO-BREAK SPACE}→ {}", "source_type", "target_type").alias("pathway")
    of_properties = summarized(differences)
    _show(of_properties.select(pl.exclude("source_type", "target_type"), pathway), digits=3)
    apart = differences.filter((pl.col("status") == "both") & (pl.col("ks") > 0))
    # As the two-sample test weighs a distance: by the values that both distributions rest on.
    weight = (pl.col("n_a") * pl.col("n_b") / (pl.col("n_a") + pl.col("n_b"))).sqrt()
    ranks = [pl.col("ks") * weight.fill_null(1), "source_type", "target_type", "property"]
    largest = apart.sort(ranks, descending=[True, False, False, False]).head(rows)
    if len(largest):
        families = [pl.col(f"distribution_{end}").cast(pl.String) for end in "ab"]
        same, other = families[0] == families[1], pl.format("{} → {}", *families)
        family = pl.when(same).then(families[0]).otherwise(other).alias("family")
        numbers = [pl.col(f"{what}_{end}").alias(f"{what} {end}") for what in ("n", "mean")
                   for end in "ab"]  # fmt: skip
        _show(largest.select(pathway, "property", family, *numbers, pl.col("ks").alias("KS")), 4)


def _show(frame: DataFrame, digits: int) -> None:
    show_table(console_on(sys.stdout), frame.columns, frame.rows(), digits=digits)


@command(examples=("connprops families",))
def families() -> Callable[[TextIO], None]:
    """List the distributions that a property can have, with their parameters."""
    from connprops.families.family import Parameter
    from connprops.families.registry import FAMILIES

    none = Parameter("-", "1", "it has none")

    def show(stream: TextIO) -> None:
        rows = [
            (*((name, family.kind) if place == 0 else ("", "")), p.name, p.unit, p.meaning)
            for name, family in FAMILIES.items()
            for place, p in enumerate(family.parameters or (none,))
        ]
        show_table(
            console_on(stream), ("distribution", "values", "parameter", "unit", "meaning"), rows
        )

    return show


@command(
    "threads", "memory", "temp_dir",
    examples=(
        "connprops draw model.parquet --circuit CIRCUIT -o edges.h5",
        "connprops draw model.parquet --connections list.parquet -o synapses.parquet",
        "connprops draw model.parquet --connections list.parquet --circuit CIRCUIT -o edges.h5",
    ),
)  # fmt: skip
def draw(
    model: Annotated[Path, argument("MODEL", "The model: a run's folder, Parquet, or JSON.")],
    *,
    out: Annotated[Path, out("The synapses: .parquet, or .h5 for a SONATA edge file.")],
    connections: Path | None,
    circuit: Path | None,
    sel_props: Annotated[
        str | None,
        setting("A,B", "Properties, with commas. [default: all of the model]", panel=SELECTION),
    ] = None,
    missing: str,
    population: str | None,
    seed: int,
    overwrite: bool,
    options: RunOptions,
    progress: Progress,
) -> str:
    """Draw synapses from a model: of listed connections, or those of a circuit anew."""
    from connprops.draw import write_synapses

    n_synapses = write_synapses(
        cp.read_model(model), connections, out, seed,
        nodes=circuit, population=population, missing=cast("Missing", missing),
        properties=parse_names(sel_props) if sel_props else None,
        resources=options.resources, overwrite=overwrite, progress=progress,
    )  # fmt: skip
    return f"{n_synapses:,} synapses in {out}"


@command(
    examples=(
        "connprops convert results --to recipe -o recipe.json",
        "connprops convert model.parquet --to obi-one -o blocks.json --distances distances.csv",
    )
)
def convert(
    model: Annotated[Path, argument("MODEL", "The model: a run's folder, Parquet, or JSON.")],
    *,
    to: Annotated[
        str,
        setting(
            "FORMAT", "recipe (functionalizer), obi-one, reference (connectome-manipulator) or csv."
        ),
    ],
    by: Annotated[
        str | None,
        setting(
            "WHAT", "What a recipe or blocks tell apart: class, the synapse classes of both sides; "
            "or pathway. [default: class for a recipe, pathway for obi-one]",
        ),
    ] = None,
    out: Annotated[Path | None, out("The file. [default: standard output]", "FILE")] = None,
    distances: Annotated[
        Path | None,
        setting(
            "FILE", "Write how far each pathway's distribution is from what is written, as "
            ".parquet, .csv or .json.", panel=OUTPUT,
        ),
    ] = None,
    overwrite: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Convert a model to what other builders read, and say how far it is then, and what is lost."""
    from connprops.model.conversion import write_distances
    from connprops.store.writing import check_format, refuse_existing

    if distances:
        check_format(distances)
    if not overwrite:
        refuse_existing(*(file for file in (out, distances) if file))
    converted = cp.convert(model, cast("Format", to), by=cast("Grouping | None", by))
    if out:
        converted.write(out, overwrite=overwrite)
    else:
        sys.stdout.write(converted.text)
    if distances:
        write_distances(converted.distances, distances, overwrite=overwrite)
    if quiet:
        return
    summary = converted.summary()
    if len(summary):
        show_table(console_on(sys.stderr), summary.columns, summary.rows(), digits=3)
    say("\n".join(["Not carried over:", *(f"- {loss}" for loss in converted.losses)]), err=True)
    say("\n".join(str(file) for file in (out, distances) if file), err=True)


@command(
    examples=(
        "connprops build-model CONFIG.json",
        "connprops build-model CONFIG.json --cv-folds 5 --force-rebuild",
    )
)
def build_model(
    config_file: Annotated[
        Path,
        argument(
            "CONFIG.json", "A model-building configuration of connectome-manipulator, as it is."
        ),
    ],
    *,
    force_reextract: bool,
    force_rebuild: bool,
    cv_folds: Annotated[
        int | None,
        setting("N", "Folds of a cross-validation. [default: the file's CV_folds]", min=1),
    ] = None,
    quiet: bool,
    progress: Progress,
) -> None:
    """Do what a configuration file of connectome-manipulator says: extract, build, plot."""
    from connprops.compat.build_model import build_model as build

    build(
        config_file, force_reextract=force_reextract, force_rebuild=force_rebuild,
        cv_folds=cv_folds, say=lambda text: None if quiet else say(text), progress=progress,
    )  # fmt: skip
