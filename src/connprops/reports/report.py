"""The report: one HTML file in which a pathway can be found, opened and judged, offline.

The file holds the charts' specifications, which come from :mod:`connprops.charts.pathway`, the Vega
libraries, a program that puts them together, and the tables, packed by property. It loads
nothing: its content security policy forbids all requests, and all scripts but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
import subprocess
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl

from connprops.charts import maps
from connprops.charts import pathway as charts
from connprops.charts.scores import correlation_matrix
from connprops.charts.theme import DARK, LIGHT, Palette
from connprops.display import Progress
from connprops.model.model import Model
from connprops.reports.data import ReportTables
from connprops.reports.expected import read_expected
from connprops.resources import release_memory
from connprops.statistics.statistics import Statistics
from connprops.store.folder import write_text
from connprops.store.writing import refuse_existing

_SIDES = {"light": LIGHT, "dark": DARK}
_ROWS_AT_MOST = 64_000
"""Pathways times properties that are shown where there are too many types to show all."""

_MAP_SIZE = 540
"""Pixels of a map: two of them stand side by side on a screen 1440 wide."""


def report(
    stats: Statistics,
    model: Model,
    path: str | Path,
    *,
    title: str = "Synapse properties",
    facts: Mapping[str, Any] | None = None,
    warnings: Iterable[str] = (),
    expected: pl.DataFrame | str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the report of statistics and a model as one HTML file; return its path.

    Parameters
    ----------
    stats, model
        As :func:`connprops.extract` and :func:`connprops.build` return them.
    path
        The file.
    title
        Its heading.
    facts
        What else is to be told of the run: options, versions, times; name and value.
    warnings
        To be shown on top, beside those that follow from the tables.
    expected
        Means to compare data and model with, pathway by pathway: a frame or a Parquet file of
        source_type, target_type, property and mean.
    overwrite
        Whether to replace a file that is there.
    progress
        Called as properties get done.

    Raises
    ------
    DatasetError
        Where the table of expected means cannot be read or lacks a column.
    OutputError
        Where the file is there already and ``overwrite`` is false, or cannot be written.
    """
    file = Path(path)
    if not overwrite:  # before the work, not after it
        refuse_existing(file)
    means = None if expected is None else read_expected(expected)
    page = _page(stats, model, title, facts or {}, warnings, means, progress)
    return write_text(file, page, overwrite=overwrite)


def _what_is_shown(stats: Statistics, every: Statistics) -> str:
    """Return which part of all types this page is of: its counts and words are of no others."""
    counts = [pl.len(), pl.col("n_connections").sum()]
    shown, of_all = (of.pathways.select(*counts).collect().row(0) for of in (stats, every))
    return (
        f"This page is of the {len(stats.types):,} types with most connections, of "
        f"{len(every.types):,} of both sides: {shown[1]:,} of {of_all[1]:,} connections, in "
        f"{shown[0]:,} of {of_all[0]:,} pathways. Tables and the summary of the run have all"
    )


