"""Maps of pathways: matrices of sources by targets, types ordered by class and layer."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import polars as pl

from connprops import schema
from connprops.charts.rows import rows_of
from connprops.charts.theme import (
    LIGHT,
    Palette,
    diverging_scale,
    heading,
    sequential_scale,
    shown,
    ticks,
)
from connprops.errors import OptionError

SOURCE, TARGET = schema.PATHWAY
LEVELS = ("observed", "level 0", "level 1", "level 2", "level 3", "level 4")
"""How far a model was borrowed, in words; place 0 is level -1."""

SHARED = {True: "shared", False: "varies", None: "cannot tell"}
AGREEMENT = ("alike", "only in the model", "only in the data")

_STATISTICS = {column.name: column for column in schema.STATISTICS.columns if column.unit}
FORMAT = ".4~g"
_ROWS_AT_MOST = 5000
"""Altair refuses frames of more rows, lest they be raw data; ours go in as JSON text then."""

_RESOLUTION = 1e-6
"""Relative to the data: smaller differences are rounding, most data being of single precision."""

_OWN_COLOURS = alt.Resolve(scale=alt.ScaleResolveMap(color="independent"))

Rows = pl.DataFrame | alt.InlineData | alt.NamedData
"""Rows, or the name of a dataset that somebody else puts into the specification."""


def type_order(types: pl.DataFrame, side: str) -> list[str]:
    """Return the types of one side: excitatory, inhibitory, other; in each by layer.

    Parameters
    ----------
    types
        :data:`connprops.schema.TYPES`.
    side
        ``"source"`` or ``"target"``.
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


def _class_starts(types: pl.DataFrame, side: str) -> list[str]:
    """Return the types that a new class begins with, but the first."""
    classes = dict(types.filter(pl.col("side") == side).select("type", "synapse_class").iter_rows())
    order = type_order(types, side)
    return [
        b for a, b in itertools.pairwise(order) if classes[a] != classes[b]
    ]  # fmt: skip


def axis_title(name: str, unit: str) -> str:
    """Return a quantity and its unit for an axis."""
    words = "synapses per connection" if name == schema.N_SYN_PER_CONN else name
    return shown(f"{words} ({unit_title(name, unit)})")


def unit_title(name: str, unit: str) -> str:
    """Return the unit of a quantity for an axis."""
    return "count" if name == schema.N_SYN_PER_CONN else shown(unit) or "unit unknown"


def statistic_unit(statistic: str, unit: str) -> str:
    """Return the unit of a statistic of a property whose unit is ``unit``."""
    column = _STATISTICS.get(statistic) or next(
        (c for c in schema.FITS.columns if c.name == statistic), None
    )
    return unit if column is None or column.unit == "property" else column.unit


