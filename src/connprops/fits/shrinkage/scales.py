"""Hierarchical estimates of distributions with a location and a scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from connprops.arrays import Floats
from connprops.arrays.trigamma import inverse_trigamma, trigamma
from connprops.distributions.distributions import Distributions
from connprops.families.continuous import levels as probabilities
from connprops.families.sample import Sample
from connprops.fits.shrinkage.hierarchy import Hierarchy, Moved

Way = Callable[[Distributions, Sample, Hierarchy], Moved]
"""How a family's parameters are moved towards their levels'."""

_VASTLY = np.log(1e9)
"""Logarithm of how many times smaller or larger than the median pathway's a number may be to say
something of others': one of 1e-20 among others of 10 stands for 0."""

_GRANTED = 0.5
"""Variance of a scale's logarithm up to which it widens distributions as it does by theory."""

_OWN_LIST = 50.0
"""Number of values of which a pathway's own quantiles count as much as all pathways'."""

# Scales: the logarithm of a standard deviation or the like, of which small samples have known bias


def shrunk_log_scale(
    own: Floats, unit: Floats | float, freedom: Floats, hierarchy: Hierarchy
) -> tuple[Floats, Floats, Floats]:
    """Return logarithms of standard deviations moved towards their level's, without their bias.

    Their variance is ``unit`` / n times that of a normal distribution over 1 / (2 n): the logarithm
    of a chi-squared variable has known moments.
    """
    # Of two values, whose logarithms depend less on the shape, half as much.
    half = freedom / 2 / (2 * unit) ** np.where(freedom > 1, 1.0, 0.5)
    bias = (special.psi(half) - np.log(half)) / 2
    variance = unit * trigamma(freedom / 2) / 2
    return hierarchy.toward(own - bias, variance, furthest=_VASTLY)


def foretold_log_scale(log_scale: Floats, variance: Floats, own: Floats) -> Floats:
    """Return the logarithm of the scale that a value has while its own is uncertain.

    It is that of the mean square of scales whose logarithms are normal. Where these vary much, as
    in groups of which nothing is known, that mean is one of scales that nobody has seen: beyond
    what is always granted, it ends where pathways with an estimate of their ``own`` surely are.
    """
    surely = (log_scale - np.sqrt(variance))[np.isfinite(own)]
    furthest = np.max(surely, initial=-np.inf) - log_scale
    return log_scale + np.minimum(variance, np.maximum(furthest, _GRANTED))


def freedom_of(sample: Sample) -> Floats:
    """Return the degrees of freedom of samples' standard deviations, NaN of one value."""
    return np.where(sample.n > 1, sample.n - 1, np.nan)


def _or(estimate: Floats, moment: Floats) -> Floats:
    """Return estimates, and a sample's moment where there are too few values for one."""
    return np.where(np.isfinite(estimate), estimate, moment)


