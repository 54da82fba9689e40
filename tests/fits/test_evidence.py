from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from circuits import SHARED, two_types, write_circuit
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.families.goodness import ks
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.evidence import ks_p_values
from connprops.fits.left_out import inside_ranges
from connprops.model.build import build
from connprops.model.model import read_model
from connprops.statistics.extract import extract

GROUPS, TIMES = 200, 79


def p_values(name, samples, *, times=TIMES, seed=0, names=None, **drawn):
    names = names or [str(i) for i in range(len(samples))]
    return ks_p_values(
        Sample.from_values(samples), family_named(name), n_bootstrap=times, seed=seed,
        identities=names, **drawn,
    )  # fmt: skip


DRAWS = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "gamma": lambda rng, n: rng.gamma(0.8, 2, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 0.7, n),
    "weibull": lambda rng, n: rng.weibull(1.7, n),
    "exponential": lambda rng, n: rng.exponential(2, n),
    "uniform": lambda rng, n: rng.uniform(1, 4, n),
    "truncnorm": lambda rng, n: scipy_stats.truncnorm(-2, 2).rvs(n, random_state=rng),
    "poisson": lambda rng, n: rng.poisson(40, n),
    "negative_binomial": lambda rng, n: rng.negative_binomial(3, 0.05, n),
}


@pytest.mark.parametrize("n", [15, 60])
@pytest.mark.parametrize("name", [name for name in DRAWS if name != "truncnorm"])
def test_p_values_are_uniform_where_the_family_is_right(name, n):
    rng = np.random.default_rng(10)
    p = p_values(name, [DRAWS[name](rng, n) for _ in range(GROUPS)])
    # They are multiples of 1 / 80: made continuous.
    continuous = p - rng.random(GROUPS) / (TIMES + 1)
    assert scipy_stats.kstest(continuous, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "spread", "drawn"),
    [
        ("normal", 3, {"whole": True}),
        ("normal", 1, {"lower": 2.5, "upper": 7.0}),
        ("normal", 3, {"whole": True, "lower": 1.0}),
        ("poisson", None, {"lower": 2.0, "upper": 9.0}),
    ],
)
def test_simulated_values_are_as_drawn(name, spread, drawn):
    """The fits do not know of bounds and rounding: what is drawn lies apart from the data."""
    rng = np.random.default_rng(10)
    x = rng.poisson(6, (40, 200)) if spread is None else rng.normal(5, spread, (40, 200))
    truth = np.clip(x, drawn.get("lower"), drawn.get("upper")) if len(drawn) > 1 else x
    truth = np.rint(truth) if drawn.get("whole") else truth
    p = p_values(name, list(truth), times=39, **drawn)
    assert 0.25 < p.mean() < 0.75
    assert (p <= 0.05).mean() < 0.2
    as_they_are = p_values(name, list(truth), times=39)
    assert as_they_are.mean() < p.mean()


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("gamma", lambda rng: rng.gamma(2, 2, 3000)),  # long: thinned to its order statistics
        ("truncnorm", lambda rng: DRAWS["truncnorm"](rng, 3000)),
        ("poisson", lambda rng: rng.poisson(4e5, 3000)),
        ("poisson", lambda rng: rng.poisson(4, 30000)),  # many, of few kinds
    ],
)
def test_p_values_of_long_samples_are_uniform(name, draw):
    rng = np.random.default_rng(11)
    p = p_values(name, [draw(rng) for _ in range(80)], times=39)
    continuous = p - rng.random(80) / 40
    assert scipy_stats.kstest(continuous, "uniform").pvalue > 1e-3


def test_short_samples_between_ends_are_not_rejected_more_often_than_said():
    rng = np.random.default_rng(12)
    p = p_values("truncnorm", [DRAWS["truncnorm"](rng, 20) for _ in range(GROUPS)])
    rejected = int((p <= 0.05).sum())
    assert scipy_stats.binomtest(rejected, GROUPS, 0.05, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("normal", lambda rng: rng.exponential(1, 100)),
        ("gamma", lambda rng: 1 + rng.exponential(1, 100)),
        ("exponential", lambda rng: rng.gamma(4, 1, 100)),
        ("uniform", lambda rng: rng.exponential(1, 100)),
        ("poisson", lambda rng: rng.negative_binomial(2, 0.1, 100)),
        ("geometric", lambda rng: 1 + rng.poisson(5, 100)),
    ],
)
def test_wrong_families_are_rejected(name, draw):
    rng = np.random.default_rng(13)
    p = p_values(name, [draw(rng) for _ in range(40)])
    assert (p <= 0.05).mean() > 0.8


