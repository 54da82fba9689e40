"""Which family suits a property: its candidates, and the evidence for each over all pathways.

All pathways of a property get distributions of one family. What a candidate is worth is its
deviance, minus twice the log-likelihood summed over pathways, plus the cost of its parameters:

``"aicc"``, the default
    2 for each parameter of each pathway, and the correction for small samples (Hurvich, Tsai,
    "Regression and time series model selection in small samples", Biometrika 76:297-307, 1989).
``"bic"``
    log(n) for each (Schwarz, "Estimating the dimension of a model", Annals of Statistics 6:461-464,
    1978).
``"held-out"``
    None; the likelihood is that of values left out of the fit, in five folds. See :func:`held_out`.

Four things are not as in textbooks, where there is one sample and all is regular.

*Ends of a support count twice.* The extremes of n values lie within 1/n of the ends, not within
1/sqrt(n). To take one for the other gains 1 nat of likelihood in the mean, twice what a regular
parameter gains: n (1/n + 1/(n - 1)) for both ends of a uniform distribution, by E[log range] of
uniform samples; and what the fit loses on new values is twice as much likewise, if it grants that
they may lie outside. So AICc charges 4 for an end. In Laplace's approximation of the marginal
likelihood, which BIC is, a parameter costs -2 log of the width it is known to: log(n) where that is
1/sqrt(n), 2 log(n) where it is 1/n. If an end counted as any other parameter, every normal
property would seem cut at its extremes.

*Distributions with ends are compared with each other given the extremes.* Between the smallest and
the largest value of a sample the others are a sample of the same distribution cut there; whatever
the ends are, their likelihood is exact, and ends are no parameters of it. In all of the likelihood
a distribution that is low at its ends, as a normal distribution cut at one standard deviation, pays
for two values that lie there by construction. With the other distributions these are compared by
the likelihood of all values.

*A shape may be common to all pathways.* Candidates that have a shape are scored with a shape for
each pathway and with one for all (``fits.common_shape``), and the better counts; of distributions
with ends only among themselves, for in these the ends tell location and scale too. Else a
distribution that differs little from a simpler one, as a normal distribution cut at one standard
deviation from a uniform one (0.0104 nats a value), would be given up wherever pathways are small,
though all of them together leave no doubt: each would be charged for what it cannot know on its
own.

*Parameters need proof.* Of the candidates within 6 of the best, odds of 20 to 1, the one with the
fewest parameters is taken (Burnham, Anderson, "Model Selection and Multimodel Inference", 2nd
edition, 2002, section 2.6: differences of 4 to 7 say little). One useless parameter in each of P
pathways gains a chi-squared variate of P degrees of freedom and costs 2 P: AICc alone takes it in
16 % of cases for one pathway, 7 % for five, 1e-5 for fifty; with the margin in less than 1 % for
any P. So a single pathway is judged with caution, and many are not kept from speaking.

The candidates are the distributions of counts for whole numbers, a list of values where all
pathways consist of a few, and else the continuous distributions whose support holds the data: those
on the positive half-line where all values are positive, beta where all are between 0 and 1, as
shares are (elsewhere its four parameters imitate other distributions rather than describe
anything), normal where it would give hardly any negative values to a property that has none. Two
families are never candidates: constant, which data that vary refute and others do not need, and
zero, which is a decision, not a distribution of data. Pathways of less than ten values, constant
ones, and those of a few values where others are a continuum (a property switched off, say) have no
say; of others the largest 400 have.

There is no mixture of distributions among them, for the public circuits do not call for one: in
those of Blue Brain that this was tried on (cortex, thalamus, hippocampus), the Kolmogorov-Smirnov
distance of what is chosen falls with the number of values, to 0.005 at 19,651.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.families.family import Parameters
from connprops.families.registry import FAMILIES, Family, Sample, family_named
from connprops.fits.common_shape import common_shape, n_shapes
from connprops.fits.p_values import of_points
from connprops.schema import N_SYN_PER_CONN, Property

DistrType = str | Sequence[str]
Criterion = Literal["aicc", "bic", "held-out"]

CRITERIA: tuple[Criterion, ...] = ("aicc", "bic", "held-out")
AUTO = "auto"
AUTO_PER_PATHWAY = "auto-per-pathway"
CONTINUOUS = (
    "normal", "truncnorm", "gamma", "lognormal", "weibull", "beta", "exponential", "uniform",
)  # fmt: skip
COUNTS = ("poisson", "ztpoisson", "shifted_poisson", "geometric", "negative_binomial", "discrete")

MARGIN = 6.0
"""How much better than a candidate with fewer parameters one must be."""

_COMPARED_FROM = 10
"""Pathways with fewer values take no part in the choice of a family: they favour any."""

_COMPARED_AT_MOST = 400
"""Number of pathways, those with most values, that take part in the choice of a family."""

_NEGATIVE_AT_MOST = 1e-3
"""Mass below zero that a family may have, as a mean over pathways, where no value is negative."""

_FOLDS = 5
_RANKS = 1 << 16  # ranks after which folds repeat


def chosen_families(
    asked: DistrType, observed: Sample, samples: Sample, prop: Property, criterion: Criterion
) -> tuple[NDArray[np.str_], pl.DataFrame]:
    """Return the family to fit to each sample, and the table of the candidates' scores.

    Parameters
    ----------
    asked
        A family, several candidates, "auto" or "auto-per-pathway".
    observed
        Samples of the pathways with data: what the choice is made on.
    samples
        Samples that need a family: the observed, and those pooled for pathways without data.
    prop
        The property.
    criterion
        What decides.
    """
    of_all = np.full(len(samples), asked if isinstance(asked, str) else "", dtype="U32")
    if isinstance(asked, str) and asked not in (AUTO, AUTO_PER_PATHWAY):
        return of_all, _no_scores()
    telling = _telling(observed)
    candidates = _candidates(telling, prop) if isinstance(asked, str) else tuple(asked)
    for_each = candidates
    if isinstance(asked, str) and "normal" in candidates:
        below = np.average(_mass_below_zero(telling), weights=telling.n)
        if below > _NEGATIVE_AT_MOST:
            candidates = tuple(name for name in candidates if name != "normal")
    compared = _compared(telling)
    if len(candidates) == 1 or not len(compared):
        of_all[:] = candidates[0] if len(candidates) == 1 else "constant"
        return of_all, _no_scores()
    scored = [score(family_named(name), compared, criterion) for name in candidates]
    of_all[:] = _best(_rivals(scored)).family.name
    if asked == AUTO_PER_PATHWAY:
        varied = np.flatnonzero((samples.std > 0) & (samples.n >= _COMPARED_FROM))
        of_all[varied] = _best_of_each(for_each, samples.take(varied), criterion)
    return of_all, _table(scored, criterion)


def _telling(sample: Sample) -> Sample:
    """Return the pathways that can tell families apart.

    Constant ones cannot. Nor can, where others are a continuum, those that consist of a few values:
    zeros, say, where a property is switched off or too small for its type.
    """
    varied = sample.take(sample.std > 0)
    if sample.is_integer or varied.whole.all():
        return varied
    few = _repeats(varied)
    return varied if few.all() else varied.take(~few)


def _compared(sample: Sample) -> Sample:
    """Return the pathways on which candidates are compared: the largest of those that can tell."""
    enough = sample.take(sample.n >= _COMPARED_FROM)
    kept = enough if len(enough) else sample
    largest = np.lexsort((kept.std, kept.mean, -kept.n))[:_COMPARED_AT_MOST]
    return kept.take(largest)


def _candidates(sample: Sample, prop: Property) -> tuple[str, ...]:
    """Return the families that suit varied data: their type, their support, how many values."""
    if not len(sample):
        return ("constant",)
    low, high = float(sample.min.min()), float(sample.max.max())
    if sample.is_integer or sample.whole.all():
        names = [name for name in COUNTS if _reaches(name, low, high)]
        return tuple(names) if sample.is_integer or prop.name == N_SYN_PER_CONN else ("discrete",)
    if _repeats(sample).all():
        return ("discrete",)
    return tuple(name for name in CONTINUOUS if _reaches(name, low, high))


def _mass_below_zero(sample: Sample) -> Floats:
    """Return how probable negative values are by normal distributions, where none is negative."""
    normal = {"mean": sample.mean, "std": np.maximum(sample.std, 1e-300)}
    below = FAMILIES["normal"].cdf(np.zeros(len(sample)), normal)
    return np.where(sample.min >= 0, below, 0.0)


def _reaches(name: str, low: float, high: float) -> bool:
    """Return whether a family is meant for values as low, and as high, as the data's."""
    least = {"poisson": 0, "negative_binomial": 0, "exponential": 0,
             "ztpoisson": 1, "shifted_poisson": 1, "geometric": 1}  # fmt: skip
    if name in ("gamma", "lognormal", "weibull"):
        return low > 0
    if name == "beta":
        return low >= 0 and high <= 1
    return low >= least.get(name, -np.inf)


