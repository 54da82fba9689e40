"""How charts look: palettes for light and dark pages, their Altair themes, scales of colour.

The themes ``"connprops"`` and ``"connprops_dark"`` are registered, and never enabled, when
this module is imported: ``with alt.theme.enable("connprops"): chart.save(...)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import ArrayLike

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Palette:
    """The colours of a page; all of them can be told apart with any colour vision.

    Attributes
    ----------
    theme
        Name of the Altair theme that goes with the palette.
    background, ink, quiet, grid
        Page, text, secondary text and axes, grid lines.
    no_data
        Pathways that have no value. No scale contains this grey.
    data, data_line, model
        Areas and lines of data, and lines of a model.
    sequential
        A Vega scheme, perceptually uniform.
    diverging
        From below to above the middle, of balanced lightness.
    levels
        Observed, then borrowed from level 0 to 4: the further away, the stronger.
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
    sequential: str
    diverging: tuple[str, ...]
    levels: tuple[str, ...]


LIGHT = Palette(
    theme="connprops",
    background="#ffffff",
    ink="#1f2328",
    quiet="#59636e",
    grid="#e6e8eb",
    no_data="#d3d5d8",
    data="#9dbfdd",
    data_line="#0072b2",
    model="#d55e00",
    sequential="viridis",
    diverging=("#1f5a9e", "#6aa5d1", "#cfe1ee", "#fbfaf8", "#f6d3bd", "#dd8153", "#a63a12"),
    levels=("#2f6f8f", "#fde9b0", "#fbc55f", "#f08f2e", "#c75b12", "#82330b"),
)
DARK = Palette(
    theme="connprops_dark",
    background="#15181c",
    ink="#e6e8ea",
    quiet="#a2abb5",
    grid="#2c3138",
    no_data="#40464d",
    data="#4c7397",
    data_line="#6cb6ee",
    model="#f58b4a",
    sequential="viridis",
    diverging=("#a9cdf0", "#5a97cf", "#2d5478", "#1d2126", "#71401f", "#cc7a3c", "#f7c49b"),
    levels=("#4a9cc0", "#fdecc0", "#fbcb6c", "#ef9840", "#cf6a25", "#99460f"),
)


def _theme(palette: Palette) -> alt.theme.ThemeConfig:
    axis = {
        "labelColor": palette.quiet,
        "titleColor": palette.ink,
        "titleFontWeight": "normal",
        "domainColor": palette.quiet,
        "tickColor": palette.quiet,
        "gridColor": palette.grid,
        "labelFontSize": 11,
        "titleFontSize": 12,
    }
    text = {"labelColor": palette.ink, "titleColor": palette.ink, "titleFontWeight": "normal"}
    settings: Any = {
        "background": palette.background,
        "config": {
            "font": FONT,
            "padding": 12,
            "view": {"stroke": None},
            "axis": axis,
            "axisX": {"grid": False},
            "legend": text | {"labelFontSize": 11, "titleFontSize": 11, "titleLimit": 400},
            "header": text | {"labelFontSize": 12},
            "title": {
                "anchor": "start",
                "color": palette.ink,
                "fontSize": 14,
                "fontWeight": 600,
                "subtitleColor": palette.quiet,
                "subtitleFontSize": 11,
                "subtitlePadding": 4,
                "offset": 10,
            },
        },
    }
    theme: alt.theme.ThemeConfig = settings
    return theme


@alt.theme.register(LIGHT.theme, enable=False)
def light() -> alt.theme.ThemeConfig:
    """Return the theme for light pages."""
    return _theme(LIGHT)


@alt.theme.register(DARK.theme, enable=False)
def dark() -> alt.theme.ThemeConfig:
    """Return the theme for dark pages."""
    return _theme(DARK)


_UNSHOWN = dict.fromkeys([*range(32), 0x7F, 0x85, 0x2028, 0x2029], " ") | {ord("\\"): "\u29f5"}


def shown(name: str) -> str:
    """Return a name of the data as charts show it: in a line, a backslash as its look-alike.

    Vega puts titles and sorted names into expressions, and escapes quotation marks alone: what
    follows a backslash or a line break would be taken for code.
    """
    return name.translate(_UNSHOWN)


def heading(title: str, subtitle: str = "") -> alt.TitleParams:
    """Return a chart's title, with a second line where there is one."""
    return alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title)


