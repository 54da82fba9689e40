"""Several edge populations in one command: a run of each, a page and a database over all.

Each has a folder of its own, named after it, which is that of a run like any other.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from connprops.display import Progress
from connprops.errors import ConnpropsError, ConnpropsWarning, OptionError, OutputError
from connprops.export.opening import open_network
from connprops.options import RunOptions
from connprops.query.database import DATABASE, write_joined
from connprops.run.record import RUN_FILE, CompleteRun, record_of
from connprops.run.run import checked_input, run
from connprops.sources.source import Network
from connprops.store.folder import RECORD, clean, new_generation
from connprops.store.writing import is_leftover, writing

INDEX = "index.html"
"""Name of the page that leads to the reports of all populations."""


@dataclass(frozen=True)
class SeveralRuns:
    """What the runs of several populations have computed, in one folder."""

    out: str
    runs: tuple[CompleteRun, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings of all runs, each with the name of its population."""
        return tuple(f"{each.population}: {text}" for each in self.runs for text in each.warnings)


def run_populations(
    circuit: str | Path,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
    *,
    overwrite: bool = False,
    verify: bool = False,
) -> CompleteRun | SeveralRuns:
    """Do a run for each edge population that ``options.population`` names: one, ``A,B``, or all.

    Parameters are those of :func:`connprops.run.run.run`, which does it where one is named. Of
    several, the folder ``out`` has a folder each, ``index.html``, and ``connprops.duckdb`` with the
    tables of all, each row with its ``population``. Nothing is written where the options do not
    fit one of them, or the folder holds something else.
    """
    options = options or RunOptions()
    names = named(circuit, options)
    if names is None:
        return run(circuit, out, options, progress, overwrite=overwrite, verify=verify)
    network = open_network(circuit, replace(options, population=None), options.columns)
    folder = Path(out) if out is not None else network.results_folder()
    _check_folder(folder)
    asked = {name: replace(options, population=name) for name in names}
    _check(network, asked)
    runs = tuple(
        run(circuit, folder / name, of_one, progress, overwrite=overwrite, verify=verify)
        for name, of_one in asked.items()
    )
    with new_generation(folder, (INDEX, DATABASE)) as stage:
        files = {name: folder / name / DATABASE for name in names}
        write_joined(stage / DATABASE, files, options.limits)
        (stage / INDEX).write_text(_page(network.name, runs), encoding="utf-8")
    return SeveralRuns(str(folder), runs)


def named(circuit: str | Path, options: RunOptions) -> list[str] | None:
    """Return the names of several populations, in order; None where there is one, or the default.

    A population whose name is ``all``, or has a comma, is one.
    """
    asked = options.population
    if asked is None or (asked != "all" and "," not in asked) or options.merge_populations:
        return None
    known = open_network(circuit, replace(options, population=None), options.columns).populations
    if asked in known:
        return None
    names = known if asked == "all" else [name.strip() for name in asked.split(",")]
    names = [*dict.fromkeys(name for name in names if name)]
    for name in names:
        if name not in known:
            raise OptionError.unknown("edge population", name, known)
    return names


def runs_in(folder: Path) -> tuple[CompleteRun, ...]:
    """Return the complete runs of the populations that a folder has, if any."""
    if not (folder / INDEX).is_file() or (folder / RUN_FILE).exists():
        return ()
    records = (record_of(place) for place in sorted(folder.iterdir()) if place.is_dir())
    return tuple(record for record in records if isinstance(record, CompleteRun))


def _check(network: Network, asked: dict[str, RunOptions]) -> None:
    """Raise where the options do not fit one of the populations, before anything is written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)  # each run gives its own
        for name, options in asked.items():
            try:
                checked_input(network, options, verify=False)
            except ConnpropsError as error:
                raise type(error)(f"Edge population {name!r}: {error}") from error


def _check_folder(folder: Path) -> None:
    """Raise unless a folder is new, empty, or one of several runs."""
    with writing(folder):
        if not folder.exists():
            return
        if folder.is_dir():
            clean(folder)
        items = [*folder.iterdir()] if folder.is_dir() else [folder]
    own = {INDEX, DATABASE, RECORD}
    for item in items:
        is_run = item.is_dir() and (record_of(item) is not None or not any(item.iterdir()))
        if item.name not in own and not is_run and not is_leftover(item):
            raise OutputError.of(
                f"{folder} holds something else", found=item.name,
                expected="a new or an empty folder, or that of earlier runs of several populations",
                hint="choose another folder with -o",
            )  # fmt: skip


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ border-bottom: 1px solid #8884; padding: .4rem .6rem; text-align: right }}
th:first-child, td:first-child {{ text-align: left; overflow-wrap: anywhere }}
</style>
</head>
<body>
<h1>{title}</h1>
<table>
<thead><tr><th>edge population</th><th>pathways</th><th>connections</th><th>synapses</th>
<th>properties</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p>The tables of all of them are in connprops.duckdb; each row has its population.</p>
</body>
</html>
"""


def _page(title: str, runs: Sequence[CompleteRun]) -> str:
    """Return the page that leads to the reports."""
    rows = [
        f'<tr><td><a href="{quote(each.population)}/report.html">{html.escape(each.population)}</a>'
        f"</td><td>{each.n_pathways:,}</td><td>{each.n_connections:,}</td>"
        f"<td>{each.n_synapses:,}</td><td>{len(each.properties):,}</td></tr>"
        for each in runs
    ]
    return _PAGE.format(title=html.escape(f"Synapses of {title}"), rows="\n".join(rows))
