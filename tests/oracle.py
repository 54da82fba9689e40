"""A slow second opinion on every statistic, from raw arrays, with numpy and exact fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from connprops.arrays.histogram import histogram_edges


def connections(source: np.ndarray, target: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Return the rows of each connection."""
    rows: dict[tuple[int, int], list[int]] = {}
    for row, pair in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        rows.setdefault(pair, []).append(row)
    return {pair: np.array(found) for pair, found in rows.items()}


def pathways(
    source: np.ndarray, target: np.ndarray, source_type: list[str], target_type: list[str]
) -> dict[tuple[str, str], list[np.ndarray]]:
    """Return the connections, as rows, of each pathway."""
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for (s, t), rows in connections(source, target).items():
        found.setdefault((source_type[s], target_type[t]), []).append(rows)
    return found


def values_of(column: np.ndarray, rows_of: list[np.ndarray]) -> tuple[np.ndarray, bool | None, int]:
    """Return a pathway's values, whether connections share them, and the synapses without one.

    One value per connection where each connection has one, else one per synapse; also one per
    synapse where the pathway is constant and has several connections.
    """
    everything = column[np.concatenate(rows_of)]
    one_each = all(np.unique(column[rows], equal_nan=True).size == 1 for rows in rows_of)
    constant = np.unique(everything[np.isfinite(everything)]).size == 1 and one_each
    constant = constant and bool(np.isfinite(everything).all())
    per_connection = one_each and not (constant and len(rows_of) > 1)
    values = np.array([column[rows[0]] for rows in rows_of]) if per_connection else everything
    finite = np.isfinite(values)
    several = [rows for rows in rows_of if rows.size > 1]
    kept = values[finite]
    is_constant = bool(finite.all()) and kept.min() == kept.max()
    # Synapses that have no number cannot show that they share one.
    can_tell = [rows for rows in several if not one_each or np.isfinite(column[rows]).all()]
    shared = None if not can_tell or is_constant else one_each
    return kept, shared, int((~np.isfinite(everything)).sum())


def statistics(values: np.ndarray) -> Mapping[str, float]:
    """Return what one row of the statistics table says of values, each by its definition."""
    x = [float(v) for v in values]
    n = len(x)
    exact = [Fraction(v) for v in x]
    mean = sum(exact) / n
    # The square root of the variance, each to more digits than a float has.
    variance = sum((v - mean) ** 2 for v in exact) / n
    std = float(variance) ** 0.5 if variance < 10**300 else float(variance / 10**400) ** 0.5 * 1e200
    if 0 < variance < Fraction(1, 10**280):
        std = float(variance * 10**400) ** 0.5 * 1e-200
    x64 = np.asarray(values, dtype=np.float64)
    found = {
        "n": n,
        "mean": float(mean),
        "std": std,
        "min": min(x),
        "max": max(x),
        "n_unique": len(np.unique(values)),
    }
    for name, q in (("q05", 0.05), ("q25", 0.25), ("q50", 0.5), ("q75", 0.75), ("q95", 0.95)):
        found[name] = float(np.quantile(x64, q))
    if min(x) > 0:
        logs = [math.log(v) for v in x]
        found["mean_log"] = math.fsum(logs) / n
        spread = math.fsum((v - found["mean_log"]) ** 2 for v in logs) / n
        found["std_log"] = math.sqrt(spread) if min(x) != max(x) else 0.0
    return found


