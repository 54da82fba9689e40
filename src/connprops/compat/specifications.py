"""One distribution as the reference writes it: a dict of type, parameters, bounds and data type.

The reference draws from numpy's global state, and scripts seed that. So does this module, with
the same samplers on the same random numbers: a seed gives the reference's values.
"""
# ruff: noqa: NPY002 - the global state is meant

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.compat.errors import CompatError
from connprops.errors import listing
from connprops.families.registry import REFERENCE_FAMILIES, Parameter

Specification = Mapping[str, Any]


_BELOW_ONE = 1 - 2.0**-53
_SUM_TO_ONE = 1e-5  # as near as the reference asks for


def parameters(family: str) -> list[str]:
    """Return the names of a family's parameters, in the reference's order."""
    return [p.name for p in REFERENCE_FAMILIES[family].parameters]


def plain(value: Any) -> Any:
    """Return a value with numpy's numbers and arrays as Python's, whatever it is nested in."""
    if isinstance(value, Mapping):
        return {key: plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def checked(distribution: Any, whose: str) -> dict[str, Any]:
    """Return a distribution as a dict of Python's own types, after checking that it is one.

    An infinite bound is none, and left out: JSON has no word for it.

    Parameters
    ----------
    distribution
        As given.
    whose
        Property and pathway, for messages.

    Raises
    ------
    CompatError
        Where the type is unknown, a parameter missing, empty, no number or out of its range, or
        the bounds are in disorder.
    """
    if not isinstance(distribution, Mapping):
        raise CompatError.of(
            f"The distribution of {whose} is no dictionary", found=repr(distribution)
        )
    if "type" not in distribution:
        raise CompatError.of(
            f"Distribution type missing! {whose} has none", found=repr(distribution)
        )
    name = distribution["type"]
    if name not in REFERENCE_FAMILIES:
        raise CompatError.of(
            f'Distribution type "{name}" not supported! {whose} asks for it',
            expected=listing(REFERENCE_FAMILIES),
        )
    spec: dict[str, Any] = plain(distribution)
    for parameter in REFERENCE_FAMILIES[name].parameters:
        _check_parameter(spec, parameter, whose)
    if name == "discrete":
        _check_probabilities(spec, whose)
    _check_bounds(spec, whose)
    return spec


def _check_parameter(spec: Specification, parameter: Parameter, whose: str) -> None:
    if parameter.name not in spec:
        raise CompatError.of(
            f"Distribution attributes missing! {whose} has no {parameter.name!r}",
            expected=f"for {spec['type']!r}: {listing(parameters(spec['type']))}",
        )
    values = _numbers(spec[parameter.name], parameter.name, whose)
    if (values < parameter.lower).any() or (values > parameter.upper).any():
        raise CompatError.of(
            f"Range error ({spec['type']})! {whose} has a {parameter.name!r} that cannot be",
            found=repr(spec[parameter.name]),
            expected=f"from {parameter.lower:g} to {parameter.upper:g}",
        )


def _check_bounds(spec: dict[str, Any], whose: str) -> None:
    """Check the bounds of drawn values, and take out those that are infinite."""
    for bound, none in (("lower_bound", -np.inf), ("upper_bound", np.inf)):
        if spec.get(bound, none) in (None, none):
            spec.pop(bound, None)
        elif not isinstance(spec[bound], int | float) or not np.isfinite(spec[bound]):
            raise CompatError.of(
                f"Data bounds error! {whose} has a {bound} that is none", found=repr(spec[bound])
            )
    if spec.get("lower_bound", -np.inf) > spec.get("upper_bound", np.inf):
        raise CompatError.of(
            f"Data bounds error! Those of {whose} exclude everything",
            found=f"lower {spec['lower_bound']:g} above upper {spec['upper_bound']:g}",
        )


def _numbers(given: Any, name: str, whose: str) -> NDArray[np.float64]:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CompatError.of(f"{whose}: {name!r} is no number", found=repr(given)) from error
    if not values.size:
        raise CompatError.of(
            f"Distribution attribute(s) empty! {whose} has no values in {name!r}",
            hint="discrete needs values that occur more than once, at most 100 of them",
        )
    if not np.isfinite(values).all():
        raise CompatError.of(f"{whose}: {name!r} is no finite number", found=repr(given))
    return values


def _check_probabilities(spec: Specification, whose: str) -> None:
    lengths = np.size(spec["val"]), np.size(spec["p"])
    if np.ndim(spec["val"]) != 1 or lengths[0] != lengths[1]:
        raise CompatError.of(
            f'Probability attribute "p" does not match length of corresponding "val"! {whose}',
            found=f"{lengths[0]} values and {lengths[1]} probabilities",
        )
    total = float(np.sum(spec["p"]))
    if abs(total - 1) > _SUM_TO_ONE:
        raise CompatError.of(
            f'Probability attribute "p" does not sum to 1.0! {whose}', found=f"{total:g}"
        )


def mean_and_std(distribution: Specification) -> tuple[float, float]:
    """Return mean and standard deviation of a distribution, before bounds."""
    family = REFERENCE_FAMILIES[distribution["type"]]
    values = _as_groups(distribution)
    return float(np.ravel(family.mean(values))[0]), float(np.ravel(family.std(values))[0])


def draw(distribution: Specification, size: int) -> NDArray[Any]:
    """Draw values from a distribution, (size,), before bounds and data type.

    Raises
    ------
    CompatError
        Where a truncated normal distribution has its minimum above its maximum.
    """
    return _SAMPLERS[distribution["type"]](distribution, size)


def _draw_point(distribution: Specification, size: int) -> NDArray[np.float64]:
    return np.full(size, distribution.get("mean", 0.0))


def _draw_truncnorm(distribution: Specification, size: int) -> NDArray[np.float64]:
    low, high = distribution["min"], distribution["max"]
    if low > high:
        raise CompatError.of("Range error (truncnorm)!", found=f"min {low:g} above max {high:g}")
    if distribution["norm_scale"] == 0:
        return np.full(size, float(np.clip(distribution["norm_loc"], low, high)))
    uniform = np.random.random_sample((1, size))
    drawn: NDArray[np.float64] = REFERENCE_FAMILIES["truncnorm"].ppf(
        uniform, _as_groups(distribution)
    )[0]
    return drawn


def _draw_gamma(distribution: Specification, size: int) -> NDArray[np.float64]:
    mean, variance = distribution["mean"], distribution["std"] ** 2
    if mean == 0 or variance == 0:
        return _draw_point(distribution, size)
    return np.random.gamma(mean**2 / variance, variance / mean, size)


def _draw_discrete(distribution: Specification, size: int) -> NDArray[Any]:
    p = np.asarray(distribution["p"], dtype=np.float64)
    return np.random.choice(distribution["val"], size, p=p / p.sum())


@lru_cache(maxsize=4096)
def ztpoisson_rate(mean: float) -> float:
    """Return the rate r of a zero-truncated Poisson distribution: r / (1 - exp(-r)) = mean."""
    if mean == 1:
        return 0.0
    # Its variance is mean (1 + r - mean).
    _, std = mean_and_std({"type": "ztpoisson", "mean": mean})
    return std**2 / mean + mean - 1


def zero_truncated_poisson(rate: float, size: int) -> NDArray[np.int64]:
    """Draw counts of events of a Poisson process in [0, rate], given that there is one.

    The first event comes at t, exponential and at most ``rate``; those after it are Poisson.
    """
    first = -np.log(np.random.uniform(np.exp(-rate), 1, size))
    return 1 + np.random.poisson(np.maximum(rate - first, 0))


_SAMPLERS: Mapping[str, Callable[[Specification, int], NDArray[Any]]] = MappingProxyType(
    {
        "constant": _draw_point,
        "zero": _draw_point,
        "normal": lambda distribution, size: np.random.normal(
            distribution["mean"], distribution["std"], size
        ),
        "truncnorm": _draw_truncnorm,
        "gamma": _draw_gamma,
        "poisson": lambda distribution, size: np.random.poisson(distribution["mean"], size),
        "ztpoisson": lambda distribution, size: zero_truncated_poisson(
            ztpoisson_rate(distribution["mean"]), size
        ),
        "discrete": _draw_discrete,
    }
)


def from_normal(values: ArrayLike, distribution: Specification) -> NDArray[Any]:
    """Return a distribution's quantiles at the probabilities of standard normal values."""
    from scipy.special import ndtr

    values = np.asarray(values, dtype=np.float64)
    q = np.minimum(ndtr(values), _BELOW_ONE)
    found = (
        REFERENCE_FAMILIES[distribution["type"]]
        .ppf(q.reshape(1, -1), _as_groups(distribution))
        .reshape(values.shape)
    )
    return finished(found, distribution)


def finished(values: NDArray[Any], distribution: Specification) -> NDArray[Any]:
    """Return drawn values within their bounds, of their data type, whole numbers rounded."""
    values = np.clip(values, distribution.get("lower_bound"), distribution.get("upper_bound"))
    dtype = distribution.get("dtype")
    if dtype is None:
        return values
    if np.dtype(dtype).kind in "iu":
        values = np.round(values)
    return values.astype(dtype)


def _as_groups(distribution: Specification) -> dict[str, NDArray[np.float64]]:
    """Return a distribution's parameters as our families take them: those of one group."""
    return {
        name: np.array([distribution[name]], dtype=np.float64)
        for name in parameters(distribution["type"])
    }
