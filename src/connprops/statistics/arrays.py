"""The reference's dictionaries of arrays, from the statistics tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
import polars as pl

from connprops.dataset.dataset import Dataset
from connprops.families.histogram import normal_through_histogram
from connprops.schema import N_SYN_PER_CONN, Property

_KEYS = ("mean", "std", "min", "max", "hist", "norm_loc", "norm_scale", "val", "cnt", "p")
_OBJECTS = frozenset({"hist", "val", "cnt", "p"})


class StatisticsTables(Protocol):
    """What of :class:`~connprops.statistics.statistics.Statistics` the arrays are made of."""

    properties: tuple[Property, ...]
    types: pl.DataFrame
    options: dict[str, Any]

    @property
    def dataset(self) -> Dataset | None: ...  # noqa: D102
    @property
    def source_types(self) -> list[str]: ...  # noqa: D102
    @property
    def target_types(self) -> list[str]: ...  # noqa: D102
    @property
    def pathways(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def table(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def histograms(self) -> pl.LazyFrame: ...  # noqa: D102
    @property
    def values(self) -> pl.LazyFrame: ...  # noqa: D102


def to_arrays(
    stats: StatisticsTables,
    *,
    order: Sequence[str] | None = None,
    fitted: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return what the reference's ``extract`` returns.

    Keys ``syns_per_conn_data`` (arrays of sources x targets), ``conn_prop_data`` (also x
    properties), ``m_types``, ``m_type_class``, ``m_type_layer``, ``syn_props``, ``hist_bins``. NaN
    where a pathway has no statistics. ``shared_within`` follows the reference's rule: constant
    properties of several connections are not shared, those of which nothing is known are.
    Edges of histograms and distinct values have the type of the property's column.

    Parameters
    ----------
    stats
        The statistics.
    order
        Order of the properties; by default theirs.
    fitted
        Properties to fit normal distributions to, which takes most of the time; by default all.
        Others have ``norm_loc`` and ``norm_scale`` NaN.
    """
    dtypes = {p.name: np.dtype(p.dtype) for p in stats.properties}
    known = [name for name in dtypes if name != N_SYN_PER_CONN]
    syn_props = known if order is None else [name for name in order if name in known]
    shape = (len(stats.source_types), len(stats.target_types))
    syns = _empty(shape)
    props = _empty((*shape, len(syn_props)))
    props["shared_within"] = np.full((*shape, len(syn_props)), np.nan)
    place = {name: i for i, name in enumerate(syn_props)}
    for row in _rows(stats):
        at: tuple[int, ...] = (row["source"], row["target"])
        data = syns
        if row["property"] != N_SYN_PER_CONN:
            at, data = (*at, place[row["property"]]), props
            data["shared_within"][at] = _shared(row)
        for name in ("mean", "std", "min", "max"):
            data[name][at] = row[name]
        dtype = dtypes[row["property"]]
        counts, edges = _histogram(row, dtype)
        if fitted is None or row["property"] in fitted:
            normal = normal_through_histogram(counts, edges) or (row["mean"], row["std"])
            data["norm_loc"][at], data["norm_scale"][at] = normal
        data["hist"][at] = counts, edges
        for name, column, of_column in (
            ("val", "value", dtype), ("cnt", "count_of_value", np.int64), ("p", "p", np.float64)
        ):  # fmt: skip
            data[name][at] = np.array(row[column], dtype=of_column) if row[column] else []
    sides = [
        stats.types.filter(pl.col("side") == side).sort("code") for side in ("source", "target")
    ]
    return {
        "syns_per_conn_data": syns,
        "conn_prop_data": props,
        "m_types": [side["type"].to_list() for side in sides],
        "m_type_class": [side["synapse_class"].to_list() for side in sides],
        "m_type_layer": [_layers(stats, side) for side in sides],
        "syn_props": syn_props,
        "hist_bins": stats.options["hist_bins"],
    }


def _empty(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        name: np.full(shape, np.nan, dtype=object if name in _OBJECTS else np.float64)
        for name in _KEYS
    }


def _rows(stats: StatisticsTables) -> list[dict[str, Any]]:
    """Return one row per pathway and property, with its histogram and its distinct values."""
    keys = ["source_type", "target_type", "property"]
    histograms = stats.histograms.group_by(keys).agg(
        pl.col("left", "right", "count").sort_by("bin")
    )
    values = stats.values.group_by(keys).agg(
        pl.col("value").sort_by("value"),
        pl.col("count").sort_by("value").alias("count_of_value"),
        pl.col("p").sort_by("value"),
    )
    connections = stats.pathways.select("source_type", "target_type", "n_connections")
    table = (
        stats.table.join(histograms, on=keys)
        .join(values, on=keys, how="left")
        .join(connections, on=keys[:2])
    )
    return (
        table.with_columns(
            pl.col("source_type").to_physical().alias("source"),
            pl.col("target_type").to_physical().alias("target"),
        )
        .collect()
        .to_dicts()
    )


def _histogram(row: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return counts and edges, these of the column's type where it is a floating one."""
    edges = np.array([*row["left"], row["right"][-1]])
    if dtype.kind == "f" and (edges.astype(dtype) == edges).all():  # else it has no room for them
        edges = edges.astype(dtype)
    return np.array(row["count"]), edges


def _layers(stats: StatisticsTables, types: pl.DataFrame) -> list[Any]:
    """Return the types' layers, as numbers where the circuit has numbers."""
    layers = types["layer"]
    nodes = stats.dataset.nodes if stats.dataset else None
    if nodes is not None and "layer" in nodes.columns and nodes["layer"].dtype.is_integer():
        layers = layers.cast(nodes["layer"].dtype)
    return layers.to_list()


def _shared(row: dict[str, Any]) -> float:
    if row["shared_within"] is not None:
        return float(row["shared_within"])
    several = row["n_connections"] > 1
    constant = row["n_unique"] == 1 and row["n_null"] == 0
    return float(not (several and constant))
