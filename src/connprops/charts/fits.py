"""Charts of the evidence for a model: goodness of fit, and scores of the candidates."""

from __future__ import annotations

from typing import Literal

import altair as alt
import polars as pl

from connprops import schema
from connprops.charts import maps, theme
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, number, word

_WORST = 30
"""How many of the worst fits are drawn in order."""

ENOUGH = 10
"""Values of a pathway from which on it counts: a few are far from any distribution by chance."""


def goodness(
    fits: pl.DataFrame,
    types: pl.DataFrame,
    *,
    property: str,  # noqa: A002
    measure: Literal["misfit", "wasserstein"] = "misfit",
    unit: str = "",
) -> alt.ConcatChart:
    """Draw the distance of data and model for each pathway with data, and the worst in order.

    ``fits`` is :data:`connprops.schema.FITS`; ``unit`` is that of the property, and of its
    Wasserstein distance.
    """
    rows = rows_of(fits, property=property).with_columns(misfit=maps.MISFIT_OF_A_FIT)
    measured = rows.filter(pl.col("level") < 0, pl.col(measure).is_finite())
    style = maps.distance_style(property, measure, unit, measured[measure])
    distance = style.legend
    ranked = measured.filter(pl.col("n") >= ENOUGH)
    pathway = pl.format("{} → {}", *(pl.col(c).cast(pl.String) for c in schema.PATHWAY))
    worst = (
        (ranked if len(ranked) else measured)
        .sort(measure, *schema.PATHWAY, descending=[True, False, False])
        .head(_WORST)
        .select("n", "distribution", pathway=pathway, distance=measure)
    )
    least = f" to {ENOUGH} values or more" if len(ranked) else ""
    title = f"{property}: the {len(worst)} worst fits{least}"
    labels = alt.Axis(labelLimit=260, labelOverlap=False, labelPadding=6, ticks=False, domain=False)
    bars = alt.Chart(theme.as_data(worst)).mark_bar(color=LIGHT.data_line, height={"band": 0.7})
    x = alt.X("distance:Q", title=distance, axis=alt.Axis(tickCount=5))
    y = alt.Y("pathway:N", sort=None, title=None, axis=labels)
    numbers = number("distance"), number("n", "values", ",")
    bars = bars.encode(x=x, y=y, tooltip=[word("pathway"), *numbers, word("distribution")])
    bars = bars.properties(
        width=260,
        height=alt.Step(17),
        title=theme.heading(title, "by distance"),
        description=f"{title}, by {distance}.",
    )
    return maps.side_by_side([maps.pathway_map(measured, types, measure, style), bars])


def scores(table: pl.DataFrame) -> alt.FacetChart:
    """Draw the candidates of :data:`connprops.schema.SCORES` by criterion above the best one's."""
    failure = pl.format("could not be fitted to {} pathways", "n_failed")
    rows = theme.with_shown(table, "property").with_columns(
        pl.col("distribution").cast(pl.String),
        verdict=pl.when("chosen").then(pl.lit("chosen")).otherwise(pl.lit("not chosen")),
        failure=pl.when(pl.col("delta").is_null()).then(failure),
        place=pl.col("delta").fill_null(float("inf")).rank("ordinal").over("property"),
    )
    order = rows["property"].unique(maintain_order=True).to_list()
    by_place = alt.EncodingSortField("place", op="min")
    y = alt.Y("distribution:N", title=None, sort=by_place, axis=alt.Axis(grid=True))
    decades = [0, *(10**k for k in range(1, 13))]
    axis = alt.Axis(labelExpr="format(datum.value, '~s')", values=decades)
    scale = alt.Scale(type="symlog", constant=1, domainMin=0)
    x_title = "criterion above the best one's (1), symmetric-logarithmic"
    x = alt.X("delta:Q", title=x_title, scale=scale, axis=axis)
    points = alt.Chart().mark_point(filled=True, size=70, opacity=1)
    colours = {"chosen": LIGHT.model, "not chosen": LIGHT.data_line}
    numbers = [
        number("delta", "above the best", ",.1f"), number("n_failed", "pathways not fitted", ","),
    ]  # fmt: skip
    colour = theme.category_colour("verdict", colours, orient="top")
    tooltip = [word("property"), word("distribution"), *numbers]
    points = points.encode(x=x, y=y, color=colour, tooltip=tooltip)
    failures = alt.Chart().transform_filter("isValid(datum.failure)")
    failures = failures.mark_text(align="left", color=LIGHT.quiet, fontSize=10)
    layers = [points, failures.encode(x=alt.value(4), y=y, text="failure:N")]
    header = alt.Header(labelOrient="top", labelAnchor="start", labelFontWeight=600, labelPadding=2)
    title = "Evidence for the candidate distributions"
    return alt.FacetChart(
        theme.as_data(rows),
        spec=alt.LayerChart(layer=layers, width=420, height=alt.Step(16)),
        facet={"row": alt.Row("property:N", title=None, sort=order, header=header)},
        spacing=8,
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(y="independent")),
        title=title,
        description=f"{title}: difference of the criterion from the best one, over all pathways, "
        "by property.",
    )
