"""TODO."""

from __future__ import annotations

from typing import Literal

import altair as alt
import polars as pl

from connprops import schema
from connprops.charts.maps import (
    FORMAT,
    as_data,
    axis_title,
    quantity_map,
    statistic_unit,
    with_shown,
)
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette, heading, sequential_scale

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
