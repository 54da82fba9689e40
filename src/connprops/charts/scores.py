"""Charts of scores: correlations, models on held-out data, and one model against another.

As in :mod:`connprops.charts.pathway`, a function takes tidy rows and gives an Altair chart.
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from connprops.charts import theme
from connprops.charts.maps import MapStyle, pathway_map
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette, Rows, diverging_scale, number, word
from connprops.schema import PATHWAY

_PAIR = ("property", "other_property")


def correlations(rows: pl.DataFrame, title: str = "Correlations") -> alt.LayerChart:
    """Draw the correlations ``r`` between properties, of one pathway, as a matrix."""
    pairs = rows.select(pl.col(_PAIR).cast(pl.String), "r", "std_error")
    mirrored = pairs.rename(dict(zip(_PAIR, reversed(_PAIR), strict=True)))
    both = pl.concat([pairs, mirrored.select(pairs.columns)])
    dtype, there = rows.schema["property"], set(both["property"])
    order = dtype.categories.to_list() if isinstance(dtype, pl.Enum) else sorted(there)
    names = [name for name in order if name in there]
    return correlation_matrix(theme.as_data(theme.with_shown(both, *_PAIR)), names, title=title)


def correlation_matrix(
    cells: Rows, names: Sequence[str], *, title: str = "Correlations", palette: Palette = LIGHT
) -> alt.LayerChart:
    """Draw a matrix of properties by properties, from cells of both orders of each pair."""
    names = [theme.shown(name) for name in names]
    error = number("std_error", "standard error", ".3f")
    base = alt.Chart(cells).encode(
        x=alt.X("property:N", title=None, sort=names, axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("other_property:N", title=None, sort=names),
        tooltip=[*map(word, _PAIR), number("r", format=".3f"), error],
    )
    scale = diverging_scale([-1.0, 1.0], palette)
    squares = base.mark_rect().encode(color=alt.Color("r:Q", title="correlation (1)", scale=scale))
    ink = alt.when("abs(datum.r) > 0.6").then(alt.value(palette.background))  # where cells are dark
    labels = base.mark_text(fontSize=10).encode(
        text=alt.Text("r:Q", format=".2f"), color=ink.otherwise(alt.value(palette.ink))
    )
    step = alt.Step(46 if len(names) <= 10 else 34)  # noqa: PLR2004 - many need smaller cells
    return alt.LayerChart(
        layer=[squares, labels],
        width=step,
        height=step,
        title=title,
        description=f"{title}: each pair of properties, latent correlation from -1 to 1.",
    )


def strongest(rows: pl.DataFrame) -> tuple[str, str]:
    """Return the pair of properties whose correlations are strongest, over all pathways."""
    pairs = rows.select(pl.col(_PAIR).cast(pl.String), pl.col("r").abs()).group_by(_PAIR)
    ranked = pairs.agg(pl.col("r").mean()).sort("r", *_PAIR, descending=[True, False, False])
    return ranked.row(0)[:2]


def correlation_map(
    rows: pl.DataFrame,
    types: pl.DataFrame,
    property: str,  # noqa: A002 - the tables' own word
    other_property: str,
) -> alt.LayerChart:
    """Draw the correlation ``r`` of two properties, in either order, of each pathway."""
    pair = pl.concat(
        rows_of(rows, property=a, other_property=b)
        for a, b in ((property, other_property), (other_property, property))
    )
    title = f"Correlation of {property} and {other_property}"
    style = MapStyle(title, "correlation (1)", diverging_scale([-1.0, 1.0]))
    return pathway_map(pair, types, "r", style)


def _property_axis(names: Sequence[str], *, labels: bool) -> alt.Y:
    """Return an axis with a row a property; the second of two charts has no labels."""
    axis = alt.Axis() if labels else alt.Axis(labels=False, ticks=False)
    scale = alt.Scale(domain=names)
    return alt.Y("property:N", title=None, sort=names, scale=scale, axis=axis)


def _by_property(
    charts: Sequence[alt.Chart | alt.LayerChart], names: Sequence[str], title: str, what: str
) -> alt.HConcatChart:
    """Return charts with a row a property side by side."""
    height = 26 * max(len(names), 1)
    return alt.HConcatChart(
        hconcat=[chart.properties(width=320, height=height) for chart in charts],
        title=title,
        description=f"{title}: {what}",
    )


def cross_validation(summary: pl.DataFrame) -> alt.HConcatChart:
    """Draw by property what a model gains over the baseline on held-out data, and distances.

    ``summary`` is from :meth:`connprops.CrossValidation.summary`.
    """
    rows = theme.with_shown(summary, "property")
    names = rows["property"].to_list()
    margin = 1.96 * pl.col("gain_error")
    gains = rows.filter(pl.col("gain").is_finite()).select(
        "property", "gain", "gain_error", low=pl.col("gain") - margin, high=pl.col("gain") + margin
    )
    tooltip = [word("property"), number("gain"), number("gain_error", "standard error")]
    base = alt.Chart(theme.as_data(gains)).encode(
        y=_property_axis(names, labels=True), tooltip=tooltip
    )
    x = alt.X("low:Q", title="log-likelihood gained over the baseline (nats a value)",
              axis=alt.Axis(tickCount=5))  # fmt: skip
    zero = alt.Chart(alt.InlineData(values=[{"zero": 0}])).mark_rule(
        color=LIGHT.quiet, strokeDash=[4, 3]
    )
    intervals = base.mark_rule(strokeWidth=2, color=LIGHT.model).encode(x=x, x2="high:Q")
    dots = base.mark_circle(size=60, color=LIGHT.model, opacity=1).encode(x="gain:Q")
    distances = rows.select("property", baseline="ks_reference", connprops="ks").unpivot(
        index="property", variable_name="model", value_name="ks"
    )
    colours = {"baseline": LIGHT.data, "connprops": LIGHT.model}
    apart = alt.Chart(theme.as_data(distances)).mark_circle(size=60, opacity=1)
    apart = apart.encode(
        x=alt.X("ks:Q", title="Kolmogorov-Smirnov distance (1)", axis=alt.Axis(tickCount=5)),
        y=_property_axis(names, labels=False),
        color=theme.category_colour("model", colours, orient="right"),
        tooltip=[word("property"), word("model"), number("ks")],
    )
    gained = alt.LayerChart(layer=[zero.encode(x="zero:Q"), intervals, dots])
    return _by_property(
        [gained, apart],
        names,
        "Cross-validation",
        "gain in log-likelihood of each property with its 95 % interval; right of the dashed line "
        "the model predicts held-out data better than the baseline. Beside it the distance of "
        "either model from these data.",
    )


def comparison(
    table: pl.DataFrame, *, title: str = "Two models", at_most: int = 20_000
) -> alt.HConcatChart:
    """Draw how far two models are apart, by property: distance, and shift of means.

    A tick for each pathway of :func:`connprops.compare` that both have from data; of more than
    ``at_most``, those that are furthest apart.
    """
    table = theme.with_shown(table, "property")
    names = table["property"].unique(maintain_order=True).to_list()
    numbers = ("ks", "shift", "n_a", "n_b")
    rows = (
        table.filter(pl.col("status") == "both", pl.col("ks").is_not_null())
        .select(pl.col(*PATHWAY).cast(pl.String), "property", *numbers)
        .sort("ks", descending=True)
        .group_by("property", maintain_order=True)
        .head(at_most // max(len(names), 1))
    )
    tooltip = [*map(word, (*PATHWAY, "property")), *map(number, numbers)]
    ticks = alt.Chart(theme.as_data(rows)).mark_tick(
        thickness=1, opacity=0.4, color=LIGHT.data_line
    )
    strips: list[alt.Chart] = []
    for quantity, axis_title, scale in (
        ("ks", "Kolmogorov-Smirnov distance of the distributions (1)", alt.Scale()),
        # Near 0 as good as linear; one pathway of a tiny spread leaves room for the others.
        ("shift", "shift of the mean (standard deviations)", alt.Scale(type="symlog")),
    ):
        x = alt.X(f"{quantity}:Q", title=axis_title, scale=scale, axis=alt.Axis(tickCount=5))
        y = _property_axis(names, labels=not strips)
        strips.append(ticks.encode(x=x, y=y, tooltip=tooltip))
    return _by_property(
        strips,
        names,
        title,
        "a tick for each pathway that both have from data; on the left how far their "
        "distributions are apart, on the right how far the second model's mean has moved.",
    )
