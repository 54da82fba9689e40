"""Evidence of fits: P-values by a bootstrap of KS distances, and values that are left out.

docs/numbers.md, "P-values of fits", says why, and what the test cannot see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from connprops.arrays import Floats, Ints
from connprops.arrays.random_numbers import bits
from connprops.distributions.distributions import Distributions
from connprops.distributions.drawn import as_drawn
from connprops.families.family import Family, Parameters
from connprops.families.goodness import FOLDS, ks, n_ends, weight_of_fold
from connprops.families.registry import family_named
from connprops.families.sample import POINTS, Sample, of_points, weighted_points
from connprops.fits.choice import with_quantiles
from connprops.fits.fitted import Fitted, Names, fit_with_fallbacks
from connprops.fits.levels import Levels, Places
from connprops.fits.samples import Samples
from connprops.fits.shrinkage.estimates import with_shrinkage

_AT_ONCE = 1 << 22
"""Simulated values in memory at once."""

_FAR = 1e-9
"""Probability beyond which no values of a discrete distribution are listed on either side."""

_LISTED = 10_000
"""Number of values up to which a discrete distribution's are listed."""

_TIES = 1e-9
"""Distances that differ by less are equal, and rounding is why they differ."""


def ks_p_values(
    sample: Sample,
    family: Family,
    *,
    n_bootstrap: int,
    seed: int,
    identities: Sequence[str],
    lower: float = -np.inf,
    upper: float = np.inf,
    whole: bool = False,
) -> Floats:
    """Return p-values of the hypothesis that samples come from some distribution of a family.

    The family is fitted to the samples, and to ``n_bootstrap`` samples simulated for each group:
    values as they are drawn, within bounds, and rounded where they are ``whole`` numbers. Each
    group draws its own from the seed and its identity, so that a result does not depend on the
    groups beside it.

    Returns
    -------
    numpy.ndarray
        (g,): (1 + number of simulated distances at least as large) / (1 + number simulated); NaN
        where the family cannot be fitted, or lists or repeats the data's values or quantiles
        (constant, discrete, zero, quantiles), at next to no distance whatever the data.
    """
    p_values = np.full(len(sample), np.nan)
    if not family.parameters or family.name in ("constant", "discrete", "quantiles"):
        return p_values

    def drawn(parameters: Parameters) -> Distributions:
        of_groups = np.arange(len(next(iter(parameters.values()))))
        return Distributions(family, of_groups, {**parameters}, np.array(lower), np.array(upper))

    points = of_points(sample.value, sample.weight, sample)
    estimate = family.fit(points)
    fit = drawn(estimate.parameters)
    distance = ks(points, *as_drawn(fit, whole=whole))
    fitted = np.flatnonzero((estimate.status == "ok") & np.isfinite(distance))
    step = max(_AT_ONCE // (max(sample.value.shape[1], 1) * n_bootstrap), 1)
    for start in range(0, fitted.size, step):
        rows = fitted[start : start + step]
        rngs = [_generator(seed, identities[row]) for row in rows]
        simulated = _simulated(points.take(rows), fit.take(rows), n_bootstrap, rngs, whole=whole)
        refitted = as_drawn(drawn(family.fit(simulated).parameters), whole=whole)
        distances = ks(simulated, *refitted).reshape(rows.size, n_bootstrap)
        finite = np.isfinite(distances)
        reached = (distances >= distance[rows, None] - _TIES) & finite
        p_values[rows] = (1 + reached.sum(axis=1)) / (1 + finite.sum(axis=1))
    return p_values


def _generator(seed: int, identity: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _simulated(
    points: Sample,
    fit: Distributions,
    times: int,
    rngs: Sequence[np.random.Generator],
    *,
    whole: bool,
) -> Sample:
    """Return samples of g distributions, ``times`` of each, the g groups one after the other.

    A simulated sample is thinned as the sample itself is: only the order statistics at its ranks
    are drawn, so that the cost does not grow with n. Of short counts all n values are drawn.
    """
    repeated = points.take(np.repeat(np.arange(len(points)), times))
    is_count = whole or fit.family.kind == "discrete"
    if not (is_count or np.isfinite(fit.lower).any() or np.isfinite(fit.upper).any()):
        pieces = [_order_statistics(points, row, times, rng) for row, rng in enumerate(rngs)]
        width = max(weight.size for _, weight in pieces)
        # Padded as samples are: with the last value, of weight 0.
        uniform = np.concatenate(
            [np.pad(u, ((0, 0), (0, width - w.size)), mode="edge") for u, w in pieces]
        )
        weights = np.stack([np.pad(w, (0, width - w.size)) for _, w in pieces])
        each = fit.take(np.repeat(np.arange(len(fit)), times))
        return of_points(each.ppf(uniform), np.repeat(weights, times, axis=0), repeated)
    groups, values, weights_drawn = [], [], []
    low, high = (np.rint(fit.ppf(np.full(len(points), q))) for q in (_FAR, 1 - _FAR))
    for row, rng in enumerate(rngs):
        own = fit.take(np.array([row]))
        if is_count and points.exact[row] and high[row] - low[row] < _LISTED:
            listed = np.arange(low[row], high[row] + 1)
            counts = _counts(points.n[row], own, listed, times, rng)
            sample, at = np.nonzero(counts)
            value, weight = listed[at], counts[sample, at].astype(np.float64)
        else:
            uniform, weights = _order_statistics(points, row, times, rng)
            sample, weight = np.repeat(np.arange(times), weights.size), np.tile(weights, times)
            value = own.ppf(uniform.reshape(1, -1))[0]
        groups.append(row * times + sample)
        values.append(np.rint(value) if whole else value)
        weights_drawn.append(weight)
    value, weight, _ = weighted_points(
        np.concatenate(groups), np.concatenate(values), np.concatenate(weights_drawn),
        len(points) * times,
    )  # fmt: skip
    return of_points(value, weight, repeated)


def _counts(
    n: float, distribution: Distributions, values: Floats, times: int, rng: np.random.Generator
) -> Ints:
    """Draw how often each whole number occurs among n, (times, values)."""
    upto = distribution.cdf(values[None] + 0.5)[0]
    upto[-1] = 1.0
    p = np.maximum(np.diff(upto, prepend=0.0), 0.0)
    return rng.multinomial(int(n), p / p.sum(), size=times)


def _order_statistics(
    points: Sample, row: int, times: int, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw sorted uniform samples, (times, k), by sums of exponential spacings, with weights (k,).

    They are all n values, or those in the middle of each point's cell.
    """
    n, weight = float(points.n[row]), points.weight[row]
    whole = bool(points.exact[row]) and n <= POINTS
    weight = np.ones(int(n)) if whole else weight[weight > 0]
    rank = np.cumsum(weight) - weight / 2 + 0.5  # counted from 1
    gaps = np.diff(rank, prepend=0.0, append=n + 1)
    reached = np.cumsum(rng.standard_gamma(gaps, (times, gaps.size)), axis=1)
    return reached[:, :-1] / reached[:, -1:], weight


_STRAY, _ENOUGH, _RANKS = 1e-3, 1000, 1 << 16
_RANGE = np.array([0.05, 0.95])
"""The share of stray values among those left out, how many of these are enough, and where ranks
may start."""


_COST_OF_ENDS = 12.0
"""What ends cost a pathway at most, in units of a deviance, if its own values alone tell them."""

_BEYOND = -2 * np.log(_STRAY) * 2
"""What two stray values cost, in units of a deviance: evidence that is less may rest on few."""

_SQUARES = 2.0
"""How many times the data's mean square, or what part of it, that of a model may be."""

_PATHWAYS_FROM, _FIRST = 8, 64
_GAIN, _GAIN_PER_VALUE = 33.0, 0.03
"""From how many pathways on, of which so many are looked at first, and for which gain of
log-likelihood, in all and for each value, quantiles are chosen: their shape has seen what is left
out, and is no family."""


def best_foretold(
    families: Names, scores: pl.DataFrame, largest: Sample, levels: Levels
) -> tuple[Names, pl.DataFrame]:
    """Return the choice of a family again where hierarchical estimates may think otherwise.

    What lies beyond an end costs most. So families with and without ends are compared on values
    left out, unless the evidence is beyond doubt. Of families that the criterion hardly tells
    apart, one is taken whose moments are the data's: a wide log-normal distribution's are not, if
    values are of another family. The best is then compared with quantiles, at first by the largest
    pathways alone. ``levels`` are those of the pathways.
    """
    compared = scores.filter(pl.col("delta").is_not_null()).sort("delta", "distribution")
    delta = dict(compared.select("distribution", "delta").iter_rows())
    chosen = scores.filter("chosen")["distribution"].to_list()
    if not chosen or chosen[0] not in delta or chosen[0] == "quantiles":
        return families, scores
    best, everywhere = chosen[0], np.arange(len(largest))

    def score_of(name: str, rows: Places) -> float:
        return foretold(name, Samples.of(largest.take(rows)), levels.among(rows))

    without = [name for name in delta if not n_ends(family_named(name))][:1]
    doubt = _COST_OF_ENDS * compared["n_pathways"].max()  # type: ignore[operator]
    if n_ends(family_named(best)) and without and delta[without[0]] - delta[best] <= doubt:
        rivals = {best, *without, *({"truncnorm"} & delta.keys())}
        held_out = {name: score_of(name, everywhere) for name in sorted(rivals)}
        best = max(held_out, key=lambda name: held_out[name])
        if delta[without[0]] - delta[best] <= _BEYOND:
            best = without[0]
    near = [name for name in delta if delta[name] - delta[best] <= _BEYOND]
    if len(near) > 1:
        best = _with_moments(best, near, largest, levels)
    varied, n = largest.std > 0, largest.n.sum()
    tells = np.count_nonzero(varied) >= _PATHWAYS_FROM and largest.n[varied].sum() > n / 2
    if tells and not largest.known.repeats and best != "discrete":
        most = np.sort(np.lexsort((largest.std, largest.mean, -largest.n))[:_FIRST])

        def gain(rows: Places) -> float:
            return score_of("quantiles", rows) - score_of(best, rows)

        least = max(_GAIN * FOLDS / (_folds(largest) * n), _GAIN_PER_VALUE)
        if gain(most) > least and (len(largest) <= _FIRST or gain(everywhere) > least):
            best, scores = "quantiles", with_quantiles(scores, largest)
    families = np.where(families == chosen[0], best, families)
    return families, scores.with_columns(chosen=pl.col("distribution") == best)


@np.errstate(all="ignore")
def _with_moments(best: str, near: Sequence[str], sample: Sample, levels: Levels) -> str:
    """Return the best family if its models' mean square is about the data's, or the nearest's."""
    samples = Samples.of(sample)
    square = np.sort(sample.n * (sample.mean**2 + sample.std**2)).sum()

    def off(name: str) -> float:
        families = np.full(len(sample), name)
        fitted = fit_with_fallbacks(families, samples)
        fitted = with_shrinkage(fitted, families, samples, levels)[0]
        squares = []
        for of_family in fitted.distributions.values():
            mean, std = of_family.family.moments(of_family.parameters)
            squares.append(sample.n[of_family.pathway] * (mean**2 + std**2))
        ratio = np.abs(np.log(np.sort(np.concatenate(squares)).sum() / square))
        return float(np.nan_to_num(ratio, nan=np.inf))

    return best if off(best) <= np.log(_SQUARES) else min(near, key=off)


@np.errstate(all="ignore")
def foretold(name: str, samples: Samples, levels: Levels) -> float:
    """Return the mean log-likelihood of observed values by a family's estimates without them.

    A value's fold follows from its rank and its pathway's mean; of many values, fewer folds say
    enough. A share of 0.001 is granted to stray values, evenly over the range of all.
    """
    n = levels.observed.size
    observed = samples.samples(np.arange(n))
    hashed = bits(observed.mean.view(np.uint64), np.zeros(1, dtype=np.int64)) % _RANKS
    first = hashed.astype(np.int64)[:, None]
    stray = _STRAY / (np.max(observed.max) - np.min(observed.min))
    # A continuum repeats no value: those that are tell nothing of densities.
    once = observed.known.rounded | ~observed.exact[:, None] | (observed.weight <= 1)
    families, total, count = np.full(n, name), 0.0, 0.0
    for number in range(_folds(observed)):
        left_out = np.minimum(weight_of_fold(observed.weight, number, first), observed.weight)
        fitted = _without(left_out, families, observed, levels)
        density = np.zeros_like(observed.value)
        for of_family in fitted.distributions.values():
            at = of_family.pathway
            log = of_family.family.logpdf(observed.value[at], of_family.parameters)
            density[at] = np.where(np.isfinite(log), np.exp(log), 0.0)
        score = left_out * once * np.log((1 - _STRAY) * density + stray)
        total += float(np.sort(score, axis=None).sum())
        count += float((left_out * once).sum())
    return total / count if count else np.nan


def _folds(sample: Sample) -> int:
    """Return how many of the folds are left out: all, or as many as have enough values."""
    return int(np.clip(np.ceil(FOLDS * _ENOUGH / sample.n.sum()), 1, FOLDS))


def inside_ranges(
    families: Names,
    observed: Sample,
    levels: Levels | None,
    drawn: Callable[[Distributions], tuple[Family, Parameters]],
) -> tuple[Floats, Floats]:
    """Return how many values of each pathway are left out, and how many lie in a 90 % range.

    Every fifth of the sorted values is left out, from one on that follows from their mean. The
    range is that of what is ``drawn`` from estimates by the others, hierarchical ones if there are
    ``levels``. Pathways without any have no values left out.
    """
    first = bits(observed.mean.view(np.uint64), np.zeros(1, dtype=np.int64)) % FOLDS
    rank = observed.weight.cumsum(axis=1) + first[:, None]
    taken = np.diff(np.floor(rank / FOLDS), axis=1, prepend=0.0)
    left_out = np.minimum(taken, observed.weight)
    inside, known = np.zeros((2, *left_out.shape))
    for of_family in _without(left_out, families, observed, levels).distributions.values():
        family, parameters = drawn(of_family)
        ends = family.ppf(np.tile(_RANGE, (of_family.pathway.size, 1)), parameters)
        value, at = observed.value[of_family.pathway], of_family.pathway
        inside[at] = (value >= ends[:, :1]) & (value <= ends[:, 1:])
        known[at] = np.isfinite(ends).all(axis=1, keepdims=True)
    return (left_out * known).sum(axis=1), (left_out * inside).sum(axis=1)


def _without(left_out: Floats, families: Names, observed: Sample, levels: Levels | None) -> Fitted:
    """Return the fits without some weights of the values."""
    part = observed.with_weights(observed.weight - left_out)
    least, most = (np.where(part.n == 0, end, of) for end, of in
                   ((np.inf, part.min), (-np.inf, part.max)))  # fmt: skip
    training = Samples.of(replace(part, min=least, max=most))
    fitted = fit_with_fallbacks(families, training)
    return with_shrinkage(fitted, families, training, levels)[0] if levels else fitted
