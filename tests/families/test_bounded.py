"""Uniform, truncated normal and beta: their fits within bounds, and far in the tails."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from known_distributions import SCIPY, loglik_by_scipy, stacked
from scipy import integrate, stats

from connprops.families.bounded import truncated_shape
from connprops.families.registry import family_named
from connprops.families.sample import Sample

INSIDE = stats.norm.ppf(0.975)


def test_truncated_normal_moments_far_in_the_tails() -> None:
    distributions = [
        {"norm_loc": -1000.0, "norm_scale": 1.0, "min": 0.0, "max": 1.0},
        {"norm_loc": 40.0, "norm_scale": 2.0, "min": -1.0, "max": 1.0},
        {"norm_loc": 0.0, "norm_scale": 1e5, "min": 0.0, "max": 1.0},
    ]
    family = family_named("truncnorm")
    for distribution in distributions:
        near = 0.0 if distribution["norm_loc"] <= 0 else 1.0

        def density(
            x: float, distribution: Mapping[str, float] = distribution, near: float = near
        ) -> float:
            """Return the density over that at the nearer end."""
            loc = distribution["norm_loc"]
            return float(
                np.exp(-(x - near) * (x + near - 2 * loc) / 2 / distribution["norm_scale"] ** 2)
            )

        slope = max(abs(near - distribution["norm_loc"]) / distribution["norm_scale"] ** 2, 1)
        start = max(distribution["min"], near - 60 / slope) if near else distribution["min"]
        stop = distribution["max"] if near else min(distribution["max"], 60 / slope)
        total, mean, second = (
            integrate.quad(lambda x, k=k: x**k * density(x), start, stop, epsabs=0, epsrel=1e-12)[0]
            for k in range(3)
        )
        mean, second = mean / total, second / total
        np.testing.assert_allclose(family.mean(stacked([distribution])), mean, rtol=1e-9)
        np.testing.assert_allclose(
            family.std(stacked([distribution])), np.sqrt(second - mean**2), rtol=1e-6
        )


def test_truncated_normal_with_an_open_end() -> None:
    distribution = stacked([{"norm_loc": 1, "norm_scale": 2, "min": 0, "max": np.inf}])
    oracle = stats.truncnorm(-0.5, np.inf, 1, 2)
    family = family_named("truncnorm")
    x = np.array([[0.1, 1, 7]])
    np.testing.assert_allclose(family.mean(distribution), oracle.mean(), rtol=1e-10)
    np.testing.assert_allclose(family.std(distribution), oracle.std(), rtol=1e-10)
    np.testing.assert_allclose(family.cdf(x, distribution), oracle.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(family.ppf(oracle.cdf(x), distribution), x, rtol=1e-12)


@pytest.mark.parametrize("n", [50, 200, 1000])
def test_intervals_of_a_cut_normal_distribution_cover_also_where_it_is_nearly_flat(n: int) -> None:
    """A fit on the bound of the scale has no error; what is left covers at least as it should."""
    values = SCIPY["truncnorm"](0, 1, -1, 1).rvs((2000, n), random_state=18)
    estimate = family_named("truncnorm").fit(Sample.from_values(list(values)))
    away = np.abs(estimate.parameters["norm_loc"] - values.mean(axis=1))
    width = np.ptp(values, axis=1)
    on_bound = (estimate.parameters["norm_scale"] > 9.99 * width) | (away > 99 * width)
    for name, truth in (("norm_loc", 0), ("norm_scale", 1)):
        error = estimate.std_error[name]
        assert (np.isnan(error) == on_bound).all()
        z = ((estimate.parameters[name] - truth) / error)[~on_bound]
        covered = int((np.abs(z) < INSIDE).sum())
        assert stats.binomtest(covered, z.size, 0.95, alternative="less").pvalue > 1e-3, name


def test_extremes_come_as_near_to_the_ends_as_theory_says() -> None:
    """Ends have no normal error: n times the gap is exponential, of mean 1 over the density."""
    n, groups = 400, 4000
    for name, distribution, density in (
        ("uniform", {"min": 2, "max": 3}, 1.0),
        ("truncnorm", {"norm_loc": 0, "norm_scale": 1, "min": -1, "max": 1},
         stats.norm.pdf(1) / (stats.norm.cdf(1) - stats.norm.cdf(-1))),
    ):  # fmt: skip
        values = SCIPY[name](**distribution).rvs((groups, n), random_state=19)
        found = family_named(name).fit(Sample.from_values(list(values))).parameters
        for gap in (found["min"] - distribution["min"], distribution["max"] - found["max"]):
            p_value = stats.kstest(gap * n * density, "expon").pvalue
            assert p_value > 1e-4, name


def test_a_truncated_normal_fit_follows_shifts_scales_and_reflections() -> None:
    values = SCIPY["truncnorm"](1, 2, 0, 4).rvs(500, random_state=6)
    maps = [(0, 1), (5, 1e-7), (-3, 1e9), (1e4, 1), (2, -3)]
    estimate = family_named("truncnorm").fit(Sample.from_values([a + b * values for a, b in maps]))
    a, b = np.array(maps).T
    loc, scale = estimate.parameters["norm_loc"], estimate.parameters["norm_scale"]
    np.testing.assert_allclose((loc - a) / b, loc[0], rtol=1e-6)
    np.testing.assert_allclose(scale / np.abs(b), scale[0], rtol=1e-6)
    error = estimate.std_error["norm_loc"]
    np.testing.assert_allclose(error / np.abs(b), error[0], rtol=1e-5)


def test_a_truncated_normal_fit_has_the_mean_and_std_of_the_data() -> None:
    """Mean and mean square are what the likelihood depends on: inside the bounds they agree."""
    rng = np.random.default_rng(7)
    distributions = [
        (0, 1, -1, 1),
        (0, 0.3, -1, 1),
        (2, 1, 0, 1.5),
        (-1, 1, 0, 2),
        (0, 1e-9, -2e-9, 1e-9),
    ]
    sample = Sample.from_values(
        [
            SCIPY["truncnorm"](*distribution).rvs(20_000, random_state=rng)
            for distribution in distributions
        ]
    )
    family = family_named("truncnorm")
    parameters = family.fit(sample).parameters
    np.testing.assert_allclose(family.mean(parameters), sample.mean, rtol=1e-9, atol=1e-18)
    np.testing.assert_allclose(family.std(parameters), sample.std, rtol=1e-9)
    np.testing.assert_array_equal(parameters["min"], sample.min)
    np.testing.assert_array_equal(parameters["max"], sample.max)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 1001),
        np.repeat([0.0, 1.0], 50),
        np.random.default_rng(1).beta(0.3, 0.4, 500),
        np.random.default_rng(1).exponential(1, 500),
        -1e-12 * np.random.default_rng(1).exponential(1, 500),
        np.random.default_rng(1).lognormal(0, 3, 500),
        np.append(np.random.default_rng(1).normal(0, 1e-9, 500), 1.0),
        1e200 * np.random.default_rng(1).random(50),
        1e-200 * np.random.default_rng(1).normal(0, 1, 50),
        np.array([1, 2, 3, 5.0]),
    ],
    ids=["flat", "two values", "U", "exponential", "tiny", "heavy", "outlier", "huge", "mini", "4"],
)
def test_a_truncated_normal_fit_is_the_best_within_its_bounds(values: np.ndarray) -> None:
    family, sample = family_named("truncnorm"), Sample.from_values([values])
    estimate = family.fit(sample)
    best = {key: float(value[0]) for key, value in estimate.parameters.items()}
    width = np.ptp(values)
    assert estimate.status[0] == "ok"
    assert 0 < best["norm_scale"] <= 10.0001 * width
    assert abs(best["norm_loc"] - values.mean()) <= 101.0001 * width
    maximum = loglik_by_scipy("truncnorm", values, best)
    rng = np.random.default_rng(8)
    for loc, scale in rng.normal(0, [0.02, 0.02], (40, 2)):
        other = best | {
            "norm_loc": np.clip(
                best["norm_loc"] + loc * width,
                values.min() - 100 * width,
                values.max() + 100 * width,
            ),
            "norm_scale": min(best["norm_scale"] * np.exp(scale), 10 * width),
        }
        assert loglik_by_scipy("truncnorm", values, other) <= maximum + 1e-6 * (1 + abs(maximum))


def test_a_flat_sample_gives_a_flat_distribution() -> None:
    estimate = family_named("truncnorm").fit(Sample.from_values([np.linspace(3, 5, 999)]))
    distribution = SCIPY["truncnorm"](
        **{key: value[0] for key, value in estimate.parameters.items()}
    )
    np.testing.assert_allclose(distribution.pdf([3, 3.5, 4, 5]), 0.5, rtol=2e-3)
    assert np.isnan(estimate.std_error["norm_scale"][0])


def test_moments_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    low = rng.normal(size=n)
    parameters = {"norm_loc": rng.normal(size=n), "norm_scale": rng.gamma(2, 1, n),
                  "min": low, "max": low + rng.gamma(2, 1, n)}  # fmt: skip
    family = family_named("truncnorm")
    b, c = rng.normal(size=n), rng.gamma(2, 1, n)
    shape = truncated_shape(b, c)
    for rows in (slice(3), slice(-3, None)):
        part = {name: values[rows] for name, values in parameters.items()}
        for moment in (family.mean, family.std):
            np.testing.assert_array_equal(moment(parameters)[rows], moment(part))
        for found, expected in zip(shape, truncated_shape(b[rows], c[rows]), strict=True):
            np.testing.assert_array_equal(found[rows], expected)
