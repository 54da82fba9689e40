"""A map that one can click, for notebooks: Jupyter, marimo and what else shows anywidgets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import Any

import altair as alt
import polars as pl

from connprops.charts import maps
from connprops.charts.plot import map_of, pathway_chart
from connprops.charts.theme import LIGHT
from connprops.errors import OptionError
from connprops.model.model import Model
from connprops.schema import PATHWAY
from connprops.statistics.statistics import Statistics

_CLICK = "pathway"


def explore(
    stats: Statistics,
    model: Model,
    property: str,  # noqa: A002
    statistic: str = "mean",
) -> Any:
    """Show a map of a property whose pathways open at a click: data and model beside it.

    It needs a running kernel and ``pip install connprops[notebook]``, and no network. In marimo,
    ``mo.ui.anywidget(cp.explore(...))``.

    Parameters
    ----------
    stats, model
        As :func:`connprops.extract` and :func:`connprops.build` return them.
    property
        Which one to map.
    statistic
        What of it: a column of :data:`connprops.schema.STATISTICS`.

    Returns
    -------
    altair.JupyterChart
        An anywidget; its ``opened`` is the pathway, a source and a target type, or None.

    Raises
    ------
    OptionError
        Where there is no such property or statistic, or anywidget is not installed.
    """
    if find_spec("anywidget") is None:
        raise OptionError.of(
            "A map to click needs anywidget", found="it is not installed",
            hint="pip install connprops[notebook]",
        )  # fmt: skip
    drawn = map_of(stats, property, statistic)
    widget = _offline_chart()(_beside(drawn, None, None))

    def clicked(change: Mapping[str, Any]) -> None:
        click = change["new"].get(_CLICK, {}).get("value") or {}
        ends = [click.get(side) or [None] for side in PATHWAY]
        pathway = ends[0][0], ends[1][0]
        if None not in pathway and pathway != widget.opened:
            widget.opened = pathway
            widget.chart = _beside(drawn, pathway, pathway_chart(stats, model, property, pathway))

    widget.observe(clicked, "_vl_selections")
    return widget


@cache
def _offline_chart() -> Any:
    """Return Altair's widget with all of its program in it."""
    import traitlets

    class PathwayMap(alt.JupyterChart):
        opened = traitlets.Any(allow_none=True)

        @traitlets.observe("chart")
        def _on_change_chart(self, change: Any) -> None:
            with alt.theme.enable(LIGHT.theme):  # while the specification is made
                super()._on_change_chart(change)

    PathwayMap.enable_offline()
    return PathwayMap


def _beside(drawn: Any, pathway: tuple[str, str] | None, opened: Any) -> alt.ConcatChart:
    """Return a map with a frame about a pathway, and the pathway's chart beside it."""
    source, target = PATHWAY
    value = [] if pathway is None else [dict(zip(PATHWAY, pathway, strict=True))]
    click = alt.selection_point(
        name=_CLICK, fields=[*PATHWAY], on="click", clear=False, empty=False, value=value
    )
    cells = drawn.concat[0].copy()
    framed = pl.DataFrame(value, schema=[*PATHWAY])
    frame = alt.Chart(framed).mark_rect(fill=None, stroke=LIGHT.ink, strokeWidth=2.5)
    cells = cells + frame.encode(x=f"{target}:N", y=f"{source}:N")
    parts = [cells.add_params(click), *([] if opened is None else [opened])]
    return maps.side_by_side(parts, resolve=drawn.resolve)
