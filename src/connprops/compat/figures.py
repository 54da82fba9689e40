"""The figures of the reference's ``plot``: its files, of what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.charts.roc import roc_chart, roc_curve
from connprops.compat import specifications
from connprops.compat.errors import CompatError
from connprops.schema import N_SYN_PER_CONN
from connprops.store.writing import replacing

if TYPE_CHECKING:
    import altair as alt

    from connprops.compat.conn_props_model import ConnPropsModel

_MAPPED = ("mean", "std", "shared_within")
_BINS_BEYOND = 200
"""On either side of the data's histogram, bins for what the model gives there, at most."""

_PIXELS = 2
"""Of an image for each of the chart's."""


@dataclass(frozen=True)
class Extracted:
    """What ``extract`` returned: the arrays of one property, and what their axes are.

    ``classes`` and ``layers`` of the types order the maps, where they are known.
    """

    syns_per_conn_data: Mapping[str, Any]
    conn_prop_data: Mapping[str, Any]
    types: Sequence[Sequence[str]]
    properties: Sequence[str]
    classes: Sequence[Sequence[Any]] | None = None
    layers: Sequence[Sequence[Any]] | None = None

    def cells(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays (sources, targets) of a property, by its name."""
        if name == N_SYN_PER_CONN:
            return dict(self.syns_per_conn_data)
        at = list(self.properties).index(name)
        return {key: array[:, :, at] for key, array in self.conn_prop_data.items()}

    def types_table(self) -> pl.DataFrame:
        """Return the types as :data:`connprops.schema.TYPES`; how many nodes is not known: 0."""
        rows = []
        for i, side in enumerate(("source", "target")):
            for code, name in enumerate(self.types[i]):
                about = (of[i][code] if of else None for of in (self.classes, self.layers))
                rows.append((side, code, name, *(v if v is None else str(v) for v in about), 0))
        return pl.DataFrame(rows, schema=schema.TYPES.polars_schema(), orient="row")

    def largest_pathway(self, model: ConnPropsModel) -> tuple[int, int]:
        """Return the pathway with most connections that the model knows, the first of several.

        Test data may have types that the training data of the model had not.

        Raises
        ------
        CompatError
            Where no such pathway has data.
        """
        known = [set(model.get_src_types()), set(model.get_tgt_types())]
        histograms = self.syns_per_conn_data["hist"]
        counts = np.zeros(histograms.shape, dtype=np.int64)
        for at in np.ndindex(histograms.shape):
            names = (of[i] for of, i in zip(self.types, at, strict=True))
            there = all(name in of_side for name, of_side in zip(names, known, strict=True))
            if there and isinstance(histograms[at], tuple | list):  # NaN where no data are
                counts[at] = np.sum(histograms[at][0])
        if not counts.any():
            raise CompatError.of("No pathway has data to be plotted")
        source, target = np.unravel_index(int(np.argmax(counts)), counts.shape)
        return int(source), int(target)


def write_figures(
    folder: Path, data: Extracted, model: ConnPropsModel, plot_sample_size: int
) -> list[Path]:
    """Draw all figures and write them as PNG, over those of an earlier run; return the files."""
    import altair as alt

    from connprops.charts.theme import LIGHT

    files = []
    with alt.theme.enable(LIGHT.theme):
        for name, chart in _figures(data, model, plot_sample_size):
            file = folder / f"{name}.png"
            with replacing(file, overwrite=True) as aside:
                chart.save(str(aside), format="png", scale_factor=_PIXELS)
            files.append(file)
    return files


def _figures(
    data: Extracted, model: ConnPropsModel, n_draws: int
) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    from connprops.charts import maps
    from connprops.charts import pathway as charts

    names = [name for name in model.get_prop_names() if name in (*data.properties, N_SYN_PER_CONN)]
    types, distributions = data.types_table(), model.get_param_dict()["prop_stats"]
    for statistic, name in product(_MAPPED, names):
        if statistic == "shared_within" and name == N_SYN_PER_CONN:
            continue  # it belongs to the connection as a whole
        observed = _observed(data, name, statistic)
        of_model = _of_model(distributions[name], data.types, name, statistic)
        yield (
            f"data_vs_model_map_{statistic}__{name}",
            maps.maps(observed, of_model, types, property=name, statistic=statistic,
                      unit=schema.unit_of(name)),
        )  # fmt: skip
    at = data.largest_pathway(model)
    source, target = (of[i] for of, i in zip(data.types, at, strict=True))
    for name in names:
        counts, edges = data.cells(name)["hist"][at]
        drawn = _drawn(model.get_distr_props(name, source, target), name, n_draws)
        bins = _common_bins(counts, edges, drawn)
        title = f"{name}: {source} → {target}"
        common: dict[str, Any] = {"property": name, "unit": schema.unit_of(name), "title": title}
        expected = pl.col("model") * (np.sum(counts) / n_draws)
        yield (
            f"data_vs_model_hist__{name}",
            charts.histogram(bins.with_columns(expected=expected), **common),
        )
        ends = np.append(bins["left"], bins["right"][-1])
        false, true, auc, error = roc_curve(ends, bins["count"].to_numpy(),
                                            bins["model"].to_numpy())  # fmt: skip
        areas = f"AUC - 0.5 = {auc:.2f}, ERR = {error:.2f}"
        yield f"data_vs_model_AUC__{name}", roc_chart(false, true, title=f"{title} ({areas})")


def _observed(data: Extracted, name: str, statistic: str) -> pl.DataFrame:
    """Return one statistic of the pathways that have it, as the maps take it."""
    values = np.asarray(data.cells(name)[statistic], dtype=np.float64)
    rows = [
        (data.types[0][i], data.types[1][j], name, float(values[i, j]))
        for i, j in np.argwhere(np.isfinite(values)).tolist()
    ]
    return _map_rows(rows, statistic)


def _of_model(
    distributions: Mapping[str, Any], types: Sequence[Sequence[str]], name: str, statistic: str
) -> pl.DataFrame:
    """Return the same of the model's distributions, of the types that the data have."""
    rows = []
    for source, target in product(*types):
        distribution = distributions.get(source, {}).get(target)
        if distribution is not None:
            value = (
                float(distribution.get("shared_within", True))
                if statistic == "shared_within"
                else specifications.mean_and_std(distribution)[_MAPPED.index(statistic)]
            )
            rows.append((source, target, name, value))
    return _map_rows(rows, statistic)


def _map_rows(rows: Sequence[tuple[Any, ...]], statistic: str) -> pl.DataFrame:
    columns = [*schema.PATHWAY, "property", statistic]
    dtypes = [pl.String, pl.String, pl.String, pl.Float64]
    frame = pl.DataFrame(rows, schema=dict(zip(columns, dtypes, strict=True)), orient="row")
    if statistic == "shared_within":
        frame = frame.with_columns(pl.col(statistic) > 0)
    return frame


def _drawn(distribution: Mapping[str, Any], name: str, size: int) -> NDArray[np.float64]:
    """Return draws of as many connections, or synapses, as asked for."""
    values = specifications.draw(distribution, size)
    if name == N_SYN_PER_CONN:
        values = np.maximum(np.round(values), 1)
    return specifications.finished(values, distribution).astype(np.float64)


def _common_bins(
    counts: NDArray[Any], edges: NDArray[Any], drawn: NDArray[np.float64]
) -> pl.DataFrame:
    """Return left, right, count and model of the data's bins, and of more where draws lie beyond.

    Those are as wide as the data's narrowest, or wider where they would be too many.
    """
    inner = np.asarray(edges, dtype=np.float64)
    width = float(np.diff(inner).min())
    sides = []
    for end, furthest in ((inner[0], drawn.min()), (inner[-1], drawn.max())):
        gap = (end - furthest) if end == inner[0] else (furthest - end)
        n = int(min(np.ceil(max(gap, 0.0) / width), _BINS_BEYOND))
        sides.append(np.linspace(end, furthest, n + 1)[1:])
    common = np.concatenate([sides[0][::-1], inner, sides[1]])
    observed = np.zeros(common.size - 1)
    observed[sides[0].size : sides[0].size + len(counts)] = counts
    return pl.DataFrame(
        {
            "left": common[:-1],
            "right": common[1:],
            "count": observed,
            "model": np.histogram(drawn, bins=common)[0].astype(np.float64),
        }
    )
