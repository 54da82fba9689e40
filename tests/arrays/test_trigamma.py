"""The trigamma function against SciPy's, and its inverse against itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from connprops.arrays.trigamma import inverse_trigamma, trigamma


def test_trigamma_is_scipys_to_the_last_digits():
    x = np.concatenate([np.logspace(-12, 12, 2001), np.linspace(0.01, 30, 2001)])
    np.testing.assert_allclose(trigamma(x), special.polygamma(1, x), rtol=2e-15)


def test_trigamma_at_the_ends_of_numbers():
    np.testing.assert_array_equal(trigamma(np.array([0.0, np.inf, np.nan])), [np.inf, 0.0, np.nan])


def test_trigamma_of_a_single_number():
    assert float(trigamma(np.array(1.0))) == pytest.approx(np.pi**2 / 6, rel=1e-15)


def test_inverse_trigamma_undoes_trigamma():
    x = np.logspace(-1, 6, 1001)
    np.testing.assert_allclose(inverse_trigamma(trigamma(x)), x, rtol=1e-12)
