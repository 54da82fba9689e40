"""Families fitted to many pathways that share a shape: one shape for all, a scale for each.

Where pathways differ in their scale only, as those of circuits made from recipes do, the common
shape is known from all values together, however few a single pathway has. A fit with as many
shapes as pathways cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from connprops.arrays import Floats
from connprops.families.family import Parameters
from connprops.families.registry import Family, Sample


def _normal(sample: Sample, cv: float) -> Parameters:
    """Return the distributions whose std is cv times their mean m: cv^2 m^2 + E[x] m = E[x^2]."""
    square = sample.std**2 + sample.mean**2
    mean = (np.sqrt(sample.mean**2 + 4 * cv**2 * square) - sample.mean) / (2 * cv**2)
    return {"mean": mean, "std": cv * mean}


def _gamma(sample: Sample, cv: float) -> Parameters:
    return {"mean": sample.mean, "std": cv * sample.mean}


def _lognormal(sample: Sample, std_log: float) -> Parameters:
    return {"mean_log": sample.mean_log, "std_log": np.full_like(sample.n, std_log)}


def _weibull(sample: Sample, shape: float) -> Parameters:
    """Return distributions whose scale, to the power of the shape, is the mean of such powers."""
    relative = sample.value / sample.max[:, None]
    power = np.sum(sample.balanced * relative**shape, axis=1) / sample.n
    return {"shape": np.full_like(sample.n, shape), "scale": sample.max * power ** (1 / shape)}


def _negative_binomial(sample: Sample, dispersion: float) -> Parameters:
    return {"mean": sample.mean, "dispersion": np.full_like(sample.n, dispersion)}


_SHAPES: dict[str, tuple[Callable[[Parameters], Floats], Callable[[Sample, float], Parameters]]] = {
    "normal": (lambda own: own["std"] / own["mean"], _normal),
    "gamma": (lambda own: own["std"] / own["mean"], _gamma),
    "lognormal": (lambda own: own["std_log"], _lognormal),
    "weibull": (lambda own: own["shape"], _weibull),
    "negative_binomial": (lambda own: own["dispersion"], _negative_binomial),
}
"""The shape of a pathway's own fit, and the fit of greatest likelihood with a given shape."""


def n_shapes(family: Family) -> int:
    """Return how many parameters of a family pathways may have in common; 0 for none."""
    return 2 if family.name == "truncnorm" else int(family.name in _SHAPES)


def common_shape(family: Family, sample: Sample, own: Parameters) -> Parameters | None:
    """Return the maximum-likelihood distributions of a family that have a shape in common.

    Parameters
    ----------
    family
        The family.
    sample
        The pathways' samples, g of them.
    own
        The distributions fitted to each pathway on its own, between whose shapes the common one
        lies.

    Returns
    -------
    dict or None
        Parameters, (g,) each; None where the family has no such shape, or a mean that is not
        positive has no multiples.
    """
    if family.name == "truncnorm":
        return _truncnorm(family, sample)
    if family.name not in _SHAPES or (family.name == "normal" and not (sample.mean > 0).all()):
        return None
    shape, distributions = _SHAPES[family.name]
    from scipy.optimize import minimize_scalar

    logs = np.log(shape(own))

    def loss(log: float) -> float:
        return -float(family.loglik(sample, distributions(sample, float(np.exp(log)))).sum())

    found = minimize_scalar(loss, bounds=(logs.min() - 0.1, logs.max() + 0.1), method="bounded")
    return distributions(sample, float(np.exp(found.x)))


def _truncnorm(family: Family, sample: Sample) -> Parameters:
    """Return distributions that are alike in units of the pathways' ranges.

    Given the extremes, which are at 0 and 1 in these units, the other values of all pathways are a
    sample of one distribution. Of it, mean and variance are all that matters.
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