def _repeats(sample: Sample) -> NDArray[np.bool_]:
    """Return whether values repeat so much that they are a choice of a few, not a continuum."""
    distinct = (sample.weight > 0).sum(axis=1)
    return np.asarray(sample.exact & (distinct * 5 <= sample.n))


# Scores


@dataclass(frozen=True)
class Score:
    """A candidate's score over the pathways that it could be fitted to.

    Attributes
    ----------
    family
        The candidate.
    loglik, n_parameters, aicc, bic
        Sums over pathways; the last two include the cost of the parameters.
    held_out
        Minus twice the log-likelihood of values left out of the fit; NaN unless asked for.
    n_pathways, n_failed
        How many pathways there were, and on how many the fit failed.
    is_common
        Whether one shape for all pathways is the better.
    value
        That of the criterion asked for: the smaller, the better.
    given_extremes
        The same, given the samples' extremes; NaN for families without ends.
    """

    family: Family
    loglik: float
    n_parameters: float
    aicc: float
    bic: float
    held_out: float
    n_pathways: int
    n_failed: int
    is_common: bool
    value: float
    given_extremes: float


def n_ends(family: Family) -> int:
    """Return how many parameters of a family are ends of its support."""
    return sum(parameter.name in ("min", "max") for parameter in family.parameters)


