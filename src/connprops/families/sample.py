"""Samples of many groups at once, summarised so that nothing that matters to a fit is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Bools, Floats
from connprops.errors import OptionError

POINTS = 512
"""Number of weighted points beyond which a group's sample is thinned."""

BLOCK = 1 << 19
"""Number of points that are worked on at once: of many groups, more take memory and no less time.

No option changes it, for sums of floating numbers depend on their arrangement.
"""

S = TypeVar("S", bound="Sample")

_ROUNDING = 1e-10
"""Share of the greatest variance of a mixture of moments below which one is but rounding."""


@dataclass(frozen=True)
class Known:
    """What is known of all values of a property, whatever distribution they come from.

    Attributes
    ----------
    rounded
        Whether they are whole numbers, to which other values are rounded.
    lower, upper
        Bounds: a value beyond one is replaced by it.
    point, repeats
        A value, and whether so large a share of the values is just that as no continuum has.
    shape, of_logs
        Quantiles that pathways have in common, in units of the std from the mean; or empty.
        Whether these are of the logarithms of values.
    """

    rounded: bool = False
    lower: float = -np.inf
    upper: float = np.inf
    point: float = 0.0
    repeats: bool = False
    shape: tuple[float, ...] = ()
    of_logs: bool = False

    @classmethod
    def of_counts(
        cls, least: float, lower: float | None = None, upper: float | None = None
    ) -> Self:
        """Return what is known of whole numbers from ``least`` on: they start at 1 or 0, if any."""
        start = 1.0 if least >= 1 else 0.0 if least >= 0 else -np.inf
        return cls(
            rounded=True,
            lower=start if lower is None else lower,
            upper=np.inf if upper is None else upper,
        )


