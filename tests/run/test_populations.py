"""Several populations in one command: each by itself, or all as one."""

from __future__ import annotations

import re

import duckdb
import h5py
import numpy as np
import polars as pl
import pytest
from circuits import edit, two_types, write_edges, write_nodes
from typer.testing import CliRunner

import connprops as cp
from connprops.cli import app
from connprops.errors import ConnpropsWarning, OptionError
from connprops.export.export import export
from connprops.export.opening import open_network
from connprops.options import EdgeOptions
from connprops.query.session import questions


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    """Two populations onto the same neurons, the second from a population without types."""
    folder = tmp_path_factory.mktemp("populations") / "c"
    config = two_types(folder)
    write_nodes(folder / "relay.h5", "VPM", {}, size=5)
    rng = np.random.default_rng(1)
    target = np.sort(rng.integers(0, 10, 80))
    columns = {"conductance": rng.gamma(3, 0.5, 80), "rho": rng.random(80)}
    write_edges(
        folder / "relay_edges.h5", "relay", rng.integers(0, 5, 80), target, columns,
        nodes=("VPM", "All"),
    )  # fmt: skip

    def add(content):
        networks = content["networks"]
        networks["nodes"].append(
            {"nodes_file": "$BASE_DIR/relay.h5", "populations": {"VPM": {"type": "virtual"}}}
        )
        networks["edges"].append({"edges_file": "$BASE_DIR/relay_edges.h5"})

    edit(config, add)
    return config


def raw(circuit, file, name):
    with h5py.File(circuit.parent / file) as h5:
        group = h5[f"edges/{name}"]
        return group["source_node_id"][:], group["target_node_id"][:], group["0/conductance"][:]


def run(*arguments):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.fixture(scope="module")
def both(circuit, tmp_path_factory):
    out = tmp_path_factory.mktemp("both") / "out"
    result = run(circuit, "--population", "all", "--sel-props", "conductance", "-o", out)
    assert result.exit_code == 0, result.output
    return out, result


def test_each_population_has_a_folder_and_one_database_and_page_are_of_all(circuit, both):
    out, result = both
    assert "edge population" in result.stdout
    page = (out / "index.html").read_text()
    for name, file in (("default", "edges.h5"), ("relay", "relay_edges.h5")):
        values = raw(circuit, file, name)[2]
        assert f'href="{name}/report.html"' in page
        assert f"<td>{len(values):,}</td>" in page
        assert cp.open_dataset(out / name / "dataset").n_synapses == len(values)
        with duckdb.connect(out / "connprops.duckdb", read_only=True) as joined:
            of_one = f"population = '{name}'"
            stats = joined.sql("from statistics").filter(f"{of_one} and property = 'conductance'")
            found = stats.aggregate("sum(n * mean) / sum(n), sum(n)").fetchall()
            sizes = joined.sql("from edge_population").filter(f"{of_one} and population = name")
            assert sizes.project("n_synapses").fetchall() == [(len(values),)]
        if name == "relay":  # independent values: each synapse counts
            assert found[0] == (pytest.approx(values.mean()), len(values))
    told = CliRunner().invoke(app, ["info", str(out)])
    assert "relay" in told.stdout
    assert CliRunner().invoke(app, ["verify", str(out)]).exit_code == 0


def test_sql_asks_all_populations_of_a_folder(circuit, both):
    out, _ = both

    def asked(*arguments):
        return CliRunner().invoke(app, ["sql", str(out), *arguments])

    text = "select population, sum(n_synapses)::int from pathways group by all order by all"
    rows = asked(text, "--csv").stdout.splitlines()[1:]
    expected = [("default", "edges.h5"), ("relay", "relay_edges.h5")]
    assert rows == [f"{name},{len(raw(circuit, file, name)[2])}" for name, file in expected]
    listed = asked("--list")
    assert listed.exit_code == 0
    assert "one row per pathway" in " ".join(listed.stdout.split())
    ready = asked("--query", next(iter(questions())))
    assert ready.exit_code == 2
    assert "of one edge population" in ready.stderr
    assert asked("from read_csv('/etc/hostname')").exit_code == 2
    assert asked("delete from pathways").exit_code == 2


def test_the_same_again_is_reused_and_what_does_not_fit_writes_nothing(circuit, both, tmp_path):
    out, _ = both
    again = run(circuit, "--population", "default,relay", "--sel-props", "conductance", "-o", out)
    assert again.exit_code == 0
    assert len(re.findall("as before", again.stdout)) == 2
    for wrong, said in (
        (["--sel-props", "u_syn"], "Edge population 'relay': Unknown property: 'u_syn'"),
        (["--population", "default,rely"], "did you mean 'relay'"),
    ):
        asked = ["--population", "all", *wrong]
        result = run(circuit, *asked, "-o", tmp_path / "out")
        assert result.exit_code == 2
        assert said in result.stderr
        assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    assert run(circuit, "--population", "all", "-o", tmp_path / "mine").exit_code == 2


@pytest.mark.filterwarnings("ignore:columns in which the populations do not agree")
def test_merged_populations_have_the_rows_of_all(circuit, tmp_path):
    ds = cp.open_circuit(circuit, tmp_path / "m", edges_popul_name="all", merge_populations=True)
    assert [c.name for c in ds.columns] == ["conductance"]
    expected = []
    for name, file, nodes in (("default", "edges.h5", "All"), ("relay", "relay_edges.h5", "VPM")):
        source, target, values = raw(circuit, file, name)
        expected += [
            (f"{nodes}:{s}", f"All:{t}", v)
            for s, t, v in zip(source.tolist(), target.tolist(), values.tolist(), strict=True)
        ]
    columns = ["source_node", "target_node", "conductance"]
    assert sorted(ds.synapses.select(columns).collect().rows()) == sorted(expected)
    stats = cp.extract(ds)
    types = stats.table.select(pl.col("source_type", "target_type").cast(pl.String)).collect()
    assert {*types["source_type"]} == {"All: L4_PC", "All: L5_BC", "VPM"}
    assert {*types["target_type"]} == {"L4_PC", "L5_BC"}
    relay = stats.table.filter(pl.col("source_type") == "VPM", pl.col("n") > 0).collect()
    of_relay = relay.filter(property="n_syn_per_conn")
    source, target, _ = raw(circuit, "relay_edges.h5", "relay")
    assert of_relay["n"].sum() == len({*zip(source.tolist(), target.tolist(), strict=True)})
    assert ds.nodes.filter(side="source")["@population"].value_counts(sort=True).rows() == [
        ("All", 10), ("VPM", 5)
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:types of .* span:UserWarning")
def test_merging_says_what_it_leaves_out_and_tells_equal_ends_apart(circuit, tmp_path):
    options = EdgeOptions(population="default,relay", merge_populations=True, type="@population")
    with pytest.warns(ConnpropsWarning, match="do not agree are left out: .*'rho'"):
        network = open_network(circuit, options)
    ds = cp.open_dataset(export(network, tmp_path / "p", type="@population"))
    assert list(ds.source_types) == ["All", "VPM"]
    with h5py.File(circuit.parent / "edges.h5") as h5:
        n = len(h5["edges/default/source_node_id"])
    assert ds.n_synapses == n + 80
    with pytest.raises(OptionError, match="relay"):
        open_network(circuit, EdgeOptions(population="default,rely", merge_populations=True))
