"""All charts of statistics and a model, by name, and their files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts import fits, maps
from connprops.charts import pathway as charts
from connprops.charts import scores as score_charts
from connprops.charts.overview import overview
from connprops.charts.rows import (
    curves,
    following,
    is_whole,
    quantile_pairs,
    rows_of,
    synapse_counts,
    whole_bins,
    widened,
)
from connprops.charts.theme import LIGHT
from connprops.display import Progress
from connprops.distributions.table import model_statistics
from connprops.errors import OptionError, OutputError
from connprops.model.comparison import compare
from connprops.model.cross_validation import CrossValidation
from connprops.model.model import Model
from connprops.pathways import rows_of_types
from connprops.schema import Property
from connprops.statistics.statistics import Statistics
from connprops.store.folder import new_generation, output_file

Format = Literal["html", "svg", "png", "pdf", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)
"""Kinds of files that charts can be written as; each without a network."""

Chart = alt.LayerChart | alt.HConcatChart | alt.ConcatChart | alt.FacetChart

_DENSITY = 330
"""Pixels of the chart of a distribution, with its axis."""

_SHARPNESS = 1.5
"""Pixels of a picture in a notebook, for each of the chart."""

_VEGA_LITE = f"application/vnd.vegalite.{alt.SCHEMA_VERSION.split('.')[0]}+json"
"""Of the form that notebooks can be stored with; Altair's own name ends in ".json"."""


class _InNotebook:
    """What shows a chart in notebooks and on GitHub without a network, in our theme.

    JupyterLab and others draw the specification; the picture beside it is for those that do not. A
    renderer that was enabled in Altair goes first.
    """

    def _repr_mimebundle_(self, *include: Any, **exclude: Any) -> Any:
        if alt.renderers.active != "default":  # which needs a network
            return super()._repr_mimebundle_(*include, **exclude)  # type: ignore[misc]
        import vl_convert

        with alt.theme.enable(LIGHT.theme):
            spec = self.to_dict()  # type: ignore[attr-defined]
        picture = vl_convert.vegalite_to_png(spec, scale=_SHARPNESS)
        width, height = struct.unpack(">II", picture[16:24])  # as each PNG file begins
        size = {"width": int(width / _SHARPNESS), "height": int(height / _SHARPNESS)}
        said = spec.get("description", "a chart")
        shown = {_VEGA_LITE: spec, "image/png": picture, "text/plain": said}
        return shown, {"image/png": size}


@cache
def _kind_in_notebook(kind: type) -> type:
    return type(kind.__name__, (_InNotebook, kind), {})


def in_notebook(chart: Chart) -> Chart:
    """Return a chart, itself, as one that notebooks show without a network."""
    kind: type = type(chart)
    # Altair would put what is set into the specification.
    object.__setattr__(chart, "__class__", _kind_in_notebook(kind))
    return chart


def map_of(stats: Statistics, name: str, statistic: str = "mean") -> Chart:
    """Return the map of a statistic of a property: :meth:`Statistics.plot`."""
    units = {p.name: p.unit for p in stats.properties}
    _check_known("property", [name], units)
    types = maps.shown_types(stats.types, stats.pathways.collect())
    table = rows_of_types(stats.table.filter(pl.col("property") == name), types).collect()
    about = {"property": name, "statistic": statistic, "unit": units[name]}
    return in_notebook(maps.maps(table, pl.DataFrame(), types, **about))


def distributions_of(
    model: Model, source_type: str, target_type: str, properties: Sequence[str] | None = None
) -> Chart:
    """Return the distributions of a pathway: :meth:`Model.plot`."""
    _check_known("property", properties or (), model.units)
    model.pathways.number(source_type, target_type)
    where = dict(zip(schema.PATHWAY, (source_type, target_type), strict=True))
    rows, drawn = rows_of(model.marginals, **where), []
    for name in properties or model.units:
        of = model.distribution(name, source_type, target_type)
        whole, names = model.dtype(name) == "int", model.labels.get(name)
        ((first, width, share),) = curves(of, whole=whole)
        left = first + width * np.arange(len(share))
        origin = _origin(rows_of(rows, property=name), None)
        title = f"{name}: {source_type} → {target_type}"
        labels = charts.Labels(name, model.units[name], title, origin, whole, names)
        bins = pl.DataFrame({"left": left, "right": left + width, "share": share})
        drawn.append(charts.density(bins, labels))
    return in_notebook(maps.side_by_side(drawn, width=_DENSITY))


def pathway_chart(stats: Statistics, model: Model, name: str, pathway: tuple[str, str]) -> Chart:
    """Return data and model of a property of a pathway; the model alone where there are no data."""
    of_one = [p for p in stats.properties if p.name == name]
    drawn = dict(_pathway_charts(stats, model, of_one, pathway))
    return drawn.get(f"histogram_{name}") or distributions_of(model, *pathway, [name])