def _page(
    stats: Statistics,
    model: Model,
    title: str,
    facts: Mapping[str, Any],
    warnings: Iterable[str],
    expected: pl.DataFrame | None,
    progress: Progress | None,
) -> str:
    n = math.isqrt(_ROWS_AT_MOST // max(len(stats.properties), 1))
    types = maps.shown_types(stats.types, stats.pathways.collect(), min(n, maps.TYPES_AT_MOST))
    if len(types) < len(stats.types):
        every, (stats, model) = stats, (stats.of_types(types), model.of_types(types))
        warnings = [_what_is_shown(stats, every), *warnings]
    tables = ReportTables(stats, model)
    release_memory()  # for the process to come
    bundle = _vega()
    packed = {}
    for i, of in enumerate(stats.properties):
        # Each at once: unpacked, all together take a hundred times as much.
        packed[f"property-{i}"] = _packed(tables.property_columns(of))
        if progress:
            progress("report", i + 1, len(stats.properties), "properties")
    if correlations := tables.correlation_columns():
        packed["correlations"] = _packed(correlations)
    names = [of.name for of in stats.properties]
    index = tables.overview(expected) | {
        "specs": {
            side: _map_specs(tables.types, palette) | _pathway_specs(names, palette)
            for side, palette in _SIDES.items()
        },
        "diverging": {side: palette.diverging for side, palette in _SIDES.items()},
        "identity": _identity_line(stats.identity),
        "correlated": correlations["pairs"] if correlations else [],
        "facts": [[str(name), _plain(value)] for name, value in facts.items()],
        "warnings": [*map(str, warnings), *tables.warnings()],
    }
    vega = f"{{{bundle.result()}}}"  # a block: its one-letter constants are nobody's business
    program = _resource("report.js")
    parts = {
        "title": html.escape(title),
        "policy": html.escape(_policy(vega, program)),
        "style": _resource("report.css"),
        # Within a script element only "<" can end it, or open a comment.
        "index": _json(index).replace("<", "\\u003c"),
        "chunks": "\n".join(
            f'<script id="{name}" type="text/plain">{chunk}</script>'
            for name, chunk in packed.items()
        ),
        "vega": vega,
        "program": program,
    }
    template = _resource("report_template.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], template)


def _policy(*scripts: str) -> str:
    """Return a content security policy: no request at all, no script but these."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"
    )


_EMBED = "window.vegaEmbed = vegaEmbed;"

_BUNDLE = """
import sys, vl_convert
bundle = vl_convert.javascript_bundle(*sys.argv[1:])
sys.stdout.buffer.write(bundle.encode())
"""


@cache
def _vega() -> Future[str]:
    """Return Vega, Vega-Lite and Vega-Embed as one script, of the version that Altair writes.

    They are put together in a process of their own, once, while the tables are: it takes seconds.
    """
    pool = ThreadPoolExecutor(1)
    bundle = pool.submit(_bundle, "_".join(alt.SCHEMA_VERSION.split(".")[:2]))
    pool.shutdown(wait=False)
    return bundle


def _bundle(version: str) -> str:
    command = [sys.executable, "-P", "-c", _BUNDLE, _EMBED, version]
    try:
        return subprocess.check_output(  # noqa: S603 - our own words
            command, encoding="utf-8", stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):  # no room for another process
        import vl_convert

        return vl_convert.javascript_bundle(_EMBED, version)


def _resource(name: str) -> str:
    return resources.files("connprops.reports").joinpath(name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return JSON; a number that it cannot hold, as a range of 2 * 1.8e308 has, is null."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        finite = json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(finite, separators=(",", ":"), allow_nan=False)


def _packed(value: Any) -> str:
    return base64.b64encode(zlib.compress(_json(value).encode(), 6)).decode()


def _plain(value: Any) -> str | int | float:
    """Return a fact as it can be shown; JSON has no NaN or infinity."""
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


def _identity_line(identity: Mapping[str, Any]) -> str:
    """Return of which circuit the data are, without what only a program compares."""
    return ", ".join(
        _identity_line(value) if isinstance(value, Mapping) else f"{name} {value}"
        for name, value in identity.items()
        if isinstance(value, str | Mapping) and not name.endswith(("sha256", "version"))
    )


def _spec(chart: alt.LayerChart, palette: Palette) -> dict[str, Any]:
    with alt.theme.enable(palette.theme):
        # The charts' own tests validate them: here it would take seconds.
        spec: dict[str, Any] = chart.to_dict(validate=False)
    return spec


def _pathway_specs(names: Sequence[str], palette: Palette) -> dict[str, Any]:
    """Return the specifications of a pathway's charts, for rows named bins, points and pairs.

    The program puts a property's name and unit in place of ``property (unit)``.
    """
    drawn = {"correlations": correlation_matrix(alt.NamedData("pairs"), names, palette=palette)}
    for values in ("whole", "real"):
        labels = charts.Labels("property", "unit", "", whole=values == "whole")
        bins, points = (alt.NamedData(name) for name in ("bins", "points"))
        drawn[f"histogram {values}"] = charts.histogram(bins, labels, palette=palette)
        drawn[f"qq {values}"] = charts.qq(points, labels, palette=palette)
    return {name: _spec(chart, palette) for name, chart in drawn.items()}


def _map_specs(types: pl.DataFrame, palette: Palette) -> dict[str, Any]:
    """Return the specifications of maps by kind, for rows named cells and missing.

    A frame is around the pathway that two signals of the view name.
    """
    specs = {}
    cells, missing = alt.NamedData("cells"), alt.NamedData("missing")
    is_chosen = "datum.source_type === chosen_source && datum.target_type === chosen_target"
    frames = [
        alt.Chart(data)
        .transform_filter(is_chosen)
        .mark_rect(fill=None, stroke=palette.ink, strokeWidth=2.5)
        .encode(x=alt.X(maps.TARGET, type="nominal"), y=alt.Y(maps.SOURCE, type="nominal"))
        for data in (cells, missing)
    ]
    chosen = [alt.param(name=f"chosen_{side}", value="") for side in ("source", "target")]
    look: dict[str, Any] = {"size": _MAP_SIZE, "palette": palette}
    for kind in ("quantity", "shared", "agreement", "level"):
        scale = alt.Scale(type="linear", domain=[0, 1]) if kind == "quantity" else None
        style = maps.MapStyle("Pathways", "value", scale, kind)
        drawn = maps.heat_map(cells, missing, types, "value", style, **look)
        framed: alt.LayerChart = drawn + frames[0] + frames[1]
        specs[kind] = _spec(framed.add_params(*chosen), palette)
    return specs
