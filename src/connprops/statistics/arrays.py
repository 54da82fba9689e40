"""The reference's dictionaries of arrays, from the statistics tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from connprops.families.histogram import normal_through_histogram
from connprops.schema import N_SYN_PER_CONN, Property

_KEYS = ("mean", "std", "min", "max", "hist", "norm_loc", "norm_scale", "val", "cnt", "p")
_OBJECTS = frozenset({"hist", "val", "cnt", "p"})


def to_arrays(
    properties: Sequence[Property],
    types: pl.DataFrame,
    tables: Mapping[str, pl.LazyFrame],
    *,
    order: Sequence[str] | None = None,
    fitted: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return the arrays of :meth:`connprops.statistics.statistics.Statistics.to_arrays`.

    ``tables`` are pathways, statistics, histograms and values, by name.
    """
    dtypes = {p.name: np.dtype(p.dtype) for p in properties}
    names = [name for name in dtypes if name != N_SYN_PER_CONN]
    syn_props = names if order is None else [name for name in order if name in names]
    sides = [types.filter(pl.col("side") == side).sort("code") for side in ("source", "target")]
    shape = (len(sides[0]), len(sides[1]))
    syns = _empty(shape)
    props = _empty((*shape, len(syn_props)))
    props["shared_within"] = np.full((*shape, len(syn_props)), np.nan)
    place = {name: i for i, name in enumerate(syn_props)}
    for row in _rows(tables):
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
    return {
        "syns_per_conn_data": syns,
        "conn_prop_data": props,
        "m_types": [side["type"].to_list() for side in sides],
        "m_type_class": [side["synapse_class"].to_list() for side in sides],
        "m_type_layer": [side["layer"].to_list() for side in sides],
        "syn_props": syn_props,
    }


def _empty(shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        name: np.full(shape, np.nan, dtype=object if name in _OBJECTS else np.float64)
        for name in _KEYS
    }


def _rows(tables: Mapping[str, pl.LazyFrame]) -> list[dict[str, Any]]:
    """Return one row per pathway and property, with its histogram and its distinct values."""
    keys = ["source_type", "target_type", "property"]
    histograms = (
        tables["histograms"].group_by(keys).agg(pl.col("left", "right", "count").sort_by("bin"))
    )
    values = (
        tables["values"]
        .group_by(keys)
        .agg(
            pl.col("value").sort_by("value"),
            pl.col("count").sort_by("value").alias("count_of_value"),
            pl.col("p").sort_by("value"),
        )
    )
    connections = tables["pathways"].select("source_type", "target_type", "n_connections")
    return (
        tables["statistics"]
        .join(histograms, on=keys)
        .join(values, on=keys, how="left")
        .join(connections, on=keys[:2])
        .with_columns(
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


def _shared(row: dict[str, Any]) -> float:
    if row["shared_within"] is not None:
        return float(row["shared_within"])
    several = row["n_connections"] > 1
    constant = row["n_unique"] == 1 and row["n_null"] == 0
    return float(not (several and constant))
