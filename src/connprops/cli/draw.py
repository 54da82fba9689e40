"""From a model back to synapses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from connprops.cli import arguments as arg
from connprops.cli.app import app, errors, examples, say, warnings_shown

if TYPE_CHECKING:
    from connprops.draw.lookup import Missing


@app.command(
    epilog=examples(
        "connprops draw model.parquet --circuit CIRCUIT -o edges.h5",
        "connprops draw model.parquet --connections list.parquet -o synapses.parquet",
        "connprops draw model.parquet --connections list.parquet --circuit CIRCUIT -o edges.h5",
    )
)
def draw(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The model: Parquet, or JSON.")],
    *,
    out: Annotated[
        Path,
        arg.out("The synapses: .parquet, or .h5 for a SONATA edge file."),
    ],
    connections: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            rich_help_panel=arg.INPUT,
            help="Parquet with source_node, target_node; source_type, target_type, unless a "
            "circuit tells them; n_syn_per_conn, unless it is to be drawn. [default: the "
            "connections of the circuit, each row drawn anew]",
        ),
    ] = None,
    circuit: Annotated[
        Path | None,
        typer.Option(
            metavar="CIRCUIT",
            rich_help_panel=arg.INPUT,
            help="Circuit that the nodes are of: its configuration file, or its folder.",
        ),
    ] = None,
    population: arg.Population = None,
    overwrite: arg.Overwrite = False,
    sel_props: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            rich_help_panel=arg.PART,
            help="Properties, with commas. [default: all of the model]",
        ),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            rich_help_panel=arg.PART,
            help="What to do with connections of pathways that the model lacks: error; borrow, "
            "from an observed pathway of the same types, layers or classes; skip.",
        ),
    ] = "error",
    seed: Annotated[
        int,
        typer.Option(metavar="N", rich_help_panel=arg.NUMBERS, help="Seed of all random numbers."),
    ] = 0,
    threads: arg.Threads = None,
    memory: arg.Memory = None,
    temp_dir: arg.TempDir = None,
    quiet: arg.Quiet = False,
    debug: arg.Debug = False,
) -> None:
    """Draw synapses from a model: of listed connections, or those of a circuit anew."""
    with errors(debug=debug), warnings_shown():
        from connprops.draw import write_synapses
        from connprops.model.model import read_model
        from connprops.progress import display

        options = arg.options(
            None, sel_props=sel_props, threads=threads, memory=memory, temp_dir=temp_dir
        )
        with display(quiet=quiet) as progress:
            n_synapses = write_synapses(
                read_model(model),
                connections,
                out,
                seed,
                nodes=circuit,
                population=population,
                missing=cast("Missing", missing),
                properties=options.sel_props,
                resources=options.resources(),
                overwrite=overwrite,
                progress=progress,
            )
        say(f"{n_synapses:,} synapses in {out}", quiet=quiet)
