"""Everything in one command: on a circuit, or on a circuit of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say, show_warnings

if TYPE_CHECKING:
    from connprops.options import RunOptions


@app.command(
    "run",
    epilog=examples(
        "connprops run CIRCUIT",
        "connprops run CIRCUIT -o results --population S1__S1__chemical",
        "connprops run CIRCUIT --sel-src Excitatory --min-sample-size-per-group 10",
        """connprops run CIRCUIT --sel-dest '{"layer": ["4", "5"]}'""",
        "connprops run CIRCUIT --sel-props conductance,u_syn --distr-type u_syn=beta",
        "connprops run CIRCUIT --config options.toml --memory 8GB",
    ),
)
def run_command(
    circuit: arg.Circuit,
    *,
    out: Annotated[
        Path | None, arg.out("Folder of the results. [default: NAME-connprops, NAME the circuit's]")
    ] = None,
    population: arg.Population = None,
    config: arg.Config = None,
    overwrite: arg.Overwrite = False,
    verify: arg.Verify = False,
    source_type: arg.SourceType = None,
    target_type: arg.TargetType = None,
    sel_src: arg.SelSrc = None,
    sel_dest: arg.SelDest = None,
    sel_props: arg.SelProps = None,
    min_size: arg.MinSize = None,
    max_size: arg.MaxSize = None,
    hist_bins: arg.HistBins = None,
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
    temp_dir: arg.TempDir = None,
    workers: arg.Workers = None,
    dry_run: arg.DryRun = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Do everything: export a circuit's synapses, describe and model each pathway, and report.

    OUT then holds the dataset, tables of statistics and the model as Parquet, the model as JSON
    too, report.html, and run.json, which tells of the run.
    """
    with errors(debug=debug):
        options = arg.options(
            config,
            population=population,
            source_type=source_type,
            target_type=target_type,
            sel_src=sel_src,
            sel_dest=sel_dest,
            sel_props=sel_props,
            min_sample_size_per_group=min_size,
            max_sample_size_per_group=max_size,
            hist_bins=hist_bins,
            distr_types=distr_types,
            criterion=criterion,
            truncnorm=truncnorm,
            interpolation=interpolation,
            shrinkage=shrinkage,
            p_values=p_values,
            correlations=correlations,
            seed=seed,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
            workers=workers,
        )
        if dry_run:
            _tell(circuit, out, options)
            return
        _run(circuit, out, options, overwrite=overwrite, verify=verify, quiet=quiet)


@app.command(epilog=examples("connprops demo", "connprops demo large --synapses 10000000"))
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the circuit.", show_default=True)
    ] = Path("connprops-demo"),
    *,
    synapses: Annotated[
        int, typer.Option(metavar="N", help="Number of synapses, about; from 1,000 up.")
    ] = 200_000,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of the circuit.")] = 0,
    overwrite: arg.Overwrite = False,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Write a small circuit whose truth is known, and run on it; results go to DIR-connprops.

    The circuit is a scale model of a published neocortical microcircuit. The distribution of each
    pathway and property is in DIR/truth.parquet, to compare the model with.
    """
    with errors(debug=debug):
        from connprops.demo import write_demo
        from connprops.options import RunOptions
        from connprops.progress import display

        with display(quiet=quiet) as progress:
            written = write_demo(folder, synapses=synapses, seed=seed, progress=progress)
        out = folder.with_name(f"{folder.absolute().name}-connprops")
        _run(written.config, out, RunOptions(), overwrite=overwrite, quiet=quiet)
        say(f"The circuit and its truth lie in {folder}", quiet=quiet)


def _tell(circuit: Path, out: Path | None, options: RunOptions) -> None:
    """Say what a run would do: its export, and what is known of its statistics before that."""
    from connprops.circuit.circuit import open_circuit
    from connprops.cli.app import warnings_shown
    from connprops.export.request import describe, differences
    from connprops.run import dry_run
    from connprops.statistics.extract import extract

    with warnings_shown():
        opened, resources = open_circuit(circuit), options.resources()
        folder = out or opened.results_folder()
        wanted = describe(opened, **options.export())
        if differences(folder / "dataset", wanted) == []:
            stats = extract(folder / "dataset", resources=resources, **options.extract())
            say(f"The dataset is there: {folder / 'dataset'}", quiet=False)
            say(str(dry_run.of_extract(stats, folder, resources)), quiet=False)
        else:
            say(str(dry_run.of_export(wanted, folder / "dataset", resources)), quiet=False)
            say("Tasks of statistics are known when that is done.", quiet=False)


def _run(
    circuit: Path,
    out: Path | None,
    options: RunOptions,
    *,
    overwrite: bool,
    quiet: bool,
    verify: bool = False,
) -> None:
    from connprops.progress import display
    from connprops.run.run import run

    with display(quiet=quiet) as progress:
        summary = run(circuit, out, options, progress, overwrite=overwrite, verify=verify)
    show_warnings(summary.warnings)
    if not quiet:
        summary.show(sys.stdout)
