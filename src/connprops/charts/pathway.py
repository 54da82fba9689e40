"""Charts of one pathway and property: histogram, quantiles, cumulative distributions, ROC.

A function takes tidy rows, a bin or a quantile each, and gives an :class:`altair.Chart`. All that
matters to reading a chart is in the chart; its typography comes with a theme, see
:mod:`connprops.charts.theme`.
"""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from connprops.arrays import Floats
from connprops.charts.theme import (
    LIGHT,
    Palette,
    Rows,
    as_data,
    axis_title,
    category_colour,
    heading,
    number,
)

_THRESHOLDS = np.linspace(0, 1, 21)
_RATES = np.linspace(0, 1, 101)


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
    base = alt.Chart(as_data(bins, "left", "right", "count", *["expected"] * with_model))
    colour = _series(palette, with_model, "square")
    tooltip = [number("left", "from"), number("right", "to"), number("count", "data", ",")]
    tooltip += [number("expected", "model")] * with_model
    axis = alt.Axis(tickMinStep=1, tickCount=8) if whole else alt.Undefined
    scale = alt.Scale(nice=False)
    x = alt.X("left:Q", bin="binned", title=axis_title(property, unit), axis=axis, scale=scale)
    y_title = f"number of {counted} (count)"
    y = alt.Y("count:Q", title=y_title, axis=alt.Axis(tickMinStep=1))
    bars = base.transform_calculate(series="'data'").mark_bar(binSpacing=0)
    layers = [bars.encode(x=x, x2="right:Q", y=y, color=colour, tooltip=tooltip)]
    if with_model:
        there = base.transform_filter("datum.count > 0 || datum.expected > 0")
        rules = there.transform_calculate(series="'model'").mark_rule(strokeWidth=2)
        y = alt.Y("expected:Q", title=y_title)
        layers.append(rules.encode(x="left:Q", x2="right:Q", y=y, color=colour, tooltip=tooltip))
    what = "Bars: values per bin; lines: what the model expects in each bin."
    return _layered(layers, title, subtitle, what, width=420)


def _series(palette: Palette, with_model: bool, symbol: str) -> alt.Color:  # noqa: FBT001
    """Return the colour of what a layer calculates as ``series``, with one legend for all."""
    colours = {"data": palette.data} | ({"model": palette.model} if with_model else {})
    return category_colour("series", colours, orient="top", symbolType=symbol, symbolStrokeWidth=3)


