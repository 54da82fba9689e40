"""Estimators are maxima of the likelihood, with errors as large as they say."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from known_distributions import SCIPY, stacked
from scipy import optimize, stats

from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import POINTS, Sample


class Trial(NamedTuple):
    """A distribution, the size of samples of it, and the bias of z-scores to expect.

    Maximum-likelihood estimates of other things than means are biased by b/n, so that the mean
    of their z-scores is of the order of 1/sqrt(n): ``bias`` times that is allowed for. The ends
    of a support that are taken from the data cost its shape more.
    """

    name: str
    distribution: dict[str, float]
    n: int
    bias: float = 1.5


TRIALS = [
    Trial("constant", {"mean": 4.5}, 10),
    Trial("normal", {"mean": -3, "std": 2}, 20),
    Trial("normal", {"mean": 1e6, "std": 1e-2}, 1000),
    Trial("lognormal", {"mean_log": 1, "std_log": 0.7}, 20),
    Trial("lognormal", {"mean_log": -9, "std_log": 0.1}, 1000),
    Trial("gamma", {"mean": 0.7, "std": 0.4}, 30, 2.5),
    Trial("gamma", {"mean": 3e-3, "std": 4e-3}, 1000),
    Trial("gamma", {"mean": 100, "std": 0.02}, 1000),
    Trial("exponential", {"mean": 5}, 30),
    Trial("exponential", {"mean": 1e-9}, 1000),
    Trial("weibull", {"shape": 0.8, "scale": 3}, 50),
    Trial("weibull", {"shape": 2, "scale": 1e-3}, 300),
    Trial("weibull", {"shape": 6, "scale": 1e4}, 2000),
    Trial("poisson", {"mean": 0.3}, 50),
    Trial("poisson", {"mean": 12}, 1000),
    Trial("ztpoisson", {"mean": 1.2}, 60),
    Trial("ztpoisson", {"mean": 4}, 1000),
    Trial("shifted_poisson", {"mean": 1.5}, 50),
    Trial("shifted_poisson", {"mean": 9}, 1000),
    Trial("geometric", {"mean": 1.5}, 50),
    Trial("geometric", {"mean": 30}, 1000),
    Trial("negative_binomial", {"mean": 5, "dispersion": 1.5}, 2000, 3),
    Trial("negative_binomial", {"mean": 0.5, "dispersion": 0.4}, 2000, 3),
    Trial("truncnorm", {"norm_loc": 0.5, "norm_scale": 0.02, "min": 0.48, "max": 0.52}, 4000, 6),
    Trial("truncnorm", {"norm_loc": 5, "norm_scale": 3, "min": 0, "max": 7}, 4000, 6),
    Trial("truncnorm", {"norm_loc": -1, "norm_scale": 1, "min": 0, "max": 3}, 4000, 8),
    Trial("truncnorm", {"norm_loc": 0, "norm_scale": 1, "min": -2, "max": 3}, 4000, 8),
    Trial("beta", {"a": 0.5, "b": 0.7, "min": 0, "max": 1}, 1000, 5),
    Trial("beta", {"a": 3, "b": 4, "min": -1, "max": 5}, 10_000, 15),
]

INSIDE = stats.norm.ppf(0.975)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda t: f"{t.name}-{t.n}")
def test_errors_are_standard_normal_in_units_of_their_standard_error(trial: Trial) -> None:
    replicates = min(max(500_000 // trial.n, 200), 2000)
    if trial.name == "constant":
        values = np.full((replicates, trial.n), trial.distribution["mean"])
    else:
        values = SCIPY[trial.name](**trial.distribution).rvs((replicates, trial.n), random_state=17)
    estimate = FAMILIES[trial.name].fit(Sample.from_values(list(values)))
    assert (estimate.status == "ok").all()
    tested = 0
    for name, truth in trial.distribution.items():
        error = estimate.std_error[name]
        if np.isnan(error).all() and name in {"min", "max"}:
            continue  # an end that is taken from the data
        assert not np.isnan(error).any()
        tested += 1
        if trial.name == "constant":
            assert (estimate.parameters[name] == truth).all()
            assert (error == 0).all()
            continue
        z = (estimate.parameters[name] - truth) / error
        chance = 4 / np.sqrt(replicates)
        bias = trial.bias / np.sqrt(trial.n)
        assert abs(z.mean()) < chance + bias, name
        assert abs(z.std() - 1) < chance / np.sqrt(2) + 0.5 * bias, name
        # Coverage, within binomial error; a shift d of z changes it by d^2 phi(2) 2 at first, and
        # a spread s by 2 * 1.96 phi(1.96) (s - 1): 0.11 and 0.23, for what bias is allowed for.
        allowed = 0.11 * bias**2 + 0.23 * 0.5 * bias + 4 * np.sqrt(0.95 * 0.05 / replicates)
        assert abs((np.abs(z) < INSIDE).mean() - 0.95) < allowed, name
    assert tested


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_of_a_cut_normal_distribution_cover_also_where_it_is_nearly_flat(n: int) -> None:
    """A fit on the bound of the scale has no error; what is left covers at least as it should."""
    values = SCIPY["truncnorm"](0, 1, -1, 1).rvs((2000, n), random_state=18)
    estimate = family_named("truncnorm").fit(Sample.from_values(list(values)))
    away = np.abs(estimate.parameters["norm_loc"] - values.mean(axis=1))
    width = np.ptp(values, axis=1)
    on_bound = (estimate.parameters["norm_scale"] > 9.99 * width) | (away > 99 * width)
    for name, truth in (("norm_loc", 0), ("norm_scale", 1)):
        error = estimate.std_error[name]
        assert (np.isnan(error) == on_bound).all()
        z = ((estimate.parameters[name] - truth) / error)[~on_bound]
        covered = int((np.abs(z) < INSIDE).sum())
        assert stats.binomtest(covered, z.size, 0.95, alternative="less").pvalue > 1e-3, name


def test_extremes_come_as_near_to_the_ends_as_theory_says() -> None:
    """Ends have no normal error: n times the gap is exponential, of mean 1 over the density."""
    n, groups = 400, 4000
    for name, distribution, density in (
        ("uniform", {"min": 2, "max": 3}, 1.0),
        ("truncnorm", {"norm_loc": 0, "norm_scale": 1, "min": -1, "max": 1},
         stats.norm.pdf(1) / (stats.norm.cdf(1) - stats.norm.cdf(-1))),
    ):  # fmt: skip
        values = SCIPY[name](**distribution).rvs((groups, n), random_state=19)
        found = family_named(name).fit(Sample.from_values(list(values))).parameters
        for gap in (found["min"] - distribution["min"], distribution["max"] - found["max"]):
            p_value = stats.kstest(gap * n * density, "expon").pvalue
            assert p_value > 1e-4, name


def test_probabilities_of_a_list_are_recovered_within_their_errors() -> None:
    p = np.array([0.2, 0.5, 0.3])
    rng = np.random.default_rng(1)
    sample = Sample.from_values(list(rng.choice([1.5, -2, 7], (500, 200), p=p)))
    estimate = family_named("discrete").fit(sample)
    assert (estimate.parameters["val"] == [-2, 1.5, 7]).all()
    z = (estimate.parameters["p"] - p[[1, 0, 2]]) / estimate.std_error["p"]
    assert (np.abs(z.mean(axis=0)) < 0.2).all()
    assert (np.abs(z.std(axis=0) - 1) < 0.15).all()
    assert np.isnan(estimate.std_error["val"]).all()


DISTRIBUTIONS_TO_FIT = [
    ("normal", {"mean": -3, "std": 2}),
    ("lognormal", {"mean_log": 1, "std_log": 0.7}),
    ("gamma", {"mean": 0.7, "std": 0.9}),
    ("exponential", {"mean": 5}),
    ("weibull", {"shape": 2.2, "scale": 3}),
    ("beta", {"a": 3, "b": 2, "min": 1, "max": 5}),
    ("truncnorm", {"norm_loc": 1, "norm_scale": 2, "min": 0, "max": 4}),
    ("uniform", {"min": 2, "max": 3}),
    ("poisson", {"mean": 3}),
    ("ztpoisson", {"mean": 2}),
    ("shifted_poisson", {"mean": 3}),
    ("geometric", {"mean": 3}),
    ("negative_binomial", {"mean": 4, "dispersion": 2}),
]


def _loglik(name: str, values: np.ndarray, params: dict[str, float]) -> float:
    distribution = SCIPY[name](**params)
    log = distribution.logpdf if FAMILIES[name].kind == "continuous" else distribution.logpmf
    return float(log(values).sum())


@pytest.mark.parametrize(
    ("name", "distribution"), DISTRIBUTIONS_TO_FIT, ids=[name for name, _ in DISTRIBUTIONS_TO_FIT]
)
def test_estimates_are_maxima_of_the_likelihood(name: str, distribution: dict[str, float]) -> None:
    values = SCIPY[name](**distribution).rvs(400, random_state=3)
    sample = Sample.from_values([values])
    family = FAMILIES[name]
    groups = family.fit(sample).parameters
    best = {key: float(value[0]) for key, value in groups.items()}
    maximum = _loglik(name, values, best)
    np.testing.assert_allclose(family.loglik(sample, groups), maximum, rtol=1e-10)
    # An end of the support moves outwards only: inside it would leave out values.
    outwards = {"min": -1, "max": 1}
    for key, value in best.items():
        signs = [outwards[key]] if key in outwards else [-1, 1]
        for sign in signs:
            neighbour = best | {key: value + sign * 1e-3 * max(abs(value), 0.1)}
            assert _loglik(name, values, neighbour) < maximum


@pytest.mark.parametrize("name", ["gamma", "weibull", "truncnorm", "negative_binomial", "beta"])
def test_estimates_agree_with_a_general_optimiser(name: str) -> None:
    distribution = dict(DISTRIBUTIONS_TO_FIT)[name]
    values = SCIPY[name](**distribution).rvs(300, random_state=5)
    family, sample = FAMILIES[name], Sample.from_values([values])
    best = {key: float(value[0]) for key, value in family.fit(sample).parameters.items()}
    fixed = {"min", "max"} if name == "truncnorm" else set()
    free = [key for key in best if key not in fixed]
    scale = np.array([best[key] for key in free])

    def loss(x: np.ndarray) -> float:
        params = best | dict(zip(free, x * scale, strict=True))
        if name == "beta" and not params["min"] < values.min() < values.max() < params["max"]:
            return np.inf
        return -_loglik(name, values, params)

    options = {"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-9}
    found = optimize.minimize(loss, np.full(len(free), 1.1), method="Nelder-Mead", options=options)
    assert _loglik(name, values, best) >= -found.fun - 1e-6
    np.testing.assert_allclose(found.x, 1, rtol=2e-3)


@pytest.mark.parametrize("name", ["normal", "gamma", "lognormal", "exponential", "uniform"])
def test_loglik_of_large_samples_is_exact_where_moments_suffice(name: str) -> None:
    distribution = dict(DISTRIBUTIONS_TO_FIT)[name]
    values = SCIPY[name](**distribution).rvs(20 * POINTS, random_state=2)
    sample = Sample.from_values([values])
    assert not sample.exact[0]
    found = FAMILIES[name].loglik(sample, stacked([distribution]))
    np.testing.assert_allclose(found, _loglik(name, values, distribution), rtol=1e-10)


def test_loglik_of_thinned_samples_is_near() -> None:
    distribution = {"shape": 1.5, "scale": 2}
    values = SCIPY["weibull"](**distribution).rvs(20 * POINTS, random_state=2)
    found = family_named("weibull").loglik(Sample.from_values([values]), stacked([distribution]))
    np.testing.assert_allclose(found, _loglik("weibull", values, distribution), rtol=1e-6)


@pytest.mark.parametrize(
    "distribution", [{"shape": 0.7, "scale": 4.0}, {"shape": 1.7, "scale": 3.0}]
)
def test_thinning_a_large_sample_does_not_move_its_fit(distribution: dict[str, float]) -> None:
    values = SCIPY["weibull"](**distribution).rvs(200_000, random_state=3)
    shape, _, scale = stats.weibull_min.fit(values, floc=0)
    found = family_named("weibull").fit(Sample.from_values([values]))
    for name, wanted in (("shape", shape), ("scale", scale)):
        assert abs(found.parameters[name][0] - wanted) < 0.05 * found.std_error[name][0]


def test_values_outside_the_support_have_no_likelihood() -> None:
    sample = Sample.from_values([[-1.0, 0.5], [1, 2.5], [0.25, 3]])
    for name, distribution, expected in (
        ("gamma", {"mean": 1.0, "std": 0.5}, [True, False, False]),
        ("exponential", {"mean": 1.0}, [True, False, False]),
        ("uniform", {"min": 0.0, "max": 2.6}, [True, False, True]),
        ("poisson", {"mean": 1.0}, [True, True, True]),
    ):
        loglik = family_named(name).loglik(sample, stacked([distribution] * 3))
        assert (loglik == -np.inf).tolist() == expected, name


CONSTANT = [2.0, 2.0, 2.0]
FAILURES = [
    ("constant", [1, 2.5], "not constant: found 1 to 2.5, expected one value"),
    ("constant", [], "too few values: found 0, expected at least 1"),
    ("normal", [1], "too few values: found 1, expected at least 2"),
    ("normal", CONSTANT, "constant: found 2 in all 3 values, expected different values"),
    ("gamma", CONSTANT, "constant: found 2 in all 3 values, expected different values"),
    ("gamma", [0, 1, 2], "outside the support: found 0, expected values > 0"),
    ("lognormal", [-0.25, 1], "outside the support: found -0.25, expected values > 0"),
    ("weibull", CONSTANT, "constant: found 2 in all 3 values, expected different values"),
    ("truncnorm", [1, 2, 3], "too few values: found 3, expected at least 4"),
    ("truncnorm", [2] * 9, "constant: found 2 in all 9 values, expected different values"),
    ("beta", [2] * 9, "constant: found 2 in all 9 values, expected different values"),
    ("uniform", [5, 5], "constant: found 5 in all 2 values, expected different values"),
    ("exponential", [-1, 1], "outside the support: found -1, expected values >= 0"),
    ("exponential", [0, 0], "constant: found only 0, expected values above 0"),
    ("poisson", [0.5, 1], "not a count: found 0.5, expected whole numbers"),
    ("poisson", [1, 1.25, 3], "not a count: found 1.25, expected whole numbers"),
    ("poisson", [-1, 1], "outside the support: found -1, expected values >= 0"),
    ("ztpoisson", [0, 1], "outside the support: found 0, expected values >= 1"),
    ("shifted_poisson", [0, 1], "outside the support: found 0, expected values >= 1"),
    ("geometric", [0, 1], "outside the support: found 0, expected values >= 1"),
    ("negative_binomial", [0, 0], "constant: found only 0, expected values above 0"),
    ("discrete", np.arange(101), "too many distinct values: found 101, expected at most 100"),
    ("zero", [0, 0.5], "outside the support: found 0 to 0.5, expected only 0"),
]


@pytest.mark.parametrize(("name", "values", "message"), FAILURES)
def test_what_cannot_be_fitted_says_why(name: str, values: Any, message: str) -> None:
    good = {"zero": [0, 0], "constant": [3, 3]}.get(name, [1, 2, 2, 4, 7])
    sample = Sample.from_values([good, values])
    estimate = FAMILIES[name].fit(sample)
    assert estimate.status.tolist() == ["ok", "failed"]
    assert estimate.message.tolist() == ["", message]
    for found in (*estimate.parameters.values(), *estimate.std_error.values()):
        assert np.isnan(found[1]).all()
    # What fails has no say in what does not.
    alone = FAMILIES[name].fit(sample.take(np.array([0])))
    for key, value in alone.parameters.items():
        np.testing.assert_array_equal(value[0], estimate.parameters[key][0])


def test_thinned_samples_are_no_lists_of_values() -> None:
    sample = Sample.from_values([np.arange(5000)])
    message = family_named("discrete").fit(sample).message[0]
    assert message.startswith("too many distinct values: found more than ")


@pytest.mark.parametrize("name", ["constant", "poisson", "ztpoisson", "geometric", "discrete"])
def test_one_value_is_enough_for_one_parameter(name: str) -> None:
    family, sample = FAMILIES[name], Sample.from_values([[1]])
    estimate = family.fit(sample)
    assert estimate.status.tolist() == ["ok"]
    assert family.mean(estimate.parameters).tolist() == [1]


def test_estimates_on_a_bound_have_no_standard_error() -> None:
    ones = Sample.from_values([[1, 1, 1], [0, 0, 0]])
    assert np.isnan(family_named("ztpoisson").fit(ones).std_error["mean"][0])
    assert np.isnan(family_named("poisson").fit(ones).std_error["mean"][1])
    assert family_named("poisson").fit(ones).std_error["mean"][0] == np.sqrt(1 / 3)


def test_counts_that_are_not_overdispersed_give_the_poisson_limit() -> None:
    rng = np.random.default_rng(4)
    values = [rng.binomial(10, 0.5, 300), np.full(300, 3)]
    sample = Sample.from_values(values)
    negative, poisson = family_named("negative_binomial"), family_named("poisson")
    estimate = negative.fit(sample)
    assert estimate.status.tolist() == ["ok", "ok"]
    assert np.isnan(estimate.std_error["dispersion"]).all()
    np.testing.assert_allclose(
        negative.loglik(sample, estimate.parameters),
        poisson.loglik(sample, poisson.fit(sample).parameters),
        atol=0.1,
    )


def test_a_truncated_normal_fit_follows_shifts_scales_and_reflections() -> None:
    values = SCIPY["truncnorm"](1, 2, 0, 4).rvs(500, random_state=6)
    maps = [(0, 1), (5, 1e-7), (-3, 1e9), (1e4, 1), (2, -3)]
    estimate = family_named("truncnorm").fit(Sample.from_values([a + b * values for a, b in maps]))
    a, b = np.array(maps).T
    loc, scale = estimate.parameters["norm_loc"], estimate.parameters["norm_scale"]
    np.testing.assert_allclose((loc - a) / b, loc[0], rtol=1e-6)
    np.testing.assert_allclose(scale / np.abs(b), scale[0], rtol=1e-6)
    error = estimate.std_error["norm_loc"]
    np.testing.assert_allclose(error / np.abs(b), error[0], rtol=1e-5)


def test_a_truncated_normal_fit_has_the_mean_and_std_of_the_data() -> None:
    """Mean and mean square are what the likelihood depends on: inside the bounds they agree."""
    rng = np.random.default_rng(7)
    distributions = [
        (0, 1, -1, 1),
        (0, 0.3, -1, 1),
        (2, 1, 0, 1.5),
        (-1, 1, 0, 2),
        (0, 1e-9, -2e-9, 1e-9),
    ]
    sample = Sample.from_values(
        [
            SCIPY["truncnorm"](*distribution).rvs(20_000, random_state=rng)
            for distribution in distributions
        ]
    )
    family = family_named("truncnorm")
    parameters = family.fit(sample).parameters
    np.testing.assert_allclose(family.mean(parameters), sample.mean, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(family.std(parameters), sample.std, rtol=1e-9)
    np.testing.assert_array_equal(parameters["min"], sample.min)
    np.testing.assert_array_equal(parameters["max"], sample.max)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 1001),
        np.repeat([0.0, 1.0], 50),
        np.random.default_rng(1).beta(0.3, 0.4, 500),
        np.random.default_rng(1).exponential(1, 500),
        -1e-12 * np.random.default_rng(1).exponential(1, 500),
        np.random.default_rng(1).lognormal(0, 3, 500),
        np.append(np.random.default_rng(1).normal(0, 1e-9, 500), 1.0),
        1e200 * np.random.default_rng(1).random(50),
        1e-200 * np.random.default_rng(1).normal(0, 1, 50),
        np.array([1, 2, 3, 5.0]),
    ],
    ids=["flat", "two values", "U", "exponential", "tiny", "heavy", "outlier", "huge", "mini", "4"],
)
def test_a_truncated_normal_fit_is_the_best_within_its_bounds(values: np.ndarray) -> None:
    family, sample = family_named("truncnorm"), Sample.from_values([values])
    estimate = family.fit(sample)
    best = {key: float(value[0]) for key, value in estimate.parameters.items()}
    width = np.ptp(values)
    assert estimate.status[0] == "ok"
    assert 0 < best["norm_scale"] <= 10.0001 * width
    assert abs(best["norm_loc"] - values.mean()) <= 101.0001 * width
    maximum = _loglik("truncnorm", values, best)
    rng = np.random.default_rng(8)
    for loc, scale in rng.normal(0, [0.02, 0.02], (40, 2)):
        other = best | {
            "norm_loc": np.clip(
                best["norm_loc"] + loc * width,
                values.min() - 100 * width,
                values.max() + 100 * width,
            ),
            "norm_scale": min(best["norm_scale"] * np.exp(scale), 10 * width),
        }
        assert _loglik("truncnorm", values, other) <= maximum + 1e-6 * (1 + abs(maximum))


def test_a_flat_sample_gives_a_flat_distribution() -> None:
    estimate = family_named("truncnorm").fit(Sample.from_values([np.linspace(3, 5, 999)]))
    distribution = SCIPY["truncnorm"](
        **{key: value[0] for key, value in estimate.parameters.items()}
    )
    np.testing.assert_allclose(distribution.pdf([3, 3.5, 4, 5]), 0.5, rtol=2e-3)
    assert np.isnan(estimate.std_error["norm_scale"][0])


def test_close_values_keep_their_spread_in_a_gamma_fit() -> None:
    rng = np.random.default_rng(9)
    values = 1000 + 1e-3 * rng.normal(size=2000)
    found = family_named("gamma").fit(Sample.from_values([values])).parameters["std"]
    np.testing.assert_allclose(found, values.std(), rtol=1e-5)


def test_distributions_beyond_what_numbers_hold_are_failed_fits() -> None:
    far = np.array([1, 2**53], dtype=np.int64).repeat(20)
    wide = np.array([-(2**53), 2**53], dtype=np.int64).repeat([5, 30])
    sample = Sample.from_values([far, wide])
    found = family_named("lognormal").fit(sample)
    assert found.status.tolist() == ["failed", "failed"]
    assert found.message[0] == "the distribution's mean or spread is beyond what numbers hold"
    assert np.isnan(found.parameters["mean_log"]).all()
    assert family_named("lognormal").fit(Sample.from_values([far.astype(float)])).status == ["ok"]
    assert family_named("normal").fit(sample).status.tolist() == ["ok", "ok"]


def test_many_pathways_at_once_are_fitted_as_alone() -> None:
    rng = np.random.default_rng(10)
    groups = [rng.gamma(rng.uniform(0.5, 9), 10.0 ** rng.integers(-6, 6), 40) for _ in range(200)]
    sample = Sample.from_values(groups)
    for name in ("gamma", "weibull", "truncnorm", "beta", "lognormal"):
        together = FAMILIES[name].fit(sample)
        for g in (0, 57, 199):
            alone = FAMILIES[name].fit(sample.take(np.array([g])))
            for key, value in alone.parameters.items():
                np.testing.assert_array_equal(together.parameters[key][g], value[0])


def test_a_known_gamma_fit() -> None:
    values = stats.gamma(2.5, scale=0.3).rvs(1000, random_state=11)
    shape, _, scale = stats.gamma.fit(values, floc=0)
    found = family_named("gamma").fit(Sample.from_values([values])).parameters
    np.testing.assert_allclose(found["mean"], shape * scale, rtol=1e-6)
    np.testing.assert_allclose(found["std"], np.sqrt(shape) * scale, rtol=1e-4)