def normal(location: str, scale: str) -> Way:
    """Return the way of the normal distribution, of values or of logarithms."""

    def way(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
        by_sample = sample.mean if location == "mean" else sample.mean_log
        mean = _or(own.parameters[location], by_sample)
        std = own.parameters[scale]
        freedom = freedom_of(sample)
        unbiased = np.log(std * np.sqrt(sample.n / freedom))
        log_std, v_std, weight = shrunk_log_scale(unbiased, 0.5, freedom, hierarchy)
        furthest = np.inf if location == "mean" else _VASTLY
        v_own = np.exp(2 * log_std) / sample.n
        mean, v_mean, other = hierarchy.toward(mean, v_own, furthest=furthest)
        # A value that is not known yet varies also by what is not known of the mean.
        new_std = np.exp(foretold_log_scale(log_std, v_std, unbiased))
        law = {location: mean, scale: np.hypot(new_std, np.sqrt(v_mean))}
        errors = {location: np.sqrt(v_mean), scale: np.exp(log_std) * np.sqrt(v_std)}
        return law, errors, [weight, other]

    return way


def gamma(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return gamma distributions: std over mean, then the mean, whose errors are independent."""
    log_ratio = np.log(own.parameters["std"] / own.parameters["mean"])
    common = np.exp(-2 * hierarchy.average(log_ratio, sample.n))
    unit = 1 / (4 * (common**2 * trigamma(common) - common))
    # The estimate of greatest likelihood has n degrees of freedom where it should have n - 1.
    freedom = freedom_of(sample)
    own_ratio = log_ratio + np.log(sample.n / freedom) / 2
    log_ratio, v_ratio, weight = shrunk_log_scale(own_ratio, unit, freedom, hierarchy)
    shape = np.exp(-2 * log_ratio)
    total = sample.n * shape  # the shape of the sum of the values
    own_mean = np.log(_or(own.parameters["mean"], sample.mean))
    own_mean += np.log(total) - special.psi(total)
    mean, v_mean, other = hierarchy.means_toward(own_mean, trigamma(total), _VASTLY)
    # The logarithm of a value varies also by what is not known of the mean.
    new_ratio = foretold_log_scale(log_ratio, v_ratio, own_ratio)
    shape = inverse_trigamma(trigamma(np.exp(-2 * new_ratio)) + v_mean)
    std = mean / np.sqrt(shape)
    errors = {"mean": mean * np.sqrt(v_mean), "std": std * np.sqrt(v_mean + v_ratio)}
    return {"mean": mean, "std": std}, errors, [weight, other]


_GUMBEL = np.pi**2 / 6
_WEIBULL_SHAPE = 1 / _GUMBEL
_WEIBULL_SCALE = 1 + (1 - np.euler_gamma) ** 2 / _GUMBEL
"""Variances of log shape and log scale by one value, the latter in units of 1 / shape^2."""


def weibull(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return Weibull distributions: the shape, which gives the error of the scale, then that."""
    freedom = freedom_of(sample)
    own_log = -np.log(own.parameters["shape"]) + np.log(sample.n / freedom) / 2
    log_inverse, v_shape, weight = shrunk_log_scale(own_log, _WEIBULL_SHAPE, freedom, hierarchy)
    inverse = np.exp(log_inverse)
    own_scale = np.where(sample.n > 1, np.log(own.parameters["scale"]),
                         sample.mean_log + np.euler_gamma * inverse)  # fmt: skip
    own_variance = _WEIBULL_SCALE * inverse**2 / sample.n
    scale, v_scale, other = hierarchy.means_toward(own_scale, own_variance, _VASTLY)
    mean = scale * special.gamma(1 + inverse)
    new_inverse = np.exp(foretold_log_scale(log_inverse, v_shape, own_log))
    wide = np.hypot(new_inverse, np.sqrt(v_scale / _GUMBEL))
    scale = mean / special.gamma(1 + wide)
    errors = {"shape": np.sqrt(v_shape) / wide, "scale": scale * np.sqrt(v_scale)}
    return {"shape": 1 / wide, "scale": scale}, errors, [weight, other]


def exponential(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return exponential distributions: the mean's logarithm."""
    own_log = np.log(_or(own.parameters["mean"], sample.mean))
    own_log += np.log(sample.n) - special.psi(sample.n)
    mean, variance, weight = hierarchy.means_toward(own_log, trigamma(sample.n), _VASTLY)
    return {"mean": mean}, {"mean": mean * np.sqrt(variance)}, [weight]


# Quantiles: location and scale of their shape, which all pathways have in common


def quantiles(own: Distributions, sample: Sample, hierarchy: Hierarchy) -> Moved:
    """Return lists of quantiles: those that pathways have in common, with locations and scales.

    The weight of these is 1 / (1 + (n / 50)^2) beside a pathway's own list of n values, and 0 where
    values are repeated: a point is no matter of scale.
    """
    n, known, listed = sample.n, sample.known, own.parameters["quantile"]
    shape = np.array(known.shape or special.ndtri(probabilities() * 0.998 + 0.001))
    location, std = (sample.mean, sample.std)
    if known.of_logs:
        location, std = sample.mean_log, sample.std_log
    fourth = (np.diff(probabilities()) * ((shape[1:] + shape[:-1]) / 2) ** 4).sum()
    freedom = freedom_of(sample)
    own_std = np.log(std * np.sqrt(n / freedom))
    log_std, v_std, weight = shrunk_log_scale(own_std, max(fourth - 1, 1) / 4, freedom, hierarchy)
    location, v_location, other = hierarchy.toward(location, np.exp(2 * log_std) / n)
    # No pathway spreads more than all together: of lists of logarithms the last would be vast.
    most = np.hypot(np.nanmax(std, initial=0.0), np.nanstd(location[: hierarchy.n_observed]))
    new_std = np.exp(foretold_log_scale(log_std, v_std, own_std))
    scale = np.fmin(np.hypot(new_std, np.sqrt(v_location)), most)
    quantile = location[:, None] + scale[:, None] * shape
    error = np.sqrt(v_location[:, None] + (scale[:, None] * shape) ** 2 * v_std[:, None])
    if known.of_logs:
        quantile = np.exp(quantile)
        error *= quantile
    at = np.flatnonzero(np.isfinite(listed).any(axis=1) & np.isfinite(n))
    if at.size:
        repeats = (np.diff(listed[at]) == 0).any(axis=1) & (n[at] >= _OWN_LIST)
        share = np.where(repeats, 0.0, 1 / (1 + (n[at] / _OWN_LIST) ** 2))[:, None]
        quantile[at] = share * quantile[at] + (1 - share) * listed[at]
        of_own = np.nan_to_num(own.std_error["quantile"][at])
        error[at] = np.hypot(share * error[at], (1 - share) * of_own)
    observed = hierarchy.is_observed()
    quantile[:, 0] = np.where(observed, np.fmin(quantile[:, 0], sample.min), quantile[:, 0])
    quantile[:, -1] = np.where(observed, np.fmax(quantile[:, -1], sample.max), quantile[:, -1])
    return {"quantile": quantile}, {"quantile": error}, [weight, other]
