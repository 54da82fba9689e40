"""Charts of the tables: a function takes tidy rows and gives an :class:`altair.Chart`.

Rows are aggregated already, one a pathway, a bin or a quantile, so that charts stay small. All
that matters to reading a chart is in the chart; its typography comes with a theme, see
:mod:`connprops.charts.theme`. Maps of pathways are in :mod:`connprops.charts.maps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import altair as alt
import polars as pl

from connprops.charts.maps import (
    FORMAT,
    Rows,
    as_data,
    axis_title,
)
from connprops.charts.theme import LIGHT, Palette, heading

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
