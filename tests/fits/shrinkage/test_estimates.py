from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit
from known_distributions import SCIPY
from scipy import special
from scipy import stats as scipy_stats

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.families.composed import adapted
from connprops.families.continuous import common_quantiles
from connprops.families.goodness import ks
from connprops.families.registry import family_named
from connprops.families.sample import Known, Sample
from connprops.fits.choice import chosen_families
from connprops.fits.fitted import fit_with_fallbacks
from connprops.fits.left_out import best_foretold, foretold
from connprops.fits.samples.levels import LevelKeys, Levels
from connprops.fits.samples.samples import Samples
from connprops.fits.shrinkage.estimates import with_shrinkage
from connprops.fits.shrinkage.scales import foretold_log_scale
from connprops.model.build import build
from connprops.schema import Property
from connprops.statistics.extract import extract


class Shrunk(NamedTuple):
    values: dict
    errors: dict
    borrowed: np.ndarray


def levels_of(n, narrow=None, classes=None):
    """Return levels of n observed pathways: one group at each, or narrow ones within it."""
    none, one = np.empty(0, dtype=np.intp), np.zeros(n, dtype=np.intp)
    classes = one if classes is None else classes
    narrow = classes if narrow is None else narrow
    return Levels(
        observed=np.arange(n), by_level=LevelKeys([]), pool_of_kind=none, level_of_pool=none,
        member_of_pool=none, sample_of_pool=none, member=none, pool=none, n_samples=0,
        keys=[narrow, narrow, narrow, classes, one], chain=(0, 1, 3),
    )  # fmt: skip


def borrowed_for(name, samples, narrow=None, classes=None):
    """Fit a family to samples and shrink them, as one level unless ``narrow`` has their groups."""
    sample = Sample.from_values(samples)
    asked = np.full(len(samples), name, dtype="U32")
    fitted = fit_with_fallbacks(asked, Samples.of(sample))
    moved, borrowed = with_shrinkage(
        fitted, asked, Samples.of(sample), levels_of(len(samples), narrow, classes)
    )
    law = moved.estimates(family_named(name), np.arange(len(samples)))
    return family_named(name).fit(sample), Shrunk(law.parameters, law.std_error, borrowed)


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
        assert z.std() == pytest.approx(1, abs=3 / np.sqrt(2 * groups) + 0.08), name


