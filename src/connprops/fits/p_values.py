"""Goodness of fit as a probability: a parametric bootstrap of the Kolmogorov-Smirnov distance.

A distance to a distribution that was fitted to the same sample is smaller than to a distribution
known beforehand, so the usual tables do not hold. What holds is this: draw samples from the fitted
distribution, fit the family to each, and see how far they are from their own fits (Stute, Gonzales
Manteiga, Presedo Quindimil, "Bootstrap based goodness-of-fit-tests", Metrika 40:243-256, 1993).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.families.distances import ks
from connprops.families.family import Parameters
from connprops.families.registry import Family, Sample
from connprops.families.sample import POINTS, weighted_points

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
) -> Floats:
    """Return p-values of the hypothesis that samples come from some distribution of a family.

    Parameters
    ----------
    sample
        Samples of g groups.
    family
        It is fitted here, by maximum likelihood, to the samples and to those simulated.
    n_bootstrap
        Number of samples simulated for each group.
    seed, identities
        A seed, and what each group is called: groups draw for themselves, so that a result does
        not depend on the groups beside it.

    Returns
    -------
    numpy.ndarray
        (g,): (1 + number of simulated distances at least as large) / (1 + number simulated); NaN
        where the family cannot be fitted, and for distributions that list or repeat the data's
        values (constant, discrete, zero), whose distance is 0 whatever the data.

    Notes
    -----
    A simulated sample is thinned as the sample itself is: of a distribution with a density, the
    order statistics at its ranks are drawn, by sums of exponential spacings. So the cost does not
    grow with n, but a thinned sample is blind to what happens between its ranks. Of a discrete
    distribution, the counts of its values are drawn, all n of them.
    """
    found = np.full(len(sample), np.nan)
    if not family.parameters or family.name in ("constant", "discrete"):
        return found
    points = of_points(sample.value, sample.weight, sample)
    estimate = family.fit(points)
    distance = ks(points, family, estimate.parameters)
    fitted = np.flatnonzero((estimate.status == "ok") & np.isfinite(distance))
    width = max(sample.value.shape[1], 1)
    step = max(_AT_ONCE // (width * n_bootstrap), 1)
    for start in range(0, fitted.size, step):
        rows = fitted[start : start + step]
        parameters = {name: value[rows] for name, value in estimate.parameters.items()}
        rngs = [_generator(seed, identities[row]) for row in rows]
        simulated = _simulated(points.take(rows), family, parameters, n_bootstrap, rngs)
        own = family.fit(simulated).parameters
        distances = ks(simulated, family, own).reshape(rows.size, n_bootstrap)
        known = np.isfinite(distances)
        reached = (distances >= distance[rows, None] - _TIES) & known
        found[rows] = (1 + reached.sum(axis=1)) / (1 + known.sum(axis=1))
    return found


def _generator(seed: int, identity: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}:{identity}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _simulated(
    points: Sample,
    family: Family,
    parameters: Parameters,
    times: int,
    rngs: Sequence[np.random.Generator],
) -> Sample:
    """Return samples of g distributions, ``times`` of each, the g groups one after the other."""
    repeated = points.take(np.repeat(np.arange(len(points)), times))
    if family.kind == "continuous":
        pieces = [_order(points, row, times, rng) for row, rng in enumerate(rngs)]
        width = max(weight.size for _, weight in pieces)
        # Padded as samples are: with the last value, of weight 0.
        uniform = np.concatenate(
            [np.pad(u, ((0, 0), (0, width - w.size)), mode="edge") for u, w in pieces]
        )
        weights = np.stack([np.pad(w, (0, width - w.size)) for _, w in pieces])
        distributions = {
            name: np.repeat(value, times, axis=0) for name, value in parameters.items()
        }
        return of_points(
            family.ppf(uniform, distributions), np.repeat(weights, times, axis=0), repeated
        )
    groups, values, weights_drawn = [], [], []
    low, high = (family.ppf(np.full(len(points), q), parameters) for q in (_FAR, 1 - _FAR))
    for row, rng in enumerate(rngs):
        distribution = {name: given[row : row + 1] for name, given in parameters.items()}
        if points.exact[row] and high[row] - low[row] < _LISTED:
            listed = np.arange(low[row], high[row] + 1)
            counts = _counts(points.n[row], family, distribution, listed, times, rng)
            sample, at = np.nonzero(counts)
            value, weight = listed[at], counts[sample, at].astype(np.float64)
        else:
            uniform, each = _order(points, row, times, rng)
            sample, weight = np.repeat(np.arange(times), each.size), np.tile(each, times)
            value = family.ppf(uniform.reshape(1, -1), distribution)[0]
        groups.append(row * times + sample)
        values.append(value)
        weights_drawn.append(weight)
    value, weight, _ = weighted_points(
        np.concatenate(groups), np.concatenate(values), np.concatenate(weights_drawn),
        len(points) * times,
    )  # fmt: skip
    return of_points(value, weight, repeated)


def _counts(
    n: float,
    family: Family,
    distribution: Parameters,
    values: Floats,
    times: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw how often each value occurs among n, (times, values)."""
    upto = family.cdf(values[None], distribution)[0]
    upto[-1] = 1.0
    p = np.maximum(np.diff(upto, prepend=0.0), 0.0)
    return rng.multinomial(int(n), p / p.sum(), size=times)


def _order(points: Sample, row: int, times: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw sorted uniform samples: all values, or those in the middle of each point's cell.

    Returns
    -------
    tuple
        Values between 0 and 1, (times, k), and how many each stands for, (k,).
    """
    n, weight = float(points.n[row]), points.weight[row]
    whole = bool(points.exact[row]) and n <= POINTS
    weight = np.ones(int(n)) if whole else weight[weight > 0]
    rank = np.cumsum(weight) - weight / 2 + 0.5  # counted from 1
    gaps = np.diff(rank, prepend=0.0, append=n + 1)
    reached = np.cumsum(rng.standard_gamma(gaps, (times, gaps.size)), axis=1)
    return reached[:, :-1] / reached[:, -1:], weight


def of_points(value: Floats, weight: Floats, like: Sample) -> Sample:
    """Return samples that consist of points alone: moments too are those of the points.

    So a thinned sample, whose moments are those of all its values, and simulated ones, of which
    there are no others, are described alike.

    Parameters
    ----------
    value, weight
        Points of g samples, (g, k), sorted and padded as those of :class:`Sample`.
    like
        Samples that say whether points are exact, and whether they are integers.
    """
    n = weight.sum(axis=1)

    def average(x: Floats) -> Floats:
        return np.asarray(np.where(weight > 0, weight * x, 0.0).sum(axis=1) / n)

    with np.errstate(all="ignore"):
        mean = average(value)
        shift = value - mean[:, None]
        std = np.sqrt(average(shift**2))
        std = np.where(value[:, 0] == value[:, -1], 0.0, std)
        log = np.log(value)
        mean_log = average(log)
        return Sample(
            n=n,
            mean=mean,
            std=std,
            min=value[:, 0],
            max=value[:, -1],
            mean_log=np.where(value[:, 0] > 0, mean_log, np.nan),
            std_log=np.where(
                value[:, 0] > 0, np.sqrt(average((log - mean_log[:, None]) ** 2)), np.nan
            ),
            skewness=np.where(std > 0, average(shift**3) / std**3, np.nan),
            kurtosis=np.where(std > 0, average(shift**4) / std**4 - 3, np.nan),
            value=value,
            weight=weight,
            exact=like.exact,
            is_integer=like.is_integer,
        )
