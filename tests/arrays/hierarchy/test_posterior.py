from __future__ import annotations

import numpy as np
import pytest

from connprops.arrays.hierarchy import group_tree
from connprops.arrays.hierarchy.posterior import posterior


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
        new_mean, new_variance = result.new(level, np.arange(truth.size))
        assert new_mean == pytest.approx(gain @ y[known], abs=1e-4)
        expected = flat + result.spread.sum() - np.sum(gain * new[:, known], axis=1)
        assert new_variance == pytest.approx(expected, abs=1e-5)


def test_errors_are_as_large_as_they_are_said_to_be():
    z, new, squares = [], [], []
    for seed in range(20):
        truth, y, variance, groups = simulated(np.random.default_rng(seed), n=600)
        y[:60] = np.nan
        result = posterior(y, variance, groups)
        z.append((result.mean - truth) / np.sqrt(result.variance))
        of_levels = [result.new(level, np.arange(60)) for level in range(3)]
        new.append([(mean - truth[:60]) / np.sqrt(square) for mean, square in of_levels])
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
    leaves = np.arange(y.size)
    for place, at in enumerate((0, 0, 1, 2)):
        for x, expected in zip(twice.new(place, leaves), once.new(at, leaves), strict=True):
            assert x == pytest.approx(expected, rel=1e-12)


def crossing(rng, of_sources=0.8, of_targets=0.8, size=(40, 30), share=0.3, errors=(0.05, 1.0)):
    """Return true numbers of pairs of types, observed ones, variances, and the types of both."""
    source, target = np.nonzero(rng.uniform(size=size) < share)
    effects = (
        rng.normal(0, of_sources, size[0])[source] + rng.normal(0, of_targets, size[1])[target]
    )
    truth = 3 + effects + rng.normal(0, 0.3, source.size)
    variance = rng.uniform(*errors, source.size)
    return truth, truth + np.sqrt(variance) * rng.normal(size=source.size), variance, source, target


def test_effects_of_both_sides_are_those_of_the_mixed_model():
    rng = np.random.default_rng(5)
    truth, y, variance, source, target = crossing(rng)
    y[:20] = np.nan
    known = np.isfinite(y)
    result = posterior(y, variance, [source], [[target]])
    # The joint normal distribution with the variances that generated the data.
    same = 0.64 * (source[:, None] == source) + 0.64 * (target[:, None] == target)
    whole = 1e4 + same + 0.09 * np.eye(y.size)
    gain = whole[:, known] @ np.linalg.inv(whole[np.ix_(known, known)] + np.diag(variance[known]))
    exact = gain @ y[known]
    assert result.mean[known] == pytest.approx(exact[known], abs=0.4)
    assert np.std(result.mean[known] - exact[known]) < 0.1
    error = {name: np.sqrt(np.mean((mean - truth)[known] ** 2))
             for name, mean in (("both", result.mean), ("exact", exact),
                                ("one", posterior(y, variance, [source]).mean))}  # fmt: skip
    assert error["both"] < 1.03 * error["exact"] < 0.8 * error["one"]


def test_errors_with_effects_of_both_sides_are_as_large_as_they_are_said_to_be():
    z = []
    for seed in range(30):
        truth, y, variance, source, target = crossing(np.random.default_rng(seed))
        result = posterior(y, variance, [source], [[target]])
        z.append((result.mean - truth) / np.sqrt(result.variance))
    assert np.std(np.concatenate(z)) == pytest.approx(1, abs=0.07)


def test_a_new_leaf_has_what_its_groups_say_without_effects_of_the_other_side():
    _, y, variance, source, target = crossing(np.random.default_rng(6))
    alone, both = posterior(y, variance, [source]), posterior(y, variance, [source], [[target]])
    leaves = np.arange(y.size)
    for level in range(len(alone.spread)):
        assert np.array_equal(both.new(level, leaves), alone.new(level, leaves))


