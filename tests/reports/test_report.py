from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import subprocess
import warnings
import zlib

import duckdb
import frames
import numpy as np
import polars as pl
import pytest
from circuits import KINDS, with_labels, write_circuit

from benchmarks.browser import drive
from benchmarks.chromium import CHROMIUM, Browser
from connprops.charts.maps import type_order
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.demo.circuit import write_demo
from connprops.distributions.table import model_statistics
from connprops.errors import ConnpropsWarning, DatasetError, OutputError
from connprops.export.export import export
from connprops.export.opening import open_table
from connprops.model.build import build
from connprops.reports.report import report
from connprops.statistics.extract import extract

HOSTILE = ["</script><script>alert(1)</script>", '"quoted" & <b>', "Ünï→Ω", "{{vega}}",
           "<!-- <script>", "\u2028 line"]  # fmt: skip


@pytest.fixture(scope="module")
def tables():
    return frames.tables(6, 5, seed=1)


@pytest.fixture(scope="module")
def page(tables, tmp_path_factory):
    file = tmp_path_factory.mktemp("report") / "report.html"
    report(*tables, file, title="A circuit", facts={"seconds": 1.5}, warnings=["mind the gap"])
    return file.read_text()


def index_of(page):
    return json.loads(re.search(r'<script id="index"[^>]*>(.*?)</script>', page, re.DOTALL)[1])


def chunk_of(page, name):
    packed = re.search(rf'<script id="{name}"[^>]*>([^<]*)</script>', page)[1]
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def pathways_of(part):
    """Return the pathways of rows, which are written as steps from one to the next."""
    return np.cumsum(part["pathway"]).tolist()


