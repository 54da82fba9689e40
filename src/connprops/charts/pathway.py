"""Charts of one pathway and property: histogram, quantiles, cumulative distributions, ROC.

A function takes tidy rows, a bin or a quantile each, and gives an :class:`altair.Chart`. All that
matters to reading a chart is in the chart; its typography comes with a theme, see
:mod:`connprops.charts.theme`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from connprops.arrays import Floats
from connprops.charts import theme
from connprops.charts.theme import LIGHT, Palette, Rows, number

_THRESHOLDS = np.linspace(0, 1, 21)
_RATES = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Labels:
    """What the charts of a property say; ticks are whole numbers where values are.

    ``of_codes`` are the labels of a property whose values are codes.
    """

    name: str
    unit: str
    title: str
    subtitle: str = ""
    whole: bool = False
    of_codes: tuple[str, ...] | None = None

    @property
    def axis(self) -> str:
        """Return the property and its unit, which labels have not."""
        if self.of_codes is not None:
            return self.name
        return theme.axis_title(self.name, self.unit)

    def ticks(self, count: int) -> alt.Axis:
        """Return an axis with about so many ticks."""
        if self.of_codes is not None:
            codes = list(range(len(self.of_codes)))
            return alt.Axis(values=codes, labelExpr=f"{json.dumps(self.of_codes)}[datum.value]")
        return alt.Axis(tickCount=count, tickMinStep=1 if self.whole else alt.Undefined)


def histogram(
    bins: Rows, labels: Labels, *, counted: str = "values", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw a pathway's histogram, and what the model expects in the same bins.

    ``bins`` are rows of left, right, count, expected; ``counted`` says what the counts are of.
    """
    base = alt.Chart(theme.as_data(bins, "left", "right", "count", "expected"))
    ends = [number("left", "from"), number("right", "to")]
    tooltip = [*ends, number("count", "data", ","), number("expected", "model")]
    colour = _series({"data": palette.data, "model": palette.model}, "square")
    common: dict[str, Any] = {"color": colour, "tooltip": tooltip}
    axis, scale = labels.ticks(8) if labels.whole else alt.Undefined, alt.Scale(nice=False)
    x = alt.X("left:Q", bin="binned", title=labels.axis, axis=axis, scale=scale)
    y_title = f"number of {counted} (count)"
    y = alt.Y("count:Q", title=y_title, axis=alt.Axis(tickMinStep=1))
    bars = base.transform_calculate(series="'data'").mark_bar(binSpacing=0)
    there = base.transform_filter("datum.count > 0 || datum.expected > 0")
    rules = there.transform_calculate(series="'model'").mark_rule(strokeWidth=2)
    expected = alt.Y("expected:Q", title=y_title)
    layers = [
        bars.encode(x=x, x2="right:Q", y=y, **common),
        rules.encode(x=alt.X("left:Q"), x2="right:Q", y=expected, **common),
    ]
    what = "Bars: values per bin; lines: what the model expects in each bin."
    return _layered(layers, labels, what, width=420)


def density(bins: pl.DataFrame, labels: Labels) -> alt.LayerChart:
    """Draw what a model says by itself: rows of left, right and the share of values between."""
    tooltip = [number("left", "from"), number("right", "to"), number("share", "model", ".3p")]
    axis, scale = labels.ticks(6) if labels.whole else alt.Undefined, alt.Scale(nice=False)
    bars = alt.Chart(theme.as_data(bins)).mark_bar(binSpacing=0, color=LIGHT.model, opacity=0.75)
    x = alt.X("left:Q", bin="binned", title=labels.axis, axis=axis, scale=scale)
    y = alt.Y("share:Q", title="share of values", axis=alt.Axis(format="%", tickCount=5))
    drawn = bars.encode(x=x, x2="right:Q", y=y, tooltip=tooltip)
    return _layered([drawn], labels, "Shares of values that the model expects in each bin.")


def _series(colours: dict[str, str], symbol: str) -> alt.Color:
    """Return the colour of what a layer calculates as ``series``, with one legend for all."""
    look = {"orient": "top", "symbolType": symbol, "symbolStrokeWidth": 3}
    return theme.category_colour("series", colours, **look)


def _layered(
    layers: list[alt.Chart], labels: Labels, description: str, width: int = 250
) -> alt.LayerChart:
    return alt.LayerChart(
        layer=layers,
        width=width,
        height=250,
        title=theme.heading(labels.title, labels.subtitle),
        description=f"{labels.title}. {description}",
    )


