from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit
from known_distributions import SCIPY
from scipy import optimize
from scipy import stats as scipy_stats

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.distributions.distributions import Distributions
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.fitted import fit_with_fallbacks
from connprops.fits.shrinkage import LEVEL_FROM, shrunk, with_shrinkage
from connprops.model.build import build
from connprops.statistics.extract import extract


class Shrunk(NamedTuple):
    values: dict
    errors: dict
    borrowed: np.ndarray


def borrowed_for(name, samples, keys=None):
    """Fit a family to samples and shrink them, all as one level unless ``keys`` says otherwise."""
    sample = Sample.from_values(samples)
    estimate = family_named(name).fit(sample)
    one = [np.zeros(len(samples), dtype=np.intp)]
    own = Distributions(
        family_named(name), np.arange(len(samples)), estimate.parameters,
        std_error=estimate.std_error,
    )  # fmt: skip
    moved, borrowed = shrunk(own, sample, keys or one)
    return estimate, Shrunk(moved.parameters, moved.std_error, borrowed)


def test_a_mean_is_weighed_as_paule_mandel_and_morris_have_it():
    rng = np.random.default_rng(0)
    n = rng.integers(3, 40, 12)
    samples = [rng.poisson(m, k) for m, k in zip(rng.gamma(20, 0.5, 12), n, strict=True)]
    _, result = borrowed_for("poisson", samples)
    # By hand: v is the variance of one count, averaged over counts, over n.
    y = np.array([s.mean() for s in samples])
    v = (n * y).sum() / n.sum() / n

    def excess(t):
        w = 1 / (v + t)
        return (w * (y - (w * y).sum() / w.sum()) ** 2).sum() - 11

    t = optimize.brentq(excess, 0, 1000, xtol=1e-14)
    mean = np.average(y, weights=1 / (v + t))
    weight = v / (v + t) * 9 / 11
    assert result.borrowed == pytest.approx(weight, rel=1e-8)
    assert result.values["mean"] == pytest.approx(y + weight * (mean - y), rel=1e-8)
    error = np.sqrt(v * (1 - 11 / 12 * weight) + 2 / 9 * weight**2 * (y - mean) ** 2)
    assert result.errors["mean"] == pytest.approx(error, rel=1e-8)


def test_standard_errors_are_those_of_the_hierarchy_that_drew_the_data():
    rng = np.random.default_rng(1)
    groups, n = 400, 12
    mean, std = rng.normal(10, 0.4, groups), np.exp(rng.normal(0, 0.3, groups))
    samples = rng.normal(mean[:, None], std[:, None], (groups, n))
    estimate, result = borrowed_for("normal", list(samples))
    for name, truth in (("mean", mean), ("std", std)):
        error = result.values[name] - truth
        assert np.sqrt((error**2).mean()) < 0.9 * np.sqrt(
            ((estimate.parameters[name] - truth) ** 2).mean()
        )
        z = error / result.errors[name]
        # 3 standard errors of a standard deviation, and what a normal approximation costs.
        assert z.std() == pytest.approx(1, abs=3 / np.sqrt(2 * groups) + 0.05), name


FAMILIES = {
    "normal": {"mean": (3, 0.5), "std": (1, 0.2)},
    "gamma": {"mean": (2, 0.4), "std": (1, 0.2)},
    "lognormal": {"mean_log": (0.5, 0.2), "std_log": (0.6, 0.1)},
    "weibull": {"shape": (2, 0.3), "scale": (3, 0.4)},
    "exponential": {"mean": (2, 0.3)},
    "truncnorm": {"norm_loc": (5, 0.2), "norm_scale": (1, 0.1)},
    "uniform": {"min": (1, 0.1), "max": (4, 0.2)},
    "poisson": {"mean": (3, 0.4)},
    "ztpoisson": {"mean": (2.5, 0.3)},
    "shifted_poisson": {"mean": (2.5, 0.3)},
    "geometric": {"mean": (4, 0.5)},
    "negative_binomial": {"mean": (5, 0.8), "dispersion": (3, 0.3)},
}


def drawn(name, groups, rng):
    """Return distributions of one kind that differ a little, as scipy has them."""
    distributions = []
    for _ in range(groups):
        distribution = {p: abs(rng.normal(*by)) for p, by in FAMILIES[name].items()}
        if name == "truncnorm":
            low, high = (
                distribution["norm_loc"] - distribution["norm_scale"],
                distribution["norm_loc"] + distribution["norm_scale"],
            )
            distribution |= {"min": low, "max": high}
        distributions.append(distribution)
    return distributions


