"""Quantiles of many distributions at once: what turns uniform numbers into values.

Each family has one way to compute them, so that a value depends on the distribution and the number
alone, not on how many are computed together. docs/numbers.md describes the ways and their errors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray
from scipy import special

from connprops.arrays import Floats, Ints
from connprops.distributions.distributions import Distributions
from connprops.families.continuous import levels
from connprops.families.family import Family

_STEPS_AT_MOST = 4096
_CELLS_AT_MOST = 256
_ALMOST_0, _ALMOST_1 = 2.0**-60, 1 - 2.0**-53

_REACH = 5.0
_PANELS = 20
_DEGREE = 7
_PANELS_FITTED = 10
_DEGREE_FITTED = 11
_TOLERANCE = 3e-10
_CACHE_LINE = 64
_OF_WHAT_IS_CUT = 1e-6
_SMALLEST = 1e-290
_FIRST, _LAST = special.ndtr([-_REACH * (1 - 1e-12), _REACH * (1 - 1e-12)])


class Quantiles:
    """Quantile functions of a property in pathways.

    ``distributions`` come family by family; ``row_of`` has the number of each pathway's, -1 where
    it has none.
    """

    def __init__(self, distributions: Sequence[Distributions], row_of: Ints) -> None:
        self._functions = [_function(group) for group in distributions]
        last = max((int(group.pathway.max(initial=0)) for group in distributions), default=0)
        group_of = np.full(last + 2, -1, dtype=np.int16)  # the last is of none
        place_of = np.zeros(group_of.size, dtype=np.int32)
        for number, group in enumerate(distributions):
            group_of[group.pathway] = number
            place_of[group.pathway] = np.arange(group.pathway.size)
        self._group, self._row = group_of[row_of], place_of[row_of]

    @property
    def has_distribution(self) -> NDArray[np.bool_]:
        """Return whether each pathway has a distribution, (n_pathways,)."""
        return self._group >= 0

    def __call__(self, pathway: Ints, q: Floats) -> Floats:
        """Return the quantiles q, in (0, 1), of the distributions of pathways, (n,), in bounds."""
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


def _function(distributions: Distributions) -> Function:
    """Return the quantile function: rows of distributions and probabilities to values."""
    family = distributions.family
    if family.name == "discrete":
        return _lists(distributions)
    if family.kind == "discrete" and family.name not in ("constant", "zero"):
        return _Counts(distributions)
    if family.beside is not None:
        return _beside_point(distributions, family.beside)
    ways: dict[str, Callable[[Distributions], Function]] = {
        "quantiles": _interpolated, "truncnorm": _TruncatedNormal,
        **dict.fromkeys(_TRANSFORMS, _Panels),
    }  # fmt: skip
    return ways.get(family.name, _exact)(distributions)


def _exact(distributions: Distributions) -> Function:
    """Return the family's own quantile function."""
    return lambda row, q: distributions.take(row).ppf(q)


def _rounded(distributions: Distributions) -> Function:
    """Return the quantiles of the values before rounding, rounded."""
    family = distributions.family.unrounded or distributions.family
    unrounded = _function(replace(distributions, family=family))
    return lambda row, q: np.rint(unrounded(row, q))


def _beside_point(distributions: Distributions, family: Family) -> Function:
    """Return the quantiles of a family beside a point, from those of the family."""
    free = np.full(len(distributions), np.inf)
    others = _function(replace(distributions, family=family, lower=-free, upper=free))
    point, share = (distributions.parameters[name] for name in ("point", "p_point"))
    below = (1 - share) * family.cdf(point, distributions.parameters)
    lower, upper = distributions.lower, distributions.upper

    def quantiles(row: Rows, q: Floats) -> Floats:
        start, mass = below[row], share[row]
        at_point = (q > start) & (q <= start + mass)
        rest = np.where(q <= start, q, q - mass) / np.maximum(1 - mass, _ALMOST_0)
        values = others(row, np.where(at_point, 0.5, rest))
        return np.asarray(np.clip(np.where(at_point, point[row], values), lower[row], upper[row]))

    return quantiles


def _interpolated(distributions: Distributions) -> Function:
    """Return the quantiles of lists of quantiles, which lie on straight lines between these."""
    quantile = distributions.parameters["quantile"]
    p, flat, count = levels(quantile.shape[1]), quantile.ravel(), quantile.shape[1]
    width = np.diff(p)
    lower, upper = distributions.lower, distributions.upper

    def quantiles(row: Rows, q: Floats) -> Floats:
        cell = np.clip(np.searchsorted(p, q, side="right") - 1, 0, count - 2)
        at = row * np.int64(count) + cell
        low = flat[at]
        values = low + (flat[at + 1] - low) * ((q - p[cell]) / width[cell])
        return np.asarray(np.clip(values, lower[row], upper[row]))

    return quantiles