def plot(
    stats: Statistics,
    model: Model,
    out_dir: str | Path | None = None,
    formats: Sequence[Format] = ("html",),
    *,
    properties: Sequence[str] | None = None,
    statistics: Sequence[str] = ("mean", "std", "shared_within"),
    pathway: tuple[str, str] | None = None,
    other: Model | None = None,
    held_out: CrossValidation | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Chart]:
    """Draw statistics and a model.

    Parameters
    ----------
    stats, model
        As :func:`connprops.extract` and :func:`connprops.build` return them.
    out_dir
        Folder to write the charts to; None for none.
    formats
        Of the files: any of :data:`FORMATS`.
    properties
        Which ones to draw; None for all.
    statistics
        Which ones to map, of data, of the model, and their difference.
    pathway
        Source and target type of the pathway whose distributions are drawn; None for the one
        with most connections.
    other
        Another model, to be compared with this one.
    held_out
        Scores on held-out data, as :func:`connprops.cross_validate` returns them.
    overwrite
        Whether to replace files that are there.
    progress
        Called as files get written.

    Returns
    -------
    dict
        Charts by name: ``overview``, ``scores`` where the model has any,
        ``synapses_per_connection`` and, for each property P, ``mean_P`` (and so on for each
        statistic), ``levels_P``, ``goodness_P``, ``wasserstein_P``, ``histogram_P``, ``roc_P``,
        ``qq_P``, ``cdf_P``, and, where the model has correlations, ``correlations`` and
        ``strongest_correlation``; ``comparison`` with another model, ``cross_validation``. What
        has no rows to draw is left out; of properties whose values are labels, so is what takes
        values for numbers.

    Raises
    ------
    OptionError
        Where a property, statistic, pathway or format is not known.
    OutputError
        Where a file is there already and ``overwrite`` is false, or cannot be written.
    """
    known = {p.name: p for p in stats.properties}
    _check_known("format of charts", formats, FORMATS)
    _check_known("property", properties or (), known)
    chosen = [known[name] for name in dict.fromkeys(properties or known)]
    drawn = dict(_charts(stats, model, chosen, statistics, pathway))
    if other is not None:
        drawn["comparison"] = score_charts.comparison(compare(model, other))
    if held_out is not None:
        drawn["cross_validation"] = score_charts.cross_validation(held_out.summary())
    if out_dir is not None:
        _write(drawn, Path(out_dir), formats, progress, overwrite=overwrite)
    return {name: in_notebook(chart) for name, chart in drawn.items()}


def _check_known(what: str, names: Iterable[object], known: Iterable[object]) -> None:
    for name in names:
        if name not in known:
            raise OptionError.unknown(what, name, known)


def _charts(
    stats: Statistics,
    model: Model,
    properties: Sequence[Property],
    statistics: Sequence[str],
    pathway: tuple[str, str] | None,
) -> Iterator[tuple[str, Chart]]:
    every, whole, pathways = stats, model, stats.pathways.collect()
    types = maps.shown_types(stats.types, pathways)
    if len(types) < len(stats.types):
        stats, model = stats.of_types(types), model.of_types(types)
    table, order = stats.table.collect(), stats.order_statistics.collect()
    if numeric := {p.name: p.unit for p in properties if p.labels is None}:
        yield "overview", overview(table, numeric)
    if model.scores is not None and len(model.scores):
        yield "scores", fits.scores(model.scores)
    if any(p.name == schema.N_SYN_PER_CONN for p in properties):
        bins = synapse_counts(stats.values.collect(), order, model)
        labels = charts.Labels(schema.N_SYN_PER_CONN, "1", "Synapses per connection", whole=True)
        yield "synapses_per_connection", charts.histogram(bins, labels, counted="connections")
    of_model = model_statistics(model)
    for of in properties:
        yield from _maps_of(of, table, of_model, types, model.fits, statistics)
    if len(model.correlations):
        pairs = model.correlations.rename({"value": "r"})
        pair = score_charts.strongest(pairs)
        yield "strongest_correlation", score_charts.correlation_map(pairs, types, *pair)
    chosen = _pathway(pathways, pathway)
    if chosen is not None:
        ends = pl.col("type") == pl.when(side="source").then(pl.lit(chosen[0])).otherwise(
            pl.lit(chosen[1])
        )
        of_chosen = whole.of_types(whole.types.filter(ends))
        yield from _pathway_charts(every, of_chosen, properties, chosen)


def _maps_of(
    of: Property,
    table: pl.DataFrame,
    of_model: pl.DataFrame,
    types: pl.DataFrame,
    fitted: pl.DataFrame | None,
    statistics: Sequence[str],
) -> Iterator[tuple[str, Chart]]:
    common: dict[str, Any] = {"property": of.name, "unit": of.unit}
    # Numbers of synapses belong to the connection as a whole; codes are no quantities.
    are_counts, are_codes = of.name == schema.N_SYN_PER_CONN, of.labels is not None
    for statistic in statistics:
        if not (are_counts if statistic == "shared_within" else are_codes):
            drawn = maps.maps(table, of_model, types, statistic=statistic, **common)
            yield f"{statistic}_{of.name}", drawn
    yield f"levels_{of.name}", maps.level_map(of_model, types, property=of.name)
    if fitted is not None:
        yield f"goodness_{of.name}", fits.goodness(fitted, types, **common)
        if not are_codes:
            far = fits.goodness(fitted, types, measure="wasserstein", **common)
            yield f"wasserstein_{of.name}", far


