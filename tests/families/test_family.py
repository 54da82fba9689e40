"""Families against scipy's distributions, and their fits against what the values came from."""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_distributions import PARAMETERS, SCIPY, loglik_by_scipy, stacked
from scipy import optimize, stats

from connprops.families.goodness import ks, wasserstein
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import POINTS, Sample


def values_of(distribution: Any, q: np.ndarray, kind: str) -> np.ndarray:
    """Return values across the support, for discrete ones with some between the integers."""
    x = distribution.ppf(q)
    return np.concatenate([x, x[:3] + 0.5]) if kind == "discrete" else x


Q = np.array([1e-9, 1e-3, 0.02, 0.2, 0.5, 0.77, 0.9, 0.999, 1 - 1e-9])


@pytest.mark.parametrize("name", SCIPY)
def test_functions_agree_with_scipy(name: str) -> None:
    family, distributions = FAMILIES[name], PARAMETERS[name]
    params, oracles = (
        stacked(distributions),
        [SCIPY[name](**distribution) for distribution in distributions],
    )
    x = np.array([values_of(oracle, Q, family.kind) for oracle in oracles])
    log = "logpdf" if family.kind == "continuous" else "logpmf"
    expected = np.array([getattr(o, log)(row) for o, row in zip(oracles, x, strict=True)])
    np.testing.assert_allclose(family.logpdf(x, params), expected, rtol=1e-8, atol=1e-7)
    expected = np.array([oracle.cdf(row) for oracle, row in zip(oracles, x, strict=True)])
    np.testing.assert_allclose(family.cdf(x, params), expected, rtol=1e-7, atol=1e-12)
    q = np.broadcast_to(Q, (len(distributions), Q.size))
    std = np.array([[oracle.std()] for oracle in oracles])
    expected = np.array([oracle.ppf(Q) for oracle in oracles])
    np.testing.assert_allclose(family.ppf(q, params) / std, expected / std, rtol=1e-8, atol=1e-10)
    for moment in ("mean", "std"):
        expected = np.array([getattr(oracle, moment)() for oracle in oracles])
        found = getattr(family, moment)(params)
        # scipy's moments of the truncated normal distribution lose digits in the tails.
        np.testing.assert_allclose(found / std[:, 0], expected / std[:, 0], rtol=1e-7, atol=1e-10)
    lower, upper = family.support(params)
    expected = np.array([oracle.support() for oracle in oracles])
    np.testing.assert_allclose(np.transpose([lower, upper]), expected)


@pytest.mark.parametrize("name", SCIPY)
def test_quantiles_invert_the_distribution_function(name: str) -> None:
    family, params = FAMILIES[name], stacked(PARAMETERS[name])
    rng = np.random.default_rng(1)
    x = family.ppf(rng.uniform(0.01, 0.99, (len(PARAMETERS[name]), 500)), params)
    back = family.ppf(family.cdf(x, params), params)
    np.testing.assert_allclose(back, x, rtol=1e-9 if family.kind == "continuous" else 0)


@pytest.mark.parametrize("name", SCIPY)
def test_ends_of_the_support(name: str) -> None:
    family, params = FAMILIES[name], stacked(PARAMETERS[name])
    lower, upper = family.support(params)
    np.testing.assert_array_equal(family.ppf(np.zeros_like(lower), params), lower)
    np.testing.assert_array_equal(family.ppf(np.ones_like(upper), params), upper)
    assert np.isnan(family.ppf(np.full_like(lower, -0.1), params)).all()
    assert np.isnan(family.ppf(np.full_like(lower, 1.1), params)).all()
    for end, outside, probability in ((lower, lower - 1, 0.0), (upper, upper + 1, 1.0)):
        if np.isfinite(end).all():
            assert (family.logpdf(outside, params) == -np.inf).all()
            assert (family.cdf(outside, params) == probability).all()
    assert (family.cdf(np.full_like(lower, -np.inf), params) == 0).all()
    assert (family.cdf(np.full_like(upper, np.inf), params) == 1).all()