@dataclass(frozen=True)
class Moments:
    """Moments of the values of g groups, float64 (g,); those marked (u) carry their unit.

    Attributes
    ----------
    n
        Number of values.
    mean, std, min, max
        Moments (ddof 0) and extremes (u); NaN for a group without values.
    mean_log, std_log
        Mean and standard deviation (ddof 0) of the natural logarithm; NaN unless all are > 0.
    skewness, kurtosis
        Third standardised moment, and fourth less 3, ddof 0; NaN where std is 0.
    """

    n: Floats
    mean: Floats
    std: Floats
    min: Floats
    max: Floats
    mean_log: Floats
    std_log: Floats
    skewness: Floats
    kurtosis: Floats

    def __len__(self) -> int:
        return len(self.n)

    def take(self, rows: NDArray[Any]) -> Self:
        """Return some groups, by index or mask."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(
            **{k: v[rows] if isinstance(v, np.ndarray) else v for k, v in values.items()}
        )


@dataclass(frozen=True)
class Sample(Moments):
    """Samples of g groups (pathways, say): moments, and the sorted sample as weighted points.

    Attributes
    ----------
    value, weight
        The sorted sample as weighted points, (g, k): values (u), and how many values each
        stands for. Rows are padded on the right: weight 0, last value repeated. Weights sum to n.
    exact
        Whether the group's points are its distinct values with their counts, bool (g,). If
        not, they are the middle values of cells of the sorted sample.
    is_integer
        Whether the values come from an integer column.
    points_at_most
        Number of weighted points beyond which pools are thinned.
    known
        What is known of the values beforehand.
    """

    value: Floats
    weight: Floats
    exact: Bools
    is_integer: bool
    points_at_most: int = POINTS
    known: Known = Known()

    @classmethod
    def from_values(cls, values: Sequence[ArrayLike]) -> Self:
        """Summarise raw values, one array of numbers, which may be empty, for each group.

        Examples
        --------
        >>> sample = Sample.from_values([[1, 2, 2, 5], [3]])
        >>> sample.mean
        array([2.5, 3. ])
        """
        arrays = [np.asarray(array).ravel() for array in values]
        groups = len(arrays)
        group = np.repeat(np.arange(groups), [len(array) for array in arrays])
        x = np.concatenate([np.empty(0), *arrays]).astype(np.float64)
        if not np.isfinite(x).all():
            bad = int(np.flatnonzero(~np.isfinite(x))[0])
            raise OptionError.of(
                f"Group {group[bad]} has a value that is no number",
                found=str(x[bad]),
                expected="finite values",
                hint="leave out such values first",
            )
        ones, zero = np.ones_like(x), np.zeros_like(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.where(x > 0, np.log(x), np.nan)
        parts = Moments(ones, x, zero, x, x, log, zero, zero, zero)
        point, weight, exact = weighted_points(group, x, ones, groups)
        kinds = {array.dtype.kind for array in arrays if array.size}
        return cls(
            **vars(_merged(group, parts, groups)),
            value=point,
            weight=weight,
            exact=exact,
            is_integer=bool(kinds) and kinds <= set("biu"),
        )

    @property
    def whole(self) -> Bools:
        """Return whether all values of a group are whole numbers, (g,)."""
        if self.is_integer:
            return np.ones(len(self), dtype=bool)
        ends = (self.min == np.floor(self.min)) & (self.max == np.floor(self.max))
        points = (self.value == np.floor(self.value)) | (self.weight == 0)
        return np.asarray(ends & points.all(axis=1))

    def points(self) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Return all points without the padding: group, value and weight, each (m,)."""
        group, column = np.nonzero(self.weight)
        return group, self.value[group, column], self.weight[group, column]

    @cached_property
    def balanced(self) -> Floats:
        """Return weights whose sums are those of all values, for sums over points, (g, k).

        A curved function's average over a cell is not its value at the cell's point. So weights
        change, by the least that does it, until points have the moments of all values (Deville's
        and Särndal's regression estimator); not where one would become negative.
        """
        weight = self.weight.copy()
        thinned = np.flatnonzero(~self.exact & (self.std > 0))
        if thinned.size:
            part = self.take(thinned)
            changed = part.weight * _least_change(part.weight, *_moment_terms(part))
            kept = (changed >= 0).all(axis=1)
            weight[thinned[kept]] = changed[kept]
        return weight

    def with_weights(self, weight: Floats) -> Self:
        """Return samples of the same points with other weights; points without weight go."""
        order = np.argsort(weight == 0, axis=1, kind="stable")
        weight = np.take_along_axis(weight, order, axis=1)
        value = np.take_along_axis(self.value, order, axis=1)
        last = np.maximum(np.count_nonzero(weight, axis=1) - 1, 0)[:, None]
        greatest = np.take_along_axis(value, last, axis=1)
        return of_points(np.where(weight > 0, value, greatest), weight, self)

    def replaced(self, rows: NDArray[np.intp], part: Self) -> Self:
        """Return these samples with others in place of some."""
        arrays: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = value.copy()
                arrays[field.name][rows] = getattr(part, field.name)
        return replace(self, **arrays)

    def alone(self) -> Self:
        """Return groups with values as pools of their own, of the same points: no bit differs."""
        return replace(self, **vars(_merged(np.arange(len(self)), self, len(self))))

    def pool(self, index: ArrayLike, n_groups: int | None = None) -> Self:
        """Merge groups: moments exactly, points thinned again where there are too many.

        ``index`` is the number of the merged group that each goes to, (g,), below ``n_groups``; a
        negative one leaves it out. No bit of the result depends on the order of the groups.
        """
        index = np.asarray(index, dtype=np.intp)
        if n_groups is None:
            n_groups = int(index.max(initial=-1)) + 1
        if index.shape != self.n.shape or index.max(initial=-1) >= n_groups:
            raise OptionError.of(
                "The index does not say where each group goes",
                found=f"shape {index.shape}, up to {index.max(initial=-1)}",
                expected=f"shape {self.n.shape}, below {n_groups}",
            )
        # Sums of floating numbers depend on their order: bring the groups into one that only
        # their content decides.
        moments = [getattr(self, field.name) for field in fields(Moments)]
        order = np.lexsort((*reversed(moments), index))
        order = order[(index[order] >= 0) & (self.n[order] > 0)]
        parts, to = self.take(order), index[order]
        row, value, weight = parts.points()
        value, weight, exact = weighted_points(
            to[row], value, weight, n_groups, self.points_at_most
        )
        exact &= np.bincount(to, weights=~parts.exact, minlength=n_groups) == 0
        merged = vars(_merged(to, parts, n_groups))
        return replace(self, **merged, value=value, weight=weight, exact=exact)


