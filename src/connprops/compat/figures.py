"""The figures of the reference's ``plot``: its files, of what they show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.charts import maps
from connprops.charts import pathway as charts
from connprops.charts.rows import extended
from connprops.charts.theme import LIGHT
from connprops.compat import specifications
from connprops.compat.conn_props_model import ConnPropsModel
from connprops.compat.errors import CompatError
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN
from connprops.store.writing import replacing

_MAPPED = ("mean", "std", "shared_within")
_BINS_BEYOND = 200
"""On either side of the data's histogram, bins for what the model gives there, at most."""


def write_figures(
    folder: Path,
    cells: Mapping[str, Mapping[str, NDArray[Any]]],
    types: Sequence[Sequence[str]],
    about_types: Mapping[str, Sequence[Sequence[Any]] | None],
    model: ConnPropsModel,
    plot_sample_size: int,
) -> list[Path]:
    """Draw all figures and write them as PNG, over those of an earlier run; return the files.

    ``cells`` are by property the arrays of ``extract``; ``about_types`` has ``synapse_class`` and
    ``layer`` of the types of both sides, where known.
    """
    files = []
    pathways = Pathways(*types)
    figures = (
        *_maps(cells, _types_table(types, about_types), pathways, model),
        *_distributions(cells, pathways, model, plot_sample_size),
    )
    with alt.theme.enable(LIGHT.theme):
        for name, chart in figures:
            file = folder / f"{name}.png"
            with replacing(file, overwrite=True) as aside:
                chart.save(str(aside), format="png", scale_factor=2)
            files.append(file)
    return files


def _types_table(
    types: Sequence[Sequence[str]], about_types: Mapping[str, Sequence[Sequence[Any]] | None]
) -> pl.DataFrame:
    """Return types as :data:`connprops.schema.TYPES`; how many nodes they have is not known: 0."""
    rows = [
        {"side": side, "code": code, "type": name, "n_nodes": 0}
        | {
            key: None if not of or of[i][code] is None else str(of[i][code])
            for key, of in about_types.items()
        }
        for i, side in enumerate(("source", "target"))
        for code, name in enumerate(types[i])
    ]
    return pl.DataFrame(rows, schema=schema.TYPES.polars_schema())


def _maps(
    cells: Mapping[str, Mapping[str, NDArray[Any]]],
    types: pl.DataFrame,
    pathways: Pathways,
    model: ConnPropsModel,
) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    for statistic, name in product(_MAPPED, model.get_prop_names()):
        if name not in cells or (statistic == "shared_within" and name == N_SYN_PER_CONN):
            continue  # sharing belongs to the connection as a whole
        fitted = np.full(len(pathways), np.nan)
        for i in range(len(pathways)):
            source, target = pathways.names(i)
            spec = model.prop_stats[name].get(source, {}).get(target)
            if spec is not None:
                moments = specifications.mean_and_std(spec)
                of_spec = (*moments, float(spec.get("shared_within", True)))
                fitted[i] = of_spec[_MAPPED.index(statistic)]
        observed, of_model = (
            _map_rows(pathways, np.asarray(values, dtype=np.float64).ravel(), name, statistic)
            for values in (cells[name][statistic], fitted)
        )
        about: dict[str, Any] = {"property": name, "unit": schema.unit_of(name)}
        chart = maps.maps(observed, of_model, types, statistic=statistic, **about)
        yield f"data_vs_model_map_{statistic}__{name}", chart


def _map_rows(
    pathways: Pathways, values: NDArray[np.float64], name: str, statistic: str
) -> pl.DataFrame:
    """Return one statistic of the pathways that have it, as the maps take it."""
    there = np.flatnonzero(np.isfinite(values))
    column = values[there] > 0 if statistic == "shared_within" else values[there]
    rows = pl.DataFrame(pathways.columns(there))
    return rows.with_columns(pl.lit(name).alias("property"), pl.Series(statistic, column))


def _distributions(
    cells: Mapping[str, Mapping[str, NDArray[Any]]],
    pathways: Pathways,
    model: ConnPropsModel,
    n_draws: int,
) -> Iterator[tuple[str, alt.TopLevelMixin]]:
    """Draw the histograms and ROC curves of the pathway with most connections."""
    at = _largest_pathway(cells[N_SYN_PER_CONN]["hist"], pathways, model)
    source, target = pathways.source_types[at[0]], pathways.target_types[at[1]]
    for name in model.get_prop_names():
        if name not in cells:
            continue
        counts, edges = cells[name]["hist"][at]
        spec = model.get_distr_props(name, source, target)
        values = specifications.draw(spec, n_draws)
        if name == N_SYN_PER_CONN:
            values = np.maximum(np.round(values), 1)
        drawn = specifications.finished(values, spec).astype(np.float64)
        ends = np.asarray(edges, dtype=np.float64)
        common, observed, _ = extended(ends, counts, drawn.min(), drawn.max(), _BINS_BEYOND)
        expected = np.histogram(drawn, bins=common)[0] * (np.sum(counts) / n_draws)
        bins = pl.DataFrame(
            {"left": common[:-1], "right": common[1:], "count": observed, "expected": expected}
        )
        title = f"{name}: {source} → {target}"
        labels = charts.Labels(name, schema.unit_of(name), title)
        yield f"data_vs_model_hist__{name}", charts.histogram(bins, labels)
        yield f"data_vs_model_AUC__{name}", charts.roc(bins, title, digits=2)


def _largest_pathway(
    histograms: NDArray[Any], pathways: Pathways, model: ConnPropsModel
) -> tuple[int, ...]:
    """Return the pathway with most connections that the model knows, the first of several.

    Test data may have types that the training data of the model had not.
    """
    counts = {
        at: int(np.sum(histogram[0]))
        for at, histogram in np.ndenumerate(histograms)
        if isinstance(histogram, tuple | list)  # NaN where no data are
        and pathways.source_types[at[0]] in model.src_types
        and pathways.target_types[at[1]] in model.tgt_types
    }
    if not any(counts.values()):
        raise CompatError.of("No pathway has data to be plotted")
    return max(counts, key=counts.__getitem__)
