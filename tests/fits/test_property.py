from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from circuits import KINDS, SHARED, two_types, with_labels, write_circuit
from numpy.testing import assert_array_equal
from scipy import stats as scipy_stats

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.demo import write_demo
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.fits.choice import MARGIN
from connprops.model.build import build
from connprops.model.model import read_model
from connprops.resources import Resources
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics


def statistics(config, folder, **options):
    return extract(Dataset(export(resolve_circuit(config), folder)), **options)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return statistics of a demo circuit, and the truth that it was made from."""
    folder = tmp_path_factory.mktemp("demo")
    circuit = write_demo(folder / "c", synapses=200_000, seed=3)
    with pytest.warns(UserWarning, match="span several values of 'layer'"):
        stats = statistics(circuit.config, folder / "d")
    return stats, pl.read_parquet(circuit.truth)


@pytest.fixture(scope="module")
def auto(demo):
    """Return the demo's model, its families chosen by the data."""
    return build(demo[0])


FAMILIES = {
    "conductance": "gamma",
    "depression_time": "gamma",
    "facilitation_time": "gamma",
    "u_syn": "truncnorm",
    "decay_time": "truncnorm",
    "n_rrp_vesicles": "shifted_poisson",
    "n_syn_per_conn": "discrete",
}
KEYS = ["source_type", "target_type", "property", "distribution", "parameter", "position"]


def text(frame):
    return frame.with_columns(pl.col(c).cast(pl.String) for c in KEYS[:5] if c in frame.columns)


def test_fitted_parameters_agree_with_the_demos_truth_within_their_errors(demo):
    stats, truth = demo
    model = build(stats, distr_types=FAMILIES, shrinkage=False)
    n = text(model.fits.filter(pl.col("level") == -1)).select(*KEYS[:4], "n")
    errors = (
        text(model.table.filter(pl.col("level") == -1))
        .join(text(truth), on=KEYS, suffix="_true")
        .join(n, on=KEYS[:4])
        .filter((pl.col("n") >= 100) & (pl.col("std_error") > 0))
        .filter(pl.col("parameter") != "p")
        .with_columns(((pl.col("value") - pl.col("value_true")) / pl.col("std_error")).alias("z"))
    )
    seen = set()
    for (prop, parameter), group in errors.group_by("property", "parameter"):
        z = group["z"].to_numpy()
        seen.add((prop, parameter))
        assert z.size > 50
        # A standard normal's mean and spread, to 4 standard errors of each; the location of a
        # distribution cut at one sd either way is bounded to the data's range, which makes it
        # steadier.
        assert abs(z.mean()) < 4 / np.sqrt(z.size), (prop, parameter)
        least = 0.5 if parameter == "norm_loc" else 1 - 4 / np.sqrt(2 * z.size)
        assert least < z.std() < 1 + 4 / np.sqrt(2 * z.size), (prop, parameter)
    assert {("conductance", "mean"), ("u_syn", "norm_scale"), ("n_rrp_vesicles", "mean")} <= seen


def test_counts_of_synapses_per_connection_follow_the_demos_truth(demo):
    stats, truth = demo
    p_values = []
    distribution = text(
        truth.filter(
            (pl.col("property") == "n_syn_per_conn") & (pl.col("distribution") == "discrete")
        )
    )
    wide = distribution.pivot(
        on="parameter", index=["source_type", "target_type", "position"], values="value"
    )
    counts = text(stats.values.filter(pl.col("property") == "n_syn_per_conn").collect())
    for (source, target), found in counts.group_by("source_type", "target_type"):
        n = found["count"].sum()
        probabilities = wide.filter(
            (pl.col("source_type") == source) & (pl.col("target_type") == target)
        )
        if n < 300 or not len(probabilities):
            continue
        both = probabilities.join(
            found.select(pl.col("value").alias("val"), "count"), on="val", how="left"
        )
        expected, seen = both["p"].to_numpy() * n, both["count"].fill_null(0).to_numpy()
        rare = expected < 5
        expected = np.append(expected[~rare], expected[rare].sum())
        seen = np.append(seen[~rare], n - seen[~rare].sum())
        expected *= n / expected.sum()
        p_values.append(scipy_stats.chisquare(seen, expected).pvalue)
    assert len(p_values) > 10
    assert scipy_stats.kstest(p_values, "uniform").pvalue > 1e-3