def of_points(value: Floats, weight: Floats, like: S) -> S:
    """Return samples that consist of points alone, (g, k): moments too are those of the points.

    So a thinned sample, whose moments are those of all its values, and simulated ones, of which
    there are no others, are described alike. ``like`` says whether points are exact and integers.
    """
    n = weight.sum(axis=1)

    def average(x: Floats) -> Floats:
        return np.asarray(np.where(weight > 0, weight * x, 0.0).sum(axis=1) / n)

    with np.errstate(all="ignore"):
        mean = average(value)
        shift = value - mean[:, None]
        std = np.where(value[:, 0] == value[:, -1], 0.0, np.sqrt(average(shift**2)))
        log = np.log(value)
        mean_log = average(log)
        std_log = np.sqrt(average((log - mean_log[:, None]) ** 2))
        positive = value[:, 0] > 0
        return type(like)(
            n=n,
            mean=mean,
            std=std,
            min=value[:, 0],
            max=value[:, -1],
            mean_log=np.where(positive, mean_log, np.nan),
            std_log=np.where(positive, std_log, np.nan),
            skewness=np.where(std > 0, average(shift**3) / std**3, np.nan),
            kurtosis=np.where(std > 0, average(shift**4) / std**4 - 3, np.nan),
            value=value,
            weight=weight,
            exact=like.exact,
            is_integer=like.is_integer,
            known=like.known,
        )


