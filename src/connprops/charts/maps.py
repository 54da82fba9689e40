"""Maps of pathways: matrices of sources by targets, types ordered by class and layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts.rows import rows_of
from connprops.charts.theme import (
    FORMAT,
    LIGHT,
    Palette,
    Rows,
    as_data,
    axis_title,
    category_colour,
    diverging_scale,
    heading,
    number,
    sequential_scale,
    ticks,
    word,
)
from connprops.errors import OptionError
from connprops.pathways import Pathways

SOURCE, TARGET = schema.PATHWAY
LEVELS = ("observed", "level 0", "level 1", "level 2", "level 3", "level 4")
"""How far a model was borrowed, in words; place 0 is level -1."""

SHARED = {True: "shared", False: "varies", None: "cannot tell"}
AGREEMENT = ("alike", "only in the model", "only in the data")

DISTANCES = {"ks": "Kolmogorov-Smirnov distance", "wasserstein": "Wasserstein distance"}
STATISTICS = (*(c.name for c in schema.STATISTICS.columns if c.unit), "shared_within")
"""Statistics that can be mapped."""

_UNITS = {c.name: c.unit for table in (schema.FITS, schema.STATISTICS) for c in table.columns}

_RESOLUTION = 1e-6
"""Relative to the data: smaller differences are rounding, most data being of single precision."""


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

    Parameters
    ----------
    cells
        Rows with source_type, target_type and ``value``.
    missing
        Rows with the source_type and target_type of pathways to be shown as without data.
    types
        :data:`connprops.schema.TYPES`.
    colours
        Of categories, by default all of those of the style's kind.
    size
        About how many pixels wide and high; more where that is too small for the labels.
    """
    orders = {side: type_order(types, side) for side in ("source", "target")}
    # As large as is useful, never too small for a label.
    steps = {side: min(44, max(9, size // max(len(o), 1))) for side, o in orders.items()}
    x = alt.X(TARGET, type="nominal", **_axis("target", orders, steps, labelAngle=-90))
    y = alt.Y(SOURCE, type="nominal", **_axis("source", orders, steps, labelAngle=0))
    names = [word(SOURCE, "source"), word(TARGET, "target")]
    square = {"orient": "bottom", "symbolType": "square"}
    layers: list[alt.Chart] = []
    if missing is not None:
        grey = category_colour("state", {"no data": palette.no_data}, **square)
        nothing = alt.Chart(missing).transform_calculate(state="'no data'").mark_rect()
        layers.append(
            nothing.encode(x=x, y=y, color=grey, tooltip=[*names, word("state", "value")])
        )
    if style.scale is None:
        colours = category_colours(style.kind, palette) if colours is None else colours
        colour = category_colour(value, dict(colours), **square, columns=3)
        tooltip = [*names, word(value, style.legend)]
    else:
        legend = _gradient(style.legend, style.scale)
        colour = alt.Color(value, type="quantitative", scale=style.scale, legend=legend)
        tooltip = [*names, number(value, style.legend)]
    layers.append(alt.Chart(cells).mark_rect().encode(x=x, y=y, color=colour, tooltip=tooltip))
    layers.extend(_class_lines(types, orders, palette))
    shape = (
        f"{len(orders['source'])} source types (rows) by "
        f"{len(orders['target'])} target types (columns)"
    )
    return alt.LayerChart(
        layer=layers,
        resolve=_own_colours(),
        width=alt.Step(steps["target"]),
        height=alt.Step(steps["source"]),
        title=heading(style.title, style.note),
        description=f"{style.title}. Matrix of {shape}. {style.note}".strip(),
    )


def _axis(
    side: str, orders: Mapping[str, list[str]], steps: Mapping[str, int], **labels: Any
) -> dict[str, Any]:
    return {
        "sort": None,
        "scale": alt.Scale(domain=orders[side], paddingInner=0.04, paddingOuter=0),
        "title": f"{side} type",
        "axis": alt.Axis(
            labelOverlap=False,
            labelFontSize=min(11, steps[side] - 1),
            labelLimit=140,
            domain=False,
            ticks=False,
            labelPadding=3,
            grid=False,
            **labels,
        ),
    }


def _gradient(title: str, scale: alt.Scale) -> alt.Legend:
    values = ticks(scale)
    return alt.Legend(
        title=title,
        orient="bottom",
        direction="horizontal",
        gradientLength=220,
        gradientThickness=10,
        format=FORMAT,
        **({"tickCount": 5} if values is None else {"values": values}),
    )


def _own_colours() -> alt.Resolve:
    return alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))


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
            rule = alt.Chart(pl.DataFrame({field: starts})).mark_rule(
                color=palette.ink, strokeWidth=1, opacity=0.8
            )
            lines.append(rule.encode(channel(field, type="nominal", bandPosition=0)))
    return lines


def pathway_map(
    table: pl.DataFrame,
    types: pl.DataFrame,
    value: str,
    style: MapStyle,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a number or a category of each pathway.

    The legend has the categories that occur; all where none does.

    Parameters
    ----------
    table
        One row per pathway: source_type, target_type and the column ``value``.
    """
    names = [pl.col(name).cast(pl.String) for name in schema.PATHWAY]
    dtype = pl.String if style.scale is None else pl.Float64
    cells = table.select(*names, pl.col(value).cast(dtype)).drop_nulls(value)
    colours = None
    if style.scale is None:
        there = set(cells[value])
        colours = {
            name: colour
            for name, colour in category_colours(style.kind, palette).items()
            if name in there or not there
        }
    else:
        cells = cells.filter(pl.col(value).is_finite())
    pathways = Pathways(type_order(types, "source"), type_order(types, "target"))
    every = pl.DataFrame(pathways.columns(np.arange(len(pathways)))).select(names)
    missing = every.join(cells, on=schema.PATHWAY, how="anti")
    return heat_map(
        as_data(cells),
        as_data(missing) if len(missing) else None,
        types,
        value,
        style,
        colours=colours,
        palette=palette,
    )


def map_styles(
    name: str,
    statistic: str,
    unit: str,
    values: Mapping[str, pl.Series],
    palette: Palette = LIGHT,
) -> dict[str, MapStyle]:
    """Return the styles of the maps of a statistic: of data, of the model, of their difference.

    Parameters
    ----------
    values
        By ``"data"`` and ``"model"``, as far as there are such maps, values of the same pathways.
    """
    if statistic == "shared_within":
        title, legend = f"{name}, shared within a connection", "values of a connection"
        styles = {side: MapStyle(f"{title}: {side}", legend, kind="shared") for side in values}
        both = MapStyle(f"{title}: data and model", "shared", kind="agreement")
        return styles | ({"difference": both} if "model" in values else {})
    title = f"{name}, {statistic}"
    legend = f"{statistic} of {axis_title(name, statistic_unit(statistic, unit))}"
    together = np.concatenate([side.drop_nulls().to_numpy() for side in values.values()])
    scale = sequential_scale(together, palette)
    styles = {side: MapStyle(f"{title}: {side}", legend, scale) for side in values}
    if "model" in values:
        styles["difference"] = MapStyle(
            f"{title}: model minus data",
            f"difference of {legend}",
            difference_scale(values["data"], values["model"] - values["data"], palette),
        )
    return styles


def distance_style(
    name: str, measure: str, unit: str, values: pl.Series, palette: Palette = LIGHT
) -> MapStyle:
    """Return the style of a map of the distance of data and model."""
    of_scale = values.drop_nulls().to_list()
    if measure == "ks":  # a part of a whole
        of_scale = [0.0, max(of_scale, default=1.0)]
    scale = sequential_scale(of_scale, palette)
    legend = axis_title(DISTANCES[measure], statistic_unit(measure, unit))
    return MapStyle(f"{name}: {DISTANCES[measure]} of data and model", legend, scale)


def difference_scale(data: pl.Series, difference: pl.Series, palette: Palette = LIGHT) -> alt.Scale:
    """Return the scale of differences from data, which are none below single precision."""
    size = float(np.abs(data.drop_nulls().to_numpy()).max(initial=0.0))
    return diverging_scale(difference.drop_nulls().to_numpy(), palette, least=_RESOLUTION * size)


def maps(
    statistics: pl.DataFrame,
    model: pl.DataFrame,
    types: pl.DataFrame,
    *,
    property: str,  # noqa: A002 - the tables' own word
    statistic: str = "mean",
    unit: str = "",
    palette: Palette = LIGHT,
) -> alt.HConcatChart:
    """Draw one statistic of a property over all pathways: data, model, model minus data.

    Parameters
    ----------
    statistics
        :data:`connprops.schema.STATISTICS`.
    model
        As :func:`connprops.charts.rows.model_statistics` returns it. Where it has no column
        ``statistic``, only the data are drawn.
    types
        :data:`connprops.schema.TYPES`.

    Raises
    ------
    OptionError
        Where the statistics have no column ``statistic``.
    """
    if statistic not in STATISTICS:
        raise OptionError.unknown("statistic", statistic, STATISTICS)
    shared = statistic == "shared_within"
    value = pl.col(statistic).cast(pl.Boolean if shared else pl.Float64)
    names = [pl.col(name).cast(pl.String) for name in schema.PATHWAY]
    both = rows_of(statistics, property=property).select(*names, data=value)
    if shared:
        both = both.with_columns(_shared_words("data").fill_null(SHARED[None]))
    if statistic in model.columns:
        fitted = rows_of(model, property=property).select(*names, model=value)
        both = both.join(fitted, on=schema.PATHWAY, how="full", coalesce=True)
        if shared:
            both = both.with_columns(_shared_words("model")).with_columns(difference=_agreement())
        else:
            both = both.with_columns(difference=pl.col("model") - pl.col("data"))
    sides = {side: both[side] for side in both.columns if side in ("data", "model")}
    styles = map_styles(property, statistic, unit, sides, palette)
    return side_by_side(
        [pathway_map(both, types, side, style, palette) for side, style in styles.items()],
        resolve=_own_colours(),
    )


def _shared_words(side: str) -> pl.Expr:
    return pl.when(side).then(pl.lit(SHARED[True])).when(~pl.col(side)).then(
        pl.lit(SHARED[False])
    ).alias(side)  # fmt: skip


def _agreement() -> pl.Expr:
    """Return where data and model agree on what is shared; null where either does not say."""
    same, only_model = pl.col("data") == pl.col("model"), pl.col("model") == SHARED[True]
    word = pl.when(same).then(0).when(only_model).then(1).otherwise(2)
    text = word.replace_strict(dict(enumerate(AGREEMENT)), return_dtype=pl.String)
    return pl.when(pl.col("data") != SHARED[None], pl.col("model").is_not_null()).then(text)


def side_by_side(charts: Sequence[alt.LayerChart | alt.Chart], **options: Any) -> alt.HConcatChart:
    """Draw charts in a row."""
    description = " | ".join(str(chart.description) for chart in charts)
    row: alt.HConcatChart = alt.hconcat(*charts, spacing=36, description=description, **options)
    return row


def level_map(
    model: pl.DataFrame,
    types: pl.DataFrame,
    *,
    property: str,  # noqa: A002
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw how far each pathway's model of a property was borrowed.

    Parameters
    ----------
    model
        :data:`connprops.schema.MODEL`, or any table with property and level.
    """
    words = {i - 1: text for i, text in enumerate(LEVELS)}
    level = pl.col("level").cast(pl.Int64).replace_strict(words, return_dtype=pl.String)
    rows = rows_of(model, property=property).unique(
        schema.PATHWAY, keep="first", maintain_order=True
    )
    return pathway_map(rows.with_columns(level), types, "level", level_style(property), palette)


def level_style(name: str) -> MapStyle:
    """Return the style of a map of levels."""
    title = f"{name}: where the model comes from"
    return MapStyle(title, "observed, or borrowed from level", kind="level")
