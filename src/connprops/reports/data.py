"""What the report holds: the tables as columns, packed so that a browser reads them quickly.

Pathways are numbers here: the place of the source type times the number of target types plus
the place of the target type, both in the order of the maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts import maps
from connprops.charts.rows import (
    QUANTILES,
    model_statistics,
    quantile_pairs,
    rows_of,
    whole_bins,
    whole_numbers,
)
from connprops.charts.theme import diverging_scale, sequential_scale, ticks
from connprops.families.registry import FAMILIES

if TYPE_CHECKING:
    from connprops.model.model import Model
    from connprops.schema import Property
    from connprops.statistics.statistics import Statistics

BINS_AT_MOST = 1_000_000
"""Bins in a report, of all histograms together; beyond, neighbours are merged."""

QUANTILES_AT_MOST = 500_000
"""Quantiles in a report, of all pathways and properties together."""

_SAME = 1e-3
"""Widths of bins that differ by less, relatively, are the same."""

_LISTED = 12
_WORST = 200
_ENOUGH = 10
_POINTS = range(9, 42)
_DIGITS = 6
"""Of numbers whose difference from others is shown."""

_DIGITS_ALONE = 4

_MOMENTS = ("mean", "std", "min", "q05", "q25", "q50", "q75", "q95", "max")
_STATISTICS = (*_MOMENTS, "n", "n_unique", "skewness", "kurtosis")
_MEASURES = {
    "ks": "Kolmogorov-Smirnov distance (1)",
    "wasserstein": "Wasserstein distance (unit of the property)",
    "loglik": "log-likelihood (1)",
    "aicc": "AICc (1)",
    "bic": "BIC (1)",
}
_BORROWED = (
    "same source type, target layer and class",
    "same source type, target class",
    "same layers and classes",
    "same classes",
    "all pathways",
)


def _points(n_samples: int) -> int:
    """Return how many quantiles of a sample to show; 0 where those of the statistics must do."""
    points = min(QUANTILES_AT_MOST // max(n_samples, 1), _POINTS.stop - 1)
    return points if points in _POINTS else 0


@dataclass(frozen=True)
class Tables:
    """The tables of statistics and model, with pathways as numbers in the order of types."""

    sources: list[str]
    targets: list[str]
    types: pl.DataFrame
    pathways: pl.DataFrame
    statistics: pl.DataFrame
    histograms: pl.DataFrame
    quantiles: pl.DataFrame
    model: pl.DataFrame
    model_statistics: pl.DataFrame
    fits: pl.DataFrame
    correlations: pl.DataFrame
    merged: int  # neighbouring bins of histograms that become one in the report

    @classmethod
    def of(cls, stats: Statistics, model: Model) -> Tables:
        """Collect the tables of statistics and a model."""
        sources, targets = (maps.type_order(stats.types, side) for side in ("source", "target"))

        def numbered(frame: pl.DataFrame) -> pl.DataFrame:
            source, target = (
                pl.col(column)
                .cast(pl.String).cast(pl.Enum(order)).to_physical().cast(pl.Int64)
                for column, order in zip(schema.PATHWAY, (sources, targets), strict=True)
            )  # fmt: skip
            words = ("property", "other_property", "distribution", "status")
            names = [c for c in words if c in frame.columns]
            return frame.with_columns(
                (source * len(targets) + target).alias("pathway"),
                pl.col(names).cast(pl.String),
            ).sort("pathway", maintain_order=True)

        fits = model.fits
        if fits is None:
            fits = pl.DataFrame(schema=schema.FITS.polars_schema())
        order = stats.order_statistics.collect()
        points = _points(len(order))
        shown = order if points else order.head(0)
        histograms = _bars(model.expected(stats.histograms.collect()), stats.properties)
        return cls(
            sources,
            targets,
            stats.types,
            numbered(stats.pathways.collect()),
            numbered(stats.table.collect()),
            numbered(histograms),
            numbered(quantile_pairs(shown, model, at_most=points)),
            numbered(model.marginals),
            numbered(model_statistics(model)),
            numbered(fits),
            numbered(model.correlations),
            max(1, math.ceil(len(histograms) / BINS_AT_MOST)),
        )


def _bars(histograms: pl.DataFrame, properties: Sequence[Property]) -> pl.DataFrame:
    """Return histograms as they are drawn: those of whole numbers with a bin about each."""
    whole = pl.col("property").cast(pl.String).is_in(list(whole_numbers(properties)))
    return pl.concat(
        [histograms.filter(~whole), whole_bins(histograms.filter(whole))], how="vertical_relaxed"
    )


def _digits(name: str) -> int:
    return _DIGITS if name in {"mean", "std", *QUANTILES} else _DIGITS_ALONE


def _rounded(column: pl.Series | Sequence[Any], digits: int = _DIGITS) -> list[Any]:
    """Return numbers with so many significant digits; null for what is not finite."""
    series = column if isinstance(column, pl.Series) else pl.Series(column)
    if series.dtype == pl.List:
        lengths = series.list.len()
        flat = _rounded(series.explode(empty_as_null=False), digits)
        ends = np.cumsum(lengths.to_numpy())
        return [flat[e - n : e] for e, n in zip(ends.tolist(), lengths.to_list(), strict=True)]
    if not series.dtype.is_float():
        return series.to_list()
    values = series.fill_null(float("nan")).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
    places = np.clip(np.where(np.isfinite(places), places, 0.0), -300, 300)
    up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
    rounded = np.round(values / down * up) / up * down
    # As Python's own numbers: JSON has shorter words for those that are whole.
    words = rounded.astype(object)
    whole = (rounded == np.rint(rounded)) & (np.abs(rounded) < 2**53)
    words[whole] = rounded[whole].astype(np.int64)
    words[~np.isfinite(rounded)] = None
    found: list[Any] = words.tolist()
    return found


def _pathways(rows: pl.DataFrame) -> list[int]:
    """Return the pathways of rows, each less the one before: most of these numbers are 1."""
    steps: list[int] = rows["pathway"].diff().fill_null(rows["pathway"]).to_list()
    return steps


def property_columns(tables: Tables, of: Property) -> dict[str, Any]:
    """Return all that the report knows of one property, as columns."""
    name, unit = of.name, of.unit
    statistics = rows_of(tables.statistics, property=name)
    evidence = _evidence(tables, name)
    return {
        "statistics": {
            "pathway": _pathways(statistics),
            **{s: _rounded(statistics[s], _digits(s)) for s in _STATISTICS},
            "shared_within": statistics["shared_within"].to_list(),
        },
        "histograms": _histograms(rows_of(tables.histograms, property=name), tables.merged),
        "quantiles": _quantiles(rows_of(tables.quantiles, property=name)),
        "model": _model_columns(tables, evidence, name),
        "maps": _map_drawings(statistics, evidence, name, unit),
    }


def _evidence(tables: Tables, name: str) -> pl.DataFrame:
    """Return one row per pathway: what the model says, and its fit's evidence."""
    fits = rows_of(tables.fits, property=name).select(
        "pathway", "n_pathways", "n", "status", "message", *_MEASURES
    )
    return rows_of(tables.model_statistics, property=name).join(
        fits, on="pathway", how="left", maintain_order="left"
    )


