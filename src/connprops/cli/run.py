"""Everything in one command: on a circuit, or on a circuit of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

from connprops.cli.app import Circuit, argument, command, out, setting
from connprops.cli.ending import say_json
from connprops.display import Progress
from connprops.errors import ConnpropsWarning
from connprops.options import ExtractOptions, RunOptions
from connprops.resources import Resources

if TYPE_CHECKING:
    from connprops.run.populations import SeveralRuns
    from connprops.run.record import CompleteRun


@command(
    RunOptions, Resources,
    examples=(
        "connprops run CIRCUIT",
        "connprops run CIRCUIT -o results --population S1__S1__chemical",
        "connprops run CIRCUIT --sel-src Excitatory --min-sample-size-per-group 10",
        "connprops run CIRCUIT --population all",
        """connprops run CIRCUIT --sel-dest '{"layer": ["4", "5"]}'""",
        "connprops run CIRCUIT --sel-props conductance,u_syn --distr-type u_syn=beta",
        "connprops run CIRCUIT --config options.toml --memory 8GB",
        "connprops run synapses.parquet --nodes cells.csv --source pre --target post --type class",
    ),
)  # fmt: skip
def run(
    circuit: Circuit,
    *,
    out: Annotated[
        Path | None, out("Folder of the results. [default: NAME-connprops, NAME the circuit's]")
    ] = None,
    overwrite: bool,
    verify: bool,
    dry_run: bool,
    as_json: bool,
    options: RunOptions,
    progress: Progress,
) -> str | Callable[[TextIO], None] | None:
    """Do everything: export a circuit's synapses, describe and model each pathway, and report.

    OUT then holds the dataset, tables of statistics and the model as Parquet, the model as JSON
    too, report.html, and run.json, a record of the run.
    """
    if dry_run:
        return _planned_for_all(circuit, out, options)
    summary = _done(circuit, out, options, progress, overwrite=overwrite, verify=verify)
    if as_json:
        say_json(asdict(summary))
        return None
    return partial(_show, summary)


def _done(
    circuit: Path, out: Path | None, options: RunOptions, progress: Progress, **how: bool
) -> CompleteRun | SeveralRuns:
    """Do a run; its warnings, which it has collected, are given on."""
    from connprops.run.populations import run_populations

    summary = run_populations(circuit, out, options, progress, **how)
    for text in summary.warnings:
        warnings.warn(text, ConnpropsWarning, stacklevel=2)
    return summary


def _show(summary: CompleteRun | SeveralRuns, stream: TextIO, more: str = "") -> None:
    from connprops.run.info import show_summary
    from connprops.run.populations import INDEX, SeveralRuns

    show_summary(summary, stream)
    page = INDEX if isinstance(summary, SeveralRuns) else "report.html"
    stream.write(f"{more}Report: {Path(summary.out) / page}\n")


@command(examples=("connprops demo", "connprops demo large --synapses 10000000"))
def demo(
    folder: Annotated[Path, argument("DIR", "Folder of the circuit.")] = Path("connprops-demo"),
    *,
    synapses: Annotated[int, setting("N", "Number of synapses, about; from 1,000 up.")] = 200_000,
    seed: Annotated[int, setting("S", "Seed of the circuit.")] = 0,
    overwrite: bool,
    progress: Progress,
) -> Callable[[TextIO], None]:
    """Write a small circuit whose truth is known, and run on it; results go to DIR-connprops.

    The circuit is a scale model of a published neocortical microcircuit. The distribution of each
    property of each pathway is in DIR/truth.parquet, to compare the model with.
    """
    from connprops.demo import write_demo

    written = write_demo(folder, synapses=synapses, seed=seed, progress=progress)
    results = folder.with_name(f"{folder.absolute().name}-connprops")
    summary = _done(written.config, results, RunOptions(), progress, overwrite=overwrite)
    return partial(_show, summary, more=f"The circuit and its truth lie in {folder}\n")


def _planned_for_all(circuit: Path, out: Path | None, options: RunOptions) -> str:
    """Say what a run would do, for each population where several are named."""
    from connprops.run.populations import named

    names = named(circuit, options)
    if names is None:
        return _planned(circuit, out, options)
    plans = (
        _planned(circuit, out and out / name, replace(options, population=name)) for name in names
    )
    return "\n".join(f"{name}:\n{plan}" for name, plan in zip(names, plans, strict=True))


def _planned(circuit: Path, out: Path | None, options: RunOptions) -> str:
    """Say what a run would do: its export, and what is known of its statistics before that."""
    from connprops.export.opening import open_network
    from connprops.export.request import describe, differences
    from connprops.run import dry_run
    from connprops.statistics.extract import extract

    opened = open_network(circuit, options, options.columns, options.limits)
    folder = out or opened.results_folder()
    dataset, request = folder / "dataset", describe(opened, options, options.columns)
    if differences(dataset, request) == []:
        stats = extract(dataset, **options.of(ExtractOptions))
        work = dry_run.of_extract(stats, folder)
        return f"The dataset is there: {dataset}\n{work}"
    work = dry_run.of_export(request, dataset, options.limits)
    return f"{work}\nTasks of statistics are known when that is done."