@pytest.mark.parametrize(
    ("name", "params", "at"),
    [
        ("normal", {"mean": 3, "std": 0}, 3),
        ("gamma", {"mean": 3, "std": 0}, 3),
        ("gamma", {"mean": 0, "std": 0}, 0),
        ("lognormal", {"mean_log": 0, "std_log": 0}, 1),
        ("exponential", {"mean": 0}, 0),
        ("weibull", {"shape": 2, "scale": 0}, 0),
        ("uniform", {"min": 2, "max": 2}, 2),
        ("beta", {"a": 1, "b": 1, "min": 2, "max": 2}, 2),
        ("truncnorm", {"norm_loc": 3, "norm_scale": 0, "min": 0, "max": 2}, 2),
        ("truncnorm", {"norm_loc": -3, "norm_scale": 0, "min": 0, "max": 2}, 0),
        ("truncnorm", {"norm_loc": 1.5, "norm_scale": 0, "min": 0, "max": 2}, 1.5),
        ("truncnorm", {"norm_loc": 1, "norm_scale": 1, "min": 2, "max": 2}, 2),
        ("poisson", {"mean": 0}, 0),
        ("ztpoisson", {"mean": 1}, 1),
        ("shifted_poisson", {"mean": 1}, 1),
        ("geometric", {"mean": 1}, 1),
        ("negative_binomial", {"mean": 0, "dispersion": 2}, 0),
        ("shifted_negative_binomial", {"mean": 1, "dispersion": 2}, 1),
    ],
)
def test_distributions_of_a_single_point(name: str, params: dict[str, float], at: float) -> None:
    family, groups = FAMILIES[name], stacked([params])
    assert family.mean(groups).tolist() == [at]
    assert family.std(groups).tolist() == [0]
    assert family.ppf(np.array([[1e-9, 0.5, 0.99]]), groups).tolist() == [[at] * 3]
    assert family.cdf(np.array([[at - 1, at, at + 1]]), groups).tolist() == [[0, 1, 1]]
    below, _ = family.cdf_sides(np.array([[at - 1, at, at + 1]]), groups)
    assert below.tolist() == [[0, 0, 1]]
    assert family.logpdf(np.array([[at, at + 1]]), groups).tolist() == [
        [np.inf if family.kind == "continuous" else 0, -np.inf]
    ]
    sample = Sample.from_values([[at, at]])
    assert ks(sample, family, groups).tolist() == [0]
    assert wasserstein(sample, family, groups).tolist() == [0]


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if name != "zero"])
def test_nan_parameters_give_nan(name: str) -> None:
    family = FAMILIES[name]
    params = {p.name: np.full((1, 2) if p.is_list else 1, np.nan) for p in family.parameters}
    sample = Sample.from_values([[1, 2, 3]])
    for result in (
        family.mean(params),
        family.std(params),
        *family.support(params),
        *(family.logpdf(x, params) for x in (-1e9, 1.0, 1e9)),
        *(family.cdf(x, params) for x in (-1e9, 1.0, 1e9)),
        family.ppf(0.5, params),
        family.loglik(sample, params),
        ks(sample, family, params),
        wasserstein(sample, family, params),
    ):
        assert np.isnan(result).all()


def test_values_may_be_scalars_one_or_many_a_group() -> None:
    family, params = family_named("gamma"), stacked(PARAMETERS["gamma"])
    one = family.cdf(np.array([1.0, 2, 1e-7, 50]), params)
    assert one.shape == (4,)
    assert family.cdf(1.0, params).shape == (4,)
    many = family.cdf(np.array([[1.0], [2], [1e-7], [50]]), params)
    assert many[:, 0].tolist() == one.tolist()


def test_sides_of_a_step() -> None:
    poisson = stacked([{"mean": 2.0}])
    below, upto = family_named("poisson").cdf_sides(np.array([[0, 1.5, 2]]), poisson)
    np.testing.assert_allclose(upto[0], stats.poisson(2).cdf([0, 1, 2]))
    np.testing.assert_allclose(below[0], stats.poisson(2).cdf([-1, 1, 1]))
    normal = stacked([{"mean": 0.0, "std": 1.0}])
    below, upto = family_named("normal").cdf_sides(np.array([[0.3]]), normal)
    assert below == upto