def _lists(distributions: Distributions) -> Function:
    """Return the quantiles of distributions of lists of values."""
    value, p = distributions.parameters["val"], distributions.parameters["p"]
    order = np.argsort(value, axis=1)  # NaN, which pads, comes last
    value, p = np.take_along_axis(value, order, 1), np.take_along_axis(p, order, 1)
    reached = np.nancumsum(p, axis=1)
    reached /= reached[:, -1:]
    held = ~np.isnan(value)
    counts = np.count_nonzero(held, axis=1)
    bounded = np.clip(value, distributions.lower[:, None], distributions.upper[:, None])
    return _Steps(bounded[held], reached[held], counts)


class _Steps:
    """Exact quantiles of distributions of few values.

    ``value`` and ``reached``, the distribution function at the values, hold those of all
    distributions one after the other, ``counts`` of each.
    """

    def __init__(self, value: Floats, reached: Floats, counts: Ints) -> None:
        last = np.cumsum(counts) - 1
        reached[last] = 1.0  # whatever rounding has left
        self._value, self._reached = value, reached
        self._cells = min(_CELLS_AT_MOST, 1 << int(counts.max(initial=1)).bit_length())
        starts = np.arange(self._cells) / self._cells
        self._guide = np.empty((counts.size, self._cells), dtype=np.int32)
        for guide, stop, n in zip(self._guide, last + 1, counts, strict=True):
            guide[:] = stop - n + np.searchsorted(reached[stop - n : stop], starts)

    def __call__(self, row: Rows, q: Floats) -> Floats:
        step = self._guide[row, (q * self._cells).astype(np.int32)]
        beyond = np.flatnonzero(self._reached[step] < q)
        while beyond.size:
            step[beyond] += 1
            beyond = beyond[self._reached[step[beyond]] < q[beyond]]
        return self._value[step]


class _Counts:
    """Exact quantiles of counts: by steps where a distribution has few, else by the family."""

    def __init__(self, distributions: Distributions) -> None:
        family, parameters = distributions.family, distributions.parameters
        self._exact = _rounded(distributions) if family.unrounded else _exact(distributions)
        lowest = family.ppf(np.full(distributions.pathway.shape, _ALMOST_0), parameters)
        highest = family.ppf(np.full(distributions.pathway.shape, _ALMOST_1), parameters)
        few = np.flatnonzero(highest - lowest < _STEPS_AT_MOST)
        counts = (highest - lowest)[few].astype(np.int64) + 1
        self._place = np.full(distributions.pathway.size, -1, dtype=np.int32)
        self._place[few] = np.arange(few.size)
        row = np.repeat(few, counts)
        ends = np.cumsum(counts)
        value = lowest[row] + np.arange(row.size) - np.repeat(ends - counts, counts)
        held = distributions.take(row)
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


class _Approximate:
    """A way to most quantiles; it gives NaN for those that are left to the family's own."""

    def __init__(self, distributions: Distributions) -> None:
        self._distributions = distributions
        self._exact = _exact(distributions)
        self._lower, self._upper = distributions.lower, distributions.upper
        self._bounded = bool((np.isfinite(self._lower) | np.isfinite(self._upper)).any())

    def _settled(self, values: Floats, row: Rows, q: Floats) -> Floats:
        """Return the values within their bounds, in place, and complete."""
        if values.size and np.isnan(values.min()):
            rest = np.flatnonzero(np.isnan(values))
            values[rest] = self._exact(row[rest], q[rest])
        if self._bounded:
            np.clip(values, self._lower[row], self._upper[row], out=values)
        return values


class _TruncatedNormal(_Approximate):
    """Quantiles of cut normal distributions, each from the nearer side, to keep digits."""

    def __init__(self, distributions: Distributions) -> None:
        super().__init__(distributions)
        parameters = distributions.parameters
        self._loc, self._scale = parameters["norm_loc"], parameters["norm_scale"]
        low, high = ((parameters[bound] - self._loc) / self._scale for bound in ("min", "max"))
        self._below, self._above = special.ndtr(low), special.ndtr(-high)
        self._mass = np.where(
            low + high > 0, special.ndtr(-low) - self._above, special.ndtr(high) - self._below
        )
        # A difference of which few digits are left, or that no float holds, is left to logarithms.
        cut = np.minimum(self._below, self._above)
        self._mass[~(self._mass > np.maximum(_OF_WHAT_IS_CUT * cut, _SMALLEST))] = np.nan

    def __call__(self, row: Rows, q: Floats) -> Floats:
        mass, scale = self._mass[row], self._scale[row]
        p = mass * q
        p += self._below[row]
        right = np.flatnonzero(2 * p > 1)
        p[right] = mass[right] * (1 - q[right]) + self._above[row[right]]
        scale[right] *= -1
        values = special.ndtri(p)
        values *= scale
        values += self._loc[row]
        return self._settled(values, row, q)


_TRANSFORMS: dict[str, Callable[[Floats], Floats]] = {"gamma": np.log, "beta": np.positive}
"""The families that panels are made for, and what they hold polynomials of."""


