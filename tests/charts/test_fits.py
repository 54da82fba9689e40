"""Charts of the evidence for a model."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from specs import layers

from connprops.charts.fits import goodness


def test_goodness_shows_the_worst_first(tables, drawn):
    _, model = tables
    bars = drawn["goodness_property_1"].concat[1].to_dict()
    rows = next(iter(bars["datasets"].values()))
    fits = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))
    misfit = fits["ks"].to_numpy() * np.sqrt(fits["n"].to_numpy())
    assert [r["distance"] for r in rows] == pytest.approx(sorted(misfit, reverse=True)[:30])


def test_few_values_do_not_crowd_out_bad_fits(tables):
    stats_, model = tables
    few = pl.when(pl.col("ks").rank("ordinal", descending=True) <= 5).then(3).otherwise(40)
    fits = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))
    fits = fits.with_columns(n=few.cast(pl.Int64))
    chart = goodness(fits, stats_.types, property="property_1")
    rows = next(iter(chart.concat[1].to_dict()["datasets"].values()))
    expected = sorted(fits["ks"] * 40**0.5, reverse=True)[5:35]
    assert [r["distance"] for r in rows] == pytest.approx(expected)
    fits = fits.with_columns(n=pl.lit(3, dtype=pl.Int64))
    chart = goodness(fits, stats_.types, property="property_1")
    rows = next(iter(chart.concat[1].to_dict()["datasets"].values()))
    assert rows[0]["distance"] == pytest.approx(fits["ks"].max() * 3**0.5)


def test_goodness_by_a_distance_in_the_unit_of_the_property(tables):
    stats_, model = tables
    chart = goodness(model.fits, stats_.types, property="property_1", unit="ms",
                            measure="wasserstein")  # fmt: skip
    left, right = (part.to_dict() for part in chart.concat)
    fits = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))
    [bar] = layers(right)
    assert bar["encoding"]["x"]["title"] == "Wasserstein distance (ms)"
    rows = next(iter(right["datasets"].values()))
    assert [r["distance"] for r in rows] == sorted(fits["wasserstein"], reverse=True)[:30]
    colours = [m["encoding"]["color"] for m in layers(left)
               if m["encoding"].get("color", {}).get("field") == "wasserstein"]  # fmt: skip
    assert [c["legend"]["title"] for c in colours] == ["Wasserstein distance (ms)"]


def test_scores_name_what_could_not_be_fitted(drawn):
    rows = next(iter(drawn["scores"].to_dict()["datasets"].values()))
    failed = [r for r in rows if r["delta"] is None]
    assert {r["failure"] for r in failed} == {"could not be fitted to 3 pathways"}
    assert all(r["place"] == 4 for r in failed)
