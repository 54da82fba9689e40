"""Vectorised solvers: every call works on many small problems at once, one per group."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats

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
    is_root = np.zeros(x.shape, dtype=bool)
    for _ in range(_ITERATIONS):
        value, slope = function(x)
        low = np.where(value < 0, x, low)
        high = np.where(value > 0, x, high)
        newton = x - value / slope
        following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
        following = np.where(is_root, x, following)
        is_root |= ~(np.abs(following - x) > tolerance * np.abs(x))
        x = following
        if is_root.all():
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


# Nonlinear least squares: the trust-region reflective method of Branch, Coleman and Li (SIAM J.
# Sci. Comput. 21, 1999), step for step as SciPy's ``least_squares`` takes it: so that each problem
# ends where SciPy's would.

_TOLERANCE = 1e-8  # of cost, step and gradient
_EPSILON = float(np.finfo(np.float64).eps)
_INSIDE = 1e-10  # how far from a bound a start is moved
_SQUARE_TELLS = 1e-9  # of the largest eigenvalue
_POOR, _GOOD = 0.25, 0.75  # reductions over those foretold
_SHRINK, _GROW, _FULL_STEP = 0.25, 2.0, 0.95  # of the radius
_LEAST_SHARE_OF_DAMPING = 1e-3  # of the most that can be needed
_ROOT_STEPS, _ROOT_TOLERANCE = 10, 0.01

Residuals = Callable[[Floats, NDArray[np.intp]], Floats]
"""Map positions (h, p) and their problems (h,) to residuals (h, m)."""


class Minimum(NamedTuple):
    """Positions (g, p), Jacobians (g, m, p), half sums of squares (g,), and which converged."""

    x: Floats
    jacobian: Floats
    cost: Floats
    converged: Bools


def box_least_squares(
    residuals: Residuals, start: Floats, lower: Floats, upper: Floats, evaluations: int
) -> Minimum:
    """Return where sums of squares of residuals are least in a box, one problem per row.

    Converged is what ends within so many ``evaluations``, those for derivatives not counted.
    """
    x = _moved_inside(start, lower, upper, _INSIDE)
    active = np.arange(len(x))
    f = residuals(x, active)
    jacobian = _jacobian(residuals, x, f, active, lower, upper)
    cost, gradient = _cost(f), _gradient(jacobian, f)
    v, _ = _scaling(x, gradient, lower, upper)
    radius = np.linalg.norm(x / np.sqrt(v), axis=1)
    radius = np.where(radius == 0, 1.0, radius)
    damping, converged = np.zeros(len(x)), np.zeros(len(x), dtype=np.bool_)
    for evaluation in range(evaluations):
        model = _Model.of(x, jacobian, gradient, lower, upper, active)
        flat = model.optimality < _TOLERANCE
        converged[active[flat]] = True
        going = ~flat & np.isfinite(model.curvature).all(axis=(1, 2))
        active, model = active[going], model.take(going)
        if evaluation == evaluations - 1 or not active.size:
            break
        step, hat, predicted, damping[active] = model.step(radius[active], damping[active])
        trial = _moved_inside(x[active] + step, lower[active], upper[active], 0.0)
        f_trial = residuals(trial, active)
        finite = np.isfinite(f_trial).all(axis=1)
        reduction = cost[active] - _cost(f_trial)
        length = np.linalg.norm(hat, axis=1)
        ratio = _ratio(reduction, predicted)
        larger = (ratio > _GOOD) & (length > _FULL_STEP * radius[active])
        new_radius = np.where(larger, _GROW * radius[active], radius[active])
        new_radius = np.where(finite & ~(ratio < _POOR), new_radius, _SHRINK * length)
        short = np.linalg.norm(step, axis=1) < _TOLERANCE * (
            _TOLERANCE + np.linalg.norm(x[active], axis=1)
        )
        little = (reduction < _TOLERANCE * cost[active]) & (ratio > _POOR)
        ends = finite & (short | little)
        damping[active] *= np.where(finite & ~ends, radius[active] / new_radius, 1.0)
        radius[active] = new_radius
        better = finite & (reduction > 0)
        moved = active[better]
        x[moved], f[moved], cost[moved] = trial[better], f_trial[better], _cost(f_trial[better])
        jacobian[moved] = _jacobian(residuals, x[moved], f[moved], moved, lower, upper)
        gradient[moved] = _gradient(jacobian[moved], f[moved])
        converged[active[ends]] = True
        active = active[~ends]
    return Minimum(x, jacobian, cost, converged)


class _Model(NamedTuple):
    """The problems' quadratic models, in the variables that keep away from the bounds ("hat")."""

    x: Floats
    lower: Floats
    upper: Floats
    scale: Floats  # of the hat variables
    optimality: Floats
    jacobian: Floats
    of_bounds: Floats  # what the bounds add to the curvature's diagonal, in hat variables
    gradient: Floats  # in hat variables
    curvature: Floats  # in hat variables, (h, p, p)

    @classmethod
    def of(
        cls, x: Floats, jacobian: Floats, gradient: Floats, lower: Floats, upper: Floats,
        active: NDArray[np.intp],
    ) -> _Model:  # fmt: skip
        x, jacobian, gradient, lower, upper = (
            of[active] for of in (x, jacobian, gradient, lower, upper)
        )
        v, slope = _scaling(x, gradient, lower, upper)
        scale, of_bounds = np.sqrt(v), gradient * slope
        curvature = np.matmul(jacobian.transpose(0, 2, 1), jacobian)
        curvature *= scale[:, :, None] * scale[:, None, :]
        curvature += of_bounds[:, :, None] * np.eye(x.shape[1])
        optimality = np.abs(gradient * v).max(axis=1)
        hat = scale * gradient
        return cls(x, lower, upper, scale, optimality, jacobian, of_bounds, hat, curvature)

    def take(self, rows: Bools | NDArray[np.intp]) -> _Model:
        return _Model(*(of[rows] for of in self))

    def quadratic(self, along: Floats, origin: Floats) -> tuple[Floats, Floats, Floats]:
        """Return a, b, c of the model a t^2 + b t + c at origin + t along."""
        curved = np.einsum("hpq,hq->hp", self.curvature, along)
        a, b = np.sum(curved * along, axis=1) / 2, np.sum(curved * origin, axis=1)
        return a, b + np.sum(self.gradient * along, axis=1), self.value(origin)

    def value(self, at: Floats) -> Floats:
        """Return the model's value."""
        curved = np.einsum("hpq,hq->hp", self.curvature, at)
        return np.asarray(np.sum((curved / 2 + self.gradient) * at, axis=1))

    def spectrum(self) -> tuple[Floats, Floats]:
        """Return the singular values of the root of the curvature, falling, and their vectors.

        Where the curvature, a square, cannot tell the least ones from 0, from the Jacobian itself.
        """
        squares, vectors = np.linalg.eigh(self.curvature)
        s, vectors = np.sqrt(np.maximum(squares[:, ::-1], 0)), vectors[:, :, ::-1]
        near = np.flatnonzero(squares[:, 0] <= _SQUARE_TELLS * squares[:, -1])
        if near.size:
            root = self.jacobian[near] * self.scale[near, None, :]
            bounds = np.sqrt(self.of_bounds[near])[:, :, None] * np.eye(s.shape[1])
            _, s[near], vt = np.linalg.svd(np.concatenate([root, bounds], 1), full_matrices=False)
            vectors[near] = vt.transpose(0, 2, 1)
        return s, vectors

    def step(self, radius: Floats, damping: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the steps, the same in hat variables, the reductions foretold, and the damping."""
        hat, damping = self._within_radius(radius, damping)
        step, predicted = self.scale * hat, -self.value(hat)
        end = self.x + step
        outside = np.flatnonzero(~((end >= self.lower) & (end <= self.upper)).all(axis=1))
        if outside.size:
            of_outside = self.take(outside)
            hat[outside], predicted[outside] = of_outside.bounded(hat[outside], radius[outside])
            step[outside] = of_outside.scale * hat[outside]
        return step, hat, predicted, damping

    def _within_radius(self, radius: Floats, damping: Floats) -> tuple[Floats, Floats]:
        """Return the models' minima within the radius, and the damping that makes them."""
        s, vectors = self.spectrum()
        suf = np.einsum("hpk,hp->hk", vectors, self.gradient)
        full = s[:, -1] > _EPSILON * self.jacobian.shape[1] * s[:, 0]
        newton = -np.einsum("hpk,hk->hp", vectors, suf / s**2)
        inside = full & (np.linalg.norm(newton, axis=1) <= radius)
        upper = np.linalg.norm(suf, axis=1) / radius

        def excess(at: Floats) -> tuple[Floats, Floats]:
            denominator = s**2 + at[:, None]
            norm = np.linalg.norm(suf / denominator, axis=1)
            return norm - radius, -np.sum(suf**2 / denominator**3, axis=1) / norm

        phi, slope = excess(np.zeros_like(radius))
        lower = np.where(full, -phi / slope, 0.0)

        def between() -> Floats:
            return np.asarray(np.maximum(_LEAST_SHARE_OF_DAMPING * upper, np.sqrt(lower * upper)))

        alpha = np.where(~full & (damping == 0), between(), damping)
        going = ~inside
        for _ in range(_ROOT_STEPS):
            at = np.where((alpha < lower) | (alpha > upper), between(), alpha)
            phi, slope = excess(at)
            upper = np.where(going & (phi < 0), at, upper)
            lower = np.where(going, np.maximum(lower, at - phi / slope), lower)
            alpha = np.where(going, at - (phi + radius) * phi / slope / radius, alpha)
            going &= ~(np.abs(phi) < _ROOT_TOLERANCE * radius)
            if not going.any():
                break
        damped = -np.einsum("hpk,hk->hp", vectors, suf / (s**2 + alpha[:, None]))
        damped *= (radius / np.linalg.norm(damped, axis=1))[:, None]
        return np.where(inside[:, None], newton, damped), np.where(inside, 0.0, alpha)

    def bounded(self, hat: Floats, radius: Floats) -> tuple[Floats, Floats]:
        """Return the best of three steps that stay within bounds, and the reductions foretold.

        They are the step cut short, the step reflected at the bound, and that along the gradient.
        """
        theta = np.maximum(0.995, 1 - self.optimality)
        stride, hits = self._to_bound(self.x, self.scale * hat)
        reflected = np.where(hits, -hat, hat)
        on_bound = hat * stride[:, None]
        to_bound, _ = self._to_bound(self.x + self.scale * on_bound, self.scale * reflected)
        to_radius = _to_radius(on_bound, reflected, radius)
        far = np.minimum(to_bound, to_radius)
        least = np.where(far > 0, (1 - theta) * stride / far, 0.0)
        most = np.where(far > 0, np.where(far == to_bound, theta * to_bound, to_radius), -1.0)
        t, of_reflected = _least_within(self.quadratic(reflected, on_bound), least, most)
        reflected = reflected * t[:, None] + on_bound
        of_reflected = np.where(least <= most, of_reflected, np.inf)

        cut = on_bound * theta[:, None]
        down = -self.gradient
        to_bound, _ = self._to_bound(self.x, self.scale * down)
        to_radius = radius / np.linalg.norm(down, axis=1)
        most = np.where(to_bound < to_radius, theta * to_bound, to_radius)
        t, of_down = _least_within(
            self.quadratic(down, np.zeros_like(down)), np.zeros_like(most), most
        )
        down = down * t[:, None]
        of_cut = self.value(cut)
        takes_cut = (of_cut < of_reflected) & (of_cut < of_down)
        takes_reflected = (of_reflected < of_cut) & (of_reflected < of_down)
        best = np.where(takes_reflected[:, None], reflected, down)
        value = np.where(takes_reflected, of_reflected, of_down)
        return np.where(takes_cut[:, None], cut, best), -np.where(takes_cut, of_cut, value)

    def _to_bound(self, x: Floats, step: Floats) -> tuple[Floats, Bools]:
        """Return how many steps away the first bound is, and which variables meet it."""
        steps = np.maximum((self.lower - x) / step, (self.upper - x) / step)
        steps = np.where(step == 0, np.inf, steps)
        first = steps.min(axis=1)
        return first, (steps == first[:, None]) & (step != 0)


def _least_within(
    quadratic: tuple[Floats, Floats, Floats], low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Return where a t^2 + b t + c is least between low and high, and its value there."""
    a, b, c = quadratic
    extremum = -0.5 * b / a
    inside = (a != 0) & (low < extremum) & (extremum < high)
    t = np.stack([low, high, np.where(inside, extremum, low)])
    y = t * (a * t + b) + c
    best = np.argmin(y, axis=0)[None]
    return np.take_along_axis(t, best, 0)[0], np.take_along_axis(y, best, 0)[0]


def _to_radius(x: Floats, step: Floats, radius: Floats) -> Floats:
    """Return how many steps ahead the sphere about 0 is, from a place within it."""
    a, b = np.sum(step * step, axis=1), np.sum(x * step, axis=1)
    c = np.sum(x * x, axis=1) - radius**2
    q = -(b + np.copysign(np.sqrt(np.maximum(b * b - a * c, 0.0)), b))
    return np.asarray(np.maximum(q / a, c / q))


def _scaling(x: Floats, gradient: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Return Coleman's and Li's distances to the bounds that descent leads to, and their slopes."""
    to_upper = (gradient < 0) & np.isfinite(upper)
    to_lower = (gradient > 0) & np.isfinite(lower)
    v = np.where(to_upper, upper - x, np.where(to_lower, x - lower, 1.0))
    return v, np.where(to_upper, -1.0, np.where(to_lower, 1.0, 0.0))


def _moved_inside(x: Floats, lower: Floats, upper: Floats, relative: float) -> Floats:
    """Return positions off the bounds: by a relative distance, or to the next number."""
    to_lower, to_upper = x - lower, upper - x
    margin_low, margin_high = (relative * np.maximum(1, np.abs(b)) for b in (lower, upper))
    if relative:
        at_lower = (to_lower <= np.minimum(to_upper, margin_low)) & np.isfinite(lower)
        at_upper = (to_upper <= np.minimum(to_lower, margin_high)) & np.isfinite(upper)
        low, high = lower + margin_low, upper - margin_high
    else:
        at_lower, at_upper = x <= lower, x >= upper
        low, high = np.nextafter(lower, upper), np.nextafter(upper, lower)
    moved = np.where(at_lower, low, np.where(at_upper, high, x))
    return np.where((moved < lower) | (moved > upper), (lower + upper) / 2, moved)


def _jacobian(
    residuals: Residuals, x: Floats, f: Floats, problems: NDArray[np.intp], lower: Floats,
    upper: Floats,
) -> Floats:  # fmt: skip
    """Return forward differences, backward where a bound is in the way, (h, m, p)."""
    lower, upper = lower[problems], upper[problems]
    h = np.sqrt(_EPSILON) * np.where(x >= 0, 1.0, -1.0) * np.maximum(1.0, np.abs(x))
    to_lower, to_upper = x - lower, upper - x
    fits = np.abs(h) <= np.maximum(to_lower, to_upper)
    leaves = (x + h < lower) | (x + h > upper)
    cut = np.where(to_upper >= to_lower, to_upper, -to_lower)
    h = np.where(fits, np.where(leaves, -h, h), cut)
    columns = []
    for i in range(x.shape[1]):
        beside = x.copy()
        beside[:, i] += h[:, i]
        columns.append((residuals(beside, problems) - f) / (beside - x)[:, [i]])
    return np.stack(columns, axis=2)


def _cost(f: Floats) -> Floats:
    return np.asarray(np.einsum("hm,hm->h", f, f) / 2)


def _gradient(jacobian: Floats, f: Floats) -> Floats:
    return np.asarray(np.einsum("hmp,hm->hp", jacobian, f))


def _ratio(reduction: Floats, predicted: Floats) -> Floats:
    """Return the reduction over the one foretold; 1 where both are 0."""
    nothing = (predicted == 0) & (reduction == 0)
    return np.where(predicted > 0, reduction / predicted, np.where(nothing, 1.0, 0.0))
