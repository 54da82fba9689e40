"""Charts of scores: correlations, models on data held back, and one model against another.

As in :mod:`connprops.charts.pathway`, a function takes tidy rows and gives an Altair chart.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from connprops.charts.maps import FORMAT, Rows, as_data, quantity_map, with_shown
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette, diverging_scale, shown
from connprops.schema import PATHWAY

_ROW = 26
"""Height of a row of one property, in pixels."""

_CELL, _SMALL_CELL, _FEW = 46, 34, 10
"""Sizes of a cell of a matrix, in pixels, and up to how many properties it is the larger."""

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
    cells = as_data(with_shown(both, "property", "other_property"))
    return correlation_matrix(cells, names, title=title, palette=palette)


def correlation_matrix(
    cells: Rows, names: Sequence[str], *, title: str = "Correlations", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw a matrix of properties by properties.

    Parameters
    ----------
    cells
        property, other_property, r and std_error, of both orders of each pair.
    names
        Of the properties, in their order.
    """
    scale = diverging_scale([-1.0, 1.0], palette=palette)
    names = [shown(name) for name in names]
    base = alt.Chart(cells).encode(
        x=alt.X("property:N", title=None, sort=names, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("other_property:N", title=None, sort=names),
        tooltip=[
            "property:N",
            "other_property:N",
            alt.Tooltip("r:Q", format=".3f"),
            alt.Tooltip("std_error:Q", title="standard error", format=".3f"),
        ],
    )
    squares = base.mark_rect().encode(color=alt.Color("r:Q", title="correlation (1)", scale=scale))
    labels = base.mark_text(fontSize=10).encode(
        text=alt.Text("r:Q", format=".2f"),
        color=alt.when("abs(datum.r) > 0.6")  # where cells are dark
        .then(alt.value(palette.background))
        .otherwise(alt.value(palette.ink)),
    )
    step = alt.Step(_CELL if len(names) <= _FEW else _SMALL_CELL)
    return alt.LayerChart(
        layer=[squares, labels], width=step, height=step, title=title,
        description=f"{title}: each pair of properties, latent correlation from -1 to 1.",
    )  # fmt: skip


def strongest(rows: pl.DataFrame) -> tuple[str, str]:
    """Return the pair of properties whose correlations are strongest, over all pathways.

    Parameters
    ----------
    rows
        As for :func:`correlation_map`; not empty.
    """
    ranked = (
        rows.select(pl.col("property", "other_property").cast(pl.String), pl.col("r").abs())
        .group_by("property", "other_property")
        .agg(pl.col("r").mean())
        .sort("r", "property", "other_property", descending=[True, False, False])
    )
    return ranked["property"][0], ranked["other_property"][0]


def correlation_map(
    rows: pl.DataFrame,
    types: pl.DataFrame,
    property: str,  # noqa: A002 - the tables' own word
    other_property: str,
    *,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw the correlation of two properties of each pathway.

    Parameters
    ----------
    rows
        Rows of :data:`connprops.schema.CORRELATIONS`, or others with ``r``.
    types
        :data:`connprops.schema.TYPES`.
    property, other_property
        Of the pair, in either order.
    """
    pair = pl.concat(
        rows_of(rows, property=a, other_property=b)
        for a, b in ((property, other_property), (other_property, property))
    )
    return quantity_map(
        pair, types, "r", title=f"Correlation of {property} and {other_property}",
        legend="correlation (1)", scale=diverging_scale([-1.0, 1.0], palette=palette),
        palette=palette,
    )  # fmt: skip


def cross_validation(
    summary: pl.DataFrame, *, title: str = "Cross-validation", palette: Palette = LIGHT
) -> alt.HConcatChart:
    """Draw, by property, what a model gains over the baseline on data held back, and its distance.

    Parameters
    ----------
    summary
        From :meth:`connprops.CrossValidation.summary`: ``property``, ``gain`` and its
        ``gain_error``, in nats a value, ``ks`` and ``ks_reference``.
    """
    rows = with_shown(summary, "property").select(
        "property", "gain", "gain_error", "ks", "ks_reference",
        (pl.col("gain") - 1.96 * pl.col("gain_error")).alias("low"),
        (pl.col("gain") + 1.96 * pl.col("gain_error")).alias("high"),
    )  # fmt: skip
    names = rows["property"].to_list()
    height = _ROW * max(len(names), 1)

    def base(data: pl.DataFrame, *tooltip: alt.Tooltip, labels: bool) -> alt.Chart:
        axis = alt.Axis() if labels else alt.Axis(labels=False, ticks=False)
        drawn: alt.Chart = alt.Chart(as_data(data)).encode(
            y=alt.Y("property:N", title=None, sort=names, scale=alt.Scale(domain=names), axis=axis),
            tooltip=["property:N", *tooltip],
        )
        return drawn

    gained = base(
        rows.filter(pl.col("gain").is_finite()),
        alt.Tooltip("gain:Q", format=FORMAT),
        alt.Tooltip("gain_error:Q", title="standard error", format=FORMAT),
        labels=True,
    )
    axis = alt.X("low:Q", title="log-likelihood gained over the baseline (nats a value)",
                 axis=alt.Axis(tickCount=5))  # fmt: skip
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(
        color=palette.quiet, strokeDash=[4, 3]
    ).encode(x="zero:Q")  # fmt: skip
    intervals = gained.mark_rule(strokeWidth=2, color=palette.model).encode(x=axis, x2="high:Q")
    dots = gained.mark_circle(size=60, color=palette.model, opacity=1).encode(x="gain:Q")
    sides = ("baseline", "connprops")
    distances = rows.select(
        "property", pl.col("ks_reference").alias(sides[0]), pl.col("ks").alias(sides[1])
    ).unpivot(index="property", variable_name="model", value_name="ks")
    apart = (
        base(distances, alt.Tooltip("model:N"), alt.Tooltip("ks:Q", format=FORMAT), labels=False)
        .mark_circle(size=60, opacity=1)
        .encode(
            x=alt.X("ks:Q", title="Kolmogorov-Smirnov distance (1)", axis=alt.Axis(tickCount=5)),
            color=alt.Color("model:N", legend=alt.Legend(title=None, orient="right"),
                            scale=alt.Scale(domain=sides, range=[palette.data, palette.model])),
        )
    )  # fmt: skip
    return alt.HConcatChart(
        hconcat=[
            alt.LayerChart(layer=[zero, intervals, dots], width=320, height=height),
            apart.properties(width=320, height=height),
        ],
        title=title,
        description=f"{title}: gain in log-likelihood of each property with its 95 % interval; "
        "right of the dashed line the model foretells data held back better than the baseline. "
        "Beside it the distance of either model from these data.",
    )  # fmt: skip


def comparison(
    table: pl.DataFrame, *, title: str = "Two models", palette: Palette = LIGHT
) -> alt.HConcatChart:
    """Draw how far two models are apart, by property: distance, and shift of means.

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
    rows, table = with_shown(rows, "property"), with_shown(table, "property")
    names = table["property"].unique(maintain_order=True).to_list()
    at_most = _STRIP_AT_MOST // max(len(names), 1)
    data = as_data(rows.group_by("property", maintain_order=True).head(at_most))
    numbers = (alt.Tooltip(f"{name}:Q", format=FORMAT) for name in ("ks", "shift", "n_a", "n_b"))
    tooltip = [*(f"{name}:N" for name in (*PATHWAY, "property")), *numbers]

    def strip(quantity: str, axis_title: str, scale: alt.Scale, *, labels: bool) -> alt.Chart:
        axis = alt.Axis() if labels else alt.Axis(labels=False, ticks=False)
        ticks = alt.Chart(data).mark_tick(thickness=1, opacity=0.4, color=palette.data_line)
        drawn: alt.Chart = ticks.encode(
            x=alt.X(f"{quantity}:Q", title=axis_title, scale=scale, axis=alt.Axis(tickCount=5)),
            y=alt.Y("property:N", title=None, sort=names, axis=axis),
            tooltip=tooltip,
        ).properties(width=300, height=_ROW * max(len(names), 1))
        return drawn

    # Near 0 as good as linear; one pathway of a tiny spread leaves room for the others.
    far = alt.Scale(type="symlog")
    return alt.HConcatChart(
        hconcat=[
            strip("ks", "Kolmogorov-Smirnov distance (1)", alt.Scale(), labels=True),
            strip("shift", "shift of the mean (standard deviations)", far, labels=False),
        ],
        title=title,
        description=f"{title}: a tick for each pathway that both have from data; on the left how "
        "far distributions are apart, on the right how far the second model's mean has moved.",
    )  # fmt: skip