FAMILIES = {
    "normal": {"mean": (3, 0.5), "std": (1, 0.2)},
    "gamma": {"mean": (2, 0.4), "std": (1, 0.2)},
    "lognormal": {"mean_log": (0.5, 0.2), "std_log": (0.6, 0.1)},
    "weibull": {"shape": (2, 0.3), "scale": (3, 0.4)},
    "exponential": {"mean": (2, 0.3)},
    "truncnorm": {"norm_loc": (5, 0.2), "norm_scale": (1, 0.1)},
    "uniform": {"min": (1, 0.1), "max": (4, 0.2)},
    "beta": {"a": (2, 0.4), "b": (3, 0.4), "min": (0, 0), "max": (2, 0.2)},
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


def beside_a_point(rng, groups, n):
    """Draw n gamma values a group beside zeros, and many of 40 groups; give the truth, too."""
    mean, share = rng.normal(3, 0.4, groups + 40), rng.beta(8, 16, groups + 40)
    sizes = np.repeat([n, 60], [groups, 40])
    samples = [
        np.where(rng.random(k) < p, 0.0, rng.gamma(4, m / 4, k))
        for m, p, k in zip(mean, share, sizes, strict=True)
    ]
    return samples, mean, share


@pytest.mark.parametrize("n", [1, 2, 3, 6, 12])
def test_shares_of_a_point_and_what_is_beside_it_are_right_on_average(n):
    rng, groups = np.random.default_rng(n), 1500
    samples, mean, share = beside_a_point(rng, groups, n)
    _, result = borrowed_for("inflated_gamma", samples)
    few = np.arange(groups)
    assert np.isfinite(result.borrowed[few]).all()
    assert (result.values["point"] == 0).all()
    chance = 3 * np.sqrt(share[few].mean() * (1 - share[few].mean()) / (groups * n))
    assert result.values["p_point"][few].mean() == pytest.approx(share[few].mean(), abs=chance)
    # Moments of the others have the variance of their values and that of their true means.
    chance = 3 * np.sqrt(0.25 + 0.02) / np.sqrt(groups * n * 2 / 3)
    assert result.values["mean"][few].mean() / mean[few].mean() == pytest.approx(1, abs=chance)
    own = np.array([(sample == 0).mean() for sample in samples[:groups]])
    for values, truth, alone in (
        (result.values["p_point"], share, own),
        (result.values["mean"], mean, [sample[sample > 0].sum() / max((sample > 0).sum(), 1)
                                       for sample in samples[:groups]]),
    ):  # fmt: skip
        error = np.sqrt(((values - truth)[few] ** 2).mean())
        assert error < 0.95 * np.sqrt(((alone - truth[:groups]) ** 2).mean())


@pytest.mark.parametrize("name", ["gamma", "lognormal", "normal", "truncnorm", "ztpoisson"])
def test_all_families_are_moved_beside_a_point_as_they_are_alone(name):
    """Where the share is the same for all, the others are what they are without the point."""
    rng = np.random.default_rng(5)
    frozen = [SCIPY[name](**distribution) for distribution in drawn(name, 40, rng)]
    values = [f.rvs(12, random_state=rng) for f in frozen]
    _, alone = borrowed_for(name, values)
    _, beside = borrowed_for(f"inflated_{name}", [np.append(x, [0.0] * 4) for x in values])
    for parameter, expected in alone.values.items():
        np.testing.assert_allclose(beside.values[parameter], expected, rtol=1e-9, err_msg=parameter)
        np.testing.assert_allclose(beside.errors[parameter], alone.errors[parameter], rtol=1e-9)
    np.testing.assert_allclose(beside.values["p_point"], 0.25, rtol=1e-9)


def test_pathways_of_the_point_alone_are_no_constants_where_others_vary():
    rng = np.random.default_rng(6)
    samples, _, _ = beside_a_point(rng, 100, 3)
    samples += [np.zeros(1), np.zeros(3), np.zeros(200)]
    _, result = borrowed_for("inflated_gamma", samples)
    one, three, many = result.values["p_point"][-3:]
    assert 0.33 < one < three < 0.9 < many < 1
    assert result.values["mean"][-1] == pytest.approx(3, rel=0.2)


def test_pathways_without_a_difference_borrow_nearly_all():
    rng = np.random.default_rng(3)
    _, result = borrowed_for("exponential", list(rng.exponential(2, (20, 10))))
    assert result.borrowed.mean() > 0.6


# Sums of n gamma values have known logarithms: exactly psi(n k) - log(n k) below that of the mean.
@pytest.mark.parametrize("cv", [0.5, 1.2])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10])
def test_means_of_gamma_distributions_are_right_on_average(n, cv):
    rng = np.random.default_rng(n + 30)
    shape, groups = 1 / cv**2, 2000
    mean = np.exp(0.3 * rng.normal(size=groups + 50) - 0.045)
    sizes = np.repeat([n, 20], [groups, 50])
    samples = [m * rng.gamma(shape, 1 / shape, k) for m, k in zip(mean, sizes, strict=True)]
    _, result = borrowed_for("gamma", samples)
    ratio = result.values["mean"][:groups].sum() / mean[:groups].sum()
    chance = np.sqrt(special.polygamma(1, n * shape) / groups)
    assert ratio == pytest.approx(1, abs=0.01 + 2 * chance)


def test_parameters_of_truncated_normals_are_right_and_their_intervals_hold():
    rng = np.random.default_rng(20)
    frozen = scipy_stats.truncnorm(-1, 1, 1, 0.3)
    _, result = borrowed_for("truncnorm", list(frozen.rvs((400, 20), random_state=rng)))
    scale, error = result.values["norm_scale"], result.errors["norm_scale"]
    assert np.median(scale) == pytest.approx(0.3, abs=0.03)
    assert np.isfinite(error).all()
    assert (np.abs(scale - 0.3) < 1.96 * error).mean() > 0.9


