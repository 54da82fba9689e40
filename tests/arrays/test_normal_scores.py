"""Correlations of normal scores: what was put in comes out, with ties and errors."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import intraclass
from scipy import stats

from connprops.arrays.normal_scores import (
    FEWEST,
    Classes,
    intraclass_correlations,
    latent_correlations,
    latent_intraclass,
    normal_scores,
)

MARGINS = {
    "normal": lambda z: z,
    "lognormal": np.exp,
    "1 + poisson": lambda z: 1 + stats.poisson.ppf(stats.norm.cdf(z), 0.8),
    "poisson": lambda z: stats.poisson.ppf(stats.norm.cdf(z), 6.0),
    "binary": lambda z: 1.0 * (z > 0.3),
}


def correlated(r, n, groups, seed):
    """Return two (groups * n,) arrays of normal numbers of correlation r."""
    z = np.random.default_rng(seed).standard_normal((2, groups * n))
    return z[0], r * z[0] + np.sqrt(1 - r**2) * z[1]


def estimated(x, y, counts):
    return latent_correlations(normal_scores(x, counts), normal_scores(y, counts))


@pytest.mark.parametrize(("one", "other"), [
    ("normal", "lognormal"), ("normal", "1 + poisson"), ("poisson", "1 + poisson"),
    ("1 + poisson", "binary"), ("binary", "binary"),
])  # fmt: skip
@pytest.mark.parametrize("r", [0.0, 0.4, -0.7])
def test_correlations_put_in_are_recovered_within_their_standard_errors(one, other, r):
    groups, n = 400, 500
    x, y = correlated(r, n, groups, seed=7)
    found = estimated(MARGINS[one](x), MARGINS[other](y), np.full(groups, n))
    z = (found.r - r) / found.std_error
    # Standard normal but for terms of 1/sqrt(n): mean and std of 400, and 95 % intervals.
    assert abs(z.mean()) < 0.2
    assert 0.9 < z.std() < 1.15
    assert 0.91 < (np.abs(z) < 1.96).mean() < 0.985


def test_ties_bring_no_bias():
    x, y = correlated(0.6, 100_000, 1, seed=1)
    counts = np.array([100_000])
    biased = np.corrcoef(MARGINS["1 + poisson"](x), MARGINS["binary"](y))[0, 1]
    assert biased < 0.5
    assert estimated(MARGINS["1 + poisson"](x), MARGINS["binary"](y), counts).r[0] == pytest.approx(
        0.6, abs=0.02
    )


def test_without_ties_it_is_the_correlation_of_normal_scores():
    rng = np.random.default_rng(3)
    counts = np.array([5, 40, 1, 300])
    x = rng.standard_normal(counts.sum())
    y = x**3 + rng.standard_normal(counts.sum())
    found = estimated(x, y, counts)
    for i, (a, b) in enumerate(zip(np.split(x, np.cumsum(counts)), np.split(y, np.cumsum(counts)),
                                   strict=True)):  # fmt: skip
        if i == len(counts):
            break
        if a.size < FEWEST:
            assert np.isnan(found.r[i])
            continue
        # E[z | its rank interval], by integrating the density.
        edges = stats.norm.pdf(stats.norm.ppf(np.arange(a.size + 1) / a.size))
        scores = -np.diff(edges)
        expected = np.corrcoef(scores[stats.rankdata(a).astype(int) - 1],
                               scores[stats.rankdata(b).astype(int) - 1])[0, 1]  # fmt: skip
        assert found.r[i] == pytest.approx(expected, abs=1e-9)


def test_polychoric_correlation_of_a_table_by_its_definition():
    """Find r where the orthant's probability is that of a 2 x 2 table: a tetrachoric one."""
    x = np.repeat([0.0, 0.0, 1.0, 1.0], [300, 100, 150, 250])
    y = np.repeat([0.0, 1.0, 0.0, 1.0], [300, 100, 150, 250])
    r = estimated(x, y, np.array([800])).r[0]
    thresholds = stats.norm.ppf([400 / 800, 450 / 800])
    both_low = stats.multivariate_normal.cdf(thresholds, cov=[[1, r], [r, 1]])
    assert both_low == pytest.approx(300 / 800, abs=2e-4)


def test_the_same_order_is_a_correlation_of_1_and_the_reverse_of_minus_1():
    x = np.array([1.0, 2, 2, 3, 5, 8, 8, 8])
    found = estimated(np.tile(x, 2), np.concatenate([x**2, -x]), np.array([8, 8]))
    np.testing.assert_allclose(found.r, [1, -1], atol=1e-6)
    assert np.isnan(found.std_error).all()  # ties tell no more than that it is near


def test_a_group_does_not_depend_on_the_others():
    x, y = correlated(0.3, 200, 4, seed=5)
    x[300:500] = np.round(x[300:500])
    counts = np.array([200, 100, 200, 300])
    together = estimated(x, y, counts)
    alone = estimated(x[300:500], y[300:500], np.array([200]))
    assert together.r[2] == alone.r[0]
    assert together.std_error[2] == alone.std_error[0]