@pytest.mark.parametrize("name", FAMILIES)
def test_unseen_values_are_likelier_and_many_values_keep_their_own(name):
    rng = np.random.default_rng(2)
    family, groups = family_named(name), 60
    distributions = drawn(name, groups, rng)
    n = np.where(np.arange(groups) < 50, 7, 3000)
    frozen = [SCIPY[name](**distribution) for distribution in distributions]
    samples = [f.rvs(k, random_state=rng) for f, k in zip(frozen, n, strict=True)]
    unseen = np.stack([f.rvs(2000, random_state=rng) for f in frozen])
    estimate, result = borrowed_for(name, samples)
    ok = estimate.status == "ok"

    def score(parameters):
        likelihood = np.exp(family.logpdf(unseen, parameters))
        return np.log(0.999 * likelihood + 0.001 / (unseen.max() - unseen.min())).mean(axis=1)

    gain = score(result.values) - score(estimate.parameters)
    small = (n < 100) & ok
    assert gain[small].mean() > 2 * gain[small].std() / np.sqrt(small.sum())
    assert gain[~small].min() > -0.002
    assert np.nanmean(result.borrowed[n < 100]) > np.nanmean(result.borrowed[n > 100])
    lower, upper = family.support(result.values)
    assert (lower <= Sample.from_values(samples).min).all()
    assert (upper >= Sample.from_values(samples).max).all()


def test_pathways_without_a_difference_borrow_all_that_chance_allows():
    rng = np.random.default_rng(3)
    _, result = borrowed_for("exponential", list(rng.exponential(2, (20, 10))))
    assert result.borrowed.max() <= 17 / 19
    assert result.borrowed.mean() > 0.6


def test_lists_borrow_as_the_dirichlet_multinomial_posterior():
    rng = np.random.default_rng(4)
    concentration, groups, n = 12.0, 300, 15
    truth = rng.dirichlet(concentration * np.array([0.5, 0.3, 0.15, 0.05]), groups)
    counts = np.stack([rng.multinomial(n, p) for p in truth])
    samples = [np.repeat([1.0, 2.0, 3.0, 5.0], c) for c in counts]
    estimate, result = borrowed_for("discrete", samples)
    assert result.borrowed == pytest.approx(concentration / (concentration + n), abs=0.06)
    assert np.nansum(result.values["p"], axis=1) == pytest.approx(1)
    full = result.values["val"]
    assert (full == [1, 2, 3, 5]).all()
    own = counts / n
    assert ((result.values["p"] - truth) ** 2).mean() < 0.8 * ((own - truth) ** 2).mean()
    z = (result.values["p"] - truth) / result.errors["p"]
    assert z.std() == pytest.approx(1, abs=0.1)
    assert (estimate.status == "ok").all()


def test_a_single_value_gets_the_rest_from_its_level():
    rng = np.random.default_rng(5)
    samples = [rng.gamma(9, 1, 200) for _ in range(20)] + [[14.0]]
    estimate, result = borrowed_for("gamma", samples)
    assert estimate.status[-1] == "failed"
    assert result.values["std"][-1] == pytest.approx(
        3, rel=0.05
    )  # of the distribution all were drawn from
    assert 8.9 < result.values["mean"][-1] < 14
    assert 0.9 < result.borrowed[-1] <= 1


def test_the_narrowest_level_with_enough_pathways_is_taken():
    rng = np.random.default_rng(6)
    many, few = LEVEL_FROM, LEVEL_FROM - 1
    mean = np.repeat([1.0, 100.0], [many, few])
    samples = [rng.exponential(m, 5) for m in mean]
    narrow = np.repeat([0, 1], [many, few]).astype(np.intp)
    wide = np.zeros(many + few, dtype=np.intp)
    _, both = borrowed_for("exponential", samples, [narrow, wide])
    _, alone = borrowed_for("exponential", samples[:many])
    _, together = borrowed_for("exponential", samples)
    assert both.values["mean"][:many] == pytest.approx(alone.values["mean"], rel=1e-12)
    assert both.values["mean"][many:] == pytest.approx(together.values["mean"][many:], rel=1e-12)


def test_three_pathways_and_distributions_of_one_point_stay_as_they_are():
    rng = np.random.default_rng(7)
    estimate, result = borrowed_for("normal", list(rng.normal(0, 1, (3, 9))))
    assert np.isnan(result.borrowed).all()
    assert (result.values["mean"] == estimate.parameters["mean"]).all()
    estimate, result = borrowed_for("constant", [[float(k)] for k in range(12)])
    assert np.isnan(result.borrowed).all()