def with_shown(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return rows whose names in some columns are as charts can show and sort them."""
    names = {name for column in columns for name in frame[column].cast(pl.String).drop_nulls()}
    texts = {name: shown(name) for name in sorted(names)}
    return frame.with_columns(pl.col(column).cast(pl.String).replace(texts) for column in columns)


def as_data(frame: Rows, *columns: str) -> Rows:
    """Return rows as data of a chart. JSON has no NaN or infinity: they become null."""
    if not isinstance(frame, pl.DataFrame):
        return frame
    frame = frame.select(columns) if columns else frame
    floats = pl.col(pl.Float64, pl.Float32)
    plain = frame.with_columns(
        pl.when(floats.is_finite()).then(floats), pl.col(pl.Enum, pl.Categorical).cast(pl.String)
    )
    if len(plain) <= _ROWS_AT_MOST:
        return plain
    return alt.InlineData(values=plain.write_json(), format=alt.JsonDataFormat(type="json"))


def _step(n: int, size: int) -> int:
    """Return the size of a cell in pixels: as large as is useful, never too small for a label."""
    return min(44, max(9, size // max(n, 1)))


def heat_map(
    cells: Rows,
    types: pl.DataFrame,
    colour: alt.Color,
    *,
    title: str,
    subtitle: str = "",
    missing: Rows | None = None,
    tooltip: Sequence[alt.Tooltip] = (),
    size: int = 600,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a matrix of pathways: sources down, targets across, in the order of types.

    Parameters
    ----------
    cells
        Rows with source_type, target_type and what ``colour`` and ``tooltip`` refer to.
    types
        :data:`connprops.schema.TYPES`.
    colour
        The encoding of the cells' colour, with its scale and legend.
    missing
        Rows with the source_type and target_type of pathways to be shown as without data.
    size
        About how many pixels wide and high; more where that is too small for the labels.
    """
    orders = {side: type_order(types, side) for side in ("source", "target")}
    steps = {side: _step(len(order), size) for side, order in orders.items()}

    def axis(side: str) -> dict[str, Any]:
        return {
            "sort": None,
            "scale": alt.Scale(domain=orders[side], paddingInner=0.04, paddingOuter=0),
            "title": f"{side} type",
            "axis": alt.Axis(
                labelOverlap=False,
                labelFontSize=min(11, steps[side] - 1),
                labelLimit=140,
                labelAngle=-90 if side == "target" else 0,
                domain=False,
                ticks=False,
                labelPadding=3,
                grid=False,
            ),
        }

    x, y = alt.X(TARGET, type="nominal", **axis("target")), alt.Y(
        SOURCE, type="nominal", **axis("source")
    )  # fmt: skip
    names = [alt.Tooltip(SOURCE, title="source", type="nominal"),
             alt.Tooltip(TARGET, title="target", type="nominal")]  # fmt: skip
    layers: list[alt.Chart] = []
    if missing is not None:
        nothing = alt.Color(
            "state:N",
            scale=alt.Scale(domain=["no data"], range=[palette.no_data]),
            legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
        )
        layers.append(
            alt.Chart(missing)
            .transform_calculate(state="'no data'")
            .mark_rect()
            .encode(
                x=x, y=y, color=nothing, tooltip=[*names, alt.Tooltip("state:N", title="value")]
            )
        )
    layers.append(alt.Chart(cells).mark_rect().encode(x=x, y=y, color=colour,
                                                      tooltip=[*names, *tooltip]))  # fmt: skip
    layers.extend(_class_lines(types, palette))
    shape = " by ".join(f"{len(orders[s])} {s} types ({a})" for s, a in
                        (("source", "rows"), ("target", "columns")))  # fmt: skip
    return alt.LayerChart(
        layer=layers,
        resolve=_OWN_COLOURS,
        width=alt.Step(steps["target"]),
        height=alt.Step(steps["source"]),
        title=heading(title, subtitle),
        description=f"{title}. Matrix of {shape}. {subtitle}".strip(),
    )


def _class_lines(types: pl.DataFrame, palette: Palette) -> list[alt.Chart]:
    """Return lines between the classes of types."""
    lines = []
    for side, field, channel in (("source", SOURCE, alt.Y), ("target", TARGET, alt.X)):
        starts = _class_starts(types, side)
        if starts:
            place = channel(field, type="nominal", bandPosition=0)
            lines.append(
                alt.Chart(pl.DataFrame({field: starts}))
                .mark_rule(color=palette.ink, strokeWidth=1, opacity=0.8)
                .encode(**{"y" if side == "source" else "x": place})
            )
    return lines


def gradient(title: str, scale: alt.Scale) -> alt.Legend:
    """Return the legend of a scale of colour."""
    return alt.Legend(
        title=title, orient="bottom", direction="horizontal", gradientLength=220,
        gradientThickness=10, values=ticks(scale), format=FORMAT,
    )  # fmt: skip


def _missing(cells: pl.DataFrame, types: pl.DataFrame, value: str) -> Rows | None:
    """Return the pathways without a value, if there are any."""
    sides = [
        pl.DataFrame({name: type_order(types, side)}, schema={name: pl.String})
        for name, side in ((SOURCE, "source"), (TARGET, "target"))
    ]
    known = cells.filter(pl.col(value).is_not_null()).select(
        pl.col(name).cast(pl.String) for name in schema.PATHWAY
    )
    rest = sides[0].join(sides[1], how="cross").join(known, on=schema.PATHWAY, how="anti")
    return as_data(rest) if len(rest) else None


def scale_note(scale: alt.Scale) -> str:
    """Return what a reader must know of a scale."""
    words = {"log": "logarithmic", "symlog": "symmetric-logarithmic"}
    return f"{words.get(scale.to_dict(validate=False)['type'], 'linear')} colours"


def quantity_map(
    table: pl.DataFrame,
    types: pl.DataFrame,
    value: str,
    *,
    title: str,
    legend: str,
    scale: alt.Scale | None = None,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a number of each pathway.

    Parameters
    ----------
    table
        One row per pathway: source_type, target_type and the column ``value``.
    legend
        What the number is, with its unit.
    scale
        Of colour; by default one that suits the values.
    """
    cells = table.select(*schema.PATHWAY, pl.col(value).cast(pl.Float64)).with_columns(
        pl.when(pl.col(value).is_finite()).then(pl.col(value))
    )
    scale = scale or sequential_scale(cells[value].drop_nulls().to_numpy(), palette)
    shown = cells.filter(pl.col(value).is_not_null())
    return heat_map(
        as_data(shown),
        types,
        alt.Color(value, type="quantitative", scale=scale, legend=gradient(legend, scale)),
        title=title,
        subtitle=scale_note(scale),
        missing=_missing(cells, types, value),
        tooltip=[alt.Tooltip(value, type="quantitative", title=legend, format=FORMAT)],
        palette=palette,
    )


def category_map(
    table: pl.DataFrame,
    types: pl.DataFrame,
    value: str,
    categories: Mapping[str, str],
    *,
    title: str,
    legend: str,
    palette: Palette = LIGHT,
) -> alt.LayerChart:
    """Draw a category of each pathway; ``categories`` gives their order and colours.

    The legend has those that occur; all where none does.
    """
    shown = table.select(*schema.PATHWAY, pl.col(value).cast(pl.String)).filter(
        pl.col(value).is_not_null()
    )
    there = set(shown[value]) or set(categories)
    return heat_map(
        as_data(shown),
        types,
        category_colour(value, {name: of for name, of in categories.items() if name in there}),
        title=title,
        missing=_missing(shown, types, value),
        tooltip=[alt.Tooltip(value, type="nominal", title=legend)],
        palette=palette,
    )


def category_colour(value: str, categories: Mapping[str, str]) -> alt.Color:
    """Return the encoding of a category, given the categories' colours."""
    return alt.Color(
        value,
        type="nominal",
        sort=None,
        scale=alt.Scale(domain=list(categories), range=list(categories.values())),
        legend=alt.Legend(title=None, orient="bottom", symbolType="square", columns=3),
    )


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
    """Draw one statistic of a property over all pathways: data, model, model less data.

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
    if statistic not in _STATISTICS and statistic != "shared_within":
        raise OptionError.unknown("statistic", statistic, [*_STATISTICS, "shared_within"])
    both = (
        rows_of(statistics, property=property)
        .select(*schema.PATHWAY, data=statistic)
        .cast(dict.fromkeys(schema.PATHWAY, pl.String))
    )
    if statistic in model.columns:
        other = rows_of(model, property=property).select(*schema.PATHWAY, model=statistic)
        both = both.join(
            other.cast(dict.fromkeys(schema.PATHWAY, pl.String)),
            on=schema.PATHWAY, how="full", coalesce=True,
        )  # fmt: skip
    if statistic == "shared_within":
        return _shared_maps(both, statistics, types, property, palette)
    head = f"{property}, {statistic}"
    legend = f"{statistic} of {axis_title(property, statistic_unit(statistic, unit))}"
    sides = [side for side in ("data", "model") if side in both.columns]
    both = both.with_columns(pl.col(side).cast(pl.Float64) for side in sides)
    common = sequential_scale(
        np.concatenate([both[side].drop_nulls().to_numpy() for side in sides]), palette
    )
    drawn = [
        quantity_map(both, types, side, title=f"{head}: {side}", legend=legend, scale=common,
                     palette=palette)
        for side in sides
    ]  # fmt: skip
    if "model" in sides:
        both = both.with_columns((pl.col("model") - pl.col("data")).alias("difference"))
        scale = difference_scale(both["data"], both["difference"], palette)
        drawn.append(
            quantity_map(both, types, "difference", title=f"{head}: model minus data",
                         legend=f"difference of {legend}", scale=scale, palette=palette)
        )  # fmt: skip
    return _in_a_row(drawn)


def difference_scale(data: pl.Series, difference: pl.Series, palette: Palette = LIGHT) -> alt.Scale:
    """Return the scale of differences from data, which are none below single precision."""
    size = float(np.abs(data.drop_nulls().to_numpy()).max(initial=0.0))
    return diverging_scale(difference.drop_nulls().to_numpy(), palette, least=_RESOLUTION * size)


def _shared_maps(
    both: pl.DataFrame, statistics: pl.DataFrame, types: pl.DataFrame, name: str, palette: Palette
) -> alt.HConcatChart:
    """Draw whether connections share a property: of data, of the model, and where they agree."""
    yes_no = shared_colours(palette)
    seen = rows_of(statistics, property=name).select(
        *(pl.col(c).cast(pl.String) for c in schema.PATHWAY), seen=pl.lit(value=True)
    )
    words = pl.col("data").replace_strict({True: SHARED[True], False: SHARED[False]})
    table = both.join(seen, on=schema.PATHWAY, how="left").with_columns(
        data_word=pl.when("seen").then(words.fill_null(SHARED[None]))
    )
    title = f"{name}, shared within a connection"
    drawn = [category_map(table, types, "data_word", yes_no, title=f"{title}: data",
                          legend="values of a connection", palette=palette)]  # fmt: skip
    if "model" in both.columns:
        table = table.with_columns(
            model_word=pl.col("model").replace_strict({True: SHARED[True], False: SHARED[False]}),
            difference=pl.when(pl.col("data") == pl.col("model"))
            .then(pl.lit(AGREEMENT[0]))
            .when(pl.col("model") & ~pl.col("data"))
            .then(pl.lit(AGREEMENT[1]))
            .when(pl.col("data") & ~pl.col("model"))
            .then(pl.lit(AGREEMENT[2])),
        )
        drawn += [
            category_map(table, types, "model_word", yes_no, title=f"{title}: model",
                         legend="values of a connection", palette=palette),
            category_map(table, types, "difference", agreement_colours(palette),
                         title=f"{title}: data and model", legend="shared", palette=palette),
        ]  # fmt: skip
    return _in_a_row(drawn)


def shared_colours(palette: Palette = LIGHT) -> dict[str, str]:
    """Return the categories of shared_within, each with its colour."""
    colours = (palette.data_line, palette.model, palette.quiet)
    return dict(zip(SHARED.values(), colours, strict=True))


def agreement_colours(palette: Palette = LIGHT) -> dict[str, str]:
    """Return how data and model may agree on shared_within, each with its colour."""
    return dict(zip(AGREEMENT, (palette.data, palette.model, palette.data_line), strict=True))


def _in_a_row(drawn: Sequence[alt.LayerChart]) -> alt.HConcatChart:
    description = " | ".join(str(chart.description) for chart in drawn)
    return alt.hconcat(*drawn, spacing=36, description=description, resolve=_OWN_COLOURS)


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
    one = rows_of(model, property=property).unique([*schema.PATHWAY], keep="first")
    words = one.with_columns(
        pl.col("level").cast(pl.Int64).replace_strict(
            {i - 1: word for i, word in enumerate(LEVELS)}, return_dtype=pl.String
        )
    )  # fmt: skip
    return category_map(
        words, types, "level", level_colours(palette),
        title=f"{property}: where the model comes from",
        legend="observed, or borrowed from level", palette=palette,
    )  # fmt: skip


def level_colours(palette: Palette = LIGHT) -> dict[str, str]:
    """Return the levels in words, each with its colour."""
    return dict(zip(LEVELS, palette.levels, strict=True))
