from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit
from scipy import stats as scipy_stats
from typer.testing import CliRunner

import connprops as cp
from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.distributions.distributions import Distributions
from connprops.errors import OptionError, OutputError
from connprops.export.export import export
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.model.cross_validation import STRAY, CrossValidation, distribution_scores
from connprops.resources import Resources

KEYS = ["source_type", "target_type", "property", "fold", "model"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return a dataset of 9 pathways: gamma values, and 1 + Poisson synapses a connection."""
    folder = tmp_path_factory.mktemp("cv")
    rng = np.random.default_rng(0)
    pairs = np.array([(s, t) for s in range(45) for t in range(45)])
    mean = np.exp(rng.normal(0, 0.3, (3, 3)))
    value = rng.gamma(1.5, mean[pairs[:, 0] // 15, pairs[:, 1] // 15] / 1.5)
    counts = 1 + rng.poisson(0.8, len(pairs))
    source, target = np.repeat(pairs, counts, axis=0).T
    config = write_circuit(
        folder / "c", source, target, {"g": np.repeat(value, counts)},
        mtype=np.repeat(["A", "B", "C"], 15),
        attributes={"synapse_class": ["EXC"] * 45, "layer": ["4"] * 45},
    )  # fmt: skip
    return Dataset(export(resolve_circuit(config), folder / "d"))


@pytest.fixture(scope="module")
def found(dataset):
    return cp.cross_validate(dataset, cv_folds=3, distr_types={"g": "gamma"})


def fold_by_hand(dataset, fold):
    """Return the values of pathway A to B in a test part, and its training part's statistics."""
    parts = []
    for training in (True, False):
        chosen = {"n_folds": 3, "fold_idx": fold, "training_set": training}
        parts.append(cp.extract(dataset, CV_dict=chosen))
    rows = (
        parts[1]
        .order_statistics.filter((pl.col("source_type") == "A") & (pl.col("target_type") == "B"))
        .collect()
    )
    values = {str(r["property"]): np.array(r["value"]) for r in rows.iter_rows(named=True)}
    return parts[0], values


def row_of(found, **keys):
    return found.table.row(
        by_predicate=pl.all_horizontal(pl.col(k) == v for k, v in keys.items()), named=True
    )


@pytest.mark.parametrize("fold", [0, 2])
def test_scores_are_those_that_scipy_gives(dataset, found, fold):
    training, values = fold_by_hand(dataset, fold)
    x = values["g"]
    table = training.table.filter(pl.col("property") == "g").collect()
    stray = STRAY / (table["max"].max() - table["min"].min())
    row = table.row(
        by_predicate=(pl.col("source_type") == "A") & (pl.col("target_type") == "B"), named=True
    )
    distribution = (
        cp.build(training, distr_types={"g": "gamma"}).distribution("g", "A", "B").parameters
    )
    mean, std = distribution["mean"][0], distribution["std"][0]
    frozen = scipy_stats.gamma((mean / std) ** 2, scale=std**2 / mean)
    scores = row_of(
        found, source_type="A", target_type="B", property="g", fold=fold, model="connprops"
    )
    expected = np.log((1 - STRAY) * frozen.pdf(x) + stray).mean()
    assert scores["loglik"] == pytest.approx(expected, rel=1e-9)
    assert scores["kind"] == "density"
    assert scores["n"] == x.size
    assert scores["n_training"] == row["n"]
    assert scores["ks"] == pytest.approx(scipy_stats.kstest(x, frozen.cdf).statistic)
    assert scores["error_mean"] == pytest.approx(frozen.mean() - x.mean())
    assert scores["error_std"] == pytest.approx(frozen.std() - x.std())


def test_distributions_of_counts_are_scored_as_they_are_drawn(dataset, found):
    training, values = fold_by_hand(dataset, 1)
    x = values["n_syn_per_conn"]
    table = training.table.filter(pl.col("property") == "n_syn_per_conn").collect()
    spread = table["max"].max() - table["min"].min()
    row = table.row(
        by_predicate=(pl.col("source_type") == "A") & (pl.col("target_type") == "B"), named=True
    )
    normal = scipy_stats.norm(row["mean"], row["std"])  # rounded, and at least 1, when drawn
    p = normal.cdf(x + 0.5) - np.where(x == 1, 0, normal.cdf(x - 0.5))
    expected = np.log((1 - STRAY) * p + STRAY / (spread + 1)).mean()
    key = {"source_type": "A", "target_type": "B", "property": "n_syn_per_conn", "fold": 1}
    scores = row_of(found, **key, model="reference")
    assert scores["distribution"] == "normal"
    assert scores["kind"] == "probability"
    assert scores["loglik"] == pytest.approx(expected, rel=1e-9)
    ours = row_of(found, **key, model="connprops")
    assert ours["kind"] == "probability"


def test_values_that_a_distribution_excludes_are_counted_and_cost_a_stray_value():
    family = family_named("uniform")
    distributions = Distributions(
        family, np.array([0]), {"min": np.array([1.0]), "max": np.array([3.0])},
        np.array([-np.inf]), np.array([np.inf]),
    )  # fmt: skip
    test = Sample.from_values([[0.5, 1.5, 2.0, 4.0, 9.0]])
    scores = distribution_scores(distributions, test, spread=10.0, whole=False).row(0, named=True)
    assert scores["n_outside"] == 3
    inside, outside = np.log(0.999 / 2 + 0.0001), np.log(0.0001)
    assert scores["loglik"] == pytest.approx((2 * inside + 3 * outside) / 5)


def test_a_distribution_of_one_point_is_scored_by_probability():
    distributions = Distributions(
        family_named("constant"), np.array([0]), {"mean": np.array([2.5])},
        np.array([-np.inf]), np.array([np.inf]),
    )  # fmt: skip
    scores = distribution_scores(
        distributions, Sample.from_values([[2.5, 2.5, 3.0]]), spread=1.0, whole=False
    )
    row = scores.row(0, named=True)
    assert row["kind"] == "probability"
    assert row["n_outside"] == 1
    assert row["loglik"] == pytest.approx(np.log(0.001) / 3)


def test_the_baseline_takes_families_that_the_reference_has(dataset):
    scores = cp.cross_validate(dataset, cv_folds=2, distr_types={"g": "lognormal"}).table
    of_g = scores.filter(pl.col("property") == "g")
    for model, family in (("connprops", "lognormal"), ("reference", "normal")):
        rows = of_g.filter(pl.col("model") == model)
        assert rows["distribution"].cast(pl.String).unique().to_list() == [family]


def test_the_summary_weighs_each_test_value_alike(dataset):
    found = cp.cross_validate(dataset, cv_folds=2)
    summary = found.summary().filter(pl.col("property") == "g").row(0, named=True)
    rows = found.table.filter(pl.col("property") == "g").sort(KEYS)
    ours, base = (rows.filter(pl.col("model") == m) for m in ("connprops", "reference"))
    n = ours["n"].to_numpy()
    assert summary["n"] == n.sum()
    assert summary["loglik"] == pytest.approx(np.average(ours["loglik"], weights=n))
    assert summary["ks_reference"] == pytest.approx(np.average(base["ks"], weights=n))
    assert summary["error_mean"] == pytest.approx(np.average(ours["error_mean"].abs(), weights=n))
    d = ours["loglik"].to_numpy() - base["loglik"].to_numpy()
    gain = np.average(d, weights=n)
    assert summary["gain"] == pytest.approx(gain)
    error = np.sqrt(((n * (d - gain)) ** 2).sum()) / n.sum()
    assert summary["gain_error"] == pytest.approx(error)
    # Gamma values of shape 1.5 are no normal ones.
    assert summary["distribution"] == "gamma"
    assert gain > 5 * error
    assert summary["better"] is True


def test_where_kinds_differ_the_distance_decides():
    rows = [
        ("A", "B", "g", 0, model, family, -1, 1, 3, 0, kind, 0.5, ks, 0.0, 0.0)
        for model, family, kind, ks in (
            ("connprops", "gamma", "density", 0.4),
            ("reference", "constant", "probability", 0.9),
        )
    ]
    table = pl.DataFrame(rows, orient="row", schema=schema.CROSS_VALIDATION.names)
    summary = CrossValidation(table).summary().row(0, named=True)
    assert np.isnan(summary["gain"])
    assert summary["better"] is True


def test_written_and_read_back(found, tmp_path):
    file = found.write_parquet(tmp_path / "cv.parquet")
    again = cp.read_cross_validation(file)
    assert again.table.equals(found.table)
    assert again.facts == json.loads(json.dumps(found.facts))
    with pytest.raises(OutputError, match="exists already"):
        found.write_parquet(file)


def test_threads_and_the_way_in_do_not_matter(dataset, found):
    again = cp.cross_validate(
        str(dataset.folder), cv_folds=3, distr_types={"g": "gamma"}, resources=Resources(threads=1)
    )
    assert again.table.equals(found.table)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cv_folds": 1}, "a whole number, at least 2"),
        ({"cv_folds": True}, "a whole number, at least 2"),
        ({"shrinkag": True}, "did you mean 'shrinkage'"),
        ({"p_values": 100}, "Unknown option of cross_validate"),
        ({"CV_dict": {}}, "Unknown option of cross_validate"),
        ({"distr_types": {"x": "gamma"}}, "Unknown property in distr_types"),
    ],
)
def test_options_that_cannot_be_met(dataset, options, says):
    with pytest.raises(OptionError, match=says):
        cp.cross_validate(dataset, **options)


