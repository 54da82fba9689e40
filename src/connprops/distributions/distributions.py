"""The distributions of one property in many pathways, evaluated together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Floats, Ints
from connprops.families.family import Family


@dataclass(frozen=True)
class Distributions:
    """The distributions of one property in all g pathways that have one family.

    Attributes
    ----------
    family
        The family.
    pathway
        Numbers of the pathways, (g,), increasing: see :class:`connprops.pathways.Pathways`.
    parameters
        Parameters by name, (g,), or (g, k) for lists, padded with NaN.
    lower, upper
        Bounds of drawn values, (g,), or one for all; infinite where there are none.
    std_error
        Standard errors of the parameters, of their shapes, NaN where there are none; or empty.
    interval
        95 % intervals of the parameters, of their shapes and (..., 2); or empty.
    own_value
        The parameters by a pathway's own values alone, as ``std_error``.
    """

    family: Family
    pathway: Ints
    parameters: dict[str, Floats]
    lower: Floats = field(default_factory=lambda: np.array(-np.inf))
    upper: Floats = field(default_factory=lambda: np.array(np.inf))
    std_error: dict[str, Floats] = field(default_factory=dict)
    interval: dict[str, Floats] = field(default_factory=dict)
    own_value: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            bound = np.broadcast_to(getattr(self, name), self.pathway.shape)
            object.__setattr__(self, name, bound)

    def __len__(self) -> int:
        return len(self.pathway)

    def take(self, rows: NDArray[Any] | slice) -> Distributions:
        """Return the distributions of some pathways, by place, mask or slice."""
        return Distributions(
            self.family,
            self.pathway[rows],
            {name: values[rows] for name, values in self.parameters.items()},
            self.lower[rows],
            self.upper[rows],
            {name: errors[rows] for name, errors in self.std_error.items()},
            own_value={name: values[rows] for name, values in self.own_value.items()},
            interval={name: bounds[rows] for name, bounds in self.interval.items()},
        )

    def joined(self, other: Distributions) -> Distributions:
        """Return these distributions and those of other pathways, of the same family."""
        order = np.argsort(np.concatenate([self.pathway, other.pathway]), kind="stable")

        def stacked(a: Floats, b: Floats) -> Floats:
            return np.concatenate(same_width(a, b))[order]

        def beside(column: str) -> dict[str, Floats]:
            return {
                name: stacked(*(
                    getattr(part, column).get(name, np.full_like(part.parameters[name], np.nan))
                    for part in (self, other)
                ))
                for name in self.parameters
            }  # fmt: skip

        return Distributions(
            self.family,
            np.concatenate([self.pathway, other.pathway])[order],
            {name: stacked(own, other.parameters[name]) for name, own in self.parameters.items()},
            stacked(self.lower, other.lower),
            stacked(self.upper, other.upper),
            beside("std_error"),
            own_value=beside("own_value"),
        )

    def cdf(self, x: ArrayLike) -> Floats:
        """Return the probability of values up to and including x, (g,) or (g, m), as drawn."""
        x = np.asarray(x, dtype=np.float64)
        low, high = self._bounds(x.ndim)
        return _upto_bounds(x, self.family.cdf(x, self.parameters), low, high)

    def cdf_sides(self, x: ArrayLike) -> tuple[Floats, Floats]:
        """Return the probabilities of drawn values below x, and of those up to it."""
        x = np.asarray(x, dtype=np.float64)
        low, high = self._bounds(x.ndim)
        below, upto = self.family.cdf_sides(x, self.parameters)
        below = np.where(x <= low, 0.0, np.where(x > high, 1.0, below))
        return below, _upto_bounds(x, upto, low, high)

    def _bounds(self, ndim: int) -> tuple[Floats, Floats]:
        """Return the bounds shaped to broadcast against values of ``ndim`` dimensions."""
        return (self.lower[:, None], self.upper[:, None]) if ndim > 1 else (self.lower, self.upper)

    def ppf(self, q: ArrayLike) -> Floats:
        """Return quantiles, (g,) or (g, m), within the bounds."""
        q = np.asarray(q, dtype=np.float64)
        low, high = self._bounds(q.ndim)
        clipped: Floats = np.clip(self.family.ppf(q, self.parameters), low, high)
        return clipped


def _upto_bounds(x: Floats, upto: Floats, low: Floats, high: Floats) -> Floats:
    """Return probabilities of values up to x, where what lies beyond a bound is drawn on it."""
    return np.where(x < low, 0.0, np.where(x >= high, 1.0, upto))


def same_width(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return both arrays, lists (g, k) padded with NaN to the longer of both."""
    if a.ndim == 1:
        return a, b
    width = max(a.shape[1], b.shape[1])
    first, second = (
        np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=np.nan) for x in (a, b)
    )
    return first, second
