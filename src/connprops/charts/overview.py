"""The chart of all pathways together: each property's spread."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays.sorted_samples import QUANTILES
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, as_data, axis_title, unit_title


def overview(
    statistics: pl.DataFrame, units: Mapping[str, str], *, at_most: int = 240
) -> alt.ConcatChart:
    """Draw each property's spread over pathways and within them.

    Pathways stand in order of their median; bands show the inner 50 % and 90 % of each one's
    values. Of more than ``at_most`` pathways, evenly spaced ones are drawn.
    """
    drawn = [
        _spread(rows_of(statistics, property=name), name, unit, at_most)
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


def _spread(rows: pl.DataFrame, name: str, unit: str, at_most: int) -> alt.LayerChart:
    order = rows.drop_nulls(QUANTILES).sort("q50", *schema.PATHWAY).select(*QUANTILES)
    places = np.unique(np.linspace(0, max(len(order) - 1, 0), at_most).round().astype(int))
    thinned = order.with_row_index("rank", 1)[places[: len(order)].tolist()]
    axis, scale = alt.Axis(tickMinStep=1, tickCount=4), alt.Scale(nice=False, zero=False)
    x = alt.X("rank:Q", title="pathways, by median (rank)", axis=axis, scale=scale)
    base = alt.Chart(as_data(thinned)).encode(x=x)
    y = alt.Y("q05:Q", title=unit_title(name, unit), scale=alt.Scale(zero=False))
    single = len(thinned) < 2  # noqa: PLR2004 - an area needs two places
    layers = []
    for low, high, opacity in ((y, "q95", 0.45), (alt.Y("q25:Q"), "q75", 0.9)):
        band = base.mark_rule(strokeWidth=8) if single else base.mark_area()
        look = {"color": alt.value(LIGHT.data), "opacity": alt.value(opacity)}
        layers.append(band.encode(y=low, y2=high, **look))
    middle = base.mark_point(size=30) if single else base.mark_line(strokeWidth=1.5)
    layers.append(middle.encode(y="q50:Q", color=alt.value(LIGHT.data_line)))
    return alt.LayerChart(
        layer=layers,
        width=260,
        height=130,
        title=alt.TitleParams(name, fontSize=12, frame="group"),
        description=f"{axis_title(name, unit)}: medians of {len(order)} pathways in order.",
    )
