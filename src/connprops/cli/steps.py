"""The steps, each as a command: export, extract, build, plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say, warnings_shown

if TYPE_CHECKING:
    from connprops.charts.plot import Format


@app.command(
    epilog=examples(
        "connprops export CIRCUIT -o dataset",
        "connprops export CIRCUIT -o dataset --source-type layer --target-type layer",
        "connprops export CIRCUIT -o dataset --shard 3/20",
    )
)
def export(
    circuit: arg.Circuit,
    *,
    out: Annotated[
        Path | None, arg.out("Folder of the dataset. [default: NAME-connprops/dataset]")
    ] = None,
    population: arg.Population = None,
    config: arg.Config = None,
    overwrite: arg.Overwrite = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="Go on from what an interrupted export has finished."
        ),
    ] = True,
    verify: arg.Verify = False,
    source_type: arg.SourceType = None,
    target_type: arg.TargetType = None,
    sel_props: arg.SelProps = None,
    threads: arg.Threads = None,
    memory: arg.Memory = None,
    temp_dir: arg.TempDir = None,
    workers: arg.Workers = None,
    shard: arg.Shard = None,
    dry_run: arg.DryRun = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Write a circuit's synapses as a dataset: Parquet, for SQL, Polars and the next steps."""
    with errors(debug=debug), warnings_shown():
        from connprops.circuit.circuit import open_circuit
        from connprops.dataset.dataset import open_dataset
        from connprops.export.export import export as export_circuit
        from connprops.progress import display

        options = arg.options(
            config,
            population=population,
            source_type=source_type,
            target_type=target_type,
            sel_props=sel_props,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
            workers=workers,
        )
        opened = open_circuit(circuit)
        place = out or opened.results_folder() / "dataset"
        if dry_run:
            from connprops.export.request import describe
            from connprops.run import dry_run as dry
            from connprops.store.shards import Shard

            wanted = describe(opened, **options.export())
            part = Shard.parse(shard) if shard else None
            say(str(dry.of_export(wanted, place, options.resources(), part)), quiet=quiet)
            return
        with display(quiet=quiet) as progress:
            export_circuit(
                opened,
                place,
                overwrite=overwrite,
                resume=resume,
                verify=verify,
                shard=shard,
                resources=options.resources(),
                progress=progress,
                **options.export(),
            )
        if shard is not None:
            say(f"Shard {shard} is done; when all are: connprops merge {place}", quiet=quiet)
        else:
            say(f"{open_dataset(place)!r}\nin {place}", quiet=quiet)