def test_auto_finds_the_demos_families(auto):
    scores = auto.scores
    chosen = dict(
        scores.filter("chosen").select(pl.col("property", "distribution").cast(pl.String)).rows()
    )
    for name in ("conductance", "depression_time", "facilitation_time"):
        assert chosen[name] == "gamma"
    assert chosen["n_rrp_vesicles"] == "shifted_poisson"
    assert scores.filter("chosen")["delta"].max() <= MARGIN


def test_every_pathway_has_a_row_for_every_property(demo, auto):
    stats, model = demo[0], auto
    n = len(stats.source_types) * len(stats.target_types) * len(stats.properties)
    assert len(model.expanded(model.fits)) == n
    assert model.marginals.select("source_type", "target_type", "property").n_unique() == n
    assert model.fits["level"].min() == -1
    assert model.fits["level"].max() >= 0
    assert model.fits.filter(pl.col("status") == "failed").is_empty()
    fallback = model.fits.filter(pl.col("status") == "fallback")
    assert fallback["message"].null_count() == 0


def test_pooled_interpolation_is_the_fit_of_the_pooled_values(tmp_path):
    rng = np.random.default_rng(5)
    mtype = ["A"] * 4 + ["B"] * 4 + ["C"]
    pairs = [(s, t) for s in range(4) for t in range(8)]
    source, target = np.array(pairs).T
    g = np.where(target < 4, rng.gamma(9, 0.1, 32), rng.gamma(4, 1.0, 32))
    config = write_circuit(
        tmp_path / "c", source, target, {"g": g}, mtype=mtype,
        attributes={"synapse_class": ["EXC"] * 9, "layer": ["4"] * 9},
    )  # fmt: skip
    model = build(statistics(config, tmp_path / "d"), distr_types={"g": "normal"})
    fits = model.expanded(model.fits).filter(property="g", target_type="C")
    row = fits.row(by_predicate=pl.col("source_type") == "A", named=True)
    assert row["level"] == 0
    assert row["n_pathways"] == 2
    assert row["n"] == 32
    distribution = model.distribution("g", "A", "C").parameters
    assert distribution["mean"][0] == pytest.approx(g.mean(), rel=1e-12)
    assert distribution["std"][0] == pytest.approx(g.std(), rel=1e-12)


def test_how_alike_synapses_are_is_fitted_borrowed_and_1_where_nearly_all_share(tmp_path):
    rng = np.random.default_rng(6)
    n, size = 300, 5
    source, target = np.repeat(np.arange(n), size), np.repeat(np.arange(n) + n, size)
    mtype = [f"S{i % 3}" for i in range(n)] + [f"T{i % 2}" for i in range(n)]
    connection, synapse = np.repeat(rng.normal(size=n), size), rng.normal(size=n * size)
    values = np.exp(np.sqrt(0.6) * connection + np.sqrt(0.4) * synapse)
    odd = np.exp(connection)
    odd[7] = 99.0
    columns = {"alike": values, "apart": np.exp(synapse), "odd": odd, "same": np.exp(connection)}
    about = {"synapse_class": ["EXC"] * 2 * n, "layer": ["1"] * 2 * n}
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=mtype, attributes=about)
    stats = statistics(config, tmp_path / "d", sel_props=[*columns])
    model = build(stats, shrinkage=True)
    rows = model.marginals.unique(["source_type", "target_type", "property"])
    within = {name: rows.filter(pl.col("property") == name) for name in columns}
    assert within["alike"]["within_correlation"].is_between(0.5, 0.7).all()
    assert within["apart"]["within_correlation"].is_between(0, 0.06).all()
    for name in ("odd", "same"):
        assert within[name]["within_correlation"].eq(1).all()
        assert within[name]["shared_within"].all()
    assert not within["alike"]["shared_within"].any()
    assert (within["alike"]["level"] >= 0).any()  # these borrow
    own = build(stats, shrinkage=False).marginals.filter(
        (pl.col("property") == "alike") & (pl.col("level") == -1) & (pl.col("parameter") == "mean")
    )
    table = stats.table.filter(pl.col("property") == "alike").collect()
    icc = own.select(KEYS[:2]).join(table, on=KEYS[:2], maintain_order="left")["icc"]
    assert own["within_correlation"].to_list() == pytest.approx(icc.to_list(), abs=1e-9)
    told = build(stats, shared_within={"alike": False}).table.filter(pl.col("property") == "alike")
    assert told["within_correlation"].eq(0).all()
    unweighted = build(stats, interpolation="unweighted").table["within_correlation"]
    assert set(unweighted.drop_nulls()) == {0.0, 1.0}


