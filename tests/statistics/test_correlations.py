"""Correlations of a circuit's properties: from synapses to the model, however they are read."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from circuits import SHARED, write_circuit
from polars.testing import assert_frame_equal
from scipy import stats
from typer.testing import CliRunner

from connprops import build, read_model, read_statistics
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.errors import ConnpropsWarning, DatasetError, OptionError
from connprops.export.export import export
from connprops.resources import Resources
from connprops.statistics.extract import extract

SHARED_R, OWN_R = 0.6, -0.5
N_NODES = 90


def poisson(z, mean):
    return 1 + stats.poisson.ppf(stats.norm.cdf(z), mean)


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    """Three types of 30 nodes: g, n, k shared within connections, u, w not; c is constant.

    g and n have the correlation SHARED_R beneath, u and w OWN_R, all others 0. Pathway C to C has
    too few connections for a matrix.
    """
    rng = np.random.default_rng(11)
    mtype = np.repeat(["A", "B", "C"], 30)
    source, target = (ids.ravel() for ids in np.meshgrid(range(N_NODES), range(N_NODES)))
    rare = (mtype[source] == "C") & (mtype[target] == "C")
    chosen = (source != target) & (rng.random(source.size) < 0.6)
    chosen[rare] = np.arange(rare.sum()) == 5
    source, target = source[chosen], target[chosen]
    counts = rng.integers(1, 4, source.size)

    def pair(r, size):
        z = rng.standard_normal((2, size))
        return z[0], r * z[0] + np.sqrt(1 - r**2) * z[1]

    g, n = pair(SHARED_R, source.size)
    u, w = pair(OWN_R, counts.sum())
    columns = {
        "g": np.repeat(np.exp(0.3 * g), counts).astype(np.float32),
        "n": np.repeat(poisson(n, 1.0), counts).astype(np.int16),
        "k": np.repeat(rng.gamma(3, 1, source.size), counts).astype(np.float64),
        "u": u.astype(np.float64),
        "w": poisson(w, 0.7).astype(np.int16),
        "c": np.full(counts.sum(), 1.5),
    }
    folder = tmp_path_factory.mktemp("correlated")
    return write_circuit(
        folder, np.repeat(source, counts), np.repeat(target, counts), columns, mtype=mtype,
        attributes={"synapse_class": ["EXC"] * N_NODES, "layer": np.repeat(["1", "2", "2"], 30),
                    "region": ["left", "right"] * 45},
    )  # fmt: skip


@pytest.fixture(scope="module")
def dataset(circuit, tmp_path_factory):
    return export(resolve_circuit(circuit), tmp_path_factory.mktemp("data") / "ds")


@pytest.fixture(scope="module")
def statistics(dataset):
    return extract(dataset)


def of(table, one, other):
    return table.filter((pl.col("property") == one) & (pl.col("other_property") == other))


def test_pairs_are_of_properties_that_vary_and_are_shared_alike(statistics):
    table = statistics.correlations.collect()
    large = table.filter(pl.col("n") > 50)
    pairs = large.group_by("property", "other_property").len()
    assert set(pairs.select(pl.col("property", "other_property").cast(pl.String)).rows()) == {
        ("g", "n"), ("g", "k"), ("k", "n"), ("u", "w"),
    }  # fmt: skip
    assert pairs["len"].to_list() == [8] * 4


def test_numbers_of_pairs_are_those_of_connections_and_synapses(statistics):
    table = statistics.correlations.collect()
    sizes = statistics.pathways.collect()
    for pair, column in ((("g", "n"), "n_connections"), (("u", "w"), "n_synapses")):
        both = of(table, *pair).join(sizes, on=["source_type", "target_type"])
        assert both.height >= 8
        assert both["n"].to_list() == both[column].to_list()


def test_what_was_put_in_is_found(statistics):
    table = statistics.correlations.collect().filter(pl.col("n") > 50)
    z = []
    for pair, r in ((("g", "n"), SHARED_R), (("u", "w"), OWN_R), (("g", "k"), 0), (("k", "n"), 0)):
        rows = of(table, *pair)
        z += ((rows["r"] - r) / rows["std_error"]).to_list()
    # 32 values, standard normal: mean and sum of squares. Those of (g, k) and (k, n) correlate as
    # g and n do, which makes the variance of the sum 32 + 2 * 8 * 0.6.
    assert len(z) == 32
    assert abs(np.mean(z)) < 3 * np.sqrt(32 + 16 * SHARED_R) / 32
    assert 1e-3 < stats.chi2.sf(np.square(z).sum(), len(z)) < 1 - 1e-3


def test_nothing_depends_on_threads_parts_or_buckets(circuit, statistics, tmp_path):
    expected = statistics.correlations.collect()
    parted = export(
        resolve_circuit(circuit), tmp_path / "ds", resources=Resources(threads=1, memory=1 << 27)
    )
    each_pathway = Resources(threads=3, unit_memory=(1, 1))
    found = extract(parted, resources=each_pathway).correlations.collect()
    assert_frame_equal(found, expected, check_exact=True)


def test_by_other_groups(dataset):
    """Groups by an attribute do not depend on buckets, which are put on disk, nor on others."""
    whole = extract(dataset, by="region").correlations.collect()
    assert whole["source_type"].unique().len() == 2
    each = extract(dataset, by="region", resources=Resources(unit_memory=(1, 1)))
    assert_frame_equal(each.correlations.collect(), whole, check_exact=True)
    selected = extract(
        dataset, by="region", sel_src={"region": "left"}, sel_dest={"region": "right"}
    ).correlations.collect()
    one = whole.filter((pl.col("source_type") == "left") & (pl.col("target_type") == "right"))
    assert one["r"].to_list() == selected["r"].to_list()


def test_a_sample_is_that_of_the_smallest_keys(dataset):
    """A cap on connections gives what the same limit of the statistics' subsampling gives."""
    sampled = extract(dataset, max_sample_size_per_group=100).correlations.collect()
    assert of(sampled, "g", "n")["n"].max() == 100
    assert of(sampled, "u", "w")["n"].max() < 300
    stats_ = extract(dataset)
    stats_.computed.correlations = replace(stats_.computed.correlations, connections_at_most=100)
    assert_frame_equal(stats_.correlations.collect(), sampled, check_exact=True)


