"""Quantiles of many distributions at once, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hand_made import Marginal, model_of
from known_distributions import PARAMETERS, SCIPY
from scipy import special, stats

from connprops.distributions.distributions import Distributions
from connprops.draw.quantiles import Quantiles
from connprops.families.registry import family_named

GRID = np.concatenate(
    [special.ndtr(np.linspace(-7, 7, 701)), np.random.default_rng(1).random(300), [2.0**-53]]
)


@pytest.mark.parametrize("name", sorted(SCIPY))
def test_quantiles_are_scipys(name):
    family = family_named(name)
    for parameters in PARAMETERS[name]:
        given = {key: np.array([float(value)]) for key, value in parameters.items()}
        distributions = Distributions(
            family, np.array([0]), given, np.array([-np.inf]), np.array([np.inf])
        )
        found = Quantiles([distributions], np.arange(1))(np.zeros(GRID.size, dtype=np.int64), GRID)
        exact = family.ppf(GRID[None], given)[0]
        distribution = SCIPY[name](**parameters)
        if family.kind == "discrete":
            assert (found == exact).all()
            middle = (GRID > 1e-6) & (GRID < 1 - 1e-6)
            assert (
                found[middle] == distribution.ppf(GRID[middle])
            ).mean() > 0.99  # rounding at steps
        else:
            scale = np.abs(exact) if name == "gamma" else distribution.std()
            vast = name == "gamma" and distribution.mean() > 100 * distribution.std()
            assert (np.abs(found - exact) <= (2e-9 if vast else 1e-9) * scale).all()
            middle = (GRID > 1e-6) & (GRID < 1 - 1e-6)
            np.testing.assert_allclose(
                found[middle],
                distribution.ppf(GRID[middle]),
                rtol=1e-6,
                atol=1e-6 * distribution.std(),
            )


def test_polynomials_serve_the_usual_distributions_and_keep_their_word():
    rng = np.random.default_rng(2)
    n = 60
    mean, shape = rng.uniform(0.1, 100, n), 10 ** rng.uniform(-0.5, 4, n)
    given = {"mean": mean, "std": mean / np.sqrt(shape)}
    none = np.full(n, np.inf)
    distributions = Distributions(family_named("gamma"), np.arange(n), given, -none, none)
    quantiles = Quantiles([distributions], np.arange(n))
    pathway, q = np.repeat(np.arange(n), GRID.size), np.tile(GRID, n)
    expected = stats.gamma(shape[pathway], scale=(mean / shape)[pathway]).ppf(q)
    np.testing.assert_allclose(quantiles(pathway, q), expected, rtol=1e-9)
    assert not np.isnan(quantiles._functions[0]._coefficients).any()


@pytest.mark.parametrize("bounds", [(-30, 90), (-90, 30)])
def test_a_cut_far_out_changes_no_quantile(bounds):
    loc, scale = 1e-8, 1e-9
    low, high = (loc + scale * z for z in bounds)
    given = {"norm_loc": loc, "norm_scale": scale, "min": low, "max": high}
    given = {key: np.array([value]) for key, value in given.items()}
    distributions = Distributions(
        family_named("truncnorm"), np.array([0]), given, np.array([low]), np.array([high])
    )
    z = np.linspace(-8, 5, 1301)  # beyond, probabilities are too near 1 to tell z
    q = special.ndtr(z)
    for found in (
        Quantiles([distributions], np.arange(1))(np.zeros(q.size, np.int64), q),
        distributions.ppf(q[None])[0],
    ):
        np.testing.assert_allclose(found, loc + scale * z, rtol=1e-9)


def test_lists_of_values_have_their_probabilities():
    listed_distribution = Marginal("discrete", {"val": [5.0, 1.0, 2.0], "p": [0.2, 0.5, 0.3]})
    (distributions,) = model_of({"a": listed_distribution}).distributions("a")
    q = np.array([1e-9, 0.49999, 0.50001, 0.79999, 0.80001, 1 - 2.0**-53])
    quantiles = Quantiles([distributions], np.arange(1))
    assert quantiles(np.zeros(6, np.int64), q).tolist() == [1, 1, 2, 2, 5, 5]