def test_goodness_of_fit_agrees_with_scipy(tmp_path):
    config = two_types(tmp_path / "c")
    stats = statistics(config, tmp_path / "d")
    model = build(stats, distr_types={"u_syn": "normal", "conductance": "gamma"})
    samples = {
        (r["source_type"], r["target_type"], r["property"]): np.array(r["value"])
        for r in stats.order_statistics.collect().iter_rows(named=True)
    }
    for row in model.fits.filter(pl.col("property").is_in(["u_syn", "conductance"])).to_dicts():
        key = row["source_type"], row["target_type"], row["property"]
        x, distribution = samples[key], model.distribution(key[2], key[0], key[1]).parameters
        mean, std = distribution["mean"][0], distribution["std"][0]
        frozen = (
            scipy_stats.norm(mean, std)
            if row["distribution"] == "normal"
            else scipy_stats.gamma((mean / std) ** 2, scale=std**2 / mean)
        )
        if row["property"] == "u_syn":
            assert row["n"] == x.size
        assert row["loglik"] == pytest.approx(frozen.logpdf(x).sum(), rel=1e-9)
        assert row["ks"] == pytest.approx(scipy_stats.kstest(x, frozen.cdf).statistic, abs=1e-9)
        assert row["bic"] == pytest.approx(2 * np.log(x.size) - 2 * row["loglik"])
        assert row["data_mean"] == pytest.approx(x.mean())


def test_options_of_the_model(tmp_path):
    stats = statistics(two_types(tmp_path / "c"), tmp_path / "d")
    model = build(
        stats,
        distr_types={"u_syn": ["normal", "gamma"], "n_rrp_vesicles": "zero"},
        data_types={"u_syn": "int"},
        data_bounds={"u_syn": [0, None], "conductance": (0.1, 2.0)},
        shared_within={"u_syn": True},
    )
    u_syn = model.table.filter(pl.col("property") == "u_syn")
    assert set(u_syn["distribution"].cast(pl.String)) <= {"normal", "gamma"}
    assert u_syn.select("dtype", "lower_bound", "upper_bound", "shared_within").unique().rows() == [
        ("int", 0.0, None, True)
    ]
    zero = model.table.filter(pl.col("property") == "n_rrp_vesicles")
    assert zero["shared_within"].to_list() == [False] * len(zero)
    assert (
        model.table.filter(pl.col("property") == "n_syn_per_conn")["shared_within"].is_null().all()
    )
    assert model.draw("conductance", "L4_PC", "L4_PC", 500, rng=0).max() <= 2.0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"distr_types": {"u_syn": "gama"}}, "did you mean 'gamma'"),
        ({"distr_types": {"usyn": "gamma"}}, "Unknown property in distr_types"),
        ({"distr_types": {"u_syn": []}}, "no candidate"),
        ({"data_types": {"u_syn": "complex"}}, "Unknown data type"),
        ({"data_bounds": {"u_syn": [2, 1]}}, "exclude everything"),
        ({"data_bounds": {"u_syn": 3}}, r"\[lower, upper\]"),
        ({"shared_within": {"u_syn": "yes"}}, "true or false"),
    ],
)
def test_options_that_cannot_be_met(tmp_path, options, says):
    stats = statistics(two_types(tmp_path / "c"), tmp_path / "d")
    with pytest.raises(OptionError, match=says):
        build(stats, **options)


