"""How well two histograms can be told apart by a threshold, as the reference measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Floats

if TYPE_CHECKING:
    import altair as alt


_THRESHOLDS = np.linspace(0, 1, 21)
_RATES = np.linspace(0, 1, 101)


def roc_curve(
    edges: NDArray[Any], data: NDArray[Any], model: NDArray[Any]
) -> tuple[Floats, Floats, float, float]:
    """Return the rates of model and data above thresholds, and two areas.

    Thresholds are 0, 0.05, ... 1 of the way from the first bin's centre to the last one's; a bin is
    above where its centre is, or on it. Between them the curve is linear, and its areas are those
    of trapezoids at model rates 0, 0.01, ... 1. As in the reference, the curve does not begin at
    (0, 0) but at the last bin's shares, level to the left of them: histograms that are alike, with
    the share s in the last bin, differ in area by s^2 / 2.

    Parameters
    ----------
    edges
        Of the bins, (n + 1,).
    data, model
        Counts, (n,).

    Returns
    -------
    tuple
        False positive rate, the share of the model above, and true positive rate, that of the
        data, each (21,), increasing; the area under the curve less 0.5, positive where data are
        larger than the model; and the area between the curve and the diagonal.
    """
    centres = (np.asarray(edges)[:-1] + np.asarray(edges)[1:]) / 2
    width = centres[-1] - centres[0]
    above = (centres - centres[0]) / (width or 1.0) >= _THRESHOLDS[::-1, None]
    false, true = ((above * counts).sum(axis=1) / counts.sum() for counts in (model, data))
    rate = np.interp(_RATES, false, true)
    auc = float(np.trapezoid(rate, _RATES)) - 0.5
    error = float(np.trapezoid(np.abs(rate - _RATES), _RATES))
    return false, true, auc, error


def roc_chart(false: Floats, true: Floats, *, title: str, subtitle: str = "") -> alt.LayerChart:
    """Draw the curve, with the diagonal on which data and model are alike."""
    import altair as alt

    from connprops.charts.theme import LIGHT, heading

    unit = alt.Scale(domain=[0, 1])
    points = pl.DataFrame({"fpr": false, "tpr": true, "threshold": _THRESHOLDS[::-1]})
    x = alt.X("fpr:Q", title="share of the model above (false positive rate)", scale=unit)
    y = alt.Y("tpr:Q", title="share of the data above (true positive rate)", scale=unit)
    ends = pl.DataFrame({"fpr": [0.0, 1.0], "tpr": [0.0, 1.0]})
    diagonal = alt.Chart(ends).mark_line(color=LIGHT.quiet, strokeDash=[4, 3]).encode(x=x, y=y)
    curve = alt.Chart(points).mark_line(
        point=alt.OverlayMarkDef(color=LIGHT.data_line), color=LIGHT.data_line
    )
    return alt.LayerChart(
        layer=[diagonal, curve.encode(x=x, y=y, order="threshold:Q")],
        width=250, height=250,
        title=heading(title, subtitle),
        description=f"{title}. Shares of data and model above thresholds; on the dashed line "
        f"they are equal. {subtitle}".strip(),
    )  # fmt: skip