def _histograms(rows: pl.DataFrame, merged: int) -> dict[str, Any]:
    """Return counts, expected counts and edges.

    Edges are two, and the bins' width, where all bins are alike but the last, which may be
    narrower; else all edges.
    """
    cells = (
        rows.sort("pathway", "bin")
        .group_by("pathway", pl.col("bin") // merged, maintain_order=True)
        .agg(
            pl.col("left").first(), pl.col("right").last(), pl.col("count").sum(),
            pl.col("expected").sum(),
        )
        .with_columns((pl.col("right") - pl.col("left")).alias("width"))
        .group_by("pathway", maintain_order=True)
        .agg(
            pl.col("left"), pl.col("right").last(), pl.col("count"), pl.col("expected"),
            pl.col("width").first(),
            even=(pl.col("width").slice(0, pl.len() - 1) / pl.col("width").first() - 1)
            .abs().max().fill_null(0.0) <= _SAME,
            last=pl.col("width").last() <= (1 + _SAME) * pl.col("width").first(),
        )
        .with_columns(pl.col("even") & pl.col("last"))
        .with_columns(
            edges=pl.when("even")
            .then(pl.concat_list(pl.col("left").list.first(), "right"))
            .otherwise(pl.concat_list("left", "right"))
        )
    )  # fmt: skip
    return {
        "pathway": _pathways(cells),
        "edges": _rounded(cells["edges"], digits=9),
        "width": _rounded(cells.select(pl.when("even").then("width")).to_series(), digits=9),
        "count": cells["count"].to_list(),
        "expected": _rounded(cells["expected"], digits=3),
    }


def _quantiles(rows: pl.DataFrame) -> dict[str, Any]:
    return {
        "pathway": _pathways(rows),
        "data": _rounded(rows["data"], digits=4),
        "model": _rounded(rows["model"], digits=4),
    }


def _model_columns(tables: Tables, evidence: pl.DataFrame, name: str) -> dict[str, Any]:
    long = (
        rows_of(tables.model, property=name)
        .sort("pathway", "position")
        .group_by("pathway", pl.col("parameter").cast(pl.String), maintain_order=True)
        .agg(pl.col("value").head(_LISTED), pl.col("std_error").first())
    )
    parameters, errors = {}, {}
    for (parameter,), rows in long.group_by("parameter", maintain_order=True):
        aligned = evidence.select("pathway").join(rows, on="pathway", how="left",
                                                  maintain_order="left")  # fmt: skip
        lists = _rounded(aligned["value"].fill_null([]))
        parameters[str(parameter)] = [
            None if not v else v[0] if len(v) == 1 else v for v in lists
        ]  # fmt: skip
        errors[str(parameter)] = _rounded(aligned["std_error"], digits=3)
    return {
        "pathway": _pathways(evidence),
        **{
            column: evidence[column].to_list()
            for column in ("distribution", "level", "shared_within", "n_pathways", "n",
                           "status", "message")
        },
        **{c: _rounded(evidence[c], _digits(c))
           for c in (*_MEASURES, "mean", "std", *QUANTILES)},
        "parameters": parameters,
        "errors": errors,
    }  # fmt: skip


def correlation_columns(tables: Tables) -> dict[str, Any] | None:
    """Return the pairs of properties, and for each its correlations by pathway; None without."""
    rows = tables.correlations
    if rows.is_empty():
        return None
    pathways = rows.select("pathway").unique(maintain_order=True)
    by_pair = rows.partition_by(
        "property", "other_property", maintain_order=True, include_key=True, as_dict=True
    )
    aligned = [
        pathways.join(one, on="pathway", how="left", maintain_order="left")
        for one in by_pair.values()
    ]
    return {
        "pathway": _pathways(pathways),
        "pairs": [list(pair) for pair in by_pair],
        **{c: [_rounded(one[c], digits=3) for one in aligned] for c in ("value", "std_error")},
        "map": _quantity("", "correlation (1)", diverging_scale([-1.0, 1.0])),
    }


def _map_drawings(
    statistics: pl.DataFrame, evidence: pl.DataFrame, name: str, unit: str
) -> dict[str, Any]:
    """Return for each statistic what its maps need beside the rows: scale, legend, title."""
    measured = evidence.filter(pl.col("level") < 0)
    both = statistics.join(evidence.drop("n"), on="pathway", how="full", suffix="_model")
    drawings: dict[str, Any] = {}
    for statistic in _STATISTICS:
        legend = maps.axis_title(f"{statistic} of {name}", maps.statistic_unit(statistic, unit))
        columns = {"data": statistic, "model": f"{statistic}_model"}
        sides = {side: both[c].cast(pl.Float64) for side, c in columns.items() if c in both.columns}
        common = sequential_scale(np.concatenate([s.drop_nulls() for s in sides.values()]))
        found = {side: _quantity(f"{name}, {statistic}: {side}", legend, common) for side in sides}
        if "model" in sides:
            scale = maps.difference_scale(sides["data"], sides["model"] - sides["data"])
            found["difference"] = _quantity(
                f"{name}, {statistic}: model minus data", f"difference of {legend}", scale
            )
        drawings[statistic] = found
    drawings["shared_within"] = {
        side: {"kind": kind, "title": f"{name}, shared within a connection: {side}", "note": "",
               "legend": "values of a connection"}
        for side, kind in (("data", "shared"), ("model", "shared"), ("difference", "agreement"))
    }  # fmt: skip
    for measure in ("ks", "wasserstein"):
        scale = sequential_scale(measured[measure].drop_nulls().to_numpy())
        legend = maps.axis_title(_MEASURES[measure].split(" (")[0],
                                 maps.statistic_unit(measure, unit))  # fmt: skip
        drawings[measure] = {
            "model": _quantity(f"{name}: distance of data and model", legend, scale)
        }
    drawings["level"] = {"model": {"kind": "level", "title": f"{name}: where the model comes from",
                                   "note": "", "legend": "level"}}  # fmt: skip
    return drawings


def _quantity(title: str, legend: str, scale: alt.Scale) -> dict[str, Any]:
    return {
        "kind": "quantity",
        "title": title,
        "note": maps.scale_note(scale),
        "legend": legend,
        "scale": scale.to_dict(validate=False),
        "ticks": ticks(scale),
    }


def overview(stats: Statistics, model: Model, tables: Tables) -> dict[str, Any]:
    """Return what the report needs at once."""
    pathways = tables.pathways
    largest = pathways.sort("n_connections", "pathway", descending=[True, False])
    observed = tables.fits.filter(pl.col("level") < 0)
    # Those with few values, which are far from any model by chance, do not crowd out the others.
    worst = (
        observed.drop_nulls("ks")
        .with_columns(few=pl.col("n") < _ENOUGH)
        .sort("few", "ks", "pathway", descending=[False, True, False])
        .group_by("few", maintain_order=True)
        .head(_WORST)
    )
    names = [one.name for one in stats.properties]
    labels = {"ks": "KS distance (model)", "wasserstein": "Wasserstein distance (model)",
              "level": "level (model)", "shared_within": "shared within"}  # fmt: skip
    meanings = {column.name: column.meaning for table in (schema.FITS, schema.STATISTICS)
                for column in table.columns}  # fmt: skip
    meanings["level"] = next(c.meaning for c in schema.MODEL.columns if c.name == "level")
    order = ("mean", "std", "shared_within", *(s for s in _STATISTICS if s not in {"mean", "std"}),
             "ks", "wasserstein", "level")  # fmt: skip
    categories = {"shared_within", "level"}
    return {
        "sources": tables.sources,
        "targets": tables.targets,
        "first": int(largest["pathway"][0]) if len(largest) else 0,
        "counts": [
            ["source types", len(tables.sources)],
            ["target types", len(tables.targets)],
            ["pathways with connections", len(pathways)],
            ["connections", int(pathways["n_connections"].sum())],
            ["synapses", int(pathways["n_synapses"].sum())],
            ["properties", len(names)],
        ],
        "properties": [_property_summary(tables, one) for one in stats.properties],
        "statistics": [
            {"name": s, "label": labels.get(s, s), "meaning": f"{labels.get(s, s)}: {meanings[s]}.",
             "kind": "category" if s in categories else "quantity"}
            for s in order
        ],
        "moments": list(_MOMENTS),
        "quantiles": QUANTILES,
        "measures": [{"name": name, "label": label} for name, label in _MEASURES.items()],
        "levels": list(maps.LEVELS),
        "borrowed": list(_BORROWED),
        "shared": list(maps.SHARED.values()),
        "agreement": list(maps.AGREEMENT),
        "listed": _LISTED,
        "enough": _ENOUGH,
        "parameters": {
            family.name: {p.name: {"unit": p.unit, "meaning": p.meaning}
                          for p in family.parameters}
            for family in FAMILIES.values()
        },
        "pathways": {
            column: pathways[column].to_list()
            for column in ("pathway", "n_connections", "n_synapses")
        },
        "types": {column: tables.types[column].to_list() for column in schema.TYPES.names},
        "scores": _scores(model),
        "worst": {
            "pathway": worst["pathway"].to_list(),
            "property": [names.index(name) for name in worst["property"]],
            **{c: worst[c].to_list() for c in ("distribution", "level", "n", "status")},
            **{new: _rounded(worst[old]) for new, old in (
                ("ks", "ks"), ("wasserstein", "wasserstein"), ("mean", "data_mean"),
                ("model_mean", "model_mean"), ("std", "data_std"), ("model_std", "model_std"))},
        },
        "detail": _detail(tables),
    }  # fmt: skip


def _property_summary(tables: Tables, of: Property) -> dict[str, Any]:
    name, unit = of.name, of.unit
    rows = rows_of(tables.model, property=name).unique("pathway", keep="first")
    counts = rows["distribution"].value_counts(sort=True).sort(
        "count", "distribution", descending=[True, False]
    )  # fmt: skip
    of_fits = rows_of(tables.fits, property=name).filter(pl.col("level") < 0)
    ks: Any = of_fits["ks"].median()
    return {
        "name": name,
        "unit": unit,
        "axis": maps.axis_title(name, unit),
        "values": "whole" if whole_numbers([of]) else "real",
        "n_pathways": rows_of(tables.statistics, property=name)["n"].gt(0).sum(),
        "distributions": counts.rows(),
        "ks": None if ks is None else round(float(ks), 4),
    }


def _scores(model: Model) -> dict[str, list[Any]] | None:
    if model.scores is None:
        return None
    return {
        column: _rounded(
            model.scores[column].cast(pl.String)
            if model.scores[column].dtype in (pl.Enum, pl.Categorical)
            else model.scores[column]
        )
        for column in schema.SCORES.names
    }


def _detail(tables: Tables) -> str:
    """Return what the report leaves out."""
    points = max(tables.quantiles["p"].list.len(), default=len(QUANTILES))
    text = (
        f"Of a sample, at most {points} quantiles are shown; of a parameter that is a list, at "
        f"most {_LISTED} elements. Numbers are rounded to {_DIGITS} digits or fewer: the Parquet "
        "files have all of them, exactly."
    )
    if tables.merged == 1:
        return text
    return (
        f"To keep this file small, {tables.merged} neighbouring bins of histograms are one here. "
        f"{text}"
    )


def table_warnings(tables: Tables) -> list[str]:
    """Return what a reader of the tables should know first."""
    found = []
    lost = tables.statistics.group_by("property", maintain_order=True).agg(
        pl.col("n").sum(), pl.col("n_null").sum()
    )
    for name, n, n_null in lost.filter(pl.col("n_null") > 0).iter_rows():
        found.append(f"{name}: {n_null:,} of {n + n_null:,} values are NaN or infinite, left out")
    words = {
        "failed": "Pathways that could not be fitted",
        "fallback": "Pathways that the chosen distribution could not be fitted to, so that they "
        "have another",
    }
    for status, text in words.items():
        counts = rows_of(tables.fits, status=status).group_by("property", maintain_order=True).len()
        if len(counts):
            listed = ", ".join(f"{n:,} ({name})" for name, n in counts.iter_rows())
            found.append(f"{text}: {listed}")
    return found
