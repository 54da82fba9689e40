"""One distribution as the reference writes it: a dict of type, parameters, bounds and data type.

The reference draws from numpy's global state, and scripts seed that. So does this module, with
the same samplers on the same random numbers: a seed gives the reference's values.
"""
# ruff: noqa: NPY002 - the global state is meant

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Floats
from connprops.compat.errors import CompatError
from connprops.distributions.rows import SUM_TO_ONE
from connprops.errors import listing
from connprops.families.family import Parameter
from connprops.families.registry import REFERENCE_FAMILIES

Specification = Mapping[str, Any]

_BELOW_ONE = 1 - 2.0**-53
_BOUNDS = {"lower_bound": -np.inf, "upper_bound": np.inf}


def parameters(family: str) -> list[str]:
    """Return the names of a family's parameters, in the reference's order."""
    return [p.name for p in REFERENCE_FAMILIES[family].parameters]


def plain(value: Any) -> Any:
    """Return a value with numpy's numbers and arrays as Python's, whatever it is nested in."""
    if isinstance(value, Mapping):
        return {key: plain(of_key) for key, of_key in value.items()}
    if isinstance(value, list | tuple):
        return [plain(element) for element in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def checked(distribution: Any, whose: str) -> dict[str, Any]:
    """Return a distribution as a dict of Python's own types, after checking that it is one.

    Infinite bounds are left out: JSON has no word for them. ``whose`` is for messages.
    """
    if not isinstance(distribution, Mapping):
        fact = f"The distribution of {whose} is no dictionary"
        raise CompatError.of(fact, found=repr(distribution))
    if "type" not in distribution:
        fact = f"Distribution type missing! {whose} has none"
        raise CompatError.of(fact, found=repr(distribution))
    check_family(distribution["type"], f"{whose} asks for it")
    spec: dict[str, Any] = plain(distribution)
    for parameter in REFERENCE_FAMILIES[spec["type"]].parameters:
        _check_parameter(spec, parameter, whose)
    if spec["type"] == "discrete":
        _check_probabilities(spec["val"], spec["p"], whose)
    for bound, infinite in _BOUNDS.items():
        value = spec.get(bound)
        if value in (None, infinite):
            spec.pop(bound, None)
        elif not isinstance(value, int | float) or not np.isfinite(value):
            fact = f"Data bounds error! {whose} has a {bound} that is none"
            raise CompatError.of(fact, found=repr(value))
    lower, upper = (spec.get(bound, infinite) for bound, infinite in _BOUNDS.items())
    if lower > upper:
        fact = f"Data bounds error! Those of {whose} exclude everything"
        raise CompatError.of(fact, found=f"lower {lower:g} above upper {upper:g}")
    return spec


def check_family(name: Any, who: str) -> None:
    """Refuse a family that the reference does not have."""
    if name not in REFERENCE_FAMILIES:
        raise CompatError.of(
            f'Distribution type "{name}" not supported! {who}', expected=listing(REFERENCE_FAMILIES)
        )


def _check_parameter(spec: Specification, parameter: Parameter, whose: str) -> None:
    name, family = parameter.name, spec["type"]
    if name not in spec:
        raise CompatError.of(
            f"Distribution attributes missing! {whose} has no {name!r}",
            expected=f"for {family!r}: {listing(parameters(family))}",
        )
    text = repr(spec[name])
    try:
        values = np.asarray(spec[name], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CompatError.of(f"{whose}: {name!r} is no number", found=text) from error
    if not values.size:
        raise CompatError.of(
            f"Distribution attribute(s) empty! {whose} has no values in {name!r}",
            hint="discrete needs values that occur more than once, at most 100 of them",
        )
    if not np.isfinite(values).all():
        raise CompatError.of(f"{whose}: {name!r} is no finite number", found=text)
    if (values < parameter.lower).any() or (values > parameter.upper).any():
        raise CompatError.of(
            f"Range error ({family})! {whose} has a {name!r} that cannot be",
            found=text,
            expected=f"from {parameter.lower:g} to {parameter.upper:g}",
        )


def _check_probabilities(values: Any, p: Any, whose: str) -> None:
    if np.ndim(values) != 1 or np.size(values) != np.size(p):
        raise CompatError.of(
            f'Probability attribute "p" does not match length of corresponding "val"! {whose}',
            found=f"{np.size(values)} values and {np.size(p)} probabilities",
        )
    if abs(np.sum(p) - 1) > SUM_TO_ONE:
        fact = f'Probability attribute "p" does not sum to 1.0! {whose}'
        raise CompatError.of(fact, found=f"{np.sum(p):g}")


def _as_group(spec: Specification) -> dict[str, Floats]:
    """Return a distribution's parameters as our families take them: those of one group."""
    return {name: np.array([spec[name]], dtype=np.float64) for name in parameters(spec["type"])}


def mean_and_std(spec: Specification) -> tuple[float, float]:
    """Return mean and standard deviation of a distribution, before bounds."""
    family, values = REFERENCE_FAMILIES[spec["type"]], _as_group(spec)
    return family.mean(values).item(), family.std(values).item()


def draw(spec: Specification, size: int) -> NDArray[Any]:
    """Draw values from a distribution, (size,), before bounds and data type."""
    return _SAMPLERS[spec["type"]](spec, size)


def _draw_point(spec: Specification, size: int) -> Floats:
    return np.full(size, spec.get("mean", 0.0))


def _draw_truncnorm(spec: Specification, size: int) -> Floats:
    low, high = spec["min"], spec["max"]
    if low > high:
        raise CompatError.of("Range error (truncnorm)!", found=f"min {low:g} above max {high:g}")
    if spec["norm_scale"] == 0:
        return np.full(size, float(np.clip(spec["norm_loc"], low, high)))
    return _quantiles(spec, np.random.random_sample(size))


def _draw_gamma(spec: Specification, size: int) -> Floats:
    mean, variance = spec["mean"], spec["std"] ** 2
    if mean == 0 or variance == 0:
        return _draw_point(spec, size)
    return np.random.gamma(mean**2 / variance, variance / mean, size)


def _draw_discrete(spec: Specification, size: int) -> NDArray[Any]:
    p = np.asarray(spec["p"], dtype=np.float64)
    return np.random.choice(spec["val"], size, p=p / p.sum())


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


_SAMPLERS: dict[str, Callable[[Specification, int], NDArray[Any]]] = {
    "constant": _draw_point,
    "zero": _draw_point,
    "normal": lambda spec, size: np.random.normal(spec["mean"], spec["std"], size),
    "truncnorm": _draw_truncnorm,
    "gamma": _draw_gamma,
    "poisson": lambda spec, size: np.random.poisson(spec["mean"], size),
    "ztpoisson": lambda spec, size: zero_truncated_poisson(ztpoisson_rate(spec["mean"]), size),
    "discrete": _draw_discrete,
}


def _quantiles(spec: Specification, q: Floats) -> Floats:
    quantiles = REFERENCE_FAMILIES[spec["type"]].ppf(q.reshape(1, -1), _as_group(spec))
    return quantiles.reshape(q.shape)


def from_normal(values: ArrayLike, spec: Specification) -> NDArray[Any]:
    """Return a distribution's quantiles at the probabilities of standard normal values."""
    from scipy.special import ndtr

    q = np.minimum(ndtr(np.asarray(values, dtype=np.float64)), _BELOW_ONE)
    return finished(_quantiles(spec, q), spec)


def finished(values: NDArray[Any], spec: Specification) -> NDArray[Any]:
    """Return drawn values within their bounds, of their data type, whole numbers rounded."""
    values = np.clip(values, spec.get("lower_bound"), spec.get("upper_bound"))
    dtype = spec.get("dtype")
    if dtype is None:
        return values
    return (np.round(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)