def test_free_parameters() -> None:
    counted = {
        name: int(family.n_free({p.name: np.ones(1) for p in family.parameters})[0])
        for name, family in FAMILIES.items()
        if name not in {"discrete", "quantiles", "zero"}
    }
    assert counted == {
        "constant": 1, "normal": 2, "truncnorm": 4, "gamma": 2, "poisson": 1, "ztpoisson": 1,
        "lognormal": 2, "weibull": 2, "beta": 4, "exponential": 1, "uniform": 2,
        "negative_binomial": 2, "geometric": 1, "shifted_poisson": 1,
        "shifted_negative_binomial": 2,
        # The point beside which the others are is known; its share is not.
        "inflated_gamma": 3, "inflated_lognormal": 3, "inflated_normal": 3,
        "inflated_truncnorm": 5, "inflated_ztpoisson": 2,
    }  # fmt: skip


FINITE = st.floats(-1e100, 1e100, allow_subnormal=False)


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(0, 8)),
        elements=st.one_of(FINITE, st.integers(-2, 5).map(float), st.sampled_from([0.1, 0.25])),
    )
)
def test_a_fit_is_finite_or_says_why(values: np.ndarray) -> None:
    sample = Sample.from_values(list(values))
    for family in FAMILIES.values():
        estimate = family.fit(sample)
        ok = estimate.status == "ok"
        assert (ok == (estimate.message == "")).all()
        assert not any("nan" in message for message in estimate.message)
        for parameter in family.parameters:
            value = estimate.parameters[parameter.name]
            error = estimate.std_error[parameter.name]
            first = value[:, 0] if parameter.is_list else value
            assert (np.isfinite(first) == ok).all()
            assert not np.isinf(error).any()
            assert (np.isnan(error) | (error >= 0)).all()
            known = value[~np.isnan(value)]
            assert (known >= parameter.lower).all()
            assert (known <= parameter.upper).all()


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
    Trial("shifted_negative_binomial", {"mean": 6, "dispersion": 1.5}, 2000, 3),
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
    ("shifted_negative_binomial", {"mean": 5, "dispersion": 2}),
]


@pytest.mark.parametrize(
    ("name", "distribution"), DISTRIBUTIONS_TO_FIT, ids=[name for name, _ in DISTRIBUTIONS_TO_FIT]
)
def test_estimates_are_maxima_of_the_likelihood(name: str, distribution: dict[str, float]) -> None:
    values = SCIPY[name](**distribution).rvs(400, random_state=3)
    sample = Sample.from_values([values])
    family = FAMILIES[name]
    groups = family.fit(sample).parameters
    best = {key: float(value[0]) for key, value in groups.items()}
    maximum = loglik_by_scipy(name, values, best)
    np.testing.assert_allclose(family.loglik(sample, groups), maximum, rtol=1e-10)
    # An end of the support moves outwards only: inside it would leave out values.
    outwards = {"min": -1, "max": 1}
    for key, value in best.items():
        signs = [outwards[key]] if key in outwards else [-1, 1]
        for sign in signs:
            neighbour = best | {key: value + sign * 1e-3 * max(abs(value), 0.1)}
            assert loglik_by_scipy(name, values, neighbour) < maximum


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
        return -loglik_by_scipy(name, values, params)

    options = {"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-9}
    found = optimize.minimize(loss, np.full(len(free), 1.1), method="Nelder-Mead", options=options)
    assert loglik_by_scipy(name, values, best) >= -found.fun - 1e-6
    np.testing.assert_allclose(found.x, 1, rtol=2e-3)


@pytest.mark.parametrize("name", ["normal", "gamma", "lognormal", "exponential", "uniform"])
def test_loglik_of_large_samples_is_exact_where_moments_suffice(name: str) -> None:
    distribution = dict(DISTRIBUTIONS_TO_FIT)[name]
    values = SCIPY[name](**distribution).rvs(20 * POINTS, random_state=2)
    sample = Sample.from_values([values])
    assert not sample.exact[0]
    found = FAMILIES[name].loglik(sample, stacked([distribution]))
    np.testing.assert_allclose(found, loglik_by_scipy(name, values, distribution), rtol=1e-10)


def test_loglik_of_thinned_samples_is_near() -> None:
    distribution = {"shape": 1.5, "scale": 2}
    values = SCIPY["weibull"](**distribution).rvs(20 * POINTS, random_state=2)
    found = family_named("weibull").loglik(Sample.from_values([values]), stacked([distribution]))
    np.testing.assert_allclose(found, loglik_by_scipy("weibull", values, distribution), rtol=1e-6)


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
    ("shifted_negative_binomial", [0, 1], "outside the support: found 0, expected values >= 1"),
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