def test_the_same_model_from_statistics_read_back(tmp_path):
    stats = statistics(two_types(tmp_path / "c"), tmp_path / "d")
    stats.write(tmp_path / "out")
    assert build(read_statistics(tmp_path / "out")).table.equals(build(stats).table)


def test_types_in_another_order_give_the_same_model(tmp_path):
    models = []
    for folder, names in (("a", ("A", "B", "C")), ("b", ("Z", "B", "C"))):
        source, target = np.array([(s, t) for s in range(6) for t in range(4)]).T
        g = np.random.default_rng(1).gamma(4, 0.25, 24).round(1)
        config = write_circuit(
            tmp_path / folder, source, target, {"g": g}, mtype=np.repeat(names, 2),
            attributes={"synapse_class": ["EXC"] * 6, "layer": ["4"] * 6},
        )  # fmt: skip
        model = build(statistics(config, tmp_path / f"{folder}-d"), distr_types={"g": "discrete"})
        models.append(model.distribution("g", "B", "C").parameters)
    assert models[0]["p"].tolist() == models[1]["p"].tolist()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
def test_functionalizer_keeps_its_spread(tmp_path):
    """A normal distribution cut at one sd either way: the reference gives 0.83 of its std."""
    stats = statistics(SHARED / "functionalizer_1000n" / "circuit_config.json", tmp_path / "d")
    model = build(stats, distr_types={"u_syn": "truncnorm", "decay_time": "truncnorm"})
    for name in ("u_syn", "decay_time"):
        fits = model.fits.filter(
            (pl.col("property") == name) & (pl.col("level") == -1) & (pl.col("n") >= 50)
        )
        assert (fits["model_std"] / fits["data_std"]).median() == pytest.approx(1.0, abs=0.02)


@pytest.fixture(scope="module")
def functionalizer(tmp_path_factory):
    if not SHARED.is_dir():
        pytest.skip("the public circuits are not here")
    folder = tmp_path_factory.mktemp("functionalizer") / "d"
    config = SHARED / "functionalizer_1000n" / "circuit_config.json"
    return statistics(config, folder, sel_props=["u_syn", "decay_time", "n_rrp_vesicles"])


def distributions(model):
    """Return a model's parameters by property, source, target and name; lists as arrays."""
    rows = text(model.marginals).sort("position").group_by(
        "property", "source_type", "target_type", "parameter"
    ).agg("value", pl.col("level", "shared_within").first())  # fmt: skip
    return {row[:4]: row[4:] for row in rows.iter_rows()}


@pytest.mark.filterwarnings("ignore")  # the reference's own
def test_the_references_options_give_the_references_model(functionalizer):
    """Fits to histograms and unweighted means, observed and borrowed, as the reference has them."""
    reference = pytest.importorskip("connectome_manipulator.model_building.conn_props")
    families = {"u_syn": "truncnorm", "decay_time": "normal", "n_rrp_vesicles": "discrete",
                "n_syn_per_conn": "discrete"}  # fmt: skip
    theirs = reference.build(**functionalizer.to_arrays(), distr_types=families).prop_stats
    model = build(
        functionalizer, distr_types=families, truncnorm="histogram", interpolation="unweighted"
    )
    levels = set()
    for (prop, source, target, parameter), (value, level, shared) in distributions(model).items():
        expected = theirs[prop][source][target] if prop in families else {}
        if parameter not in expected:
            continue  # a constant pathway, in a family that it cannot have
        np.testing.assert_allclose(value, np.ravel(expected[parameter]), rtol=1e-12, atol=1e-15)
        levels.add((prop, level >= 0))
        if level >= 0 and prop == "u_syn":
            assert shared == expected["shared_within"]
    assert levels == {(prop, borrowed) for prop in families for borrowed in (False, True)}