def test_new_leaves_with_effects_of_both_sides_are_those_of_the_mixed_model():
    z, errors = [], {"both": 0.0, "exact": 0.0, "one": 0.0}
    for seed in range(20):
        truth, y, variance, source, target = crossing(np.random.default_rng(seed))
        old = np.arange(y.size) % 4 > 0
        new = ~old & np.isin(source, source[old]) & np.isin(target, target[old])

        def leaf_of(group, old=old, new=new):
            return np.array([np.flatnonzero(group[old] == g)[0] for g in group[new]])

        result = posterior(y[old], variance[old], [source[old]], [[target[old]]])
        narrowest = np.zeros(new.sum(), dtype=np.intp)
        mean, its_variance = result.new(0, leaf_of(source), [(narrowest, leaf_of(target))])
        z.append((truth[new] - mean) / np.sqrt(its_variance))
        # The joint normal distribution with the variances that generated the data.
        same = 0.64 * (source[:, None] == source) + 0.64 * (target[:, None] == target)
        known = 1e4 + same[np.ix_(old, old)] + np.diag(0.09 + variance[old])
        exact = (1e4 + same[np.ix_(new, old)]) @ np.linalg.solve(known, y[old])
        one, _ = result.new(0, leaf_of(source))
        for name, foretold in (("both", mean), ("exact", exact), ("one", one)):
            errors[name] += np.mean((foretold - truth[new]) ** 2)
    assert np.std(np.concatenate(z)) == pytest.approx(1, abs=0.07)
    assert errors["both"] < 1.05 * errors["exact"] < 0.4 * errors["one"]


def test_a_new_leaf_whose_type_has_no_number_has_no_effect_of_it_but_its_variance():
    _, y, variance, source, target = crossing(np.random.default_rng(9))
    result = posterior(y, variance, [source], [[target]])
    leaf, narrowest, root = np.arange(5), np.zeros(5, dtype=np.intp), np.ones(5, dtype=np.intp)
    known = result.new(0, leaf, [(narrowest, leaf)])
    unknown = result.new(0, leaf, [(root, leaf)])
    effect, error = (a - b for a, b in zip(known, unknown, strict=True))
    assert (np.abs(effect) > 0.01).all()
    assert (error < 0).all()


def test_a_side_without_effects_is_no_harm():
    errors = {"alone": 0.0, "both": 0.0}
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth, y, variance, source, target = crossing(rng, of_targets=0.0)
        for name, crossed in (("alone", []), ("both", [[target]])):
            errors[name] += np.mean((posterior(y, variance, [source], crossed).mean - truth) ** 2)
    assert errors["both"] < 1.02 * errors["alone"]


def test_neither_order_nor_names_of_crossed_groups_matter_to_the_last_bit():
    rng = np.random.default_rng(7)
    _, y, variance, source, target = crossing(rng)
    order, names = rng.permutation(y.size), rng.permutation(30)
    result = posterior(y, variance, [source], [[target], [source]])
    other = posterior(
        y[order], variance[order], [39 - source[order]], [[names[target[order]]], [source[order]]]
    )
    for name in ("mean", "variance", "weight"):
        assert np.array_equal(getattr(other, name), getattr(result, name)[order]), name


def test_candidates_that_are_left_out_have_no_share(monkeypatch):
    _, y, variance, source, target = crossing(np.random.default_rng(8), size=(80, 60), share=0.8)
    few = posterior(y, variance, [source], [[target], [source]])
    monkeypatch.setattr(group_tree, "NO_SHARE", np.inf)
    every = posterior(y, variance, [source], [[target], [source]])
    for name in ("mean", "variance", "weight", "spread"):
        assert getattr(few, name) == pytest.approx(getattr(every, name), rel=1e-12), name


def test_leaves_without_a_number_say_nothing_of_others():
    _, y, variance, source, target = crossing(np.random.default_rng(10))
    known = np.arange(y.size) % 3 > 0
    y[~known] = np.nan
    among = posterior(y, variance, [source], [[target]])
    alone = posterior(y[known], variance[known], [source[known]], [[target[known]]])
    for name in ("mean", "variance", "weight"):
        own = getattr(among, name)[known]
        assert own == pytest.approx(getattr(alone, name), rel=1e-10), name
