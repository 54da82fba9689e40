"""Intervals of 95 % hold the truth in 95 % of samples, also where values are alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from connprops.arrays.normal_scores import Classes, intraclass_correlations
from connprops.distributions.distributions import Distributions
from connprops.distributions.intervals import with_intervals
from connprops.families.registry import family_named
from connprops.families.sample import Sample

TRUTH = {
    "normal": (stats.norm(3, 1), {"mean": 3, "std": 1}),
    "lognormal": (stats.lognorm(0.6, scale=np.e), {"mean_log": 1, "std_log": 0.6}),
    "gamma": (stats.gamma(4, scale=0.25), {"mean": 1, "std": 0.5}),
    "weibull": (stats.weibull_min(1.7, scale=2), {"shape": 1.7, "scale": 2}),
    "exponential": (stats.expon(scale=2), {"mean": 2}),
    "uniform": (stats.uniform(1, 2), {"min": 1, "max": 3}),
    "truncnorm": (stats.truncnorm(-1, 1, 4), {"norm_loc": 4, "norm_scale": 1, "min": 3, "max": 5}),
    "poisson": (stats.poisson(1.5), {"mean": 1.5}),
    "shifted_poisson": (stats.poisson(1.5, loc=1), {"mean": 2.5}),
    "geometric": (stats.geom(0.4), {"mean": 2.5}),
    "negative_binomial": (stats.nbinom(2, 0.4), {"mean": 3, "dispersion": 2}),
}


def fitted(name, values, within=0.0, size=1.0):
    """Return the distributions of samples, with intervals."""
    family, sample = family_named(name), Sample.from_values(values)
    estimate = family.fit(sample)
    assert (estimate.status == "ok").all()
    own = Distributions(
        family, np.arange(len(sample)), estimate.parameters, std_error=estimate.std_error
    )
    ones = np.ones(len(sample))
    return with_intervals(own, sample, sample.n, within * ones, size * ones)


def held(distributions, name, truth):
    low, high = distributions.interval[name].T
    known = ~(np.isnan(low) & np.isnan(high))
    return float((~(low > truth) & ~(high < truth))[known].mean())


@pytest.mark.parametrize("n", [2, 3, 5, 20, 100])
@pytest.mark.parametrize("name", ["normal", "lognormal", "gamma", "weibull", "exponential"])
def test_intervals_hold_the_truth_in_samples_of_any_size(name, n):
    law, truth = TRUTH[name]
    values = law.rvs((600, n), random_state=n)
    distributions = fitted(name, list(values))
    for parameter, true in truth.items():
        assert held(distributions, parameter, true) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("name", ["uniform", "truncnorm", "poisson", "shifted_poisson", "geometric",
                                  "negative_binomial"])  # fmt: skip
def test_intervals_of_ends_and_counts_hold_the_truth(name):
    law, truth = TRUTH[name]
    # A normal distribution cut one standard deviation from its mean needs many values.
    values = law.rvs((400, 1000) if name == "truncnorm" else (600, 100), random_state=1)
    distributions = fitted(name, list(values))
    for parameter, true in truth.items():
        assert held(distributions, parameter, true) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("n", [20, 100])
def test_intervals_of_beta_distributions_hold_the_truth(n):
    """By chi-square bounds alone those of the shapes do in 50 and 85 %."""
    values = stats.beta(2, 3).rvs((200, n), random_state=n)
    distributions = fitted("beta", list(values))
    for parameter, true in {"a": 2, "b": 3, "min": 0, "max": 1}.items():
        assert held(distributions, parameter, true) == pytest.approx(0.96, abs=0.035)


@pytest.mark.parametrize("within", [0.2, 0.5, 0.8])
def test_intervals_count_how_alike_values_are(within):
    rng, n_groups, n_classes = np.random.default_rng(2), 600, 40
    sizes = 1 + rng.poisson(4, n_groups * n_classes)
    of = np.repeat(np.arange(sizes.size), sizes)
    z = np.sqrt(within) * rng.normal(size=sizes.size)[of]
    z += np.sqrt(1 - within) * rng.normal(size=of.size)
    law, truth = TRUTH["gamma"]
    values = law.ppf(stats.norm.cdf(z))
    starts = np.arange(0, sizes.size, n_classes)
    n = np.add.reduceat(sizes, starts)
    size = np.add.reduceat(sizes**2, starts) / n
    icc, _ = intraclass_correlations(values, Classes(sizes, np.full(n_groups, n_classes)))
    samples = np.split(values, np.cumsum(n)[:-1])
    distributions = fitted("gamma", samples, np.clip(icc, 0, 1), size)
    independent = fitted("gamma", samples)
    for parameter, true in truth.items():
        assert held(distributions, parameter, true) == pytest.approx(0.95, abs=0.035)
        errors = distributions.std_error[parameter]
        assert errors.mean() == pytest.approx(distributions.parameters[parameter].std(), rel=0.1)
        assert held(independent, parameter, true) < held(distributions, parameter, true)


def test_one_value_of_a_connection_has_the_errors_of_independent_ones():
    values = [np.arange(1.0, 9)]
    alone, alike = fitted("gamma", values), fitted("gamma", values, 0.5, 1.0)
    for parameter in ("mean", "std"):
        assert np.array_equal(alone.interval[parameter], alike.interval[parameter])
        assert np.array_equal(alone.std_error[parameter], alike.std_error[parameter])


def test_intervals_that_rest_on_a_level_are_normal_on_their_scale():
    family = family_named("normal")
    own = Distributions(
        family, np.arange(1), {"mean": np.array([2.0]), "std": np.array([1.0])},
        std_error={"mean": np.array([0.1]), "std": np.array([0.01])},
    )  # fmt: skip
    sample = Sample.from_values([[1.0, 3.0]])
    found = with_intervals(own, sample, np.array([np.inf]), np.zeros(1), np.ones(1)).interval
    assert found["mean"][0] == pytest.approx([2 - 0.196, 2 + 0.196], abs=1e-4)
    assert found["std"][0] == pytest.approx([1 - 0.0196, 1 + 0.0196], abs=5e-4)