@pytest.mark.parametrize("name", ["gamma", "truncnorm", "poisson", "discrete"])
def test_the_order_of_pathways_does_not_matter(name):
    rng = np.random.default_rng(8)
    samples = [rng.poisson(m, 9) + 1 for m in rng.uniform(2, 6, 15)]
    order = rng.permutation(15)
    _, result = borrowed_for(name, samples)
    _, other = borrowed_for(name, [samples[i] for i in order])
    assert (result.borrowed > 0).all()
    for parameter, value in result.values.items():
        assert np.array_equal(other.values[parameter], value[order], equal_nan=True), parameter


@pytest.fixture(scope="module")
def small_pathways(tmp_path_factory):
    """Return statistics of 25 pathways of 1 to 12 connections, one more being without any."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(9)
    mtype = np.repeat([f"T{i}" for i in range(5)] + ["T5"], [1, 2, 3, 3, 3, 1])
    source, target = np.array([(s, t) for s in range(12) for t in range(12)]).T
    config = write_circuit(
        folder / "c", source, target, {"g": rng.gamma(9, 0.1, source.size)}, mtype=mtype,
        attributes={"synapse_class": ["EXC"] * 13, "layer": ["4"] * 13},
    )  # fmt: skip
    return extract(Dataset(export(resolve_circuit(config), folder / "d")))


def test_the_model_says_who_borrowed_and_how_much(small_pathways):
    plain = build(small_pathways, distr_types={"g": "gamma"})
    model = build(small_pathways, distr_types={"g": "gamma"}, shrinkage=True)
    assert plain.fits["borrowed"].is_null().all()
    g = model.fits.filter(pl.col("property") == "g")
    observed, missing = g.filter(pl.col("level") < 0), g.filter(pl.col("level") >= 0)
    assert len(observed) == 25
    assert len(missing) == 11
    assert missing["borrowed"].is_null().all()
    assert observed["borrowed"].is_between(0, 1).all()
    assert observed["n_pathways"].to_list() == [1] * 25
    single = observed.row(by_predicate=pl.col("n") == 1, named=True)
    assert (single["distribution"], single["status"]) == ("gamma", "ok")
    assert "borrowed" in single["message"]
    before = plain.fits.join(g.select("source_type", "target_type", "property"), on=g.columns[:3])
    row = before.filter((pl.col("n") == 1) & (pl.col("level") < 0)).row(0, named=True)
    assert (row["distribution"], row["status"]) == ("constant", "fallback")
    distribution = model.distribution("g", "T1", "T1").parameters
    frozen = scipy_stats.gamma(
        (distribution["mean"][0] / distribution["std"][0]) ** 2,
        scale=distribution["std"][0] ** 2 / distribution["mean"][0],
    )
    row = g.row(by_predicate=(pl.col("source_type") == "T1") & (pl.col("target_type") == "T1"),
                named=True)  # fmt: skip
    x = small_pathways.order_statistics.filter(
        (pl.col("property") == "g")
        & (pl.col("source_type") == "T1")
        & (pl.col("target_type") == "T1")
    ).collect()["value"][0]
    assert row["loglik"] == pytest.approx(frozen.logpdf(x.to_numpy()).sum(), rel=1e-9)
    assert model.facts["options"]["build"]["shrinkage"] is True


def test_pathways_borrow_from_those_of_their_own_family():
    rng = np.random.default_rng(12)
    samples = [rng.exponential(1, 5) for _ in range(10)]
    samples += [rng.normal(30, 1, 5) for _ in range(10)] + [[29.5], [2.0]]
    wanted = np.repeat(["exponential", "normal"], [10, 12])
    wanted[-1] = "poisson"
    sample = Sample.from_values(samples)
    keys = [np.zeros(22, dtype=np.intp)]
    fitted, borrowed = with_shrinkage(fit_with_fallbacks(wanted, sample), wanted, sample, keys)
    assert fitted.families.tolist() == wanted.tolist()
    for name, rows in (("exponential", slice(10)), ("normal", slice(10, 21))):
        _, alone = borrowed_for(name, samples[rows])
        for parameter, value in alone.values.items():
            assert fitted.distributions[name].parameters[parameter] == pytest.approx(
                value, rel=1e-12
            )
        assert borrowed[rows] == pytest.approx(alone.borrowed)
        assert fitted.distributions[name].pathway.tolist() == list(range(22))[rows]
    assert np.isnan(borrowed[-1])  # alone of its family
    assert fitted.status[-2] == "ok"
    assert "too few values" in fitted.message[-2]


def test_shrinkage_is_on_or_off(tmp_path):
    stats = extract(Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d")))
    with pytest.raises(OptionError, match="true or false"):
        build(stats, shrinkage="much")