def test_shapes_of_truncated_normals_are_those_of_their_classes_however_few_others_have():
    rng = np.random.default_rng(22)
    frozen = scipy_stats.truncnorm(-1, 1, 1, 0.3)
    samples = [frozen.rvs(n, random_state=rng) for n in rng.integers(10, 60, 150)]
    odd = [np.array([0.0, 0.55, 0.58, 0.6, 0.62, 1.0])] * 6 + [np.linspace(0, 1, 8)] * 12
    classes = np.repeat([0, 1, 2], [150, 6, 12])
    _, result = borrowed_for("truncnorm", [*samples, *odd], classes=classes)
    values = {name: x[:150] for name, x in result.values.items()}
    assert np.median(values["norm_scale"]) == pytest.approx(0.3, abs=0.05)
    assert np.median((values["max"] - values["min"]) / values["norm_scale"]) == pytest.approx(
        2, abs=0.3
    )


@pytest.mark.parametrize("name", ["gamma", "lognormal", "normal", "truncnorm", "weibull"])
def test_ranges_hold_what_they_say_however_few_the_values(name):
    rng = np.random.default_rng(21)
    sizes = np.repeat([1, 2, 3, 5, 10, 30], 60)
    shift = rng.normal(0, 0.15, sizes.size)
    alike = {
        "gamma": scipy_stats.gamma(4, scale=0.25), "lognormal": scipy_stats.lognorm(0.5),
        "normal": scipy_stats.norm(5, 0.5), "truncnorm": scipy_stats.truncnorm(-1, 1, 5, 0.5),
        "weibull": scipy_stats.weibull_min(1.5),
    }[name]  # fmt: skip
    scaled = name in ("gamma", "lognormal", "weibull")

    def moved(x, by):
        return x * np.exp(by) if scaled else x + by

    samples = [moved(alike.rvs(k, random_state=rng), by)
               for k, by in zip(sizes, shift, strict=True)]  # fmt: skip
    _, result = borrowed_for(name, samples)
    ends = family_named(name).ppf(np.tile([0.05, 0.95], (sizes.size, 1)), result.values)
    low, high = (moved(end, -shift) if not scaled else end * np.exp(-shift) for end in ends.T)
    covered = alike.cdf(high) - alike.cdf(low)
    for k in np.unique(sizes):
        assert covered[sizes == k].mean() == pytest.approx(0.9, abs=0.04), k


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


def test_levels_count_by_what_they_tell():
    rng = np.random.default_rng(6)
    narrow = np.repeat(np.arange(10), 12)
    apart = np.exp(rng.normal(0, 1, 10))[narrow]
    _, result = borrowed_for("exponential", list(rng.exponential(apart[:, None], (120, 4))), narrow)
    _, pooled = borrowed_for("exponential", list(rng.exponential(apart[:, None], (120, 4))))
    error, other = (np.log(x.values["mean"] / apart) for x in (result, pooled))
    assert (error**2).mean() < 0.6 * (other**2).mean()
    alike = list(rng.exponential(2, (120, 4)))
    _, result = borrowed_for("exponential", alike, narrow)
    assert np.log(result.values["mean"] / 2) == pytest.approx(np.zeros(120), abs=0.25)


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
    plain = build(small_pathways, distr_types={"g": "gamma"}, shrinkage=False)
    model = build(small_pathways, distr_types={"g": "gamma"})
    assert plain.fits["borrowed"].is_null().all()
    g = model.fits.filter(pl.col("property") == "g")
    observed, missing = g.filter(pl.col("level") < 0), g.filter(pl.col("level") >= 0)
    assert len(observed) == 25
    assert len(missing) == 11
    assert missing.select("source_type", "target_type").n_unique() == 11
    assert missing.select("borrowed", "ks", "loglik").null_count().row(0) == (11, 11, 11)
    assert missing["model_mean"].is_not_null().all()
    assert observed["borrowed"].is_between(0, 1).all()
    assert observed["n_pathways"].to_list() == [1] * 25
    single = observed.row(by_predicate=pl.col("n") == 1, named=True)
    assert (single["distribution"], single["status"]) == ("gamma", "ok")
    assert "borrowed" in single["message"]
    keys = ["source_type", "target_type", "property"]
    before = plain.fits.join(g.select(keys), on=keys)
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


