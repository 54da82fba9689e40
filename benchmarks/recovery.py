"""How often the right family is chosen: ``python -m benchmarks.recovery [--properties 100]``.

Properties are simulated of each family, many pathways each, and a family is chosen for each as
``build`` does. A second table shows distributions that hardly differ: by how much their likelihoods
do, in all values together, and what is chosen then. Prints both, and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from connprops.families.registry import family_named
from connprops.families.sample import Known, Sample
from connprops.fits.choice import Criterion, chosen_families, score
from connprops.schema import Property

Floats = NDArray[np.float64]
Rng = np.random.Generator
Size = tuple[int, int]


def _spread(rng: Rng, pathways: int, centre: float, spread: float = 0.3) -> Floats:
    """Return a parameter of the pathways, (pathways, 1): around a centre, differing by a factor."""
    return centre * np.exp(spread * rng.standard_normal((pathways, 1)))


def _shapes(rng: Rng, pathways: int, low: float, high: float) -> Floats:
    """Return a shape of each pathway: all the same in half of the cases."""
    own = rng.uniform(low, high, (pathways, 1))
    return own if rng.random() < 1 / 2 else np.full_like(own, own[0, 0])


def _normal(rng: Rng, size: Size) -> Floats:
    mean = _spread(rng, size[0], 10)
    return rng.normal(mean, mean * _shapes(rng, size[0], 0.1, 0.3), size)


def _gamma(rng: Rng, size: Size) -> Floats:
    return _spread(rng, size[0], 2) * rng.gamma(_shapes(rng, size[0], 1.5, 20), size=size)


def _lognormal(rng: Rng, size: Size) -> Floats:
    return _spread(rng, size[0], 2) * np.exp(_shapes(rng, size[0], 0.2, 1) * rng.normal(0, 1, size))


def _weibull(rng: Rng, size: Size) -> Floats:
    return _spread(rng, size[0], 3) * rng.weibull(_shapes(rng, size[0], 1.5, 8), size)


def _exponential(rng: Rng, size: Size) -> Floats:
    return rng.exponential(_spread(rng, size[0], 5), size)


def _uniform(rng: Rng, size: Size) -> Floats:
    low = _spread(rng, size[0], 5)
    return low * (1 + _shapes(rng, size[0], 0.5, 2) * rng.random(size))


def _truncnorm(rng: Rng, size: Size) -> Floats:
    from scipy.special import ndtr, ndtri

    low, high = ndtr(-_shapes(rng, size[0], 0, 1.5)), ndtr(_shapes(rng, size[0], 0.5, 1.5))
    return _spread(rng, size[0], 4) * (4 + ndtri(low + (high - low) * rng.random(size)))


def _beta(rng: Rng, size: Size) -> Floats:
    return rng.beta(_shapes(rng, size[0], 0.4, 0.9), _shapes(rng, size[0], 0.4, 2.5), size)


def _poisson(rng: Rng, size: Size) -> Floats:
    return rng.poisson(_spread(rng, size[0], 4), size)


def _ztpoisson(rng: Rng, size: Size) -> Floats:
    rate = _spread(rng, size[0], 2)
    none = np.exp(-rate)
    # Of a Poisson process with at least one event, the first comes at a truncated exponential time.
    first = -np.log(1 - rng.random(size) * (1 - none)) / rate
    return 1 + rng.poisson(rate * (1 - first))


def _shifted_poisson(rng: Rng, size: Size) -> Floats:
    return 1 + rng.poisson(_spread(rng, size[0], 2), size)


def _geometric(rng: Rng, size: Size) -> Floats:
    return rng.geometric(1 / (1 + _spread(rng, size[0], 3)), size)


def _negative_binomial(rng: Rng, size: Size) -> Floats:
    r = _shapes(rng, size[0], 0.5, 8)
    return rng.poisson(rng.gamma(r, _spread(rng, size[0], 5) / r, size))


def _discrete(rng: Rng, size: Size) -> Floats:
    values = np.sort(rng.choice(20, 5, replace=False))
    p = rng.dirichlet(np.full(5, 4.0), size[0])
    place = (rng.random(size)[..., None] > np.cumsum(p, axis=1)[:, None, :]).sum(axis=-1)
    return values[np.minimum(place, 4)]


def _cut(pairs: Floats, at: float) -> Floats:
    """Return the first of two normal values, or the second where the first is beyond a bound."""
    return np.where(np.abs(pairs[..., 0]) < at, pairs[..., 0], np.clip(pairs[..., 1], -at, at))


DISTRIBUTIONS: dict[str, Callable[[Rng, Size], Floats]] = {
    "normal": _normal, "truncnorm": _truncnorm, "gamma": _gamma, "lognormal": _lognormal,
    "weibull": _weibull, "beta": _beta, "exponential": _exponential, "uniform": _uniform,
    "poisson": _poisson, "ztpoisson": _ztpoisson, "shifted_poisson": _shifted_poisson,
    "geometric": _geometric, "negative_binomial": _negative_binomial, "discrete": _discrete,
}  # fmt: skip
"""Values of a property that follows a family, (pathways, values)."""

NEAR: Sequence[tuple[str, str, str, Callable[[Rng, Size], Floats]]] = (
    ("gamma", "lognormal", "std / mean = 0.02", lambda rng, size: rng.gamma(2500, 1, size)),
    ("lognormal", "normal", "std of log = 0.01", lambda rng, size: rng.lognormal(1, 0.01, size)),
    ("truncnorm", "normal", "cut at 4 sd", lambda rng, size: 20 + _cut(
        rng.standard_normal((*size, 2)), 4)),
    ("weibull", "exponential", "shape = 1.005", lambda rng, size: rng.weibull(1.005, size)),
    ("gamma", "exponential", "std / mean = 0.995", lambda rng, size: rng.gamma(1.01, 1, size)),
    ("negative_binomial", "poisson", "dispersion = 1000", lambda rng, size: rng.poisson(
        rng.gamma(1000, 0.003, size))),
    ("ztpoisson", "poisson", "mean = 12", lambda rng, size: np.maximum(rng.poisson(12, size), 1)),
    ("shifted_poisson", "ztpoisson", "mean = 1.02", lambda rng, size: 1 + rng.poisson(0.02, size)),
    ("beta", "truncnorm", "a = 2, b = 3", lambda rng, size: rng.beta(2, 3, size)),
)  # fmt: skip
"""Distributions, what they hardly differ from, and where."""


def simulated(
    distribution: Callable[[Rng, Size], Floats], seed: Sequence[int], size: Size
) -> Sample:
    """Return the sample of one property."""
    return with_known(Sample.from_values(list(distribution(np.random.default_rng(seed), size))))


def with_known(sample: Sample) -> Sample:
    """Return a sample that is known to be of counts where its values are whole."""
    if not sample.whole.all():
        return sample
    return replace(sample, known=Known.of_counts(sample.min.min()))


def chosen(sample: Sample, criterion: Criterion = "aicc") -> str:
    """Return the family that is chosen for a sample."""
    prop = Property("simulated", "int64" if sample.is_integer else "float64", "")
    sample = with_known(sample)
    families, _ = chosen_families("auto", sample, sample, prop, criterion)
    return str(families[0])


def recovered(name: str, properties: int, size: Size, criterion: Criterion) -> Counter[str]:
    """Return how often which family is chosen for properties of a family."""
    number = list(DISTRIBUTIONS).index(name)
    return Counter(
        chosen(simulated(DISTRIBUTIONS[name], (number, i), size), criterion)
        for i in range(properties)
    )


def main() -> None:
    """Read the command line, simulate, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recovery", description=__doc__)
    parser.add_argument("--properties", type=int, default=100)
    parser.add_argument("--pathways", type=int, default=50)
    parser.add_argument("--values", type=int, default=500)
    parser.add_argument("--criterion", choices=["aicc", "bic", "held-out"], default="aicc")
    parser.add_argument(
        "--families", nargs="*", choices=list(DISTRIBUTIONS), default=list(DISTRIBUTIONS)
    )
    arguments = parser.parse_args()
    size = arguments.pathways, arguments.values
    print("| true family | chosen | else |\n|---|---|---|", flush=True)
    n_chosen = {}
    for name in arguments.families:
        counts = recovered(name, arguments.properties, size, arguments.criterion)
        n_chosen[name] = counts[name]
        others = ", ".join(f"{other} {n}" for other, n in counts.most_common() if other != name)
        print(f"| {name} | {counts[name]} of {arguments.properties} | {others} |", flush=True)
    print("\n| true family | near | where | difference (nats) | chosen |\n|---|---|---|---|---|")
    for i, (name, near, where, distribution) in enumerate(NEAR):
        sample = simulated(distribution, (len(DISTRIBUTIONS) + i, 0), size)
        loglik, loglik_near = (
            score(family_named(each), sample, "aicc").loglik for each in (name, near)
        )
        print(
            f"| {name} | {near} | {where} | {loglik - loglik_near:.1f} | {chosen(sample)} |",
            flush=True,
        )
    print(json.dumps({"benchmark": "recovery", **vars(arguments), "chosen": n_chosen}))


if __name__ == "__main__":
    main()
