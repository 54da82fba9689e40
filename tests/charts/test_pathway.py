"""Charts of one pathway."""

from __future__ import annotations

import numpy as np
import polars as pl
from specs import layers, rows_behind

from connprops.charts import pathway as charts


def test_histogram_draws_bins_and_expectation():
    bins = pl.DataFrame({"left": [0.0, 1.0], "right": [1.0, 3.0], "count": [4, 6],
                         "expected": [5.5, np.nan]})  # fmt: skip
    chart = charts.histogram(bins, charts.Labels("delay", "ms", "a"))
    bar, rule = layers(chart.to_dict())
    assert bar["encoding"]["x"] | {"scale": None} == {
        "field": "left", "type": "quantitative", "bin": "binned", "title": "delay (ms)",
        "scale": None}  # fmt: skip
    assert bar["encoding"]["x2"] == rule["encoding"]["x2"] == {"field": "right"}
    assert bar["encoding"]["y"]["field"] == "count"
    assert rule["encoding"]["y"]["field"] == "expected"
    assert [r["expected"] for r in rows_behind(chart, "expected")] == [5.5, None]


def test_cdf_of_a_discrete_model_has_steps(drawn):
    shapes = {
        name: [m["mark"]["interpolate"] for m in layers(drawn[name].to_dict())]
        for name in ("cdf_property_1", "cdf_property_2")
    }
    assert shapes == {"cdf_property_1": ["step-after", "linear"],
                      "cdf_property_2": ["step-after", "step-after"]}  # fmt: skip


def test_axes_of_whole_numbers_have_no_ticks_between(drawn):
    for name in ("histogram_property_2", "qq_property_2", "cdf_property_2",
                 "synapses_per_connection"):  # fmt: skip
        axes = [m["encoding"]["x"]["axis"] for m in layers(drawn[name].to_dict())
                if m["encoding"]["x"].get("axis")]  # fmt: skip
        assert axes, name
        assert all(axis["tickMinStep"] == 1 for axis in axes), name
    bar, *_ = layers(drawn["histogram_property_1"].to_dict())
    assert "tickMinStep" not in bar["encoding"]["x"].get("axis", {})


def test_no_line_is_drawn_where_neither_data_nor_model_have_anything(drawn):
    _, rule = layers(drawn["histogram_property_2"].to_dict())
    assert {"filter": "datum.count > 0 || datum.expected > 0"} in rule["transform"]