def aicc(loglik: Floats, free: Floats, ends: int, n: Floats) -> Floats:
    """Return the corrected information criterion of Akaike, ends of a support counted twice.

    Where n does not exceed the number of parameters by 2, the correction is as if it did.
    """
    regular = free - ends
    correction = regular * (regular + 1) / np.maximum(n - regular - 1, 1)
    return 2 * (free + ends + correction - loglik)


def bic(loglik: Floats, free: Floats, ends: int, n: Floats) -> Floats:
    """Return the information criterion of Schwarz, ends of a support counted twice."""
    return (free + ends) * np.log(n) - 2 * loglik


def score(family: Family, sample: Sample, criterion: Criterion) -> Score:
    """Score a candidate on the samples of pathways."""
    estimate = family.fit(sample)
    own = _scored(family, sample, estimate.parameters, estimate.status == "ok", 0, criterion)
    if criterion == "held-out":
        value = float(held_out(family, sample)[estimate.status == "ok"].sum())
        return replace(own, held_out=value, value=value, given_extremes=np.nan)
    if own.n_failed or len(sample) == 1:
        return own
    distributions = common_shape(family, sample, estimate.parameters)
    if distributions is None:
        return own
    everywhere = np.ones(len(sample), dtype=np.bool_)
    common = _scored(family, sample, distributions, everywhere, n_shapes(family), criterion)
    if not n_ends(family):
        return min(own, common, key=lambda one: one.value)
    if own.given_extremes <= common.given_extremes:
        return own
    return replace(
        own,
        n_parameters=common.n_parameters,
        is_common=True,
        given_extremes=common.given_extremes,
    )


def _scored(
    family: Family,
    sample: Sample,
    distributions: Parameters,
    ok: NDArray[np.bool_],
    shared: int,
    criterion: Criterion,
) -> Score:
    """Return the score of distributions that share so many parameters in all pathways."""
    loglik, ends = family.loglik(sample, distributions), n_ends(family)
    ok = ok & np.isfinite(loglik)
    free = family.n_free(distributions) - shared
    n, total = sample.n, float(sample.n.sum())

    def values(loglik: Floats, free: Floats, ends: int) -> dict[str, float]:
        return {
            "aicc": float(aicc(loglik, free, ends, n)[ok].sum()) + 2 * shared,
            "bic": float(bic(loglik, free, ends, n)[ok].sum() + shared * np.log(total)),
            "held-out": np.inf,
        }

    whole = values(loglik, free, ends)
    given_extremes = np.nan
    if ends:
        extremes = family.logpdf(np.stack([sample.min, sample.max], axis=1), distributions).sum(
            axis=1
        )
        given_extremes = values(loglik - extremes, free - ends, 0)[criterion]
    return Score(
        family=family,
        loglik=float(loglik[ok].sum()),
        n_parameters=float(free[ok].sum()) + shared,
        aicc=whole["aicc"],
        bic=whole["bic"],
        held_out=np.nan,
        n_pathways=len(sample),
        n_failed=int((~ok).sum()),
        is_common=shared > 0,
        value=whole[criterion],
        given_extremes=given_extremes,
    )


def held_out(family: Family, sample: Sample) -> Floats:
    """Return minus twice the log-likelihood of values left out of the fit, (g,).

    Each value is left out once, in one of five folds; in which, its rank in the sorted sample says,
    by a hash: so nothing is random, and folds are no more alike than random ones. A distribution is
    granted that a share 1/(m + 1) of values, m being those it was fitted to, are strays, spread
    evenly over the sample's range: so a value outside its support costs about log(m) nats, what it
    costs to learn of it, and not the family's life.
    """
    found = np.zeros(len(sample))
    upto = np.round(np.cumsum(sample.weight, axis=1)).astype(np.int64)
    width = sample.max - sample.min + (1.0 if family.kind == "discrete" else 0.0)
    folds = fold_of_rank(np.arange(_RANKS))
    for fold in range(_FOLDS):
        before = np.concatenate([[0], np.cumsum(folds == fold)])
        inside = upto // _RANKS * before[-1] + before[upto % _RANKS]
        left_out = np.diff(inside, axis=1, prepend=0).astype(np.float64)
        training = _with_weights(sample, np.maximum(sample.weight - left_out, 0.0))
        estimate = family.fit(training)
        n = training.n[:, None]
        with np.errstate(all="ignore"):
            density = np.exp(family.logpdf(sample.value, estimate.parameters))
            density = np.where(np.isfinite(density), density, 0.0)
            granted = (n * density + 1 / width[:, None]) / (n + 1)
            logs = np.where(left_out > 0, left_out * np.log(granted), 0.0)
        found -= 2 * logs.sum(axis=1)
    return found


