"""Maps of pathways: matrices of sources by targets, types ordered by class and layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts import theme
from connprops.charts.rows import rows_of
from connprops.charts.theme import LIGHT, Palette, Rows, category_colour, number, word
from connprops.errors import OptionError
from connprops.pathways import Pathways

SOURCE, TARGET = schema.PATHWAY
LEVELS = ("observed", "level 0", "level 1", "level 2", "level 3", "level 4")
"""How far a model was borrowed, in words; place 0 is level -1."""

SHARED = {True: "shared", False: "varies", None: "cannot tell"}
AGREEMENT = ("alike", "only in the model", "only in the data")
_AGREEMENTS = {"shared, shared": AGREEMENT[0], "varies, varies": AGREEMENT[0],
               "varies, shared": AGREEMENT[1], "shared, varies": AGREEMENT[2]}  # fmt: skip
"""What the words of data and model come to; nothing where the data cannot tell."""

DISTANCES = {
    "misfit": "Kolmogorov-Smirnov distance times root n",
    "wasserstein": "Wasserstein distance",
}
MISFIT_OF_A_FIT = pl.col("ks") * pl.col("n").sqrt()
"""The first of them: a few values are far from any distribution by chance."""

MISFIT = 1.628
"""What chance exceeds of it in one fit of a hundred (Kolmogorov)."""

STATISTICS = (*(c.name for c in schema.STATISTICS.columns if c.unit), "shared_within")
"""Statistics that can be mapped."""

_UNITS = {c.name: c.unit for table in (schema.FITS, schema.STATISTICS) for c in table.columns}
_UNITS["misfit"] = "1"

SCREEN, _GAP, _LABELS = 1440, 36, 100
"""Pixels that a row of charts is wide at most; between charts; and of the names of types."""

_OWN_COLOURS = alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))

TYPES_AT_MOST = 200
"""Types of a side up to which all are drawn: of more, those with most connections."""


def shown_types(
    types: pl.DataFrame, pathways: pl.DataFrame, n: int = TYPES_AT_MOST
) -> pl.DataFrame:
    """Return the types to draw: of a side with too many, the n that have most connections."""
    shown = []
    for side in ("source", "target"):
        of_side = types.filter(pl.col("side") == side)
        if len(of_side) > TYPES_AT_MOST:
            name = pl.col(f"{side}_type").cast(pl.String).alias("type")
            sums = pathways.group_by(name).agg(pl.col("n_connections").sum())
            most = pl.col("n_connections").fill_null(0)
            order = of_side.join(sums, on="type", how="left").sort(-most.cast(pl.Int64), "code")
            of_side = order.head(n).sort("code").select(types.columns)
        shown.append(of_side)
    return pl.concat(shown)


@dataclass(frozen=True)
class MapStyle:
    """What a map shows beside its cells: title, legend, and colours by a scale or by category."""

    title: str
    legend: str
    scale: alt.Scale | None = None
    kind: str = "quantity"  # or one of those of :func:`category_colours`

    @property
    def note(self) -> str:
        """Return what a reader must know of the scale."""
        if self.scale is None:
            return ""
        words = {"log": "logarithmic", "symlog": "symmetric-logarithmic"}
        return f"{words.get(self.scale.to_dict(validate=False)['type'], 'linear')} colours"


def category_colours(kind: str, palette: Palette = LIGHT) -> dict[str, str]:
    """Return the categories of a kind of map in order, each with its colour."""
    names, colours = {
        "shared": (SHARED.values(), (palette.data_line, palette.model, palette.quiet)),
        "agreement": (AGREEMENT, (palette.data, palette.model, palette.data_line)),
        "level": (LEVELS, palette.levels),
    }[kind]
    return dict(zip(names, colours, strict=True))


def type_order(types: pl.DataFrame, side: str) -> list[str]:
    """Return the types of ``"source"`` or ``"target"``: excitatory, inhibitory, other; by layer.

    ``types`` is :data:`connprops.schema.TYPES`.
    """
    rows = types.filter(pl.col("side") == side).sort("code").to_dicts()
    numbers = {int(n) for row in rows for n in re.findall(r"\d+", row["layer"] or "")}
    # Cortex has six layers, and circuits that do not part the second from the third call both 23.
    places = {23: 2.5} if numbers <= {*range(1, 7), 23} else {}
    return [row["type"] for row in sorted(rows, key=lambda row: _class_and_layer(row, places))]


def _class_and_layer(row: Mapping[str, Any], places: Mapping[int, float]) -> tuple[Any, ...]:
    name, layer = row["synapse_class"], row["layer"]
    rank = {"EXC": 0, "INH": 1, None: 3}.get(name, 2)
    # Numbers within a layer's name count as numbers: 2 before 10, L2 before L10.
    parts = [
        (0, places.get(int(p), int(p)), "") if p.isdecimal() else (1, 0, p)
        for p in re.split(r"(\d+)", layer or "")
        if p
    ]
    return rank, name or "", layer is None, parts


def statistic_unit(statistic: str, unit: str) -> str:
    """Return the unit of a statistic of a property whose unit is ``unit``."""
    return unit if _UNITS.get(statistic, "property") == "property" else _UNITS[statistic]


def _step(n_types: int, size: int = 600) -> int:
    """Return the pixels of a type: as large as is useful, never too small for a label."""
    return min(44, max(9, size // max(n_types, 1)))


def heat_map(
    cells: Rows,
    missing: Rows | None,
    types: pl.DataFrame,
    value: str,
    style: MapStyle,
    *,
    colours: Mapping[str, str] | None = None,
    size: int = 600,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a matrix of pathways: sources down, targets across, in the order of types.

    ``colours`` of categories are by default all of the style's kind; ``size`` is about how many
    pixels wide and high, more where that is too small for labels.
    """
    orders = {side: type_order(types, side) for side in ("source", "target")}
    steps = {side: _step(len(order), size) for side, order in orders.items()}
    x, y = (
        channel(
            f"{side}_type:N",
            sort=None,
            title=f"{side} type",
            scale=alt.Scale(domain=orders[side], paddingInner=0.04, paddingOuter=0),
            axis=alt.Axis(
                labelAngle=angle, labelOverlap=False, labelFontSize=min(11, steps[side] - 1),
                labelLimit=140, labelPadding=3, domain=False, ticks=False, grid=False,
            ),
        )
        for channel, side, angle in ((alt.X, "target", -90), (alt.Y, "source", 0))
    )  # fmt: skip
    layers: list[alt.Chart] = []
    for data, tooltip, colour in _cells(cells, missing, value, style, colours, palette):
        tooltips = [word(SOURCE, "source"), word(TARGET, "target"), tooltip]
        layers.append(data.mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltips))
    layers.extend(_class_lines(types, orders, palette))
    rows, columns = (f"{len(order)} {side} types" for side, order in orders.items())
    shape = f"Matrix of {rows} (rows) by {columns} (columns)."
    return alt.LayerChart(
        layer=layers,
        resolve=_OWN_COLOURS,
        width=alt.Step(steps["target"]),
        height=alt.Step(steps["source"]),
        title=theme.heading(style.title, style.note),
        description=f"{style.title}. {shape} {style.note}".strip(),
    )


