"""Single points, lists of values, and counts."""

from __future__ import annotations

import numpy as np
import pytest
from known_distributions import stacked
from scipy import stats

from connprops.families.registry import family_named
from connprops.families.sample import Sample


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


def test_thinned_samples_are_no_lists_of_values() -> None:
    sample = Sample.from_values([np.arange(5000)])
    message = family_named("discrete").fit(sample).message[0]
    assert message.startswith("too many distinct values: found more than ")


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
