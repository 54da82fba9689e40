from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as scipy_stats

from connprops.arrays.hierarchy.posterior import posterior
from connprops.arrays.hierarchy.tails import tailed_posterior


def scattered(rng, n_groups=20, size=20, far=0.05):
    """Return numbers in groups, of which a few are far away, their errors, the truth, and more."""
    group = np.repeat(np.arange(n_groups), size)
    is_far = rng.random(group.size) < far
    deviation = rng.normal(0, np.where(is_far, 2.5, 0.1))
    truth = rng.normal(0, 1, n_groups)[group] + deviation
    variance = 0.3**2 * rng.choice([0.2, 1, 4], group.size)
    return rng.normal(truth, np.sqrt(variance)), variance, truth, group, is_far


def test_of_normal_numbers_nothing_changes():
    rng = np.random.default_rng(0)
    for seed in range(10):
        y, variance, _, group, _ = scattered(np.random.default_rng(seed), far=0)
        y = y + rng.normal(0, 0.5, y.size)
        expected, told = posterior(y, variance, [group]), tailed_posterior(y, variance, [group])
        np.testing.assert_array_equal(told.mean, expected.mean)
        np.testing.assert_array_equal(told.variance, expected.variance)
        np.testing.assert_array_equal(told.log_mean, expected.mean + expected.variance / 2)


def test_most_borrow_more_where_few_are_far_away_and_these_keep_their_own():
    errors, normal_errors, z, ratio = [], [], [], []
    for seed in range(20):
        y, variance, truth, group, is_far = scattered(np.random.default_rng(seed))
        told, normal = tailed_posterior(y, variance, [group]), posterior(y, variance, [group])
        errors.append(told.mean - truth)
        normal_errors.append(normal.mean - truth)
        z.append(errors[-1] / np.sqrt(told.variance))
        ratio.append(np.exp(told.log_mean).sum() / np.exp(truth).sum())
        surely = is_far & (np.abs(y - np.median(y)) > 5) & (variance < 0.1)
        assert (told.weight[surely] > 0.9).all()
        assert told.weight[~is_far].mean() < 0.6 * normal.weight[~is_far].mean()
    assert np.mean(np.square(errors)) < 0.6 * np.mean(np.square(normal_errors))
    # Of 8,000 numbers of 400 groups: four standard errors of their standard deviation.
    assert np.std(z) == pytest.approx(1, abs=0.1)
    assert np.mean(ratio) == pytest.approx(1, abs=4 * np.std(ratio) / np.sqrt(len(ratio)))


def test_the_posterior_is_that_of_the_mixture_by_numbers():
    """One group, whose leaves tell its mean all but exactly: each leaf by numerical integration."""
    rng = np.random.default_rng(3)
    y, variance, _, _, _ = scattered(rng, n_groups=1, size=4000)
    told = tailed_posterior(y, variance, [np.zeros(y.size, dtype=np.intp)])
    scales = posterior(y, variance, [np.zeros(y.size, dtype=np.intp)]).spread[0] * np.exp2(
        np.arange(-8.0, 8.0, 2.0)
    )
    telling = variance <= scales[4]
    away = y - np.median(y)

    def mixed(logits, rows):
        shares = np.exp(logits - logits.max())
        return scipy_stats.norm.pdf(away[rows, None], 0, np.sqrt(scales + variance[rows, None])) @ (
            shares / shares.sum()
        )

    best = optimize.minimize(lambda x: -np.log(mixed(x, telling)).sum(), np.zeros(scales.size))
    shares = np.exp(best.x - best.x.max())
    grid = np.linspace(-12, 12, 20_001)
    prior = scipy_stats.norm.pdf(grid[:, None], 0, np.sqrt(scales)) @ (shares / shares.sum())
    for leaf in (int(np.argmax(away)), *range(12)):
        likely = prior * scipy_stats.norm.pdf(away[leaf], grid, np.sqrt(variance[leaf]))
        likely /= likely.sum()
        mean = likely @ grid
        error = np.sqrt(likely @ (grid - mean) ** 2)
        assert told.mean[leaf] - np.median(y) == pytest.approx(mean, abs=0.15 * error)
        assert np.sqrt(told.variance[leaf]) == pytest.approx(error, rel=0.15)
        assert told.log_mean[leaf] - np.median(y) == pytest.approx(
            np.log(likely @ np.exp(grid)), abs=0.15 * error
        )


def test_ranges_of_new_leaves_hold_what_they_say():
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        y, variance, truth, group, _ = scattered(rng)
        left = rng.random(y.size) < 0.2
        told = tailed_posterior(np.where(left, np.nan, y), variance, [group])
        away = np.abs(truth - told.mean)[left]
        inside.append((away < 1.645 * np.sqrt(told.variance[left])).mean())
        mean, its_variance = told.new(0, np.flatnonzero(left))
        np.testing.assert_allclose(mean, told.mean[left])
        np.testing.assert_allclose(its_variance, told.variance[left])
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)


def test_the_order_of_leaves_does_not_matter():
    y, variance, _, group, _ = scattered(np.random.default_rng(5))
    crossed = np.tile(np.arange(20), 20)
    order = np.random.default_rng(6).permutation(y.size)
    told = tailed_posterior(y, variance, [group], [[crossed]])
    again = tailed_posterior(y[order], variance[order], [group[order]], [[crossed[order]]])
    for name in ("mean", "variance", "weight", "log_mean"):
        np.testing.assert_array_equal(getattr(told, name)[order], getattr(again, name))


def test_effects_that_there_are_not_are_known():
    y, variance, group = np.array([0.0, 0.0, 0.0, 1.0]), np.ones(4), np.zeros(4, dtype=np.int64)
    told = tailed_posterior(y, variance, [group], [[np.arange(4)]])
    assert np.isfinite(told.mean).all()


@given(st.data())
def test_whatever_the_numbers_leaves_have_a_mean_within_them(data):
    n = data.draw(st.integers(4, 60))
    numbers = st.lists(st.floats(-30, 30), min_size=n, max_size=n)
    y = np.array(data.draw(numbers))
    y[data.draw(st.lists(st.integers(0, n - 1), max_size=3))] = np.nan
    if np.isfinite(y).sum() < 4:
        return
    variance = np.exp(np.array(data.draw(numbers)) / 3)
    group = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    other = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
    told = tailed_posterior(y, variance, [group], [[other]])
    for values in (told.mean, told.variance, told.weight, told.log_mean):
        assert np.isfinite(values).all()
    assert (told.variance >= 0).all()
    assert ((told.weight >= 0) & (told.weight <= 1)).all()