def _pathway_charts(
    stats: Statistics,
    model: Model,
    properties: Iterable[Property],
    pathway: tuple[str, str],
) -> Iterator[tuple[str, Chart]]:
    where = dict(zip(schema.PATHWAY, pathway, strict=True))
    conditions = [pl.col(column) == value for column, value in where.items()]
    histograms = model.expected(stats.histograms.filter(conditions).collect())
    order = stats.order_statistics.filter(conditions).collect()
    n_values = stats.table.filter(conditions).select("property", "n").collect()
    rows = rows_of(model.marginals, **where)
    for of in properties:
        name, whole = of.name, is_whole(of)
        title = f"{name}: {pathway[0]} → {pathway[1]}"
        origin = _origin(rows_of(rows, property=name), rows_of(n_values, property=name))
        labels = charts.Labels(name, of.unit, title, origin, whole, of.labels)
        bins = rows_of(histograms, property=name)
        if len(bins):
            bars = whole_bins(bins) if whole else model.expected(following(bins))
            yield f"histogram_{name}", charts.histogram(bars, labels)
            if of.labels is not None:
                continue
            if bins["expected"].is_not_null().all():  # the model knows the pathway
                yield f"roc_{name}", charts.roc(widened(bins, model), title)
        pairs = quantile_pairs(rows_of(order, property=name), model)
        if len(pairs):
            points = pairs.select("p", "data", "model").explode("p", "data", "model")
            yield f"qq_{name}", charts.qq(points, labels)
            discrete = all(d.family.kind == "discrete" for d in model.distributions(name))
            yield f"cdf_{name}", charts.cdf(points, labels, discrete=discrete)
    copula = rows_of(model.correlations, **where).rename({"value": "r"})
    if len(copula):
        title = f"Correlations: {pathway[0]} → {pathway[1]}"
        yield "correlations", score_charts.correlations(copula, title=title)


def _origin(rows: pl.DataFrame, n_values: pl.DataFrame | None) -> str:
    """Return the number of values, and where the model's rows come from, in words."""
    n = "" if n_values is None else f"{n_values['n'].sum():,} values"
    if rows.is_empty():
        return n
    family, level = rows["distribution"][0], int(rows["level"][0])
    leans = (rows["value"] != rows["own_value"]).any()
    to_what = f"fitted to {'its values' if n_values is None else 'them'}"
    if leans:
        to_what += " and to similar pathways"
    words = f"{family}, {to_what if level < 0 else f'borrowed from level {level}'}"
    return f"{n}; {words}" if n else words


def _pathway(pathways: pl.DataFrame, name: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the pathway asked for, or the one with most connections; None if there is none."""
    most = pathways.with_row_index("row").sort("n_connections", "row", descending=[True, False])
    names = most.select(pl.col(schema.PATHWAY).cast(pl.String)).rows()
    if name is not None:
        _check_known("pathway", [tuple(name)], names)
        return name
    return names[0] if names else None


def _write(
    drawn: Mapping[str, Chart],
    folder: Path,
    formats: Sequence[Format],
    progress: Progress | None,
    *,
    overwrite: bool,
) -> None:
    files = {
        folder / f"{stem}.{kind}": drawn[name]
        for name, stem in _stems(drawn).items()
        for kind in formats
    }
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise OutputError.of(
            f"{there[0]} exists already, and {len(there) - 1} others that would be written",
            hint="give another folder, or overwrite (overwrite=True, --overwrite)",
        )
    with new_generation(folder) as stage:
        for done, (file, chart) in enumerate(files.items(), 1):
            write_chart(chart, stage / file.name)
            if progress:
                progress("plot", done, len(files), "files")


def check_chart(file: Path) -> Format:
    """Return the format that a chart's file has by its name; refuse others."""
    for kind in FORMATS:
        if file.suffix == f".{kind}":
            return kind
    raise OptionError.unknown("format of charts", file.name, [f"*.{kind}" for kind in FORMATS])


def write_chart(chart: Chart, file: Path, *, overwrite: bool = False) -> Path:
    """Write one chart, in the format that the file's name says; HTML needs no network."""
    kind = check_chart(file)
    with alt.theme.enable(LIGHT.theme), output_file(file, overwrite=overwrite) as aside:
        options: dict[str, Any] = {"inline": True} if kind == "html" else {}
        chart.save(str(aside), format=kind, json_kwds={"cls": _ForScripts}, **options)
    return file


class _ForScripts(json.JSONEncoder):
    """JSON that a page can hold in a script: no name in it ends the script."""

    def encode(self, o: Any) -> str:
        return super().encode(o).replace("<", "\\u003c")


def _stems(names: Iterable[str]) -> dict[str, str]:
    """Return file names without ending, each its own whatever the case, safe on any system."""
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        stem = plain = re.sub(r"[^\w.-]+", "_", name)[:120]
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{plain}_{number}"
        taken.add(stem.casefold())
        stems[name] = stem
    return stems