def test_own_values_are_the_estimates_without_the_others(small_pathways):
    plain = build(small_pathways, distr_types={"g": "gamma"}, shrinkage=False).table
    table = build(small_pathways, distr_types={"g": "gamma"}).table
    keys = ["source_type", "target_type", "property", "parameter", "position"]
    both = table.filter(property="g").join(plain, on=keys, suffix="_plain")
    own = both.filter(pl.col("distribution_plain") == "gamma")
    assert len(own) > 20
    observed = own.filter(pl.col("level") == -1)
    assert observed["own_value"].to_list() == observed["value_plain"].to_list()
    assert (observed["own_value"] != observed["value"]).any()
    assert table.filter((pl.col("level") >= 0) & pl.col("own_value").is_not_null()).is_empty()
    single = both.filter((pl.col("distribution_plain") == "constant") & (pl.col("level") == -1))
    assert single["own_value"].is_null().all()
    assert (single["distribution"] == "gamma").all()


def test_pathways_without_data_have_what_their_level_foretells(small_pathways):
    fits = build(small_pathways, distr_types={"g": "gamma"}).fits.filter(property="g")
    missing = fits.filter(pl.col("level") >= 0)
    assert (missing["n"] >= 10).all()
    assert missing["distribution"].unique().to_list() == ["gamma"]


def test_pathways_borrow_from_those_of_their_own_family():
    rng = np.random.default_rng(12)
    samples = [rng.exponential(1, 5) for _ in range(10)]
    samples += [rng.normal(30, 1, 5) for _ in range(10)] + [[29.5], [2.0]]
    wanted = np.repeat(["exponential", "normal"], [10, 12])
    wanted[-1] = "poisson"
    sample = Sample.from_values(samples)
    own = fit_with_fallbacks(wanted, Samples.of(sample))
    fitted, borrowed = with_shrinkage(own, wanted, Samples.of(sample), levels_of(22))
    assert fitted.families.tolist() == wanted.tolist()
    for name, rows in (("exponential", slice(10)), ("normal", slice(10, 21))):
        _, alone = borrowed_for(name, samples[rows])
        for parameter, value in alone.values.items():
            moved = fitted.distributions[name].parameters[parameter]
            assert moved == pytest.approx(value, rel=1e-12)
        assert borrowed[rows] == pytest.approx(alone.borrowed)
        assert fitted.distributions[name].pathway.tolist() == list(range(22))[rows]
    assert np.isnan(borrowed[-1])  # alone of its family
    assert fitted.status[-2] == "ok"
    assert "too few values" in fitted.message[-2]