def test_the_usual_tables_would_be_wrong():
    """With estimated parameters, Kolmogorov's own p-values are far from uniform."""
    rng = np.random.default_rng(14)
    samples = [rng.normal(0, 1, 50) for _ in range(GROUPS)]
    usual = [scipy_stats.kstest(x, "norm", (x.mean(), x.std())).pvalue for x in samples]
    assert scipy_stats.kstest(usual, "uniform").pvalue < 1e-10


def test_a_p_value_is_the_share_of_simulated_distances():
    rng = np.random.default_rng(15)
    x = rng.gamma(3, 1, 40)
    p = p_values("exponential", [x], times=999)
    # The distance does not depend on the mean: simulate it for the distribution of mean 1.
    family, simulated = family_named("exponential"), rng.exponential(1, (4000, 40))
    sample = Sample.from_values([x, *simulated])
    distance = ks(sample, family, family.fit(sample).parameters)
    share = (distance[1:] >= distance[0]).mean()
    assert p[0] == pytest.approx(share, abs=4 * np.sqrt(share / 1000) + 0.002)


def test_what_stands_beside_a_group_does_not_matter():
    rng = np.random.default_rng(16)
    samples = [rng.gamma(2, 1, n) for n in (7, 90, 400, 33)]
    names = list("abcd")
    p = p_values("gamma", samples, names=names)
    order = [2, 0, 3]
    some = p_values("gamma", [samples[i] for i in order], names=[names[i] for i in order])
    assert some.tolist() == p[order].tolist()
    assert p_values("gamma", samples, names=names, seed=1).tolist() != p.tolist()