_HEAVY = 2.5
"""A tail is heavy that reaches so many times the range of the inner 80 % from the median.

A normal sample of thousands has 1.4, an exponential one 3.4.
"""


def sequential_scale(values: ArrayLike, palette: Palette = LIGHT) -> alt.Scale:
    """Return a scale of colour from the least to the greatest of some values.

    It is linear unless the values have a heavy tail, or span decades, which a linear scale
    would show in one colour: then logarithmic, or symmetric-logarithmic where some are not
    positive.

    Parameters
    ----------
    values
        Any shape; those that are not finite do not count.
    """
    found = _finite(values)
    low, high = _domain(found)
    common: dict[str, Any] = {"scheme": palette.sequential, "nice": False}
    if not _is_heavy(found):
        return alt.Scale(type="linear", domain=[low, high], **common)
    if low > 0:
        # One value that is all but zero would leave the others in one colour.
        low = max(low, float(np.quantile(found, 0.02)) / 10)
        return alt.Scale(type="log", domain=[low, high], clamp=True, **common)
    return alt.Scale(type="symlog", constant=_knee(found), domain=[low, high], **common)


def diverging_scale(
    values: ArrayLike, palette: Palette = LIGHT, *, least: float = 0.0
) -> alt.Scale:
    """Return a scale of colour that is symmetric about 0; not linear where tails are heavy.

    It reaches at least to ``least``, so that rounding errors do not look like differences.
    """
    found = _finite(values)
    reach = max(float(np.abs(found).max(initial=0.0)), least) or 1.0
    common: dict[str, Any] = {
        "domain": [-reach, reach],
        "range": list(palette.diverging),
        "interpolate": "lab",
        "nice": False,
    }
    if reach > least and _is_heavy(np.concatenate([found, -found])):
        return alt.Scale(type="symlog", constant=_knee(found), **common)
    return alt.Scale(type="linear", **common)


def ticks(scale: alt.Scale) -> list[float]:
    """Return a few round numbers within the domain of a scale made here, for its legend."""
    parts = scale.to_dict(validate=False)
    low, high = parts["domain"]
    if parts["type"] == "linear":
        return [float(f"{t:.12g}") for t in _round_numbers(low, high)]
    least = low if parts["type"] == "log" else parts["constant"]
    exponents = _exponents(least, max(abs(low), abs(high)))
    inside: list[float] = []
    for steps in ((1,), (1, 2, 5)):  # decades, or more where these are too few
        round_ = [float(f"{m}e{e}") for e in exponents for m in steps]
        if parts["type"] == "symlog":
            round_ = sorted({0.0, *round_, *(-r for r in round_)})
        inside = [r for r in round_ if low <= r <= high]
        if len(inside) > 2:  # noqa: PLR2004 - two ends tell nothing of what is between
            return inside
    return inside if len(inside) > 1 else sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})


def _finite(values: ArrayLike) -> np.ndarray[Any, np.dtype[np.float64]]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[np.isfinite(array)]


def _domain(found: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float]:
    """Return the range of values, widened where it is a point: a gradient needs a length."""
    if not found.size:
        return 0.0, 1.0
    low, high = float(found.min()), float(found.max())
    if high - low > 1e-9 * max(abs(low), abs(high)):
        return low, high
    middle = (low + high) / 2
    if middle == 0:
        return 0.0, 1.0  # not below: a spread of 0 can only grow
    half = abs(middle) / 2
    return middle - half, middle + half


def _is_heavy(found: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    if found.size < 3:  # noqa: PLR2004 - no tail to speak of
        return False
    low, inner_low, median, inner_high, high = np.quantile(found, [0, 0.1, 0.5, 0.9, 1])
    inner, tail = inner_high - inner_low, max(high - median, median - low)
    return bool(tail > _HEAVY * inner > 0) or bool(low > 0 and high > 100 * low)


def _knee(found: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Return where a symmetric-logarithmic scale turns from linear to logarithmic."""
    size = np.abs(found[found != 0])
    return float(f"{np.quantile(size, 0.25):.3g}")


def _round_numbers(low: float, high: float, at_most: int = 5) -> list[float]:
    raw = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _exponents(least: float, greatest: float) -> range:
    first, last = math.floor(math.log10(least)), math.floor(math.log10(greatest))
    return range(first, last + 1, max(1, (last - first) // 3))
