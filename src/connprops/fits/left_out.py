"""Values that are left out: which family foretells them best, and how many lie in its ranges.

docs/numbers.md, "Choice of a family", says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from connprops.arrays import Floats, Ints
from connprops.arrays.random_numbers import bits
from connprops.distributions.distributions import Distributions
from connprops.families.family import Family, Parameters
from connprops.families.goodness import FOLDS, n_ends, weight_of_fold
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.choice import COMPARED_FROM, with_quantiles
from connprops.fits.fitted import Fitted, Names, fit_with_fallbacks
from connprops.fits.samples.levels import Levels, Places
from connprops.fits.samples.samples import Samples
from connprops.fits.samples.tables import largest_first
from connprops.fits.shrinkage.estimates import with_shrinkage

_STRAY, _ENOUGH, _RANKS = 1e-3, 1000, 1 << 16
_RANGE = np.array([0.05, 0.95])
"""The share of stray values among those left out, how many of these are enough, and where ranks
may start."""


_COST_OF_ENDS = 12.0
"""What ends cost a pathway at most, in units of a deviance, if its own values alone tell them."""

_BEYOND = -2 * np.log(_STRAY) * 2
"""What two stray values cost, in units of a deviance: evidence that is less may rest on few."""

_UNCLEAR = 60.0
"""Differences of log-likelihood up to which all values are left out in turn, not a part of them."""

_SQUARES = 2.0
"""How many times the data's mean square, or what part of it, that of a model may be."""

_OF_FEW_VALUES = 4096
"""Pathways of few values that tell families apart: more take longer, and say no more."""

_PATHWAYS_FROM, _FIRST = 8, 64
_GAIN, _GAIN_PER_VALUE = 33.0, 0.03
"""From how many pathways on, of which so many are looked at first, and for which gain of
log-likelihood, in all and for each value, quantiles are chosen: their shape has seen what is left
out, and is no family."""


def best_foretold(
    families: Names, scores: pl.DataFrame, largest: Sample, levels: Levels
) -> tuple[Names, pl.DataFrame]:
    """Return the choice of a family again where hierarchical estimates may think otherwise.

    ``levels`` are those of the pathways.
    """
    compared = scores.filter(pl.col("delta").is_not_null()).sort("delta", "distribution")
    delta = dict(compared.select("distribution", "delta").iter_rows())
    chosen = scores.filter("chosen")["distribution"].to_list()
    if not chosen or chosen[0] not in delta or chosen[0] == "quantiles":
        return families, scores
    contest = _Contest(delta, largest, levels, int(scores["n_pathways"].max()))  # type: ignore[arg-type]
    if largest.n.max() < COMPARED_FROM:  # with parameters of its own, each follows any family
        rows = np.sort(largest_first(largest.n)[:_OF_FEW_VALUES])
        few = replace(contest, largest=largest.take(rows), levels=levels.among(rows))
        best = few.likeliest(delta)
    else:
        best = contest.with_moments(contest.with_ends_that_pay(chosen[0]))
    if contest.is_beaten_by_quantiles(best):
        best, scores = "quantiles", with_quantiles(scores, largest)
    families = np.where(families == chosen[0], best, families)
    return families, scores.with_columns(chosen=pl.col("distribution") == best)


