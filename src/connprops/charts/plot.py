"""All charts of statistics and a model, by name, and their files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts import fits, maps, overview
from connprops.charts import pathway as charts
from connprops.charts import scores as score_charts
from connprops.charts.roc import roc_chart, roc_curve
from connprops.charts.rows import (
    model_statistics,
    quantile_pairs,
    rows_of,
    synapse_counts,
    whole_bins,
    whole_numbers,
    widened,
)
from connprops.charts.theme import LIGHT
from connprops.errors import OptionError, OutputError
from connprops.model.comparison import compare
from connprops.progress import Progress
from connprops.store.writing import replacing

if TYPE_CHECKING:
    from connprops.model.cross_validation import CrossValidation
    from connprops.model.model import Model
    from connprops.statistics.statistics import Statistics

Format = Literal["html", "svg", "png", "pdf", "json"]
FORMATS: tuple[Format, ...] = ("html", "svg", "png", "pdf", "json")
"""Kinds of files that charts can be written as; each without a network."""

Chart = alt.LayerChart | alt.HConcatChart | alt.ConcatChart | alt.FacetChart


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
        Scores on data held back, as :func:`connprops.cross_validate` returns them.
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
        has no rows to draw is left out.

    Raises
    ------
    OptionError
        Where a property, statistic, pathway or format is not known.
    OutputError
        Where a file is there already and ``overwrite`` is false, or cannot be written.
    """
    for kind in formats:
        if kind not in FORMATS:
            raise OptionError.unknown("format of charts", kind, FORMATS)
    units = {p.name: p.unit for p in stats.properties}
    for name in properties or ():
        if name not in units:
            raise OptionError.unknown("property", name, units)
    chosen = {name: units[name] for name in properties or units}
    drawn = dict(_charts(stats, model, chosen, statistics, pathway))
    if other is not None:
        drawn["comparison"] = score_charts.comparison(compare(model, other))
    if held_out is not None:
        drawn["cross_validation"] = score_charts.cross_validation(held_out.summary())
    if out_dir is not None:
        _write(drawn, Path(out_dir), formats, progress, overwrite=overwrite)
    return drawn


def _charts(
    stats: Statistics,
    model: Model,
    units: Mapping[str, str],
    statistics: Sequence[str],
    pathway: tuple[str, str] | None,
) -> Iterator[tuple[str, Chart]]:
    types, table, order = stats.types, stats.table.collect(), stats.order_statistics.collect()
    yield "overview", overview.overview(table, units)
    if model.scores is not None and len(model.scores):
        yield "scores", fits.scores(model.scores)
    if schema.N_SYN_PER_CONN in units:
        bins = synapse_counts(stats.values.collect(), order, model)
        yield "synapses_per_connection", overview.synapses_per_connection(bins)
    of_model = model_statistics(model)
    for name, unit in units.items():
        for statistic in statistics:
            if statistic == "shared_within" and name == schema.N_SYN_PER_CONN:
                continue  # it belongs to the connection as a whole
            yield (
                f"{statistic}_{name}",
                maps.maps(table, of_model, types, property=name, statistic=statistic, unit=unit),
            )
        yield f"levels_{name}", maps.level_map(of_model, types, property=name)
        if model.fits is not None:
            common: dict[str, Any] = {"property": name, "unit": unit}
            yield f"goodness_{name}", fits.goodness(model.fits, types, **common)
            yield (
                f"wasserstein_{name}",
                fits.goodness(model.fits, types, measure="wasserstein", **common),
            )
    if len(model.correlations):
        pairs = model.correlations.rename({"value": "r"})
        yield (
            "strongest_correlation",
            score_charts.correlation_map(pairs, types, *score_charts.strongest(pairs)),
        )
    one = _pathway(stats.pathways.collect(), pathway)
    if one is not None:
        yield from _pathway_charts(stats, model, units, one)


