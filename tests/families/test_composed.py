"""Families made of others, against what they say: values moved up, or rounded within bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_distributions import SCIPY, stacked
from scipy import stats

from connprops.families.composed import adapted, inflated, rounded
from connprops.families.goodness import ks, wasserstein
from connprops.families.registry import FAMILIES
from connprops.families.sample import POINTS, Known, Sample

BEFORE = {
    "gamma": {"mean": 3.0, "std": 1.6},
    "lognormal": {"mean_log": 1.2, "std_log": 0.6},
    "normal": {"mean": 4.0, "std": 2.0},
    "weibull": {"shape": 1.5, "scale": 6.0},
    "truncnorm": {"norm_loc": 3.0, "norm_scale": 2.0, "min": 0.5, "max": 8.5},
    "exponential": {"mean": 3.0},
}


def masses(name: str, lower: float, upper: float) -> tuple[np.ndarray, np.ndarray]:
    """Return whole numbers, and how much of the values before rounding becomes each."""
    k = np.arange(max(lower, -10), min(upper, 400) + 1)
    upto = SCIPY[name](**BEFORE[name]).cdf(k + 0.5)
    if np.isfinite(upper):
        upto[-1] = 1.0
    return k, np.diff(upto, prepend=0.0)


@pytest.mark.parametrize(("lower", "upper"), [(-np.inf, np.inf), (1.0, np.inf), (2.0, 6.0)])
@pytest.mark.parametrize("name", BEFORE)
def test_counts_have_the_mass_of_what_is_rounded_to_them(name, lower, upper):
    family, params = rounded(FAMILIES[name], lower, upper), stacked([BEFORE[name]])
    k, mass = masses(name, lower, upper)
    known = mass > 1e-8  # where differences have digits
    found = np.exp(family.logpdf(k[None], params)[0])
    np.testing.assert_allclose(found[known], mass[known], rtol=1e-6)
    np.testing.assert_allclose(family.cdf(k[None], params)[0], np.cumsum(mass), rtol=1e-9)
    assert family.logpdf(np.array([[2.5]]), params).tolist() == [[-np.inf]]
    mean = mass @ k
    assert family.mean(params)[0] == pytest.approx(mean, abs=1e-6)
    assert family.std(params)[0] == pytest.approx(np.sqrt(mass @ (k - mean) ** 2), rel=1e-5)
    q = np.random.default_rng(1).random((1, 500))
    drawn = np.clip(np.rint(FAMILIES[name].ppf(q, params)), lower, upper)
    np.testing.assert_array_equal(family.ppf(q, params), drawn)
    np.testing.assert_array_equal(family.ppf(family.cdf(drawn, params), params), drawn)
    assert (family.name, family.kind, family.parameters) == (
        name, "discrete", FAMILIES[name].parameters
    )  # fmt: skip


def test_counts_far_in_the_tail_have_a_mass_that_differences_cannot_tell():
    family = rounded(FAMILIES["gamma"], 1.0)
    params = stacked([{"mean": 2.0, "std": 1.0}])
    before = stats.gamma(4, scale=0.5)
    k = np.array([[15.0, 25, 60]])
    expected = np.log(before.sf(k - 0.5) - before.sf(k + 0.5))
    np.testing.assert_allclose(family.logpdf(k, params), expected, atol=0.03)


def test_values_that_spread_wide_have_the_moments_from_before_rounding():
    params = stacked([{"mean": 5e6, "std": 2e6}])
    family = rounded(FAMILIES["gamma"])
    assert family.mean(params)[0] == 5e6
    assert family.std(params)[0] == pytest.approx(2e6)


ROUNDED = [
    ("gamma", {"mean": 3.0, "std": 1.2}, 1.0, 200),
    ("gamma", {"mean": 1.2, "std": 0.6}, 1.0, 500),
    ("gamma", {"mean": 2.0, "std": 1.5}, 0.0, 200),
    ("lognormal", {"mean_log": 1.0, "std_log": 0.5}, 1.0, 200),
    ("normal", {"mean": 4.0, "std": 0.8}, -np.inf, 200),
    ("weibull", {"shape": 2.0, "scale": 4.0}, 0.0, 300),
]


@pytest.mark.parametrize(("name", "truth", "lower", "n"), ROUNDED)
def test_what_counts_were_rounded_from_is_recovered_within_its_errors(name, truth, lower, n):
    replicates = 300
    values = SCIPY[name](**truth).rvs((replicates, n), random_state=3)
    sample = Sample.from_values(list(np.maximum(np.rint(values), lower)))
    estimate = rounded(FAMILIES[name], lower).fit(sample)
    assert (estimate.status == "ok").all()
    for key, value in truth.items():
        z = (estimate.parameters[key] - value) / estimate.std_error[key]
        assert np.isfinite(z).mean() > 0.99
        z = z[np.isfinite(z)]
        assert abs(z.mean()) < 4 / np.sqrt(replicates) + 3 / np.sqrt(n), key
        assert abs(z.std() - 1) < 0.2, key


def test_estimates_of_counts_are_maxima_of_the_likelihood():
    values = np.maximum(1, np.rint(stats.gamma(3, scale=0.9).rvs(150, random_state=1)))
    family, sample = rounded(FAMILIES["gamma"], 1.0), Sample.from_values([values])
    best = {key: float(value[0]) for key, value in family.fit(sample).parameters.items()}
    count = np.arange(1, values.max() + 1)
    n = np.array([(values == k).sum() for k in count])

    def loglik(params: dict[str, float]) -> float:
        before = SCIPY["gamma"](**params)
        upto = np.where(count < 1, 0, before.cdf(count + 0.5))
        return float(n @ np.log(np.diff(upto, prepend=0.0)))

    assert family.loglik(sample, stacked([best]))[0] == pytest.approx(loglik(best))
    for key, value in best.items():
        for factor in (0.98, 1.02):
            assert loglik(best | {key: value * factor}) < loglik(best)


def test_counts_that_spread_wide_are_fitted_as_if_they_were_no_counts():
    values = np.rint(stats.lognorm(0.5, scale=400).rvs(300, random_state=2))
    sample = Sample.from_values([values])
    family = FAMILIES["lognormal"]
    whole, exact = rounded(family, 1.0).fit(sample), family.fit(sample)
    for key, value in exact.parameters.items():
        assert whole.parameters[key][0] == pytest.approx(value[0], rel=1e-6)


def test_only_continuous_families_of_counts_are_rounded():
    gamma, poisson = FAMILIES["gamma"], FAMILIES["poisson"]
    assert adapted(gamma, Known()) is gamma
    assert adapted(poisson, Known(rounded=True)) is poisson
    assert adapted(gamma, Known(rounded=True, lower=1.0)).kind == "discrete"
    assert Known.of_counts(3.0) == Known(rounded=True, lower=1.0)
    assert Known.of_counts(0.0, upper=9.0) == Known(rounded=True, lower=0.0, upper=9.0)
    assert Known.of_counts(-2.0).lower == -np.inf


def test_what_is_no_count_is_not_fitted_as_one():
    sample = Sample.from_values([[1.5, 2, 3], [-1, 2, 3], [0, 2, 5]])
    estimate = rounded(FAMILIES["gamma"], 0.0).fit(sample)
    assert estimate.message.tolist() == [
        "not a count: found 1.5, expected whole numbers",
        "outside the support: found -1, expected values >= 0",
        "",
    ]


def test_a_shifted_family_is_the_family_of_what_is_above_one():
    values: list[Any] = [1 + stats.nbinom(2, 0.3).rvs(400, random_state=5)]
    below = [values[0] - 1]
    family, before = FAMILIES["shifted_negative_binomial"], FAMILIES["negative_binomial"]
    found, expected = family.fit(Sample.from_values(values)), before.fit(Sample.from_values(below))
    assert found.parameters["mean"][0] == expected.parameters["mean"][0] + 1
    for key in ("mean", "dispersion"):
        assert found.std_error[key][0] == pytest.approx(expected.std_error[key][0])
    assert found.parameters["dispersion"][0] == expected.parameters["dispersion"][0]


BESIDE = [
    ("gamma", {"mean": 2.0, "std": 1.0}, 0.0, 0.25),
    ("normal", {"mean": 2.0, "std": 1.0}, 1.5, 0.1),
    ("gamma", {"mean": 2.0, "std": 1.0}, -1.0, 0.0),
]


@pytest.mark.parametrize(("name", "others", "point", "share"), BESIDE)
def test_a_family_beside_a_point_is_a_mixture_of_both(name, others, point, share):
    family = FAMILIES[f"inflated_{name}"]
    assert family is inflated(FAMILIES[name])
    params = stacked([others | {"point": point, "p_point": share}])
    beside = SCIPY[name](**others)
    x = np.array([-3, -1, 0, 0.7, 1.5, 2.2, 9])
    upto = (1 - share) * beside.cdf(x) + share * (x >= point)
    np.testing.assert_allclose(family.cdf(x[None], params)[0], upto, atol=1e-14)
    below, _ = family.cdf_sides(x[None], params)
    np.testing.assert_allclose(below[0], upto - share * (x == point), atol=1e-14)
    density = np.where((x == point) & (share > 0), share, (1 - share) * beside.pdf(x))
    np.testing.assert_allclose(np.exp(family.logpdf(x[None], params)[0]), density, atol=1e-14)
    mean = (1 - share) * beside.mean() + share * point
    square = (1 - share) * (beside.var() + beside.mean() ** 2) + share * point**2
    assert family.mean(params)[0] == pytest.approx(mean)
    assert family.std(params)[0] == pytest.approx(np.sqrt(square - mean**2))
    q = np.random.default_rng(2).random((1, 2000))
    drawn = family.ppf(q, params)
    rank = np.sort(drawn[0])
    assert (drawn == point).mean() == pytest.approx(share, abs=0.03)
    after = np.searchsorted(rank, x, side="right") / rank.size
    np.testing.assert_allclose(after, upto, atol=0.04)
    again = family.ppf(family.cdf(drawn, params), params)
    np.testing.assert_allclose(again, drawn, rtol=1e-9)


@pytest.mark.parametrize("n", [400, 20 * POINTS])
def test_the_share_of_a_point_and_the_family_beside_it_are_recovered(n):
    rng = np.random.default_rng(4)
    values = np.where(rng.random((60, n)) < 0.2, 0.0, rng.gamma(4, 0.5, (60, n)))
    sample = Sample.from_values(list(values))
    family = FAMILIES["inflated_gamma"]
    estimate = family.fit(sample)
    found = estimate.parameters
    np.testing.assert_array_equal(found["p_point"], (values == 0).mean(axis=1))
    for key, truth in (("mean", 2.0), ("std", 1.0), ("p_point", 0.2)):
        z = (found[key] - truth) / estimate.std_error[key]
        assert abs(z.mean()) < 4 / np.sqrt(60) + 2.5 / np.sqrt(n), key
        assert abs(z.std() - 1) < 4 / np.sqrt(2 * 60), key
    alone = FAMILIES["gamma"].fit(Sample.from_values([row[row > 0] for row in values]))
    tolerance = 1e-9 if n < POINTS else 3e-3  # a thinned sample's moments are those of its points
    np.testing.assert_allclose(found["std"], alone.parameters["std"], rtol=tolerance)
    assert ks(sample, family, found).max() < 1.5 / np.sqrt(n)
    assert wasserstein(sample, family, found).max() < 3 / np.sqrt(n)


def test_where_there_is_no_such_value_the_family_is_alone():
    values = np.random.default_rng(5).gamma(4, 1, (3, 50))
    sample = replace(Sample.from_values(list(values)), known=Known(point=-1.0, repeats=True))
    found, alone = FAMILIES["inflated_gamma"].fit(sample), FAMILIES["gamma"].fit(sample)
    assert found.parameters["p_point"].tolist() == [0, 0, 0]
    assert np.isnan(found.std_error["p_point"]).all()
    np.testing.assert_array_equal(found.parameters["std"], alone.parameters["std"])


def test_zero_inflated_counts_are_zeros_beside_counts_from_one_on():
    """With another name for their parameters, zero-inflated Poisson distributions."""
    rng = np.random.default_rng(6)
    values = np.where(rng.random(30_000) < 0.3, 0, rng.poisson(4, 30_000))
    family = FAMILIES["inflated_ztpoisson"]
    found = family.fit(Sample.from_values([values])).parameters
    k = np.arange(15.0)
    expected = 0.7 * stats.poisson(4).pmf(k) + 0.3 * (k == 0)
    np.testing.assert_allclose(np.exp(family.logpdf(k[None], found)[0]), expected, atol=0.006)
    assert family.std(found)[0] == pytest.approx(values.std(), rel=0.02)


@pytest.mark.parametrize(("values", "message"), [
    ([0.0, 0, 0], "too few values: found 0, expected at least 2"),
    ([0.0, -1, 2, 3], "outside the support: found -1, expected values > 0"),
    ([0.0, 2, 2, 2], "constant: found 2 in all 3 values, expected different values"),
])  # fmt: skip
def test_what_is_not_the_point_has_to_suit_the_family(values, message):
    assert FAMILIES["inflated_gamma"].fit(Sample.from_values([values])).message.tolist() == [
        message
    ]


def test_lists_of_quantiles_are_of_whole_numbers_too():
    counts = np.random.default_rng(3).negative_binomial(3, 0.2, (2, 400)) * 1.0
    family = rounded(FAMILIES["quantiles"])
    found = family.fit(Sample.from_values(counts))
    assert found.status.tolist() == ["ok", "ok"]
    np.testing.assert_allclose(family.mean(found.parameters), counts.mean(axis=1), rtol=0.02)
    np.testing.assert_allclose(family.std(found.parameters), counts.std(axis=1), rtol=0.03)
    k = np.arange(60.0)
    upto = (counts[:, :, None] <= k).mean(axis=1)
    np.testing.assert_allclose(family.cdf(np.tile(k, (2, 1)), found.parameters), upto, atol=0.05)


def test_a_count_may_be_the_point_and_one_of_the_others():
    family = FAMILIES["inflated_ztpoisson"]
    parameters = {"mean": np.array([2.5]), "point": np.array([3.0]), "p_point": np.array([0.2])}
    k = np.arange(60.0)
    mass = np.exp(family.logpdf(k[None], parameters)[0])
    assert mass.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.cumsum(mass), family.cdf(k[None], parameters)[0], atol=1e-12)