def test_unweighted_interpolation_is_the_mean_of_the_parameters(tmp_path):
    rng = np.random.default_rng(6)
    source, target = np.array([(s, t) for s in range(4) for t in range(12)]).T
    g = np.where(target < 4, rng.gamma(9, 0.1, 48), rng.gamma(4, 1.0, 48))
    models = []
    for folder, names in (("a", "ABCX"), ("b", "ZBCX")):
        mtype = [names[0]] * 4 + [names[1]] * 4 + [names[2]] * 4 + ["X"]
        config = write_circuit(
            tmp_path / folder, source, target, {"g": g}, mtype=mtype,
            attributes={"synapse_class": ["EXC"] * 13, "layer": ["4"] * 13},
        )  # fmt: skip
        model = build(
            statistics(config, tmp_path / f"{folder}-d"),
            distr_types={"g": "gamma"}, interpolation="unweighted",
        )  # fmt: skip
        own = [model.distribution("g", names[0], names[i]).parameters for i in range(3)]
        borrowed = model.distribution("g", names[0], "X").parameters
        for name in ("mean", "std"):
            assert borrowed[name][0] == pytest.approx(
                np.mean([distribution[name][0] for distribution in own])
            )
        models.append(borrowed)
    assert [distribution["std"][0].hex() for distribution in models] == [
        models[0]["std"][0].hex()
    ] * 2


def test_unweighted_constants_count_with_their_moments(tmp_path):
    source, target = np.array([(s, t) for s in range(4) for t in range(8)]).T
    g = np.where(target < 4, 2.5, np.random.default_rng(7).normal(10, 1, 32))
    config = write_circuit(
        tmp_path / "c", source, target, {"g": g}, mtype=["A"] * 4 + ["B"] * 4 + ["C"],
        attributes={"synapse_class": ["EXC"] * 9, "layer": ["4"] * 9},
    )  # fmt: skip
    model = build(
        statistics(config, tmp_path / "d"), distr_types={"g": "normal"}, interpolation="unweighted"
    )
    distribution = model.distribution("g", "A", "C")
    assert distribution.parameters["mean"][0] == pytest.approx((2.5 + g[target >= 4].mean()) / 2)
    assert distribution.parameters["std"][0] == pytest.approx(g[target >= 4].std() / 2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"truncnorm": "hist"}, "Unknown truncnorm"),
        ({"interpolation": "weighted"}, "Unknown interpolation"),
        ({"criterion": "aic"}, "did you mean 'aicc'"),
        ({"distr_types": {"u_syn": ["auto"]}}, "Unknown distribution"),
    ],
)
def test_new_options_that_cannot_be_met(tmp_path, options, says):
    stats = statistics(two_types(tmp_path / "c"), tmp_path / "d")
    with pytest.raises(OptionError, match=says):
        build(stats, **options)


@pytest.mark.parametrize(
    "options", [{"truncnorm": "histogram"}, {"interpolation": "unweighted"}, {"shrinkage": False}]
)
def test_the_references_estimators_leave_pathways_on_their_own(options, tmp_path):
    stats = statistics(two_types(tmp_path / "c"), tmp_path / "d")
    model = build(stats, **options)
    assert model.facts["options"]["build"]["shrinkage"] is False
    assert model.fits["borrowed"].is_null().all()


def test_drawn_values_are_of_the_datas_kind(demo, auto):
    stats, model = demo[0], auto
    observed = model.fits.filter((pl.col("level") == -1) & (pl.col("n") >= 20))
    kinds = {p.name: p.dtype for p in stats.properties}
    seen = set()
    for row in text(observed).unique("property", keep="first", maintain_order=True).to_dicts():
        name = row["property"]
        drawn = model.draw(name, row["source_type"], row["target_type"], 2000, rng=1)
        seen.add(name)
        if kinds[name].startswith(("int", "uint")) or name == "n_syn_per_conn":
            assert drawn.dtype.kind == "i"
        else:
            assert drawn.dtype.kind == "f"
        assert drawn.min() >= 0  # as all values of the circuit
    assert {"conductance", "n_rrp_vesicles", "n_syn_per_conn", "u_syn"} <= seen