def fold_of_rank(rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in which fold the value of a rank is left out.

    The hash is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom
    number generators", OOPSLA 2014).
    """
    mixed = rank.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(_FOLDS)).astype(np.int64)


def _with_weights(sample: Sample, weight: Floats) -> Sample:
    """Return samples of the same points with other weights; points without weight go."""
    order = np.argsort(weight == 0, axis=1, kind="stable")
    weight = np.take_along_axis(weight, order, axis=1)
    value = np.take_along_axis(sample.value, order, axis=1)
    last = np.maximum(np.count_nonzero(weight, axis=1) - 1, 0)[:, None]
    greatest = np.take_along_axis(value, last, axis=1)
    return of_points(np.where(weight > 0, value, greatest), weight, sample)


def _rivals(scored: Sequence[Score]) -> list[Score]:
    """Return the candidates that failed least, their values such that all can be compared.

    Distributions with ends differ by their values given the extremes, from the best of them on.
    """
    fewest = min(one.n_failed for one in scored)
    left = [one for one in scored if one.n_failed == fewest]
    with_ends = [one for one in left if np.isfinite(one.given_extremes)]
    if not with_ends:
        return left
    first = min(with_ends, key=lambda one: one.given_extremes)
    return [
        replace(one, value=first.value + one.given_extremes - first.given_extremes)
        if one in with_ends
        else one
        for one in left
    ]


def _best(rivals: Sequence[Score]) -> Score:
    """Return the simplest of the candidates that are about as good as the best."""
    least = min(one.value for one in rivals)
    near = [one for one in rivals if one.value <= least + MARGIN]
    return min(near, key=lambda one: (one.n_parameters, one.value, one.family.name))


def _best_of_each(
    candidates: Sequence[str], samples: Sample, criterion: Criterion
) -> NDArray[np.str_]:
    """Return the best candidate of each sample on its own, by the rules that hold for all."""
    n = len(samples)
    value, parameters = np.full((2, len(candidates), n), np.inf)
    for row, name in enumerate(candidates):
        family = family_named(name)
        estimate = family.fit(samples)
        loglik = family.loglik(samples, estimate.parameters)
        free, ends = family.n_free(estimate.parameters), n_ends(family)
        if criterion == "held-out":
            found = held_out(family, samples)
        else:
            found = {"aicc": aicc, "bic": bic}[criterion](loglik, free, ends, samples.n)
        ok = (estimate.status == "ok") & np.isfinite(loglik) & np.isfinite(found)
        if name == "normal":
            ok &= _mass_below_zero(samples) <= _NEGATIVE_AT_MOST
        value[row, ok], parameters[row, ok] = found[ok], free[ok]
    near = value <= value.min(axis=0, initial=np.inf) + MARGIN
    fewest = np.where(near, parameters, np.inf).min(axis=0, initial=np.inf)
    row = np.where(near & (parameters == fewest), value, np.inf).argmin(axis=0)
    return np.array([candidates[i] for i in row], dtype="U32")


def _table(scored: Sequence[Score], criterion: Criterion) -> pl.DataFrame:
    rivals = {one.family.name: one for one in _rivals(scored)}
    best = _best([*rivals.values()])
    least = min(one.value for one in rivals.values())
    rows = []
    for one in scored:
        rival = rivals.get(one.family.name)
        rows.append(
            {
                "distribution": one.family.name,
                "n_pathways": one.n_pathways,
                "n_failed": one.n_failed,
                "common_shape": one.is_common,
                "n_parameters": int(one.n_parameters),
                "loglik": one.loglik,
                "aicc": one.aicc if rival else None,
                "bic": one.bic if rival else None,
                "held_out": one.held_out if rival and np.isfinite(one.held_out) else None,
                "criterion": criterion,
                "delta": rival.value - least if rival else None,
                "chosen": rival is best,
            }
        )
    return pl.DataFrame(rows, schema=_no_scores().schema)


def _no_scores() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            column.name: pl.String if column.dtype is pl.Enum else column.dtype
            for column in schema.SCORES.columns
            if column.name != "property"
        }
    )
