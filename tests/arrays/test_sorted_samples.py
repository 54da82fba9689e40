from __future__ import annotations

import numpy as np
import pytest

from connprops.arrays.sorted_samples import histograms, moments, quantiles, sort_samples

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
