"""Charts of scores, correlations and comparisons show what the tables say."""

from __future__ import annotations

from types import SimpleNamespace

import altair as alt
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from connprops import schema
from connprops.charts import scores as score_charts
from connprops.charts.plot import plot
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.demo import write_demo
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.comparison import compare
from connprops.statistics.extract import extract


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    models = []
    for seed in (0, 1):
        circuit = write_demo(folder / f"c{seed}", synapses=8_000, seed=seed)
        with pytest.warns(UserWarning, match="span several"):
            dataset = export(resolve_circuit(circuit.config), folder / f"d{seed}")
        stats = extract(dataset, sel_props=["conductance", "u_syn", "decay_time"])
        models.append(
            (
                stats,
                build(stats, correlations=True, distr_types={"u_syn": "normal"}, shrinkage=False),
            )
        )
    return models


def valid(chart):
    """Return the specification after Altair has checked it."""
    return chart.to_dict(validate=True)


def rows_in(spec):
    return next(iter(spec["datasets"].values()))


def test_correlations_of_a_pathway_are_drawn_both_ways(made):
    stats, model = made[0]
    charts = plot(stats, model)
    spec = valid(charts["correlations"])
    cells = {(r["property"], r["other_property"]): r["r"] for r in rows_in(spec)}
    source, target = charts["correlations"].title.removeprefix("Correlations: ").split(" → ")
    rows = model.correlations.filter(
        (pl.col("source_type") == source) & (pl.col("target_type") == target)
    )
    assert len(rows) == 3
    for row in rows.iter_rows(named=True):
        a, b = row["property"], row["other_property"]
        assert cells[a, b] == cells[b, a] == row["value"]
    colour = spec["layer"][0]["encoding"]["color"]
    assert colour["scale"]["domain"] == [-1.0, 1.0]
    assert "-1 to 1" in spec["description"]


def test_a_map_of_the_strongest_pair(made):
    stats, model = made[0]
    chart = plot(stats, model)["strongest_correlation"]
    spec = valid(chart)
    means = {}
    for row in model.correlations.iter_rows(named=True):
        pair = row["property"], row["other_property"]
        means.setdefault(pair, []).append(abs(row["value"]))
    a, b = max(means, key=lambda pair: sum(means[pair]) / len(means[pair]))
    assert spec["title"]["text"] == f"Correlation of {a} and {b}"
    cells = next(m for m in spec["layer"] if m["encoding"].get("color", {}).get("field") == "r")
    colour = cells["encoding"]["color"]
    assert colour["scale"]["domain"] == [-1.0, 1.0]
    assert colour["legend"]["title"] == "correlation (1)"
    drawn = {(r["source_type"], r["target_type"]): r["r"]
             for r in spec["datasets"][cells["data"]["name"]]}  # fmt: skip
    rows = model.correlations.filter(
        (pl.col("property") == a) & (pl.col("other_property") == b)
    ).select("source_type", "target_type", "value")
    assert drawn == {(s, t): r for s, t, r in rows.iter_rows()}
    turned = score_charts.correlation_map(
        model.correlations.rename({"value": "r"}), stats.types, b, a
    )
    others = next(m for m in valid(turned)["layer"]
                  if m["encoding"].get("color", {}).get("field") == "r")  # fmt: skip
    assert len(valid(turned)["datasets"][others["data"]["name"]]) == len(drawn)


def test_roc_of_the_largest_pathway(made):
    charts = plot(*made[0])
    spec = valid(charts["roc_conductance"])
    points = next(rows for rows in spec["datasets"].values() if len(rows) == 21)
    assert points[-1]["fpr"] == pytest.approx(1)
    assert all(0 <= p["tpr"] <= 1 for p in points)
    assert "ERR" in str(spec["title"])


def test_what_is_gained_on_data_held_back():
    summary = pl.DataFrame(
        {"property": ["a", "b", "c"], "gain": [0.5, -0.1, None], "gain_error": [0.1, 0.2, None],
         "ks": [0.1, 0.2, 0.3], "ks_reference": [0.4, 0.5, 0.6]}
    )  # fmt: skip
    spec = valid(score_charts.cross_validation(summary))
    gained, apart = spec["hconcat"]
    rows = next(rows for rows in spec["datasets"].values() if "gain" in rows[0])
    assert [r["property"] for r in rows] == ["a", "b"]
    assert rows[0]["low"] == pytest.approx(0.5 - 0.196)
    assert rows[1]["high"] == pytest.approx(-0.1 + 0.392)
    assert "nats a value" in gained["layer"][1]["encoding"]["x"]["title"]
    assert apart["encoding"]["x"]["title"] == "Kolmogorov-Smirnov distance (1)"
    assert apart["encoding"]["color"]["scale"]["domain"] == ["baseline", "connprops"]
    rows = spec["datasets"][apart["data"]["name"]]
    assert {(r["property"], r["model"]): r["ks"] for r in rows} == {
        ("a", "baseline"): 0.4, ("b", "baseline"): 0.5, ("c", "baseline"): 0.6,
        ("a", "connprops"): 0.1, ("b", "connprops"): 0.2, ("c", "connprops"): 0.3,
    }  # fmt: skip


