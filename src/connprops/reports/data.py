"""What the report holds: the tables as columns, packed so that a browser reads them quickly.

Pathways are numbers here, by the order of types in the maps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays.sorted_samples import QUANTILES
from connprops.charts import maps
from connprops.charts.fits import ENOUGH
from connprops.charts.maps import MISFIT, MISFIT_OF_A_FIT
from connprops.charts.rows import (
    curves,
    following,
    is_whole,
    quantile_pairs,
    rows_of,
    whole_bins,
)
from connprops.charts.theme import axis_title, diverging_scale, ticks
from connprops.distributions.table import model_statistics
from connprops.families.registry import FAMILIES
from connprops.model.model import Model
from connprops.pathways import Pathways
from connprops.reports.expected import against_expected
from connprops.reports.words import class_rows, words_of
from connprops.schema import Property
from connprops.statistics.statistics import Statistics

_LISTED = 12
"""Elements that are shown of a parameter that is a list."""

_WORST = 200
"""Fits that are shown, of those to few values and of the others, that these do not crowd out."""

_BINS_AT_MOST = 1_000_000
"""Of more bins in all, neighbours are merged."""

_QUANTILES_OF_A_SAMPLE, _QUANTILES_AT_MOST = range(9, 42), 500_000
"""Where these in all leave fewer for a sample, the quantiles of the statistics are shown."""

_MOMENTS = ("mean", "std", "min", *QUANTILES, "max")
_STATISTICS = (*_MOMENTS, "n", "n_unique", "skewness", "kurtosis")
_MEASURES = {
    "ks": "Kolmogorov-Smirnov distance (1)",
    "wasserstein": f"{maps.DISTANCES['wasserstein']} (unit of the property)",
    "loglik": "log-likelihood (1)",
    "aicc": "AICc (1)",
    "bic": "BIC (1)",
}
_DIGITS = {
    **dict.fromkeys((*_MOMENTS, "ks", *maps.DISTANCES, "value", "model_mean", "model_std"), 6),
    "width": 9,
    "edges": 9,
    "expected": 3,
    "std_error": 3,
}
"""Significant digits of numbers; others have 4. Those whose differences are shown have more."""

_BORROWED = ("same source type, target layer and class", "same source type, target class",
             "same layers and classes", "same classes", "all pathways")  # fmt: skip
_TROUBLES = {
    "failed": "Pathways that could not be fitted",
    "rejected": "Pathways whose values are further from their distribution than chance explains",
    "fallback": "Pathways that the chosen distribution could not be fitted to, and that have "
    "another one",
}

NO_EVIDENCE: dict[str, Any] = {
    **dict.fromkeys(("n_own", "n_level", "n_borrowed", "n_tested", "n_rejected"), 0),
    **dict.fromkeys(("share_own", "p_small", "coverage")),
}
"""What :meth:`Model.evidence` says of a property that no pathway has values of."""

_CONSTANTS: dict[str, Any] = {
    "moments": _MOMENTS,
    "quantiles": QUANTILES,
    "measures": [{"name": name, "label": label} for name, label in _MEASURES.items()],
    "levels": maps.LEVELS,
    "borrowed": _BORROWED,
    "shared": list(maps.SHARED.values()),
    "agreement": maps.AGREEMENT,
    "listed": _LISTED,
    "enough": ENOUGH,
    "parameters": {
        family.name: {p.name: {"unit": p.unit, "meaning": p.meaning} for p in family.parameters}
        for family in FAMILIES.values()
    },
}
"""What is the same in all reports."""


class ReportTables:
    """The tables of statistics and a model, and what the report holds of them."""

    def __init__(self, stats: Statistics, model: Model) -> None:
        self.types, self.properties, self._model = stats.types, stats.properties, model
        self.pathways = Pathways(
            maps.type_order(stats.types, "source"), maps.type_order(stats.types, "target")
        )
        evidence = [] if model.fits is None else model.evidence(stats.pathways.collect()).to_dicts()
        self._evidence = {row["property"]: row for row in evidence}
        order = stats.order_statistics.collect()
        points = min(_QUANTILES_AT_MOST // max(len(order), 1), _QUANTILES_OF_A_SAMPLE.stop - 1)
        shown = order if points in _QUANTILES_OF_A_SAMPLE else order.head(0)
        bins = stats.histograms.collect()
        name = pl.col("property").cast(pl.String)
        of_whole = name.is_in([of.name for of in self.properties if is_whole(of)])
        real = model.expected(following(bins.filter(~of_whole)))
        whole = whole_bins(model.expected(bins.filter(of_whole)))
        bins = pl.concat([real, whole.select(real.columns)], how="vertical_relaxed")
        self.bins_per_bar = max(1, math.ceil(len(bins) / _BINS_AT_MOST))
        labelled, of_codes = name.is_in(model.labels.keys()), (*_MOMENTS, "skewness", "kurtosis")
        numbers = pl.when(~labelled).then(pl.col(of_codes))  # codes are none
        no_fits = pl.DataFrame(schema=schema.FITS.polars_schema())
        self._frames = {
            name: self._numbered(frame)
            for name, frame in {
                "pathways": stats.pathways.collect(),
                "statistics": stats.table.collect().with_columns(numbers),
                "histograms": bins,
                "quantiles": quantile_pairs(shown.filter(~labelled), model, at_most=points),
                "parameters": model.marginals,
                "model": model_statistics(model),
                "fits": no_fits if model.fits is None else model.expanded(model.fits),
                "correlations": model.correlations,
            }.items()
        }

    def _numbered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return rows with the number of their pathway, and sorted by it."""
        names = pl.col(pl.Enum, pl.Categorical).cast(pl.String)
        numbered = frame.with_columns(names, pathway=self.pathways.number_of_row)
        return numbered.sort("pathway", maintain_order=True)

    def property_columns(self, of: Property) -> dict[str, Any]:
        """Return all that the report knows of one property, as columns."""
        rows = {name: rows_of(frame, property=of.name) for name, frame in self._frames.items()
                if "property" in frame.columns}  # fmt: skip
        fits = rows["fits"].select("pathway", "n_pathways", "n", "status", "message", *_MEASURES)
        # One row a pathway: what the model says, and the evidence for it.
        evidence = rows["model"].join(fits, on="pathway", how="left", maintain_order="left")
        curve_of = self._curve_of(of.name, evidence)
        evidence = evidence.drop(*schema.PATHWAY, "property").with_columns(
            misfit=pl.when(pl.col("level") < 0).then(MISFIT_OF_A_FIT)
        )
        statistics = rows["statistics"].select("pathway", *_STATISTICS, "shared_within")
        return {
            "statistics": _columns(statistics),
            "histograms": _columns(self._bars(rows["histograms"])),
            "quantiles": _columns(rows["quantiles"].select("pathway", "data", "model")),
            "model": _columns(evidence)
            | _parameters(rows["parameters"], evidence)
            | {"curve": curve_of},
            "curves": self._curves(of.name, {n for n in curve_of if n is not None}),
            "maps": dict(_map_drawings(of, rows["statistics"], evidence)),
        }

    def _curve_of(self, name: str, evidence: pl.DataFrame) -> list[int | None]:
        """Return the number of each pathway's distribution if it is borrowed, else None.

        Of a property without values there is none.
        """
        if evidence.is_empty():
            return []
        numbers = evidence.select(self._model.pathways.number_of_row).to_series().to_numpy()
        rows = evidence.select("level", row=self._model.lent(name).row_at(numbers)).iter_rows()
        return [row if level >= 0 else None for level, row in rows]

    def _curves(self, name: str, numbers: Collection[int]) -> dict[int, dict[str, Any]]:
        """Return the shares of values in bins of equal width, of some distributions by number."""
        drawn: dict[int, dict[str, Any]] = {}
        for of_family in self._model.lent(name).rows if numbers else ():
            lent = of_family.take(np.isin(of_family.pathway, list(numbers)))
            of_each = curves(lent, whole=self._model.dtype(name) == "int")
            for number, (first, width, share) in zip(lent.pathway.tolist(), of_each, strict=True):
                drawn[number] = {"edges": [first], "width": width,
                                 "share": [float(f"{x:.4g}") for x in share]}  # fmt: skip
        return drawn

    def _bars(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return counts, expected counts and edges, a histogram a row.

        Edges are two, and the bins' width, where bins are alike but a narrower last one; else all.
        """
        width, first, same = pl.col("width"), pl.col("width").first(), 1e-3
        off = (width.slice(0, pl.len() - 1) / first - 1).abs().max().fill_null(0)
        even = (off <= same) & (width.last() <= (1 + same) * first)
        ends = pl.concat_list(pl.col("left").list.first(), "right")
        all_edges = pl.concat_list("left", "right")
        return (
            rows.sort("pathway", "bin")
            .group_by("pathway", pl.col("bin") // self.bins_per_bar, maintain_order=True)
            .agg(pl.col("left").first(), pl.col("right").last(), pl.col("count", "expected").sum())
            .with_columns(width=pl.col("right") - pl.col("left"))
            .group_by("pathway", maintain_order=True)
            .agg("left", "count", "expected", pl.col("right").last(), first, even=even)
            .select("pathway", "count", "expected", pl.when("even").then("width"),
                    edges=pl.when("even").then(ends).otherwise(all_edges))
        )  # fmt: skip

    def correlation_columns(self) -> dict[str, Any] | None:
        """Return the pairs of properties, and for each its correlations by pathway; None without.

        A list of values a pair, all in the order of the pathways that have any.
        """
        rows = self._frames["correlations"]
        if rows.is_empty():
            return None
        pathways = rows.select("pathway").unique(maintain_order=True)
        pairs = rows.partition_by("property", "other_property", maintain_order=True, as_dict=True)
        numbers = pl.col("value", "std_error").round_sig_figs(3)
        aligned = (
            pathways.join(of, on="pathway", how="left", maintain_order="left")
            for of in pairs.values()
        )
        of_pair = [_columns(of.select(numbers)) for of in aligned]
        style = maps.MapStyle("", "correlation (1)", diverging_scale([-1.0, 1.0]))
        return {
            **_columns(pathways),
            "pairs": [list(pair) for pair in pairs],
            **{column: [of[column] for of in of_pair] for column in ("value", "std_error")},
            "map": _drawing(style),
        }

    def overview(self, expected: pl.DataFrame | None = None) -> dict[str, Any]:
        """Return what the report needs at once; ``expected`` are means to compare with."""
        words, beside = words_of(self._frames, self.types, self.properties), None
        if expected is not None:
            told, beside = against_expected(expected, self._frames, self.pathways)
            words.append(told)
        pathways = self._frames["pathways"]
        largest = pathways.sort("n_connections", "pathway", descending=[True, False])
        meanings = {c.name: c.meaning for t in (schema.MODEL, schema.FITS, schema.STATISTICS)
                    for c in t.columns}  # fmt: skip
        rest = [s for s in _STATISTICS if s not in ("mean", "std")]
        order = ("mean", "std", "shared_within", *rest, *maps.DISTANCES, "level")
        meanings["misfit"] = (
            "Kolmogorov-Smirnov distance of data and model times the root of the number of values: "
            f"chance exceeds {MISFIT:g} in one fit of a hundred"
        )
        labels = {name: name for name in order} | {
            "shared_within": "shared within",
            "misfit": "KS distance times root n (model)",
            "wasserstein": "Wasserstein distance (model)",
            "level": "level (model)",
        }
        return _CONSTANTS | {
            "sources": self.pathways.source_types,
            "targets": self.pathways.target_types,
            "first": int(largest["pathway"][0]) if len(largest) else 0,
            "counts": [
                ["source types", self.pathways.shape[0]],
                ["target types", self.pathways.shape[1]],
                ["pathways with connections", len(pathways)],
                ["connections", int(pathways["n_connections"].sum())],
                ["synapses", int(pathways["n_synapses"].sum())],
                ["properties", len(self.properties)],
            ],
            "words": words,
            "expected": beside,
            "classes": class_rows(self._frames, self.types, self.properties),
            "properties": [self._summary(of) for of in self.properties],
            "statistics": [
                {
                    "name": name,
                    "label": labels[name],
                    "meaning": f"{labels[name]}: {meanings[name]}.",
                    "kind": "category" if name in ("shared_within", "level") else "quantity",
                }
                for name in order
            ],
            "worst": self._worst(),
            "detail": self._detail(),
        }

    def _summary(self, of: Property) -> dict[str, Any]:
        model = rows_of(self._frames["model"], property=of.name)
        evidence = self._evidence.get(of.name, NO_EVIDENCE)
        share = evidence["share_own"]
        of_connections = "" if share is None else f" ({100 * share:.0f} % of connections)"
        counts = model["distribution"].value_counts()
        return {
            "name": of.name,
            "unit": of.unit,
            "axis": of.name if of.labels else axis_title(of.name, of.unit),
            "labels": of.labels,
            "values": "whole" if is_whole(of) else "real",
            "n_pathways": rows_of(self._frames["statistics"], property=of.name)["n"].gt(0).sum(),
            "distributions": counts.sort("count", "distribution", descending=[True, False]).rows(),
            "rests": f"own values {evidence['n_own']:,}{of_connections}, their level "
            f"{evidence['n_level']:,}, without values {evidence['n_borrowed']:,}",
            "leans": evidence["n_level"] > 0,
            "rejected": f"{evidence['n_rejected']:,} of {evidence['n_tested']:,}",
            "p_small": evidence["p_small"],
            "coverage": evidence["coverage"],
        }

    def _worst(self) -> dict[str, list[Any]]:
        """Return the worst fits of all properties: to many values, and to few."""
        number = {of.name: i for i, of in enumerate(self.properties)}
        fits = self._frames["fits"].filter(pl.col("level") < 0, pl.col("ks").is_not_null())
        order = fits.with_columns(
            pl.col("property").replace_strict(number, return_dtype=pl.Int64),
            mean="data_mean",
            std="data_std",
            few=pl.col("n") < ENOUGH,
            sure=MISFIT_OF_A_FIT,
        ).sort("few", "sure", "pathway", descending=[False, True, False])
        names = ("pathway", "property", "distribution", "level", "n", "status")
        numbers = ("ks", "sure", "wasserstein", "mean", "model_mean", "std", "model_std")
        worst = order.group_by("few", maintain_order=True).head(_WORST)
        return _columns(worst.select(*names, *numbers), steps=False)

    def _detail(self) -> str:
        """Return what the report leaves out."""
        points = max(self._frames["quantiles"]["p"].list.len(), default=len(QUANTILES))
        merged = (
            f"To keep this file small, {self.bins_per_bar} neighbouring bins of histograms are "
            "one here. "
            if self.bins_per_bar > 1
            else ""
        )
        return (
            f"{merged}Of a sample, at most {points} quantiles are shown; of a parameter that is a "
            f"list, at most {_LISTED} elements. Numbers are rounded to 6 digits or fewer. The "
            "Parquet files of the run have all of them, exactly; connprops sql writes them as CSV: "
            "connprops sql RUN 'FROM statistics' -o statistics.csv"
        )

    def warnings(self) -> Iterator[str]:
        """Return what a reader of the tables should know first."""
        by_property = self._frames["statistics"].group_by("property", maintain_order=True)
        lost = by_property.agg(pl.col("n_null").sum()).filter(pl.col("n_null") > 0)
        for name, n_null in lost.iter_rows():
            yield f"{name}: the values of {n_null:,} synapses are NaN or infinite, and left out"
        observed = self._frames["fits"].filter(pl.col("level") < 0)
        for status, text in _TROUBLES.items():
            fits = rows_of(observed, status=status)
            counts = fits.group_by("property", maintain_order=True).len()
            if len(counts):
                yield f"{text}: {', '.join(f'{n:,} ({name})' for name, n in counts.iter_rows())}"


def _columns(rows: pl.DataFrame, *, steps: bool = True) -> dict[str, list[Any]]:
    """Return rows as columns, with numbers rounded and null for what is not finite.

    Pathways are given by their steps from the one before: most of these are 1.
    """

    def rounded(value: pl.Expr, name: str) -> pl.Expr:
        return pl.when(value.is_finite()).then(value.round_sig_figs(_DIGITS.get(name, 4)))

    expressions = []
    for name, dtype in rows.schema.items():
        column = pl.col(name)
        if name == "pathway" and steps:
            column = column.diff().fill_null(column)
        elif dtype.is_float():
            column = rounded(column, name)
        elif dtype == pl.List(pl.Float64):
            column = column.list.eval(rounded(pl.element(), name))
        expressions.append(column.alias(name))
    return rows.select(expressions).to_dict(as_series=False)


def _parameters(long: pl.DataFrame, evidence: pl.DataFrame) -> dict[str, Any]:
    """Return by parameter its value in each pathway, a list where there are several."""
    beside = {"std_error": "errors", "ci_low": "low", "ci_high": "high"}
    told: dict[str, Any] = {name: {} for name in ("parameters", *beside.values())}
    rows = long.sort("pathway", "position").group_by("pathway", "parameter", maintain_order=True)
    lists = rows.agg(pl.col("value").head(_LISTED), pl.col(*beside).first())
    pathways = evidence.select("pathway")
    for (name,), of in lists.group_by("parameter", maintain_order=True):
        aligned = pathways.join(of, on="pathway", how="left", maintain_order="left")
        columns = _columns(aligned.select("value", *beside))
        told["parameters"][name] = [
            values[0] if values and len(values) == 1 else values for values in columns["value"]
        ]
        for column, kind in beside.items():
            told[kind][name] = columns[column]
    return told


def _map_drawings(
    of: Property, statistics: pl.DataFrame, evidence: pl.DataFrame
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return for each statistic what its maps need beside the rows."""
    both = statistics.join(evidence.drop("n"), on="pathway", how="full", suffix="_model")
    for statistic in (*_STATISTICS, "shared_within"):
        columns = {"data": statistic, "model": f"{statistic}_model"}
        sides = {side: both[c].cast(pl.Float64) for side, c in columns.items() if c in both.columns}
        styles = maps.map_styles(of.name, statistic, of.unit, sides)
        yield statistic, {side: _drawing(style) for side, style in styles.items()}
    measured = evidence.filter(pl.col("level") < 0)
    for measure in maps.DISTANCES:
        style = maps.distance_style(of.name, measure, of.unit, measured[measure])
        yield measure, {"model": _drawing(style)}
    yield "level", {"model": _drawing(maps.level_style(of.name))}


def _drawing(style: maps.MapStyle) -> dict[str, Any]:
    drawing = {"kind": style.kind, "title": style.title, "note": style.note, "legend": style.legend}
    if style.scale is None:
        return drawing
    return drawing | {"scale": style.scale.to_dict(validate=False), "ticks": ticks(style.scale)}