def _cells(
    cells: Rows,
    missing: Rows | None,
    value: str,
    style: MapStyle,
    colours: Mapping[str, str] | None,
    palette: Palette,
) -> Iterator[tuple[alt.Chart, alt.Tooltip, alt.Color]]:
    """Give what a map shows, pathways without data first: data, tooltip, colour."""
    square = {"orient": "bottom", "symbolType": "square"}
    if missing is not None:
        grey = category_colour("state", {"no data": palette.no_data}, **square)
        nothing = alt.Chart(missing).transform_calculate(state="'no data'")
        yield nothing, word("state", "value"), grey
    if style.scale is None:
        colours = category_colours(style.kind, palette) if colours is None else colours
        colour = category_colour(value, colours, **square, columns=3)
        yield alt.Chart(cells), word(value, style.legend), colour
    else:
        legend = _gradient(style.legend, style.scale)
        colour = alt.Color(value, type="quantitative", scale=style.scale, legend=legend)
        yield alt.Chart(cells), number(value, style.legend), colour


def _gradient(title: str, scale: alt.Scale) -> alt.Legend:
    values = theme.ticks(scale)
    marks = {"tickCount": 5} if values is None else {"values": values}
    return alt.Legend(
        title=title, orient="bottom", direction="horizontal", gradientLength=220,
        gradientThickness=10, format=theme.FORMAT, **marks,
    )  # fmt: skip


