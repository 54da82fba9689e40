from __future__ import annotations

import numpy as np
import pytest

from connprops.arrays.hierarchy import posterior


def simulated(rng, spreads=(0.3, 0.5, 1.0), n=300, errors=(0.05, 1.0)):
    """Return true numbers, observed ones, their variances, and groups: 60 within 10."""
    narrow = rng.integers(0, 60, n)
    wide = narrow // 6
    of_wide = rng.normal(5, spreads[2], 10)
    of_narrow = of_wide[np.arange(60) // 6] + rng.normal(0, spreads[1], 60)
    truth = of_narrow[narrow] + rng.normal(0, spreads[0], n)
    variance = rng.uniform(*errors, n)
    return truth, truth + np.sqrt(variance) * rng.normal(size=n), variance, [narrow, wide]


def test_means_and_variances_are_those_of_the_joint_normal_distribution():
    truth, y, variance, groups = simulated(np.random.default_rng(0))
    y[:20] = np.nan
    result = posterior(y, variance, groups)
    known = np.isfinite(y)
    flat = 1e4  # variance of the root
    same = [np.eye(truth.size, dtype=bool), *(g[:, None] == g for g in groups)]

    def covariance(alike):
        return flat + sum(s * a for s, a in zip(result.spread, alike, strict=True))

    whole = covariance(same)
    observed = whole[np.ix_(known, known)] + np.diag(variance[known])
    gain = whole[:, known] @ np.linalg.inv(observed)
    assert result.mean == pytest.approx(gain @ y[known], abs=1e-4)
    assert result.variance == pytest.approx(np.diag(whole - gain @ whole[known]), abs=1e-5)
    sign, log = np.linalg.slogdet(observed)
    square = y[known] @ np.linalg.solve(observed, y[known])
    assert sign == 1
    # But for the flat root's own share.
    assert result.loglik == pytest.approx(-(log - np.log(flat) + square) / 2, abs=1e-2)
    for level in range(3):  # a new leaf has only the groups from this level on in common
        new = flat + sum(
            s * a for s, a in zip(result.spread[level + 1 :], same[level + 1 :], strict=True)
        ) * np.ones_like(whole)
        gain = new[:, known] @ np.linalg.inv(observed)
        assert result.new_mean[level] == pytest.approx(gain @ y[known], abs=1e-4)
        expected = flat + result.spread.sum() - np.sum(gain * new[:, known], axis=1)
        assert result.new_variance[level] == pytest.approx(expected, abs=1e-5)


def test_errors_are_as_large_as_they_are_said_to_be():
    z, new, squares = [], [], []
    for seed in range(20):
        truth, y, variance, groups = simulated(np.random.default_rng(seed), n=600)
        y[:60] = np.nan
        result = posterior(y, variance, groups)
        z.append((result.mean - truth) / np.sqrt(result.variance))
        new.append(((result.new_mean - truth) / np.sqrt(result.new_variance))[:, :60])
        squares.append(result.spread)
    assert np.std(z) == pytest.approx(1, abs=0.07)
    assert np.std(new, axis=(0, 2)) == pytest.approx(np.ones(3), abs=0.15)
    assert np.mean(squares, axis=0)[:2] == pytest.approx([0.09, 0.25], rel=0.3)


def test_neither_order_nor_names_matter_to_the_last_bit():
    rng = np.random.default_rng(2)
    _, y, variance, groups = simulated(rng)
    order, names = rng.permutation(300), rng.permutation(60)
    result = posterior(y, variance, groups)
    other = posterior(y[order], variance[order], [names[groups[0]][order], 9 - groups[1][order]])
    for name in ("mean", "variance", "weight"):
        assert np.array_equal(getattr(other, name), getattr(result, name)[order]), name


def test_the_ends_of_the_scale():
    rng = np.random.default_rng(3)
    _, y, variance, groups = simulated(rng)
    exact = posterior(y, variance * 1e-9, groups)
    assert exact.mean == pytest.approx(y, abs=1e-4)
    assert exact.weight == pytest.approx(np.ones(300), abs=1e-5)
    y = 3 + rng.normal(size=300)
    alike = posterior(y, np.ones(300), groups)
    assert alike.mean == pytest.approx(np.full(300, y.mean()), abs=0.3)
    assert alike.weight.max() < 0.1
    equal = posterior(np.full(300, 2.0), variance, groups)
    assert equal.mean == pytest.approx(np.full(300, 2.0))


def test_levels_that_tell_nothing_apart_are_no_harm():
    rng = np.random.default_rng(4)
    _, y, variance, _ = simulated(rng)
    one, each = np.zeros(300, dtype=np.intp), np.arange(300)
    plain = posterior(y, variance, [one])
    nested = posterior(y, variance, [each, one])
    assert nested.mean == pytest.approx(plain.mean, abs=0.02)
    assert nested.weight == pytest.approx(plain.weight, abs=0.02)


def test_groups_that_are_the_same_at_two_levels_are_as_one():
    _, y, variance, (narrow, wide) = simulated(np.random.default_rng(6))
    once = posterior(y, variance, [narrow, wide])
    twice = posterior(y, variance, [narrow, narrow, wide])
    assert twice.mean == pytest.approx(once.mean, rel=1e-12)
    assert twice.loglik == pytest.approx(once.loglik, rel=1e-12)
    # A new leaf that has the group at the second of the two in common has it at the first.
    for place, at in enumerate((0, 0, 1, 2)):
        assert twice.new_mean[place] == pytest.approx(once.new_mean[at], rel=1e-12)
        assert twice.new_variance[place] == pytest.approx(once.new_variance[at], rel=1e-12)
