"""Write conformance.parquet, for model-format.md: ``python docs/make_conformance.py``.

Every number comes from mpmath with 40 digits, by the formulas of the page, and nothing of connprops
is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mpmath as mp
import polars as pl

FILE = Path(__file__).with_name("conformance.parquet")

DIGITS = 40
PROBABILITIES = (1e-6, 1e-3, 0.025, 0.26, 0.5, 0.76, 0.975, 0.999, 1 - 2.0**-20)

Values = Mapping[str, Any]


class Law(NamedTuple):
    """A distribution: density or probability, and probability of values up to x.

    ``low`` and ``high`` are the ends of its support; ``whole`` tells whether it is of counts.
    """

    density: Callable[[Any], Any]
    upto: Callable[[Any], Any]
    low: Any
    high: Any
    whole: bool = False


def normal(mean: Any, std: Any) -> Law:
    return Law(lambda x: mp.npdf(x, mean, std), lambda x: mp.ncdf(x, mean, std), -mp.inf, mp.inf)


def gamma(mean: Any, std: Any) -> Law:
    shape, scale = (mean / std) ** 2, std**2 / mean
    return Law(
        lambda x: x ** (shape - 1) * mp.exp(-x / scale) / mp.gamma(shape) / scale**shape,
        lambda x: mp.gammainc(shape, 0, x / scale, regularized=True),
        0, mp.inf,
    )  # fmt: skip


def truncnorm(norm_loc: Any, norm_scale: Any, **ends: Any) -> Law:
    law, low, high = normal(norm_loc, norm_scale), ends["min"], ends["max"]
    mass = law.upto(high) - law.upto(low)
    return Law(
        lambda x: law.density(x) / mass, lambda x: (law.upto(x) - law.upto(low)) / mass, low, high
    )


def lognormal(mean_log: Any, std_log: Any) -> Law:
    law = normal(mean_log, std_log)
    return Law(lambda x: law.density(mp.log(x)) / x, lambda x: law.upto(mp.log(x)), 0, mp.inf)


def weibull(shape: Any, scale: Any) -> Law:
    return Law(
        lambda x: shape / scale * (x / scale) ** (shape - 1) * mp.exp(-((x / scale) ** shape)),
        lambda x: -mp.expm1(-((x / scale) ** shape)),
        0, mp.inf,
    )  # fmt: skip


def exponential(mean: Any) -> Law:
    return weibull(mp.mpf(1), mean)


def beta(a: Any, b: Any, **ends: Any) -> Law:
    low, width = ends["min"], ends["max"] - ends["min"]

    def density(x: Any) -> Any:
        y = (x - low) / width
        return y ** (a - 1) * (1 - y) ** (b - 1) / mp.beta(a, b) / width

    return Law(
        density,
        lambda x: mp.betainc(a, b, 0, (x - low) / width, regularized=True),
        low,
        ends["max"],
    )


def uniform(**ends: Any) -> Law:
    return beta(mp.mpf(1), mp.mpf(1), **ends)


def counts(mass: Callable[[int], Any], lowest: int) -> Law:
    """Return a distribution of whole numbers by their probabilities."""

    def upto(x: Any) -> Any:
        return mp.fsum(mass(k) for k in range(lowest, int(mp.floor(x)) + 1))

    return Law(lambda x: mass(int(x)), upto, lowest, mp.inf, whole=True)


def poisson(mean: Any) -> Law:
    return counts(lambda k: mp.exp(-mean) * mean**k / mp.factorial(k), 0)


def ztpoisson(mean: Any) -> Law:
    rate = mean + mp.lambertw(-mean * mp.exp(-mean)).real
    law = poisson(rate)
    return counts(lambda k: law.density(k) / -mp.expm1(-rate), 1)


def geometric(mean: Any) -> Law:
    return counts(lambda k: (1 - 1 / mean) ** (k - 1) / mean, 1)


def negative_binomial(mean: Any, dispersion: Any) -> Law:
    r, p = dispersion, dispersion / (dispersion + mean)
    return counts(
        lambda k: mp.gamma(k + r) / mp.gamma(r) / mp.factorial(k) * p**r * (1 - p) ** k, 0
    )


def shifted(law: Callable[..., Law]) -> Callable[..., Law]:
    def of(mean: Any, **others: Any) -> Law:
        base = law(mean=mean - 1, **others)
        return counts(lambda k: base.density(k - 1), 1)

    return of


def discrete(val: list[Any], p: list[Any]) -> Law:
    pairs = list(zip(val, p, strict=True))
    return Law(
        lambda x: mp.fsum(share for at, share in pairs if at == x),
        lambda x: mp.fsum(share for at, share in pairs if at <= x),
        min(val), max(val), whole=False,
    )  # fmt: skip


LAWS: dict[str, Callable[..., Law]] = {
    law.__name__: law
    for law in (normal, gamma, truncnorm, lognormal, weibull, exponential, beta, uniform, poisson,
                ztpoisson, geometric, negative_binomial)
} | {
    "shifted_poisson": shifted(poisson),
    "shifted_negative_binomial": shifted(negative_binomial),
}  # fmt: skip


def quantile(law: Law, u: Any) -> Any:
    """Return the smallest value up to which the probability is at least u."""
    if law.whole:
        k = law.low
        reached = law.density(k)
        while reached < u:
            k += 1
            reached += law.density(k)
        return mp.mpf(k)
    low, high = law.low, law.high
    if mp.isinf(low):
        low = mp.mpf(-1)
        while law.upto(low) > u:
            low *= 2
    if mp.isinf(high):
        high = mp.mpf(1)
        while law.upto(high) < u:
            high *= 2
    for _ in range(140):
        middle = (low + high) / 2
        low, high = (middle, high) if law.upto(middle) < u else (low, middle)
    return high


class Point(NamedTuple):
    """A value at a probability; the density is None where x itself has a probability."""

    x: Any
    density: Any
    cumulative: Any


def of_law(law: Law, u: Any) -> Point:
    x = quantile(law, u)
    return Point(x, law.density(x), law.upto(x))


def of_list(values: Values, u: Any) -> Point:
    """Return the smallest value of a list up to which the probability is at least u."""
    law = discrete(**values)
    x = next(at for at in sorted(values["val"]) if law.upto(at) >= u)
    return Point(x, law.density(x), law.upto(x))


def of_quantiles(values: Values, u: Any) -> Point:
    """Return a point on the lines between quantiles, the k-th of n + 1 at sin^2(pi k / 2n)."""
    at = values["quantile"]
    p = [mp.sin(mp.pi * k / (2 * (len(at) - 1))) ** 2 for k in range(len(at))]
    cell = next(k for k in range(len(at) - 1) if u <= p[k + 1])
    width, share = at[cell + 1] - at[cell], p[cell + 1] - p[cell]
    x = at[cell] + width * (u - p[cell]) / share
    last = max(k for k in range(len(at)) if at[k] <= x)
    return Point(x, share / width, u) if width else Point(x, None, p[last])


def inflated(base: Law, values: Values, u: Any) -> Point:
    """Return a value of a distribution beside a point, or the point."""
    point, share = values["point"], values["p_point"]
    below = (1 - share) * (base.upto(point) if point >= base.low else 0)
    if below < u <= below + share:  # points of counts here are below all other values
        return Point(point, share if base.whole else None, below + share)
    is_above = u > below
    x = quantile(base, (u - share * is_above) / (1 - share))
    return Point(x, base.density(x) * (1 - share), base.upto(x) * (1 - share) + share * is_above)


def point_of(family: str, values: Values, u: Any) -> Point:
    match family:
        case "constant":
            return Point(values["mean"], mp.mpf(1), mp.mpf(1))
        case "zero":
            return Point(mp.mpf(0), mp.mpf(1), mp.mpf(1))
        case "discrete":
            return of_list(values, u)
        case "quantiles":
            return of_quantiles(values, u)
    if family.startswith("inflated_"):
        own = {name: v for name, v in values.items() if name not in ("point", "p_point")}
        return inflated(LAWS[family.removeprefix("inflated_")](**own), values, u)
    return of_law(LAWS[family](**values), u)


_QUANTILES = [round(float(mp.sqrt(k) + k * k / 900), 3) for k in range(33)]
_REPEATED = [0.0] * 5 + [round(0.3 * k, 3) for k in range(28)]

CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "constant": ({"mean": 0.25}, {"mean": 2.0}),
    "zero": ({},),
    "normal": ({"mean": -1.5, "std": 0.3}, {"mean": 12.0, "std": 4.0}),
    "truncnorm": (
        {"norm_loc": 0.25, "norm_scale": 0.13, "min": 0.12, "max": 0.38},
        {"norm_loc": -3.0, "norm_scale": 0.9, "min": 0.0, "max": 5.0},
        {"norm_loc": 30.0, "norm_scale": 12.0, "min": 2.0, "max": 45.0},
    ),
    "gamma": (
        {"mean": 0.33, "std": 0.28}, {"mean": 0.4, "std": 0.9}, {"mean": 671.0, "std": 17.0},
    ),
    "lognormal": ({"mean_log": -1.2, "std_log": 0.45}, {"mean_log": 2.5, "std_log": 0.9}),
    "weibull": ({"shape": 1.7, "scale": 0.8}, {"shape": 0.6, "scale": 20.0}),
    "beta": (
        {"a": 2.5, "b": 0.8, "min": 0.0, "max": 1.0},
        {"a": 4.0, "b": 9.0, "min": -20.0, "max": 60.0},
    ),
    "exponential": ({"mean": 0.7}, {"mean": 17.0}),
    "uniform": ({"min": 0.1, "max": 0.9}, {"min": 3.0, "max": 30.0}),
    "poisson": ({"mean": 0.4}, {"mean": 23.0}),
    "ztpoisson": ({"mean": 1.05}, {"mean": 1.0}, {"mean": 7.5}),
    "geometric": ({"mean": 1.4}, {"mean": 12.0}),
    "negative_binomial": ({"mean": 0.8, "dispersion": 0.5}, {"mean": 15.0, "dispersion": 4.0}),
    "shifted_poisson": ({"mean": 3.2}, {"mean": 14.0}),
    "shifted_negative_binomial": (
        {"mean": 2.5, "dispersion": 0.7}, {"mean": 9.0, "dispersion": 3.0},
    ),
    "discrete": (
        {"val": [0.5, 1.25, 3.0], "p": [0.125, 0.5, 0.375]},
        {"val": [7.0, 1.0, 4.0, 9.0], "p": [0.0625, 0.25, 0.5, 0.1875]},
    ),
    "quantiles": ({"quantile": _QUANTILES}, {"quantile": _REPEATED}),
    "inflated_gamma": ({"mean": 0.5, "std": 0.25, "point": 0.0, "p_point": 0.375},),
    "inflated_lognormal": ({"mean_log": 0.2, "std_log": 0.5, "point": 1.0, "p_point": 0.25},),
    "inflated_normal": ({"mean": 3.0, "std": 1.5, "point": -1.0, "p_point": 0.125},),
    "inflated_truncnorm": (
        {"norm_loc": 2.0, "norm_scale": 1.0, "min": 0.5, "max": 4.0,
         "point": 4.0, "p_point": 0.3125},
    ),
    "inflated_ztpoisson": ({"mean": 2.5, "point": 0.0, "p_point": 0.25},),
}  # fmt: skip
"""Parameters of each family; all but the first of a family are drawn whole and within bounds."""

LOWER, UPPER = 1.25, 25.0


def exactly(value: Any) -> Any:
    return [mp.mpf(v) for v in value] if isinstance(value, list) else mp.mpf(value)


def rows() -> Iterator[tuple[Any, ...]]:
    """Give the rows of the file."""
    for family, cases in CASES.items():
        for i, parameters in enumerate(cases):
            values = {name: exactly(value) for name, value in parameters.items()}
            for u in PROBABILITIES:
                point = point_of(family, values, mp.mpf(u))
                x, density, cumulative = (None if v is None else float(v) for v in point)
                drawn = round(min(max(x, LOWER), UPPER)) if i else x
                bounds = ("int", LOWER, UPPER) if i else ("float", None, None)
                yield (family, json.dumps(parameters), u, x, density, cumulative, *bounds,
                       float(drawn))  # fmt: skip


def table() -> pl.DataFrame:
    """Return the vectors."""
    numbers = dict.fromkeys(("u", "x", "density", "cumulative"), pl.Float64)
    names = dict.fromkeys(("family", "parameters"), pl.String)
    drawn = dict.fromkeys(("lower_bound", "upper_bound", "drawn"), pl.Float64)
    columns = names | numbers | {"dtype": pl.String} | drawn
    with mp.workdps(DIGITS):
        return pl.DataFrame(list(rows()), schema=columns, orient="row")


if __name__ == "__main__":
    table().write_parquet(FILE, compression="snappy")