def test_pathways_may_have_distributions_of_their_own(tmp_path):
    rng = np.random.default_rng(8)
    source, target = np.array([(s, t) for s in range(20) for t in range(40)]).T
    g = np.where(target < 20, rng.gamma(1.5, 1, 800), rng.uniform(5, 9, 800))
    config = write_circuit(
        tmp_path / "c", source, target, {"g": g}, mtype=["A"] * 20 + ["B"] * 20,
        attributes={"synapse_class": ["EXC"] * 40, "layer": ["4"] * 40},
    )  # fmt: skip
    model = build(statistics(config, tmp_path / "d"), distr_types={"g": "auto-per-pathway"})
    found = dict(
        text(model.fits.filter((pl.col("property") == "g") & (pl.col("level") == -1)))
        .select("target_type", "distribution")
        .rows()
    )
    assert found == {"A": "gamma", "B": "uniform"}


def test_values_that_few_connections_repeat_choose_no_family(tmp_path):
    """Of some pairs of neurons two connections are made: in one of ten pathways, values repeat.

    These pathways have most values, and a list would fit theirs best.
    """
    rng = np.random.default_rng(3)
    n_nodes, n_connections, n_types = 400, 2000, 10
    source, target = rng.integers(0, n_nodes, (2, n_connections))
    n_synapses = 1 + rng.poisson(4, n_connections)
    columns = {
        "conductance": rng.gamma(4, 0.2, n_connections).astype(np.float32),
        "n_rrp_vesicles": 1 + rng.poisson(2, n_connections),
    }
    config = write_circuit(
        tmp_path / "c", np.repeat(source, n_synapses), np.repeat(target, n_synapses),
        {name: np.repeat(values, n_synapses) for name, values in columns.items()},
        mtype=[f"T{i % n_types}" for i in range(n_nodes)],
    )  # fmt: skip
    stats = extract(Dataset(export(resolve_circuit(config), tmp_path / "d")))
    of_conductance = stats.table.filter(pl.col("property") == "conductance").collect()
    assert 0.8 < of_conductance["shared_within"].mean() < 0.95
    chosen = build(stats).scores.filter("chosen").select("property", "distribution")
    families = dict(chosen.cast(pl.String).rows())
    assert families["conductance"] == "gamma"
    assert families["n_rrp_vesicles"] == "shifted_poisson"


def test_the_largest_whole_numbers_have_a_model(tmp_path):
    """Their mean and std add up to more than the largest of them."""
    rng = np.random.default_rng(0)
    source, target = np.divmod(np.arange(36), 6)
    values = np.where(rng.random(36) < 0.8, 2**53, rng.integers(-(2**53), 2**53, 36))
    config = write_circuit(tmp_path / "c", source, target, {"big": values}, mtype=["A"] * 6)
    dataset = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    model = build(extract(dataset, sel_props=["big"]))
    model.write_parquet(tmp_path / "model.parquet")
    drawn = model.draw("big", "A", "A", 100, np.random.default_rng(1))
    assert np.abs(drawn).max() <= 2**55


_BUILD = """
import resource, sys
import connprops as cp
from connprops.fits.samples.tables import StatisticsTables
from connprops.resources import Resources, keep_fewer_heaps
keep_fewer_heaps(give_back=True)
few = cp.read_statistics(sys.argv[1])
of = dict.fromkeys(("a", "b", "c", "d", "e", "f", "g"), "gamma")
cp.build(few, distr_types=of)
stats = cp.read_statistics(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = cp.build(stats, distr_types=of, resources=Resources(memory=1 << 27, threads=2))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
model.write(sys.argv[2], overwrite=True, json_at_most=0)
"""


