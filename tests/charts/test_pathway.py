from __future__ import annotations

import html
import json
import zlib

import altair as alt
import frames
import numpy as np
import polars as pl
import pytest
import vl_convert
from scipy import stats

from connprops.charts import maps
from connprops.charts import pathway as charts
from connprops.charts.fits import goodness
from connprops.charts.plot import plot
from connprops.charts.rows import model_statistics, quantile_pairs, synapse_counts
from connprops.charts.theme import DARK, LIGHT, diverging_scale, sequential_scale, ticks
from connprops.errors import OptionError, OutputError


@pytest.fixture(scope="module")
def tables():
    return frames.tables(6, 5, seed=1)


@pytest.fixture(scope="module")
def drawn(tables):
    return plot(*tables)


def layers(spec):
    """Return all marks of a specification, whatever it is made of."""
    if "mark" in spec:
        return [spec]
    inner = [*spec.get("layer", []), *spec.get("hconcat", []), *spec.get("concat", [])]
    inner += [spec["spec"]] if "spec" in spec else []
    return [one for part in inner for one in layers(part)]


def colour_of(chart, field):
    """Return the encoding of colour of the layer whose colour shows a field."""
    found = [m["encoding"]["color"] for m in layers(chart.to_dict())
             if m["encoding"].get("color", {}).get("field") == field]  # fmt: skip
    assert len(found) == 1
    return found[0]


def rows_behind(chart, field):
    spec = chart.to_dict()
    for mark in layers(spec):
        if field in json.dumps(mark["encoding"]):
            return spec["datasets"][mark.get("data", spec.get("data"))["name"]]
    return None


def pixels(png):
    """Return the filtered scan lines of a PNG: bytes that all are alike where it is blank."""
    at, idat = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            idat += png[at + 8 : at + 8 + length]
        at += length + 12
    return zlib.decompress(idat)


def render(chart):
    with alt.theme.enable(LIGHT.theme):
        return vl_convert.vegalite_to_png(chart.to_dict(), vl_version="v6_4")


# ---- all charts


def test_plot_gives_charts_by_name(tables, drawn):
    stats_, _ = tables
    expected = {"overview", "scores", "synapses_per_connection"}
    for one in stats_.properties:
        kinds = ["mean", "std", "levels", "goodness", "wasserstein", "histogram", "roc", "qq",
                 "cdf"]  # fmt: skip
        if one.name != "n_syn_per_conn":
            kinds.append("shared_within")
        expected |= {f"{kind}_{one.name}" for kind in kinds}
    assert set(drawn) == expected


def test_specifications_are_valid_and_strict_json(drawn):
    for name, chart in drawn.items():
        spec = json.loads(chart.to_json(allow_nan=False))  # validates against the schema
        assert spec["description"], name
        assert "NaN" not in json.dumps(spec)


def test_every_axis_has_a_title_with_a_unit(drawn):
    for name, chart in drawn.items():
        if name.startswith(("histogram", "roc", "qq", "cdf", "overview", "synapses")):
            titles = [e[axis]["title"] for m in layers(chart.to_dict()) for e in [m["encoding"]]
                      for axis in ("x", "y") if "title" in e.get(axis, {})]  # fmt: skip
            assert titles, name
            units = {"nS", "ms", "1", "µm", "mM", "count"}  # of a panel whose title is its name
            assert all(
                title in units or (title.endswith(")") and "(" in title) for title in titles
            ), (name, titles)


@pytest.mark.parametrize(
    "name", ["overview", "scores", "synapses_per_connection", "mean_property_1",
             "shared_within_property_1", "levels_property_1", "goodness_property_1",
             "histogram_property_1", "roc_property_1", "qq_property_1", "cdf_property_1"]
)  # fmt: skip
def test_charts_render(drawn, name):
    assert len(set(pixels(render(drawn[name])))) > 16


def test_themes_are_registered_and_not_enabled():
    assert {LIGHT.theme, DARK.theme} <= set(alt.theme.names())
    assert alt.theme.active == "default"


# ---- maps


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
    assert len(chart.hconcat) == 1
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
    chart = maps.level_map(model.table, stats_.types, property="property_0")
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
    chart = maps.level_map(model.table, stats_.types, property="property_0")
    spec = chart.to_dict()
    assert spec["height"]["step"] >= 9
    rects = [m for m in layers(spec) if m["mark"]["type"] == "rect"]
    assert rects[0]["encoding"]["y"]["axis"]["labelFontSize"] < spec["height"]["step"]


