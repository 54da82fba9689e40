"""Histograms of sorted samples, and a normal distribution through each by least squares.

That is how connectome-manipulator fits one. It is kept for comparison; the default estimator is
maximum likelihood.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats, Ints
from connprops.arrays.solvers import Minimum, box_least_squares
from connprops.arrays.sorted_samples import PIECE, SortedSamples

_EVALUATIONS = 30
_RELATIVE_ERROR = 0.5
_AT_ONCE = 4096
"""Histograms that are fitted together: some 20 MB."""

_GROUPS_AT_ONCE = 2_000
"""Groups whose values are binned at once, to bound memory."""

_SEARCHED_FROM = 96
"""Values of a group from which edges are looked for among them, not bins for each of them."""


def histograms(sample: SortedSamples, bins: int | tuple[float, ...]) -> tuple[Floats, Ints]:
    """Return edges (s, bins + 1) and counts (s, bins) of each group with values."""
    n_groups = sample.filled.size
    n_edges = bins + 1 if isinstance(bins, int) else len(bins)
    edges = np.empty((n_groups, n_edges))
    counts = np.empty((n_groups, n_edges - 1), dtype=np.int64)
    few = (sample.n < _SEARCHED_FROM) & isinstance(bins, int)
    for at in range(0, n_groups, _GROUPS_AT_ONCE):
        groups = np.arange(at, min(at + _GROUPS_AT_ONCE, n_groups))
        edges[groups] = (
            histogram_edges(sample.low[groups], sample.high[groups], bins)
            if isinstance(bins, int)
            else np.asarray(bins, dtype=np.float64)
        )
        with np.errstate(all="ignore"):
            together = groups[few[groups]]
            values = sample.of_several(together).astype(np.float64)
            counts[together] = _evenly_binned(values, sample.n[together], edges[together])
            for group in groups[~few[groups]].tolist():
                counts[group] = _binned(sample.of_one(group), edges[group])
    return edges, counts


def _binned(values: NDArray[Any], edges: Floats) -> Ints:
    """Return how many sorted values lie in each bin, of which the last is closed."""
    narrow = edges.astype(values.dtype)
    if (narrow == edges).all():
        edges = narrow
    elif values.size > PIECE:  # too many to be copied
        below = [bisect_left(values, edge) for edge in edges]
        return np.diff([*below[:-1], bisect_right(values, edges[-1])])
    else:
        values = values.astype(np.float64)
    places = values.searchsorted(edges)
    places[-1] = values.searchsorted(edges[-1], side="right")
    return np.diff(places)


def _evenly_binned(x: Floats, n: Ints, edges: Floats) -> Ints:
    """Return the same of groups of n values each, whose bins are equally wide, but for rounding.

    A look at each value costs less than a search for each edge, where values are few.
    """
    group, n_bins = np.repeat(np.arange(n.size), n), edges.shape[1] - 1
    low, high = edges[:, 0], edges[:, -1]
    place = (x - low[group]) * (n_bins / (high - low))[group]
    bin_ = np.clip(np.nan_to_num(place), 0, n_bins - 1).astype(np.int64)
    left, flat = bin_ + group * (n_bins + 1), edges.ravel()
    last = group * (n_bins + 1) + n_bins - 1
    while True:
        step = ((x >= flat[left + 1]) & (left < last)).astype(np.int64) - (x < flat[left])
        if not step.any():
            break
        left += step
    counts = np.bincount(left, minlength=flat.size).reshape(edges.shape)
    return counts[:, :-1]


def histogram_edges(low: NDArray[Any], high: NDArray[Any], bins: int) -> Floats:
    """Return the edges that ``numpy.histogram`` gives each group's values, (groups, bins + 1).

    Where their type has no room for the edges (numpy gives up there), these are float64.
    """
    if low.dtype.kind != "f":
        low, high = low.astype(np.float64), high.astype(np.float64)
    constant = low == high
    half = low.dtype.type(0.5)
    first, last = np.where(constant, low - half, low), np.where(constant, high + half, high)
    edges = np.full((low.size, bins + 1), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        # A step of zero would make linspace compute the edges of all groups in another way.
        steps = (last - first) / low.dtype.type(bins) != 0
        edges[steps] = np.linspace(first[steps], last[steps], bins + 1, axis=1, dtype=low.dtype)
        crowded = ~(np.diff(edges, axis=1) > 0).all(axis=1) | ~np.isfinite(edges).all(axis=1)
    for i in np.flatnonzero(crowded).tolist():
        edges[i] = _roomy_edges(float(low[i]), float(high[i]), bins)
    return edges


def _roomy_edges(low: float, high: float, bins: int) -> Floats:
    t = np.linspace(0.0, 1.0, bins + 1)
    edges = low * (1 - t) + high * t  # halves first: the range itself may be infinite
    edges[-1] = high
    if (edges[1:] > edges[:-1]).all():
        return edges
    # Whole numbers of the largest value's distance from its neighbour, the data in the middle.
    largest = max(abs(low), abs(high))
    gap = float(max(largest - np.nextafter(largest, 0), np.finfo(np.float64).tiny))
    step = gap * max(math.ceil((high - low) / gap / bins), 1)
    n = math.ceil((high - low) / step)
    before = (bins - n) // 2
    if not np.isfinite([low - step * before, low + step * (bins - before)]).all():
        before = bins - n if low > 0 else 0  # no numbers beyond
    roomy: Floats = low + step * (np.arange(bins + 1, dtype=np.float64) - before)
    roomy[-1] = max(min(float(roomy[-1]), float(np.finfo(np.float64).max)), high)
    return roomy


def normals_through_histograms(
    histograms: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> Floats:
    """Return location and scale of the normal curves closest to counts within edges, (g, 2).

    NaN where the fit is not accepted: mean and std of the data stand in then.
    """
    normals = np.full((len(histograms), 2), np.nan)
    alike: dict[int, list[int]] = {}
    for place, (counts, _) in enumerate(histograms):
        alike.setdefault(len(counts), []).append(place)
    for places in alike.values():
        for first in range(0, len(places), _AT_ONCE):
            at_once = places[first : first + _AT_ONCE]
            counts = np.stack([histograms[i][0] for i in at_once]).astype(np.float64)
            normals[at_once] = _normals(counts, [np.asarray(histograms[i][1]) for i in at_once])
    return normals


def _normals(counts: Floats, edges: Sequence[NDArray[Any]]) -> Floats:
    """Return locations and scales of curves through counts within edges, (g, 2)."""
    start, x = np.ones((len(counts), 3)), np.empty(counts.shape)
    for dtype in {of_one.dtype for of_one in edges}:  # centers, and their mean, are of it
        own = [i for i, of_one in enumerate(edges) if of_one.dtype == dtype]
        of_own = np.stack([edges[i] for i in own])
        x[own] = centers = (of_own[:, :-1] + of_own[:, 1:]) / 2
        start[own, 0] = centers.mean(axis=1)
    lower, upper = np.zeros_like(start), np.full_like(start, np.inf)
    lower[:, 0], upper[:, 0] = x.min(axis=1), x.max(axis=1)

    def residuals(parameters: Floats, problems: NDArray[np.intp]) -> Floats:
        location, scale, height = (parameters[:, [i]] for i in range(3))
        z = (x[problems] - location) / scale
        density = np.exp(-z * z / 2) / (scale * np.sqrt(2 * np.pi))
        return np.asarray(height * density - counts[problems])

    with np.errstate(all="ignore"):
        fit = box_least_squares(residuals, start, lower, upper, _EVALUATIONS)
        error = _standard_errors(fit) / fit.x
    accepted = fit.converged & ((lower < upper) & (start >= lower) & (start <= upper)).all(axis=1)
    accepted &= np.isfinite(error).all(axis=1) & (error.max(axis=1) <= _RELATIVE_ERROR)
    return np.where(accepted.reshape(-1, 1), fit.x[:, :2], np.nan)


def _standard_errors(fit: Minimum) -> Floats:
    """Return the parameters' standard errors, from the curvature at the minimum."""
    n_bins, p = fit.jacobian.shape[1:]
    usable = np.isfinite(fit.jacobian).all(axis=(1, 2), keepdims=True)
    _, s, vt = np.linalg.svd(np.where(usable, fit.jacobian, 0.0), full_matrices=False)
    counts = s > np.finfo(np.float64).eps * max(n_bins, p) * s[:, :1]
    variance = np.einsum("hkp,hk->hp", vt**2, np.where(counts, s, np.inf) ** -2.0)
    freedom = n_bins - p
    per_value = 2 * fit.cost / freedom if freedom > 0 else np.full(len(s), np.inf)
    return np.asarray(np.sqrt(variance * per_value[:, None]))


def column_edges(left: Sequence[float], last: float, dtype: str) -> NDArray[np.floating[Any]]:
    """Return edges of bins in the type of the column, if a floating one that has room for them."""
    edges: NDArray[np.floating[Any]] = np.array([*left, last])
    narrow = np.dtype(dtype)
    if narrow.kind == "f" and (edges.astype(narrow) == edges).all():
        return edges.astype(narrow)
    return edges
