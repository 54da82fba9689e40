"""Samples hold the moments and the shape of the values they were made from."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from connprops.errors import OptionError
from connprops.families.sample import POINTS, Sample

MOMENTS = ("n", "mean", "std", "min", "max", "mean_log", "std_log", "skewness", "kurtosis")


def _groups(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        rng.gamma(2, 1, 3000),
        np.full(7, 3.3),
        np.array([]),
        rng.poisson(3, 50).astype(float),
        rng.normal(size=POINTS + 1),
        np.array([1.0, 2.0]),
        1e-150 * rng.random(20),
        1e4 + rng.random(40),
    ]


def _moments(values: np.ndarray) -> dict[str, float]:
    positive = values.size and values.min() > 0
    log = np.log(values) if positive else np.array([np.nan])
    varied = values.size and values.min() < values.max()
    unit = np.ptp(values) if varied else 1.0
    return {
        "n": values.size,
        "mean": values.mean() if values.size else np.nan,
        "std": (values / unit).std() * unit if varied else (0.0 if values.size else np.nan),
        "min": values.min(initial=np.inf) if values.size else np.nan,
        "max": values.max(initial=-np.inf) if values.size else np.nan,
        "mean_log": log.mean(),
        "std_log": log.std() if varied or not positive else 0.0,
        "skewness": stats.skew(values / unit) if varied else np.nan,
        "kurtosis": stats.kurtosis(values / unit) if varied else np.nan,
    }


def _assert_moments(sample: Sample, groups: list[np.ndarray]) -> None:
    for g, values in enumerate(groups):
        for name, expected in _moments(values).items():
            found = getattr(sample, name)[g]
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9, err_msg=f"{name} {g}")


def test_moments_are_those_of_the_values() -> None:
    groups = _groups()
    sample = Sample.from_values(groups)
    _assert_moments(sample, groups)
    assert len(sample) == len(groups)
    assert not sample.is_integer


def test_points_are_the_distinct_values_where_these_are_few() -> None:
    sample = Sample.from_values([[5, 1, 2, 2], [3], []])
    assert sample.exact.all()
    assert sample.value[0].tolist() == [1, 2, 5]
    assert sample.weight.tolist() == [[1, 2, 1], [1, 0, 0], [0, 0, 0]]
    assert sample.value[1].tolist() == [3, 3, 3]
    assert np.isnan(sample.value[2]).all()
    assert sample.is_integer
    group, value, weight = sample.points()
    assert group.tolist() == [0, 0, 0, 1]
    assert value.tolist() == [1, 2, 5, 3]
    assert weight.tolist() == [1, 2, 1, 1]


def test_thinned_points_are_values_of_the_sample_in_the_middle_of_their_cells() -> None:
    values = np.random.default_rng(1).lognormal(0, 1, 100_000)
    sample = Sample.from_values([values])
    assert not sample.exact[0]
    assert sample.value.shape[1] <= POINTS
    assert sample.weight.sum() == values.size
    assert np.isin(sample.value, values).all()
    rank = np.searchsorted(np.sort(values), sample.value[0])
    middle = np.cumsum(sample.weight[0]) - sample.weight[0] / 2
    assert np.abs(rank + 0.5 - middle).max() <= 1
    # Narrow cells at both ends: what the outermost cells stand for is next to nothing.
    assert sample.weight[0, [0, -1]].max() < 1e-4 * values.size
    np.testing.assert_allclose(
        np.sum(sample.weight * sample.value) / values.size, values.mean(), rtol=1e-3
    )


def test_whole_numbers_are_seen_in_float_columns() -> None:
    sample = Sample.from_values([[1.0, 2.0], [1.0, 2.5], [0.5, 1.5]])
    assert sample.whole.tolist() == [True, False, False]
    assert Sample.from_values([[1, 2], [3]]).whole.all()
    assert Sample.from_values([np.arange(2000.0)]).whole.all()
    assert not Sample.from_values([np.append(np.arange(2000.0), 2000.5)]).whole.any()


def test_taking_groups() -> None:
    sample = Sample.from_values([[1, 2], [3], [4, 4, 5]])
    assert sample.take(np.array([2, 0])).n.tolist() == [3, 2]
    assert sample.take(np.array([False, True, False])).mean.tolist() == [3]


def test_no_groups() -> None:
    sample = Sample.from_values([])
    assert len(sample) == 0
    assert len(sample.pool([])) == 0
    assert sample.pool([], 2).n.tolist() == [0, 0]


def test_pooled_moments_are_those_of_all_values() -> None:
    groups = _groups()
    pooled = Sample.from_values(groups).pool([0, 1, 1, 2, 0, 2, -1, 3], 5)
    _assert_moments(
        pooled,
        [
            np.concatenate([groups[0], groups[4]]),
            groups[1],
            np.concatenate([groups[3], groups[5]]),
            groups[7],
            np.array([]),
        ],
    )
    assert pooled.exact.tolist() == [False, True, True, True, True]


def test_pooled_points_of_exact_groups_are_exact() -> None:
    pooled = Sample.from_values([[1, 2, 2], [2, 7], [0]]).pool([0, 0, 1])
    assert pooled.value.tolist() == [[1, 2, 7], [0, 0, 0]]
    assert pooled.weight.tolist() == [[1, 3, 1], [1, 0, 0]]
    assert pooled.is_integer


def test_groups_alone_are_pools_of_one_to_the_last_bit() -> None:
    sample = Sample.from_values([group for group in _groups() if group.size])
    alone, pooled = sample.alone(), sample.pool(np.arange(len(sample)))
    for field in fields(sample):
        found, expected = getattr(alone, field.name), getattr(pooled, field.name)
        if isinstance(expected, np.ndarray):
            np.testing.assert_array_equal(found, expected, field.name)
        else:
            assert found == expected


def test_equal_constants_pool_to_a_constant() -> None:
    pooled = Sample.from_values([[0.1] * n for n in (3, 7, 11, 10_000)]).pool([0, 0, 0, 0])
    assert pooled.std[0] == 0
    assert pooled.mean[0] == 0.1


def test_pooling_does_not_depend_on_the_order_to_the_last_bit() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.gamma(2, 10.0 ** rng.integers(-3, 3), rng.integers(1, 900)) for _ in range(60)]
    index = rng.integers(0, 4, len(groups))
    sample = Sample.from_values(groups)
    expected = sample.pool(index)
    order = rng.permutation(len(groups))
    found = sample.take(order).pool(index[order])
    for field in fields(Sample):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_pooled_thinned_points_keep_the_distribution() -> None:
    rng = np.random.default_rng(3)
    groups = [rng.normal(mean, 1, 5000) for mean in range(4)]
    pooled = Sample.from_values(groups).pool([0] * 4)
    values = np.sort(np.concatenate(groups))
    middle = np.cumsum(pooled.weight[0]) - pooled.weight[0] / 2
    rank = np.searchsorted(values, pooled.value[0]) + 0.5
    assert pooled.weight.sum() == values.size
    assert np.abs(rank - middle).max() < 0.003 * values.size


def test_balanced_weights_add_up_functions_as_all_values_do() -> None:
    rng = np.random.default_rng(4)
    groups = [3 * rng.weibull(0.8, 50_000), rng.normal(5, 2, 20_000), 1e6 + rng.random(9_000)]
    sample = Sample.from_values(groups)
    assert not sample.exact.any()
    assert (sample.balanced >= 0).all()
    for g, values in enumerate(groups):
        unit = (values - values.mean()) / values.std()
        points = (sample.value[g] - values.mean()) / values.std()
        for power in range(5):
            np.testing.assert_allclose(sample.balanced[g] @ points**power, np.sum(unit**power),
                                       rtol=1e-8, atol=1e-6 * values.size)  # fmt: skip
        for function in (lambda z: np.exp(-z / 2), lambda z: np.abs(z) ** 3):
            wanted, noise = np.sum(function(unit)), np.std(function(unit)) * values.size**0.5
            assert abs(sample.balanced[g] @ function(points) - wanted) < noise / 8
    plain, better = (w[0] @ sample.value[0] ** 1.7 for w in (sample.weight, sample.balanced))
    exact = np.sum(groups[0] ** 1.7)
    assert abs(better - exact) < abs(plain - exact) / 10


def test_exact_points_need_no_balance() -> None:
    sample = Sample.from_values([[1, 2, 2, 5], [3.0], []])
    np.testing.assert_array_equal(sample.balanced, sample.weight)


def test_no_balanced_weight_is_below_zero() -> None:
    rng = np.random.default_rng(7)
    # Moments that the points cannot have: those of other values.
    thinned = Sample.from_values([rng.normal(size=9_000)])
    wrong = replace(thinned, kurtosis=np.array([90.0]))
    np.testing.assert_array_equal(wrong.balanced, thinned.weight)
    assert (thinned.balanced != thinned.weight).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(bad: float) -> None:
    with pytest.raises(OptionError, match=rf"Group 1 (?s:.*)found: +{bad}"):
        Sample.from_values([[1.0], [2.0, bad]])


def test_an_index_that_does_not_fit_is_refused() -> None:
    sample = Sample.from_values([[1], [2]])
    with pytest.raises(OptionError, match="below 1"):
        sample.pool([0, 1], 1)
    with pytest.raises(OptionError, match="shape"):
        sample.pool([0])
