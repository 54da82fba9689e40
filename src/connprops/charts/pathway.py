"""Charts of the tables: a function takes tidy rows and gives an :class:`altair.Chart`.

Rows are aggregated already, one a pathway, a bin or a quantile, so that charts stay small. All
that matters to reading a chart is in the chart; its typography comes with a theme, see
:mod:`connprops.charts.theme`. Maps of pathways are in :mod:`connprops.charts.maps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts.maps import (
    FORMAT,
    Rows,
    as_data,
    axis_title,
    quantity_map,
    statistic_unit,
    unit_title,
    with_shown,
)
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette, heading, sequential_scale

if TYPE_CHECKING:
    from altair.utils.schemapi import UndefinedType


def histogram(
    bins: Rows,
    *,
    property: str,  # noqa: A002
    unit: str = "",
    title: str,
    subtitle: str = "",
    counted: str = "values",
    whole: bool = False,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a pathway's histogram, and what the model expects in the same bins.

    Parameters
    ----------
    bins
        Rows of :data:`connprops.schema.HISTOGRAMS` of one pathway and property. The column
        ``expected``, counts that the model expects, is drawn if there.
    counted
        What the counts are of, for the axis.
    whole
        Whether values are whole numbers, which ticks of the axis then are too.
    """
    with_model = not isinstance(bins, pl.DataFrame) or "expected" in bins.columns
    data = as_data(bins, "left", "right", "count", *(["expected"] if with_model else []))
    x = alt.X("left:Q", bin="binned", title=axis_title(property, unit), axis=_axis(whole=whole),
              scale=alt.Scale(nice=False))  # fmt: skip
    names = ["data", "model"] if with_model else ["data"]
    colour = _series(names, [palette.data, palette.model][: len(names)], "square")
    edges = [alt.Tooltip("left:Q", title="from", format=FORMAT),
             alt.Tooltip("right:Q", title="to", format=FORMAT)]  # fmt: skip
    tooltip = [*edges, alt.Tooltip("count:Q", title="data", format=",")]
    if with_model:
        tooltip.append(alt.Tooltip("expected:Q", title="model", format=FORMAT))
    y_title = f"number of {counted} (count)"
    base = alt.Chart(data)
    layers = [
        base.transform_calculate(series="'data'").mark_bar(binSpacing=0).encode(
            x=x, x2="right:Q", color=colour,
            y=alt.Y("count:Q", title=y_title, axis=alt.Axis(tickMinStep=1)),
            tooltip=tooltip,
        )
    ]  # fmt: skip
    if with_model:
        layers.append(
            base.transform_filter("datum.count > 0 || datum.expected > 0")
            .transform_calculate(series="'model'").mark_rule(strokeWidth=2).encode(
                x=alt.X("left:Q"), x2="right:Q", y=alt.Y("expected:Q", title=y_title), color=colour,
                tooltip=tooltip,
            )
        )  # fmt: skip
    return alt.LayerChart(
        layer=layers,
        width=420, height=250, title=heading(title, subtitle),
        description=f"{title}. Bars: values per bin; lines: what the model expects in each bin.",
    )  # fmt: skip


def _axis(*, whole: bool) -> alt.Axis | UndefinedType:
    return alt.Axis(tickMinStep=1, tickCount=8) if whole else alt.Undefined


def _series(names: Sequence[str], colours: Sequence[str], symbol: str) -> alt.Color:
    """Return the colour of what a layer calculates as ``series``, with one legend for all."""
    return alt.Color(
        "series:N",
        scale=alt.Scale(domain=list(names), range=list(colours)),
        legend=alt.Legend(title=None, orient="top", symbolType=symbol, symbolStrokeWidth=3),
    )


