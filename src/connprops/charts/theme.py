"""How charts look: colours and themes for light and dark pages, scales, titles and tooltips.

The themes ``"connprops"`` and ``"connprops_dark"`` are registered, and never enabled, when
this module is imported: ``with alt.theme.enable("connprops"): chart.save(...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from connprops import schema
from connprops.arrays import Floats

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
FORMAT = ".4~g"
"""Format of numbers in tooltips and legends."""

Rows = pl.DataFrame | alt.InlineData | alt.NamedData
"""Rows, or the name of a dataset that is put into the specification later."""


@dataclass(frozen=True)
class Palette:
    """The colours of a page; all of them can be told apart with any colour vision.

    ``theme`` is the Altair theme that goes with them, ``quiet`` for secondary text and axes. No
    scale contains the grey of ``no_data``. ``diverging`` goes from below to above the middle, of
    balanced lightness; ``levels`` are observed, then borrowed from 0 to 4, ever stronger.
    """

    theme: str
    background: str
    ink: str
    quiet: str
    grid: str
    no_data: str
    data: str
    data_line: str
    model: str
    diverging: tuple[str, ...]
    levels: tuple[str, ...]


LIGHT = Palette(
    theme="connprops", background="#ffffff", ink="#1f2328", quiet="#59636e", grid="#e6e8eb",
    no_data="#d3d5d8", data="#9dbfdd", data_line="#0072b2", model="#d55e00",
    diverging=("#1f5a9e", "#6aa5d1", "#cfe1ee", "#fbfaf8", "#f6d3bd", "#dd8153", "#a63a12"),
    levels=("#2f6f8f", "#fde9b0", "#fbc55f", "#f08f2e", "#c75b12", "#82330b"),
)  # fmt: skip
DARK = Palette(
    theme="connprops_dark", background="#15181c", ink="#e6e8ea", quiet="#a2abb5", grid="#2c3138",
    no_data="#40464d", data="#4c7397", data_line="#6cb6ee", model="#f58b4a",
    diverging=("#a9cdf0", "#5a97cf", "#2d5478", "#1d2126", "#71401f", "#cc7a3c", "#f7c49b"),
    levels=("#4a9cc0", "#fdecc0", "#fbcb6c", "#ef9840", "#cf6a25", "#99460f"),
)  # fmt: skip


def _theme(palette: Palette) -> alt.theme.ThemeConfig:
    text = {"labelColor": palette.ink, "titleColor": palette.ink, "titleFontWeight": "normal"}
    axis = text | {
        "labelColor": palette.quiet, "domainColor": palette.quiet, "tickColor": palette.quiet,
        "gridColor": palette.grid, "labelFontSize": 11, "titleFontSize": 12,
    }  # fmt: skip
    title = {
        "anchor": "start", "color": palette.ink, "fontSize": 14, "fontWeight": 600,
        "subtitleColor": palette.quiet, "subtitleFontSize": 11, "subtitlePadding": 4, "offset": 10,
    }  # fmt: skip
    config: Any = {
        "font": FONT,
        "padding": 12,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False},
        "legend": text | {"labelFontSize": 11, "titleFontSize": 11, "titleLimit": 400},
        "header": text | {"labelFontSize": 12},
        "title": title,
    }
    return {"background": palette.background, "config": config}


for _palette in (LIGHT, DARK):
    alt.theme.register(_palette.theme, enable=False)(partial(_theme, _palette))

_UNSHOWN = dict.fromkeys([*range(32), 0x7F, 0x85, 0x2028, 0x2029], " ") | {ord("\\"): "\u29f5"}


def shown(name: str) -> str:
    """Return a name as charts can show it: on one line, a backslash as its look-alike.

    Vega makes expressions of titles and escapes quotation marks alone: other text would be code.
    """
    return name.translate(_UNSHOWN)


def with_shown(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return rows whose names in some columns are as charts can show and sort them."""
    names = {name for column in columns for name in frame[column].cast(pl.String).drop_nulls()}
    texts = {name: shown(name) for name in sorted(names)}
    return frame.with_columns(pl.col(column).cast(pl.String).replace(texts) for column in columns)


def unit_title(name: str, unit: str) -> str:
    """Return the unit of a quantity for an axis."""
    return "count" if name == schema.N_SYN_PER_CONN else shown(unit) or "unit unknown"


def axis_title(name: str, unit: str) -> str:
    """Return a quantity and its unit for an axis."""
    words = "synapses per connection" if name == schema.N_SYN_PER_CONN else name
    return shown(f"{words} ({unit_title(name, unit)})")


def heading(title: str, subtitle: str = "") -> alt.TitleParams:
    """Return a chart's title, with a second line where there is one."""
    return alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title)


def number(field: str, title: str | None = None, format: str = FORMAT) -> alt.Tooltip:  # noqa: A002
    """Return a number in a tooltip."""
    return alt.Tooltip(field, type="quantitative", title=title or field, format=format)


def word(field: str, title: str | None = None) -> alt.Tooltip:
    """Return a name in a tooltip."""
    return alt.Tooltip(field, type="nominal", title=title or field)