def test_folds(dataset):
    fold = {"n_folds": 2, "fold_idx": 0}
    parts = [
        extract(dataset, CV_dict={**fold, "training_set": training}).correlations.collect()
        for training in (True, False)
    ]
    numbers = [of(part, "g", "n")["n"].sum() for part in parts]
    assert all(300 < n < 4500 * 0.6 for n in numbers)
    assert not parts[0].equals(parts[1])


def test_nulls_are_left_out_pair_by_pair(tmp_path):
    rng = np.random.default_rng(4)
    source, target = np.repeat(np.arange(20), 20), np.tile(np.arange(20, 40), 20)
    x, y, z = rng.standard_normal((3, 400))
    y = x + y
    holes = x.copy()
    holes[::3] = np.nan
    columns = {"x": x, "y": y, "z": z, "holes": holes}
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=["A"] * 40)
    with pytest.warns(ConnpropsWarning, match="134 values that are NaN"):
        data = export(resolve_circuit(config), tmp_path / "d")
    table = extract(data).correlations.collect()
    full = np.isfinite(holes)
    assert of(table, "x", "y")["n"].item() == 400
    # Columns come in the dataset's order.
    row = table.filter(
        pl.any_horizontal(pl.col("property", "other_property") == "holes")
        & pl.any_horizontal(pl.col("property", "other_property") == "y")
    )
    assert row["n"].item() == full.sum()
    ranks = [stats.rankdata(v[full]).astype(int) for v in (holes, y)]
    edges = stats.norm.pdf(stats.norm.ppf(np.arange(full.sum() + 1) / full.sum()))
    scores = -np.diff(edges)
    expected = np.corrcoef(*(scores[r - 1] for r in ranks))[0, 1]
    assert row["r"].item() == pytest.approx(expected, abs=1e-9)


def test_writing_and_reading(statistics, tmp_path):
    statistics.write(tmp_path / "with", correlations=True)
    statistics.write(tmp_path / "without")
    again = read_statistics(tmp_path / "with").correlations.collect()
    assert_frame_equal(again, statistics.correlations.collect(), check_exact=True)
    assert not (tmp_path / "without" / "correlations.parquet").exists()
    with pytest.raises(DatasetError, match="without the correlations"):
        build(read_statistics(tmp_path / "without"), correlations=True)


def test_correlations_of_other_statistics_are_not_taken(dataset, statistics, tmp_path):
    statistics.write(tmp_path / "out", correlations=True)
    extract(dataset, hist_bins=7).write(tmp_path / "out", overwrite=True)
    with pytest.raises(DatasetError, match="without the correlations"):
        _ = read_statistics(tmp_path / "out").correlations


def test_the_model_has_them_and_borrows_where_data_are_few(statistics, tmp_path):
    model = build(statistics, correlations=True, shrinkage=False)
    plain = build(statistics, shrinkage=False)
    assert_frame_equal(model.marginals, plain.table, check_exact=True)
    table = statistics.correlations.collect()
    shared, own = model.copulas(shared=True), model.copulas(shared=False)
    assert shared.properties == ("g", "k", "n")
    assert own.properties == ("u", "w")
    assert shared.pathway.tolist() == own.pathway.tolist() == list(range(9))
    # Observed ones are as in the statistics, whose matrices are positive definite already.
    observed = model.correlations.filter(pl.col("level") == -1)
    both = observed.join(table, on=["source_type", "target_type", "property", "other_property"])
    assert both.height == 8 * 4
    # Those of synapses are of the parts that their values have, alike within connections or not.
    np.testing.assert_allclose(both["value"], both["r"], atol=2e-3)
    # C to C borrows at level 0 from C to B, the other one of its source type and target layer.
    borrowed = model.correlations.filter(pl.col("level") != -1)
    assert borrowed["level"].unique().to_list() == [0]
    rows = of(borrowed, "g", "n")
    assert rows.select(pl.col("source_type", "target_type").cast(pl.String)).row(0) == ("C", "C")
    from_ = of(table, "g", "n").filter(
        (pl.col("source_type") == "C") & (pl.col("target_type") == "B")
    )
    assert rows["value"].item() == pytest.approx(from_["r"].item(), abs=1e-12)
    assert rows["std_error"].item() == pytest.approx(from_["std_error"].item(), abs=1e-12)
    model.write_parquet(tmp_path / "model.parquet")
    assert read_model(tmp_path / "model.parquet").table.equals(model.table)