def qq(points: Rows, labels: Labels, *, palette: Palette = LIGHT) -> alt.LayerChart:
    """Draw quantiles of the data against those of the model: rows of p, data, model."""
    base = alt.Chart(theme.as_data(points, "p", "data", "model"))
    common: dict[str, Any] = {"scale": alt.Scale(zero=False), "axis": labels.ticks(5)}
    titles = f"model: {labels.axis}", f"data: {labels.axis}"

    def axes(x: str, y: str) -> tuple[alt.X, alt.Y]:
        return alt.X(x, title=titles[0], **common), alt.Y(y, title=titles[1], **common)

    ends = base.transform_aggregate(a="min(data)", b="min(model)", c="max(data)", d="max(model)")
    ends = ends.transform_calculate(low="min(datum.a, datum.b)", high="max(datum.c, datum.d)")
    diagonal = ends.mark_rule(color=palette.quiet, strokeDash=[4, 3])
    dots = base.mark_circle(size=26, opacity=0.9, color=palette.data_line)
    layers = [
        diagonal.encode(*axes("low:Q", "low:Q"), x2="high:Q", y2="high:Q"),
        dots.encode(*axes("model:Q", "data:Q"), tooltip=[*map(number, ("p", "data", "model"))]),
    ]
    what = "Quantiles of the data against those of the model; on the dashed line they are equal."
    return _layered(layers, labels, what)


def cdf(points: Rows, labels: Labels, *, discrete: bool = False) -> alt.LayerChart:
    """Draw the cumulative distributions of data and model; arguments as for :func:`qq`.

    That of a model with ``discrete`` values has steps, as that of data always has.
    """
    base = alt.Chart(theme.as_data(points, "p", "data", "model"))
    common: dict[str, Any] = {"scale": alt.Scale(zero=False), "axis": labels.ticks(6)}
    y = alt.Y("p:Q", title="cumulative probability (1)", scale=alt.Scale(domain=[0, 1]))
    colour = _series({"data": LIGHT.data, "model": LIGHT.model}, "stroke")
    # The data's is wide, so that it is seen beneath a model that goes the same way.
    shapes: list[tuple[str, Literal["linear", "step-after"], float]] = [
        ("data", "step-after", 5),
        ("model", "step-after" if discrete else "linear", 2),
    ]
    layers = []
    for side, shape, width in shapes:
        series = base.transform_calculate(series=f"'{side}'")
        line = series.mark_line(interpolate=shape, strokeWidth=width)
        x = alt.X(f"{side}:Q", title=labels.axis, **common)
        layers.append(line.encode(x=x, y=y, color=colour, order="p:Q"))
    what = "Share of values up to each value, of the data and of the model."
    return _layered(layers, labels, what, width=320)


def roc_curve(
    edges: ArrayLike, data: ArrayLike, model: ArrayLike
) -> tuple[Floats, Floats, float, float]:
    """Return rates of model and data above thresholds, area less 0.5, and area off the diagonal.

    Thresholds are 0, 0.05, ... 1 of the way from the first bin's centre to the last one's; both
    areas are of trapezoids at model rates 0, 0.01, ... 1.
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


def roc(bins: pl.DataFrame, title: str, *, digits: int = 3) -> alt.LayerChart:
    """Draw how far a threshold can tell data and model apart; on the diagonal they are alike.

    ``bins`` has left, right, count and expected of adjacent bins.
    """
    edges = np.append(bins["left"], bins["right"][-1])
    false, true, auc, error = roc_curve(edges, bins["count"], bins["expected"])
    areas = f"AUC - 0.5 = {auc:z.{digits}f}, ERR = {error:.{digits}f}"
    unit, colour = alt.Scale(domain=[0, 1]), LIGHT.data_line
    x = alt.X("fpr:Q", title="share of the model above (false positive rate)", scale=unit)
    y = alt.Y("tpr:Q", title="share of the data above (true positive rate)", scale=unit)
    points = pl.DataFrame({"fpr": false, "tpr": true, "threshold": _THRESHOLDS[::-1]})
    ends = pl.DataFrame({"fpr": [0.0, 1.0], "tpr": [0.0, 1.0]})
    curve = alt.Chart(points).mark_line(point=alt.OverlayMarkDef(color=colour), color=colour)
    diagonal = alt.Chart(ends).mark_line(color=LIGHT.quiet, strokeDash=[4, 3])
    layers = [diagonal.encode(x=x, y=y), curve.encode(x=x, y=y, order="threshold:Q")]
    what = "Shares of data and model above thresholds; on the dashed line they are equal."
    return _layered(layers, Labels("", "", title, areas), f"{what} {areas}")