def intraclass(column: np.ndarray, rows_of: list[np.ndarray]) -> tuple[float, float] | None:
    """Return the correlation within connections and its error, by their textbook definitions.

    A one-way analysis of variance of normal scores, and Smith's (1957) variance.
    """
    groups = [column[rows][np.isfinite(column[rows])].astype(float) for rows in rows_of]
    groups = [group for group in groups if group.size > 1]
    if len(groups) < 2 or np.unique(np.concatenate(groups)).size == 1:
        return None
    sizes = np.array([group.size for group in groups])
    n, k = sizes.sum(), len(groups)
    z = norm.ppf((rankdata(np.concatenate(groups)) - 0.5) / n)
    parts = np.split(z, np.cumsum(sizes)[:-1])
    between = sum(p.size * (p.mean() - z.mean()) ** 2 for p in parts) / (k - 1)
    within = sum(((p - p.mean()) ** 2).sum() for p in parts) / (n - k)
    m = (n - (sizes**2).sum() / n) / (k - 1)
    icc = (between - within) / (between + (m - 1) * within)
    r = min(max(icc, 0.0), 1.0)
    uneven = (sizes**2).sum() - 2 * (sizes**3).sum() / n + ((sizes**2).sum() / n) ** 2
    of_between = ((k - 1) * (1 - r) * (1 + r * (2 * m - 1)) + r**2 * uneven) / (k - 1) ** 2
    variance = 2 * (1 - r) ** 2 / m**2 * ((1 + r * (m - 1)) ** 2 / (n - k) + of_between)
    return icc, variance**0.5


def assert_agrees(stats, source, target, columns, source_types, target_types=None):
    """Compare every table with the oracle, row by row."""
    table = {
        (r["source_type"], r["target_type"], r["property"]): r
        for r in stats.table.collect().iter_rows(named=True)
    }
    histograms = dict(stats.histograms.collect().group_by("source_type", "target_type", "property"))
    values = dict(iter(stats.values.collect().group_by("source_type", "target_type", "property")))
    labelled = {p.name for p in stats.properties if p.labels is not None}
    seen = 0
    for (s, t), rows_of in pathways(
        source, target, source_types, target_types or source_types
    ).items():
        for prop in [p.name for p in stats.properties]:
            seen += 1
            row = table[s, t, prop]
            if prop == "n_syn_per_conn":
                kept, shared, left_out = np.array([r.size for r in rows_of]), None, 0
            else:
                kept, shared, left_out = values_of(columns[prop], rows_of)
            assert row["n"] == kept.size, (s, t, prop)
            assert row["n_null"] == left_out
            assert row["shared_within"] == shared, (s, t, prop)
            assert row["n_multi"] == sum(r.size > 1 for r in rows_of)
            alike = None if prop == "n_syn_per_conn" else intraclass(columns[prop], rows_of)
            if alike is None:
                assert row["icc"] is row["icc_error"] is None, (s, t, prop)
            else:
                assert (row["icc"], row["icc_error"]) == pytest.approx(alike, abs=1e-7), (
                    s,
                    t,
                    prop,
                )
            if not kept.size:
                assert row["mean"] is None
                continue
            for name, expected in statistics(kept).items():
                # The logarithms themselves are rounded, to an ulp of about 1 to 100.
                least = 1e-13 if name.endswith("_log") else 1e-300
                assert row[name] == pytest.approx(expected, rel=1e-12, abs=least), (prop, name)
            counts, edges = numpy_histogram(kept, 51)
            found = histograms[s, t, prop].sort("bin")
            assert found["count"].to_list() == counts.tolist()
            if edges is not None:
                assert found["left"].to_list() == edges[:-1].astype(float).tolist()
                assert found["right"].to_list() == edges[1:].astype(float).tolist()
            unique, count = np.unique(kept, return_counts=True)
            few = unique.size == 1 or (unique.size <= 100 and unique.size < kept.size)
            if few or prop in labelled:  # no number lies between labels: all are listed
                of_values = values[s, t, prop].sort("value")
                assert of_values["value"].to_list() == unique.astype(float).tolist()
                assert of_values["count"].to_list() == count.tolist()
            else:
                assert (s, t, prop) not in values
    assert seen == len(table)


def numpy_histogram(values, bins):
    """Return numpy's counts and edges; only the counts' sum in one bin where numpy gives up."""
    try:
        return np.histogram(values, bins)
    except ValueError:
        x = np.asarray(values, dtype=float)
        low, high = histogram_edges(values.min()[None], values.max()[None], bins)[0][[0, -1]]
        assert low <= x.min()
        assert x.max() <= high
        return np.histogram(x, histogram_edges(values.min()[None], values.max()[None], bins)[0])[
            0
        ], None
