"""Numbers of charts: quantiles, counts, bins about whole numbers and beyond the data."""

from __future__ import annotations

import re

import frames
import numpy as np
import polars as pl
import pytest
from scipy import stats

from connprops.charts.plot import plot
from connprops.charts.rows import (
    following,
    quantile_pairs,
    synapse_counts,
    whole_bins,
    widened,
)
from connprops.distributions.table import model_statistics


def bins_of(left, right, count, expected, *, name="n", source="a"):
    n = len(left)
    return pl.DataFrame(
        {"source_type": [source] * n, "target_type": ["b"] * n, "property": [name] * n,
         "bin": range(n), "left": left, "right": right, "count": count, "expected": expected},
        schema_overrides={"left": pl.Float64, "right": pl.Float64, "expected": pl.Float64},
    )  # fmt: skip


def test_bins_of_whole_numbers_are_about_each_number():
    edges = np.linspace(1, 4, 52)
    values = np.repeat([1, 2, 3, 4], [390, 118, 20, 6])
    expected = np.repeat([1, 2, 4], [380, 120, 34])
    counts, model = (np.histogram(v, bins=edges)[0] for v in (values, expected))
    fine = bins_of(edges[:-1], edges[1:], counts, model)
    found = whole_bins(fine)
    assert found.columns == fine.columns
    assert found["left"].to_list() == [0.5, 1.5, 2.5, 3.5]
    assert found["right"].to_list() == [1.5, 2.5, 3.5, 4.5]
    assert found["count"].to_list() == [390, 118, 20, 6]
    assert found["expected"].to_list() == [380, 120, 0, 34]
    assert found["bin"].is_sorted()


def test_wide_bins_of_whole_numbers_and_a_lone_number():
    wide = bins_of([1, 3.5], [3.5, 6], [2, 3], [2.5, 2.5])
    assert whole_bins(wide).equals(wide)
    lone = bins_of([6.5, 6.9, 7.3], [6.9, 7.3, 7.5], [0, 9, 0], [None] * 3, source="c")
    found = whole_bins(pl.concat([wide, lone])).filter(pl.col("source_type") == "c").sort("left")
    assert found.select("left", "right", "count", "expected").rows() == [
        (5.5, 6.5, 0, None), (6.5, 7.5, 9, None), (7.5, 8.5, 0, None),
    ]  # fmt: skip


def test_bins_are_widened_to_where_the_model_has_values(tables):
    _, model = tables
    row = model.marginals.filter(
        (pl.col("property") == "property_0") & (pl.col("distribution") == "normal")
    )
    source, target = row.select(pl.col("source_type", "target_type").cast(pl.String)).row(0)
    of = row.filter(pl.col("source_type") == source, pl.col("target_type") == target)
    mean, std = (of.filter(pl.col("parameter") == p)["value"][0] for p in ("mean", "std"))
    # Two bins, from half a standard deviation below the mean to it, which hold a fifth of the
    # distribution.
    edges = mean + std * np.array([-0.5, -0.25, 0.0])
    bins = bins_of(edges[:-1], edges[1:], [30, 10], [0.0, 0.0], name="property_0", source=source)
    bins = bins.with_columns(target_type=pl.lit(target))
    found = widened(bins, model)
    inner = found.filter(pl.col("count") > 0)
    np.testing.assert_allclose(inner["left"], edges[:-1])
    assert inner["count"].to_list() == [30, 10]
    distribution = stats.norm(mean, std)
    np.testing.assert_allclose(inner["expected"], 40 * np.diff(distribution.cdf(edges)), rtol=1e-9)
    assert found["expected"].sum() == pytest.approx(40)
    assert found["left"][0] == pytest.approx(distribution.ppf(0.001))
    assert found["right"][-1] == pytest.approx(distribution.ppf(0.999))
    widths = (found["right"] - found["left"]).to_numpy()
    assert widths.max() <= std / 4 * (1 + 1e-9)
    np.testing.assert_allclose(found["right"][:-1], found["left"][1:])


def test_roc_reaches_where_the_model_is_and_data_are_not(tables):
    """Data in the lower part of the model: a threshold tells them apart, and the area says so."""
    stats_, model = tables
    order = stats_.pathways.collect().select("source_type", "target_type").row(0)
    shifted = stats_.histograms.collect().with_columns(
        pl.col("left", "right") - 100 * (pl.col("right").max() - pl.col("left").min()).over(
            "source_type", "target_type", "property"
        )
    )  # fmt: skip
    other = frames.Statistics(
        stats_.properties, stats_.types, stats_.frames | {"histograms": shifted}
    )
    chart = plot(other, model, properties=["property_1"], pathway=order)["roc_property_1"]
    area = float(re.search(r"AUC - 0.5 = (-?[\d.]+)", chart.title.subtitle)[1])
    assert area == pytest.approx(-0.5, abs=0.01)


