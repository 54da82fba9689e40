"""The steps, each as a command: export, extract, merge, build, plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import connprops as cp
from connprops.cli.app import Circuit, argument, command, out, setting
from connprops.display import Progress
from connprops.options import (
    BuildOptions,
    EdgeOptions,
    ExtractOptions,
    RunOptions,
    SampleOptions,
    SeedOptions,
    parse_names,
)
from connprops.resources import Resources

if TYPE_CHECKING:
    from connprops.charts.plot import Format
    from connprops.statistics.statistics import Statistics
    from connprops.store.folder import Folder


@command(
    EdgeOptions, "sel_props", Resources,
    examples=(
        "connprops export CIRCUIT -o dataset",
        "connprops export CIRCUIT -o dataset --source-type layer --target-type layer",
        "connprops export CIRCUIT -o dataset --shard 3/20",
        "connprops export synapses.parquet --nodes cells.csv --source pre --target post",
    ),
)  # fmt: skip
def export(
    circuit: Circuit,
    *,
    out: Annotated[
        Path | None, out("Folder of the dataset. [default: NAME-connprops/dataset]")
    ] = None,
    overwrite: bool,
    resume: bool,
    verify: bool,
    shard: str | None,
    dry_run: bool,
    options: RunOptions,
    progress: Progress,
) -> str:
    """Write a circuit's synapses as a dataset: Parquet, for SQL, Polars and the next steps."""
    from connprops.export.export import export as export_circuit
    from connprops.export.opening import open_network

    opened = open_network(circuit, options, options.columns, options.limits)
    place = out or opened.results_folder() / "dataset"
    if dry_run:
        from connprops.export.request import describe
        from connprops.run.dry_run import of_export

        return of_export(describe(opened, options, options.columns), place, options.limits, shard)
    export_circuit(
        opened, place, **options.edges(), overwrite=overwrite, resume=resume, verify=verify,
        shard=shard, resources=options.resources, progress=progress,
    )  # fmt: skip
    return _shard_done(shard, place) if shard else f"{cp.open_dataset(place)!r}\nin {place}"


@command(
    SampleOptions, "correlations", SeedOptions, Resources,
    examples=(
        "connprops extract steps/dataset",
        "connprops extract steps/dataset -o excitatory --sel-src Excitatory --hist-bins 20",
        "connprops extract steps/dataset --shard 3/20",
    ),
)  # fmt: skip
def extract(
    dataset: Annotated[Path, argument("DATASET", "Folder of a dataset.")],
    *,
    out: Annotated[
        Path | None, out("Folder of the tables. [default: the one that the dataset is in]")
    ] = None,
    overwrite: bool,
    shard: str | None,
    dry_run: bool,
    options: RunOptions,
    progress: Progress,
) -> str:
    """Describe each property of each pathway of a dataset: tables of statistics as Parquet."""
    place = out or dataset.absolute().parent
    data = cp.open_dataset(dataset)
    stats = cp.extract(data, progress=progress, **options.of(ExtractOptions))
    if dry_run:
        from connprops.run.dry_run import of_extract

        return of_extract(stats, place, shard)
    files = stats.write(place, correlations=options.correlations, overwrite=overwrite, shard=shard)
    return _shard_done(shard, place) if shard else _lines(files)


@command(examples=("connprops merge steps/dataset", "connprops merge steps"))
def merge(
    folder: Annotated[Path, argument("OUT", "Folder that the shards write to.")],
    *,
    overwrite: bool,
) -> str:
    """Combine what the shards of an export or an extraction have written; takes seconds."""
    return _lines(cp.merge(folder, overwrite=overwrite))


@command(
    BuildOptions, "threads", "memory",
    examples=(
        "connprops build steps",
        "connprops build steps -o other --distr-type conductance=gamma,lognormal",
    ),
)  # fmt: skip
def build(
    statistics: Annotated[Path, argument("STATISTICS", "Folder that extract has written to.")],
    *,
    out: Annotated[Path | None, out("Folder of the model. [default: the same]")] = None,
    json_at_most: int,
    overwrite: bool,
    options: RunOptions,
    progress: Progress,
) -> str:
    """Fit a distribution to each property of each pathway: the model as Parquet and JSON."""
    stats = cp.read_statistics(statistics)
    model = cp.build(stats, progress=progress, **options.of(BuildOptions))
    return _lines(model.write(out or statistics, overwrite=overwrite, json_at_most=json_at_most))


@command(
    examples=(
        "connprops plot steps",
        "connprops plot steps --formats svg,png --sel-props u_syn --pathway L4_PC L5_BC",
    )
)
def plot(
    folder: Annotated[Path, argument("FOLDER", "Folder that extract and build have written to.")],
    *,
    out: Annotated[Path | None, out("Folder of the charts. [default: FOLDER/charts]")] = None,
    formats: Annotated[
        str, setting("A,B", "html, svg, png, pdf or json; several with commas.")
    ] = "html",
    statistics: Annotated[
        str, setting("A,B", "Which statistics to map: q50, n_unique, ...")
    ] = "mean,std,shared_within",
    pathway: Annotated[
        tuple[str, str] | None,
        setting(
            "SOURCE TARGET",
            "Types of the pathway that is drawn. [default: the one with most connections]",
        ),
    ] = None,
    sel_props: list[str] | None,
    overwrite: bool,
    progress: Progress,
) -> str:
    """Draw statistics and model: maps of pathways, and one pathway's data against its model."""
    from connprops.store.folder import reading

    place = out or folder / "charts"
    stats, model = reading(folder, _read)
    kinds = cast("list[Format]", parse_names(formats))  # plot refuses others
    charts = cp.plot(
        stats, model, place, kinds, properties=sel_props, statistics=parse_names(statistics),
        pathway=pathway, overwrite=overwrite, progress=progress,
    )  # fmt: skip
    return f"{len(charts)} charts in {place}"


def _read(folder: Folder) -> tuple[Statistics, cp.Model]:
    """Return the statistics and the model of one generation of a folder."""
    from connprops.errors import DatasetError

    stats, model = cp.read_statistics(folder), cp.read_model(folder.path / "model.parquet", folder)
    if model.facts.get("statistics") != stats.facts()["generation"]:
        raise DatasetError.of(
            f"{folder.path / 'model.parquet'} is of other statistics than those beside it",
            hint=f"connprops build {folder.path} --overwrite makes it of these",
        )
    return stats, model


def _shard_done(shard: str, place: Path) -> str:
    return f"Shard {shard} is done; when all are: connprops merge {place}"


def _lines(files: list[Path]) -> str:
    return "\n".join(map(str, files))
