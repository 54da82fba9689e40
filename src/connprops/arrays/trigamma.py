"""The trigamma function of positive numbers, to the last digits, and its inverse.

SciPy has it as a zeta function of any order, which takes 20 times as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from connprops.arrays import Floats

_SHIFT = 8
"""How far the argument is raised, by recurrence, before the asymptotic series is used."""

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
"""Bernoulli numbers of even order: the first that is left out is below the last digit."""

_FLAT = 1e-7
"""Value below which the inverse is that of the function's first term."""

_NEWTON_STEPS = 6


def trigamma(x: Floats) -> Floats:
    """Return the second derivative of the logarithm of the gamma function of positive numbers."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        below = _powers_below(x)
        inverse = 1 / (x + _SHIFT)
    series = _polynomial(np.square(inverse), _BERNOULLI)
    series += inverse / 2
    series += 1
    series *= inverse
    return np.asarray(series + below)


def inverse_trigamma(value: Floats) -> Floats:
    """Return where the trigamma function has these positive values, by Newton's method.

    The function's reciprocal is nearly a straight line, from above which the steps only descend.
    """
    x = 0.5 + 1 / value
    for _ in range(_NEWTON_STEPS):
        slope = trigamma(x)
        x = x + slope * (1 - slope / value) / _tetragamma(x)
    return np.asarray(np.where(value < _FLAT, 1 / value, x))


def _tetragamma(x: Floats) -> Floats:
    """Return the derivative of the trigamma function of positive numbers."""
    inverse = 1 / (x + _SHIFT)
    square = inverse**2
    slopes = [(2 * k + 3) * number for k, number in enumerate(_BERNOULLI)]
    series = _polynomial(square, slopes)
    return np.asarray(-2 * _powers_below(x, of_cubes=True) - square * (1 + inverse + series))


def _powers_below(x: Floats, *, of_cubes: bool = False) -> Floats:
    """Return the sum of inverse squares of the argument and of those up to where it is raised."""
    total, term, power = np.zeros_like(x), np.empty_like(x), np.empty_like(x)
    for step in reversed(range(_SHIFT)):  # in place: fresh memory would take most of the time
        np.add(x, step, out=term)
        np.multiply(term, term, out=power)
        if of_cubes:
            power *= term
        total += np.divide(1.0, power, out=power)
    return total


def _polynomial(square: Floats, coefficients: Sequence[float]) -> Floats:
    """Return a polynomial without a constant, by Horner's rule."""
    total = np.full_like(square, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= square
        total += coefficient
    total *= square
    return total
