"""Models whose distributions are written down: no data, no fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import polars as pl

from connprops import schema
from connprops.distributions.rows import LATER
from connprops.model.model import Model

FIRST_VERSION = pl.Schema({n: t for n, t in schema.MODEL.polars_schema().items() if n not in LATER})
"""The columns that models have had from the first."""

Parameters = Mapping[str, float | Sequence[float]]


@dataclass(frozen=True)
class Marginal:
    """A distribution of a property; a parameter that is a list has positions."""

    family: str
    parameters: Parameters = field(default_factory=dict)
    shared: bool | None = True
    dtype: str = "float"
    lower: float | None = None
    upper: float | None = None
    level: int = -1
    within: float = 0.0  # correlation within connections, where these do not share a value


def alike(marginal: Marginal, *, count: bool = False) -> tuple[bool | None, float | None]:
    """Return what a model's rows say of the values of a connection."""
    shared = None if count else marginal.shared
    return shared, None if shared is None else 1.0 if shared else marginal.within


def rows_of(source: str, target: str, name: str, marginal: Marginal) -> list[tuple]:
    """Return the rows of a distribution in the model table."""
    rest = (
        None,
        marginal.level,
        *alike(marginal, count=name == schema.N_SYN_PER_CONN),
        marginal.dtype,
        marginal.lower,
        marginal.upper,
    )
    return [
        (source, target, name, None, marginal.family, parameter, position, float(value), *rest)
        for parameter, values in (marginal.parameters or {"mean": 0.0}).items()
        for position, value in enumerate(np.atleast_1d(values))
    ]


def model_of(
    distributions: Mapping[str, Marginal | Mapping[tuple[str, str], Marginal]],
    types: Sequence[str] = ("A",),
    correlations: Mapping[tuple[str, str], float] | None = None,
) -> Model:
    """Return the model of distributions that hold in all pathways, or of those of each pathway.

    ``correlations`` are those of pairs of properties, in all pathways.
    """
    rows = []
    for name, marginal in distributions.items():
        pathways = (
            marginal
            if isinstance(marginal, Mapping)
            else dict.fromkeys(product(types, types), marginal)
        )
        for (source, target), one in pathways.items():
            rows += rows_of(source, target, name, one)
    for (name, other), r in (correlations or {}).items():
        for s, t in product(types, types):
            marginal = distributions[name]
            one = marginal[s, t] if isinstance(marginal, Mapping) else marginal
            rows.append((s, t, name, other, schema.COPULA, schema.CORRELATION, 0, r, 0.01,
                         -1, *alike(one), one.dtype, one.lower, one.upper))  # fmt: skip
    dtypes = {
        name: pl.String if dtype is pl.Enum else dtype
        for name, dtype in schema.MODEL.polars_schema().items()
        if name in FIRST_VERSION or name == "within_correlation"
    }
    sides = [(side, code, name, "EXC", str(code), 1)
             for side in ("source", "target") for code, name in enumerate(types)]  # fmt: skip
    return Model(
        pl.DataFrame(rows, schema=dtypes, orient="row"),
        types=pl.DataFrame(sides, schema=schema.TYPES.polars_schema(), orient="row"),
        units={name: schema.unit_of(name) for name in distributions},
    )


def pairs(n_source: int, n_target: int, types: Sequence[str] = ("A",)) -> pl.DataFrame:
    """Return all connections between so many nodes, whose types take turns, in an odd order."""
    source, target = (ids.ravel() for ids in np.indices((n_source, n_target)))
    order = np.random.default_rng(5).permutation(source.size)
    names = np.array(types)
    return pl.DataFrame(
        {
            "source_node": source[order],
            "target_node": target[order],
            "source_type": names[source[order] % len(names)],
            "target_type": names[target[order] % len(names)],
        }
    )