@dataclass(frozen=True)
class _Contest:
    """Families, by what hierarchical estimates of the largest pathways foretell.

    ``delta`` is how much worse than the best each is by the criterion, from the best on.
    """

    delta: Mapping[str, float]
    largest: Sample
    levels: Levels
    n_compared: int

    def score(self, name: str, rows: Places | None = None, folds: int | None = None) -> float:
        """Return the mean log-likelihood of values left out of some pathways."""
        rows = np.arange(len(self.largest)) if rows is None else rows
        samples = Samples.of(self.largest.take(rows))
        return foretold(name, samples, self.levels.among(rows), folds)

    def likeliest(self, names: Iterable[str]) -> str:
        """Return the family by which values left out are likeliest.

        Where that is unclear by a part of the values, by all of them.
        """
        scores = {name: self.score(name) for name in sorted(names)}
        *others, best = sorted(scores.values())
        folds, n = _folds(self.largest), self.largest.n.sum()
        if others and folds < FOLDS and (best - others[-1]) * n * folds / FOLDS < _UNCLEAR:
            near = [name for name in scores if scores[name] > best - _UNCLEAR * FOLDS / folds / n]
            scores = {name: self.score(name, folds=FOLDS) for name in near}
        return max(scores, key=lambda name: scores[name])

    def with_ends_that_pay(self, best: str) -> str:
        """Return the best family, or the best without ends, unless ends are beyond doubt.

        What lies beyond an end costs most.
        """
        without = [name for name in self.delta if not n_ends(family_named(name))][:1]
        if not n_ends(family_named(best)) or not without:
            return best
        if self._behind(without[0], best) <= _COST_OF_ENDS * self.n_compared:
            best = self.likeliest({best, *without, *({"truncnorm"} & self.delta.keys())})
        return without[0] if self._behind(without[0], best) <= _BEYOND else best

    def _behind(self, name: str, best: str) -> float:
        return self.delta[name] - self.delta[best]

    @np.errstate(all="ignore")
    def with_moments(self, best: str) -> str:
        """Return the best family, or one that is hardly worse and has the data's mean square.

        A wide log-normal distribution's is beyond all measure, if values are of another family.
        """
        near = [name for name in self.delta if self._behind(name, best) <= _BEYOND]
        if near == [best] or self._misses_square(best) <= np.log(_SQUARES):
            return best
        return min(near, key=self._misses_square)

    def _misses_square(self, name: str) -> float:
        """Return how far the mean square of a family's models is from the data's, as a log."""
        largest, samples = self.largest, Samples.of(self.largest)
        families = np.full(len(largest), name)
        fitted = fit_with_fallbacks(families, samples)
        fitted = with_shrinkage(fitted, families, samples, self.levels)[0]
        squares = []
        for of_family in fitted.distributions.values():
            mean, std = of_family.family.moments(of_family.parameters)
            squares.append(largest.n[of_family.pathway] * (mean**2 + std**2))
        of_data = np.sort(largest.n * (largest.mean**2 + largest.std**2)).sum()
        ratio = np.abs(np.log(np.sort(np.concatenate(squares)).sum() / of_data))
        return float(np.nan_to_num(ratio, nan=np.inf))

    def is_beaten_by_quantiles(self, best: str) -> bool:
        """Return whether quantiles foretell values better, at first of the very largest."""
        sample, n = self.largest, self.largest.n.sum()
        varied = sample.std > 0
        tells = np.count_nonzero(varied) >= _PATHWAYS_FROM and sample.n[varied].sum() > n / 2
        if not tells or sample.known.repeats or best == "discrete":
            return False
        least = max(_GAIN * FOLDS / (_folds(sample) * n), _GAIN_PER_VALUE)
        first = np.sort(largest_first(sample.n)[:_FIRST])
        if self.score("quantiles", first) - self.score(best, first) <= least:
            return False
        return len(sample) <= _FIRST or self.score("quantiles") - self.score(best) > least


@np.errstate(all="ignore")
def foretold(name: str, samples: Samples, levels: Levels, folds: int | None = None) -> float:
    """Return the mean log-likelihood of observed values by a family's estimates without them.

    A value's fold follows from its rank and its pathway's place; of many values, fewer ``folds``
    say enough. A share of 0.001 is granted to stray values, evenly over the range of all.
    """
    n = levels.observed.size
    observed = samples.samples(np.arange(n))
    first = _first_ranks(n, _RANKS)[:, None]
    stray = _STRAY / (np.max(observed.max) - np.min(observed.min))
    # A continuum repeats no value: those that are tell nothing of densities.
    once = observed.known.rounded | ~observed.exact[:, None] | (observed.weight <= 1)
    families, total, count = np.full(n, name), 0.0, 0.0
    for number in range(folds or _folds(observed)):
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


def _first_ranks(n: int, below: int) -> Ints:
    """Return where ranks of each group start, by chance: not by values, or equal ones all go."""
    return (bits(np.arange(n, dtype=np.uint64)) % np.uint64(below)).astype(np.int64)


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

    Every fifth of the sorted values is left out, from one on that follows from their place. The
    range is that of what is ``drawn`` from estimates by the others, hierarchical ones if there are
    ``levels``. Pathways without any have no values left out.
    """
    first = _first_ranks(len(observed), FOLDS)
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