def test_more_rows_than_altair_allows_are_drawn():
    stats_, model = frames.tables(75, 1, seed=2)
    chart = maps.level_map(model.table, stats_.types, property="property_0")
    spec = json.loads(chart.to_json(allow_nan=False))
    [cells] = [m["data"] for m in layers(spec)
               if m["encoding"].get("color", {}).get("field") == "level"]  # fmt: skip
    values = cells.get("values") or spec["datasets"][cells["name"]]
    assert len(json.loads(values)) == 75 * 75
    assert len(set(pixels(render(chart)))) > 16


# ---- scales of colour


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


def test_rounding_errors_are_no_difference():
    data = pl.Series([1.0, 2.0, 3.0])
    scale = maps.difference_scale(data, pl.Series([1e-16, 0.0, -2e-16])).to_dict()
    assert scale["domain"] == pytest.approx([-3e-6, 3e-6])
    scale = maps.difference_scale(data, pl.Series([0.1, 0.0, -0.2])).to_dict()
    assert scale["domain"] == [-0.2, 0.2]


# ---- distributions


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
    bare = charts.histogram(bins.drop("expected"), charts.Labels("delay", "", "a"))
    assert len(layers(bare.to_dict())) == 1


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


def test_cdf_of_a_discrete_model_has_steps(drawn):
    shapes = {
        name: [m["mark"]["interpolate"] for m in layers(drawn[name].to_dict())]
        for name in ("cdf_property_1", "cdf_property_2")
    }
    assert shapes == {"cdf_property_1": ["step-after", "linear"],
                      "cdf_property_2": ["step-after", "step-after"]}  # fmt: skip


def test_goodness_shows_the_worst_first(tables, drawn):
    _, model = tables
    bars = drawn["goodness_property_1"].hconcat[1].to_dict()
    rows = next(iter(bars["datasets"].values()))
    ks = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))["ks"]
    assert [r["distance"] for r in rows] == sorted(ks, reverse=True)[:30]


def test_few_values_do_not_crowd_out_bad_fits(tables):
    stats_, model = tables
    few = pl.when(pl.col("ks").rank("ordinal", descending=True) <= 5).then(3).otherwise(40)
    fits = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))
    fits = fits.with_columns(n=few.cast(pl.Int64))
    chart = goodness(fits, stats_.types, property="property_1")
    rows = next(iter(chart.hconcat[1].to_dict()["datasets"].values()))
    assert [r["distance"] for r in rows] == sorted(fits["ks"], reverse=True)[5:35]
    fits = fits.with_columns(n=pl.lit(3, dtype=pl.Int64))
    chart = goodness(fits, stats_.types, property="property_1")
    rows = next(iter(chart.hconcat[1].to_dict()["datasets"].values()))
    assert rows[0]["distance"] == fits["ks"].max()


def test_goodness_by_a_distance_in_the_unit_of_the_property(tables):
    stats_, model = tables
    chart = goodness(model.fits, stats_.types, property="property_1", unit="ms",
                            measure="wasserstein")  # fmt: skip
    left, right = (part.to_dict() for part in chart.hconcat)
    fits = model.fits.filter((pl.col("property") == "property_1") & (pl.col("level") < 0))
    [bar] = layers(right)
    assert bar["encoding"]["x"]["title"] == "Wasserstein distance (ms)"
    rows = next(iter(right["datasets"].values()))
    assert [r["distance"] for r in rows] == sorted(fits["wasserstein"], reverse=True)[:30]
    colours = [m["encoding"]["color"] for m in layers(left)
               if m["encoding"].get("color", {}).get("field") == "wasserstein"]  # fmt: skip
    assert [c["legend"]["title"] for c in colours] == ["Wasserstein distance (ms)"]


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


def test_scores_name_what_could_not_be_fitted(drawn):
    rows = next(iter(drawn["scores"].to_dict()["datasets"].values()))
    failed = [r for r in rows if r["delta"] is None]
    assert {r["failure"] for r in failed} == {"could not be fitted to 3 pathways"}
    assert all(r["place"] == 4 for r in failed)


# ---- inputs at the edges


