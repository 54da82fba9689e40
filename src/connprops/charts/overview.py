"""TODO."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts.maps import (
    Rows,
    as_data,
    axis_title,
    unit_title,
)
from connprops.charts.pathway import histogram
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette


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
