"""Arguments that commands share, and options made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from connprops.options import RunOptions

INPUT, PART, NUMBERS, MEANS = "Input and output", "Which part", "Numbers", "Means"

_TIGHT = 2 * 10**9
"""Bytes allowed below which freed memory is given back at once, which takes time."""

Circuit = Annotated[
    Path, typer.Argument(metavar="CIRCUIT", help="The circuit's configuration file, or its folder.")
]
Population = Annotated[
    str | None,
    typer.Option(
        "--population", metavar="P", rich_help_panel=INPUT,
        help="Edge population; needed where there are several and none is named default.",
    ),
]  # fmt: skip
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT,
        help="Options as TOML or JSON, under the names of Python's arguments (sel_src, "
        "distr_types, data_bounds, ...). The command line goes first.",
    ),
]  # fmt: skip
SourceType = Annotated[
    str | None,
    typer.Option(
        metavar="T", rich_help_panel=PART,
        help="Node attribute that groups source neurons, or @population. [default: mtype]",
    ),
]  # fmt: skip
TargetType = Annotated[
    str | None,
    typer.Option(
        metavar="T", rich_help_panel=PART,
        help="The same for target neurons. [default: mtype]",
    ),
]  # fmt: skip
SelSrc = Annotated[
    str | None,
    typer.Option(
        metavar="X", rich_help_panel=PART,
        help="""Source neurons: a node set, or JSON: ids [0, 1] or attributes {"layer": "4"}.""",
    ),
]  # fmt: skip
SelDest = Annotated[
    str | None, typer.Option(metavar="X", rich_help_panel=PART, help="The same for targets.")
]
SelProps = Annotated[
    str | None,
    typer.Option(
        metavar="A,B", rich_help_panel=PART,
        help="Properties, with commas. [default: all but delays, spine lengths and positions]",
    ),
]  # fmt: skip
MinSize = Annotated[
    int | None,
    typer.Option(
        "--min-sample-size-per-group", metavar="N", rich_help_panel=NUMBERS,
        help="Pathways with fewer connections have no statistics; their model is borrowed.",
    ),
]  # fmt: skip
MaxSize = Annotated[
    int | None,
    typer.Option(
        "--max-sample-size-per-group", metavar="N", rich_help_panel=NUMBERS,
        help="Of pathways with more connections, a random subset of this size.",
    ),
]  # fmt: skip
HistBins = Annotated[
    int | None,
    typer.Option(
        metavar="N", rich_help_panel=NUMBERS, help="Bins of each histogram. [default: 51]"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N", rich_help_panel=NUMBERS, help="Seed of all that is random. [default: 0]"
    ),
]
DistrTypes = Annotated[
    list[str] | None,
    typer.Option(
        "--distr-type", metavar="P=NAME", rich_help_panel=NUMBERS,
        help="Distribution of a property; with commas several, of which the data choose. May be "
        "repeated. [default: the data choose among all that suit them]",
    ),
]  # fmt: skip
Criterion = Annotated[
    str | None,
    typer.Option(
        metavar="C", rich_help_panel=NUMBERS,
        help="What the data choose a distribution by: aicc, bic or held-out. [default: aicc]",
    ),
]  # fmt: skip
Truncnorm = Annotated[
    str | None,
    typer.Option(
        metavar="M", rich_help_panel=NUMBERS,
        help="How a cut normal distribution is fitted: mle, or histogram, as "
        "connectome-manipulator does. [default: mle]",
    ),
]  # fmt: skip
Interpolation = Annotated[
    str | None,
    typer.Option(
        metavar="M", rich_help_panel=NUMBERS,
        help="How pathways without data borrow: pooled samples, or unweighted means of parameters, "
        "as connectome-manipulator does. [default: pooled]",
    ),
]  # fmt: skip
Shrinkage = Annotated[
    bool | None,
    typer.Option(
        "--shrinkage", rich_help_panel=NUMBERS, show_default=False,
        help="Pathways with few values borrow from similar ones, weighed by evidence.",
    ),
]  # fmt: skip
PValues = Annotated[
    int | None,
    typer.Option(
        "--p-values", metavar="N", rich_help_panel=NUMBERS,
        help="A p-value for each fit, from N simulated samples, 200 say; takes N times as long.",
    ),
]  # fmt: skip
Correlations = Annotated[
    bool | None,
    typer.Option(
        "--correlations", rich_help_panel=NUMBERS, show_default=False,
        help="Correlations between properties too; takes another pass over the data.",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", rich_help_panel=MEANS, help="Threads. [default: all processors]"),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="4GB", rich_help_panel=MEANS,
        help="Memory to use at most. [default: 0.6 of what there is]",
    ),
]  # fmt: skip
TempDir = Annotated[
    Path | None,
    typer.Option(
        metavar="D", rich_help_panel=MEANS,
        help="Folder for what does not fit in memory. [default: the system's]",
    ),
]  # fmt: skip
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers", "--cluster", metavar="W", rich_help_panel=MEANS,
        help="Processes that share the work of export and extract, or the address of a Dask "
        "scheduler, such as tcp://host:8786. [default: this process]",
    ),
]  # fmt: skip
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N", rich_help_panel=MEANS,
        help="Do the I-th of N shares of the work alone, as a job of an array; `connprops merge` "
        "puts them together.",
    ),
]  # fmt: skip
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", rich_help_panel=MEANS,
        help="Say how much work that is, in how many tasks, and write nothing.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", rich_help_panel=INPUT,
        help="Replace earlier results, of other input or other options.",
    ),
]  # fmt: skip
Verify = Annotated[
    bool,
    typer.Option(
        "--verify", rich_help_panel=INPUT,
        help="Tell whether the edge file is that of earlier results by all of its bytes, "
        "not by size, time and samples.",
    ),
]  # fmt: skip
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", rich_help_panel=MEANS, help="No progress, no summary.")
]
Debug = Annotated[
    bool, typer.Option("--debug", rich_help_panel=MEANS, help="Show where an error comes from.")
]


def out(help_text: str) -> Any:
    """Return the option that says where results go."""
    return typer.Option("--out", "-o", metavar="OUT", rich_help_panel=INPUT, help=help_text)


def options(config: Path | None, **given: Any) -> RunOptions:
    """Return options from a file and the command line, whose texts are parsed here."""
    from connprops.options import parse_distr_types, parse_selection, read_options
    from connprops.resources import keep_fewer_heaps, reuse_freed_memory

    parsers: dict[str, Callable[[Any], Any]] = {
        "sel_src": parse_selection,
        "sel_dest": parse_selection,
        "sel_props": lambda text: [name for name in text.split(",") if name],
        "distr_types": lambda texts: parse_distr_types(texts) or None,
    }
    for name, parse in parsers.items():
        if given.get(name) is not None:
            given[name] = parse(given[name])
    found = read_options(config, **given)
    if found.resources().memory < _TIGHT:
        keep_fewer_heaps(give_back=True)
    else:
        reuse_freed_memory()
    return found
