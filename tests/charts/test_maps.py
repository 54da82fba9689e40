"""Maps of pathways: order of types, data beside model, what has no data."""

from __future__ import annotations

import json

import frames
import polars as pl
import pytest
from specs import colour_of, layers, pixels, render, rows_behind

from connprops import schema
from connprops.charts import maps
from connprops.charts.theme import LIGHT
from connprops.distributions.table import model_statistics
from connprops.errors import OptionError


def test_types_are_ordered_by_class_then_layer():
    types = pl.DataFrame(
        {
            "side": ["source"] * 7,
            "code": list(range(7)),
            "type": ["x", "i10", "i2", "e23", "e4", "none", "e23b"],
            "synapse_class": ["MIX", "INH", "INH", "EXC", "EXC", None, "EXC"],
            "layer": ["1", "L10", "L2", "23", "4", "1", "23"],
        }
    )
    assert maps.type_order(types, "source") == ["e4", "e23", "e23b", "i2", "i10", "x", "none"]
    assert maps.type_order(types, "target") == []


@pytest.mark.parametrize(
    ("layers_", "expected"),
    [(["4", "1", "23", "6"], ["1", "23", "4", "6"]), (["L5", "L23", "L4"], ["L23", "L4", "L5"]),
     (["7", "23", "9"], ["7", "9", "23"]), ([None, "23", "6"], ["23", "6", None])],
)  # fmt: skip
def test_layers_two_and_three_together_are_between_their_neighbours(layers_, expected):
    n = len(layers_)
    types = pl.DataFrame(
        {"side": ["source"] * n, "code": range(n), "type": [f"t{i}" for i in range(n)],
         "synapse_class": ["EXC"] * n, "layer": layers_}
    )  # fmt: skip
    layer_of = dict(zip(types["type"], layers_, strict=True))
    assert [layer_of[t] for t in maps.type_order(types, "source")] == expected


def test_maps_compare_data_and_model(tables):
    stats_, model = tables
    table, of_model = stats_.table.collect(), model_statistics(model)
    chart = maps.maps(table, of_model, stats_.types, property="property_1", unit="ms")
    data, fitted, difference = (colour_of(chart, f) for f in ("data", "model", "difference"))
    assert data["scale"] == fitted["scale"]
    assert data["legend"]["title"] == "mean of property_1 (ms)"
    assert difference["scale"]["domain"][0] == -difference["scale"]["domain"][1]
    for mark in layers(chart.to_dict()):
        encoding = mark["encoding"]
        if mark["mark"]["type"] == "rect":
            assert (encoding["x"]["field"], encoding["y"]["field"]) == (
                "target_type",
                "source_type",
            )
            assert encoding["y"]["scale"]["domain"] == maps.type_order(stats_.types, "source")
            assert encoding["x"]["axis"]["labelOverlap"] is False
    rows = rows_behind(chart, "difference")
    observed = table.filter(pl.col("property") == "property_1")
    means = {(r["source_type"], r["target_type"]): r["mean"] for r in observed.to_dicts()}
    of_model = model.table.filter(
        (pl.col("property") == "property_1") & (pl.col("parameter") == "mean")
    )
    distributions = {(r["source_type"], r["target_type"]): r["value"] for r in of_model.to_dicts()}
    assert len(rows) == len(means)
    for row in rows:
        key = row["source_type"], row["target_type"]
        assert row["difference"] == pytest.approx(distributions[key] - means[key], rel=1e-12)


def test_pathways_without_data_have_a_colour_and_a_legend(tables):
    stats_, model = tables
    table = stats_.table.collect()
    chart = maps.maps(table, model_statistics(model), stats_.types, property="property_0")
    states = [m for m in layers(chart.to_dict())
              if m["encoding"].get("color", {}).get("field") == "state"]  # fmt: skip
    n_missing = 36 - len(table.filter(pl.col("property") == "property_0"))
    spec = chart.to_dict()
    assert [len(spec["datasets"][m["data"]["name"]]) for m in states] == [n_missing] * 2
    for mark in states:  # of data and difference: the model has all pathways
        assert mark["encoding"]["color"]["scale"] == {"domain": ["no data"],
                                                      "range": [LIGHT.no_data]}  # fmt: skip


def test_statistics_without_a_counterpart_show_data_alone(tables):
    stats_, model = tables
    chart = maps.maps(stats_.table.collect(), model_statistics(model), stats_.types,
                      property="property_0", statistic="n_unique", unit="nS")  # fmt: skip
    assert len(chart.concat) == 1
    assert colour_of(chart, "data")["legend"]["title"] == "n_unique of property_0 (1)"


