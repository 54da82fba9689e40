"""Families on a half-line or the whole line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_distributions import SCIPY
from scipy import stats

from connprops.families.continuous import common_quantiles, levels
from connprops.families.goodness import ks
from connprops.families.registry import family_named
from connprops.families.sample import Known, Sample


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


# Quantiles


def test_a_list_of_quantiles_has_straight_lines_between_them() -> None:
    p = levels(5)
    quantile = np.array([[0.0, 1, 1, 4, 6], [-2, -1, 0, 1, 2]])
    family, params = family_named("quantiles"), {"quantile": quantile}
    x = np.array([[-1, 0.5, 1, 2.5, 5, 7], [-3, -1.5, 0, 0.5, 1.25, 3]])
    upto = family.cdf(x, params)
    step = np.where(x[0] >= 1, 1.0, 0.0) * (p[2] - p[1])
    lines = np.interp(x[0], [0, 1, 4, 6], [0, p[1], p[3] - (p[2] - p[1]), 1 - (p[2] - p[1])])
    np.testing.assert_allclose(upto[0], lines + step, atol=1e-15)
    np.testing.assert_allclose(upto[1], np.interp(x[1], quantile[1], p), atol=1e-15)
    below, _ = family.cdf_sides(x, params)
    np.testing.assert_allclose((upto - below)[0], [0, 0, p[2] - p[1], 0, 0, 0], atol=1e-15)
    q = np.linspace(0, 1, 101)[None].repeat(2, axis=0)
    expected = [np.interp(q[0], p, row) for row in quantile]
    np.testing.assert_allclose(family.ppf(q, params), expected, atol=1e-14)
    fine = np.array([np.interp((np.arange(10**6) + 0.5) / 10**6, p, row) for row in quantile])
    np.testing.assert_allclose(family.mean(params), fine.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(family.std(params), fine.std(axis=1), rtol=1e-6)
    density = np.exp(family.logpdf(np.array([[2.0], [0.5]]), params))[:, 0]
    np.testing.assert_allclose(density, [(p[3] - p[2]) / 3, p[3] - p[2]])
    assert np.exp(family.logpdf(np.array([[1.0], [9]]), params))[:, 0].tolist() == [
        pytest.approx(p[2] - p[1]), 0
    ]  # fmt: skip


def test_quantiles_are_those_of_the_data_with_the_errors_of_quantiles():
    rng = np.random.default_rng(3)
    sample = Sample.from_values(list(rng.normal(5, 2, (400, 500))))
    estimate = family_named("quantiles").fit(sample)
    truth = stats.norm(5, 2).ppf(levels()[4:-4])
    z = (estimate.parameters["quantile"] - 0)[:, 4:-4] - truth
    z /= estimate.std_error["quantile"][:, 4:-4]
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(400) + 2 / np.sqrt(500)
    assert 0.8 < z.std(axis=0).min() <= z.std(axis=0).max() < 1.25
    np.testing.assert_allclose(family_named("quantiles").mean(estimate.parameters), sample.mean)
    np.testing.assert_allclose(family_named("quantiles").std(estimate.parameters), sample.std)
    assert np.isnan(estimate.std_error["quantile"][:, [0, -1]]).all()


def test_few_values_have_the_quantiles_that_all_have_in_common():
    rng = np.random.default_rng(4)
    skewed = rng.exponential(1, (40, 200)) * rng.gamma(9, 0.1, (40, 1))
    common = common_quantiles(Sample.from_values(list(skewed)))
    expected = stats.expon.ppf(np.minimum(levels(), 0.995)) - 1
    np.testing.assert_allclose(common[:-4], expected[:-4], atol=0.1)
    few = replace(Sample.from_values([[1.0, 3.0]]), known=Known(shape=common))
    quantile = family_named("quantiles").fit(few).parameters["quantile"][0]
    assert stats.pearsonr(quantile, common).statistic > 0.98
    assert family_named("quantiles").mean({"quantile": quantile[None]})[0] == pytest.approx(2)


def test_values_that_are_repeated_keep_their_place_among_quantiles():
    values = np.minimum(np.random.default_rng(5).gamma(4, 0.25, 400), 1.2)
    family, sample = family_named("quantiles"), Sample.from_values([values])
    found = family.fit(sample).parameters
    assert found["quantile"][0, -1] == 1.2
    below, upto = family.cdf_sides(np.array([[1.2]]), found)
    assert (upto - below)[0, 0] == pytest.approx((values == 1.2).mean(), abs=0.03)
    assert ks(sample, family, found)[0] < 0.03
