"""Charts of the evidence for a model: goodness of fit, and scores of the candidates."""

from __future__ import annotations

from typing import Literal

import altair as alt
import polars as pl

from connprops import schema
from connprops.charts.maps import (
    distance_style,
    pathway_map,
    side_by_side,
)
from connprops.charts.rows import rows_of
from connprops.charts.theme import (
    LIGHT,
    Palette,
    as_data,
    category_colour,
    heading,
    number,
    with_shown,
    word,
)


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
    style = distance_style(property, measure, unit, measured[measure], palette)
    distance = style.legend
    ranked = measured.filter(pl.col("n") >= n_enough)
    pathway = pl.format("{} → {}", *(pl.col(c).cast(pl.String) for c in schema.PATHWAY))
    worst = (
        (ranked if len(ranked) else measured)
        .sort(measure, *schema.PATHWAY, descending=[True, False, False])
        .head(n_worst)
        .select("n", "distribution", pathway=pathway, distance=measure)
    )
    least = f" to {n_enough} values or more" if len(ranked) else ""
    title = f"{property}: the {len(worst)} worst fits{least}"
    labels = alt.Axis(labelLimit=260, labelOverlap=False, labelPadding=6, ticks=False, domain=False)
    bars = alt.Chart(as_data(worst)).mark_bar(color=palette.data_line, height={"band": 0.7})
    bars = bars.encode(
        x=alt.X("distance:Q", title=distance, axis=alt.Axis(tickCount=5)),
        y=alt.Y("pathway:N", sort=None, title=None, axis=labels),
        tooltip=[
            word("pathway"), number("distance"), number("n", "values", ","), word("distribution"),
        ],
    ).properties(
        width=260,
        height=alt.Step(17),
        title=heading(title, "by distance"),
        description=f"{title}, by {distance}.",
    )  # fmt: skip
    return side_by_side([pathway_map(measured, types, measure, style, palette), bars])


def scores(table: pl.DataFrame, *, palette: Palette = LIGHT) -> alt.FacetChart:
    """Draw the candidates for each property by the criterion above the best one's.

    Parameters
    ----------
    table
        :data:`connprops.schema.SCORES`.
    """
    failure = pl.format("could not be fitted to {} pathways", "n_failed")
    rows = with_shown(table, "property").with_columns(
        pl.col("distribution").cast(pl.String),
        verdict=pl.when("chosen").then(pl.lit("chosen")).otherwise(pl.lit("not chosen")),
        failure=pl.when(pl.col("delta").is_null()).then(failure),
        place=pl.col("delta").fill_null(float("inf")).rank("ordinal").over("property"),
    )
    order = rows["property"].unique(maintain_order=True).to_list()
    y = alt.Y(
        "distribution:N",
        title=None,
        sort=alt.EncodingSortField("place", op="min"),
        axis=alt.Axis(grid=True),
    )
    decades = [0, *(10**k for k in range(1, 13))]
    x = alt.X(
        "delta:Q",
        title="criterion above the best one's (1), symmetric-logarithmic",
        scale=alt.Scale(type="symlog", constant=1, domainMin=0),
        axis=alt.Axis(labelExpr="format(datum.value, '~s')", values=decades),
    )
    points = alt.Chart().mark_point(filled=True, size=70, opacity=1)
    colours = {"chosen": palette.model, "not chosen": palette.data_line}
    numbers = [
        number("delta", "above the best", ",.1f"), number("n_failed", "pathways not fitted", ","),
    ]  # fmt: skip
    points = points.encode(
        x=x,
        y=y,
        color=category_colour("verdict", colours, orient="top"),
        tooltip=[word("property"), word("distribution"), *numbers],
    )
    failures = alt.Chart().transform_filter("isValid(datum.failure)")
    failures = failures.mark_text(align="left", color=palette.quiet, fontSize=10)
    layers = [points, failures.encode(x=alt.value(4), y=y, text="failure:N")]
    header = alt.Header(labelOrient="top", labelAnchor="start", labelFontWeight=600, labelPadding=2)
    title = "Evidence for the candidate distributions"
    return alt.FacetChart(
        as_data(rows),
        spec=alt.LayerChart(layer=layers, width=420, height=alt.Step(16)),
        facet={"row": alt.Row("property:N", title=None, sort=order, header=header)},
        spacing=8,
        resolve=alt.Resolve(scale=alt.ScaleResolveMap(y="independent")),
        title=title,
        description=f"{title}: difference of the criterion from the best one, over all pathways, "
        "by property.",
    )
