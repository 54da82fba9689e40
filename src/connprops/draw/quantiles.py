"""Quantiles of many laws at once, fast: what turns uniform numbers into values of a property.

Each way of computing them belongs to a family, so that a value depends on the law and the number
alone, not on how many are computed together:

- closed forms are evaluated as they are;
- laws of counts and of lists keep their distribution function as steps, of which a guide table
  finds the right one in constant time (Chen and Asau 1974, AIIE Transactions 6): exact;
- the gamma, beta and truncated normal laws, whose quantiles take an iteration each, keep
  polynomials of degree 11 on panels of the standard normal quantile z of the probability, fitted
  once for each law at Chebyshev's nodes: a quantile differs from the exact one by less than 1e-9
  of the law's standard deviation, relatively for the gamma law (by 2e-9 for shapes beyond 10^5,
  where the iteration itself is no better). That is measured for each law where the error is
  greatest, at the panels' edges; laws for which it does not hold (some beta laws of infinite
  density) and numbers beyond the panels (|z| > 5, six in 10^7) are iterated.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from connprops.laws import Laws

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS_AT_MOST = 4096
_CELLS_AT_MOST = 256
_ALMOST_1 = 1 - 2.0**-53

_PANELS = 10
_REACH = 5.0
_DEGREE = 11
_TOLERANCE = 3e-10


class Quantiles:
    """Quantile functions of the laws of a property, by pathway.

    Parameters
    ----------
    laws
        The laws, family by family: :meth:`connprops.model.Model.laws`.
    n_pathways
        Number of pathways there may be: those without a law have no values.
    """

    def __init__(self, laws: Sequence[Laws], n_pathways: int) -> None:
        self._functions = [_function(group) for group in laws]
        self._group = np.full(n_pathways, -1, dtype=np.int16)
        self._row = np.zeros(n_pathways, dtype=np.int32)
        for number, group in enumerate(laws):
            self._group[group.pathway] = number
            self._row[group.pathway] = np.arange(group.pathway.size)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Return whether each pathway has a law, (n_pathways,)."""
        return self._group >= 0

    def __call__(self, pathway: Ints, q: Floats) -> Floats:
        """Return the quantiles q, within (0, 1), of the laws of pathways, (n,), within bounds."""
        if len(self._functions) == 1:
            return self._functions[0](self._row[pathway], q)
        group = self._group[pathway]
        values = np.empty(q.shape)
        for number, function in enumerate(self._functions):
            at = np.flatnonzero(group == number)
            if at.size:
                values[at] = function(self._row[pathway[at]], q[at])
        return values


Rows = NDArray[np.int32]
Function = Callable[[Rows, Floats], Floats]


def _function(laws: Laws) -> Function:
    """Return the quantile function of the laws: rows of them and probabilities to values."""
    family = laws.family
    if family.name == "discrete":
        return _lists(laws)
    if family.kind == "discrete" and family.name not in ("constant", "zero"):
        return _Counts(laws)
    if family.name in _TRANSFORMS:
        return _Panels(laws)
    return _Exact(laws)


class _Exact:
    """The family's own quantile function."""

    def __init__(self, laws: Laws) -> None:
        self._laws = laws

    def __call__(self, row: Rows, q: Floats) -> Floats:
        return self._laws.take(row).ppf(q)


def _lists(laws: Laws) -> Function:
    """Return the quantiles of laws of lists of values."""
    value, p = laws.parameters["val"], laws.parameters["p"]
    order = np.argsort(value, axis=1)  # NaN, which pads, comes last
    value, p = np.take_along_axis(value, order, 1), np.take_along_axis(p, order, 1)
    reached = np.nancumsum(p, axis=1)
    reached /= reached[:, -1:]
    held = ~np.isnan(value)
    counts = np.count_nonzero(held, axis=1)
    bounded = np.clip(value, laws.lower[:, None], laws.upper[:, None])
    return _Steps(bounded[held], reached[held], counts)


class _Steps:
    """Exact quantiles of laws of few values.

    ``value`` and ``reached``, the distribution function at the values, hold those of all laws one
    after the other, ``counts`` of each.
    """

    def __init__(self, value: Floats, reached: Floats, counts: Ints) -> None:
        last = np.cumsum(counts) - 1
        reached[last] = 1.0  # whatever rounding has left
        self._value, self._reached = value, reached
        self._cells = min(_CELLS_AT_MOST, 1 << int(counts.max(initial=1)).bit_length())
        starts = np.arange(self._cells) / self._cells
        self._guide = np.empty((counts.size, self._cells), dtype=np.int32)
        for law, (stop, n) in enumerate(zip((last + 1).tolist(), counts.tolist(), strict=True)):
            first = stop - n
            self._guide[law] = first + np.searchsorted(reached[first:stop], starts)

    def __call__(self, row: Rows, q: Floats) -> Floats:
        step = self._guide[row, (q * self._cells).astype(np.int32)]
        beyond = np.flatnonzero(self._reached[step] < q)
        while beyond.size:
            step[beyond] += 1
            beyond = beyond[self._reached[step[beyond]] < q[beyond]]
        return self._value[step]


