"""Families made of others: shifted, beside a point, or rounded to whole numbers within bounds.

What is made of a family has its parameters, so that whatever is said of them, their scales or how
they are borrowed, holds for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Floats
from connprops.arrays.solvers import box_maximum
from connprops.families.family import (
    Estimates,
    Family,
    Formulas,
    Parameter,
    Requirement,
    not_below,
    positive,
    some_positive,
    varied,
    whole,
)
from connprops.families.sample import Known, Sample, of_points

_LISTED = 512
"""Range of whole numbers beyond which moments are those before rounding."""

_WIDE = 10.0
_FAR_FROM_0 = 5.0
"""Standard deviation, and smallest value, from which on rounding changes no estimate."""

_FAR = 1e-12
_TAIL = 1e-9
_SHEPPARD = 1 / 12
"""Variance that rounding adds (Sheppard's correction)."""

_STEP = 2e-4
_TOLERANCE = 1e-10
_NARROWER, _WIDER = np.log(4), np.log(50)
"""How far spreads are sought from those of the data; of two neighbouring counts, any small one
would do."""


def adapted(family: Family, known: Known) -> Family:
    """Return the family of the values of a property of which something is known."""
    if family.kind == "continuous" and family.beside is None and known.rounded:
        return rounded(family, known.lower, known.upper)
    return family


def shifted(family: Family, by: float) -> Family:
    """Return a family's distributions moved up, by their own means."""
    f = family.formulas

    def moved(sample: Sample) -> Sample:
        none = np.full_like(sample.n, np.nan)
        names = ("value", "mean", "min", "max")
        values = {name: getattr(sample, name) - by for name in names}
        return replace(sample, **values, mean_log=none, std_log=none)

    def estimate(sample: Sample) -> Estimates:
        values, errors = family.estimate(moved(sample))
        return values | {"mean": values["mean"] + by}, errors

    mean = replace(family.parameters[0], lower=family.parameters[0].lower + by)
    requirements = {not_below(0): not_below(by), some_positive: varied}
    return replace(
        family,
        name=f"shifted_{family.name}",
        parameters=(mean, *family.parameters[1:]),
        formulas=Formulas(
            support=lambda mean, *p: tuple(end + by for end in f.support(mean - by, *p)),
            mean=lambda mean, *_: mean,
            std=lambda mean, *p: f.std(mean - by, *p),
            logpdf=lambda x, mean, *p: f.logpdf(x - by, mean - by, *p),
            cdf=lambda x, mean, *p: f.cdf(x - by, mean - by, *p),
            ppf=lambda q, mean, *p: f.ppf(q, mean - by, *p) + by,
        ),
        requirements=tuple(requirements.get(r, r) for r in family.requirements),
        estimate=estimate,
    )


_POINT = (
    Parameter("point", "property", "the value that is repeated"),
    Parameter("p_point", "1", "its probability", lower=0, upper=1),
)


@cache
def inflated(family: Family) -> Family:
    """Return a family's distributions beside a point, which a share of the values equals.

    Zero-inflated, say. Its parameters are the family's, of the other values, then the point, which
    is known (:attr:`Known.point`), and its share.
    """
    f = family.formulas
    on_rest = tuple(_on_rest(requirement) for requirement in family.requirements)
    counts = family.kind == "discrete"

    def upto(x: Floats, *p: Floats) -> Floats:
        low, high = f.support(*p)
        return np.where(x < low, 0.0, np.where(x >= high, 1.0, f.cdf(x, *p)))

    def support(*p: Floats) -> tuple[Floats, Floats]:
        *own, point, share = p
        low, high = f.support(*own)
        is_there = share > 0
        return (np.where(is_there, np.minimum(low, point), low),
                np.where(is_there, np.maximum(high, point), high))  # fmt: skip

    def std(*p: Floats) -> Floats:
        *own, point, share = p
        away = (f.mean(*own) - point) ** 2
        return np.sqrt((1 - share) * (f.std(*own) ** 2 + share * away))

    def logpdf(x: Floats, *p: Floats) -> Floats:
        *own, point, share = p
        low, high = f.support(*own)
        beside = np.where((x < low) | (x > high), -np.inf, f.logpdf(x, *own) + np.log1p(-share))
        # A count may be the point and one of the others too.
        at_point = np.logaddexp(np.log(share), beside if counts else -np.inf)
        return np.where((x == point) & (share > 0), at_point, beside)

    def ppf(q: Floats, *p: Floats) -> Floats:
        *own, point, share = p
        below = (1 - share) * upto(point, *own)
        rest = np.where(q <= below, q, np.maximum(q - share, below)) / (1 - share)
        at_point = (q > below) & (q <= below + share)
        return np.where(at_point, point, f.ppf(np.clip(rest, 0, 1), *own))

    def atom(*p: Floats) -> tuple[Floats | bool, Floats | float]:
        *own, point, share = p
        is_atom, at = f.atom(*own)
        return (share == 1) | ((share == 0) & is_atom), np.where(share == 1, point, at)

    return replace(
        family,
        name=f"inflated_{family.name}",
        parameters=(*family.parameters, *_POINT),
        formulas=Formulas(
            support=support,
            mean=lambda *p: (1 - p[-1]) * f.mean(*p[:-2]) + p[-1] * p[-2],
            std=std,
            logpdf=logpdf,
            cdf=lambda x, *p: (1 - p[-1]) * upto(x, *p[:-2]) + p[-1] * (x >= p[-2]),
            ppf=ppf,
            atom=atom,
            step=lambda x, *p: np.where(x == p[-2], p[-1], 0.0),
        ),
        requirements=on_rest,
        estimate=lambda sample: _fit_inflated(family, sample),
        beside=family,
        n_known=1,
    )


def other_values(sample: Sample) -> Sample:
    """Return the values of samples that are not the point beside which a family may be."""
    is_point = sample.value == sample.known.point
    has = np.flatnonzero((is_point & (sample.weight > 0)).any(axis=1))
    rest = sample.take(has).with_weights(np.where(is_point[has], 0.0, sample.weight[has]))
    return sample.replaced(has, rest)


def _on_rest(requirement: Requirement) -> Requirement:
    """Return a requirement of the values that are not the point."""

    def of_rest(function: Callable[[Sample], Any]) -> Callable[[Sample], Any]:
        return lambda sample: function(other_values(sample))

    facts = tuple(map(of_rest, requirement.facts))
    return Requirement(of_rest(requirement.holds), requirement.text, facts)


def _fit_inflated(family: Family, sample: Sample) -> Estimates:
    """Fit the share of the point, and the family to the other values."""
    values, errors = family.estimate(other_values(sample))
    at_point = (sample.value == sample.known.point) * sample.weight
    share = at_point.sum(axis=1) / sample.n
    point, none = np.full_like(share, sample.known.point), np.full_like(share, np.nan)
    error = np.where(share > 0, np.sqrt(share * (1 - share) / sample.n), np.nan)
    return (
        values | {"point": point, "p_point": share},
        errors | {"point": none, "p_point": error},
    )


@lru_cache(maxsize=64)
def rounded(family: Family, lower: float = -np.inf, upper: float = np.inf) -> Family:
    """Return the distributions of a continuous family's values rounded to whole numbers.

    Values beyond a bound are drawn on it. A half rounds either way, with probability 0.
    """
    f, is_positive = family.formulas, positive in family.requirements

    def upto(k: Floats, *p: Floats) -> Floats:
        """Return the probability of whole numbers up to k."""
        low, high = f.support(*p)
        at = k + 0.5
        inside = np.where(at < low, 0.0, np.where(at >= high, 1.0, f.cdf(at, *p)))
        return np.where(k < lower, 0.0, np.where(k >= upper, 1.0, inside))

    def support(*p: Floats) -> tuple[Floats, Floats]:
        low, high = f.support(*p)
        low, high = np.floor(np.asarray(low) + 0.5), np.ceil(np.asarray(high) - 0.5)
        return np.clip(low, lower, upper), np.clip(high, lower, upper)

    def logpdf(k: Floats, *p: Floats) -> Floats:
        before = upto(k - 1, *p)
        log = _log_mass(f, k, before, upto(k, *p), k < upper, p)
        return np.where(k == np.floor(k), log, -np.inf)

    def ppf(q: Floats, *p: Floats) -> Floats:
        low, high = support(*p)
        k = np.clip(np.ceil(f.ppf(q, *p) - 0.5), low, high)
        # A quantile that lies on the border between two whole numbers, but for rounding.
        k = np.where(upto(k - 1, *p) >= q, k - 1, np.where(upto(k, *p) < q, k + 1, k))
        return np.asarray(np.clip(k, low, high))

    def moments(*p: Floats) -> tuple[Floats, Floats]:
        groups = p[-1].shape[-1:]  # a list has an axis before that
        low, high = (ppf(np.full(groups, q), *p) for q in (_FAR, 1 - _FAR))
        return _moments_of_counts(upto, low, high, f.mean(*p), f.std(*p), p)

    def atom(*p: Floats) -> tuple[Floats | bool, Floats | float]:
        is_point, point = f.atom(*p)
        return is_point, np.clip(np.rint(point), lower, upper)

    others = tuple(r for r in family.requirements if r is not positive)
    return replace(
        family,
        kind="discrete",
        formulas=Formulas(
            support=support,
            mean=lambda *p: moments(*p)[0],
            std=lambda *p: moments(*p)[1],
            logpdf=logpdf,
            cdf=lambda x, *p: upto(np.floor(x), *p),
            ppf=ppf,
            atom=atom,
            moments=moments,
        ),
        requirements=(*others, whole, *([not_below(0)] if is_positive else [])),
        estimate=lambda sample: _fit_rounded(rounded(family, lower, upper), family, upper, sample),
        unrounded=family,
    )


def _moments_of_counts(
    upto: Callable[..., Floats], low: Floats, high: Floats, mean: Floats, std: Floats,
    p: Sequence[Floats],
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return mean and std of counts between two, from those of the values before rounding."""
    mean, std = np.array(mean), np.hypot(std, np.sqrt(_SHEPPARD))
    few = np.flatnonzero(high - low < _LISTED)
    if few.size:
        excess = np.arange(int(np.max((high - low)[few])) + 2)
        above = 1 - upto(low[few, None] + excess, *(x[..., few, None] for x in p))
        of_excess = above.sum(axis=1)
        square = ((2 * excess + 1) * above).sum(axis=1)
        mean[few] = low[few] + of_excess
        std[few] = np.sqrt(np.maximum(square - of_excess**2, 0.0))
    return mean, std


def _log_mass(
    f: Formulas, k: Floats, before: Floats, upto: Floats, is_inside: Bools, p: Sequence[Floats]
) -> Floats:
    """Return the logarithm of the mass of whole numbers, from the probabilities of their borders.

    Far in the tail, where a difference has no digits left, by Simpson's rule.
    """
    log = np.log(upto - before)
    far = (before > 1 - _TAIL) & is_inside
    if far.any():
        ends = np.logaddexp(f.logpdf(k - 0.5, *p), f.logpdf(k + 0.5, *p))
        tail = np.logaddexp(ends, np.log(4) + f.logpdf(k, *p)) - np.log(6)
        log = np.where(far, tail, log)
    return log


def _fit_rounded(family: Family, base: Family, upper: float, sample: Sample) -> Estimates:
    """Maximise the likelihood of counts, each the mass of an interval of the family beneath.

    Where values spread so far that rounding is nothing to them, the family's own estimates stand.
    Ends of a support lie half a count beyond the extremes.
    """
    is_positive = positive in base.requirements
    variance = np.maximum(sample.std**2 - _SHEPPARD, _SHEPPARD)
    start = of_points(np.maximum(sample.value, 0.25) if is_positive else sample.value,
                      sample.weight, sample)  # fmt: skip
    start = replace(start, std=np.sqrt(variance), min=sample.min - 0.5, max=sample.max + 0.5)
    values, errors = base.estimate(start)
    least = _FAR_FROM_0 if is_positive else -np.inf
    narrow = np.flatnonzero((sample.std < _WIDE) | (sample.min < least))
    free = [p for p in base.parameters if p.name not in ("min", "max") and not p.is_list]
    if not narrow.size or not free:
        return values, errors
    part = sample.take(narrow)
    masses = _Masses(family, base, upper, part)
    is_log = np.array([p.lower == 0 for p in free])
    unit = np.stack([part.std if p.unit == "property" else np.ones_like(part.n) for p in free], 1)
    unit = np.where(is_log, 1.0, unit)
    first = np.stack([values[p.name][narrow] for p in free], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        first = np.where(is_log, np.log(first), first / unit)

    def natural(x: Floats, rows: NDArray[np.intp]) -> dict[str, Floats]:
        back = np.where(is_log, np.exp(x), x * unit[rows])
        ends = {name: values[name][narrow][rows] for name in ("min", "max") if name in values}
        return {p.name: back[:, i] for i, p in enumerate(free)} | ends

    def mean_loglik(x: Floats, rows: NDArray[np.intp]) -> Floats:
        parameters = natural(x, rows)
        return masses.mean_loglik([parameters[p.name] for p in base.parameters], rows)

    reach = np.where(is_log, _WIDER, 20.0)
    lower = first - np.where(is_log, _NARROWER, 20.0)
    best = box_maximum(by_differences(mean_loglik), first, lower, first + reach, _TOLERANCE)
    everywhere = np.arange(narrow.size)
    fitted = natural(best, everywhere)
    information = -by_differences(mean_loglik)(best, everywhere)[2] * part.n[:, None, None]
    inside = np.all((best > lower) & (best < first + reach), axis=1)
    slope = np.where(is_log, np.stack([fitted[p.name] for p in free], axis=1), unit)
    error = slope * _errors(information, inside)
    for i, p in enumerate(free):
        values[p.name][narrow], errors[p.name][narrow] = fitted[p.name], error[:, i]
    return values, errors


class _Masses:
    """The masses of the counts in samples, from the borders between them, each taken once."""

    def __init__(self, family: Family, base: Family, upper: float, sample: Sample) -> None:
        self._cdf, self._unrounded = family.formulas.cdf, base.formulas
        group, value, weight = sample.points()
        self._group, self._value, self._share = group, value, weight / sample.n[group]
        self._inside = value < upper
        # Complex numbers sort by group, then by border.
        border, place = np.unique(
            np.concatenate([group + 1j * (value - 1), group + 1j * value]), return_inverse=True
        )
        self._of, self._border = border.real.astype(np.intp), border.imag
        self._before, self._upto = place.reshape(2, -1)

    def mean_loglik(self, p: Sequence[Floats], rows: NDArray[np.intp]) -> Floats:
        """Return the mean log-likelihood of a value in some of the samples."""
        place = np.full(int(self._of[-1]) + 1, -1)
        place[rows] = np.arange(rows.size)
        of, on = place[self._of], np.flatnonzero(place[self._group] >= 0)
        kept, at = of >= 0, place[self._group[on]]
        upto = np.empty(of.size)
        upto[kept] = self._cdf(self._border[kept], *(x[of[kept]] for x in p))
        log = _log_mass(
            self._unrounded, self._value[on], upto[self._before[on]], upto[self._upto[on]],
            self._inside[on], [x[at] for x in p],
        )  # fmt: skip
        return np.asarray(np.bincount(at, self._share[on] * log, rows.size), dtype=np.float64)


def _errors(information: Floats, usable: Bools) -> Floats:
    """Return standard errors (g, p) from information (g, p, p), NaN where it says nothing."""
    with np.errstate(invalid="ignore"):
        usable = usable & np.isfinite(information).all(axis=(1, 2))
        usable[usable] = np.linalg.eigvalsh(information[usable]).min(axis=1) > 0
    errors = np.full(information.shape[:2], np.nan)
    inverse = np.linalg.inv(information[usable])
    errors[usable] = np.sqrt(np.einsum("hii->hi", inverse))
    return errors


def by_differences(
    function: Callable[[Floats, NDArray[np.intp]], Floats],
) -> Callable[[Floats, NDArray[np.intp]], tuple[Floats, Floats, Floats]]:
    """Return a function with its gradient and Hessian, by central differences."""

    def with_slopes(x: Floats, rows: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
        n, step = x.shape[1], _STEP * np.eye(x.shape[1])
        value = function(x, rows)
        ahead, behind = (
            np.stack([function(x + sign * h, rows) for h in step], axis=1) for sign in (1, -1)
        )
        gradient = (ahead - behind) / (2 * _STEP)
        hessian = np.empty((len(x), n, n))
        for i in range(n):
            hessian[:, i, i] = (ahead[:, i] - 2 * value + behind[:, i]) / _STEP**2
            for j in range(i):
                both = [function(x + sign * (step[i] + step[j]), rows) for sign in (1, -1)]
                edges = ahead[:, i] + ahead[:, j] + behind[:, i] + behind[:, j]
                mixed = (both[0] + both[1] + 2 * value - edges) / (2 * _STEP**2)
                hessian[:, i, j] = hessian[:, j, i] = mixed
        return value, gradient, hessian

    return with_slopes
