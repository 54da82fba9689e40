"""Evidence of fits: P-values by a bootstrap of KS distances.

docs/numbers.md, "P-values of fits", says why, and what the test cannot see.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from connprops.arrays import Floats, Ints
from connprops.distributions.distributions import Distributions
from connprops.distributions.drawn import as_drawn
from connprops.families.family import Family, Parameters
from connprops.families.goodness import ks
from connprops.families.sample import POINTS, Sample, of_points, weighted_points

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
