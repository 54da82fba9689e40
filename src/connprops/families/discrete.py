"""Discrete families: single points, lists of values, and counts.

Estimators maximise the likelihood; standard errors come from the Fisher information. Formulas:
Johnson, Kemp, Kotz, "Univariate Discrete Distributions", 3rd edition, 2005.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.solvers import increasing_root, smallest_count
from connprops.arrays.trigamma import trigamma
from connprops.families.composed import shifted
from connprops.families.family import (
    Estimates,
    Family,
    Formulas,
    Parameter,
    all_zero,
    at_least,
    equal,
    few,
    not_below,
    some_positive,
    whole,
)
from connprops.families.sample import Sample

DISTINCT = 100
"""Number of distinct values beyond which no list of them is made."""


# Distributions of a single point

CONSTANT = Family(
    name="constant",
    kind="discrete",
    parameters=(Parameter("mean", "property", "the value"),),
    formulas=Formulas(
        support=lambda mean: (mean, mean),
        mean=lambda mean: mean,
        std=lambda mean: 0 * mean,
        logpdf=lambda x, mean: 0 * x * mean,
        cdf=lambda x, mean: 0 * x * mean,
        ppf=lambda q, mean: mean + 0 * q,
        atom=lambda mean: (~np.isnan(mean), mean),
    ),
    requirements=(at_least(1), equal),
    estimate=lambda sample: ({"mean": sample.min}, {"mean": np.zeros_like(sample.min)}),
)

ZERO = Family(
    name="zero",
    kind="discrete",
    parameters=(),
    formulas=Formulas(
        support=lambda: (0.0, 0.0),
        mean=lambda: np.zeros(()),
        std=lambda: np.zeros(()),
        logpdf=np.zeros_like,
        cdf=np.zeros_like,
        ppf=np.zeros_like,
        atom=lambda: (True, 0.0),
    ),
    requirements=(at_least(1), all_zero),
    estimate=lambda _: ({}, {}),
)


# A list of values and their probabilities. Lists come with their axis first, padded with NaN.


def _fit_discrete(sample: Sample) -> Estimates:
    width = int(np.count_nonzero(sample.weight, axis=1).max(initial=1))
    weight = sample.weight[:, :width]
    value = np.where(weight > 0, sample.value[:, :width], np.nan)
    n = sample.n[:, None]
    p = np.where(weight > 0, weight / n, np.nan)
    return {"val": value, "p": p}, {"val": np.full_like(p, np.nan), "p": np.sqrt(p * (1 - p) / n)}


def _total(terms: Floats) -> Floats:
    return np.asarray(np.nansum(terms, axis=0))


def _mean_discrete(value: Floats, p: Floats) -> Floats:
    return _total(value * p) / _total(p)


def _std_discrete(value: Floats, p: Floats) -> Floats:
    return np.sqrt(_total((value - _mean_discrete(value, p)) ** 2 * p) / _total(p))


# One pass over the list for each of its places, so that nothing of the size of all values times
# all places is ever held.


def _logpdf_discrete(x: Floats, value: Floats, p: Floats) -> Floats:
    mass = np.zeros(np.broadcast_shapes(x.shape, value.shape[1:]))
    for at, share in zip(value, p / _total(p), strict=True):
        mass += np.where(x == at, share, 0)
    return np.log(mass)


def _cdf_discrete(x: Floats, value: Floats, p: Floats) -> Floats:
    mass = np.zeros(np.broadcast_shapes(x.shape, value.shape[1:]))
    for at, share in zip(value, p, strict=True):
        mass += np.where(x >= at, share, 0)
    return mass / _total(p)


def _ppf_discrete(q: Floats, value: Floats, p: Floats) -> Floats:
    order = np.argsort(value, axis=0)  # NaN, which pads, comes last
    value, p = np.take_along_axis(value, order, 0), np.take_along_axis(p, order, 0)
    reached = np.nancumsum(p, axis=0)
    reached /= reached[-1]
    quantile = np.broadcast_to(value[0], np.broadcast_shapes(q.shape, value.shape[1:]))
    for at, below in zip(value[1:], reached[:-1], strict=True):
        quantile = np.where(q > below, at, quantile)
    return quantile


DISCRETE = Family(
    name="discrete",
    kind="discrete",
    parameters=(
        Parameter("val", "property", "the values", is_list=True),
        Parameter("p", "1", "their probabilities", lower=0, upper=1, is_list=True),
    ),
    formulas=Formulas(
        support=lambda value, _: (np.fmin.reduce(value), np.fmax.reduce(value)),
        mean=_mean_discrete,
        std=_std_discrete,
        logpdf=_logpdf_discrete,
        cdf=_cdf_discrete,
        ppf=_ppf_discrete,
    ),
    requirements=(at_least(1), few(DISTINCT)),
    estimate=_fit_discrete,
)


# Distributions of counts


def _counts(
    lowest: float,
    natural: Callable[..., tuple[Floats, ...]],
    logpmf: Callable[..., Floats],
    cdf: Callable[..., Floats],
    moments: Callable[..., tuple[Floats, Floats, Floats]],
) -> Formulas:
    """Return the formulas of a family on the whole numbers from ``lowest``.

    ``natural`` gives the other functions' parameters; ``moments`` mean, std and skewness.
    """

    def logpdf(x: Floats, *params: Floats) -> Floats:
        return np.where(x == np.floor(x), logpmf(x, *natural(*params)), -np.inf)

    def ppf(q: Floats, *params: Floats) -> Floats:
        own = natural(*params)
        q, mean, std, skewness, *each = np.broadcast_arrays(q, *moments(*own), *own)
        ends = np.where(q == 0, lowest, np.where(q == 1, np.inf, np.nan))
        inner = (q > 0) & (q < 1) & np.isfinite(std)
        z, spread, p = special.ndtri(q[inner]), std[inner], [x[inner] for x in each]
        # Cornish's and Fisher's first correction of the normal distribution's quantile.
        skew = np.where(spread > 0, skewness[inner], 0.0) * (z**2 - 1) / 6
        ends[inner] = smallest_count(
            lambda k, at: cdf(k, *(x[at] for x in p)),
            q[inner],
            mean[inner] + spread * (z + skew),
            np.full_like(z, lowest),
        )
        return ends

    return Formulas(
        support=lambda *_: (lowest, np.inf),
        mean=lambda *params: moments(*natural(*params))[0],
        std=lambda *params: moments(*natural(*params))[1],
        logpdf=logpdf,
        cdf=lambda x, *params: cdf(np.floor(x), *natural(*params)),
        ppf=ppf,
    )


def _count_mean(lowest: float) -> Parameter:
    return Parameter("mean", "property", "mean", lower=lowest)


def _fit_mean(variance: Callable[[Floats], Floats]) -> Callable[[Sample], Estimates]:
    """Return the estimator of families whose likelihood is greatest at the data's mean."""

    def fit(sample: Sample) -> Estimates:
        square = variance(sample.mean) / sample.n
        # No variance: the mean is the smallest possible, a bound.
        error = np.where(square > 0, np.sqrt(square), np.nan)
        return {"mean": sample.mean}, {"mean": error}

    return fit


