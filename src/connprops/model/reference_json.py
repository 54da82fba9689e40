"""The reference's model files: connectome-manipulator's ConnPropsModel as JSON, in and out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Floats
from connprops.distributions.distributions import Distributions
from connprops.distributions.table import ModelTable
from connprops.errors import ConnpropsWarning, ModelError
from connprops.families.registry import REFERENCE_FAMILIES
from connprops.model.prop_cov import correlation_rows, prop_cov
from connprops.schema import N_SYN_PER_CONN

_TAIL = 1e-10
"""Probability that the counts of a distribution without end may leave out at either end."""

_VALUES = 256
"""How many values stand for a distribution that the reference lacks, at most."""

# Of equal steps s, slices s^3 / (s^3 + (1 - s)^3) leave mean and std of skewed distributions nearly
# as they are, which slices of equal probability, too wide in the tails, do not.
_STEPS = np.linspace(0, 1, _VALUES + 1)
_SLICES = _STEPS**3 / (_STEPS**3 + (1 - _STEPS) ** 3)

_DISTRIBUTION_DEPTH = 4
"""How deep the distributions lie in the nested objects of a file."""


def to_json(model: ModelTable) -> str:
    """Return a model as the reference's JSON, strictly valid, one distribution a line.

    Families that the reference lacks become others that it has. Without loss: exponential is
    gamma, uniform is truncnorm of a wide normal distribution, and counts that take few values are
    listed with their probabilities. The others become :data:`_VALUES` values: the medians of as
    many slices of the distribution, narrower towards its tails, with the slices' probabilities. A
    warning names property, family and what is lost. Correlations are written as far as the
    reference can have them: see :func:`connprops.model.prop_cov.prop_cov`.

    Raises
    ------
    ModelError
        Where a pathway has no distribution, which the reference does not allow.
    """
    distributions = {name: _property(model, name) for name in model.properties}
    correlated = prop_cov(model, distributions)
    return as_text(model.source_types, model.target_types, distributions, correlated)


def as_text(
    source_types: Sequence[str],
    target_types: Sequence[str],
    prop_stats: Mapping[str, Any],
    prop_cov: Mapping[str, Any],
    **facts: Any,
) -> str:
    """Return the JSON of a model file from what stands in it, one distribution a line.

    ``facts`` go where readers do not look, beside the version.
    """
    fields = {
        "src_types": json.dumps(source_types),
        "tgt_types": json.dumps(target_types),
        "prop_stats": _nested(prop_stats),
        "prop_cov": json.dumps(prop_cov, allow_nan=False),
        "data_keys": "[]",
        "model": '"ConnPropsModel"',
        "__version_info__": json.dumps({"connprops": schema.VERSION, **facts}),
    }
    return "{\n" + ",\n".join(f'  "{key}": {text}' for key, text in fields.items()) + "\n}\n"


def _nested(distributions: Mapping[str, Any], depth: int = 2) -> str:
    """Return the JSON of distributions by property, source and target type: each on a line."""
    last = depth == _DISTRIBUTION_DEPTH
    lines = (
        f"{'  ' * depth}{json.dumps(key)}: "
        + (json.dumps(of_key, allow_nan=False) if last else _nested(of_key, depth + 1))
        for key, of_key in distributions.items()
    )
    return "{\n" + ",\n".join(lines) + f"\n{'  ' * (depth - 1)}}}"


def _property(model: ModelTable, name: str) -> dict[str, dict[str, Any]]:
    """Return one property's distributions as the reference nests them."""
    about = model.marginals.filter(pl.col("property") == name).unique(schema.PATHWAY)
    of_pathway = {
        (row["source_type"], row["target_type"]): row for row in about.iter_rows(named=True)
    }
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for distributions in model.distributions(name):
        for place, spec in zip(
            distributions.pathway.tolist(), _specifications(distributions, name), strict=True
        ):
            source, target = divmod(place, len(model.target_types))
            pathway = model.source_types[source], model.target_types[target]
            row = of_pathway[pathway]
            if row["shared_within"] is not None:
                spec["shared_within"] = float(row["shared_within"])
            spec["dtype"] = row["dtype"]
            for bound in ("lower_bound", "upper_bound"):
                if row[bound] is not None and np.isfinite(row[bound]):
                    spec[bound] = row[bound]
            found[pathway] = spec
    for pathway in product(model.source_types, model.target_types):
        if pathway not in found:
            raise ModelError.of(
                f"The model has no {name!r} for pathway {pathway[0]!r} to {pathway[1]!r}",
                expected="every property of every pathway, in the reference's format",
            )
    return {s: {t: found[s, t] for t in model.target_types} for s in model.source_types}