def _layered(
    layers: list[alt.Chart], title: str, subtitle: str, description: str, width: int = 250
) -> alt.LayerChart:
    return alt.LayerChart(
        layer=layers,
        width=width,
        height=250,
        title=heading(title, subtitle),
        description=f"{title}. {description}",
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
        One row per quantile: p, data, model; see :func:`connprops.charts.rows.quantile_pairs`.
    whole
        Whether values are whole numbers, which ticks of the axes then are too.
    """
    base = alt.Chart(as_data(points, "p", "data", "model"))
    about: dict[str, Any] = {
        "scale": alt.Scale(zero=False),
        "axis": alt.Axis(tickCount=5, tickMinStep=1 if whole else alt.Undefined),
    }
    name = axis_title(property, unit)

    def axes(x: str, y: str) -> tuple[alt.X, alt.Y]:
        return alt.X(x, title=f"model: {name}", **about), alt.Y(y, title=f"data: {name}", **about)

    ends = base.transform_aggregate(a="min(data)", b="min(model)", c="max(data)", d="max(model)")
    ends = ends.transform_calculate(low="min(datum.a, datum.b)", high="max(datum.c, datum.d)")
    diagonal = ends.mark_rule(color=palette.quiet, strokeDash=[4, 3])
    dots = base.mark_circle(size=26, opacity=0.9, color=palette.data_line)
    layers = [
        diagonal.encode(*axes("low:Q", "low:Q"), x2="high:Q", y2="high:Q"),
        dots.encode(*axes("model:Q", "data:Q"), tooltip=[*map(number, ("p", "data", "model"))]),
    ]
    what = "Quantiles of the data against those of the model; on the dashed line they are equal."
    return _layered(layers, title, subtitle, what)


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
    about: dict[str, Any] = {
        "title": axis_title(property, unit),
        "scale": alt.Scale(zero=False),
        "axis": alt.Axis(tickCount=6, tickMinStep=1 if whole else alt.Undefined),
    }
    y = alt.Y("p:Q", title="cumulative probability (1)", scale=alt.Scale(domain=[0, 1]))
    colour = _series(palette, with_model=True, symbol="stroke")
    # The data's is wide, so that it is seen beneath a model that goes the same way.
    shapes: list[tuple[str, Literal["linear", "step-after"], float]] = [
        ("data", "step-after", 5),
        ("model", "step-after" if discrete else "linear", 2),
    ]
    layers = [
        base.transform_calculate(series=f"'{side}'")
        .mark_line(interpolate=shape, strokeWidth=width)
        .encode(x=alt.X(f"{side}:Q", **about), y=y, color=colour, order="p:Q")
        for side, shape, width in shapes
    ]
    what = "Share of values up to each value, of the data and of the model."
    return _layered(layers, title, subtitle, what, width=320)


def roc_curve(
    edges: ArrayLike, data: ArrayLike, model: ArrayLike
) -> tuple[Floats, Floats, float, float]:
    """Return the rates of model and data above thresholds, and two areas, as the reference does.

    Thresholds are 0, 0.05, ... 1 of the way from the first bin's centre to the last one's; a bin is
    above where its centre is, or on it. Between them the curve is linear, and its areas are those
    of trapezoids at model rates 0, 0.01, ... 1. The curve begins at the last bin's shares, not at
    (0, 0): histograms that are alike, with the share s in the last bin, differ in area by s^2 / 2.

    Parameters
    ----------
    edges
        Of the bins, (n + 1,).
    data, model
        Counts, (n,).

    Returns
    -------
    tuple
        False positive rate, the share of the model above, and true positive rate, that of the
        data, each (21,), increasing; the area under the curve less 0.5, positive where data are
        larger than the model; and the area between the curve and the diagonal.
    """
    centres = (np.asarray(edges)[:-1] + np.asarray(edges)[1:]) / 2
    width = centres[-1] - centres[0]
    above = (centres - centres[0]) / (width or 1.0) >= _THRESHOLDS[::-1, None]
    false, true = (
        (above * counts).sum(axis=1) / counts.sum() for counts in map(np.asarray, (model, data))
    )
    rate = np.interp(_RATES, false, true)
    auc = float(np.trapezoid(rate, _RATES)) - 0.5
    error = float(np.trapezoid(np.abs(rate - _RATES), _RATES))
    return false, true, auc, error


def roc(bins: pl.DataFrame, *, title: str, digits: int = 3) -> alt.LayerChart:
    """Draw how far a threshold can tell data and model apart; on the diagonal they are alike.

    Parameters
    ----------
    bins
        left, right, count and expected of adjacent bins.
    digits
        Of the areas in the subtitle.
    """
    edges = np.append(bins["left"], bins["right"][-1])
    false, true, auc, error = roc_curve(edges, bins["count"], bins["expected"])
    areas = f"AUC - 0.5 = {auc:z.{digits}f}, ERR = {error:.{digits}f}"
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("fpr:Q", title="share of the model above (false positive rate)", scale=unit)
    y = alt.Y("tpr:Q", title="share of the data above (true positive rate)", scale=unit)
    points = pl.DataFrame({"fpr": false, "tpr": true, "threshold": _THRESHOLDS[::-1]})
    ends = pl.DataFrame({"fpr": [0.0, 1.0], "tpr": [0.0, 1.0]})
    blue = LIGHT.data_line
    curve = alt.Chart(points).mark_line(point=alt.OverlayMarkDef(color=blue), color=blue)
    diagonal = alt.Chart(ends).mark_line(color=LIGHT.quiet, strokeDash=[4, 3])
    layers = [diagonal.encode(x=x, y=y), curve.encode(x=x, y=y, order="threshold:Q")]
    what = "Shares of data and model above thresholds; on the dashed line they are equal."
    return _layered(layers, title, areas, f"{what} {areas}")
