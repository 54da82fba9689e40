"""Distances of samples from distributions against scipy and against fine integrals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from known_distributions import PARAMETERS, SCIPY, stacked
from scipy import stats

from connprops.families.goodness import is_rejected, ks, wasserstein, weight_of_fold
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import Sample


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


def _distance(values: np.ndarray, oracle: Any, kind: str) -> float:
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


def test_right_distributions_are_hardly_ever_rejected_and_wrong_ones_are() -> None:
    rng = np.random.default_rng(4)
    for n, power in ((20, 0.5), (200, 0.99)):
        values, rank = np.sort(rng.random((3000, n)), axis=1), np.arange(n)

        def rejected(x: Any, n: int = n, rank: Any = rank) -> float:
            distance = np.maximum((rank + 1) / n - x, x - rank / n).max(axis=1)
            return float(is_rejected(distance, np.full(len(x), float(n))).mean())

        assert rejected(values) < 0.012
        assert rejected(values**3) > power
    assert not is_rejected(np.array([0.9, 0.04]), np.array([19.0, 1e6])).any()


def test_values_of_neighbouring_ranks_are_left_out_independently():
    """The extremes of a sample, say: together in a share of 1/25, whatever ranks these have."""
    first = np.random.default_rng(2).integers(0, 2**16, (4000, 1))
    weight = np.ones((4000, 12))
    by_fold = [weight_of_fold(weight, fold, first) for fold in range(5)]
    np.testing.assert_array_equal(sum(by_fold), weight)
    assert by_fold[0].mean() == pytest.approx(0.2, abs=0.01)
    together = by_fold[0][:, :-1] * by_fold[0][:, 1:]
    np.testing.assert_allclose(together.mean(axis=0), 0.04, atol=0.015)
    thinned = weight_of_fold(np.full((4000, 3), 4.0), 0, first)
    np.testing.assert_array_equal(thinned, by_fold[0].reshape(4000, 3, 4).sum(axis=2))


def test_the_distance_of_counts_is_the_same_beside_counts_that_spread_wide():
    rng = np.random.default_rng(4)
    values = [rng.poisson(2, 30), rng.poisson(90, 30), rng.poisson(5, 30)]
    mean = np.array([2.0, 90.0, 5.0])
    together = wasserstein(Sample.from_values(values), FAMILIES["poisson"], {"mean": mean})
    alone = [
        wasserstein(Sample.from_values([x]), FAMILIES["poisson"], {"mean": mean[i : i + 1]})[0]
        for i, x in enumerate(values)
    ]
    assert together == pytest.approx(alone, rel=1e-14)