def _class_lines(
    types: pl.DataFrame, orders: Mapping[str, list[str]], palette: Palette
) -> list[alt.Chart]:
    """Return lines between the classes of types."""
    lines = []
    for side, field, channel in (("source", SOURCE, alt.Y), ("target", TARGET, alt.X)):
        rows = types.filter(pl.col("side") == side).select("type", "synapse_class")
        classes = dict(rows.iter_rows())
        starts = [b for a, b in itertools.pairwise(orders[side]) if classes[a] != classes[b]]
        if starts:
            base = alt.Chart(pl.DataFrame({field: starts}))
            rule = base.mark_rule(color=palette.ink, strokeWidth=1, opacity=0.8)
            lines.append(rule.encode(channel(field, type="nominal", bandPosition=0)))
    return lines


def pathway_map(
    table: pl.DataFrame, types: pl.DataFrame, value: str, style: MapStyle
) -> alt.LayerChart:
    """Draw a number or a category of each pathway, a row of ``table`` each.

    The legend has the categories that occur; all where none does.
    """
    names = pl.col(schema.PATHWAY).cast(pl.String)
    dtype = pl.String if style.scale is None else pl.Float64
    cells = table.select(names, pl.col(value).cast(dtype)).drop_nulls(value)
    colours = None
    if style.scale is None:
        there, every = set(cells[value]), category_colours(style.kind)
        colours = {name: colour for name, colour in every.items() if name in there} or every
    else:
        cells = cells.filter(pl.col(value).is_finite())
    pathways = Pathways(type_order(types, "source"), type_order(types, "target"))
    all_names = pl.DataFrame(pathways.columns(np.arange(len(pathways)))).select(names)
    missing = all_names.join(cells, on=schema.PATHWAY, how="anti")
    no_data = theme.as_data(missing) if len(missing) else None
    return heat_map(theme.as_data(cells), no_data, types, value, style, colours=colours)


def map_styles(
    name: str, statistic: str, unit: str, values: Mapping[str, pl.Series]
) -> dict[str, MapStyle]:
    """Return the styles of maps of a statistic: of data, of the model, of their difference.

    ``values`` has those of ``"data"`` and ``"model"``, of the same pathways.
    """
    if statistic == "shared_within":
        title, legend = f"{name}, shared within a connection", "values of a connection"
        styles = {side: MapStyle(f"{title}: {side}", legend, kind="shared") for side in values}
        both = MapStyle(f"{title}: data and model", "shared", kind="agreement")
        return styles | ({"difference": both} if "model" in values else {})
    title = f"{name}, {statistic}"
    legend = f"{statistic} of {theme.axis_title(name, statistic_unit(statistic, unit))}"
    scale = theme.sequential_scale(pl.concat([side.drop_nulls() for side in values.values()]))
    styles = {side: MapStyle(f"{title}: {side}", legend, scale) for side in values}
    if "model" in values:
        styles["difference"] = MapStyle(
            f"{title}: model minus data",
            f"difference of {legend}",
            difference_scale(values["data"], values["model"] - values["data"]),
        )
    return styles