def test_shared_within_says_where_data_and_model_differ(tables):
    stats_, model = tables
    truth = [True, False, None]
    keys = stats_.table.collect().filter(pl.col("property") == "property_0").head(3)
    data = keys.with_columns(pl.Series("shared_within", truth))
    of_model = model_statistics(model).with_columns(shared_within=pl.lit(value=True))
    chart = maps.maps(data, of_model, stats_.types, property="property_0",
                      statistic="shared_within")  # fmt: skip
    words = {r["data"] for r in rows_behind(chart, '"data"')}
    assert words == {"shared", "varies", "cannot tell"}
    assert {r["difference"] for r in rows_behind(chart, '"difference"')} == {
        "alike", "only in the model"}  # fmt: skip


def test_unknown_statistics_are_refused(tables):
    stats_, model = tables
    with pytest.raises(OptionError, match="Unknown statistic: 'men'"):
        maps.maps(stats_.table.collect(), model_statistics(model), stats_.types,
                  property="property_0", statistic="men")  # fmt: skip


def test_levels_are_told_in_words(tables):
    stats_, model = tables
    chart = maps.level_map(model.marginals, stats_.types, property="property_0")
    rows = rows_behind(chart, '"level"')
    assert len(rows) == 36
    assert sum(r["level"] == "observed" for r in rows) == len(
        stats_.table.collect().filter(pl.col("property") == "property_0")
    )
    scale = colour_of(chart, "level")["scale"]
    there = {r["level"] for r in rows}
    assert scale["domain"] == [level for level in maps.LEVELS if level in there]
    assert scale["range"] == [LIGHT.levels[maps.LEVELS.index(level)] for level in scale["domain"]]


def test_labels_keep_their_place_at_sixty_types():
    stats_, model = frames.tables(60, 1, seed=2)
    chart = maps.level_map(model.marginals, stats_.types, property="property_0")
    spec = chart.to_dict()
    assert spec["height"]["step"] >= 9
    rects = [m for m in layers(spec) if m["mark"]["type"] == "rect"]
    assert rects[0]["encoding"]["y"]["axis"]["labelFontSize"] < spec["height"]["step"]


def test_more_rows_than_altair_allows_are_drawn():
    stats_, model = frames.tables(75, 1, seed=2)
    chart = maps.level_map(model.marginals, stats_.types, property="property_0")
    spec = json.loads(chart.to_json(allow_nan=False))
    [cells] = [m["data"] for m in layers(spec)
               if m["encoding"].get("color", {}).get("field") == "level"]  # fmt: skip
    values = cells.get("values") or spec["datasets"][cells["name"]]
    assert len(json.loads(values)) == 75 * 75
    assert len(set(pixels(render(chart)))) > 16


def test_rounding_errors_are_no_difference():
    data = pl.Series([1.0, 2.0, 3.0])
    scale = maps.difference_scale(data, pl.Series([1e-16, 0.0, -2e-16])).to_dict()
    assert scale["domain"] == pytest.approx([-3e-5, 3e-5])
    scale = maps.difference_scale(data, pl.Series([0.1, 0.0, -0.2])).to_dict()
    assert scale["domain"] == [-0.2, 0.2]


def test_of_too_many_types_those_with_most_connections_are_drawn():
    n = maps.TYPES_AT_MOST + 50
    types = pl.DataFrame(
        [("source", i, f"S{i}", None, None, 1) for i in range(n)]
        + [("target", i, f"T{i}", None, None, 1) for i in range(3)],
        schema=schema.TYPES.polars_schema(),
        orient="row",
    )
    pathways = pl.DataFrame(
        {"source_type": [f"S{i}" for i in range(n - 1)] * 2, "target_type": "T0"}
    ).with_columns(n_connections=pl.Series([*range(n - 1)] * 2))
    shown = maps.shown_types(types, pathways)
    # The last has no connections at all.
    assert shown.filter(side="source")["type"].to_list() == [f"S{i}" for i in range(49, n - 1)]
    assert shown.filter(side="target").equals(types.filter(side="target"))
    assert maps.shown_types(types, pathways, 2).filter(side="source")["code"].to_list() == [
        n - 3,
        n - 2,
    ]
    few = types.filter(pl.col("code") < maps.TYPES_AT_MOST)
    assert maps.shown_types(few, pathways, 2).equals(few)
