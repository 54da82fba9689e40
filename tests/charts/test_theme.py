"""Themes, and scales of colour that follow the values."""

from __future__ import annotations

import json

import altair as alt
import numpy as np
import pytest

from connprops.charts.theme import DARK, LIGHT, diverging_scale, sequential_scale, ticks


def test_themes_are_registered_and_not_enabled():
    assert {LIGHT.theme, DARK.theme} <= set(alt.theme.names())
    assert alt.theme.active == "default"


def test_scales_follow_the_values():
    rng = np.random.default_rng(0)
    even = rng.normal(10, 1, 2000)
    tailed = np.exp(rng.normal(0, 2, 2000))
    assert sequential_scale(even).to_dict()["type"] == "linear"
    assert sequential_scale(tailed).to_dict()["type"] == "log"
    assert sequential_scale(np.append(tailed, 0)).to_dict()["type"] == "symlog"
    assert diverging_scale(tailed - 1).to_dict()["type"] == "symlog"
    assert sequential_scale(even).to_dict()["domain"] == [even.min(), even.max()]


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [0.0, 0.0], [-2.0] * 5, [1e-300, 1e300]])
def test_scales_of_odd_values_have_a_length_and_ticks(values):
    for scale in (sequential_scale(values), diverging_scale(values)):
        parts = scale.to_dict()
        low, high = parts["domain"]
        assert low < high
        found = ticks(scale)
        if parts["type"] == "linear":
            assert found is None  # Vega chooses them
        else:
            assert 3 <= len(found) <= 5
            assert all(low <= t <= high for t in found)
        json.dumps(parts, allow_nan=False)


def test_no_grey_of_missing_data_is_in_a_scale():
    for palette in (LIGHT, DARK):
        assert palette.no_data not in (*palette.diverging, *palette.levels, palette.data)


def test_differences_of_a_millionth_have_no_colours():
    low, high = sequential_scale(np.array([0.2, 0.2 + 2e-7, 0.2 - 2e-7])).to_dict()["domain"]
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.3)
    values = np.array([0.2, 0.201])
    assert sequential_scale(values).to_dict()["domain"] == values.tolist()
