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
from connprops.arrays import Bools, Floats
from connprops.families.composed import adapted, inflated, other_values
from connprops.families.family import Family, Parameters
from connprops.families.goodness import aicc, bic, held_out, ks, n_ends, of_unlisted
from connprops.families.registry import FAMILIES, family_named
from connprops.families.sample import Sample
from connprops.fits.samples.samples import Samples
from connprops.fits.samples.tables import largest_first
from connprops.options import AUTO, AUTO_PER_PATHWAY, Criterion, DistrType
from connprops.schema import Property

_POSITIVE = np.nextafter(0.0, 1.0)
CONTINUOUS = {
    "normal": -np.inf, "truncnorm": -np.inf, "gamma": _POSITIVE, "lognormal": _POSITIVE,
    "weibull": _POSITIVE, "beta": 0, "exponential": 0, "uniform": -np.inf,
}  # fmt: skip
COUNTS = {
    "poisson": 0, "ztpoisson": 1, "shifted_poisson": 1, "geometric": 1, "negative_binomial": 0,
    "shifted_negative_binomial": 1, "inflated_ztpoisson": 0, "gamma": 0, "lognormal": 0,
    "discrete": -np.inf,
}  # fmt: skip
"""Candidates, each with the smallest value that it is meant for; those of counts are rounded."""

_MANY = 30.0
"""Range of whole numbers, in the median pathway, from which all continuous families are tried."""

MARGIN = 6.0
"""How much better than a candidate with fewer parameters one must be."""

COMPARED_FROM = 10
"""Pathways with fewer values take no part in the choice of a family: they favour any."""

_COMPARED_AT_MOST = 400
"""Number of pathways, those with most values, that take part in the choice of a family."""

_NEGATIVE_AT_MOST = 1e-3
"""Mass below zero that a family may have, as a mean over pathways, where no value is negative."""

_STRAYS_AT_MOST, _FAILED_AT_MOST = 0.01, 0.1
"""Shares of values outside a family's support, and of pathways that it fails on, that do not rule
it out: candidates are then compared where all can be fitted."""

_REPEATED, _REPEATED_FROM = 5, 0.01

_POOR_FROM, _SURELY, _VISIBLY, _POOR = 100, (1.36, 0.95), 0.04, 0.25
"""From how many values on, at which distance times root n (5 % of right fits are beyond; of those
with ends fewer), at which distance, and in what share of these pathways a fit is poor."""