def test_shrinkage_foretells_small_pathways_better_and_large_ones_no_worse(tmp_path):
    rng = np.random.default_rng(4)
    sizes = [6] * 8 + [40] * 2
    mtype = np.repeat([f"T{i:02}" for i in range(10)], sizes)
    kind = np.repeat(np.arange(10), sizes)
    source, target = np.array([(s, t) for s in range(kind.size) for t in range(kind.size)]).T
    mean = np.exp(rng.normal(0, 0.25, (10, 10)))[kind[source], kind[target]]
    sd = 0.2 * np.exp(rng.normal(0, 0.2, (10, 10)))[kind[source], kind[target]]
    within = scipy_stats.truncnorm(-1, 1).rvs(source.size, random_state=rng)
    config = write_circuit(
        tmp_path / "c", source, target,
        {"g": rng.gamma(4, mean / 4), "u": mean + sd * within, "k": 1 + rng.poisson(mean)},
        mtype=mtype,
        attributes={"synapse_class": ["EXC"] * kind.size, "layer": ["4"] * kind.size},
    )  # fmt: skip
    data = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    families = {"g": "gamma", "u": "truncnorm", "k": "shifted_poisson"}
    scores = [
        cp.cross_validate(data, cv_folds=2, distr_types=families, shrinkage=shrinkage).table.filter(
            pl.col("model") == "connprops"
        )
        for shrinkage in (False, True)
    ]
    both = (
        scores[0]
        .join(scores[1], on=KEYS, suffix="_shrunk")
        .filter((pl.col("level") < 0) & (pl.col("kind") == pl.col("kind_shrunk")))
    )
    for name in families:
        rows = both.filter(pl.col("property") == name).with_columns(
            (pl.col("loglik_shrunk") - pl.col("loglik")).alias("gain")
        )
        small, large = (
            rows.filter(pl.col("n_training") < 50),
            rows.filter(pl.col("n_training") > 200),
        )
        assert len(small) > 100
        assert len(large) == 8
        weight = small["n"] / small["n"].sum()
        gain = (weight * small["gain"]).sum()
        assert gain > 2 * np.sqrt((weight**2 * (small["gain"] - gain) ** 2).sum()), name
        assert large["gain"].min() > -0.01, name


def test_the_command_writes_the_table_and_says_what_it_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where the circuit's dataset goes
    config = two_types(tmp_path / "c")
    file = tmp_path / "cv.parquet"
    given = ["cross-validate", str(config), "--cv-folds", "2", "-o", str(file), "--seed", "3"]
    result = CliRunner().invoke(app, [*given, "--distr-type", "conductance=gamma"])
    assert result.exit_code == 0, result.output
    assert "conductance" in result.output
    assert "gain per value" in result.output
    table = cp.read_cross_validation(file)
    assert table.facts["options"]["cv_folds"] == 2
    assert table.facts["options"]["extract"]["seed"] == 3
    assert table.table["fold"].unique().to_list() == [0, 1]
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 2
    assert "exists already" in again.output