def test_constant_and_few_values_have_no_correlation():
    x = np.array([1.0, 1, 1, 1, 1, 1, 2, 3])
    y = np.arange(8.0)
    found = estimated(x, y, np.array([5, 3]))
    assert np.isnan(found.r).all()
    assert np.isnan(found.std_error).all()


def simulated(rng, r, n_groups, n_classes):
    sizes = 1 + rng.poisson(4, n_groups * n_classes)
    of = np.repeat(np.arange(sizes.size), sizes)
    z = np.sqrt(r) * rng.normal(size=sizes.size)[of] + np.sqrt(1 - r) * rng.normal(size=of.size)
    return np.exp(z), sizes, np.full(n_groups, n_classes)


@pytest.mark.parametrize("r", [0.0, 0.2, 0.5, 0.8])
def test_simulated_correlations_are_recovered_with_their_errors(r):
    values, sizes, counts = simulated(np.random.default_rng(0), r, 1000, 60)
    found, error = intraclass_correlations(values, Classes(sizes, counts))
    assert found.mean() == pytest.approx(r, abs=0.025)
    assert error.mean() == pytest.approx(found.std(), rel=0.1)
    assert 0.925 <= (np.abs(found - r) < 1.96 * error).mean() <= 0.98


def test_groups_do_not_touch_each_other_and_order_changes_no_bit():
    rng = np.random.default_rng(2)
    values, sizes, counts = simulated(rng, 0.4, 3, 30)
    values = np.round(values, 1)
    values[::17] = np.nan
    found = np.array(intraclass_correlations(values, Classes(sizes, counts)))
    of_classes = np.split(values, np.cumsum(sizes)[:-1])
    for i in range(3):
        own = of_classes[30 * i : 30 * (i + 1)]
        rows = np.split(np.arange(sum(c.size for c in own)), np.cumsum([c.size for c in own])[:-1])
        assert found[:, i] == pytest.approx(intraclass(np.concatenate(own), rows), abs=1e-7)
        own = [rng.permutation(own[j]) for j in rng.permutation(30)]
        shuffled = np.array([c.size for c in own])
        alone = intraclass_correlations(np.concatenate(own), Classes(shuffled, np.array([30])))
        assert np.array(alone)[:, 0].tobytes() == found[:, i].tobytes()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4"])
def test_values_of_any_type_are_scored_by_their_ranks(dtype):
    values, sizes, counts = simulated(np.random.default_rng(3), 0.4, 4, 50)
    values = np.log(values) * 2e9
    if dtype[0] == "f":
        values[::14] = -0.0
    else:
        bits = 8 * int(dtype[1])
        values = values.astype("i8") // 2 ** (34 - min(bits, 32)) + (dtype[0] == "u") * 2**bits // 2
    values[7::14] = 0  # zeros are equal, whatever their sign
    values = values.astype(dtype)
    correlations = np.array(intraclass_correlations(values, Classes(sizes, counts)))
    rows = np.split(np.arange(values.size), np.cumsum(sizes)[:-1])
    for i in range(4):
        expected = intraclass(values, rows[50 * i : 50 * (i + 1)])
        assert correlations[:, i] == pytest.approx(expected, abs=1e-7)


def test_what_cannot_tell_is_nan():
    values = np.array(
        [1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 5.0, 1.0, np.nan, 4.0, 6.0, 1.0, 1.0, 2.0, 2.0]
    )
    sizes = np.array([1, 2, 2, 2, 2, 2, 2, 2])
    found, error = intraclass_correlations(values, Classes(sizes, np.array([2, 2, 2, 2])))
    assert np.isnan(found).tolist() == np.isnan(error).tolist() == [True, True, True, False]
    assert (found[3], error[3]) == (1.0, 0.0)


@pytest.mark.parametrize("margin", ["binary", "1 + poisson", "poisson"])
@pytest.mark.parametrize("r", [0.0, 0.3, 0.8])
def test_ties_do_not_hide_correlations_within_classes(margin, r):
    values, sizes, counts = simulated(np.random.default_rng(4), r, 300, 100)
    x = MARGINS[margin](np.log(values))
    found, error = intraclass_correlations(x, Classes(sizes, counts))
    p = [np.unique(group, return_counts=True)[1] for group in np.split(
        x, np.cumsum(np.add.reduceat(sizes, np.arange(0, sizes.size, 100)))[:-1])]  # fmt: skip
    shares = np.zeros((300, max(group.size for group in p)))
    for row, group in zip(shares, p, strict=True):
        row[: group.size] = group / group.sum()
    latent, its_error = latent_intraclass(found, error, shares)
    assert latent.mean() == pytest.approx(r, abs=0.03)
    assert its_error.mean() == pytest.approx(latent.std(), rel=0.2)