# Poisson, and 1 + Poisson


def _logpmf_poisson(k: Floats, rate: Floats) -> Floats:
    mass: Floats = special.xlogy(k, rate) - rate - special.gammaln(k + 1)
    return mass


POISSON = Family(
    name="poisson",
    kind="discrete",
    parameters=(_count_mean(0),),
    formulas=_counts(
        lowest=0,
        natural=lambda mean: (mean,),
        logpmf=_logpmf_poisson,
        cdf=special.pdtr,
        moments=lambda rate: (rate, np.sqrt(rate), 1 / np.sqrt(rate)),
    ),
    requirements=(at_least(1), whole, not_below(0)),
    estimate=_fit_mean(lambda mean: mean),
)

SHIFTED_POISSON = shifted(POISSON, 1)


# Zero-truncated Poisson, by its own mean m; the rate r solves r / (1 - exp(-r)) = m.

_SMALL_RATE = 0.2  # below it differences lose digits, and series in Bernoulli numbers do not


def _excess(r: Floats) -> Floats:
    """Return m - 1."""
    series = r / 2 + r**2 / 12 - r**4 / 720 + r**6 / 30240 - r**8 / 1209600
    return np.where(r < _SMALL_RATE, series, -r / np.expm1(-r) - 1)


def _excess_slope(r: Floats) -> Floats:
    """Return dm / dr."""
    series = 0.5 + r / 6 - r**3 / 180 + r**5 / 5040 - r**7 / 151200
    positive = -np.expm1(-r)
    return np.where(r < _SMALL_RATE, series, (positive - r * np.exp(-r)) / positive**2)


def _rate(mean: Floats) -> Floats:
    excess = mean - 1
    # m(r) is convex, and at least 1 + r / 2 and r: from this start Newton only descends.
    start = np.minimum(2 * excess, mean)
    return increasing_root(
        lambda r: (_excess(r) - excess, _excess_slope(r)), np.zeros_like(mean), start, start
    )


def _variance_ztpoisson(mean: Floats) -> Floats:
    return mean * (_rate(mean) - (mean - 1))


def _moments_ztpoisson(mean: Floats, rate: Floats) -> tuple[Floats, Floats, Floats]:
    std = np.sqrt(mean * (rate - (mean - 1)))
    # Moments about 0 are those of the Poisson distribution, times m / r.
    third = mean * (rate**2 + 3 * rate + 1) - 3 * mean**2 * (rate + 1) + 2 * mean**3
    return mean, std, third / std**3


def _logpmf_ztpoisson(k: Floats, mean: Floats, rate: Floats) -> Floats:
    # P(1) = r exp(-r) / (1 - exp(-r)) = m exp(-r), also at rate 0.
    mass: Floats = np.log(mean) - rate + special.xlogy(k - 1, rate) - special.gammaln(k + 1)
    return mass


def _cdf_ztpoisson(k: Floats, _: Floats, rate: Floats) -> Floats:
    above = special.gammainc(k + 1, rate) / -np.expm1(-rate)
    return np.where(rate == 0, 1.0, 1 - above)


