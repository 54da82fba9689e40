"""The reference's model files: connectome-manipulator's ConnPropsModel as JSON, in and out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.distributions import DISTRIBUTIONS
from connprops.errors import ConnpropsWarning, ModelError
from connprops.model import Laws, Model
from connprops.schema import N_SYN_PER_CONN

_TAIL = 1e-10
"""Probability that the values of an unbounded count may leave out at either end."""

_GRID = 256
"""Values of equal probability that stand for a continuous law which the reference lacks."""

_REFERENCE = {d.reference_name: d for d in DISTRIBUTIONS.values() if d.reference_name}


def to_json(model: Model) -> str:
    """Return a model as the reference's JSON, strictly valid.

    Families that the reference lacks become others that it has: exact where there is one
    (exponential is gamma), else values with probabilities. A warning names them.
    """
    stats: dict[str, Any] = {}
    for name in model.properties:
        stats[name] = _property(model, name)
    content = {
        "src_types": model.source_types,
        "tgt_types": model.target_types,
        "prop_stats": stats,
        "prop_cov": {},
        "data_keys": [],
        "model": "ConnPropsModel",
        "__version_info__": {"connprops": schema.VERSION},
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _property(model: Model, name: str) -> dict[str, dict[str, Any]]:
    """Return one property's laws as the reference nests them."""
    about = model.table.filter(pl.col("property") == name).unique(["source_type", "target_type"])
    of_pathway = {
        (row["source_type"], row["target_type"]): row for row in about.iter_rows(named=True)
    }
    nested: dict[str, dict[str, Any]] = {source: {} for source in model.source_types}
    for laws in model.laws(name):
        for place, spec in zip(laws.pathway.tolist(), _specifications(laws, name), strict=True):
            source = model.source_types[place // len(model.target_types)]
            target = model.target_types[place % len(model.target_types)]
            row = of_pathway[source, target]
            if name != N_SYN_PER_CONN:
                spec["shared_within"] = float(row["shared_within"])
            spec["dtype"] = row["dtype"]
            for bound in ("lower_bound", "upper_bound"):
                if row[bound] is not None:
                    spec[bound] = row[bound]
            nested[source][target] = spec
    order = model.target_types
    return {s: {t: of[t] for t in order if t in of} for s, of in nested.items()}


def _specifications(laws: Laws, name: str) -> list[dict[str, Any]]:
    """Return type and parameters of each pathway, in the reference's words."""
    family = laws.family
    if family.reference_name is not None:
        return [
            {"type": family.reference_name} | {
                p.name: _plain(laws.parameters[p.name][i]) for p in family.parameters
            }
            for i in range(laws.pathway.size)
        ]  # fmt: skip
    if family.name == "exponential":  # a gamma distribution of shape 1
        means = laws.parameters["mean"].tolist()
        return [{"type": "gamma", "mean": mean, "std": mean} for mean in means]
    if family.name == "uniform":
        low, high = laws.parameters["min"], laws.parameters["max"]
        wide = 1e4 * (high - low)  # so wide a normal law is level between the bounds
        return [
            {"type": "truncnorm", "norm_loc": (a + b) / 2, "norm_scale": s, "min": a, "max": b}
            for a, b, s in zip(low.tolist(), high.tolist(), wide.tolist(), strict=True)
        ]
    exact = family.kind == "discrete"
    warnings.warn(
        f"model.json: the reference has no {family.name!r}; property {name!r} is written as "
        + ("its counts with their probabilities" if exact else f"{_GRID} equally probable values")
        + f" in {laws.pathway.size} pathways",
        ConnpropsWarning,
        stacklevel=6,
    )
    tabulate: Callable[[Laws], tuple[NDArray[Any], NDArray[Any]]] = _counts if exact else _grid
    listed = (tabulate(laws.take(np.array([i]))) for i in range(laws.pathway.size))
    return [{"type": "discrete", "val": v.tolist(), "p": p.tolist()} for v, p in listed]


def _plain(value: Any) -> Any:
    """Return a parameter as JSON has it; a list without its padding."""
    array = np.asarray(value)
    return float(array) if array.ndim == 0 else array[~np.isnan(array)].tolist()


def _counts(law: Laws) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of a count law, but for its tails, and their probabilities."""
    low, high = (float(law.family.ppf(np.array([[q]]), law.parameters)[0, 0])
                 for q in (_TAIL, 1 - _TAIL))  # fmt: skip
    values = np.arange(low, high + 1)
    p = np.exp(law.family.logpdf(values[None, :], law.parameters))[0]
    return values, p / p.sum()


def _grid(law: Laws) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the middle quantiles of so many slices of equal probability."""
    q = (np.arange(_GRID) + 0.5) / _GRID
    values = law.family.ppf(q[None, :], law.parameters)[0]
    return values, np.full(_GRID, 1 / _GRID)


def from_json(path: str | Path) -> Model:
    """Read a model that the reference wrote, or :func:`to_json`.

    Keys that begin with two underscores are passed over, as the reference does. Classes and
    layers of types, standard errors and levels are not in such files: they are null, and all
    pathways count as observed.

    Raises
    ------
    ModelError
        Where the file is missing, not valid JSON, or not such a model.
    """
    file = Path(path)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["model"] != "ConnPropsModel":
            raise ModelError.of(
                f"{file} is another kind of model",
                found=repr(content["model"]),
                expected="'ConnPropsModel'",
            )
        source, target = list(content["src_types"]), list(content["tgt_types"])
        stats: Mapping[str, Any] = content["prop_stats"]
        rows = [
            row
            for name in stats
            for s in source
            for t in target
            for row in _rows(name, s, t, stats[name][s][t])
        ]
    except OSError as error:
        raise ModelError.of(f"{file} cannot be read", found=str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError.of(
            f"{file} is not a model of connectome-manipulator",
            found=f"{type(error).__name__}: {error}",
        ) from error
    sides = {"source": source, "target": target}
    types = pl.DataFrame(
        [(side, i, name, None, None, 0) for side in sides for i, name in enumerate(sides[side])],
        schema=schema.TYPES.polars_schema(),
        orient="row",
    )
    table = pl.DataFrame(rows, schema=schema.MODEL.polars_schema(), orient="row")
    units = {name: schema.unit_of(name) for name in stats}
    return Model(table, types=types, units=units, facts={"source": file.name})


def _rows(name: str, source: str, target: str, spec: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the model rows of one law of the reference."""
    family = _REFERENCE.get(spec["type"])
    if family is None:
        raise ModelError.unknown(
            f"distribution of {name!r} for {source!r} to {target!r}", spec["type"], _REFERENCE
        )
    shared = None if name == N_SYN_PER_CONN else bool(spec.get("shared_within", True))
    dtype = "int" if str(spec.get("dtype", "float")).lstrip("u").startswith("int") else "float"
    about = (-1, shared, dtype, spec.get("lower_bound"), spec.get("upper_bound"))
    parameters = [(p.name, spec[p.name]) for p in family.parameters] or [("mean", 0.0)]
    return [
        (source, target, name, family.name, parameter, position, float(value), None, *about)
        for parameter, values in parameters
        for position, value in enumerate(values if isinstance(values, list) else [values])
    ]