@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_fits_of_many_pathways_keep_within_their_memory(tmp_path):
    rng = np.random.default_rng(1)
    n_types = {"few": 10, "many": 110}
    for name, n in n_types.items():
        n_pairs = 2 * n**2
        pairs = np.sort(rng.choice((4 * n) ** 2, n_pairs, replace=False))
        counts = rng.integers(1, 4, n_pairs)
        source, target = np.repeat(pairs % (4 * n), counts), np.repeat(pairs // (4 * n), counts)
        columns = {c: rng.gamma(3, 1, source.size) for c in "abcdefg"}
        config = write_circuit(
            tmp_path / f"{name}-circuit", source, target, columns,
            mtype=[f"T{i % n:03}" for i in range(4 * n)],
        )  # fmt: skip
        statistics(config, tmp_path / f"{name}-data").write(tmp_path / name)
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "ignore", "-c", _BUILD, tmp_path / "few", tmp_path / "many"],
        capture_output=True, text=True, check=True, env={**os.environ, "POLARS_MAX_THREADS": "2"},
    )  # fmt: skip
    # 10,500 pathways of eight properties: 240 MB where the statistics of all were in memory, and
    # the names in their rows as text.
    assert int(ran.stdout) < 190_000
    stats = read_statistics(tmp_path / "many")
    plenty = build(stats, distr_types=dict.fromkeys("abcdefg", "gamma"), resources=Resources())
    plenty.write(tmp_path / "plenty", json_at_most=0)
    for name in ("model", "fits", "scores"):
        little = tmp_path / "many" / f"{name}.parquet"
        assert little.read_bytes() == (tmp_path / "plenty" / little.name).read_bytes()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Return statistics of a circuit with labels, and its columns."""
    folder = tmp_path_factory.mktemp("labelled")
    config, columns = with_labels(folder / "c")
    return statistics(config, folder / "d", seed=1), columns


@pytest.mark.parametrize("options", [
    {}, {"criterion": "held-out", "shrinkage": True, "correlations": True},
    {"distr_types": {"kind": "auto-per-pathway", "site": "discrete"}, "truncnorm": "histogram",
     "interpolation": "unweighted", "p_values": 19},
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_a_property_with_labels_has_their_probabilities(labelled, options):
    stats, data = labelled
    model = build(stats, **options)
    assert model.labels == {
        "kind": KINDS,
        "label": KINDS,
        "site": tuple(f"s{i}" for i in range(600)),
    }
    of_b = data.filter(pl.col("target") < 50)
    for name, n_labels in (("kind", 5), ("label", 5), ("site", 600)):
        for target, values in (("B", of_b[name]), ("A", data[name])):  # A borrows from all
            distribution = model.distribution(name, "A", target)
            assert distribution.family.name == "discrete"
            value, count = np.unique(values, return_counts=True)
            assert_array_equal(distribution.parameters["val"][0, : value.size], value)
            p = distribution.parameters["p"][0, : value.size]
            np.testing.assert_allclose(p, count / count.sum(), rtol=1e-12)
            assert np.nanmax(distribution.std_error["p"]) <= 0.5 / np.sqrt(len(values))
            assert (distribution.lower, distribution.upper) == (0, n_labels - 1)
            drawn = model.draw(name, "A", target, 20_000, rng=0)
            assert drawn.dtype == np.int64
            assert set(drawn.tolist()) <= set(value.tolist())
    assert model.dtype("kind") == "int"
    assert not set(model.correlations["property"]) & {"kind", "label", "site"}


@pytest.mark.filterwarnings("ignore:no source and no target type")
@pytest.mark.parametrize("options", [
    {"distr_types": {"kind": "poisson"}}, {"distr_types": {"label": ["discrete", "normal"]}},
    {"data_types": {"kind": "float"}}, {"data_bounds": {"kind": (0, 3)}},
])  # fmt: skip
def test_labels_are_not_taken_for_numbers_by_name(labelled, options):
    with pytest.raises(OptionError, match="are labels, not numbers"):
        build(labelled[0], **options)


@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_labels_survive_files(labelled, tmp_path):
    stats = labelled[0]
    stats.write(tmp_path)
    again = read_statistics(tmp_path)
    assert again.properties == stats.properties
    assert again.properties[1].labels == KINDS
    model = build(again)
    assert model.table.equals(build(stats).table)
    with pytest.warns(UserWarning, match="connectome-manipulator has no"):
        model.write(tmp_path)
    assert read_model(tmp_path / "model.parquet").labels == model.labels
    kinds = read_model(tmp_path / "model.json").distribution("kind", "A", "B")
    assert kinds.family.name == "discrete"


@pytest.mark.parametrize("bounds", [None, (None, 2)])
@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_fits_are_of_counts_as_they_are_drawn(bounds, tmp_path):
    rng, n = np.random.default_rng(3), 3000
    counts = np.maximum(1, np.rint(rng.normal(2, 0.6, n))).astype(int)
    source, target = np.repeat(np.arange(n), counts), np.repeat(np.arange(n) + n, counts)
    columns = {"conductance": rng.lognormal(0, 0.3, source.size)}
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=["A"] * n + ["B"] * n)
    stats = statistics(config, tmp_path / "d")
    name = "n_syn_per_conn"
    model = build(
        stats, distr_types={name: "truncnorm"}, data_bounds={name: bounds} if bounds else {}
    )
    row = model.fits.filter(property=name, source_type="A", target_type="B").row(0, named=True)
    drawn = model.draw(name, "A", "B", 1_000_000, rng=0)
    k = np.arange(1, counts.max() + 1)
    of_data, of_model = ((values[:, None] <= k).mean(axis=0) for values in (counts, drawn))
    assert row["model_mean"] == pytest.approx(drawn.mean(), abs=0.003)
    assert row["model_std"] == pytest.approx(drawn.std(), abs=0.003)
    assert row["ks"] == pytest.approx(np.abs(of_data - of_model).max(), abs=0.003)
    assert row["wasserstein"] == pytest.approx(np.abs(of_data - of_model).sum(), abs=0.006)


@pytest.mark.filterwarnings("ignore:no source and no target type")
def test_fits_are_of_values_within_bounds(tmp_path):
    rng, n = np.random.default_rng(4), 2000
    mtype, of_a = ["A"] * n + ["B"] * n, np.arange(n)
    columns = {"u_syn": rng.normal(0.5, 0.3, n), "count": rng.poisson(3, n)}
    config = write_circuit(tmp_path / "c", of_a, of_a + n, columns, mtype=mtype)
    model = build(
        statistics(config, tmp_path / "d"),
        distr_types={"u_syn": "normal", "count": "poisson"},
        data_bounds={"u_syn": (0.2, 0.9), "count": (2, 4)},
        p_values=39,
    )
    for name, values in columns.items():
        row = model.fits.filter(property=name, source_type="A", target_type="B").row(0, named=True)
        drawn = model.draw(name, "A", "B", 500_000, rng=0)
        assert row["model_mean"] == pytest.approx(drawn.mean(), abs=0.005)
        assert row["model_std"] == pytest.approx(drawn.std(), abs=0.005)
        assert row["ks"] == pytest.approx(scipy_stats.ks_2samp(values, drawn).statistic, abs=0.005)
        distance = scipy_stats.wasserstein_distance(values, drawn)
        assert row["wasserstein"] == pytest.approx(distance, rel=0.02)
        assert row["p_value"] == 1 / 40  # no value that is drawn lies where a third of the data do


def test_correlations_that_no_memory_holds_are_refused(tmp_path):
    n, rng = 700, np.random.default_rng(0)
    values = {name: rng.gamma(3, 1, 4).astype(np.float32) for name in ("a", "b")}
    mtype = [f"T{i}" for i in range(n)]
    config = write_circuit(tmp_path / "c", [0, 0, 1, 2], [1, 1, 2, 3], values, mtype=mtype)
    stats = statistics(config, tmp_path / "d")
    message = r"490,000 pathways of 2 properties take about 0.2 GB.*at most 0.1 GB"
    with pytest.raises(OptionError, match=f"(?s){message}"):
        build(stats, correlations=True, resources=Resources(memory=1 << 27))