ZTPOISSON = Family(
    name="ztpoisson",
    kind="discrete",
    parameters=(_count_mean(1),),
    formulas=_counts(
        lowest=1,
        natural=lambda mean: (mean, _rate(mean)),
        logpmf=_logpmf_ztpoisson,
        cdf=_cdf_ztpoisson,
        moments=_moments_ztpoisson,
    ),
    requirements=(at_least(1), whole, not_below(1)),
    estimate=_fit_mean(_variance_ztpoisson),
)


# Geometric, the number of trials up to the first success of probability 1 / mean


def _logpmf_geometric(k: Floats, mean: Floats) -> Floats:
    failures = special.xlog1py(k - 1, -1 / mean)
    return np.asarray(failures - np.log(mean), dtype=np.float64)


def _moments_geometric(mean: Floats) -> tuple[Floats, Floats, Floats]:
    failure = 1 - 1 / mean
    return mean, np.sqrt(mean * (mean - 1)), (1 + failure) / np.sqrt(failure)


GEOMETRIC = Family(
    name="geometric",
    kind="discrete",
    parameters=(_count_mean(1),),
    formulas=_counts(
        lowest=1,
        natural=lambda mean: (mean,),
        logpmf=_logpmf_geometric,
        cdf=lambda k, mean: -np.expm1(k * np.log1p(-1 / mean)),
        moments=_moments_geometric,
    ),
    requirements=(at_least(1), whole, not_below(1)),
    estimate=_fit_mean(lambda mean: mean * (mean - 1)),
)


# Negative binomial, by its mean m and dispersion r: variance m + m^2 / r

MOST_DISPERSION = 1e4
"""Greatest fitted dispersion, in units of the mean, or of 1 where that is less. There the
variance is a ten-thousandth above the Poisson distribution's, the limit of growing dispersion."""


def _logpmf_negative_binomial(k: Floats, mean: Floats, r: Floats) -> Floats:
    ways: Floats = -special.betaln(r, k + 1) - np.log(r + k)
    mass: Floats = special.xlogy(k, mean / (r + mean)) - r * np.log1p(mean / r)
    return ways + mass


def _moments_negative_binomial(mean: Floats, r: Floats) -> tuple[Floats, Floats, Floats]:
    success = mean / (r + mean)
    return mean, np.sqrt(mean + mean**2 / r), (1 + success) / np.sqrt(success * r)


def _fit_negative_binomial(sample: Sample) -> Estimates:
    """Solve the equation of the dispersion r: one root where the variance exceeds the mean."""
    most = MOST_DISPERSION * np.maximum(sample.mean, 1)
    r, error = most.copy(), np.full_like(most, np.nan)
    dispersed = np.flatnonzero(sample.std**2 > sample.mean)
    r[dispersed], error[dispersed] = _dispersion(sample.take(dispersed), most[dispersed])
    return (
        {"mean": sample.mean, "dispersion": r},
        {"mean": np.sqrt((sample.mean + sample.mean**2 / r) / sample.n), "dispersion": error},
    )


def _dispersion(sample: Sample, most: Floats) -> tuple[Floats, Floats]:
    """Return dispersions, at most ``most``, and their errors where the variance is the larger."""
    row, k, _ = sample.points()
    weight = sample.balanced[sample.weight > 0]
    mean = sample.mean

    def average(values: Floats) -> Floats:
        return np.bincount(row, weights=weight * values, minlength=len(sample)) / sample.n

    def score(r: Floats) -> Floats:
        return average(special.psi(k + r[row])) - special.psi(r) - np.log1p(mean / r)

    def information(r: Floats) -> Floats:
        curvature = trigamma(r) - average(trigamma(k + r[row]))
        return curvature - mean / (r * (r + mean))

    def negative_score(log_r: Floats) -> tuple[Floats, Floats]:
        r = np.exp(log_r)
        value = r * score(r)
        return -value, r**2 * information(r) - value

    start = np.log(np.minimum(mean**2 / (sample.std**2 - mean), most))  # by two moments
    # Large dispersions are known badly, and their equation has digits for no more.
    log_r = increasing_root(negative_score, start - 20, np.log(most), start, tolerance=1e-8)
    bounded = score(most) >= 0
    r = np.where(bounded, most, np.exp(log_r))
    return r, np.where(bounded, np.nan, 1 / np.sqrt(sample.n * information(r)))


NEGATIVE_BINOMIAL = Family(
    name="negative_binomial",
    kind="discrete",
    parameters=(
        _count_mean(0),
        Parameter("dispersion", "1", "dispersion r: the variance is mean + mean^2 / r", lower=0),
    ),
    formulas=_counts(
        lowest=0,
        natural=lambda mean, r: (mean, r),
        logpmf=_logpmf_negative_binomial,
        cdf=lambda k, mean, r: special.betainc(r, k + 1, r / (r + mean)),
        moments=_moments_negative_binomial,
    ),
    requirements=(at_least(2), whole, not_below(0), some_positive),
    estimate=_fit_negative_binomial,
)

SHIFTED_NEGATIVE_BINOMIAL = shifted(NEGATIVE_BINOMIAL, 1)
