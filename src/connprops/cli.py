"""The command line. Thin: it reads arguments, calls, prints, and turns errors into exit codes."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import connprops
from connprops.errors import ConnpropsError

if TYPE_CHECKING:
    from connprops.options import RunOptions
    from connprops.plots import Format


def _examples(*lines: str) -> str:
    """Return commands as an epilog, where an empty line is what begins a new one."""
    return "\n\n".join(("Examples:", *lines))


app = typer.Typer(
    name="connprops",
    help="Statistics and models of the synapses of SONATA circuits.\n\n"
    "`connprops run CIRCUIT` does everything; export, extract, build and plot are its steps alone, "
    "each taking what the one before has written; `connprops demo` tries it on a circuit of its "
    "own.\n\nExit codes: 0 done, 1 a defect of connprops, 2 input, options or output that will "
    "not do, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples("connprops demo", "connprops run CIRCUIT"),
)

_INPUT, _PART, _NUMBERS, _MEANS = "Input and output", "Which part", "Numbers", "Means"

CircuitArgument = Annotated[
    Path, typer.Argument(metavar="CIRCUIT", help="The circuit's configuration file, or its folder.")
]
Population = Annotated[
    str | None,
    typer.Option(
        "--population", metavar="P", rich_help_panel=_INPUT,
        help="Edge population; needed where there are several and none is named default.",
    ),
]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=_INPUT,
        help="Options as TOML or JSON, under the names of Python's arguments (sel_src, "
        "distr_types, data_bounds, ...). The command line goes first.",
    ),
]  # fmt: skip
SourceType = Annotated[
    str | None,
    typer.Option(
        metavar="T", rich_help_panel=_PART,
        help="Node attribute that groups source neurons, or @population. [default: mtype]",
    ),
]  # fmt: skip
TargetType = Annotated[
    str | None,
    typer.Option(
        metavar="T", rich_help_panel=_PART,
        help="The same for target neurons. [default: mtype]",
    ),
]  # fmt: skip
SelSrc = Annotated[
    str | None,
    typer.Option(
        metavar="X", rich_help_panel=_PART,
        help="""Source neurons: a node set, or JSON: ids [0, 1] or attributes {"layer": "4"}.""",
    ),
]  # fmt: skip
SelDest = Annotated[
    str | None, typer.Option(metavar="X", rich_help_panel=_PART, help="The same for targets.")
]
SelProps = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", rich_help_panel=_PART,
        help="Properties, with commas. [default: all but delays, spine lengths and positions]",
    ),
]  # fmt: skip
MinSize = Annotated[
    int | None,
    typer.Option(
        "--min-sample-size-per-group", metavar="N", rich_help_panel=_NUMBERS,
        help="Pathways with fewer connections have no statistics; their model is borrowed.",
    ),
]  # fmt: skip
MaxSize = Annotated[
    int | None,
    typer.Option(
        "--max-sample-size-per-group", metavar="N", rich_help_panel=_NUMBERS,
        help="Of pathways with more connections, a random subset of this size.",
    ),
]  # fmt: skip
HistBins = Annotated[
    int | None,
    typer.Option(
        metavar="N", rich_help_panel=_NUMBERS, help="Bins of each histogram. [default: 51]"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", rich_help_panel=_NUMBERS, help="Seed of subsets. [default: 0]"),
]
DistrTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--distr-type", metavar="P=NAME", rich_help_panel=_NUMBERS,
        help="Distribution of a property; with commas several, of which the data choose. May be "
        "repeated. [default: the data choose among all that suit them]",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", rich_help_panel=_MEANS, help="Threads. [default: all processors]"),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="4GB", rich_help_panel=_MEANS,
        help="Memory to use at most. [default: 0.6 of what there is]",
    ),
]  # fmt: skip
TempDir = Annotated[
    Path | None,
    typer.Option(
        metavar="D", rich_help_panel=_MEANS,
        help="Folder for what does not fit in memory. [default: the system's]",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=_INPUT,
        help="Replace earlier results, of other input or other options.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=_MEANS, help="No progress, no summary.")
]
Debug = Annotated[
    bool, typer.Option("--debug", rich_help_panel=_MEANS, help="Show where an error comes from.")
]


def _out(help_text: str) -> Any:
    return typer.Option("--out", "-o", metavar="OUT", rich_help_panel=_INPUT, help=help_text)


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"connprops {connprops.__version__}")
        raise typer.Exit


@app.command(
    "run",
    epilog=_examples(
        "connprops run CIRCUIT",
        "connprops run CIRCUIT -o results --population S1__S1__chemical",
        "connprops run CIRCUIT --sel-src Excitatory --min-sample-size-per-group 10",
        """connprops run CIRCUIT --sel-dest '{"layer": ["4", "5"]}'""",
        "connprops run CIRCUIT --sel-props conductance,u_syn --distr-type u_syn=beta",
        "connprops run CIRCUIT --config options.toml --memory 8GB",
    ),
)
def run_command(
    circuit: CircuitArgument,
    *,
    out: Annotated[
        Path | None, _out("Folder of the results. [default: NAME-connprops, NAME the circuit's]")
    ] = None,
    population: Population = None,
    config: Config = None,
    overwrite: Overwrite = False,
    source_type: SourceType = None,
    target_type: TargetType = None,
    sel_src: SelSrc = None,
    sel_dest: SelDest = None,
    sel_props: SelProps = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    hist_bins: HistBins = None,
    distr_types: DistrTypes = None,
    seed: Seed = None,
    threads: Threads = None,
    memory: Memory = None,
    temp_dir: TempDir = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Do everything: export a circuit's synapses, describe and model each pathway, and report.

    OUT then holds the dataset, tables of statistics and the model as Parquet, the model as JSON
    too, report.html, and run.json, which tells of the run.
    """
    with _errors(debug=debug):
        options = _options(
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
            seed=seed,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
        )
        _run(circuit, out, options, overwrite=overwrite, quiet=quiet)