def chosen_families(
    asked: DistrType, observed: Sample, samples: Samples, prop: Property, criterion: Criterion
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
    informative = _informative(other_values(observed) if observed.known.repeats else observed)
    candidates = of_each = _candidates(informative) if isinstance(asked, str) else asked
    if isinstance(asked, str) and "normal" in candidates:
        below = np.average(_mass_below_zero(informative), weights=informative.n)
        if below > _NEGATIVE_AT_MOST:
            candidates = [name for name in candidates if name != "normal"]
    compared = _compared(informative)
    if len(candidates) == 1 or not len(compared):
        families[:] = candidates[0] if len(candidates) == 1 else "constant"
        return families, _no_scores()
    scores = _scores(candidates, compared, criterion)
    if observed.known.repeats and isinstance(asked, str):
        scores = [replace(each, family=inflated(each.family)) for each in scores]
        of_each = [f"inflated_{name}" for name in of_each]
    values = _comparable_values(scores)
    best = _best(scores, values)
    if asked == AUTO and _is_poor(family_named(best), compared):
        best = "quantiles"
        scores = [*scores, score(adapted(family_named(best), compared.known), compared, criterion)]
        values = _comparable_values(scores)
    families[:] = best
    if asked == AUTO_PER_PATHWAY:
        varied = np.flatnonzero((samples.std > 0) & (samples.n >= COMPARED_FROM))
        for block, part in samples.blocks(varied):
            families[block] = _best_of_each(of_each, part, criterion)
    return families, _table(scores, values, best, criterion)


def _informative(sample: Sample) -> Sample:
    """Return the pathways that can tell families apart.

    Constant ones cannot. Nor can, where others are a continuum, those that consist of a few values:
    zeros, say, where a property is switched off or too small for its type.
    """
    varied = sample.std > 0
    several = varied & ~_repeats(sample)
    return sample.take(varied if sample.known.rounded or not several.any() else several)


def _compared(sample: Sample) -> Sample:
    """Return the pathways on which candidates are compared: the largest that are informative."""
    rows = np.flatnonzero(sample.n >= COMPARED_FROM)
    rows = rows if rows.size else np.arange(len(sample))
    return sample.take(rows[largest_first(sample.n[rows])[:_COMPARED_AT_MOST]])


def _candidates(sample: Sample) -> Sequence[str]:
    """Return the families that suit varied data: their type, their support, how many values."""
    if not len(sample):
        return ["constant"]
    families = CONTINUOUS
    if sample.known.rounded:
        families = COUNTS
        if _are_many(sample):
            families = {
                **CONTINUOUS,
                **dict.fromkeys(("gamma", "lognormal", "weibull"), 0),
                **COUNTS,
            }
    elif _repeats(sample).all():
        return ["discrete"]
    names = [name for name, least in families.items() if _nearly_all(sample, least)]
    if sample.known.repeats:
        return [name for name in names if f"inflated_{name}" in FAMILIES]
    return [name for name in names if name != "beta" or sample.max.max() <= 1]


def _are_many(sample: Sample) -> bool:
    """Return whether whole numbers spread so far that they are much like a continuum."""
    return bool(np.median(sample.max - sample.min) >= _MANY)


def _is_poor(family: Family, sample: Sample) -> bool:
    """Return whether even the best family fits many of the larger pathways badly.

    Surely, by the Kolmogorov-Smirnov distance with estimated parameters, and by a distance that
    one would see. Lists fit any values, and few whole numbers are no continuum to have quantiles.
    """
    large = sample.take(sample.n >= _POOR_FROM)
    few = sample.known.rounded and not _are_many(sample)
    if few or sample.known.repeats or family.name == "discrete" or not len(large):
        return False
    family = adapted(family, sample.known)
    distance = ks(large, family, family.fit(large).parameters)
    surely = _SURELY[0] if n_ends(family) else _SURELY[1]
    poor = (distance * np.sqrt(large.n) > surely) & (distance > _VISIBLY)
    return bool(poor.mean() > _POOR)


def _nearly_all(sample: Sample, least: float) -> bool:
    """Return whether next to no value is below one: a few do not rule a family out."""
    below = sample.weight[sample.value < least].sum()
    pathways = np.count_nonzero(sample.min < least)
    return bool(below <= _STRAYS_AT_MOST * sample.n.sum()
                and pathways <= _FAILED_AT_MOST * len(sample))  # fmt: skip


def repeated_value(sample: Sample) -> float | None:
    """Return the value that is repeated as no continuum has it, if there is one.

    It is at least 1 % of all values, and comes five times as often as any other.
    """
    varied = (sample.std > 0) & ~_repeats(sample)
    group, value, weight = sample.points()
    value, weight, n = value[varied[group]], weight[varied[group]], sample.n[varied].sum()
    if not value.size:
        return None
    rises = np.flatnonzero(np.diff(np.sort(value), prepend=-np.inf, append=np.inf))
    if np.diff(rises).max() * weight.max() < _REPEATED_FROM * n:  # as a continuum has it
        return None
    value, place = np.unique(value, return_inverse=True)
    times = np.bincount(place, weights=weight)
    *others, most = np.sort(times)
    if not others or most < max(_REPEATED * others[-1], _REPEATED_FROM * n):
        return None
    return float(value[times.argmax()])


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


def _scores(candidates: Sequence[str], sample: Sample, criterion: Criterion) -> list[Score]:
    """Score candidates; where some fail on a few pathways, on those where none of these fails."""
    families = [adapted(family_named(name), sample.known) for name in candidates]
    scores = [score(family, sample, criterion) for family in families]
    rivals = [each for each in scores if 0 < each.n_failed <= _FAILED_AT_MOST * len(sample)]
    if not rivals:
        return scores
    ok = np.ones(len(sample), dtype=np.bool_)
    for each in rivals:
        estimate = each.family.fit(sample)
        finite = np.isfinite(each.family.loglik(sample, estimate.parameters))
        ok &= (estimate.status == "ok") & finite
    fitted = sample.take(ok)
    for place, each in enumerate(scores):
        if ok.any() and each.n_failed <= _FAILED_AT_MOST * len(sample):
            again = score(each.family, fitted, criterion)
            scores[place] = replace(again, n_pathways=len(sample), n_failed=each.n_failed)
    return scores


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

    whole, given_extremes = sums(loglik - of_unlisted(family, sample), free, ends), np.nan
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


def _comparable_values(scores: Sequence[Score]) -> dict[str, float]:
    """Return the values of the candidates that failed least, such that all can be compared.

    Families with ends differ by their values given the extremes, from the best of them on.
    """
    fewest = min(scored.n_failed for scored in scores)
    few = max(fewest, _FAILED_AT_MOST * scores[0].n_pathways)
    rivals = [scored for scored in scores if scored.n_failed <= few]
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
            loglik = loglik - of_unlisted(family, samples)
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


def with_quantiles(scores: pl.DataFrame, sample: Sample) -> pl.DataFrame:
    """Return the candidates' scores, that of quantiles added."""
    criterion = scores["criterion"][0]
    own = score(adapted(family_named("quantiles"), sample.known), _compared(sample), criterion)
    added = _table([own], {"quantiles": own.value}, "", criterion)
    least = scores.filter(delta=0).select(criterion.replace("-", "_")).item(0, 0)
    return pl.concat([scores, added.with_columns(delta=own.value - least)])


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