class _Counts:
    """Exact quantiles of laws of counts: by steps where a law has few, else by the family."""

    def __init__(self, laws: Laws) -> None:
        self._exact = _Exact(laws)
        lowest = laws.family.support(laws.parameters)[0]
        highest = laws.family.ppf(np.full(laws.pathway.shape, _ALMOST_1), laws.parameters)
        few = np.flatnonzero(highest - lowest < _STEPS_AT_MOST)
        counts = (highest - lowest)[few].astype(np.int64) + 1
        self._place = np.full(laws.pathway.size, -1, dtype=np.int32)
        self._place[few] = np.arange(few.size)
        row = np.repeat(few, counts)
        ends = np.cumsum(counts)
        value = lowest[row] + np.arange(row.size) - np.repeat(ends - counts, counts)
        held = laws.take(row)
        reached = held.family.cdf(value, held.parameters)
        self._steps = _Steps(np.clip(value, held.lower, held.upper), reached, counts)

    def __call__(self, row: Rows, q: Floats) -> Floats:
        place = self._place[row]
        many = place < 0
        if not many.any():
            return self._steps(place, q)
        values = np.empty(q.shape)
        values[many] = self._exact(row[many], q[many])
        values[~many] = self._steps(place[~many], q[~many])
        return values


def _identity(x: Floats) -> Floats:
    return x


_TRANSFORMS: dict[str, tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]] = {
    "gamma": (np.log, np.exp),
    "beta": (_identity, _identity),
    "truncnorm": (_identity, _identity),
}
"""The families that panels are made for; what they hold polynomials of, and its inverse."""


class _Panels:
    """Quantiles by polynomials of the normal quantile z, made when a law is first asked for."""

    def __init__(self, laws: Laws) -> None:
        self._laws = laws
        self._exact = _Exact(laws)
        self._into, self._back = _TRANSFORMS[laws.family.name]
        n = laws.pathway.size
        self._coefficients = np.empty((n * _PANELS, _DEGREE + 1))
        self._made = np.zeros(n, dtype=np.bool_)
        self._usable = np.zeros(n, dtype=np.bool_)
        self._all_made = self._all_usable = False
        self._making = threading.Lock()

    def __call__(self, row: Rows, q: Floats) -> Floats:
        if not (self._all_made or self._made[row].all()):
            with self._making:  # another thread may have made them meanwhile
                self._make(np.unique(row[~self._made[row]]))
        z = special.ndtri(q)
        place = (z + _REACH) * (_PANELS / (2 * _REACH))
        panel = place.astype(np.int64)
        inside = (np.abs(z) < _REACH) & (self._all_usable or self._usable[row])
        if inside.all():
            return self._polynomials(row, panel, place)
        values = np.empty(q.shape)
        rest = ~inside
        values[rest] = self._exact(row[rest], q[rest])
        values[inside] = self._polynomials(row[inside], panel[inside], place[inside])
        return values

    def _polynomials(self, row: Rows, panel: Ints, place: Floats) -> Floats:
        t = 2 * (place - panel) - 1
        c = self._coefficients.take(row * np.int64(_PANELS) + panel, axis=0)
        total = c[:, _DEGREE] * t
        for power in range(_DEGREE - 1, 0, -1):
            total += c[:, power]
            total *= t
        total += c[:, 0]
        values = self._back(total)
        return np.clip(values, self._laws.lower[row], self._laws.upper[row])

    def _make(self, rows: Ints) -> None:
        """Fit the polynomials of some laws, and find whether they serve."""
        if not rows.size:
            return
        laws, grid = self._laws.take(rows), _grid()
        with np.errstate(all="ignore"):
            exact = self._into(laws.family.ppf(np.tile(grid.q, (rows.size, 1)), laws.parameters))
            of_nodes, of_edges = exact[:, : grid.n_nodes], exact[:, grid.n_nodes :]
            fitted = np.einsum(
                "pij,lpj->lpi", grid.inverse, of_nodes.reshape(rows.size, _PANELS, -1)
            )
            # Between Chebyshev's nodes the error is greatest near the ends of a panel.
            errors = [
                np.einsum("lpi,pi->lp", fitted, powers) - found
                for powers, found in zip(
                    grid.edges, (of_edges[:, :-1], of_edges[:, 1:]), strict=True
                )
            ]
            scale = 1.0 if self._into is np.log else laws.family.std(laws.parameters)
            self._usable[rows] = np.abs(errors).max(axis=(0, 2)) < _TOLERANCE * scale
        self._coefficients.reshape(-1, _PANELS, _DEGREE + 1)[rows] = fitted
        self._made[rows] = True
        self._all_made = bool(self._made.all())
        self._all_usable = bool(self._usable.all())


@dataclass(frozen=True)
class _Grid:
    """Where laws are fitted: the same for all.

    ``q`` are the probabilities of the nodes, panel by panel, and of the panels' edges; ``inverse``
    maps values at the nodes of each panel to coefficients, (panels, 12, 12); ``edges`` are the
    powers of t at the left and right edge of each, 2 of (panels, 12).
    """

    q: Floats
    n_nodes: int
    inverse: Floats
    edges: tuple[Floats, Floats]


@functools.cache
def _grid() -> _Grid:
    powers = np.arange(_DEGREE + 1)
    width = 2 * _REACH / _PANELS
    edge = np.arange(_PANELS + 1) * width - _REACH
    middle = (edge[1:] + edge[:-1]) / 2
    chebyshev = np.cos(np.pi * (powers + 0.5) / (_DEGREE + 1))
    q = special.ndtr(middle[:, None] + width / 2 * chebyshev)
    q_edge = special.ndtr(edge)
    # Probabilities near 1 lie apart in z: it is their own z, not that aimed at, that counts.
    z, z_edge = special.ndtri(q), special.ndtri(q_edge)
    t, left, right = (
        2 / width * (x - middle[:, None]) for x in (z, z_edge[:-1, None], z_edge[1:, None])
    )
    return _Grid(
        np.concatenate([q.ravel(), q_edge]),
        q.size,
        np.asarray(np.linalg.inv(t[:, :, None] ** powers), dtype=np.float64),
        (left**powers, right**powers),
    )