@app.command(
    epilog=_examples(
        "connprops export CIRCUIT -o dataset",
        "connprops export CIRCUIT -o dataset --source-type layer --target-type layer",
    )
)
def export(
    circuit: CircuitArgument,
    *,
    out: Annotated[
        Path | None, _out("Folder of the dataset. [default: NAME-connprops/dataset]")
    ] = None,
    population: Population = None,
    config: Config = None,
    overwrite: Overwrite = False,
    source_type: SourceType = None,
    target_type: TargetType = None,
    sel_props: SelProps = None,
    threads: Threads = None,
    memory: Memory = None,
    temp_dir: TempDir = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a circuit's synapses as a dataset: Parquet, for SQL, Polars and the next steps."""
    with _errors(debug=debug), _warnings():
        from connprops.dataset import open_dataset
        from connprops.export import export as export_circuit
        from connprops.progress import display
        from connprops.run import folder_for
        from connprops.sonata import open_circuit

        options = _options(
            config,
            population=population,
            source_type=source_type,
            target_type=target_type,
            sel_props=sel_props,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
        )
        opened = open_circuit(circuit)
        place = out or folder_for(opened) / "dataset"
        with display(quiet=quiet) as progress:
            export_circuit(
                opened,
                place,
                overwrite=overwrite,
                resources=options.resources(),
                progress=progress,
                **options.export(),
            )
        _say(f"{open_dataset(place)!r}\nin {place}", quiet=quiet)


@app.command(
    epilog=_examples(
        "connprops extract steps/dataset",
        "connprops extract steps/dataset -o excitatory --sel-src Excitatory --hist-bins 20",
    )
)
def extract(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder of a dataset.")],
    *,
    out: Annotated[
        Path | None, _out("Folder of the tables. [default: the one that the dataset is in]")
    ] = None,
    config: Config = None,
    overwrite: Overwrite = False,
    sel_src: SelSrc = None,
    sel_dest: SelDest = None,
    sel_props: SelProps = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    hist_bins: HistBins = None,
    seed: Seed = None,
    threads: Threads = None,
    memory: Memory = None,
    temp_dir: TempDir = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Describe each property of each pathway of a dataset: tables of statistics as Parquet."""
    with _errors(debug=debug), _warnings():
        from connprops.dataset import open_dataset
        from connprops.progress import display
        from connprops.statistics import extract as extract_statistics

        options = _options(
            config,
            sel_src=sel_src,
            sel_dest=sel_dest,
            sel_props=sel_props,
            min_sample_size_per_group=min_size,
            max_sample_size_per_group=max_size,
            hist_bins=hist_bins,
            seed=seed,
            threads=threads,
            memory=memory,
            temp_dir=temp_dir,
        )
        data = open_dataset(dataset)
        with display(quiet=quiet) as progress:
            stats = extract_statistics(
                data, resources=options.resources(), progress=progress, **options.extract()
            )
            files = stats.write(out or dataset.absolute().parent, overwrite=overwrite)
        _say("\n".join(str(file) for file in files), quiet=quiet)


@app.command(
    epilog=_examples(
        "connprops build steps",
        "connprops build steps -o other --distr-type conductance=gamma,lognormal",
    )
)
def build(
    statistics: Annotated[
        Path, typer.Argument(metavar="STATISTICS", help="Folder that extract has written to.")
    ],
    *,
    out: Annotated[Path | None, _out("Folder of the model. [default: the same]")] = None,
    config: Config = None,
    overwrite: Overwrite = False,
    distr_types: DistrTypes = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fit a distribution to each property of each pathway: the model as Parquet and JSON."""
    with _errors(debug=debug), _warnings():
        from connprops.fit import build as build_model
        from connprops.progress import display
        from connprops.run import write_model
        from connprops.statistics import read_statistics

        options = _options(config, distr_types=distr_types)
        stats = read_statistics(statistics)
        with display(quiet=quiet) as progress:
            model = build_model(stats, progress=progress, **options.build())
        place = out or statistics
        write_model(model, place, overwrite=overwrite)
        _say(f"{place / 'model.parquet'}\n{place / 'model.json'}", quiet=quiet)


@app.command(
    epilog=_examples(
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
    out: Annotated[Path | None, _out("Folder of the charts. [default: FOLDER/charts]")] = None,
    formats: Annotated[
        str,
        typer.Option(
            "--formats", metavar="A,B", help="html, svg, png, pdf or json; several with commas."
        ),
    ] = "html",
    sel_props: SelProps = None,
    pathway: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="SOURCE TARGET",
            help="Types of the pathway whose distributions are drawn. "
            "[default: the one with most connections]",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw statistics and model: maps of pathways, and one pathway's data against its model."""
    with _errors(debug=debug), _warnings():
        from connprops.model import read_model
        from connprops.plots import plot as draw
        from connprops.statistics import read_statistics

        place = out or folder / "charts"
        charts = draw(
            read_statistics(folder),
            read_model(folder / "model.parquet"),
            place,
            cast("list[Format]", formats.split(",")),  # plot knows which ones there are
            properties=sel_props.split(",") if sel_props else None,
            pathway=pathway,
            overwrite=overwrite,
        )
        _say(f"{len(charts)} charts in {place}", quiet=quiet)


@app.command(epilog=_examples("connprops info CIRCUIT", "connprops info results/fits.parquet"))
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A circuit, a dataset, the folder of a run, or a Parquet file of connprops.",
        ),
    ],
    *,
    debug: Debug = False,
) -> None:
    """Tell what something is: populations and sizes, properties and units, where it came from."""
    with _errors(debug=debug), _warnings():
        from connprops.info import describe

        describe(path, sys.stdout)


@app.command(epilog=_examples("connprops demo", "connprops demo large --synapses 10000000"))
def demo(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the circuit.", show_default=True)
    ] = Path("connprops-demo"),
    *,
    synapses: Annotated[
        int, typer.Option(metavar="N", help="Number of synapses, about; from 1,000 up.")
    ] = 200_000,
    seed: Annotated[int, typer.Option(metavar="S", help="Seed of the circuit.")] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a small circuit whose truth is known, and run on it; results go to DIR-connprops.

    The circuit is a scale model of a published neocortical microcircuit. The law of each
    pathway and property is in DIR/truth.parquet, to compare the model with.
    """
    with _errors(debug=debug):
        from connprops.demo import write_circuit
        from connprops.options import RunOptions
        from connprops.progress import display

        with display(quiet=quiet) as progress:
            written = write_circuit(folder, synapses=synapses, seed=seed, progress=progress)
        out = folder.with_name(f"{folder.absolute().name}-connprops")
        _run(written.config, out, RunOptions(), overwrite=overwrite, quiet=quiet)
        _say(f"The circuit and its truth lie in {folder}", quiet=quiet)


def _run(
    circuit: Path, out: Path | None, options: RunOptions, *, overwrite: bool, quiet: bool
) -> None:
    from connprops.progress import display
    from connprops.run import run

    with display(quiet=quiet) as progress:
        summary = run(circuit, out, options, progress, overwrite=overwrite)
    _show_warnings(summary.warnings)
    if not quiet:
        summary.show(sys.stdout)


def _options(config: Path | None, **given: Any) -> RunOptions:
    """Return options from a file and the command line, whose texts are parsed here."""
    from connprops.options import parse_distr_types, parse_selection, read_options

    parsers: dict[str, Callable[[Any], Any]] = {
        "sel_src": parse_selection,
        "sel_dest": parse_selection,
        "sel_props": lambda text: [name for name in text.split(",") if name],
        "distr_types": lambda texts: parse_distr_types(texts) or None,
    }
    for name, parse in parsers.items():
        if given.get(name) is not None:
            given[name] = parse(given[name])
    return read_options(config, **given)


@contextmanager
def _errors(*, debug: bool) -> Iterator[None]:
    """Turn errors into a message on standard error and an exit code."""
    try:
        yield
    except ConnpropsError as error:
        _fail(f"Error: {error}", error.exit_code, debug=debug)
    except KeyboardInterrupt:
        _fail("Interrupted", 130, debug=debug)
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001 - the last resort: what is left is a defect
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if debug else "\n  Hint: --debug shows where it comes from"
        _fail(f"Unexpected error, a defect of connprops: {reason}{hint}", 1, debug=debug)


def _fail(message: str, code: int, *, debug: bool) -> None:
    _show_warnings(getattr(sys.exception(), "__notes__", ()))
    if debug:
        traceback.print_exc()
    typer.echo(message, err=True)
    raise typer.Exit(code)


@contextmanager
def _warnings() -> Iterator[None]:
    """List the warnings of what runs inside at its end, on standard error."""
    from connprops.run import collected_warnings

    with collected_warnings() as texts:
        yield
    _show_warnings(texts)


def _show_warnings(texts: Any) -> None:
    for text in texts:
        typer.echo(f"Warning: {text}", err=True)


def _say(text: str, *, quiet: bool) -> None:
    if not quiet:
        typer.echo(text)