def qq(
    points: Rows,
    *,
    property: str,  # noqa: A002
    unit: str = "",
    title: str,
    subtitle: str = "",
    whole: bool = False,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw quantiles of the data against those of the model.

    Parameters
    ----------
    points
        One row per quantile: p, data, model; see :func:`quantile_pairs`.
    whole
        Whether values are whole numbers, which ticks of the axes then are too.
    """
    base = alt.Chart(as_data(points, "p", "data", "model"))
    name = axis_title(property, unit)
    zero = alt.Scale(zero=False)
    ticks = alt.Axis(tickCount=5, tickMinStep=1 if whole else alt.Undefined)
    diagonal = (
        base.transform_aggregate(a="min(data)", b="min(model)", c="max(data)", d="max(model)")
        .transform_calculate(low="min(datum.a, datum.b)", high="max(datum.c, datum.d)")
        .mark_rule(color=palette.quiet, strokeDash=[4, 3])
        .encode(
            x=alt.X("low:Q", title=f"model: {name}", scale=zero, axis=ticks), x2="high:Q",
            y=alt.Y("low:Q", title=f"data: {name}", scale=zero, axis=ticks), y2="high:Q",
        )
    )  # fmt: skip
    dots = base.mark_circle(size=26, opacity=0.9, color=palette.data_line).encode(
        x=alt.X("model:Q", title=f"model: {name}", scale=zero, axis=ticks),
        y=alt.Y("data:Q", title=f"data: {name}", scale=zero, axis=ticks),
        tooltip=[alt.Tooltip(c, type="quantitative", format=FORMAT)
                 for c in ("p", "data", "model")],
    )  # fmt: skip
    return alt.LayerChart(
        layer=[diagonal, dots],
        width=250, height=250, title=heading(title, subtitle),
        description=f"{title}. Quantiles of the data against those of the model; on the dashed "
        "line they are equal.",
    )  # fmt: skip


def cdf(
    points: Rows,
    *,
    property: str,  # noqa: A002
    unit: str = "",
    title: str,
    subtitle: str = "",
    discrete: bool = False,
    whole: bool = False,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw the cumulative distributions of data and model; arguments as for :func:`qq`.

    That of a model with ``discrete`` values has steps, as that of data always has.
    """
    base = alt.Chart(as_data(points, "p", "data", "model"))
    colour = _series(["data", "model"], [palette.data, palette.model], "stroke")
    y = alt.Y("p:Q", title="cumulative probability (1)", scale=alt.Scale(domain=[0, 1]))
    model_shape: Literal["linear", "step-after"] = "step-after" if discrete else "linear"
    # The data's is wide, so that it is seen beneath a model that goes the same way.
    shapes: dict[str, tuple[Literal["linear", "step-after"], float]] = {
        "data": ("step-after", 5),
        "model": (model_shape, 2),
    }
    layers = [
        base.transform_calculate(series=f"'{side}'")
        .mark_line(interpolate=shape, strokeWidth=width)
        .encode(
            x=alt.X(
                f"{side}:Q",
                title=axis_title(property, unit),
                scale=alt.Scale(zero=False),
                axis=alt.Axis(tickCount=6, tickMinStep=1 if whole else alt.Undefined),
            ),
            y=y,
            color=colour,
            order="p:Q",
        )
        for side, (shape, width) in shapes.items()
    ]
    return alt.LayerChart(
        layer=layers,
        width=320, height=250, title=heading(title, subtitle),
        description=f"{title}. Share of values up to each value, of the data and of the model.",
    )  # fmt: skip


_DISTANCES = {"ks": "Kolmogorov-Smirnov distance", "wasserstein": "Wasserstein distance"}


def goodness(
    fits: pl.DataFrame,
    types: pl.DataFrame,
    *,
    property: str,  # noqa: A002
    measure: Literal["ks", "wasserstein"] = "ks",
    unit: str = "",
    n_worst: int = 30,
    n_enough: int = 10,
    palette: Palette = LIGHT,
) -> alt.HConcatChart:
    """Draw the distance of data and model for each pathway, and the largest ones in order.

    Parameters
    ----------
    fits
        :data:`connprops.schema.FITS`. Pathways without data of their own are left out.
    measure
        Which distance: of Kolmogorov and Smirnov, or of Wasserstein, which has the unit of the
        property.
    unit
        Of the property.
    n_worst
        How many are drawn in order.
    n_enough
        Pathways with fewer values are not among these, unless all have fewer: a few values are
        far from any distribution by chance.
    """
    measured = rows_of(fits, property=property).filter(
        pl.col("level") < 0, pl.col(measure).is_finite()
    )
    distance = axis_title(_DISTANCES[measure], statistic_unit(measure, unit))
    scale = None  # that of the values, unless these are parts of a whole
    if measure == "ks":
        scale = sequential_scale([0.0, max(measured["ks"].to_list(), default=1.0)], palette)
    left = quantity_map(
        measured, types, measure, title=f"{property}: {_DISTANCES[measure]} of data and model",
        legend=distance, scale=scale, palette=palette,
    )  # fmt: skip
    ranked = measured.filter(pl.col("n") >= n_enough)
    worst = (
        (ranked if len(ranked) else measured)
        .sort(measure, *schema.PATHWAY, descending=[True, False, False])
        .head(n_worst)
        .select(
            pathway=pl.format("{} → {}", *(pl.col(c).cast(pl.String) for c in schema.PATHWAY)),
            distance=measure, n="n", distribution=pl.col("distribution").cast(pl.String),
        )
    )  # fmt: skip
    least = f" to {n_enough} values or more" if len(ranked) else ""
    title = f"{property}: the {len(worst)} worst fits{least}"
    right = (
        alt.Chart(as_data(worst))
        .mark_bar(color=palette.data_line, height={"band": 0.7})
        .encode(
            x=alt.X("distance:Q", title=distance, axis=alt.Axis(tickCount=5),
                    scale=alt.Scale(zero=True)),
            y=alt.Y("pathway:N", sort=None, title=None,
                    axis=alt.Axis(labelLimit=260, labelOverlap=False, labelPadding=6,
                                  ticks=False, domain=False)),
            tooltip=[alt.Tooltip("pathway:N"), alt.Tooltip("distance:Q", format=FORMAT),
                     alt.Tooltip("n:Q", title="values", format=","), alt.Tooltip("distribution:N")],
        )
        .properties(width=260, height=alt.Step(17), title=heading(title, "by distance"),
                    description=f"{title}, by {distance}.")
    )  # fmt: skip
    row: alt.HConcatChart = alt.hconcat(
        left, right, spacing=36, description=f"{left.description} | {right.description}"
    )
    return row


def synapses_per_connection(
    bins: Rows, *, title: str = "Synapses per connection", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw how many connections have how many synapses, over all pathways.

    Parameters
    ----------
    bins
        As :func:`connprops.charts.rows.synapse_counts` returns them.
    """
    return histogram(
        bins, property=schema.N_SYN_PER_CONN, unit="1", title=title,
        counted="connections", whole=True, palette=palette,
    )  # fmt: skip


def scores(table: pl.DataFrame, *, palette: Palette = LIGHT) -> alt.FacetChart:
    """Draw the candidates for each property by the criterion above the best one's.

    Parameters
    ----------
    table
        :data:`connprops.schema.SCORES`.
    """
    words = with_shown(table, "property").with_columns(
        pl.col("distribution").cast(pl.String),
        verdict=pl.when("chosen").then(pl.lit("chosen")).otherwise(pl.lit("not chosen")),
        failure=pl.when(pl.col("delta").is_null())
        .then(pl.format("could not be fitted to {} pathways", "n_failed")),
        place=pl.col("delta").fill_null(float("inf")).rank("ordinal").over("property"),
    )  # fmt: skip
    order = words["property"].unique(maintain_order=True).to_list()
    y = alt.Y("distribution:N", title=None, sort=alt.EncodingSortField("place", op="min"),
              axis=alt.Axis(grid=True))  # fmt: skip
    points = (
        alt.Chart()
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x=alt.X("delta:Q", title="criterion above the best one's (1), symmetric-logarithmic",
                    scale=alt.Scale(type="symlog", constant=1, domainMin=0),
                    axis=alt.Axis(labelExpr="format(datum.value, '~s')",
                                  values=[0, *(10**k for k in range(1, 13))])),
            y=y,
            color=alt.Color("verdict:N",
                            scale=alt.Scale(domain=["chosen", "not chosen"],
                                            range=[palette.model, palette.data_line]),
                            legend=alt.Legend(title=None, orient="top")),
            tooltip=["property:N", "distribution:N",
                     alt.Tooltip("delta:Q", title="above the best", format=",.1f"),
                     alt.Tooltip("n_failed:Q", title="pathways not fitted", format=",")],
        )
    )  # fmt: skip
    failures = (
        alt.Chart()
        .transform_filter("isValid(datum.failure)")
        .mark_text(align="left", color=palette.quiet, fontSize=10)
        .encode(x=alt.value(4), y=y, text="failure:N")
    )
    title = "Evidence for the candidate distributions"
    header = alt.Header(labelOrient="top", labelAnchor="start", labelFontWeight=600,
                        labelPadding=2)  # fmt: skip
    return alt.FacetChart(
        as_data(words),
        spec=alt.LayerChart(layer=[points, failures], width=420, height=alt.Step(16)),
        facet={"row": alt.Row("property:N", title=None, sort=order, header=header)},
        spacing=8,
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(y="independent")),
        title=title,
        description=f"{title}: difference of the criterion from the best one, over all pathways, "
        "by property.",
    )


def overview(
    statistics: pl.DataFrame, units: Mapping[str, str], *, palette: Palette = LIGHT
) -> alt.ConcatChart:
    """Draw each property's spread over pathways and within them.

    The pathways stand in order of their median; bands show the inner 50 % and 90 % of each
    one's values. Of many pathways, evenly spaced ones are drawn.

    Parameters
    ----------
    statistics
        :data:`connprops.schema.STATISTICS`.
    units
        Unit by property; its order is that of the charts.
    """
    drawn = [
        _spread(rows_of(statistics, property=name), name, unit, palette)
        for name, unit in units.items()
    ]
    title = "Properties: medians of pathways in order, with the inner 50 % and 90 % of values"
    return alt.ConcatChart(
        concat=drawn,
        columns=3,
        bounds="flush",  # so that panels stand in line, whatever the width of their labels
        spacing={"row": 84, "column": 84},
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(x="independent", y="independent")),
        title=title,
        description=f"{title}.",
    )


_DRAWN_AT_MOST = 240
"""Pathways in a chart of one pixel each."""


def _spread(rows: pl.DataFrame, name: str, unit: str, palette: Palette) -> alt.LayerChart:
    quantiles = ("q05", "q25", "q50", "q75", "q95")
    order = rows.drop_nulls(quantiles).sort("q50", *schema.PATHWAY).select(*quantiles)
    places = np.unique(np.linspace(0, max(len(order) - 1, 0), _DRAWN_AT_MOST).round().astype(int))
    thinned = order.with_row_index("rank", 1)[places[: len(order)].tolist()]
    base = alt.Chart(as_data(thinned)).encode(
        x=alt.X("rank:Q", title="pathways, by median (rank)",
                scale=alt.Scale(nice=False, zero=False), axis=alt.Axis(tickMinStep=1, tickCount=4))
    )  # fmt: skip
    y = alt.Y("q05:Q", title=unit_title(name, unit), scale=alt.Scale(zero=False))
    single = len(thinned) < 2  # noqa: PLR2004 - an area needs two places
    bands = [
        (base.mark_rule(strokeWidth=8) if single else base.mark_area())
        .encode(y=y if low == "q05" else alt.Y(f"{low}:Q"), y2=high, color=alt.value(palette.data),
                opacity=alt.value(opacity))
        for low, high, opacity in (("q05", "q95", 0.45), ("q25", "q75", 0.9))
    ]  # fmt: skip
    middle = base.mark_point(size=30) if single else base.mark_line(strokeWidth=1.5)
    line = middle.encode(y="q50:Q", color=alt.value(palette.data_line))
    return alt.LayerChart(
        layer=[*bands, line],
        width=260, height=130, title=alt.TitleParams(name, fontSize=12, frame="group"),
        description=f"{axis_title(name, unit)}: medians of {len(order)} pathways in order.",
    )  # fmt: skip