def test_two_models_are_compared_where_both_have_data(made):
    table = compare(made[0][1], made[1][1])
    spec = valid(score_charts.comparison(table))
    both = table.filter((pl.col("status") == "both") & pl.col("ks").is_not_null())
    encodings = [part["encoding"] for part in spec["hconcat"]]
    assert [e["x"]["field"] for e in encodings] == ["ks", "shift"]
    assert encodings[0]["y"]["sort"] == ["conductance", "decay_time", "u_syn", "n_syn_per_conn"]
    drawn = rows_in(spec)
    assert len(drawn) == len(both)
    np.testing.assert_allclose(sorted(r["ks"] for r in drawn), both["ks"].sort())


def test_nothing_to_draw_is_drawn_empty():
    numbers = dict.fromkeys(("gain", "gain_error", "ks", "ks_reference"), float)
    for chart in (
        score_charts.comparison(pl.DataFrame(schema=schema.COMPARISON.polars_schema())),
        score_charts.correlations(pl.DataFrame(schema=schema.CORRELATIONS.polars_schema())),
        score_charts.cross_validation(pl.DataFrame(schema={"property": pl.String, **numbers})),
    ):
        assert valid(chart)
        assert isinstance(chart, alt.LayerChart | alt.HConcatChart)


def test_the_chart_of_a_comparison_is_written(made, tmp_path):
    call = ["compare"]
    for name, (_, model) in zip("ab", made, strict=True):
        (tmp_path / name).mkdir()
        call.append(str(model.write_parquet(tmp_path / name / "model.parquet")))
    done = CliRunner().invoke(app, [*call, "--chart", str(tmp_path / "c.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    again = CliRunner().invoke(app, [*call, "--chart", str(tmp_path / "c.png")])
    assert again.exit_code == 2
    assert "exists already" in again.output
    wrong = CliRunner().invoke(app, [*call, "--chart", str(tmp_path / "c.gif")])
    assert "Unknown format of charts" in wrong.output


def test_plot_compares_models_and_draws_scores_where_given(made):
    stats, model = made[0]
    scores = pl.DataFrame(
        {"property": ["u_syn"], "gain": [1.0], "gain_error": [0.5], "ks": [0.1],
         "ks_reference": [0.2]}
    )  # fmt: skip
    held_out = SimpleNamespace(summary=lambda: scores)
    charts = plot(stats, model, properties=["u_syn"], other=made[1][1], held_out=held_out)
    assert valid(charts["comparison"]) == valid(score_charts.comparison(compare(model, made[1][1])))
    assert valid(charts["cross_validation"]) == valid(score_charts.cross_validation(scores))
    assert not {"comparison", "cross_validation"} & set(plot(stats, model, properties=["u_syn"]))


@pytest.mark.usefixtures("made")
def test_cross_validation_draws_its_chart(tmp_path):
    dataset = next(tmp_path.parent.glob("charts*/d0"))
    out, chart = tmp_path / "scores.parquet", tmp_path / "scores.svg"
    call = ["cross-validate", str(dataset), "-o", str(out), "--chart", str(chart), "--sel-props",
            "conductance", "--cv-folds", "2", "--quiet"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    svg = chart.read_text()
    assert svg.startswith("<svg")
    assert "gained over the baseline" in svg
    assert ">conductance<" in svg
    out.unlink()
    again = CliRunner().invoke(app, call)
    assert again.exit_code == 2
    assert "scores.svg exists already" in again.output.replace("\n", "")
    assert not out.exists()
    wrong = CliRunner().invoke(app, [*call[:-1], "--chart", str(tmp_path / "c.gif")])
    assert "Unknown format of charts" in wrong.output


def test_any_statistic_is_mapped_on_the_command_line(made, tmp_path):
    stats, model = made[0]
    stats.write(tmp_path)
    model.write_parquet(tmp_path / "model.parquet")
    call = ["plot", str(tmp_path), "--statistics", "q50,n_unique", "--sel-props", "u_syn",
            "--formats", "json", "--quiet"]  # fmt: skip
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    names = {file.stem for file in (tmp_path / "charts").iterdir()}
    assert {"q50_u_syn", "n_unique_u_syn"} <= names
    assert not {"mean_u_syn", "std_u_syn"} & names
    spec = (tmp_path / "charts" / "n_unique_u_syn.json").read_text()
    assert '"n_unique of u_syn (1)"' in spec
    call[call.index("q50,n_unique")] = "median"
    wrong = CliRunner().invoke(app, [*call, "--overwrite"])
    assert wrong.exit_code == 2
    assert "Unknown statistic" in wrong.output
