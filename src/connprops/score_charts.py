"""Charts of scores: correlations, models on data held back, and one model against another.

As in :mod:`connprops.charts`, a function takes tidy rows and gives an Altair chart.
"""

from __future__ import annotations

import altair as alt
import polars as pl

from connprops.maps import FORMAT, as_data
from connprops.schema import PATHWAY
from connprops.theme import LIGHT, Palette, diverging_scale

_ROW = 26
"""Height of a row of one property, in pixels."""

_STRIP_AT_MOST = 20_000
"""Points of a chart of strips: more would be neither told apart nor drawn quickly."""


def correlations(
    rows: pl.DataFrame, *, title: str = "Correlations", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw the correlations between properties as a matrix.

    Parameters
    ----------
    rows
        Rows of :data:`connprops.schema.CORRELATIONS` of one pathway; or one row a pair of
        properties, with ``r``.
    """
    pairs = rows.select(
        pl.col("property", "other_property").cast(pl.String), pl.col("r", "std_error")
    )
    mirrored = pairs.rename({"property": "other_property", "other_property": "property"})
    both = pl.concat([pairs, mirrored.select(pairs.columns)])
    dtype, there = rows.schema["property"], set(both["property"])
    order = dtype.categories.to_list() if isinstance(dtype, pl.Enum) else sorted(there)
    names = [name for name in order if name in there]
    scale = diverging_scale([-1.0, 1.0], palette=palette)
    base = alt.Chart(as_data(both)).encode(
        x=alt.X("property:N", title=None, sort=names, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("other_property:N", title=None, sort=names),
        tooltip=[
            "property:N",
            "other_property:N",
            alt.Tooltip("r:Q", format=".3f"),
            alt.Tooltip("std_error:Q", title="standard error", format=".3f"),
        ],
    )
    cells = base.mark_rect().encode(color=alt.Color("r:Q", title="correlation (1)", scale=scale))
    labels = base.mark_text(fontSize=10).encode(
        text=alt.Text("r:Q", format=".2f"),
        color=alt.when("abs(datum.r) > 0.6")  # where cells are dark
        .then(alt.value(palette.background))
        .otherwise(alt.value(palette.ink)),
    )
    side = max(len(names), 2) * 46
    return alt.LayerChart(
        layer=[cells, labels], width=side, height=side, title=title,
        description=f"{title}: each pair of properties, latent correlation from -1 to 1.",
    )  # fmt: skip


def cross_validation(
    summary: pl.DataFrame, *, title: str = "On data held back", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw, by property, what a model gains over the baseline on data held back.

    Parameters
    ----------
    summary
        From :meth:`connprops.CrossValidation.summary`: ``property``, ``gain`` and its
        ``gain_error``, in nats a value.
    """
    rows = summary.select(
        pl.col("property").cast(pl.String), "gain", "gain_error",
        (pl.col("gain") - 1.96 * pl.col("gain_error")).alias("low"),
        (pl.col("gain") + 1.96 * pl.col("gain_error")).alias("high"),
    ).filter(pl.col("gain").is_not_null())  # fmt: skip
    names = rows["property"].to_list()
    base = alt.Chart(as_data(rows)).encode(
        y=alt.Y("property:N", title=None, sort=names),
        tooltip=["property:N", alt.Tooltip("gain:Q", format=FORMAT),
                 alt.Tooltip("gain_error:Q", title="standard error", format=FORMAT)],
    )  # fmt: skip
    axis = alt.X("low:Q", title="log-likelihood gained over the baseline (nats a value)")
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(
        color=palette.quiet, strokeDash=[4, 3]
    ).encode(x="zero:Q")  # fmt: skip
    intervals = base.mark_rule(strokeWidth=2, color=palette.model).encode(x=axis, x2="high:Q")
    dots = base.mark_circle(size=60, color=palette.model, opacity=1).encode(x="gain:Q")
    return alt.LayerChart(
        layer=[zero, intervals, dots], width=420, height=_ROW * max(len(names), 1), title=title,
        description=f"{title}: gain in log-likelihood of each property with its 95 % interval; "
        "right of the dashed line the model foretells new data better than the baseline.",
    )  # fmt: skip


def comparison(
    table: pl.DataFrame, *, title: str = "Two models", palette: Palette = LIGHT
) -> alt.HConcatChart:
    """Draw how far two models are apart, by property: distance of laws, and shift of means.

    Parameters
    ----------
    table
        From :func:`connprops.compare`. Pathways that both models have from data are drawn, a dot
        each; of a property with too many, those that are furthest apart.
    """
    rows = (
        table.filter((pl.col("status") == "both") & pl.col("ks").is_not_null())
        .select(pl.col(*PATHWAY, "property").cast(pl.String), "ks", "shift", "n_a", "n_b")
        .sort("ks", descending=True)
    )
    names = table["property"].cast(pl.String).unique(maintain_order=True).to_list()
    at_most = _STRIP_AT_MOST // max(len(names), 1)
    data = as_data(rows.group_by("property", maintain_order=True).head(at_most))
    numbers = (alt.Tooltip(f"{name}:Q", format=FORMAT) for name in ("ks", "shift", "n_a", "n_b"))
    tooltip = [*(f"{name}:N" for name in (*PATHWAY, "property")), *numbers]

    def strip(quantity: str, axis_title: str, *, labels: bool) -> alt.Chart:
        axis = alt.Axis() if labels else alt.Axis(labels=False, ticks=False)
        ticks = alt.Chart(data).mark_tick(thickness=1, opacity=0.4, color=palette.data_line)
        drawn: alt.Chart = ticks.encode(
            # Near 0 as good as linear; one pathway of a tiny spread leaves room for the others.
            x=alt.X(f"{quantity}:Q", title=axis_title, scale=alt.Scale(type="symlog")),
            y=alt.Y("property:N", title=None, sort=names, axis=axis),
            tooltip=tooltip,
        ).properties(width=300, height=_ROW * max(len(names), 1))
        return drawn

    return alt.HConcatChart(
        hconcat=[
            strip("ks", "Kolmogorov-Smirnov distance of the laws (1)", labels=True),
            strip("shift", "shift of the mean, in standard deviations (1)", labels=False),
        ],
        title=title,
        description=f"{title}: a tick for each pathway that both have from data; on the left how "
        "far their laws are apart, on the right how far the second model's mean has moved.",
    )  # fmt: skip