def _merged(group: NDArray[np.intp], parts: Moments, groups: int) -> Moments:
    """Return the moments of groups from those of their parts, each of a ``group``."""
    n = np.bincount(group, weights=parts.n, minlength=groups).astype(np.float64)
    low, high = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(low, group, parts.min)
    np.maximum.at(high, group, parts.max)
    low, high = np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)

    def average(x: Floats) -> Floats:
        with np.errstate(invalid="ignore", over="ignore"):
            mean = np.bincount(group, weights=parts.n * x, minlength=groups) / n
            if np.isinf(mean).any():  # sums beyond what floats hold, of which the mean is not
                scaled = np.bincount(group, weights=parts.n / n[group] * x, minlength=groups)
                mean = np.where(np.isinf(mean), scaled, mean)
            return mean

    mean, mean_log = np.clip(average(parts.mean), low, high), average(parts.mean_log)
    # In units of the range, so that fourth powers neither overflow nor vanish.
    with np.errstate(over="ignore", invalid="ignore"):
        unit = np.where(high > low, np.minimum(high - low, np.finfo(float).max), 1.0)
        shift = (parts.mean - mean[group]) / unit[group]
    if not np.isfinite(shift).all():
        shift = parts.mean / unit[group] - (mean / unit)[group]
    spread = parts.std / unit[group]
    third = np.where(spread > 0, parts.skewness, 0.0) * spread**3
    fourth = np.where(spread > 0, parts.kurtosis + 3, 0.0) * spread**4
    m2 = average(spread**2 + shift**2)
    m3 = average(third + 3 * shift * spread**2 + shift**3)
    m4 = average(fourth + 4 * shift * third + 6 * (shift * spread) ** 2 + shift**4)
    # Equal values are constant, whatever rounding has left of their parts' means.
    m2 = np.where(high == low, 0.0, m2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Moments(
            n=n,
            mean=mean,
            std=np.sqrt(m2) * unit,
            min=low,
            max=high,
            mean_log=mean_log,
            std_log=np.sqrt(average(parts.std_log**2 + (parts.mean_log - mean_log[group]) ** 2)),
            skewness=np.where(m2 > 0, m3 / m2**1.5, np.nan),
            kurtosis=np.where(m2 > 0, m4 / m2**2 - 3, np.nan),
        )


def _moment_terms(sample: Sample) -> tuple[Floats, Floats]:
    """Return what moments add up, at each point, (g, k, m), and its sums over all values, (g, m).

    Powers of standardised values to the fourth, of logarithms, if there are any, to the second.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (sample.value - sample.mean[:, None]) / sample.std[:, None]
        log = (np.log(sample.value) - sample.mean_log[:, None]) / sample.std_log[:, None]
    positive = np.all(np.isfinite(log), axis=1, keepdims=True)
    log = np.where(positive, log, 0.0)
    zero, ones = np.zeros_like(sample.n), np.ones_like(sample.n)
    average = [ones, zero, ones, sample.skewness, sample.kurtosis + 3, zero, ones * positive[:, 0]]
    terms = [np.ones_like(z), z, z**2, z**3, z**4, log, log**2]
    return np.stack(terms, axis=-1), np.stack(average, axis=-1) * sample.n[:, None]


def _least_change(weight: Floats, terms: Floats, sums: Floats) -> Floats:
    """Return the factors nearest to 1, (g, k), with which weighted terms have the given sums."""
    missing = sums - np.einsum("gk,gkm->gm", weight, terms)
    products = np.einsum("gk,gkm,gkl->gml", weight, terms, terms)
    # In units of each term's own size, so that no unit decides what is rounding.
    size = np.sqrt(np.maximum(np.diagonal(products, axis1=1, axis2=2), np.finfo(float).tiny))
    inverse = np.linalg.pinv(
        products / (size[:, :, None] * size[:, None, :]), rcond=_ROUNDING, hermitian=True
    )
    multipliers = np.einsum("gml,gl->gm", inverse, missing / size) / size
    return np.asarray(1 + np.einsum("gkm,gm->gk", terms, multipliers))


def weighted_points(
    group: NDArray[np.intp], value: Floats, weight: Floats, groups: int, at_most: int = POINTS
) -> tuple[Floats, Floats, Bools]:
    """Return points of groups, in any order, (m,), as the value, weight and exact of a Sample.

    Groups of more than ``at_most`` distinct values get cells, each with its middle value.
    """
    ahead, behind = slice(1, None), slice(None, -1)
    rises = (group[ahead] == group[behind]) & (value[ahead] >= value[behind])
    if not (rises | (group[ahead] > group[behind])).all():
        order = np.lexsort((value, group))
        group, value, weight = group[order], value[order], weight[order]
    first = np.flatnonzero(_changes(group) | _changes(value))
    group, value = group[first], value[first]
    weight = np.add.reduceat(weight, first) if first.size else weight
    distinct = np.bincount(group, minlength=groups)
    exact = distinct <= at_most
    if exact.all():
        return _padded(value, distinct, None), _padded(weight, distinct, 0.0), exact

    # Cells that narrow towards both ends, as sin^2, so that tails lose nothing: the outermost
    # hold a share of 1e-5, the middle ones 3e-3.
    end = np.cumsum(weight)
    total = np.bincount(group, weights=weight, minlength=groups)
    start_of_group = np.concatenate([[0.0], np.cumsum(total)])[group]
    share = (end - weight / 2 - start_of_group) / total[group]
    cell = np.floor(np.arccos(np.clip(1 - 2 * share, -1, 1)) * (at_most / np.pi))
    cell = np.where(exact[group], np.arange(len(group)), np.minimum(cell, at_most - 1))
    first = np.flatnonzero(_changes(group) | _changes(cell))
    cell_weight = np.add.reduceat(weight, first) if first.size else weight
    cell_end = np.cumsum(cell_weight)
    middle = np.searchsorted(end, cell_end - cell_weight / 2)
    value, group = value[np.minimum(middle, len(value) - 1)], group[first]

    count = np.bincount(group, minlength=groups)
    return _padded(value, count, None), _padded(cell_weight, count, 0.0), exact


def _padded(x: Floats, count: NDArray[np.intp], beyond: float | None) -> Floats:
    """Return the numbers of groups as rows, (g, k), and ``beyond`` them that, or their last."""
    column = np.arange(max(int(count.max(initial=0)), 1))
    if (count == column.size).all():
        return x.reshape(count.size, column.size).copy()
    rows = np.full((count.size, column.size), np.nan if beyond is None else beyond)
    last, size = np.cumsum(count)[:, None] - 1, max(BLOCK // column.size, 1)
    for own in (slice(start, start + size) for start in range(0, count.size, size)):
        n = count[own, None]
        place = np.minimum(last[own] - n + 1 + column, last[own])
        filled = (column < n) if beyond is not None else np.broadcast_to(n > 0, place.shape)
        rows[own][filled] = x[place[filled]]
    return rows


def _changes(x: NDArray[Any]) -> Bools:
    """Return where an element differs from the one before; the first one does."""
    return np.append(np.ones(min(len(x), 1), dtype=bool), x[1:] != x[:-1])
