"""The families agree with scipy, and their estimators are unbiased, efficient and never wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_distributions import PARAMETERS, SCIPY, stacked
from scipy import integrate, stats

from connprops.errors import OptionError
from connprops.families.goodness import ks, wasserstein
from connprops.families.registry import FAMILIES, REFERENCE_FAMILIES, family_named
from connprops.families.sample import Sample

Float = np.ndarray


def values_of(distribution: Any, q: Float, kind: str) -> Float:
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


def test_truncated_normal_moments_far_in_the_tails() -> None:
    distributions = [
        {"norm_loc": -1000.0, "norm_scale": 1.0, "min": 0.0, "max": 1.0},
        {"norm_loc": 40.0, "norm_scale": 2.0, "min": -1.0, "max": 1.0},
        {"norm_loc": 0.0, "norm_scale": 1e5, "min": 0.0, "max": 1.0},
    ]
    family = family_named("truncnorm")
    for distribution in distributions:
        near = 0.0 if distribution["norm_loc"] <= 0 else 1.0

        def density(
            x: float, distribution: Mapping[str, float] = distribution, near: float = near
        ) -> float:
            """Return the density over that at the nearer end."""
            loc = distribution["norm_loc"]
            return float(
                np.exp(-(x - near) * (x + near - 2 * loc) / 2 / distribution["norm_scale"] ** 2)
            )

        slope = max(abs(near - distribution["norm_loc"]) / distribution["norm_scale"] ** 2, 1)
        start = max(distribution["min"], near - 60 / slope) if near else distribution["min"]
        stop = distribution["max"] if near else min(distribution["max"], 60 / slope)
        total, mean, second = (
            integrate.quad(lambda x, k=k: x**k * density(x), start, stop, epsabs=0, epsrel=1e-12)[0]
            for k in range(3)
        )
        mean, second = mean / total, second / total
        np.testing.assert_allclose(family.mean(stacked([distribution])), mean, rtol=1e-9)
        np.testing.assert_allclose(
            family.std(stacked([distribution])), np.sqrt(second - mean**2), rtol=1e-6
        )


def test_truncated_normal_with_an_open_end() -> None:
    distribution = stacked([{"norm_loc": 1, "norm_scale": 2, "min": 0, "max": np.inf}])
    oracle = stats.truncnorm(-0.5, np.inf, 1, 2)
    family = family_named("truncnorm")
    x = np.array([[0.1, 1, 7]])
    np.testing.assert_allclose(family.mean(distribution), oracle.mean(), rtol=1e-10)
    np.testing.assert_allclose(family.std(distribution), oracle.std(), rtol=1e-10)
    np.testing.assert_allclose(family.cdf(x, distribution), oracle.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(family.ppf(oracle.cdf(x), distribution), x, rtol=1e-12)


def test_zero_truncated_poisson_next_to_its_smallest_mean() -> None:
    excess = np.array([0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 0.1])
    excess = (1 + excess) - 1  # what of it a float near 1 can hold
    family, params = family_named("ztpoisson"), {"mean": 1 + excess}
    k = np.broadcast_to(np.arange(1.0, 30), (7, 29))
    mass = np.exp(family.logpdf(k, params))
    np.testing.assert_allclose(mass.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(((k - 1) * mass).sum(axis=1), excess, rtol=1e-9)
    assert family.ppf(np.full(7, 0.999999), params)[:4].tolist() == [1, 1, 1, 1]


def test_discrete_lists() -> None:
    params = {
        "val": np.array([[3, 1, 2.5], [7, np.nan, np.nan]]),
        "p": np.array([[0.5, 0.2, 0.3], [1, np.nan, np.nan]]),
    }
    family = family_named("discrete")
    np.testing.assert_allclose(family.mean(params), [2.45, 7])
    np.testing.assert_allclose(family.std(params), [np.sqrt(6.575 - 2.45**2), 0], atol=1e-15)
    assert [end.tolist() for end in family.support(params)] == [[1, 7], [3, 7]]
    assert family.n_free(params).tolist() == [2, 0]
    x = np.array([[0, 1, 2, 2.5, 3, 9], [0, 1, 2, 7, 3, 9]])
    np.testing.assert_allclose(
        family.cdf(x, params), [[0, 0.2, 0.2, 0.5, 1, 1], [0, 0, 0, 1, 0, 1]]
    )
    mass = [[0, 0.2, 0, 0.3, 0.5, 0], [0, 0, 0, 1, 0, 0]]
    np.testing.assert_allclose(np.exp(family.logpdf(x, params)), mass)
    q = np.array([[0, 0.1, 0.2, 0.3, 0.51, 1]] * 2)
    assert family.ppf(q, params).tolist() == [[1, 1, 1, 2.5, 3, 3], [7] * 6]


def test_constant_and_zero() -> None:
    constant, zero = family_named("constant"), family_named("zero")
    params = {"mean": np.array([2.0, -1])}
    assert constant.ppf(np.array([[0, 0.4, 1]] * 2), params).tolist() == [[2] * 3, [-1] * 3]
    assert constant.cdf(np.array([[1, 2], [-1, 0]]), params).tolist() == [[0, 1], [1, 1]]
    assert constant.logpdf(np.array([2.0, 0]), params).tolist() == [0, -np.inf]
    assert constant.std(params).tolist() == [0, 0]
    assert zero.ppf(np.array([0, 0.5, 1]), {}).tolist() == [0, 0, 0]
    assert zero.cdf(np.array([-1, 0, 1]), {}).tolist() == [0, 1, 1]
    assert (zero.mean({}), zero.std({}), zero.n_free({})) == (0, 0, 0)


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
        if name not in {"discrete", "zero"}
    }
    assert counted == {
        "constant": 1, "normal": 2, "truncnorm": 4, "gamma": 2, "poisson": 1, "ztpoisson": 1,
        "lognormal": 2, "weibull": 2, "beta": 4, "exponential": 1, "uniform": 2,
        "negative_binomial": 2, "geometric": 1, "shifted_poisson": 1,
    }  # fmt: skip


def test_the_registry_is_closed_and_complete() -> None:
    with pytest.raises(TypeError):
        FAMILIES["new"] = FAMILIES["gamma"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILIES["gamma"].name = "other"  # type: ignore[misc]
    assert list(REFERENCE_FAMILIES) == [
        "constant", "normal", "truncnorm", "gamma", "poisson", "ztpoisson", "discrete", "zero"
    ]  # fmt: skip
    assert all(name == family.name for name, family in FAMILIES.items())


def test_an_unknown_family_is_named_with_a_near_one() -> None:
    with pytest.raises(OptionError, match=r"'gama'(?s:.*)did you mean 'gamma'"):
        family_named("gama")


@pytest.mark.parametrize("name", SCIPY)
def test_ks_agrees_with_scipy(name: str) -> None:
    family, distributions = FAMILIES[name], PARAMETERS[name]
    rng = np.random.default_rng(3)
    oracles = [SCIPY[name](**distribution) for distribution in distributions]
    groups = [oracle.rvs(size=200, random_state=rng) for oracle in oracles]
    if family.kind == "continuous":
        expected = [stats.kstest(x, o.cdf).statistic for x, o in zip(groups, oracles, strict=True)]
    else:
        expected = []
        for values, oracle in zip(groups, oracles, strict=True):
            k = np.arange(values.min() - 1, values.max() + 2)
            share = np.searchsorted(np.sort(values), k, side="right") / values.size
            expected.append(np.abs(share - oracle.cdf(k)).max())
    found = ks(Sample.from_values(groups), family, stacked(distributions))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)


def test_ks_of_a_thinned_sample() -> None:
    rng = np.random.default_rng(4)
    groups = [rng.normal(0, 1, 20_000), rng.normal(0.1, 1, 3000)]
    found = ks(
        Sample.from_values(groups), family_named("normal"), stacked(PARAMETERS["normal"][:1] * 2)
    )
    expected = [stats.kstest(x, stats.norm(-3, 2).cdf).statistic for x in groups]
    np.testing.assert_allclose(found, expected, atol=0.0016)


def _distance(values: Float, oracle: Any, kind: str) -> float:
    """Return the Wasserstein distance, from sums and integrals that are as good as exact."""
    if kind == "discrete":  # the distribution functions are constant between integers
        k = np.arange(min(values.min(), 0), max(values.max(), oracle.ppf(1 - 1e-12)) + 1)
        share = np.searchsorted(np.sort(values), k, side="right") / values.size
        return float(np.abs(share - oracle.cdf(k)).sum())
    q = (np.arange(40_000) + 0.5) / 40_000
    return float(np.abs(np.quantile(values, q, method="inverted_cdf") - oracle.ppf(q)).mean())


@pytest.mark.parametrize("size", [1, 3, 150, 4000])
@pytest.mark.parametrize("name", SCIPY)
def test_wasserstein_agrees_with_a_fine_integral(name: str, size: int) -> None:
    family, distributions = FAMILIES[name], PARAMETERS[name]
    rng = np.random.default_rng(5)
    oracles = [SCIPY[name](**distribution) for distribution in distributions]
    groups = [oracle.rvs(size=size, random_state=rng) for oracle in oracles]
    groups[1] = groups[1] * 1.25 if family.kind == "continuous" else groups[1] + 1
    expected = [_distance(x, o, family.kind) for x, o in zip(groups, oracles, strict=True)]
    found = wasserstein(Sample.from_values(groups), family, stacked(distributions))
    std = np.array([oracle.std() for oracle in oracles])
    np.testing.assert_allclose(found / std, expected / std, atol=0.002, rtol=0.01)


def test_goodness_of_fit_without_values_is_nan() -> None:
    sample = Sample.from_values([[], [0.5, 1]])
    distribution = stacked(PARAMETERS["exponential"])
    assert np.isnan(ks(sample, family_named("exponential"), distribution)).tolist() == [True, False]
    assert np.isnan(wasserstein(sample, family_named("exponential"), distribution)).tolist() == [
        True,
        False,
    ]


FINITE = st.floats(-1e100, 1e100, allow_subnormal=False)


@settings(max_examples=150, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(0, 8)),
        elements=st.one_of(FINITE, st.integers(-2, 5).map(float), st.sampled_from([0.1, 0.25])),
    )
)
def test_a_fit_is_finite_or_says_why(values: Float) -> None:
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


@pytest.mark.parametrize("mean", [9e15, 1e17, 1e25])
def test_quantiles_of_counts_end_where_integers_are_no_floats(mean: float) -> None:
    """Beyond 2^53 neighbouring floats are more than 1 apart."""
    q = np.array([[0.01, 0.5, 0.99]])
    geometric = family_named("geometric").ppf(q, stacked([{"mean": mean}]))
    np.testing.assert_allclose(geometric, -mean * np.log1p(-q), rtol=1e-12)
    poisson = family_named("poisson").ppf(q, stacked([{"mean": mean}]))
    np.testing.assert_allclose(poisson, mean + np.sqrt(mean) * stats.norm.ppf(q), rtol=1e-12)
    distribution = stacked([{"mean": mean, "dispersion": 2.0}])
    counts = family_named("negative_binomial").ppf(q, distribution)
    np.testing.assert_allclose(counts, stats.gamma(2, scale=mean / 2).ppf(q), rtol=1e-9)