def _specifications(distributions: Distributions, name: str) -> list[dict[str, Any]]:
    """Return type and parameters of each pathway, in the reference's words."""
    family, values = distributions.family, distributions.parameters
    if family.reference_name == "discrete":
        return _listed(values["val"], values["p"])
    if family.name in ("gamma", "exponential"):  # which is a gamma distribution of shape 1
        means, stds = values["mean"].tolist(), values.get("std", values["mean"]).tolist()
        return [
            # The reference cannot draw from gamma distributions of mean 0, which are nothing but 0.
            {"type": "gamma", "mean": m, "std": s} if m else {"type": "constant", "mean": m}
            for m, s in zip(means, stds, strict=True)
        ]
    if family.reference_name is not None:
        names = [p.name for p in family.parameters]
        columns = [values[name].tolist() for name in names]
        return [
            {"type": family.reference_name}
            | {name: column[i] for name, column in zip(names, columns, strict=True)}
            for i in range(distributions.pathway.size)
        ]
    if family.name == "uniform":
        low, high = values["min"], values["max"]
        wide = 1e4 * (high - low)  # so wide a normal distribution is level between the bounds
        return [
            {"type": "truncnorm", "norm_loc": (a + b) / 2, "norm_scale": s, "min": a, "max": b}
            for a, b, s in zip(low.tolist(), high.tolist(), wide.tolist(), strict=True)
        ]
    return _tabulated(distributions, name)


def _listed(values: Floats, p: Floats) -> list[dict[str, Any]]:
    """Return discrete distributions (g, k) without padding: values or probabilities of NaN."""
    kept = ~np.isnan(values) & ~np.isnan(p)
    return [
        {"type": "discrete", "val": v[k].tolist(), "p": q[k].tolist()}
        for v, q, k in zip(values, p, kept, strict=True)
    ]


def _tabulated(distributions: Distributions, name: str) -> list[dict[str, Any]]:
    """Return discrete distributions in place of those the reference lacks, with a warning."""
    specs: dict[int, dict[str, Any]] = {}
    few = np.zeros(distributions.pathway.size, dtype=bool)
    if distributions.family.kind == "discrete":
        first, last = (distributions.family.ppf(np.full(few.shape, q), distributions.parameters)
                       for q in (_TAIL, 1 - _TAIL))  # fmt: skip
        few = last - first < _VALUES
        rows = np.flatnonzero(few)
        counts = first[rows, None] + np.arange(_VALUES)
        p = np.exp(distributions.family.logpdf(counts, distributions.take(rows).parameters))
        p[counts > last[rows, None]] = np.nan
        specs |= zip(rows.tolist(), _listed(counts, p / np.nansum(p, axis=1)[:, None]), strict=True)
    rows = np.flatnonzero(~few)
    medians = distributions.take(rows).family.ppf(
        np.tile((_SLICES[1:] + _SLICES[:-1]) / 2, (rows.size, 1)),
        distributions.take(rows).parameters,
    )
    p = np.broadcast_to(np.diff(_SLICES), medians.shape)
    specs |= zip(rows.tolist(), _listed(medians, p), strict=True)
    _warn(name, distributions.family.name, int(few.sum()), rows.size)
    return [specs[i] for i in range(distributions.pathway.size)]