class _Panels(_Approximate):
    """Quantiles by polynomials of the normal quantile z, made when first asked for."""

    def __init__(self, distributions: Distributions) -> None:
        super().__init__(distributions)
        self._into = _TRANSFORMS[distributions.family.name]
        n = distributions.pathway.size
        self._coefficients = _aligned(n * _PANELS, _DEGREE + 1)
        self._made = np.zeros(n, dtype=np.bool_)
        self._all_made = False
        self._making = threading.Lock()

    def __call__(self, row: Rows, q: Floats) -> Floats:
        if not (self._all_made or self._made[row].all()):
            with self._making:  # another thread may have made them meanwhile
                self._make(np.unique(row[~self._made[row]]))
        place = special.ndtri(q)
        place += _REACH
        place *= _PANELS / (2 * _REACH)
        beyond = bool(q.size) and not (q.min() > _FIRST and q.max() < _LAST)
        if beyond:
            place[(q <= _FIRST) | (q >= _LAST)] = 0
        panel = place.astype(np.int64)
        place -= panel
        place *= 2
        place -= 1
        panel += row * np.int64(_PANELS)
        c = self._coefficients.take(panel, axis=0)
        values = c[:, _DEGREE] * place
        for power in range(_DEGREE - 1, 0, -1):
            values += c[:, power]
            values *= place
        values += c[:, 0]
        if self._into is np.log:
            np.exp(values, out=values)
        if beyond:
            values[(q <= _FIRST) | (q >= _LAST)] = np.nan
        return self._settled(values, row, q)

    def _make(self, rows: Ints) -> None:
        """Fit the polynomials of some distributions; those that do not serve become NaN."""
        if not rows.size:
            return
        distributions, grid = self._distributions.take(rows), _grid()
        family, parameters = distributions.family, distributions.parameters
        with np.errstate(all="ignore"):
            exact = self._into(family.ppf(np.tile(grid.q, (rows.size, 1)), parameters))
            of_nodes, of_edges = exact[:, : grid.n_nodes], exact[:, grid.n_nodes :]
            fitted = np.einsum(
                "pij,lpj->lpi", grid.inverse, of_nodes.reshape(rows.size, _PANELS_FITTED, -1)
            )
            # Between Chebyshev's nodes the error is greatest near the ends of a panel.
            ends = (grid.left, of_edges[:, :-1]), (grid.right, of_edges[:, 1:])
            errors = [np.einsum("lpi,pi->lp", fitted, powers) - at for powers, at in ends]
            kept, dropped = (np.einsum("hij,lpj->lphi", half, fitted) for half in _halves())
            lost = np.abs(dropped).sum(axis=3)
            scale = 1.0 if self._into is np.log else family.std(parameters)
            usable = np.abs(errors).max(axis=(0, 2)) + lost.max(axis=(1, 2)) < _TOLERANCE * scale
        kept[~usable] = np.nan
        coefficients = self._coefficients.reshape(-1, _PANELS, _DEGREE + 1)
        coefficients[rows] = kept.reshape(rows.size, _PANELS, -1)
        self._made[rows] = True
        self._all_made = bool(self._made.all())


def _aligned(rows: int, columns: int) -> Floats:
    """Return an array whose rows begin where a line of the cache does, if they are as long."""
    whole = np.empty(rows * columns + _CACHE_LINE // 8)
    first = -whole.ctypes.data // 8 % (_CACHE_LINE // 8)
    return whole[first : first + rows * columns].reshape(rows, columns)


@dataclass(frozen=True)
class _Grid:
    """Where distributions are fitted: the same for all.

    ``q`` are the probabilities of the nodes, panel by panel, and of the panels' edges; ``inverse``
    maps values at the nodes of each panel to coefficients, (panels, 12, 12); ``left`` and ``right``
    are the powers of t at the edges of each, (panels, 12).
    """

    q: Floats
    n_nodes: int
    inverse: Floats
    left: Floats
    right: Floats


@functools.cache
def _grid() -> _Grid:
    powers = np.arange(_DEGREE_FITTED + 1)
    width = 2 * _REACH / _PANELS_FITTED
    edge = np.arange(_PANELS_FITTED + 1) * width - _REACH
    middle = (edge[1:] + edge[:-1]) / 2
    chebyshev = np.cos(np.pi * (powers + 0.5) / (_DEGREE_FITTED + 1))
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
        left**powers,
        right**powers,
    )


@functools.cache
def _halves() -> tuple[Floats, Floats]:
    """Return what turns coefficients into those of lower degree on each half of their panel.

    That is done by Chebyshev series, (2, 8, 12); also their terms that are left out, (2, 4, 12).
    """
    kept, lost = [], []
    for shift in (-0.5, 0.5):
        powers = [Polynomial([shift, 0.5]) ** k for k in range(_DEGREE_FITTED + 1)]
        series = np.zeros((_DEGREE_FITTED + 1, _DEGREE_FITTED + 1))
        for k, power in enumerate(powers):
            series[: k + 1, k] = power.convert(kind=Chebyshev).coef
        back = np.zeros((_DEGREE + 1, _DEGREE + 1))
        for k in range(_DEGREE + 1):
            back[: k + 1, k] = Chebyshev.basis(k).convert(kind=Polynomial).coef
        kept.append(back @ series[: _DEGREE + 1])
        lost.append(series[_DEGREE + 1 :])
    return np.stack(kept), np.stack(lost)
