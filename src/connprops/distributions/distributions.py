"""The distributions of one property in many pathways, evaluated together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Floats
from connprops.families.registry import Family


@dataclass(frozen=True)
class Distributions:
    """The pathways of a property that have distributions of one family, and their parameters.

    ``pathway`` is source index times number of target types plus target index, (g,), increasing;
    ``parameters`` maps names to (g,), or (g, k) for lists, padded with NaN; ``lower`` and
    ``upper`` are the bounds of drawn values, infinite where there are none.
    """

    family: Family
    pathway: NDArray[np.int64]
    parameters: dict[str, Floats]
    lower: Floats
    upper: Floats

    def take(self, rows: NDArray[Any]) -> Distributions:
        """Return the distributions of some pathways, by their place here."""
        parameters = {name: values[rows] for name, values in self.parameters.items()}
        return Distributions(
            self.family, self.pathway[rows], parameters, self.lower[rows], self.upper[rows]
        )

    def cdf(self, x: ArrayLike) -> Floats:
        """Return the probability of values up to and including x, (g,) or (g, m), as drawn."""
        return self.cdf_sides(x)[1]

    def cdf_sides(self, x: ArrayLike) -> tuple[Floats, Floats]:
        """Return the probabilities of drawn values below x, and of those up to it."""
        x = np.asarray(x, dtype=np.float64)
        low, high = (b[:, None] if x.ndim > 1 else b for b in (self.lower, self.upper))
        below, upto = self.family.cdf_sides(x, self.parameters)
        # What lies beyond a bound is drawn on it.
        return (
            np.where(x <= low, 0.0, np.where(x > high, 1.0, below)),
            np.where(x < low, 0.0, np.where(x >= high, 1.0, upto)),
        )

    def ppf(self, q: ArrayLike) -> Floats:
        """Return quantiles, (g,) or (g, m), within the bounds."""
        q = np.asarray(q, dtype=np.float64)
        low, high = (b[:, None] if q.ndim > 1 else b for b in (self.lower, self.upper))
        clipped: Floats = np.clip(self.family.ppf(q, self.parameters), low, high)
        return clipped
