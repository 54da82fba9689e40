"""A normal distribution through a histogram by least squares, as connectome-manipulator fits one.

It is kept for comparison; the default estimator is maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.arrays.solvers import Minimum, box_least_squares

_EVALUATIONS = 30
_RELATIVE_ERROR = 0.5
_AT_ONCE = 4096
"""Histograms that are fitted together: some 20 MB."""


def normals_through_histograms(
    histograms: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> Floats:
    """Return location and scale of the normal curves closest to counts within edges, (g, 2).

    NaN where the fit is not accepted: mean and std of the data stand in then.
    """
    normals = np.full((len(histograms), 2), np.nan)
    alike: dict[tuple[int, str], list[int]] = {}
    for place, (counts, edges) in enumerate(histograms):
        alike.setdefault((len(counts), np.asarray(edges).dtype.str), []).append(place)
    for places in alike.values():
        for first in range(0, len(places), _AT_ONCE):
            at_once = places[first : first + _AT_ONCE]
            counts, edges = (np.stack([histograms[i][k] for i in at_once]) for k in (0, 1))
            centers = (edges[:, :-1] + edges[:, 1:]) / 2
            normals[at_once] = _normals(counts.astype(np.float64), centers)
    return normals


def _normals(counts: Floats, centers: NDArray[Any]) -> Floats:
    """Return locations and scales of curves through counts at centers, (g, 2)."""
    start = np.ones((len(counts), 3))
    start[:, 0] = centers.mean(axis=1)
    lower, upper = np.zeros_like(start), np.full_like(start, np.inf)
    lower[:, 0], upper[:, 0] = centers.min(axis=1), centers.max(axis=1)
    x = centers.astype(np.float64)

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
