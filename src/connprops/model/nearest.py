"""The distribution of another family that is nearest to one, in Wasserstein distance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.families.registry import FAMILIES

_Z = np.linspace(-5, 5, 202)
PROBABILITIES: Floats = special.ndtr((_Z[1:] + _Z[:-1]) / 2)
"""Probabilities at which distributions are laid beside each other, (m,), denser in the tails."""

MASS: Floats = np.diff(special.ndtr(_Z)) / np.ptp(special.ndtr(_Z))
"""The weight of each of them, (m,)."""

_AROUND = 0.25
"""How far around a start the search begins, in units of the standard deviation or of logarithms."""


class Extent(NamedTuple):
    """What a search for a nearest distribution starts from."""

    mean: float
    std: float
    low: float
    high: float


class Target(NamedTuple):
    """A family of which the nearest distribution is sought.

    ``parameters`` makes those of the ``family`` of free numbers; ``starts`` gives these.
    """

    family: str
    parameters: Callable[..., dict[str, float]]
    starts: Callable[[Extent], tuple[tuple[float, ...], ...]]
    is_positive: bool = False


def _log(value: float) -> float:
    return float(np.log(max(value, 1e-300)))


def _start_of_logs(m: Extent) -> tuple[tuple[float, ...], ...]:
    square = np.log1p((m.std / m.mean) ** 2)
    return ((_log(m.mean) - square / 2, _log(square) / 2),)


def _cut_at_one_std(center: float, log_std: float) -> dict[str, float]:
    """Return a normal distribution between one standard deviation to either side, above 0."""
    std = float(np.exp(log_std))
    return {"norm_loc": center, "norm_scale": std, "min": max(center - std, 0.0),
            "max": center + std}  # fmt: skip


NORMAL = Target(
    "normal", lambda a, b: {"mean": a, "std": float(np.exp(b))},
    lambda m: ((m.mean, _log(m.std)),),
)  # fmt: skip
GAMMA = Target(
    "gamma", lambda a, b: {"mean": max(a, 1e-300), "std": float(np.exp(b))},
    lambda m: ((m.mean, _log(m.std)),), is_positive=True,
)  # fmt: skip
LOGNORMAL = Target(
    "lognormal", lambda a, b: {"mean_log": a, "std_log": float(np.exp(b))}, _start_of_logs,
    is_positive=True,
)  # fmt: skip
UNIFORM = Target(
    "uniform", lambda a, b: {"min": a, "max": a + float(np.exp(b))},
    lambda m: ((m.mean - np.sqrt(3) * m.std, _log(np.sqrt(12) * m.std)),),
)  # fmt: skip
EXPONENTIAL = Target(
    "exponential", lambda a: {"mean": float(np.exp(a))}, lambda m: ((_log(m.mean),),),
    is_positive=True,
)  # fmt: skip
CUT_NORMAL = Target(
    "truncnorm", _cut_at_one_std,
    lambda m: (((m.low + m.high) / 2, _log((m.high - m.low) / 2)), (0.0, _log(m.high))),
    is_positive=True,
)  # fmt: skip
COUNTS = Target(
    "ztpoisson", lambda a: {"mean": 1 + float(np.exp(a))}, lambda m: ((_log(m.mean - 1),),),
    is_positive=True,
)  # fmt: skip


class Nearest(NamedTuple):
    """The nearest distribution of a family, its quantiles, (m,), and how far it is."""

    family: str
    parameters: dict[str, float]
    values: Floats
    wasserstein: float


def quantiles_as_drawn(distributions: Distributions, *, whole: bool) -> Floats:
    """Return the quantiles of values as they are drawn, (g, m), at :data:`PROBABILITIES`."""
    values = distributions.ppf(np.tile(PROBABILITIES, (len(distributions), 1)))
    return np.asarray(np.rint(values) if whole else values, dtype=np.float64)


def quantiles_of(family: str, parameters: Mapping[str, float]) -> Floats:
    """Return the quantiles of a distribution, (m,)."""
    own = {name: np.array([value]) for name, value in parameters.items()}
    return np.asarray(FAMILIES[family].ppf(PROBABILITIES[None], own)[0])


def mixed(values: Floats, weight: Floats) -> Floats:
    """Return the quantiles of a mixture, (m,), of those of its parts, (g, m), and weights (g,)."""
    if len(values) == 1:
        return np.asarray(values[0], dtype=np.float64)
    order = np.argsort(values, axis=None)
    reached = np.cumsum((weight[:, None] * MASS).ravel()[order])
    place = np.searchsorted(reached / reached[-1], PROBABILITIES)
    return np.asarray(values.ravel()[order][np.minimum(place, order.size - 1)], dtype=np.float64)


def wasserstein(a: Floats, b: Floats) -> Floats:
    """Return the Wasserstein distance of quantiles, (..., m), by their difference."""
    return np.asarray((np.abs(a - b) * MASS).sum(axis=-1))


def nearest(values: Floats, targets: Sequence[Target], *, tries: int = 2) -> Nearest | None:
    """Return the nearest distribution of some families to quantiles, (m,).

    The ``tries`` starts that are nearest are followed. Constant values have none: they are points.
    """
    from scipy.optimize import minimize

    mean = float((values * MASS).sum())
    std = float(np.sqrt(((values - mean) ** 2 * MASS).sum()))
    if std == 0:
        return None
    moments = Extent(mean, std, float(values[0]), float(values[-1]))

    def of(target: Target, free: Sequence[float]) -> Floats:
        return quantiles_of(target.family, target.parameters(*free))

    def distance(free: NDArray[np.float64], target: Target) -> float:
        away = float(wasserstein(values, of(target, free.tolist()))) / std
        return away if np.isfinite(away) else 1e9

    starts = [
        (distance(np.array(start), target), number, np.array(start))
        for number, target in enumerate(targets)
        if mean > 0 or not target.is_positive
        for start in target.starts(moments)
    ]
    tried = []
    for _, number, first in sorted(starts, key=lambda start: start[0])[:tries]:
        step = np.full(first.size, _AROUND)
        step[:-1] *= std if targets[number].family != "lognormal" else 1.0
        simplex = np.vstack([first, first + np.diag(step)])
        best = minimize(
            distance, first, (targets[number],), "Nelder-Mead",
            options={"initial_simplex": simplex, "xatol": 1e-6, "fatol": 1e-8, "maxiter": 300},
        )  # fmt: skip
        tried.append((float(best.fun), number, best.x.tolist()))
    if not tried:
        return None
    away, number, free = min(tried)
    target = targets[number]
    return Nearest(target.family, target.parameters(*free), of(target, free), away * std)
