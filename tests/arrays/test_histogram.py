"""Normal curves through histograms: where SciPy's fits end, one histogram at a time."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from connprops.arrays.histogram import normals_through_histograms


def by_scipy(counts, edges):
    """Return location and scale as connectome-manipulator accepts them, NaN where it does not."""
    edges = np.asarray(edges)
    centers = np.array([np.mean(edges[i : i + 2]) for i in range(len(counts))])

    def curve(x, location, scale, height):
        z = (x - location) / scale
        return height * np.exp(-z * z / 2) / (scale * np.sqrt(2 * np.pi))

    bounds = ([centers.min(), 0, 0], [centers.max(), np.inf, np.inf])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            best, covariance = curve_fit(
                curve, centers, counts, p0=[np.mean(centers), 1.0, 1.0], bounds=bounds, max_nfev=30
            )
        except (ValueError, RuntimeError):
            return np.nan, np.nan
        error = np.sqrt(np.diag(covariance)) / best
    accepted = np.isfinite(error).all() and error.max() <= 0.5
    return tuple(best[:2]) if accepted else (np.nan, np.nan)


def _histograms(rng, n):
    kinds = [
        lambda k: rng.normal(3, 1, k), lambda k: rng.gamma(2, 1, k), lambda k: rng.uniform(size=k),
        lambda k: rng.poisson(4, k).astype(float), lambda k: rng.standard_t(2, k),
    ]  # fmt: skip
    for i in range(n):
        values = kinds[i % 5](int(rng.choice([1, 2, 3, 10, 100, 3000]))) * 10 ** rng.uniform(-3, 3)
        yield np.histogram(values.astype(np.float32) if i % 2 else values, 50 if i % 3 else 20)


def test_curves_are_scipys_and_so_is_what_is_accepted():
    histograms = [*_histograms(np.random.default_rng(0), 240)]
    ours = normals_through_histograms(histograms)
    right = np.array([by_scipy(*histogram) for histogram in histograms])
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(right))
    assert 0.1 < np.isnan(ours[:, 0]).mean() < 0.9
    np.testing.assert_allclose(ours, right, rtol=1e-4)


def test_a_curve_does_not_depend_on_those_beside_it():
    histograms = [*_histograms(np.random.default_rng(1), 40)]
    together = normals_through_histograms(histograms)
    alone = np.concatenate([normals_through_histograms([h]) for h in histograms])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.floats(0.5, 3), st.floats(-2, 2), st.integers(30, 200))
def test_a_normal_curve_is_recovered(scale, location, n_bins):
    edges = np.linspace(location - 4 * scale, location + 4 * scale, n_bins + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    counts = np.rint(1e6 * np.exp(-(((centers - location) / scale) ** 2) / 2))
    ((at, width),) = normals_through_histograms([(counts, edges)])
    if not np.isnan(at):  # thirty evaluations are not always enough
        assert at == pytest.approx(location, abs=1e-3 * scale)
        assert width == pytest.approx(scale, rel=1e-3)


def test_no_histograms_and_none_that_will_do():
    assert normals_through_histograms([]).shape == (0, 2)
    no_room = (np.array([1, 2]), np.full(3, 7.0))
    assert np.isnan(normals_through_histograms([no_room])).all()