def category_colour(field: str, colours: Mapping[str, str], **legend: Any) -> alt.Color:
    """Return the colour of a category, given the categories' colours in order."""
    return alt.Color(
        field,
        type="nominal",
        sort=None,
        scale=alt.Scale(domain=list(colours), range=list(colours.values())),
        legend=alt.Legend(title=None, **legend),
    )


def as_data(frame: Rows, *columns: str, at_most: int = 5000) -> Rows:
    """Return rows as data of a chart. JSON has no NaN or infinity: they become null.

    Altair refuses frames of more than ``at_most`` rows; those go in as JSON text.
    """
    if not isinstance(frame, pl.DataFrame):
        return frame
    frame = frame.select(columns) if columns else frame
    floats = pl.col(pl.Float64, pl.Float32)
    plain = frame.with_columns(
        pl.when(floats.is_finite()).then(floats), pl.col(pl.Enum, pl.Categorical).cast(pl.String)
    )
    if len(plain) <= at_most:
        return plain
    return alt.InlineData(values=plain.write_json(), format=alt.JsonDataFormat(type="json"))


_HEAVY = 2.5
"""A tail is heavy that reaches so many times the range of the inner 80 % from the median.

A normal sample of thousands has 1.4, an exponential one 3.4.
"""


def sequential_scale(values: ArrayLike) -> alt.Scale:
    """Return a scale of colour from the least to the greatest of the finite values.

    Not linear where the tail is heavy or values span decades, which would then be one colour.
    """
    finite = _finite(values)
    low, high = _domain(finite)
    parts: dict[str, Any] = {"type": "linear"}
    if _is_heavy(finite) and low > 0:
        # One value that is all but zero would leave the others in one colour.
        low = max(low, float(np.quantile(finite, 0.02)) / 10)
        parts = {"type": "log", "clamp": True}
    elif _is_heavy(finite):
        parts = {"type": "symlog", "constant": _knee(finite)}
    return alt.Scale(**parts, domain=[low, high], scheme="viridis", nice=False)


def diverging_scale(
    values: ArrayLike, palette: Palette = LIGHT, *, least: float = 0.0
) -> alt.Scale:
    """Return a scale of colour that is symmetric about 0; not linear where tails are heavy.

    It reaches at least to ``least``, so that rounding errors do not look like differences.
    """
    finite = _finite(values)
    reach = max(float(np.abs(finite).max(initial=0.0)), least) or 1.0
    parts: dict[str, Any] = {"type": "linear"}
    if reach > least and _is_heavy(np.concatenate([finite, -finite])):
        parts = {"type": "symlog", "constant": _knee(finite)}
    colours = list(palette.diverging)
    return alt.Scale(**parts, domain=[-reach, reach], range=colours, interpolate="lab", nice=False)


def ticks(scale: alt.Scale) -> list[float] | None:
    """Return round numbers at about even distances on a colour bar, for its legend.

    None for a linear scale, whose ticks Vega chooses: on others it crowds or omits them.
    """
    parts = scale.to_dict(validate=False)
    if parts["type"] == "linear":
        return None
    low, high = parts["domain"]
    if parts["type"] == "log":
        even = np.geomspace(low, high, 5)
    else:
        knee = parts["constant"]
        start, stop = (np.sign(end) * np.log1p(abs(end) / knee) for end in (low, high))
        places = np.linspace(start, stop, 5)
        even = np.sign(places) * np.expm1(np.abs(places)) * knee
    inside: list[float] = []
    for digits in (1, 2, 4):
        rounded = {float(f"{value:.{digits}g}") for value in even}
        inside = sorted(value for value in rounded if low <= value <= high)
        if len(inside) > 2:  # noqa: PLR2004 - two say nothing of what is between
            break
    return inside


def _finite(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


RESOLUTION = 1e-5
"""Relative to the values: smaller differences, rounding in single precision, have no colours."""


def _domain(finite: Floats) -> tuple[float, float]:
    """Return the range of values, widened where it is next to a point.

    A gradient needs a length, and differences of a millionth are not worth a colour.
    """
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if high - low > RESOLUTION * max(abs(low), abs(high)):
        return low, high
    middle = (low + high) / 2
    half = abs(middle) / 2
    return (middle - half, middle + half) if half else (0.0, 1.0)  # a spread of 0 can only grow


def _is_heavy(finite: Floats) -> bool:
    if finite.size < 3:  # noqa: PLR2004 - no tail to speak of
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # of ranges that floats cannot hold
        low, inner_low, median, inner_high, high = np.quantile(finite, [0, 0.1, 0.5, 0.9, 1])
        inner, tail = inner_high - inner_low, max(high - median, median - low)
        return bool(tail > _HEAVY * inner > 0) or bool(low > 0 and high > 100 * low)


def _knee(finite: Floats) -> float:
    """Return where a symmetric-logarithmic scale turns from linear to logarithmic."""
    size = np.abs(finite[finite != 0])
    return float(f"{np.quantile(size, 0.25):.3g}")