def executed(page):
    """Return the scripts of a page that a browser runs."""
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def test_it_asks_for_nothing(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "http" not in policy
    for pattern in (
        'src="http',
        "src='http",
        'href="http',
        "@import",
        "fetch('http",
        'fetch("http',
    ):
        assert pattern not in page
    assert "unsafe-eval" not in policy


def test_only_its_own_scripts_may_run(page):
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    scripts = executed(page)
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes


def test_overview(tables, page):
    stats_, model = tables
    index = index_of(page)
    pathways = stats_.pathways.collect()
    counts = dict(index["counts"])
    assert counts["connections"] == pathways["n_connections"].sum()
    assert counts["synapses"] == pathways["n_synapses"].sum()
    assert index["facts"] == [["seconds", 1.5]]
    assert index["warnings"][0] == "mind the gap"
    assert [p["name"] for p in index["properties"]] == model.properties
    assert index["properties"][1]["distributions"] == [["gamma", 36]]
    fits = model.fits.filter(pl.col("level") < 0)
    sure = (fits["ks"] * fits["n"].sqrt()).filter(fits["n"] >= 10).sort(descending=True)
    found = [x for x, n in zip(index["worst"]["sure"], index["worst"]["n"], strict=True) if n >= 10]
    assert found == pytest.approx(sure.head(200).to_list(), rel=1e-3)
    rows = model.evidence(pathways).to_dicts()
    assert [p["rejected"] for p in index["properties"]] == [
        f"{row['n_rejected']:,} of {row['n_tested']:,}" for row in rows
    ]
    assert [p["coverage"] for p in index["properties"]] == [row["coverage"] for row in rows]
    assert [p["leans"] for p in index["properties"]] == [row["n_level"] > 0 for row in rows]
    assert "<title>A circuit</title>" in page


def test_numbers_are_those_of_the_tables(tables, page):
    stats_, model = tables
    sources, targets = (type_order(stats_.types, side) for side in ("source", "target"))
    table = stats_.table.collect().filter(pl.col("property") == "property_1")
    part = chunk_of(page, "property-1")["statistics"]
    found = {
        p: (m, q) for p, m, q in zip(pathways_of(part), part["mean"], part["q95"], strict=True)
    }
    assert len(found) == len(table)
    for row in table.to_dicts():
        at = sources.index(row["source_type"]) * len(targets) + targets.index(row["target_type"])
        assert found[at] == pytest.approx((row["mean"], row["q95"]), rel=1e-5)
    distributions = chunk_of(page, "property-1")["model"]
    values = model.table.filter(
        (pl.col("property") == "property_1") & (pl.col("parameter") == "std")
    )
    assert sorted(distributions["parameters"]["std"]) == pytest.approx(
        sorted(values["value"]), rel=1e-5
    )  # fmt: skip


def test_discrete_parameters_are_lists(page):
    model = chunk_of(page, "property-4")["model"]
    assert set(model["distribution"]) == {"discrete"}
    for values, p in zip(model["parameters"]["val"], model["parameters"]["p"], strict=True):
        assert values[1] == pytest.approx(3 * values[0], rel=1e-5)
        assert p == [0.5, 0.5]


def test_a_map_shows_the_evidence_of_poor_fits(page):
    part = chunk_of(page, "property-0")["model"]
    shown = [(name["name"], name["meaning"]) for name in index_of(page)["statistics"]]
    assert "ks" not in dict(shown)
    assert "1.628 in one fit of a hundred" in dict(shown)["misfit"]
    for ks, n, level, misfit in zip(
        *(part[c] for c in ("ks", "n", "level", "misfit")), strict=True
    ):
        expected = None if level >= 0 or ks is None else pytest.approx(ks * n**0.5, rel=1e-3)
        assert misfit == expected


def test_histograms_keep_all_counts(page):
    part = chunk_of(page, "property-0")["histograms"]
    assert all(len(c) == 7 for c in part["count"])  # 51 in eights: 40 values ask for 6.8
    assert sum(map(sum, part["count"])) == frames.DRAWS * len(part["pathway"])
    assert all(len(edges) == 2 for edges in part["edges"])  # all bins are of one width


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    file = tmp_path_factory.mktemp("large") / "report.html"
    report(*frames.tables(60, 16, coverage=0.95, seed=3, n_bins=50), file)
    return file


def test_large_circuits_fit_into_15_megabytes(large):
    assert large.stat().st_size < 15_000_000
    page = large.read_text()
    part = chunk_of(page, "property-0")["histograms"]
    assert len(part["count"][0]) == 7
    assert set(map(sum, part["count"])) == {frames.DRAWS}
    for (left, right), width in zip(part["edges"], part["width"], strict=True):
        assert right - left == pytest.approx(width * 7, rel=1e-4)


def test_large_circuits_have_the_quantiles_of_the_statistics(large):
    page = large.read_text()
    assert chunk_of(page, "property-0")["quantiles"]["data"] == []
    assert index_of(page)["quantiles"] == {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75,
                                           "q95": 0.95}  # fmt: skip
    assert "at most 5 quantiles are shown" in index_of(page)["detail"]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_large_circuits_are_drawn_in_a_browser(large, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        drive(browser, large)
        points = browser.evaluate("views.get('qq').data('points').map((one) => one.p)")
        assert points == [0.05, 0.25, 0.5, 0.75, 0.95]
        bins = browser.evaluate("views.get('histogram').data('bins')")
        widths = [one["right"] - one["left"] for one in bins]
        np.testing.assert_allclose(widths, np.full(7, widths[0]), rtol=1e-3)


def test_hostile_names_stay_data(tmp_path):
    stats_, model = frames.tables(names=HOSTILE, properties=HOSTILE, coverage=1.0)
    file = report(stats_, model, tmp_path / "r.html", title=HOSTILE[0], facts={HOSTILE[0]: HOSTILE},
                  warnings=HOSTILE)  # fmt: skip
    page = file.read_text()
    assert len(executed(page)) == 2
    assert "alert(1)</script>" not in page
    index = index_of(page)
    assert sorted(index["sources"]) == sorted(HOSTILE)
    assert [p["name"] for p in index["properties"]][:-1] == HOSTILE
    assert index["warnings"][: len(HOSTILE)] == HOSTILE
    assert f"<h1>{html.escape(HOSTILE[0])}</h1>" in page


@pytest.mark.parametrize(("n_types", "coverage"), [(0, 1.0), (1, 1.0), (3, 0.0)])
def test_edge_cases(tmp_path, n_types, coverage):
    file = report(*frames.tables(n_types, 2, coverage=coverage), tmp_path / "r.html")
    assert len(index_of(file.read_text())["sources"]) == n_types


def test_a_model_without_evidence(tables, tmp_path):
    stats_, model = tables
    bare = type(model)(model.table, types=model.types, units=model.units)
    page = report(stats_, bare, tmp_path / "r.html").read_text()
    part = chunk_of(page, "property-1")["model"]
    assert set(part["ks"]) == {None}
    assert None not in part["mean"]


def test_warnings_tell_of_lost_values_and_failed_fits(tables, tmp_path):
    stats_, model = tables
    changed = stats_.table.collect().with_columns(
        n_null=pl.when(pl.col("property") == "property_0").then(1).otherwise(0).cast(pl.Int64)
    )
    other = frames.Statistics(
        stats_.properties, stats_.types, stats_.frames | {"statistics": changed}
    )
    n = len(changed.filter(pl.col("property") == "property_0"))
    found = index_of(report(other, model, tmp_path / "r.html").read_text())["warnings"]
    assert f"property_0: the values of {n} synapses are NaN or infinite, and left out" in found
    # As in the summary: of pathways with values.
    observed = model.fits.filter(pl.col("level") < 0)
    fallbacks = observed.filter(pl.col("status") == "fallback")["property"].value_counts()
    name, count = fallbacks.sort("property").row(0)
    assert len(found) == 2
    assert f"{count} ({name})" in found[1]


def test_files_are_not_overwritten_unasked(tables, tmp_path):
    file = tmp_path / "r.html"
    file.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        report(*tables, file)
    assert file.read_text() == "mine"
    report(*tables, file, overwrite=True)
    assert file.read_text().startswith("<!DOCTYPE html>")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("names", [None, HOSTILE], ids=["plain", "hostile"])
def test_it_draws_in_a_browser(tmp_path, names):
    stats_, model = frames.tables(4, names=names, properties=names, coverage=0.8, seed=4)
    file = report(stats_, model, tmp_path / "r.html")
    done = subprocess.run(  # noqa: S603 - a fixed command
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
         file.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    dom = done.stdout
    assert re.search(r'<html[^>]* data-ready="\d+"', dom), dom[:2000]
    assert re.search(r'<p id="failure"[^>]* hidden=""', dom)
    assert dom.count("<canvas") == 2
    assert len(re.findall(r"<svg[^>]*marks", dom)) == 2
    assert "Uncaught" not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_property_without_any_number_is_shown_without_a_model(tmp_path):
    values = {"p": np.full(5, np.nan), "q": [1.0, 2.0, 3.0, 2.5, 4.0]}
    config = write_circuit(tmp_path / "c", [0, 0, 0, 1, 2], [1, 1, 2, 2, 0], values, mtype="ABC")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)
        stats_ = extract(Dataset(export(resolve_circuit(config), tmp_path / "d")))
        model = build(stats_)
    file = report(stats_, model, tmp_path / "r.html")
    assert chunk_of(file.read_text(), "property-0")["curves"] == {}
    with Browser(tmp_path / "profile") as browser:
        drive(browser, file)
        assert browser.evaluate("document.getElementById('failure').hidden")


@pytest.fixture(scope="module")
def borrowing(tmp_path_factory):
    """Write the report of a circuit whose pathways borrow; return it, statistics and model."""
    folder = tmp_path_factory.mktemp("borrowing")
    circuit = write_demo(folder / "demo", synapses=3000, seed=1).config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)  # types that span layers
        dataset = export(resolve_circuit(circuit), folder / "d")
    stats_ = extract(Dataset(dataset), sel_props=["conductance", "u_syn"])
    model = build(stats_)
    return report(stats_, model, folder / "report.html"), stats_, model


def test_words_and_classes_say_what_the_tables_say(borrowing):
    file, stats_, model = borrowing
    index, pathways = index_of(file.read_text()), stats_.pathways.collect()
    n, n_synapses = (pathways[name].sum() for name in ("n_connections", "n_synapses"))
    first = index["words"][0]
    assert (
        f"{n:,} connections, which have {n_synapses:,} synapses, {n_synapses / n:.3g} each" in first
    )
    assert f"{len(pathways):,} of {len(model.pathways):,} pathways" in first
    assert " for conductance" in index["words"][1]
    assert any("standard errors" in each for each in index["words"][2:])
    evidence = model.evidence(pathways)
    rejected, tested = evidence["n_rejected"].sum(), evidence["n_tested"].sum()
    (poor,) = (each for each in index["words"][2:] if "than chance explains" in each)
    assert poor.startswith(f"{rejected or 'None'} of {tested:,} fits to 20 values or more")
    nodes = stats_.types.group_by("side", "synapse_class").agg(pl.col("n_nodes").sum())
    size = {(side, str(name)): count for side, name, count in nodes.iter_rows()}
    rows = {row[0]: row for row in index["classes"]["rows"]}
    pair = pathways.filter(
        pl.col("source_class").cast(pl.String) == "EXC",
        pl.col("target_class").cast(pl.String) == "INH",
    )
    _, n, probability, per, mean = rows["EXC → INH"]
    assert "cut out of a larger circuit" in index["classes"]["caveat"]
    assert n == pair["n_connections"].sum()
    assert probability == pytest.approx(n / size["source", "EXC"] / size["target", "INH"])
    assert per == pytest.approx(pair["n_synapses"].sum() / n)
    of_pair = stats_.table.collect().filter(pl.col("property") == "conductance").join(
        pair, on=["source_type", "target_type"]
    )  # fmt: skip
    assert mean == pytest.approx((of_pair["mean"] * of_pair["n"]).sum() / of_pair["n"].sum())


def test_expected_means_stand_beside_data_and_model(tables, tmp_path):
    table = tables[0].table.collect().filter(pl.col("property") == "property_1")
    names = pl.col("source_type", "target_type", "property").cast(pl.String)
    keys = ["source_type", "target_type", "property"]
    spread = model_statistics(tables[1]).select(pl.col(keys).cast(pl.String), spread="std")
    table = table.with_columns(pl.col(keys).cast(pl.String)).join(spread, on=keys)
    error = pl.col("spread") / pl.col("n").sqrt()
    off = pl.int_range(pl.len()).mod(4) * 0.9  # by so many standard errors
    means = table.select(names, mean=pl.col("mean") + off * error)
    file = tmp_path / "expected.parquet"
    means.write_parquet(file)
    index = index_of(report(*tables, tmp_path / "r.html", expected=file).read_text())
    near = sum(i % 4 < 3 for i in range(len(means)))
    assert f"{near} of {len(means)} means of data lie within 2" in index["words"][-1]
    rows = index["expected"]["rows"]
    assert len(rows) == len(means)
    assert [abs(row[5]) for row in rows[: len(means) - near]] == pytest.approx(
        [2.7] * (len(means) - near)
    )
    mean = {f"{s} → {t}": m for s, t, m in table.select(names, "mean").select(
        "source_type", "target_type", "mean").iter_rows()}  # fmt: skip
    assert all(row[3] == pytest.approx(mean[row[0]]) for row in rows)
    with pytest.raises(DatasetError, match="lacks the column 'mean'"):
        report(*tables, tmp_path / "other.html", expected=means.drop("mean"))


def test_borrowed_distributions_have_a_curve(borrowing):
    file, _, model = borrowing
    page = file.read_text()
    part = chunk_of(page, "property-0")
    index = index_of(page)
    curve = part["model"]["curve"]
    levels = part["model"]["level"]
    assert [c is not None for c in curve] == [level >= 0 for level in levels]
    at = curve.index(next(c for c in curve if c is not None))
    pathway = pathways_of(part["model"])[at]
    source, target = divmod(pathway, len(index["targets"]))
    drawn = part["curves"][str(curve[at])]
    edges = drawn["edges"][0] + drawn["width"] * np.arange(len(drawn["share"]) + 1)
    upto = model.cdf("conductance", index["sources"][source], index["targets"][target], edges)
    np.testing.assert_allclose(drawn["share"], np.diff(upto), rtol=2e-3)
    assert sum(drawn["share"]) == pytest.approx(0.996, abs=2e-3)


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_links_search_and_what_is_kept_beside(borrowing, tmp_path):
    file, stats_, _ = borrowing
    names = chunk_of(file.read_text(), "property-0")["model"]
    index = index_of(file.read_text())
    number = pathways_of(names)[next(i for i, c in enumerate(names["curve"]) if c is not None)]
    source, target = (index[side][i] for side, i in zip(
        ("sources", "targets"), divmod(number, len(index["targets"])), strict=True))  # fmt: skip
    with Browser(tmp_path / "profile") as browser:
        browser.open(file)
        browser.wait("document.documentElement?.dataset.ready")
        assert "source=" in browser.evaluate("location.hash")
        first = browser.evaluate("state.pathway")
        browser.evaluate("byId('keep').click()")
        browser.wait("byId('keep').textContent.startsWith('Drop')")
        link = {"property": "u_syn", "statistic": "std", "source": source, "target": target}
        browser.evaluate(
            f"location.hash = '#' + new URLSearchParams({json.dumps(link)})"
            " + '&' + new URLSearchParams({besideSource: source(state.kept), "
            "besideTarget: target(state.kept)})"
        )
        opened = f"u_syn {source} → {target}"
        browser.wait(f"document.documentElement.dataset.opened === {json.dumps(opened)}")
        browser.wait("document.documentElement.dataset.drawn === 'u_syn std'")
        assert browser.evaluate("state.kept") == first
        # The borrowed pathway shows its density, and the one kept its data.
        assert browser.evaluate("views.get('histogram').data('bins').length") > 1
        title = "byId('histogram').textContent"
        assert "share of values" in browser.evaluate(title)
        assert browser.evaluate("views.get('histogram-kept').data('bins').some((b) => b.count > 0)")
        assert browser.evaluate("byId('moments').querySelectorAll('th').length") == 5
        # Borrowed cells are striped in the map of the model, and only there.
        n_borrowed = sum(level >= 0 for level in names["level"])
        assert browser.evaluate("views.get('map-model').data('borrowed').length") == n_borrowed
        assert not browser.evaluate("views.get('map-data').data('cells').some((c) => c.borrowed)")
        cell = browser.evaluate("views.get('map-model').data('cells').find((c) => !c.borrowed)")
        assert {"values", "std", "from"} <= cell.keys()
        browser.evaluate(
            f"byId('search').value = {json.dumps(f'{source} → {target}'.lower())};"
            " byId('search').dispatchEvent(new Event('input'))"
        )
        found = browser.evaluate(
            "[...byId('found').querySelectorAll('button')].map((b) => b.textContent)"
        )
        assert f"{source} → {target}" in found
        queries = browser.evaluate("[byId('sql-map').textContent, byId('sql-pathway').textContent]")
        assert (browser.errors, browser.requests) == ([], [])
    with duckdb.connect() as connection:
        connection.register("statistics", stats_.table.collect().with_columns(
            pl.col(pl.Enum).cast(pl.String)).to_arrow())  # fmt: skip
        assert len(connection.sql(queries[0]).fetchall()) == stats_.table.collect().filter(
            pl.col("property") == "u_syn"
        ).height  # fmt: skip
    assert f"model_of('{source}', '{target}')" in queries[1]


@pytest.fixture(scope="module")
def correlated(tables):
    """Return tables whose model has one pair of correlated properties, in half of the pathways."""
    stats_, model = tables
    some = model.table.filter(pl.col("property") == "property_0").unique(
        ["source_type", "target_type"], keep="first", maintain_order=True
    )[::2]
    some = some.with_columns(
        pl.lit("property_1").cast(some.schema["other_property"]).alias("other_property"),
        pl.lit("copula").cast(some.schema["distribution"]).alias("distribution"),
        pl.lit("correlation").cast(some.schema["parameter"]).alias("parameter"),
        value=pl.int_range(pl.len()) / pl.len() - 0.5,
        std_error=pl.lit(0.125),
    )
    table = pl.concat([model.table, some])
    return stats_, type(model)(table, types=model.types, units=model.units, fits=model.fits)


def test_correlations_are_packed_pair_by_pair(correlated, tmp_path):
    page = report(*correlated, tmp_path / "r.html").read_text()
    assert index_of(page)["correlated"] == [["property_0", "property_1"]]
    chunk = chunk_of(page, "correlations")
    sources, targets = (type_order(correlated[0].types, s) for s in ("source", "target"))
    rows = correlated[1].correlations
    assert len(rows) == 18
    found = dict(zip(pathways_of(chunk), chunk["value"][0], strict=True))
    for source, target, value in rows.select("source_type", "target_type", "value").iter_rows():
        at = sources.index(source) * len(targets) + targets.index(target)
        assert found[at] == pytest.approx(value, abs=5e-3)
    assert set(chunk["std_error"][0]) == {0.125}
    assert chunk["map"]["scale"]["domain"] == [-1, 1]


def test_without_correlations_nothing_is_packed(page):
    assert index_of(page)["correlated"] == []
    assert 'id="correlations"' not in page


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_reader_selects_clicks_and_sorts(correlated, tmp_path):
    file = report(*correlated, tmp_path / "r.html")
    with Browser(tmp_path / "profile") as browser:
        taken = drive(browser, file)  # raises on errors and requests
        assert set(taken) == {"first drawing", "another property", "another statistic",
                              "pathway opened", "sorted"}  # fmt: skip
        fits = correlated[1].fits.filter(
            (pl.col("property") == "property_0") & (pl.col("level") < 0)
        )
        assert browser.evaluate("document.querySelectorAll('#worst tbody tr').length") == len(fits)
        labels = browser.evaluate("[...byId('statistic').options].map((one) => one.label)")
        assert labels[-1] == "correlation with property_1"
        browser.evaluate(
            "{ const box = byId('statistic'); box.value = 'correlation 0';"
            " box.dispatchEvent(new Event('change')) }"
        )
        browser.wait("document.documentElement.dataset.drawn === 'property_0 correlation 0'")
        assert browser.evaluate("views.get('map-data').data('cells').length") == 18
        shown = "getComputedStyle(byId('comparison')).display"
        assert browser.evaluate(shown) == "none"  # there is nothing to compare with
        # A pathway that has the correlation, and one that has none.
        some = correlated[1].correlations.select("source_type", "target_type").row(0)
        browser.evaluate(
            f"open(index.sources.indexOf({some[0]!r}) * nTargets"
            f" + index.targets.indexOf({some[1]!r}))"
        )
        assert browser.evaluate("document.querySelectorAll('#correlation-chart svg.marks').length")
        assert browser.evaluate("views.get('correlation-chart').data('pairs').length") == 2
        without = browser.evaluate(
            "unpacked('correlations').then(({ at }) => {"
            " let one = 0; while (at.has(one)) one += 1; return one })"
        )
        browser.evaluate(f"open({without})")
        assert browser.evaluate("byId('correlation-chart').childElementCount") == 0
        assert (browser.errors, browser.requests) == ([], [])


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_labels_are_shown_and_not_taken_for_numbers(tmp_path):
    stats = extract(
        Dataset(export(resolve_circuit(with_labels(tmp_path / "c")[0]), tmp_path / "d"))
    )
    file = report(stats, build(stats), tmp_path / "r.html")
    number = [p.name for p in stats.properties].index("kind")
    of_kind = chunk_of(file.read_text(), f"property-{number}")
    assert set(of_kind["statistics"]["mean"]) == set(of_kind["model"]["mean"]) == {None}
    assert of_kind["quantiles"]["pathway"] == []
    with Browser(tmp_path / "profile") as browser:
        drive(browser, file)
        browser.evaluate(f"choose({number})")
        shown = browser.evaluate("byId('parameters').innerText")
        assert ", ".join(KINDS) in shown
        ticks = browser.evaluate("byId('histogram').textContent")
        assert all(kind in ticks for kind in KINDS)
        statistics = browser.evaluate("[...byId('statistic').options].map((one) => one.value)")
        assert statistics == ["shared_within", "n", "n_unique", "misfit", "level"]
        assert browser.evaluate("byId('failure').hidden")


@pytest.mark.filterwarnings("ignore:no source and no target type has a")
def test_a_page_of_the_strongest_types_says_what_it_leaves_out(tmp_path):
    rng = np.random.default_rng(1)
    pre, post = rng.integers(0, 260, (2, 900))
    edges = pl.DataFrame({"pre": pre, "post": post, "syn": rng.geometric(0.5, 900)})
    edges = edges.unique(["pre", "post"], maintain_order=True)
    nodes = pl.DataFrame({"id": np.arange(260), "cell_type": [f"t{i:03}" for i in range(260)]})
    names = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}
    stats = extract(open_table(edges, nodes, count="syn", folder=tmp_path / "d", **names))
    page = report(stats, build(stats), tmp_path / "r.html").read_text()
    said = re.search(
        r"This page is of the 400 types with most connections, of 520 of both sides: (\d+) of "
        r"(\d+) connections, in (\d+) of (\d+) pathways",
        page,
    )
    shown, connections, in_shown, pathways = map(int, said.groups())
    assert connections == pathways == len(edges)
    assert shown == in_shown < connections