def test_pools_take_the_mean_of_fisher_s_z_weighed_by_n(dataset):
    stats_ = extract(dataset, sel_props=["g", "n"])
    model = build(stats_, correlations=True, shrinkage=False)
    table = of(stats_.correlations.collect(), "g", "n").filter(pl.col("n") > 50)
    few = extract(dataset, sel_props=["g", "n"], min_sample_size_per_group=50)
    assert of(model.correlations, "g", "n").height == 9
    # Without classes and layers all that is left is level 4: everything.
    bare = few.types.with_columns(
        pl.lit(None, pl.String).alias("synapse_class"), pl.lit(None, pl.String).alias("layer")
    )
    few.types = bare
    with pytest.warns(UserWarning, match="borrow without"):
        pooled = build(few, correlations=True, shrinkage=False).correlations
    row = of(pooled.filter(pl.col("level") == 4), "g", "n")
    weight = table["n"].to_numpy() / table["n"].sum()
    expected = np.tanh((weight * np.arctanh(table["r"].to_numpy())).sum())
    assert row["value"].item() == pytest.approx(expected, abs=1e-12)


def test_shared_within_of_the_model_decides(statistics):
    model = build(statistics, correlations=True, shrinkage=False, shared_within={"n": False})
    assert model.copulas(shared=True).properties == ("g", "k")
    assert "n" not in model.copulas(shared=False).properties


def test_drawn_values_have_the_correlations(statistics):
    """From synapses to the model and back: values drawn through it correlate as they did."""
    model = build(statistics, correlations=True, shrinkage=False)
    copulas = model.copulas(shared=True)
    z = np.random.default_rng(5).standard_normal((20_000, 3))
    u = copulas.uniforms(z, np.zeros(20_000, dtype=np.int64))
    g = model.quantile("g", "A", "A", u[:, 0])
    n = np.rint(model.quantile("n", "A", "A", u[:, 2]))
    x, y = np.random.default_rng(6).standard_normal((2, 200_000))
    y = SHARED_R * x + np.sqrt(1 - SHARED_R**2) * y
    expected = stats.spearmanr(x, poisson(y, 1.0)).statistic
    # The pathway's own correlation has an error of some 0.04.
    assert stats.spearmanr(g, n).statistic == pytest.approx(expected, abs=0.12)


def test_the_steps_on_the_command_line(dataset, statistics, tmp_path):
    with_them, without = str(tmp_path / "with"), str(tmp_path / "without")

    def command(*words):
        return CliRunner().invoke(app, [*words, "--quiet"])

    assert command("extract", str(dataset), "-o", with_them, "--correlations").exit_code == 0
    assert command("extract", str(dataset), "-o", without).exit_code == 0
    assert command("build", with_them, "--correlations").exit_code == 0
    model = read_model(tmp_path / "with" / "model.parquet")
    assert model.table.equals(build(statistics, correlations=True).table)
    failed = command("build", without, "--correlations")
    assert failed.exit_code != 0
    assert "extract --correlations" in failed.output
    assert command("build", without).exit_code == 0
    assert read_model(tmp_path / "without" / "model.parquet").correlations.is_empty()


def test_options_are_checked(statistics):
    with pytest.raises(OptionError, match="correlations is not valid"):
        build(statistics, correlations="yes")


def test_a_public_circuit_of_independent_properties(tmp_path, monkeypatch):
    """The circuit's recipe draws each property by itself: correlations are 0 but for chance."""
    place = SHARED / "functionalizer_1000n"
    if not place.is_dir():
        pytest.skip("no public circuits here")
    config = next(place.rglob("circuit_config.json"), None)
    if config is None:
        pytest.skip("no configuration here")
    monkeypatch.chdir(tmp_path)
    table = extract(config).correlations.collect().filter(pl.col("n") > 100)
    independent = table.filter(
        pl.all_horizontal(pl.col("property", "other_property").cast(pl.String).is_in(
            ["decay_time", "depression_time", "facilitation_time", "u_syn"]))
    ).drop_nulls("std_error")  # fmt: skip
    z = (independent["r"] / independent["std_error"]).to_numpy()
    assert z.size > 100
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.25


def test_without_a_pathway_of_connections_enough_there_are_none(tmp_path):
    config = write_circuit(
        tmp_path / "c", [0, 1], [1, 0], {"a": [1.0, 2.0], "b": [2.0, 5.0]}, mtype=["A", "B"]
    )
    found = extract(export(resolve_circuit(config), tmp_path / "d")).correlations.collect()
    assert found.is_empty()
    assert "r" in found.columns