def distance_style(name: str, measure: str, unit: str, values: pl.Series) -> MapStyle:
    """Return the style of a map of the distance of data and model."""
    of_scale = values.drop_nulls().to_list()
    if measure == "misfit":  # what chance explains has the colours of the lower end
        of_scale = [0.0, MISFIT, *of_scale]
    legend = theme.axis_title(DISTANCES[measure], statistic_unit(measure, unit))
    title = f"{name}: {DISTANCES[measure]} of data and model"
    return MapStyle(title, legend, theme.sequential_scale(of_scale))


def difference_scale(data: pl.Series, difference: pl.Series) -> alt.Scale:
    """Return the scale of differences from data, which are none below single precision."""
    size = float(np.abs(data.drop_nulls().to_numpy()).max(initial=0.0))
    return theme.diverging_scale(difference.drop_nulls(), least=theme.RESOLUTION * size)


def maps(
    statistics: pl.DataFrame,
    model: pl.DataFrame,
    types: pl.DataFrame,
    *,
    property: str,  # noqa: A002 - the tables' own word
    statistic: str = "mean",
    unit: str = "",
) -> alt.ConcatChart:
    """Draw one statistic of a property over all pathways: data, model, model minus data.

    ``statistics`` is :data:`connprops.schema.STATISTICS`, ``model`` from ``model_statistics``;
    where that has no such column, only data are drawn.
    """
    if statistic not in STATISTICS:
        raise OptionError.unknown("statistic", statistic, STATISTICS)
    value, difference = pl.col(statistic), pl.col("model") - pl.col("data")
    if statistic == "shared_within":
        value = value.cast(pl.Boolean).replace_strict(SHARED, return_dtype=pl.String)
        both_words = pl.concat_str("data", "model", separator=", ")
        difference = both_words.replace_strict(_AGREEMENTS, default=None, return_dtype=pl.String)
    else:
        value = value.cast(pl.Float64)
    names = pl.col(schema.PATHWAY).cast(pl.String)
    both = rows_of(statistics, property=property).select(names, data=value)
    if statistic in model.columns:
        fitted = rows_of(model, property=property).select(names, model=value)
        both = both.join(fitted, on=schema.PATHWAY, how="full", coalesce=True)
        both = both.with_columns(difference=difference)
    sides = {side: both[side] for side in both.columns if side in ("data", "model")}
    styles = map_styles(property, statistic, unit, sides)
    drawn = [pathway_map(both, types, side, style) for side, style in styles.items()]
    n = len(types.filter(pl.col("side") == "target"))
    return side_by_side(drawn, _LABELS + n * _step(n), resolve=_OWN_COLOURS)


def side_by_side(
    charts: Sequence[alt.LayerChart | alt.Chart], width: int = 0, **options: Any
) -> alt.ConcatChart:
    """Draw charts in a row, or where they are so many pixels wide in rows that fit a screen."""
    description = " | ".join(str(chart.description) for chart in charts)
    columns = max(1, (SCREEN + _GAP) // (width + _GAP))
    drawn: alt.ConcatChart = alt.concat(
        *charts, columns=columns, spacing=_GAP, description=description, **options
    )
    return drawn


def level_map(model: pl.DataFrame, types: pl.DataFrame, *, property: str) -> alt.LayerChart:  # noqa: A002
    """Draw how far each pathway's model of a property was borrowed, by its ``level``."""
    words = {i - 1: text for i, text in enumerate(LEVELS)}
    level = pl.col("level").cast(pl.Int64).replace_strict(words, return_dtype=pl.String)
    of_property = rows_of(model, property=property)
    rows = of_property.unique(schema.PATHWAY, keep="first", maintain_order=True)
    return pathway_map(rows.with_columns(level), types, "level", level_style(property))


def level_style(name: str) -> MapStyle:
    """Return the style of a map of levels."""
    title = f"{name}: where the model comes from"
    return MapStyle(title, "observed, or borrowed from level", kind="level")