@app.command(
    epilog=examples(
        "connprops extract steps/dataset",
        "connprops extract steps/dataset -o excitatory --sel-src Excitatory --hist-bins 20",
        "connprops extract steps/dataset --shard 3/20",
    )
)
def extract(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    *,
    out: Annotated[
        Path | None, arg.out("Folder of the tables. [default: the one that the dataset is in]")
    ] = None,
    config: arg.Config = None,
    overwrite: arg.Overwrite = False,
    sel_src: arg.SelSrc = None,
    sel_dest: arg.SelDest = None,
    sel_props: arg.SelProps = None,
    min_size: arg.MinSize = None,
    max_size: arg.MaxSize = None,
    hist_bins: arg.HistBins = None,
    correlations: arg.Correlations = None,
    seed: arg.Seed = None,
    threads: arg.Threads = None,
    memory: arg.Memory = None,
    temp_dir: arg.TempDir = None,
    workers: arg.Workers = None,
    shard: arg.Shard = None,
    dry_run: arg.DryRun = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Describe each property of each pathway of a dataset: tables of statistics as Parquet."""
    with errors(debug=debug), warnings_shown():
        from connprops.dataset.dataset import open_dataset
        from connprops.progress import display
        from connprops.statistics.extract import extract as extract_statistics

        options = arg.options(
            config,
            sel_src=sel_src,
            sel_dest=sel_dest,
            sel_props=sel_props,
            min_sample_size_per_group=min_size,
            max_sample_size_per_group=max_size,
            hist_bins=hist_bins,
            correlations=correlations,
            seed=seed,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
            workers=workers,
        )
        data = open_dataset(dataset)
        place = out or dataset.absolute().parent
        with display(quiet=quiet) as progress:
            stats = extract_statistics(
                data, resources=options.resources(), progress=progress, **options.extract()
            )
            if dry_run:
                from connprops.run import dry_run as dry
                from connprops.store.shards import Shard

                part = Shard.parse(shard) if shard else None
                planned = dry.of_extract(stats, place, options.resources(), part)
                say(str(planned), quiet=quiet)
                return
            files = stats.write(
                place, correlations=options.correlations, overwrite=overwrite, shard=shard
            )
        if shard is not None:
            say(f"Shard {shard} is done; when all are: connprops merge {place}", quiet=quiet)
        else:
            say("\n".join(str(file) for file in files), quiet=quiet)


@app.command(epilog=examples("connprops merge steps/dataset", "connprops merge steps"))
def merge(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that the shards were told to write to.")
    ],
    *,
    overwrite: arg.Overwrite = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Put together what the shards of an export or an extraction have left; takes seconds."""
    with errors(debug=debug), warnings_shown():
        from connprops.run.merge import merge as merge_shards

        say("\n".join(map(str, merge_shards(folder, overwrite=overwrite))), quiet=quiet)


@app.command(
    epilog=examples(
        "connprops build steps",
        "connprops build steps -o other --distr-type conductance=gamma,lognormal",
    )
)
def build(
    statistics: Annotated[
        Path, typer.Argument(metavar="STATISTICS", help="Folder that extract has written to.")
    ],
    *,
    out: Annotated[Path | None, arg.out("Folder of the model. [default: the same]")] = None,
    config: arg.Config = None,
    overwrite: arg.Overwrite = False,
    distr_types: arg.DistrTypes = None,
    criterion: arg.Criterion = None,
    truncnorm: arg.Truncnorm = None,
    interpolation: arg.Interpolation = None,
    shrinkage: arg.Shrinkage = None,
    p_values: arg.PValues = None,
    correlations: arg.Correlations = None,
    seed: arg.Seed = None,
    threads: arg.Threads = None,
    memory: arg.Memory = None,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Fit a distribution to each property of each pathway: the model as Parquet and JSON."""
    with errors(debug=debug), warnings_shown():
        from connprops.model.build import build as build_model
        from connprops.progress import display
        from connprops.statistics.statistics import read_statistics

        options = arg.options(
            config, distr_types=distr_types, criterion=criterion, truncnorm=truncnorm,
            interpolation=interpolation, shrinkage=shrinkage, p_values=p_values,
            correlations=correlations, seed=seed, threads=threads, memory=memory,
        )  # fmt: skip
        stats = read_statistics(statistics)
        with display(quiet=quiet) as progress:
            model = build_model(
                stats, **options.build(), resources=options.resources(), progress=progress
            )
        place = out or statistics
        model.write(place, overwrite=overwrite)
        say(f"{place / 'model.parquet'}\n{place / 'model.json'}", quiet=quiet)


@app.command(
    epilog=examples(
        "connprops plot steps",
        "connprops plot steps --formats svg,png --sel-props u_syn --pathway L4_PC L5_BC",
    )
)
def plot(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder that extract and build have written to."),
    ],
    *,
    out: Annotated[Path | None, arg.out("Folder of the charts. [default: FOLDER/charts]")] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--formats", metavar="A,B", help="html, svg, png, pdf or json; several with commas."
        ),
    ] = "html",
    sel_props: arg.SelProps = None,
    statistics: Annotated[
        str,
        typer.Option(metavar="A,B", help="Which statistics to map: q50, n_unique, ..."),
    ] = "mean,std,shared_within",
    pathway: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="SOURCE TARGET",
            help="Types of the pathway whose distributions are drawn. "
            "[default: the one with most connections]",
        ),
    ] = None,
    overwrite: arg.Overwrite = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Draw statistics and model: maps of pathways, and one pathway's data against its model."""
    with errors(debug=debug), warnings_shown():
        from connprops.charts.plot import plot as draw
        from connprops.model.model import read_model
        from connprops.progress import display
        from connprops.statistics.statistics import read_statistics

        place = out or folder / "charts"
        with display(quiet=quiet) as progress:
            charts = draw(
                read_statistics(folder),
                read_model(folder / "model.parquet"),
                place,
                cast("list[Format]", formats.split(",")),  # plot knows which ones there are
                properties=sel_props.split(",") if sel_props else None,
                statistics=statistics.split(","),
                pathway=pathway,
                overwrite=overwrite,
                progress=progress,
            )
        say(f"{len(charts)} charts in {place}", quiet=quiet)
