from __future__ import annotations

import numpy as np
import pytest

from connprops.arrays.histogram import histograms
from connprops.arrays.sorted_samples import moments, quantiles, sort_samples

MAX, LEAST = np.finfo(float).max, 5e-324
RNG = np.random.default_rng(0)
ENDS = {
    "one denormal": np.full(5, LEAST),
    "denormal": RNG.integers(1, 9, 50) * LEAST,
    "nearly denormal": RNG.gamma(3, 1, 60) * 1e-308,
    "small": RNG.gamma(3, 1, 60) * 1e-160,
    "large": RNG.gamma(3, 1, 60) * 1e160,
    "nearly infinite": RNG.normal(0, 1, 60) * 4e307,
    "one largest": np.full(6, MAX),
    "two largest": np.array([MAX, np.nextafter(MAX, 0)] * 5),
    "both largest": np.array([MAX, -MAX, 1.0, 2.0, 0.0]),
    "of all sizes": 10.0 ** RNG.uniform(-320, 308, 60),
    "neighbours": 1 + np.arange(50) * 2.2e-16,
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("bins", [1, 7, 50])
def test_values_at_the_ends_of_floats(name, bins):
    x = ENDS[name]
    sample = sort_samples(x.copy(), np.array([x.size]))
    found = moments(sample)
    exact = x.astype(np.longdouble)
    largest = float(np.abs(x).max())
    assert found["mean"][0] == pytest.approx(float(exact.mean()), rel=1e-12, abs=1e-12 * largest)
    assert found["std"][0] == pytest.approx(float(exact.std()), rel=1e-11, abs=LEAST)
    assert quantiles(sample)["q50"][0] == pytest.approx(
        float(np.median(exact)), rel=1e-12, abs=LEAST
    )
    edges, counts = histograms(sample, bins)
    assert np.isfinite(edges).all()
    assert (edges[0, 1:] > edges[0, :-1]).all()
    assert edges[0, 0] <= x.min()
    assert edges[0, -1] >= x.max()
    assert counts.sum() == x.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
@pytest.mark.parametrize("bins", [1, 7, 51, (-2.0, 0.25, 1.0, 3.0)])
def test_counts_are_numpys_whatever_the_number_of_values(dtype, bins):
    rng = np.random.default_rng(3)
    counts = np.array([1, 0, 2, 95, 96, 97, 3, 5000, 200_000, 12])
    values = (rng.gamma(2, 2, counts.sum()) - 2).astype(dtype)
    values[rng.random(values.size) < 0.2] = 1  # lies on an edge of some
    groups = np.split(values.copy(), np.cumsum(counts)[:-1])
    edges, found = histograms(sort_samples(values, counts), bins)
    for of_group, left, n in zip([g for g in groups if g.size], edges, found, strict=True):
        expected, at = np.histogram(of_group, bins if isinstance(bins, int) else list(bins))
        np.testing.assert_array_equal(left, at.astype(np.float64))
        np.testing.assert_array_equal(n, expected)