def test_shrinkage_is_on_or_off(tmp_path):
    stats = extract(Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d")))
    with pytest.raises(OptionError, match="true or false"):
        build(stats, shrinkage="much")


def test_a_value_that_stands_for_zero_says_nothing_of_other_pathways():
    rng = np.random.default_rng(5)
    others = [rng.gamma(9, mean / 9, 12) for mean in rng.uniform(8, 12, 8)]
    for name in ("gamma", "lognormal", "weibull", "exponential"):
        family = family_named(name)
        means = [
            family.mean(borrowed_for(name, samples)[1].values)[:8]
            for samples in (others, [*others, [2.7e-21]])
        ]
        np.testing.assert_allclose(means[1], means[0], rtol=0.02)


def test_ends_pay_where_many_values_tell_them():
    rng = np.random.default_rng(6)
    centre = rng.uniform(5, 50, (12, 1))

    def gain(values):
        """Return how much likelier ends make the values that estimates have not seen."""
        samples = Samples.of(Sample.from_values(list(values)))
        levels = levels_of(len(values))
        return foretold("uniform", samples, levels) - foretold("normal", samples, levels)

    assert gain(centre * rng.uniform(0.8, 1.2, (12, 100))) > 0
    assert gain(centre * rng.normal(1, 0.1, (12, 100))) < 0
    # Of a few values, though they are uniform, ends are known too badly.
    assert gain(centre * rng.uniform(0.8, 1.2, (12, 8))) < 0


def test_ends_lie_where_values_not_seen_cost_least():
    """Beyond an end a value has only its share of strays, 0.001 of a range ten times as wide."""
    rng = np.random.default_rng(11)
    groups, n = 120, 50
    centre, width = rng.uniform(5, 50, groups), rng.uniform(0.5, 2, groups)
    true = {"loc": centre, "scale": width}
    values = scipy_stats.truncnorm(-1, 1, **true).rvs((n, groups), random_state=rng).T
    law = borrowed_for("truncnorm", list(values))[1].values
    q = (np.arange(400)[:, None] + 0.5) / 400
    x = scipy_stats.truncnorm(-1, 1, **true).ppf(q)

    def loss(lower, upper, loc, scale):
        own = scipy_stats.truncnorm((lower - loc) / scale, (upper - loc) / scale, loc, scale)
        score = np.log(0.999 * own.pdf(x) + 0.001 / (20 * width))
        return np.mean(scipy_stats.truncnorm(-1, 1, **true).logpdf(x) - score)

    fitted = loss(law["min"], law["max"], law["norm_loc"], law["norm_scale"])
    assert fitted < 0.083
    # With location and scale known, and ends at the extremes, each of 1 / n beyond costs more.
    at_extremes = values.min(axis=1), values.max(axis=1)
    assert fitted < 0.6 * loss(*at_extremes, centre, width)
    own = family_named("truncnorm").std(law) / (width * scipy_stats.truncnorm(-1, 1).std())
    assert np.median(own) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("structure", ["none", "two kinds"])
@pytest.mark.parametrize("name", ["normal", "gamma", "lognormal", "weibull"])
def test_pathways_that_are_not_alike_are_not_harmed(name, structure):
    rng = np.random.default_rng(8)
    family, groups = family_named(name), 80
    n = rng.integers(3, 60, groups)
    kind = rng.random(groups) < 0.5
    own = rng.uniform(size=(2, groups)) if structure == "none" else np.stack([kind, kind])
    mean, cv = 10.0 ** (4 * own[0] - 2), 10.0 ** (own[1] - 0.9)
    log = np.sqrt(np.log1p(cv**2))
    law = {
        "normal": scipy_stats.norm(mean, cv * mean),
        "gamma": scipy_stats.gamma(cv**-2.0, scale=mean * cv**2),
        "lognormal": scipy_stats.lognorm(log, scale=mean * np.exp(-(log**2) / 2)),
        "weibull": scipy_stats.weibull_min(1 / cv, scale=mean),
    }[name]
    values = law.rvs((60, groups), random_state=rng).T
    estimate, result = borrowed_for(name, [x[:k] for x, k in zip(values, n, strict=True)])
    unseen = law.rvs((2000, groups), random_state=rng).T

    def score(parameters):
        likelihood = np.exp(family.logpdf(unseen, parameters))
        return np.log(0.999 * likelihood + 0.001 / (unseen.max() - unseen.min())).mean()

    assert score(result.values) >= score(estimate.parameters) - 0.005


def test_beta_distributions_with_two_humps_reach_from_end_to_end():
    rng = np.random.default_rng(3)
    shapes = 0.5 * np.exp(0.2 * rng.normal(size=(2, 30)))
    samples = [rng.beta(a, b, rng.integers(80, 320)) for a, b in shapes.T]
    estimate, result = borrowed_for("beta", samples)
    sample, family = Sample.from_values(samples), family_named("beta")
    assert np.median(ks(sample, family, result.values)) < 0.06  # 0.09 with ends by mean and std
    unseen = np.stack([rng.beta(a, b, 3000) for a, b in shapes.T])

    def score(parameters):
        return np.log(0.999 * np.exp(family.logpdf(unseen, parameters)) + 0.001).mean()

    assert score(result.values) > score(estimate.parameters)


def test_samples_in_blocks_are_fitted_as_all_at_once(monkeypatch):
    rng = np.random.default_rng(7)
    values = [rng.gamma(2, 1, n) for n in (1, 3, 8, 40, 600, 900)]
    samples = Samples.of(*(Sample.from_values(part) for part in (values[:4], values[4:])))
    asked = np.full(len(values), "gamma", dtype="U32")
    whole = fit_with_fallbacks(asked, samples)
    monkeypatch.setattr("connprops.fits.samples.samples.BLOCK", 1)
    assert [len(part) for _, part in samples.blocks(np.arange(6))] == [1] * 6
    found = fit_with_fallbacks(asked, samples)
    assert found.families.tolist() == whole.families.tolist()
    assert found.message == whole.message
    for name, of_family in whole.distributions.items():
        for parameter, value in of_family.parameters.items():
            again = found.distributions[name].parameters[parameter]
            np.testing.assert_allclose(again, value, rtol=1e-12)
    some = samples.samples(np.array([5, 0, 4]))  # narrow and wide ones beside each other
    assert some.value.shape[1] > len(values[3])
    np.testing.assert_array_equal(some.max, [values[i].max() for i in (5, 0, 4)])
    np.testing.assert_array_equal(some.weight.sum(axis=1), [900, 1, 600])


def counts_above_a_threshold(rng, groups, n):
    """Counts that start anywhere but at 1, with a tail that neither gamma nor lognormal has."""
    scale = rng.gamma(9, 1 / 9, (groups, 1))
    return np.rint(4 + 6 * scale * (0.7 + rng.pareto(2.2, (groups, n)))).clip(max=200)


def test_lists_of_quantiles_borrow_location_scale_and_shape():
    """Of 12 counts each, pathways are told by all together: scored by unseen ones, by numpy."""
    rng = np.random.default_rng(21)
    seed = rng.integers(2**32)
    seen = counts_above_a_threshold(np.random.default_rng(seed), 80, 12)
    unseen = counts_above_a_threshold(np.random.default_rng(seed), 80, 400)[:, 12:]
    known = Known.of_counts(1.0)
    sample = replace(Sample.from_values(list(seen)), known=known)
    shape = common_quantiles(sample, of_logs=True)
    samples = Samples.of(replace(sample, known=replace(known, shape=shape, of_logs=True)))
    asked = np.full(80, "quantiles", dtype="U32")
    own = fit_with_fallbacks(asked, Samples.of(sample))
    moved, borrowed = with_shrinkage(own, asked, samples, levels_of(80))
    assert (borrowed > 0.1).all()

    def score(fitted):
        lists = fitted.estimates(adapted(family_named("quantiles"), known), np.arange(80))
        p = np.sin(np.linspace(0, np.pi / 2, 33)) ** 2
        total = 0.0
        for quantile, values in zip(lists.parameters["quantile"], unseen, strict=True):
            rising = quantile + 1e-9 * np.arange(33)
            mass = np.interp(values + 0.5, rising, p) - np.interp(values - 0.5, rising, p)
            total += np.log(0.999 * mass + 0.001 / 200).mean() / 80
        return total

    assert score(moved) > score(own) + 0.3


@pytest.mark.parametrize("expected", ["quantiles", "gamma"])
def test_quantiles_are_chosen_where_they_foretell_values_better(expected):
    rng = np.random.default_rng(22)
    values = counts_above_a_threshold(rng, 60, 25)
    if expected == "gamma":
        values = np.rint(4 * rng.gamma(9, 1 / 9, (60, 1)) * rng.gamma(4, 1, (60, 25)) + 1)
    sample = replace(Sample.from_values(list(values)), known=Known.of_counts(1.0))
    prop = Property("g", "int64", "")
    families, scores = chosen_families("auto", sample, Samples.of(sample), prop, "aicc")
    of_logs = replace(sample.known, shape=common_quantiles(sample, of_logs=True), of_logs=True)
    largest = replace(sample, known=of_logs)
    families, scores = best_foretold(families, scores, largest, levels_of(len(largest)))
    assert set(families) == {scores.filter("chosen")["distribution"].item()}
    assert (families[0] == "quantiles") == (expected == "quantiles")


def test_scales_of_groups_that_nobody_has_seen_are_none_that_nobody_has():
    # Standard deviations of logarithms are 0.02 in one class and 0.5 in another; of a third, only
    # single values are known.
    log_scale = np.log(np.array([0.02] * 30 + [0.5] * 6 + [0.1]))
    variance = np.array([0.01] * 30 + [0.1] * 6 + [4.0])
    own = np.append(log_scale[:36], np.nan)
    foretold = foretold_log_scale(log_scale, variance, own)
    assert foretold[:36] == pytest.approx(log_scale[:36] + variance[:36])
    assert foretold[36] == pytest.approx(np.log(0.5) - np.sqrt(0.1))
    alone = foretold_log_scale(log_scale, variance, np.full(37, np.nan))
    assert alone[36] == pytest.approx(log_scale[36] + 0.5)  # which is always granted


@pytest.mark.parametrize("name", ["gamma", "lognormal", "weibull", "normal"])
def test_pathways_of_a_class_of_which_no_spread_is_known_spread_as_others_do(name, tmp_path):
    rng = np.random.default_rng(4)
    mtype = [f"E{i}" for i in range(6)] * 4 + [f"I{i}" for i in range(6)] * 4
    classes = ["EXC"] * 24 + ["INH"] * 24
    pairs = [(s, t) for s in range(24) for t in range(24)]  # narrow: within 2 %
    values = [600 * np.exp(rng.normal(0, 0.02)) for _ in pairs]
    wide = [(s, t) for s in range(24, 48) for t in range(24)]
    values += [600 * np.exp(rng.normal(0, 0.5)) for _ in wide]
    single = [(24 + i, 24 + (i + 1) % 6) for i in range(6)]  # one connection each
    values += [600 * np.exp(rng.normal(0, 0.5)) for _ in single]
    ends = np.array(pairs + wide + single)
    order = np.lexsort((ends[:, 0], ends[:, 1]))
    config = write_circuit(
        tmp_path / "c", *ends[order].T, {"g": np.array(values)[order]}, mtype=mtype,
        attributes={"synapse_class": classes, "layer": ["1"] * 48},
    )  # fmt: skip
    dataset = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    model = build(extract(dataset), distr_types={"g": name})
    inh = [f"I{i}" for i in range(6)]
    std = [model.std("g", s, t) for s in inh for t in inh]
    assert max(std) < 1.5 * 600


@pytest.mark.parametrize("true", ["gamma", "lognormal"])
def test_families_that_tie_are_told_apart_by_their_moments(true):
    """Of large, narrow pathways both are right; of small, wide ones logs may spread vastly."""
    rng = np.random.default_rng(9)
    narrow = [rng.gamma(1e4, 600 / 1e4, 60) for _ in range(30)]
    wide = {
        "gamma": [rng.gamma(0.3, 600 / 0.3, 10) for _ in range(25)],
        "lognormal": [600 * rng.lognormal(0, 0.8, 10) for _ in range(25)],
    }[true]
    sample = Sample.from_values(narrow + wide)
    levels = levels_of(55, classes=np.repeat([0, 1], [30, 25]))
    prop = Property("g", "float64", "")
    families, scores = chosen_families("auto", sample, Samples.of(sample), prop, "aicc")
    # The criterion ties them, with the lognormal slightly ahead.
    tied = scores.filter(pl.col("distribution").is_in(["gamma", "lognormal"])).with_columns(
        delta=pl.when(pl.col("distribution") == "gamma").then(0.5).otherwise(0.0),
        chosen=pl.col("distribution") == "lognormal",
    )
    families, scores = best_foretold(np.full(55, "lognormal"), tied, sample, levels)
    assert set(families) == {true}
    assert scores.filter("chosen")["distribution"].to_list() == [true]


@pytest.mark.filterwarnings("ignore:no source and no target type has a")
def test_where_no_type_has_a_class_pathways_without_data_are_as_the_others(tmp_path):
    """All are one group then; nothing speaks for others beyond it, of which nothing is known."""
    rng = np.random.default_rng(6)
    mtype = [f"T{i}" for i in range(12)] * 5
    pairs = [(s, t) for s in range(60) for t in range(60) if (s + t) % 12 < 9 and s % 5 == t % 4]
    values = rng.gamma(4, 100, len(pairs))
    ends = np.array(pairs)
    order = np.lexsort((ends[:, 0], ends[:, 1]))
    config = write_circuit(tmp_path / "c", *ends[order].T, {"g": values[order]}, mtype=mtype)
    model = build(extract(Dataset(export(resolve_circuit(config), tmp_path / "d"))),
                  distr_types={"g": "gamma"})  # fmt: skip
    without = model.fits.filter(pl.col("level") >= 0, pl.col("property") == "g")
    assert len(without) >= 30
    assert without["model_mean"].mean() == pytest.approx(400, rel=0.05)
    assert without["model_std"].mean() == pytest.approx(200, rel=0.08)