def test_quantiles_of_a_whole_sample(tables):
    stats_, model = tables
    order = stats_.order_statistics.collect().filter(pl.col("property") == "property_1")
    pairs = quantile_pairs(order, model)
    rows = model.table.filter(pl.col("property") == "property_1")
    for one, sample in zip(pairs.head(5).to_dicts(), order["value"].head(5), strict=True):
        values = rows.filter(
            (pl.col("source_type") == one["source_type"])
            & (pl.col("target_type") == one["target_type"])
        ).sort("parameter")["value"].to_list()  # fmt: skip
        mean, std = values
        p = (np.arange(40) + 0.5) / 40
        assert one["p"] == pytest.approx(p)
        assert one["data"] == sample.to_list()
        gamma = stats.gamma((mean / std) ** 2, scale=std**2 / mean)
        assert one["model"] == pytest.approx(gamma.ppf(p), rel=1e-9)


def test_quantiles_of_a_thinned_sample_are_the_nearest_ranks(tables):
    _, model = tables
    source, target = model.source_types[0], model.target_types[1]
    ranks = [0, 1, 10, 20, 30, 98, 99]
    order = pl.DataFrame(
        {"source_type": [source], "target_type": [target], "property": ["property_0"],
         "rank": [ranks], "value": [[float(r) for r in ranks]]}
    )  # fmt: skip
    pairs = quantile_pairs(order, model, at_most=4)
    assert pairs["p"].to_list() == [[0.125, 0.375, 0.625, 0.875]]
    # The ranks sought are 12, 37, 62 and 87; of those kept, these are nearest.
    assert pairs["data"].to_list() == [[10.0, 30.0, 30.0, 98.0]]


def test_model_statistics_are_those_of_the_distributions(tables):
    _, model = tables
    found = model_statistics(model).filter(pl.col("property") == "property_2")
    means = model.table.filter(pl.col("property") == "property_2")["value"].to_numpy()
    assert found["mean"].to_numpy() == pytest.approx(means)
    assert found["std"].to_numpy() == pytest.approx(np.sqrt(means))
    assert found["q95"].to_numpy() == pytest.approx(stats.poisson(means).ppf(0.95))
    assert len(model_statistics(model)) == 36 * len(model.properties)


def test_synapses_are_counted_over_pathways(tables):
    _, model = tables
    s, t = model.source_types[:2], model.target_types[:2]
    values = pl.DataFrame(
        {"source_type": [s[0], s[0]], "target_type": [t[0], t[0]],
         "property": ["n_syn_per_conn"] * 2, "value": [1.0, 3.0], "count": [5, 2]}
    )  # fmt: skip
    order = pl.DataFrame(
        {"source_type": [s[0], s[1]], "target_type": [t[0], t[1]],
         "property": ["n_syn_per_conn"] * 2, "rank": [[0, 6], [0, 1]],
         "value": [[1.0, 3.0], [2.0, 3.0]]}
    )  # fmt: skip
    bins = synapse_counts(values, order, model)
    assert bins["left"].to_list() == [0.5, 1.5, 2.5]
    assert bins["count"].to_list() == [5, 1, 3]
    means = {
        (r["source_type"], r["target_type"]): r["value"]
        for r in model.table.filter(pl.col("property") == "n_syn_per_conn").to_dicts()
    }
    expected = 7 * stats.poisson(means[s[0], t[0]]).pmf([1, 2, 3])
    expected += 2 * stats.poisson(means[s[1], t[1]]).pmf([1, 2, 3])
    assert bins["expected"].to_numpy() == pytest.approx(expected)


def _histogram(values, size=51, **names):
    count, edges = np.histogram(values, size)
    keys = {"source_type": "A", "target_type": "B", "property": "x"} | names
    return pl.DataFrame({"bin": np.arange(size), "left": edges[:-1], "right": edges[1:],
                         "count": count}).select(*(pl.lit(v).alias(k) for k, v in keys.items()),
                                                 pl.all())  # fmt: skip


@pytest.mark.parametrize(("n", "bins"), [(1, 2), (3, 3), (40, 7), (1000, 17), (20_000, 51)])
def test_bins_follow_the_number_of_values(n, bins):
    values = np.random.default_rng(n).gamma(2, 1, n)
    whole = _histogram(values)
    merged = following(pl.concat([whole, _histogram(values * 3, target_type="C")]))
    assert len(merged) == 2 * bins
    one = merged.filter(target_type="B")
    edges = np.append(one["left"], one["right"][-1])
    width = np.diff(edges)
    assert width == pytest.approx(width[0])
    assert edges[-1] >= whole["right"][-1] - 1e-9
    assert one["count"].to_list() == np.histogram(values, edges)[0].tolist()
    assert following(merged.drop("bin").with_row_index("bin"))["count"].sum() == 2 * n


def test_bins_of_different_widths_stay():
    count, edges = np.histogram([0.1, 0.2, 2.5], [0, 1, 3, 10])
    uneven = _histogram([0.0], 3).with_columns(
        count=pl.lit(pl.Series(count)), left=pl.lit(pl.Series(edges[:-1].astype(float))),
        right=pl.lit(pl.Series(edges[1:].astype(float))),
    )  # fmt: skip
    assert following(uneven).equals(uneven)
