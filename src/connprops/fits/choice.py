"""Which family suits a property: its candidates, and the evidence for each over all pathways.

docs/numbers.md, "Choice of a family", gives the reasons for the criteria and their exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Bools, Floats, Ints
from connprops.arrays.random_numbers import bits
from connprops.families.composed import adapted
from connprops.families.family import Family, Parameters
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import Sample, of_points
from connprops.options import AUTO, AUTO_PER_PATHWAY, Criterion, DistrType
from connprops.schema import Property

_POSITIVE = np.nextafter(0.0, 1.0)
CONTINUOUS = {
    "normal": -np.inf, "truncnorm": -np.inf, "gamma": _POSITIVE, "lognormal": _POSITIVE,
    "weibull": _POSITIVE, "beta": 0, "exponential": 0, "uniform": -np.inf,
}  # fmt: skip
COUNTS = {
    "poisson": 0, "ztpoisson": 1, "shifted_poisson": 1, "geometric": 1, "negative_binomial": 0,
    "shifted_negative_binomial": 1, "gamma": 0, "lognormal": 0, "discrete": -np.inf,
}  # fmt: skip
"""Candidates, each with the smallest value that it is meant for; those of counts are rounded."""

_MANY = 30.0
"""Range of whole numbers, in the median pathway, from which all continuous families are tried."""

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
    """Return the family to fit to each of ``samples``, and the table of the candidates' scores.

    The choice is made on ``observed``, the pathways with data; ``samples`` are these and those
    pooled for pathways without data.
    """
    if prop.labels is not None:
        return np.full(len(samples), "discrete", dtype="U32"), _no_scores()
    families = np.full(len(samples), asked if isinstance(asked, str) else "", dtype="U32")
    if isinstance(asked, str) and asked not in (AUTO, AUTO_PER_PATHWAY):
        return families, _no_scores()
    informative = _informative(observed)
    candidates = of_each = _candidates(informative) if isinstance(asked, str) else asked
    if isinstance(asked, str) and "normal" in candidates:
        below = np.average(_mass_below_zero(informative), weights=informative.n)
        if below > _NEGATIVE_AT_MOST:
            candidates = [name for name in candidates if name != "normal"]
    compared = _compared(informative)
    if len(candidates) == 1 or not len(compared):
        families[:] = candidates[0] if len(candidates) == 1 else "constant"
        return families, _no_scores()
    scores = [
        score(adapted(family_named(name), observed.known), compared, criterion)
        for name in candidates
    ]
    values = _comparable_values(scores)
    best = _best(scores, values)
    families[:] = best
    if asked == AUTO_PER_PATHWAY:
        varied = np.flatnonzero((samples.std > 0) & (samples.n >= _COMPARED_FROM))
        families[varied] = _best_of_each(of_each, samples.take(varied), criterion)
    return families, _table(scores, values, best, criterion)


def _informative(sample: Sample) -> Sample:
    """Return the pathways that can tell families apart.

    Constant ones cannot. Nor can, where others are a continuum, those that consist of a few values:
    zeros, say, where a property is switched off or too small for its type.
    """
    varied = sample.take(sample.std > 0)
    if sample.known.rounded:
        return varied
    few = _repeats(varied)
    return varied if few.all() else varied.take(~few)


def _compared(sample: Sample) -> Sample:
    """Return the pathways on which candidates are compared: the largest that are informative."""
    enough = sample.take(sample.n >= _COMPARED_FROM)
    kept = enough if len(enough) else sample
    return kept.take(np.lexsort((kept.std, kept.mean, -kept.n))[:_COMPARED_AT_MOST])


def _candidates(sample: Sample) -> Sequence[str]:
    """Return the families that suit varied data: their type, their support, how many values."""
    if not len(sample):
        return ["constant"]
    families = CONTINUOUS
    if sample.known.rounded:
        families = COUNTS
        if np.median(sample.max - sample.min) >= _MANY:
            families = {
                **CONTINUOUS,
                **dict.fromkeys(("gamma", "lognormal", "weibull"), 0),
                **COUNTS,
            }
    elif _repeats(sample).all():
        return ["discrete"]
    low, high = sample.min.min(), sample.max.max()
    return [name for name, least in families.items()
            if low >= least and (name != "beta" or high <= 1)]  # fmt: skip


def _mass_below_zero(sample: Sample) -> Floats:
    """Return the probability of negative values by a normal fit, where no value is negative."""
    normal = {"mean": sample.mean, "std": np.maximum(sample.std, 1e-300)}
    below = FAMILIES["normal"].cdf(np.zeros(len(sample)), normal)
    return np.where(sample.min >= 0, below, 0.0)


def _repeats(sample: Sample) -> Bools:
    """Return whether values repeat so much that they are a choice of a few, not a continuum."""
    distinct = (sample.weight > 0).sum(axis=1)
    return np.asarray(sample.exact & (distinct * 5 <= sample.n))


# Scores


@dataclass(frozen=True)
class Score:
    """A candidate's score over the pathways that it could be fitted to: sums, and two counts.

    ``common_shape`` says whether one shape for all pathways is the better. ``value`` is that of
    the criterion: the smaller, the better; ``given_extremes`` is the same given the samples'
    extremes, NaN for families without ends.
    """

    family: Family
    n_pathways: int
    n_failed: int
    common_shape: bool
    n_parameters: float
    loglik: float
    aicc: float
    bic: float
    value: float
    given_extremes: float
    held_out: float = np.nan


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
        total = float(held_out(family, sample)[estimate.status == "ok"].sum())
        return replace(own, held_out=total, value=total, given_extremes=np.nan)
    if own.n_failed or len(sample) == 1:
        return own
    parameters = common_shape(family, sample, estimate.parameters)
    if parameters is None:
        return own
    everywhere = np.ones(len(sample), dtype=np.bool_)
    common = _scored(family, sample, parameters, everywhere, _n_shapes(family), criterion)
    if not n_ends(family):
        return min(own, common, key=lambda scored: scored.value)
    if own.given_extremes <= common.given_extremes:
        return own
    names = ("n_parameters", "common_shape", "given_extremes")
    return replace(own, **{name: getattr(common, name) for name in names})


@np.errstate(invalid="ignore")
def _scored(
    family: Family,
    sample: Sample,
    parameters: Parameters,
    ok: Bools,
    n_common: int,
    criterion: Criterion,
) -> Score:
    """Return the score of fits of which ``n_common`` parameters are the same in all pathways."""
    loglik, ends = family.loglik(sample, parameters), n_ends(family)
    ok = ok & np.isfinite(loglik)
    free = family.n_free(parameters) - n_common
    n, total = sample.n, float(sample.n.sum())

    def sums(loglik: Floats, free: Floats, ends: int) -> dict[str, float]:
        return {
            "aicc": float(aicc(loglik, free, ends, n)[ok].sum()) + 2 * n_common,
            "bic": float(bic(loglik, free, ends, n)[ok].sum() + n_common * np.log(total)),
        }

    whole, given_extremes = sums(loglik - _unlisted(family, sample), free, ends), np.nan
    if ends:
        extremes = family.logpdf(np.stack([sample.min, sample.max], axis=1), parameters).sum(axis=1)
        with np.errstate(invalid="ignore"):  # both infinite, of numbers that hardly differ
            given_extremes = sums(loglik - extremes, free - ends, 0).get(criterion, np.inf)
    return Score(
        family=family,
        n_pathways=len(sample),
        n_failed=int((~ok).sum()),
        common_shape=n_common > 0,
        n_parameters=float(free[ok].sum()) + n_common,
        loglik=float(loglik[ok].sum()),
        **whole,
        value=whole.get(criterion, np.inf),
        given_extremes=given_extremes,
    )


def _unlisted(family: Family, sample: Sample) -> Floats:
    """Return what a list of values costs beyond its number of parameters, (g,), in nats.

    A value that occurs once is not listed without it: left out, it would be a stray one, spread
    evenly over the range of the sample.
    """
    if family.name != "discrete":
        return np.zeros_like(sample.n)
    once = np.count_nonzero(np.rint(sample.weight) == 1, axis=1)
    return np.asarray(once * np.log(sample.max - sample.min + 1))


def held_out(family: Family, sample: Sample) -> Floats:
    """Return minus twice the log-likelihood of values left out of the fit, (g,).

    Each value is left out once, in the fold that its rank gives. A fit to m values grants a share
    of 1/(m + 1) to strays, spread evenly over the sample's range.
    """
    deviance = np.zeros(len(sample))
    upto = np.round(np.cumsum(sample.weight, axis=1)).astype(np.int64)
    with np.errstate(over="ignore"):
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
        deviance -= 2 * logs.sum(axis=1)
    return deviance


def fold_of_rank(rank: Ints) -> Ints:
    """Return in which fold the value of a rank is left out: folds are as good as random."""
    hashed = bits(np.zeros(rank.shape, dtype=np.uint64), rank - 1)
    return (hashed % np.uint64(_FOLDS)).astype(np.int64)


def _with_weights(sample: Sample, weight: Floats) -> Sample:
    """Return samples of the same points with other weights; points without weight go."""
    order = np.argsort(weight == 0, axis=1, kind="stable")
    weight = np.take_along_axis(weight, order, axis=1)
    value = np.take_along_axis(sample.value, order, axis=1)
    last = np.maximum(np.count_nonzero(weight, axis=1) - 1, 0)[:, None]
    greatest = np.take_along_axis(value, last, axis=1)
    return of_points(np.where(weight > 0, value, greatest), weight, sample)


def _comparable_values(scores: Sequence[Score]) -> dict[str, float]:
    """Return the values of the candidates that failed least, such that all can be compared.

    Families with ends differ by their values given the extremes, from the best of them on.
    """
    fewest = min(scored.n_failed for scored in scores)
    rivals = [scored for scored in scores if scored.n_failed == fewest]
    values = {scored.family.name: scored.value for scored in rivals}
    with_ends = [scored for scored in rivals if np.isfinite(scored.given_extremes)]
    if with_ends:
        first = min(with_ends, key=lambda scored: scored.given_extremes)
        for scored in with_ends:
            value = first.value + scored.given_extremes - first.given_extremes
            values[scored.family.name] = value
    return values


def _best(scores: Sequence[Score], values: dict[str, float]) -> str:
    """Return the simplest of the candidates that are about as good as the best."""
    n_parameters = {scored.family.name: scored.n_parameters for scored in scores}
    near = [name for name, value in values.items() if value <= min(values.values()) + MARGIN]
    return min(near, key=lambda name: (n_parameters[name], values[name], name))


def _best_of_each(
    candidates: Sequence[str], samples: Sample, criterion: Criterion
) -> NDArray[np.str_]:
    """Return the best candidate of each sample on its own, by the rules that hold for all."""
    value, parameters = np.full((2, len(candidates), len(samples)), np.inf)
    for row, name in enumerate(candidates):
        family = adapted(family_named(name), samples.known)
        estimate = family.fit(samples)
        loglik = family.loglik(samples, estimate.parameters)
        free = family.n_free(estimate.parameters)
        if criterion == "held-out":
            values = held_out(family, samples)
        else:
            loglik = loglik - _unlisted(family, samples)
            values = {"aicc": aicc, "bic": bic}[criterion](loglik, free, n_ends(family), samples.n)
        ok = (estimate.status == "ok") & np.isfinite(loglik) & np.isfinite(values)
        if name == "normal":
            ok &= _mass_below_zero(samples) <= _NEGATIVE_AT_MOST
        value[row, ok], parameters[row, ok] = values[ok], free[ok]
    near = value <= value.min(axis=0, initial=np.inf) + MARGIN
    fewest = np.where(near, parameters, np.inf).min(axis=0, initial=np.inf)
    row = np.where(near & (parameters == fewest), value, np.inf).argmin(axis=0)
    best: NDArray[np.str_] = np.array(candidates, dtype="U32")[row]
    return best


def _table(
    scores: Sequence[Score], values: dict[str, float], best: str, criterion: Criterion
) -> pl.DataFrame:
    """Return a row for each candidate; its criteria are null where more fits failed than need."""
    least = min(values.values())
    rows = []
    for scored in scores:
        name = scored.family.name
        row = {**vars(scored), "distribution": name, "n_parameters": int(scored.n_parameters)}
        row |= {"criterion": criterion, "delta": None, "chosen": name == best}
        if name in values:
            row["delta"] = values[name] - least
        else:
            row |= dict.fromkeys(("aicc", "bic", "held_out"))
        rows.append(row)
    held_out = pl.col("held_out")
    return pl.DataFrame(rows, schema=_no_scores().schema).with_columns(
        pl.when(held_out.is_finite()).then(held_out)
    )


def _no_scores() -> pl.DataFrame:
    columns = schema.SCORES.polars_schema()
    del columns["property"]
    return pl.DataFrame(schema=columns)


# One shape for all pathways, a scale for each


def _normal(sample: Sample, _: Parameters, cv: float) -> Parameters:
    """Return the fits whose std is cv times their mean m: cv^2 m^2 + E[x] m = E[x^2]."""
    square = (sample.std / sample.mean) ** 2 + 1  # in units of the mean, whose square may overflow
    mean = sample.mean * ((np.sqrt(1 + 4 * cv**2 * square) - 1) / (2 * cv**2))
    return {"mean": mean, "std": cv * mean}


def _weibull(sample: Sample, _: Parameters, shape: float) -> Parameters:
    """Return the fits whose scale, to the power of the shape, is the mean of such powers."""
    relative = sample.value / sample.max[:, None]
    power = np.sum(sample.balanced * relative**shape, axis=1) / sample.n
    return {"shape": np.full_like(sample.n, shape), "scale": sample.max * power ** (1 / shape)}


_WithShape = Callable[[Sample, Parameters, float], Parameters]
_DISPERSION: tuple[Callable[[Parameters], Floats], _WithShape] = (
    lambda own: own["dispersion"],
    lambda _, own, dispersion: {**own, "dispersion": np.full_like(own["mean"], dispersion)},
)
_SHAPES: dict[str, tuple[Callable[[Parameters], Floats], _WithShape]] = {
    "normal": (lambda own: own["std"] / own["mean"], _normal),
    "gamma": (
        lambda own: own["std"] / own["mean"],
        lambda _, own, cv: {"mean": own["mean"], "std": cv * own["mean"]},
    ),
    "lognormal": (
        lambda own: own["std_log"],
        lambda _, own, std: {**own, "std_log": np.full_like(own["std_log"], std)},
    ),
    "weibull": (lambda own: own["shape"], _weibull),
    "negative_binomial": _DISPERSION,
    "shifted_negative_binomial": _DISPERSION,
}  # fmt: skip
"""The shape of a pathway's own fit, and the fits of greatest likelihood that have a given shape
(of rounded values nearly so: location and shape are not quite independent there)."""


def _n_shapes(family: Family) -> int:
    """Return how many parameters of a family pathways may have in common; 0 for none."""
    return 2 if family.name == "truncnorm" else int(family.name in _SHAPES)


def common_shape(family: Family, sample: Sample, own: Parameters) -> Parameters | None:
    """Return the maximum-likelihood fits of a family that have a shape in common.

    It lies between the shapes of the fits to each pathway, ``own``. None where the family has no
    such shape, or a mean that is not positive has no multiples.
    """
    if family.name == "truncnorm":
        return _common_truncnorm(family.unrounded or family, sample)
    if family.name not in _SHAPES or (family.name == "normal" and not (sample.mean > 0).all()):
        return None
    from scipy.optimize import minimize_scalar

    shape, with_shape = _SHAPES[family.name]
    logs = np.log(shape(own))

    def loss(log: float) -> float:
        return -float(family.loglik(sample, with_shape(sample, own, float(np.exp(log)))).sum())

    best = minimize_scalar(loss, bounds=(logs.min() - 0.1, logs.max() + 0.1), method="bounded")
    return with_shape(sample, own, float(np.exp(best.x)))


def _common_truncnorm(family: Family, sample: Sample) -> Parameters:
    """Return fits that are alike in units of the pathways' ranges.

    In these units the extremes are 0 and 1. Given them, the other values of all pathways are one
    sample, of which mean and variance are all that matters.
    """
    low, width = sample.min, sample.max - sample.min
    mean, square = (sample.mean - low) / width, ((sample.std / width) ** 2)
    others = sample.n.sum() - 2 * len(sample)
    pooled_mean = np.sum(sample.n * mean - 1) / others
    pooled_square = np.sum(sample.n * (square + mean**2) - 1) / others
    pooled = replace(
        sample.take(np.array([0])),
        n=np.array([others]),
        mean=np.array([pooled_mean]),
        std=np.sqrt([pooled_square - pooled_mean**2]),
        min=np.zeros(1),
        max=np.ones(1),
    )
    unit = family.fit(pooled).parameters
    return {
        "norm_loc": low + width * unit["norm_loc"],
        "norm_scale": width * unit["norm_scale"],
        "min": low,
        "max": sample.max,
    }