def _warn(name: str, family: str, n_counts: int, n_slices: int) -> None:
    ways = (
        (n_counts, f"the counts with their probabilities, but for {2 * _TAIL:g} in the tails"),
        (n_slices, f"{_VALUES} values, off by some 1 % of a standard deviation on average"),
    )
    for n, way in ways:
        if n:
            warnings.warn(
                f"connectome-manipulator has no {family!r}: property {name!r} is written as "
                f"{way}, in {n} pathways",
                ConnpropsWarning,
                stacklevel=2,
            )


def from_json(path: str | Path) -> ModelTable:
    """Read a model that the reference wrote, or :func:`to_json`.

    Keys that begin with two underscores are passed over, as the reference does. Such files tell
    neither classes, layers and numbers of nodes of types, which are null and 0, nor levels and
    standard errors: all pathways count as observed.

    Raises
    ------
    ModelError
        Where the file is missing, not valid JSON, or not such a model, or its distributions do not
        hold together.
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
        source, target = _names(content["src_types"]), _names(content["tgt_types"])
        stats = content["prop_stats"]
        # Whatever the order in the file, the number of synapses comes last.
        properties = sorted(_names(stats.keys()), key=lambda name: name == N_SYN_PER_CONN)
        rows = [
            row
            for name, s, t in product(properties, source, target)
            for row in _rows(name, s, t, stats[name][s][t])
        ]
        about = {(row[2], row[0], row[1]): row[_ABOUT:] for row in rows}
        rows += correlation_rows(content.get("prop_cov") or {}, properties, (source, target), about)
        table = (
            pl.DataFrame(rows, schema=_ROW, orient="row")
            .with_columns(position=pl.int_ranges(pl.col("value").list.len(), dtype=pl.Int32))
            .explode("value", "position")
        )
    except OSError as error:
        raise ModelError.of(f"{file} cannot be read", found=str(error)) from error
    except _NOT_A_MODEL as error:
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
    units = {name: schema.unit_of(name) for name in properties}
    return ModelTable(
        table.select(schema.MODEL.names), types=types, units=units, facts={"source": file.name}
    )


_ROW = schema.MODEL.polars_schema(value=pl.List(pl.Float64), position=pl.Int32())
del _ROW["position"]
_ABOUT = list(_ROW).index("level")

_NOT_A_MODEL = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    pl.exceptions.PolarsError,
)  # fmt: skip
"""What comes of JSON of other shapes, numbers beyond float64, and objects nested without end."""


def _names(given: Any) -> list[str]:
    """Return names of types or properties, after checking that they are."""
    names = list(given)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is not a name")
        name.encode()  # half of a surrogate pair is none either
    if len(set(names)) < len(names):
        raise ValueError(f"names occur twice in {names!r}")
    return names


def _rows(name: str, source: str, target: str, spec: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return the parameters of a distribution of the reference, as rows of the model with lists."""
    family = REFERENCE_FAMILIES.get(spec["type"])
    if family is None:
        raise ModelError.unknown(
            f"distribution of {name!r} for {source!r} to {target!r}",
            spec["type"],
            REFERENCE_FAMILIES,
        )
    if name == N_SYN_PER_CONN:
        shared, dtype = None, "int"
    else:
        shared = bool(spec.get("shared_within", True))
        whole = str(spec.get("dtype", "float")).startswith(("int", "uint"))
        dtype = "int" if whole else "float"
    about = (-1, shared, dtype, *(_bound(spec.get(key)) for key in ("lower_bound", "upper_bound")))
    # A distribution without parameters has one row all the same: the mean, 0.
    parameters = {p.name: spec[p.name] for p in family.parameters} or {"mean": 0.0}
    rows = []
    for parameter, given in parameters.items():
        values = [float(v) for v in (given if isinstance(given, list) else [given])]
        if not values:
            raise ValueError(f"{parameter!r} of {name!r} for {source!r} to {target!r} is empty")
        rows.append((source, target, name, None, family.name, parameter, values, None, *about))
    return rows


def _bound(value: Any) -> float | None:
    return None if value is None else float(value)