def _pathway_charts(
    stats: Statistics, model: Model, units: Mapping[str, str], pathway: tuple[str, str]
) -> Iterator[tuple[str, Chart]]:
    where = dict(zip(schema.PATHWAY, pathway, strict=True))
    histograms = model.expected(_of(stats.histograms, where).collect())
    order = _of(stats.order_statistics, where).collect()
    discrete, whole = _discrete(model, units), whole_numbers(stats.properties)
    distributions = _of(model.marginals.lazy(), where).collect()
    n_values = _of(stats.table, where).select("property", "n").collect()
    for name, unit in units.items():
        common: dict[str, Any] = {
            "property": name,
            "unit": unit,
            "title": f"{name}: {pathway[0]} → {pathway[1]}",
            "subtitle": _origin(
                rows_of(distributions, property=name), rows_of(n_values, property=name)
            ),
            "whole": name in whole,
        }
        bins = rows_of(histograms, property=name)
        if len(bins):
            bars = whole_bins(bins) if name in whole else bins
            yield f"histogram_{name}", charts.histogram(bars, **common)
            if bins["expected"].is_not_null().all():  # the model knows the pathway
                yield f"roc_{name}", _roc(widened(bins, model), common["title"])
        pairs = quantile_pairs(rows_of(order, property=name), model)
        if len(pairs):
            points = pairs.select("p", "data", "model").explode("p", "data", "model")
            yield f"qq_{name}", charts.qq(points, **common)
            yield f"cdf_{name}", charts.cdf(points, discrete=name in discrete, **common)

    copula = model.correlations.filter(
        *(pl.col(column).cast(pl.String) == value for column, value in where.items())
    ).rename({"value": "r"})
    if len(copula):
        title = f"Correlations: {pathway[0]} → {pathway[1]}"
        yield "correlations", score_charts.correlations(copula, title=title)


def _origin(distributions: pl.DataFrame, n_values: pl.DataFrame) -> str:
    """Return the values of a pathway, and where the model of them comes from, in words."""
    n = f"{n_values['n'].sum():,} values"
    if distributions.is_empty():
        return n
    family, level = distributions["distribution"][0], int(distributions["level"][0])
    return f"{n}; {family}, {'fitted to them' if level < 0 else f'borrowed from level {level}'}"


def _roc(bins: pl.DataFrame, title: str) -> Chart:
    """Draw how far a threshold can tell data and model apart, with nothing drawn at random."""
    edges = np.append(bins["left"].to_numpy(), bins["right"][-1])
    false, true, auc, error = roc_curve(
        edges, bins["count"].to_numpy(), bins["expected"].to_numpy()
    )
    areas = f"AUC - 0.5 = {auc:z.3f}, ERR = {error:.3f}"
    return roc_chart(false, true, title=title, subtitle=areas)


def _of(frame: pl.LazyFrame, where: Mapping[str, str]) -> pl.LazyFrame:
    return frame.filter(*(pl.col(column) == value for column, value in where.items()))


def _discrete(model: Model, names: Mapping[str, str]) -> set[str]:
    """Return the properties of which all families are discrete."""
    return {
        name
        for name in names
        if all(each.family.kind == "discrete" for each in model.distributions(name))
    }  # fmt: skip


def _pathway(pathways: pl.DataFrame, wanted: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the pathway asked for, or the one with most connections; None if there is none."""
    names = pathways.select(pl.col(c).cast(pl.String) for c in schema.PATHWAY).rows()
    if wanted is not None:
        if tuple(wanted) not in names:
            raise OptionError.unknown("pathway", wanted, names)
        return wanted[0], wanted[1]
    if not names:
        return None
    most = pathways.with_row_index("row").sort("n_connections", "row", descending=[True, False])
    source, target = names[most["row"][0]]
    return source, target


def _write(
    drawn: Mapping[str, Chart],
    folder: Path,
    formats: Sequence[Format],
    progress: Progress | None,
    *,
    overwrite: bool,
) -> None:
    files = {
        folder / f"{stem}.{kind}": (name, kind)
        for name, stem in _stems(drawn).items()
        for kind in formats
    }
    there = [file for file in files if file.exists()]
    if there and not overwrite:
        raise OutputError.of(
            f"{there[0]} exists already, and {len(there) - 1} others that would be written",
            hint="give another folder, or overwrite (overwrite=True, --overwrite)",
        )
    for done, (file, (name, _)) in enumerate(files.items(), 1):
        write_chart(drawn[name], file, overwrite=overwrite)
        if progress:
            progress("plot", done, len(files), "files")


def check_chart(file: Path) -> Format:
    """Return the format that a chart's file has by its name.

    Raises
    ------
    OptionError
        Where there is no such format.
    """
    for kind in FORMATS:
        if file.suffix == f".{kind}":
            return kind
    raise OptionError.unknown("format of charts", file.name, [f"*.{kind}" for kind in FORMATS])


def write_chart(chart: Chart, file: Path, *, overwrite: bool = False) -> Path:
    """Write one chart, in the format that the file's name says; HTML needs no network.

    Raises
    ------
    OutputError
        Where the file is there already and ``overwrite`` is false, or cannot be written.
    """
    kind = check_chart(file)
    with alt.theme.enable(LIGHT.theme), replacing(file, overwrite=overwrite) as aside:
        if kind == "html":
            chart.save(str(aside), format=kind, inline=True)
        else:
            chart.save(str(aside), format=kind)
    return file


def _stems(names: Mapping[str, Any]) -> dict[str, str]:
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
