"""Vectorised solvers: every call works on many small problems at once, one per group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats

_ITERATIONS = 200
_NOISE = 1e-12  # of a function's values, relative
# Damping, in units of the scaled curvature: the first after a step that did not climb, the most
# at which a short step means that a maximum is near, and the most that is tried.
_LEAST_DAMPING = 1e-8
_DAMPED = 1e-3
_STUCK = 1e6


def increasing_root(
    function: Callable[[Floats], tuple[Floats, Floats]],
    low: Floats,
    high: Floats,
    start: Floats,
    tolerance: float = 1e-13,
) -> Floats:
    """Return where increasing functions cross zero, one per group, all arrays (g,).

    Newton's method within a bracket that narrows; its midpoint is the step that would leave it.
    ``function`` gives values and slopes; ``tolerance`` is the relative length of the last step.
    """
    x = np.clip(start, low, high)
    # A root once found stays, so that it does not depend on the groups beside it.
    found = np.zeros(x.shape, dtype=bool)
    for _ in range(_ITERATIONS):
        value, slope = function(x)
        low = np.where(value < 0, x, low)
        high = np.where(value > 0, x, high)
        newton = x - value / slope
        following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        following = np.where(found, x, following)
        found |= ~(np.abs(following - x) > tolerance * np.abs(x))
        x = following
        if found.all():
            break
    return x


def box_maximum(
    function: Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats, Floats]],
    start: Floats,
    lower: Floats,
    upper: Floats,
    tolerance: float = _NOISE,
) -> Floats:
    """Return where smooth functions of p variables are greatest in a box, (g, p); else NaN.

    Newton's method with positive eigenvalues and Levenberg's and Marquardt's damping. ``function``
    maps positions (h, p) and their groups (h,) to values, gradients and Hessians (h, p, p);
    ``tolerance`` is what it may lack of the maximum, relative.
    """
    best = np.clip(start, lower, upper)
    active = np.arange(len(best))
    damping = np.zeros(len(best))
    value, gradient, hessian = function(best, active)
    for _ in range(_ITERATIONS):
        step = _ascent(
            best[active], gradient, hessian, lower[active], upper[active], damping[active]
        )
        trial = np.clip(best[active] + step, lower[active], upper[active])
        gain = np.sum(gradient * (trial - best[active]), axis=1)
        trial_value, trial_gradient, trial_hessian = function(trial, active)
        # A last step may seem to lose by rounding, and is still worth taking.
        slack = tolerance * (1 + np.abs(value))
        climbs = trial_value >= value - slack
        best[active] = np.where(climbs[:, None], trial, best[active])
        damping[active] = np.where(
            climbs, damping[active] / 10, np.maximum(30 * damping[active], _LEAST_DAMPING)
        )
        # A damped step is short wherever it starts, and proves nothing; but where not even the
        # shortest step climbs, rounding hides whatever is left to gain.
        arrived = climbs & (np.abs(gain) <= slack) & (damping[active] < _DAMPED)
        going = ~(arrived | (damping[active] > _STUCK) & np.isfinite(value))
        value = np.where(climbs, trial_value, value)[going]
        gradient = np.where(climbs[:, None], trial_gradient, gradient)[going]
        hessian = np.where(climbs[:, None, None], trial_hessian, hessian)[going]
        active = active[going]
        if not active.size:
            break
    best[active] = np.nan
    return best


def _ascent(
    x: Floats, gradient: Floats, hessian: Floats, lower: Floats, upper: Floats, damping: Floats
) -> Floats:
    """Return the damped Newton steps (h, p) in the variables that are free to move."""
    held = ((x <= lower) & (gradient <= 0)) | ((x >= upper) & (gradient >= 0))
    slope = np.where(held, 0.0, gradient)
    curvature = np.where(held[:, :, None] | held[:, None, :], 0.0, -hessian)
    # Units of the variables differ widely: scale each by its own curvature.
    scale = np.sqrt(np.abs(np.einsum("hii->hi", curvature)))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = curvature / scale[:, :, None] / scale[:, None, :]
    # eigh refuses NaN; gradients that are NaN still make the step NaN, and so never taken.
    eigenvalues, vectors = np.linalg.eigh(np.where(np.isfinite(scaled), scaled, 0.0))
    size = np.maximum(np.abs(eigenvalues), 1e-10) + damping[:, None]
    projected = np.einsum("hij,hi->hj", vectors, slope / scale) / size
    return np.asarray(np.einsum("hij,hj->hi", vectors, projected) / scale)


def smallest_count(
    cdf: Callable[[Floats, NDArray[np.intp]], Floats], q: Floats, guess: Floats, lowest: Floats
) -> Floats:
    """Return the smallest integers k >= ``lowest`` with ``cdf(k) >= q``, of those that float64 has.

    Steps of doubling width from the guess bracket the answer, then bisection finds it. ``cdf`` maps
    integers (h,) and their places (h,) in ``q`` to probabilities.
    """
    below = lowest - 1  # cdf(below) < q <= cdf(above) once both are known
    above = np.full_like(q, np.inf)
    k = np.maximum(np.floor(guess), lowest)
    active = np.arange(len(q))
    width = 1.0
    while active.size:
        # Written so that a probability that is NaN ends the search.
        short = cdf(k[active], active) < q[active]
        below[active] = np.where(short, k[active], below[active])
        above[active] = np.where(short, above[active], k[active])
        low, high = below[active], above[active]
        # Beyond 2^53 floating numbers are further apart than 1: neighbours end the search.
        step = np.maximum(width, np.spacing(k[active]))
        following = np.where(
            np.isinf(high), low + step, np.maximum(high - step, np.floor((low + high) / 2))
        )
        going = (following > low) & (following < high) | np.isinf(high)
        k[active], active = following, active[going]
        width *= 2
    return above
