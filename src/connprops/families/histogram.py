"""A normal distribution through a histogram by least squares, as connectome-manipulator fits one.

It is kept for comparison; the default estimator is maximum likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Floats
from connprops.families.sample import Sample

_EVALUATIONS = 30
_RELATIVE_ERROR = 0.5


def normal_through_histogram(
    counts: NDArray[np.int64], edges: Floats
) -> tuple[float, float] | None:
    """Return location and scale of the normal curve that runs closest to counts within edges.

    None where the fit is not accepted: mean and std of the data stand in then.
    """
    import warnings

    from scipy.optimize import OptimizeWarning, curve_fit

    edges = np.asarray(edges)
    centers = np.array([np.mean(edges[i : i + 2]) for i in range(len(counts))])

    def curve(x: Floats, location: float, scale: float, height: float) -> Floats:
        with np.errstate(all="ignore"):
            z = (x - location) / scale
            density: Floats = np.exp(-z * z / 2) / (scale * np.sqrt(2 * np.pi))
            return height * density

    start = [np.mean(centers), 1.0, 1.0]
    bounds = ([centers.min(), 0, 0], [centers.max(), np.inf, np.inf])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)  # the errors below say the same
            best, covariance = curve_fit(
                curve, centers, counts, p0=start, bounds=bounds, max_nfev=_EVALUATIONS
            )
    except (ValueError, RuntimeError):
        return None
    with np.errstate(all="ignore"):
        error = np.sqrt(np.diag(covariance)) / best
    if not np.isfinite(error).all() or error.max() > _RELATIVE_ERROR:
        return None
    return float(best[0]), float(best[1])


def column_edges(left: Sequence[float], last: float, dtype: str) -> NDArray[np.floating[Any]]:
    """Return edges of bins in the type of the column, if a floating one that has room for them."""
    edges: NDArray[np.floating[Any]] = np.array([*left, last])
    narrow = np.dtype(dtype)
    if narrow.kind == "f" and (edges.astype(narrow) == edges).all():
        return edges.astype(narrow)
    return edges


def truncnorms_through_histograms(
    sample: Sample, histograms: Sequence[tuple[NDArray[Any], NDArray[Any]]]
) -> dict[str, Floats]:
    """Return the parameters of truncated normal distributions as connectome-manipulator has them.

    Histograms are counts and edges; the samples' ranges are the supports.
    """
    normals = [normal_through_histogram(*histogram) for histogram in histograms]
    moments = zip(sample.mean, sample.std, strict=True)
    pairs = [normal or own for normal, own in zip(normals, moments, strict=True)]
    location, scale = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return {"norm_loc": location, "norm_scale": scale, "min": sample.min, "max": sample.max}
