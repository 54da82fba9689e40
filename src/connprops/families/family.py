"""What a family of distributions is: parameters, probabilities, and how it is fitted.

A family's formulas are plain functions of its parameters. :class:`Family` gives them their common
behaviour: arrays of groups meet arrays of values, nothing outside the support is probable,
parameters may describe a single point (a standard deviation of 0, say), and a sample that the
family cannot be fitted to gives a reason instead of numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Bools, Floats
from connprops.families.sample import Sample

Parameters = Mapping[str, Floats]
Estimates = tuple[dict[str, Floats], dict[str, Floats]]


@dataclass(frozen=True, eq=False)
class Requirement:
    """What samples must meet to be fitted.

    Of those for which it does not hold, ``text`` says so, filled in with the samples' ``facts``.
    """

    holds: Callable[[Sample], Bools]
    text: str
    facts: tuple[Callable[[Sample], NDArray[Any]], ...]

    def reasons(self, sample: Sample, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        """Return why some of the samples cannot be fitted, (m,)."""
        facts = [fact(sample)[rows] for fact in self.facts]
        if all((fact == fact[0]).all() for fact in facts):  # of single values, say
            return np.full(rows.size, self.text.format(*(fact[0] for fact in facts)), dtype=object)
        write = np.frompyfunc(cache(self.text.format), len(facts), 1)  # counts are often the same
        return np.asarray(write(*facts))


"""Gives for each group what keeps a family from being fitted to it; "" where nothing does."""

LARGEST_COUNT = 2.0**54
"""Largest sum of mean and std of whole numbers: float64 knows these apart up to 2^53."""


@dataclass(frozen=True)
class Parameter:
    """A parameter: ``unit`` is "property" where it has that of the values, else "1"."""

    name: str
    unit: Literal["property", "1"]
    meaning: str
    lower: float = -np.inf
    upper: float = np.inf
    is_list: bool = False


@dataclass(frozen=True)
class Estimate:
    """Maximum-likelihood estimates of g groups.

    Attributes
    ----------
    parameters, std_error
        By parameter (g,), or (g, k) for a list, padded with NaN. All NaN where the fit failed; an
        error is NaN also for ends of a support and for estimates on a bound: it is not normal.
    status
        "ok" or "failed", (g,).
    message
        Why it failed, (g,): what was found and what was expected; "" where it did not.
    """

    parameters: dict[str, Floats]
    std_error: dict[str, Floats]
    status: NDArray[np.str_]
    message: NDArray[np.object_]

    def take(self, rows: NDArray[np.intp]) -> Estimate:
        """Return the estimates of some groups, by index."""
        values, errors = (
            {name: array[rows] for name, array in arrays.items()}
            for arrays in (self.parameters, self.std_error)
        )
        return Estimate(values, errors, self.status[rows], self.message[rows])


_quietly = np.errstate(all="ignore")
"""Decorates functions whose NaN and infinities are answers, not accidents."""


def _nowhere(*_: Floats) -> tuple[Floats | bool, Floats | float]:
    return False, np.nan


@dataclass(frozen=True)
class Formulas:
    """The functions of a family.

    They take the parameters in order, which broadcast against values ``x`` within the support, or
    probabilities ``q``; a list parameter has its own axis first. ``support`` gives its ends,
    ``atom`` whether the parameters describe a single point, and that point; ``loglik`` is the
    log-likelihood of a :class:`Sample` from its moments, None where they do not suffice; ``step``
    is the probability of exactly x, in a continuous family, None where that is always 0;
    ``moments`` gives mean and std where one makes the other, None where each is by itself.
    """

    support: Callable[..., tuple[Floats | float, Floats | float]]
    mean: Callable[..., Floats]
    std: Callable[..., Floats]
    logpdf: Callable[..., Floats]
    cdf: Callable[..., Floats]
    ppf: Callable[..., Floats]
    atom: Callable[..., tuple[Floats | bool, Floats | float]] = _nowhere
    loglik: Callable[..., Floats] | None = None
    step: Callable[..., Floats] | None = None
    moments: Callable[..., tuple[Floats, Floats]] | None = None


@dataclass(frozen=True)
class Family:
    """A family of distributions, for g groups at once.

    ``params`` are a mapping from parameter names to arrays (g,), lists (g, k) padded with NaN.
    Values ``x`` and probabilities ``q`` are (g,), or (g, m) for m of each group. NaN parameters
    give NaN. A family without parameters returns shape () where others return (g,).

    Attributes
    ----------
    name
        Name in model tables.
    kind
        Whether :meth:`logpdf` is the logarithm of a density or of a probability: log-likelihoods
        of the two kinds cannot be compared.
    parameters
        The parameters, in order.
    formulas
        The family's functions, which the methods of the same names dress.
    requirements
        What a sample must meet to be fitted; the first that it does not meet is the message.
    estimate
        Maps a sample that meets the requirements to maximum-likelihood estimates and their
        standard errors, both by parameter.
    unrounded
        Of a family of rounded values, that of the values before; else None.
    beside
        Of a family beside a point, that family; else None.
    n_known
        How many of the parameters are known, not estimated.
    """

    name: str
    kind: Literal["continuous", "discrete"]
    parameters: tuple[Parameter, ...]
    formulas: Formulas
    requirements: tuple[Requirement, ...]
    estimate: Callable[[Sample], Estimates]
    unrounded: Family | None = None
    beside: Family | None = None
    n_known: int = 0

    def _aligned(self, params: Parameters, ndim: int) -> list[Floats]:
        """Return the parameters shaped to broadcast against values of ``ndim`` dimensions."""
        aligned = []
        for parameter in self.parameters:
            value = np.asarray(params[parameter.name], dtype=np.float64)
            if parameter.is_list:
                value = np.moveaxis(value, -1, 0)
            aligned.append(value[..., None] if ndim > 1 else value)
        return aligned

    def _settled(
        self, inside: Floats, p: list[Floats], at_point: Callable[[Floats], ArrayLike]
    ) -> Floats:
        """Put in what holds for single points, and NaN where a parameter is NaN."""
        is_point, point = self.formulas.atom(*p)
        unknown: ArrayLike = False
        for parameter, value in zip(self.parameters, p, strict=True):
            unknown = np.logical_or(unknown, np.isnan(value[0] if parameter.is_list else value))
        result = np.where(is_point, at_point(np.asarray(point)), inside)
        return np.where(unknown, np.nan, result)

    @_quietly
    def support(self, params: Parameters) -> tuple[Floats, Floats]:
        """Return the ends of the support, each (g,); they belong to it where finite."""
        p = self._aligned(params, 1)
        ends = self.formulas.support(*p)
        lower, upper = (self._settled(np.asarray(end), p, lambda at: at) for end in ends)
        return lower, upper

    @_quietly
    def mean(self, params: Parameters) -> Floats:
        """Return the mean, (g,)."""
        p = self._aligned(params, 1)
        return self._settled(self.formulas.mean(*p), p, lambda at: at)

    @_quietly
    def std(self, params: Parameters) -> Floats:
        """Return the standard deviation, (g,)."""
        p = self._aligned(params, 1)
        return self._settled(self.formulas.std(*p), p, lambda _: 0.0)

    @_quietly
    def moments(self, params: Parameters) -> tuple[Floats, Floats]:
        """Return mean and standard deviation, (g,) each."""
        if self.formulas.moments is None:
            return self.mean(params), self.std(params)
        p = self._aligned(params, 1)
        mean, std = self.formulas.moments(*p)
        return self._settled(mean, p, lambda at: at), self._settled(std, p, lambda _: 0.0)

    @_quietly
    def beyond_numbers(self, params: Parameters, *, whole: ArrayLike) -> Bools:
        """Return whether mean or std, or for ``whole`` numbers their sum, are too large, (g,).

        Distributions of unbounded counts are of whole numbers in any case.
        """
        before = self.unrounded or self
        mean, std = before.mean(params), before.std(params)
        counts = (self.kind == "discrete") & np.isinf(self.support(params)[1])
        limit = np.where(counts | np.asarray(whole), LARGEST_COUNT, np.inf)
        return np.asarray(~(np.abs(mean) + std <= limit) | ~np.isfinite(mean))

    @_quietly
    def logpdf(self, x: ArrayLike, params: Parameters) -> Floats:
        """Return the logarithm of the density, in 1 over the values' unit, or of the mass.

        It is -inf outside the support, and inf where a continuous distribution is a single point.
        """
        x = np.asarray(x, dtype=np.float64)
        p = self._aligned(params, x.ndim)
        lower, upper = self.formulas.support(*p)
        inside = np.where((x < lower) | (x > upper), -np.inf, self.formulas.logpdf(x, *p))
        peak = np.inf if self.kind == "continuous" else 0.0
        return self._settled(inside, p, lambda at: np.where(x == at, peak, -np.inf))

    @_quietly
    def cdf(self, x: ArrayLike, params: Parameters) -> Floats:
        """Return the probability of values up to and including x."""
        x = np.asarray(x, dtype=np.float64)
        p = self._aligned(params, x.ndim)
        lower, upper = self.formulas.support(*p)
        inside = np.where(x < lower, 0.0, np.where(x >= upper, 1.0, self.formulas.cdf(x, *p)))
        return self._settled(inside, p, lambda at: np.where(x >= at, 1.0, 0.0))

    @_quietly
    def cdf_sides(self, x: ArrayLike, params: Parameters) -> tuple[Floats, Floats]:
        """Return the probabilities of values below x, and of values up to and including x."""
        x = np.asarray(x, dtype=np.float64)
        upto = self.cdf(x, params)
        if self.kind == "discrete":
            return self.cdf(np.nextafter(x, -np.inf), params), upto
        p = self._aligned(params, x.ndim)
        below = upto if self.formulas.step is None else upto - self.formulas.step(x, *p)
        return self._settled(below, p, lambda at: np.where(x > at, 1.0, 0.0)), upto

    @_quietly
    def ppf(self, q: ArrayLike, params: Parameters) -> Floats:
        """Return the quantiles: the smallest values whose :meth:`cdf` is at least q.

        Quantile 0 is the lower end of the support; NaN for q outside [0, 1].
        """
        q = np.asarray(q, dtype=np.float64)
        p = self._aligned(params, q.ndim)
        lower, upper = self.formulas.support(*p)
        inside = np.clip(self.formulas.ppf(q, *p), lower, upper)
        quantile = self._settled(inside, p, lambda at: at)
        return np.where((q >= 0) & (q <= 1), quantile, np.nan)

    def n_free(self, params: Parameters) -> Floats:
        """Return the number of free parameters, (g,), for information criteria.

        Lists of values and their probabilities count one for each value but the last.
        """
        lists = [np.asarray(params[p.name]) for p in self.parameters if p.is_list]
        if lists:
            return np.asarray(np.count_nonzero(~np.isnan(lists[0]), axis=-1) - 1.0)
        shape = np.broadcast_shapes(*(np.shape(params[p.name]) for p in self.parameters))
        return np.full(shape, float(len(self.parameters) - self.n_known))

    @_quietly
    def loglik(self, sample: Sample, params: Parameters) -> Floats:
        """Return the log-likelihood of the samples, (g,); NaN where there are no values.

        It is exact where the moments suffice, or where the points are exact; else a sum over
        points with their balanced weights.
        """
        if self.formulas.loglik is None:
            log = self.logpdf(sample.value, params)
            total = np.sum(np.where(sample.weight > 0, sample.balanced * log, 0.0), axis=1)
        else:
            p = self._aligned(params, 1)
            lower, upper = self.formulas.support(*p)
            outside = (sample.min < lower) | (sample.max > upper)
            inside = np.where(outside, -np.inf, self.formulas.loglik(sample, *p))
            constant = np.where(sample.min == sample.max, sample.min, np.nan)
            total = self._settled(inside, p, lambda at: np.where(constant == at, np.inf, -np.inf))
        return np.where(sample.n > 0, total, np.nan)

    @_quietly
    def fit(self, sample: Sample) -> Estimate:
        """Return the maximum-likelihood estimates; a fit that cannot be made says why."""
        groups = len(sample)
        message = np.full(groups, "", dtype=object)
        meets = np.ones(groups, dtype=bool)
        for requirement in self.requirements:
            failed = np.flatnonzero(meets & ~requirement.holds(sample))
            if failed.size:
                message[failed] = requirement.reasons(sample, failed)
                meets[failed] = False
        rows = np.flatnonzero(meets)
        estimates, errors = self.estimate(sample.take(rows))
        is_found = np.ones(len(rows), dtype=bool)
        for value in estimates.values():
            is_found &= np.isfinite(value if value.ndim == 1 else value[:, 0])
        message[rows[~is_found]] = "the likelihood's maximum was not found"
        vast = is_found & self.beyond_numbers(estimates, whole=sample.is_integer)
        message[rows[vast]] = "the distribution's mean or spread is beyond what numbers hold"
        is_found &= ~vast
        status = np.full(groups, "failed")
        status[rows[is_found]] = "ok"

        def spread(values: dict[str, Floats]) -> dict[str, Floats]:
            wide = {}
            for name, value in values.items():
                wide[name] = np.full((groups, *value.shape[1:]), np.nan)
                wide[name][rows[is_found]] = value[is_found]
            return wide

        return Estimate(spread(estimates), spread(errors), status, message)


_n, _min, _max = attrgetter("n"), attrgetter("min"), attrgetter("max")


def _not_whole(sample: Sample) -> Floats:
    """Return a value of each group that is not whole, if there is one."""
    bad = (sample.value != np.floor(sample.value)) & (sample.weight > 0)
    example = sample.value[np.arange(len(sample)), bad.argmax(axis=1)]
    example = np.where(bad.any(axis=1), example, sample.max)
    return np.where(sample.min == np.floor(sample.min), example, sample.min)


def _n_distinct(sample: Sample) -> NDArray[np.str_]:
    distinct = np.count_nonzero(sample.weight, axis=1)
    return np.char.add(np.where(sample.exact, "", "more than "), distinct.astype(str))


def at_least(count: int) -> Requirement:
    """Require a number of values."""
    text = f"too few values: found {{:.0f}}, expected at least {count}"
    return Requirement(lambda sample: sample.n >= count, text, (_n,))


@cache
def above(bound: float) -> Requirement:
    """Require values above a bound."""
    text = f"outside the support: found {{:.6g}}, expected values > {bound:g}"
    return Requirement(lambda sample: sample.min > bound, text, (_min,))


@cache
def not_below(bound: float) -> Requirement:
    """Require values at or above a bound."""
    text = f"outside the support: found {{:.6g}}, expected values >= {bound:g}"
    return Requirement(lambda sample: sample.min >= bound, text, (_min,))


positive = above(0)


def few(most: int) -> Requirement:
    """Require at most so many distinct values, all of them known."""
    return Requirement(
        lambda sample: sample.exact & (np.count_nonzero(sample.weight, axis=1) <= most),
        f"too many distinct values: found {{}}, expected at most {most}",
        (_n_distinct,),
    )


varied = Requirement(
    lambda sample: (sample.max > sample.min) & (sample.std > 0),
    "constant: found {:.6g} in all {:.0f} values, expected different values", (_min, _n),
)  # fmt: skip
equal = Requirement(
    lambda sample: sample.max == sample.min,
    "not constant: found {:.6g} to {:.6g}, expected one value", (_min, _max),
)  # fmt: skip
all_zero = Requirement(
    lambda sample: (sample.min == 0) & (sample.max == 0),
    "outside the support: found {:.6g} to {:.6g}, expected only 0", (_min, _max),
)  # fmt: skip
some_positive = Requirement(
    lambda sample: sample.max > 0, "constant: found only 0, expected values above 0", (_max,)
)
whole = Requirement(
    lambda sample: sample.whole, "not a count: found {:.6g}, expected whole numbers", (_not_whole,)
)