def test_distributions_that_any_data_fit_and_failed_fits_have_none():
    assert np.isnan(p_values("discrete", [[1, 2, 2, 3]])).all()
    assert np.isnan(p_values("constant", [[2.0, 2.0]])).all()
    assert np.isnan(p_values("gamma", [[1.0], [-1.0, 2.0]])).all()


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("p")
    return extract(Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d")))


def test_the_model_has_p_values_where_asked_for(statistics):
    plain, other = build(statistics), build(statistics, p_values=19)
    assert plain.fits["p_value"].is_null().all()
    assert other.table.equals(plain.table)
    tested = other.fits.filter(~pl.col("distribution").is_in(["constant", "discrete", "zero"]))
    assert len(tested) > 8
    assert tested["p_value"].is_between(0.05, 1).all()
    shrunk = build(statistics, p_values=19, shrinkage=True)
    assert shrunk.fits["p_value"].equals(other.fits["p_value"])
    assert not build(statistics, p_values=19, seed=5).fits["p_value"].equals(other.fits["p_value"])


def test_the_command_takes_the_options_of_the_fits(statistics, tmp_path):
    statistics.write(tmp_path)
    given = ["build", str(tmp_path), "--p-values", "19", "--shrinkage", "--seed", "5"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    model = read_model(tmp_path / "model.parquet")
    expected = build(statistics, p_values=19, shrinkage=True, seed=5)
    assert model.fits["p_value"].equals(expected.fits["p_value"])
    assert model.fits["borrowed"].equals(expected.fits["borrowed"])
    assert model.table.equals(expected.table)
    result = CliRunner().invoke(app, ["build", str(tmp_path), "--p-values", "3", "--overwrite"])
    assert result.exit_code == 2
    assert "at least 19" in result.output


def test_a_selection_around_a_pathway_does_not_change_its_p_value(tmp_path):
    data = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    families = {"u_syn": "normal", "conductance": "gamma"}
    whole, part = (
        build(extract(data, sel_src=s, sel_props=list(families)), distr_types=families, p_values=19)
        for s in (None, {"synapse_class": "EXC"})
    )
    own = pl.col("source_type") == "L4_PC"
    columns = ["source_type", "target_type", "property", "p_value"]
    a, b = (
        m.fits.filter(own).select(pl.col(columns).exclude("p_value").cast(pl.String), "p_value")
        for m in (whole, part)
    )
    named = pl.col("property") != "n_syn_per_conn"
    assert a.filter(named).equals(b.filter(named))


def test_pathways_that_borrow_their_distribution_have_none(tmp_path):
    rng = np.random.default_rng(17)
    source, target = np.array([(s, t) for s in range(8) for t in range(8)]).T
    config = write_circuit(
        tmp_path / "c", source, target, {"g": rng.gamma(4, 1, 64)}, mtype=["A"] * 8 + ["B"],
        attributes={"synapse_class": ["EXC"] * 9, "layer": ["4"] * 9},
    )  # fmt: skip
    stats = extract(Dataset(export(resolve_circuit(config), tmp_path / "d")))
    fits = build(stats, distr_types={"g": "gamma"}, p_values=19).fits.filter(
        pl.col("property") == "g"
    )
    assert (fits["p_value"].is_null() == (fits["level"] >= 0)).all()


@pytest.mark.parametrize("times", [5, 0, True, 99.5, "many"])
def test_too_few_samples_are_refused(statistics, times):
    with pytest.raises(OptionError, match="a whole number, at least 19"):
        build(statistics, p_values=times)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
def test_the_recipes_distributions_are_rejected_as_often_as_chance_would(tmp_path):
    config = SHARED / "functionalizer_1000n" / "circuit_config.json"
    stats = extract(Dataset(export(resolve_circuit(config), tmp_path / "d")))
    families = {"conductance": "gamma", "depression_time": "gamma", "facilitation_time": "gamma",
                "u_syn": "truncnorm", "decay_time": "truncnorm"}  # fmt: skip
    fits = build(stats, distr_types=families, p_values=39).fits.filter(
        pl.col("property").cast(pl.String).is_in(list(families)) & (pl.col("n") >= 20)
    )
    p = fits["p_value"].drop_nulls()
    assert len(p) > 200
    rejected = int((p <= 0.05).sum())
    assert scipy_stats.binomtest(rejected, len(p), 0.05, alternative="greater").pvalue > 1e-3


def as_it_is(distributions):
    return distributions.family, distributions.parameters


def test_values_left_out_are_every_fifth_and_ranges_those_of_the_others():
    rng = np.random.default_rng(40)
    samples = [np.sort(rng.normal(3, 2, n)) for n in rng.integers(20, 200, 30)]
    sample = Sample.from_values(samples)
    left_out, inside = inside_ranges(np.full(30, "normal"), sample, None, as_it_is)
    for values, n, k in zip(samples, left_out, inside, strict=True):
        expected = []
        for first in range(5):  # which one is first is the pathway's own
            out = np.arange(values.size) % 5 == first
            others = values[~out]
            low, high = scipy_stats.norm.ppf([0.05, 0.95], others.mean(), others.std())
            expected.append((out.sum(), ((values[out] >= low) & (values[out] <= high)).sum()))
        assert (n, k) in expected


def test_ranges_of_a_wrong_family_hold_another_share():
    rng = np.random.default_rng(41)
    sample = Sample.from_values([rng.exponential(size=400) ** 2 for _ in range(30)])
    shares = {}
    for name in ("weibull", "normal"):
        left_out, inside = inside_ranges(np.full(30, name), sample, None, as_it_is)
        shares[name] = inside.sum() / left_out.sum()
    assert shares["weibull"] == pytest.approx(0.9, abs=0.02)
    assert shares["normal"] > 0.93


def test_repeated_values_are_left_out_one_by_one():
    rng = np.random.default_rng(42)
    sample = Sample.from_values([rng.poisson(2, 100).astype(float) for _ in range(50)])
    left_out, inside = inside_ranges(np.full(50, "poisson"), sample, None, as_it_is)
    assert (left_out == 20).all()
    assert inside.sum() / left_out.sum() == pytest.approx(
        np.diff(scipy_stats.poisson.cdf([-1, 5], 2))[0], abs=0.03
    )
