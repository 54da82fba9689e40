"""Families on a half-line or the whole line."""

from __future__ import annotations

import numpy as np
import pytest
from known_distributions import SCIPY
from scipy import stats

from connprops.families.registry import family_named
from connprops.families.sample import Sample


@pytest.mark.parametrize(
    "distribution", [{"shape": 0.7, "scale": 4.0}, {"shape": 1.7, "scale": 3.0}]
)
def test_thinning_a_large_sample_does_not_move_its_fit(distribution: dict[str, float]) -> None:
    values = SCIPY["weibull"](**distribution).rvs(200_000, random_state=3)
    shape, _, scale = stats.weibull_min.fit(values, floc=0)
    found = family_named("weibull").fit(Sample.from_values([values]))
    for name, wanted in (("shape", shape), ("scale", scale)):
        assert abs(found.parameters[name][0] - wanted) < 0.05 * found.std_error[name][0]


def test_close_values_keep_their_spread_in_a_gamma_fit() -> None:
    rng = np.random.default_rng(9)
    values = 1000 + 1e-3 * rng.normal(size=2000)
    found = family_named("gamma").fit(Sample.from_values([values])).parameters["std"]
    np.testing.assert_allclose(found, values.std(), rtol=1e-5)


def test_a_known_gamma_fit() -> None:
    values = stats.gamma(2.5, scale=0.3).rvs(1000, random_state=11)
    shape, _, scale = stats.gamma.fit(values, floc=0)
    found = family_named("gamma").fit(Sample.from_values([values])).parameters
    np.testing.assert_allclose(found["mean"], shape * scale, rtol=1e-6)
    np.testing.assert_allclose(found["std"], np.sqrt(shape) * scale, rtol=1e-4)
