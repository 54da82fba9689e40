"""What is drawn from distributions, against quantiles of scipy's, bounded and rounded by numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from connprops.distributions.distributions import Distributions
from connprops.distributions.drawn import as_drawn
from connprops.families.goodness import ks, wasserstein
from connprops.families.registry import family_named
from connprops.families.sample import Sample

N = 100_000
Q = (np.arange(N) + 0.5) / N

CASES = {
    "normal": ({"mean": 1.0, "std": 0.8}, stats.norm(1, 0.8)),
    "gamma": ({"mean": 6.0, "std": 3.0}, stats.gamma(4, scale=1.5)),
    "exponential": ({"mean": 2.0}, stats.expon(scale=2)),
    "uniform": ({"min": -1.0, "max": 5.5}, stats.uniform(-1, 6.5)),
    "poisson": ({"mean": 3.0}, stats.poisson(3)),
    "constant": ({"mean": 2.3}, stats.norm(2.3, 0)),
}


def drawn(name, values, lower, upper, *, whole=False, n=1):
    arrays = {key: np.full(n, value) for key, value in values.items()}
    bounds = np.full(n, lower), np.full(n, upper)
    return as_drawn(Distributions(family_named(name), np.arange(n), arrays, *bounds), whole=whole)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    "bounds", [(-np.inf, np.inf), (0, np.inf), (-np.inf, 2.5), (0.4, 3), (9, 9)]
)
@pytest.mark.parametrize("name", CASES)
def test_moments_probabilities_and_quantiles(name, bounds, whole):
    values, truth = CASES[name]
    x = np.full(N, 2.3) if name == "constant" else truth.ppf(Q)
    x = np.clip(x, *bounds)
    x = np.rint(x) if whole else x
    family, parameters = drawn(name, values, *bounds, whole=whole)
    assert family.mean(parameters) == pytest.approx(x.mean(), abs=3e-4)
    assert family.std(parameters) == pytest.approx(x.std(), abs=1e-3)
    at = np.array([[-1.0, 0.0, 0.4, 1.0, 1.7, 2.0, 2.3, 2.5, 3.0, 9.0]])
    below, upto = family.cdf_sides(at, parameters)
    np.testing.assert_allclose(below[0], (x[:, None] < at).mean(axis=0), atol=2e-5)
    np.testing.assert_allclose(upto[0], (x[:, None] <= at).mean(axis=0), atol=2e-5)
    q = np.array([[1e-3, 0.2, 0.503, 0.9, 0.99]])
    np.testing.assert_allclose(
        family.ppf(q, parameters)[0], np.quantile(x, q[0], method="inverted_cdf"), atol=3e-3
    )


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", ["normal", "gamma", "poisson"])
def test_distances_are_those_of_drawn_values(name, whole):
    values, truth = CASES[name]
    x = np.clip(truth.ppf(Q), 0.5, 4)
    x = np.rint(x) if whole else x
    data = np.array([0.0, 0.5, 0.5, 1.0, 2.0, 2.0, 3.0, 4.0, 4.0, 5.0])
    family, parameters = drawn(name, values, 0.5, 4, whole=whole)
    sample = Sample.from_values([data])
    every = np.union1d(np.unique(x), data)
    steps = [(v[:, None] <= every).mean(axis=0) for v in (data, x)] if every.size < 99 else None
    distance = wasserstein(sample, family, parameters)
    assert distance == pytest.approx(stats.wasserstein_distance(data, x), rel=0.01)
    if steps is not None:
        assert ks(sample, family, parameters) == pytest.approx(
            np.abs(steps[0] - steps[1]).max(), abs=2e-5
        )


def test_many_whole_numbers_vary_by_their_rounding_too():
    x = np.rint(stats.norm(0, 100).ppf(Q))
    family, parameters = drawn("normal", {"mean": 0.0, "std": 100.0}, -np.inf, np.inf, whole=True)
    assert family.std(parameters) ** 2 == pytest.approx(x.var(), rel=1e-5)


def test_lists_are_bounded_value_by_value():
    values = {"val": np.array([[0.0, 1.5, 7.0]]), "p": np.array([[0.5, 0.2, 0.3]])}
    lists = Distributions(
        family_named("discrete"), np.arange(1), values, np.array(1.0), np.array(5.0)
    )
    family, parameters = as_drawn(lists, whole=True)
    assert family.mean(parameters) == pytest.approx(0.5 * 1 + 0.2 * 2 + 0.3 * 5)


def test_a_distribution_does_not_depend_on_those_beside_it():
    one = drawn("normal", {"mean": 2.0, "std": 1.0}, 1, np.inf, whole=True)
    means, stds = np.array([2.0, 2000.0, np.nan]), np.array([1.0, 900.0, 1.0])
    three = as_drawn(
        Distributions(
            family_named("normal"), np.arange(3), {"mean": means, "std": stds}, np.array(1.0)
        ),
        whole=True,
    )
    for what in ("mean", "std"):
        assert getattr(three[0], what)(three[1])[0] == getattr(one[0], what)(one[1])[0]
        assert np.isnan(getattr(three[0], what)(three[1])[2])