@pytest.mark.parametrize(
    ("n_types", "coverage"), [(0, 1.0), (1, 1.0), (4, 0.0)],
    ids=["no types", "one pathway", "all interpolated"],
)  # fmt: skip
def test_edge_cases_draw(n_types, coverage):
    stats_, model = frames.tables(n_types, 1, coverage=coverage)
    drawn = plot(stats_, model)
    assert ("histogram_property_0" in drawn) == (n_types > 0 and coverage > 0)
    for chart in drawn.values():
        chart.to_json(allow_nan=False)
    for name in ("overview", "mean_property_0", "levels_property_0", "goodness_property_0"):
        render(drawn[name])


def test_a_model_without_evidence_is_drawn(tables):
    stats_, model = tables
    bare = type(model)(model.table, types=model.types, units=model.units)
    drawn = plot(stats_, bare, properties=["property_0"])
    assert set(drawn) == {
        "overview", "mean_property_0", "std_property_0", "shared_within_property_0",
        "levels_property_0", "histogram_property_0", "roc_property_0", "qq_property_0",
        "cdf_property_0",
    }  # fmt: skip


def test_a_pathway_can_be_named(tables):
    stats_, model = tables
    pathway = stats_.pathways.collect().select("source_type", "target_type").row(-1)
    drawn = plot(stats_, model, properties=["property_0"], pathway=pathway)
    title = drawn["qq_property_0"].title
    assert title.text == f"property_0: {pathway[0]} → {pathway[1]}"
    assert title.subtitle == "40 values; normal, fitted to them"
    with pytest.raises(OptionError, match="Unknown pathway"):
        plot(
            stats_, model, properties=["property_0"], statistics=[], pathway=("nowhere", "nothing")
        )


def test_files_are_written_once(tables, tmp_path):
    stats_, model = tables
    options = {"properties": ["property_0"], "statistics": ["mean"]}
    drawn = plot(stats_, model, tmp_path, formats=("svg",), **options)
    assert {f.name for f in tmp_path.iterdir()} == {f"{name}.svg" for name in drawn}
    assert (tmp_path / "qq_property_0.svg").read_text().startswith("<svg")
    with pytest.raises(OutputError, match="exists already"):
        plot(stats_, model, tmp_path, formats=("svg",), **options)


def test_html_files_work_offline(tables, tmp_path):
    stats_, model = tables
    plot(stats_, model, tmp_path, properties=["property_0"], statistics=[])
    page = (tmp_path / "qq_property_0.html").read_text()
    assert 'src="http' not in page
    assert len(page) > 500_000  # the libraries are within


def test_names_of_properties_cannot_leave_the_folder(tmp_path):
    names = ["../up", "a/b", "a:b", "A_B", "Ω <b>"]
    stats_, model = frames.tables(2, properties=names, coverage=1.0)
    plot(stats_, model, tmp_path / "out", formats=("json",), statistics=["mean"])
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    found = {f.name for f in (tmp_path / "out").iterdir() if f.name.lower().startswith("mean_")}
    assert len({f.casefold() for f in found}) == len(names) + 1


def test_names_of_properties_are_no_expressions():
    """Vega makes expressions of titles and of sorted names, and escapes quotation marks alone."""
    names = ['quoted "a"', 'out\\" + warn(1) + "', "two\nlines", "\u2028", "{{x}} ${x} datum.y"]
    shown = ['quoted "a"', 'out\u29f5" + warn(1) + "', "two lines", " ", "{{x}} ${x} datum.y"]
    stats_, model = frames.tables(2, properties=names, coverage=1.0)
    drawn = plot(stats_, model, statistics=["mean"])
    said = ""
    for chart in drawn.values():
        said += vl_convert.vegalite_to_svg(chart.to_dict(), vl_version="v6_4")
    said = html.unescape(said)
    for name in shown:
        assert f"{name} (" in said  # in the titles of axes, and in what screen readers say
        assert f"property: {name}; " in said  # of the scores


def test_unknown_options_are_refused(tables, tmp_path):
    stats_, model = tables
    with pytest.raises(OptionError, match="Unknown property: 'proprty_0'"):
        plot(stats_, model, properties=["proprty_0"])
    with pytest.raises(OptionError, match="Unknown format of charts: 'gif'"):
        plot(stats_, model, tmp_path, formats=("gif",))
