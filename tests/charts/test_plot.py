"""All charts by name: valid, rendered, written; hostile names and inputs at the edges."""

from __future__ import annotations

import base64
import html
import json

import altair as alt
import frames
import nbformat
import numpy as np
import polars as pl
import pytest
import vl_convert
from circuits import KINDS, with_labels
from specs import layers, pixels, render

from connprops.charts.plot import map_of, plot, write_chart
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError, OutputError
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.model import Model
from connprops.statistics.extract import extract


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
    moved = Model(
        model.table.with_columns(own_value=pl.col("value") + 1),
        types=model.types, units=model.units,
    )  # fmt: skip
    drawn = plot(stats_, moved, properties=["property_0"], pathway=pathway)
    found = drawn["qq_property_0"].title.subtitle
    assert found == "40 values; normal, fitted to them and to similar pathways"
    with pytest.raises(OptionError, match="Unknown pathway"):
        plot(
            stats_, model, properties=["property_0"], statistics=[], pathway=("nowhere", "nothing")
        )


def test_files_are_written_once(tables, tmp_path):
    stats_, model = tables
    options = {"properties": ["property_0"], "statistics": ["mean"]}
    drawn = plot(stats_, model, tmp_path, formats=("svg",), **options)
    charts = {f"{name}.svg" for name in drawn}
    assert {f.name for f in tmp_path.iterdir()} == charts | {"connprops.json"}
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


@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_labels_are_shown_and_not_taken_for_numbers(tmp_path):
    stats = extract(
        Dataset(export(resolve_circuit(with_labels(tmp_path / "c")[0]), tmp_path / "d"))
    )
    charts = plot(stats, build(stats))
    for name in ("kind", "label", "site"):
        of_name = {chart for chart in charts if chart.endswith(f"_{name}")}
        kinds = ("histogram", "levels", "goodness", "shared_within")
        assert of_name == {f"{kind}_{name}" for kind in kinds}
    axis = layers(charts["histogram_kind"].to_dict())[0]["encoding"]["x"]
    assert axis["title"] == "kind"
    assert axis["axis"]["values"] == [0, 1, 2, 3, 4]
    assert axis["axis"]["labelExpr"].startswith(json.dumps(KINDS))
    svg = vl_convert.vegalite_to_svg(charts["histogram_kind"].to_dict(), vl_version="v6_4")
    assert all(f">{kind}<" in svg for kind in KINDS)
    assert [c["title"]["text"] for c in charts["overview"].to_dict()["concat"]] == [
        "conductance", "n_syn_per_conn",
    ]  # fmt: skip
    assert "overview" not in plot(stats, build(stats), properties=["kind"])


def test_no_name_ends_the_script_of_a_page(tmp_path):
    evil = "</script><script>document.title='theirs'</script><!--\u2028"
    chart = alt.LayerChart(
        layer=[
            alt.Chart(alt.InlineData(values=[{"a": evil}]), title=evil, description=evil)
            .mark_point()
            .encode(x=alt.X("a:N", title=evil, sort=[evil]))
        ]
    )
    page = write_chart(chart, tmp_path / "chart.html").read_text(encoding="utf-8")
    assert page.count("\\u003c/script>") == 2 * 5
    assert evil[:20] not in page
    assert "\u2028" not in page[page.index("document.title") :]
    written = json.loads(write_chart(chart, tmp_path / "chart.json").read_text())
    assert written["layer"][0]["title"] == evil


def test_notebooks_show_a_chart_without_a_network(tables, drawn):
    shown, about = drawn["histogram_property_1"]._repr_mimebundle_()
    assert "text/html" not in shown  # Altair's own asks a network for its program
    (kind,) = {*shown} - {"image/png", "text/plain"}
    assert kind.startswith("application/vnd.vegalite.v")
    assert kind.removesuffix("+json")[-2:] in shown[kind]["$schema"]
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output(
        "display_data", {**shown, "image/png": base64.b64encode(shown["image/png"]).decode()})
    ])  # fmt: skip
    nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))
    assert shown[kind]["config"]["font"].startswith("system-ui")
    assert len({*pixels(shown["image/png"])}) > 10  # not blank
    width = int.from_bytes(shown["image/png"][16:20])
    assert abs(width - 1.5 * about["image/png"]["width"]) <= 1.5
    copied = drawn["histogram_property_1"].properties(title="mine")._repr_mimebundle_()[0]
    assert copied[kind]["title"] == "mine"
    with alt.renderers.enable("mimetype"):
        assert "image/png" not in drawn["overview"]._repr_mimebundle_()
    assert "image/png" in map_of(tables[0], "property_1")._repr_mimebundle_()[0]


def test_a_map_of_statistics_alone_is_that_of_all_charts(tables, drawn):
    alone = map_of(tables[0], "property_1", "std").to_dict()
    (title,) = (part["title"]["text"] for part in alone["concat"])
    assert title == drawn["std_property_1"].concat[0].to_dict()["title"]["text"]
    values = [sorted(row["data"] for row in rows if "data" in row)
              for rows in alone["datasets"].values()]  # fmt: skip
    table = tables[0].table.filter(pl.col("property").cast(pl.String) == "property_1").collect()
    assert sorted(table["std"].drop_nulls()) in values
    for wrong in (("nothing",), ("property_1", "nothing")):
        with pytest.raises(OptionError, match="nothing"):
            map_of(tables[0], *wrong)


def test_a_model_draws_a_pathway_by_itself(tables):
    model = tables[1]
    source, target = model.source_types[0], model.target_types[1]
    chart = model.plot(source, target).to_dict()
    assert len(chart["concat"]) == len(model.units)
    one = model.plot(source, target, ["property_1"]).to_dict()
    (rows,) = one["datasets"].values()
    of = model.distribution("property_1", source, target)
    edges = np.array([[rows[0]["left"], *(row["right"] for row in rows)]])
    share = [row["share"] for row in rows]
    assert share == pytest.approx(np.diff(of.cdf(edges)[0]), abs=1e-9)
    assert 0.99 < sum(share) <= 1
    with pytest.raises(OptionError, match="nobody"):
        model.plot("nobody", target)
    with pytest.raises(OptionError, match="nothing"):
        model.plot(source, target, ["nothing"])


def test_maps_of_many_types_stand_below_each_other():
    stats_, model = frames.tables(60, 60, seed=2)
    chart = plot(stats_, model, properties=["property_1"], statistics=["mean"])["mean_property_1"]
    _, about = chart._repr_mimebundle_()
    assert chart.columns == 2
    assert about["image/png"]["width"] <= 1480
