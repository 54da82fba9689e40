"""The reference's model files: connectome-manipulator's ConnPropsModel as JSON, in and out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Floats
from connprops.distributions.copula import nearest_correlations
from connprops.distributions.distributions import Distributions
from connprops.distributions.table import ModelTable
from connprops.errors import ConnpropsWarning, ModelError, listing
from connprops.families.registry import REFERENCE_FAMILIES
from connprops.pathways import Pathways
from connprops.schema import N_SYN_PER_CONN
from connprops.store import sealed
from connprops.store.folder import Folder

_KIND = "ConnPropsModel"
_UNSEALED = "0" * 64
"""What is in the place of the text's checksum while that is computed."""

_TAIL = 1e-10
"""Probability that the counts of a distribution without end may leave out at either end."""

_REWRITTEN = ("exponential", "uniform")
"""Families that are written as others that the reference has."""

_VALUES = 256
"""How many values stand for a distribution that the reference lacks, at most."""

# Of equal steps s, slices s^3 / (s^3 + (1 - s)^3) leave mean and std of skewed distributions nearly
# as they are, which slices of equal probability, too wide in the tails, do not.
_STEPS = np.linspace(0, 1, _VALUES + 1)
_SLICES = _STEPS**3 / (_STEPS**3 + (1 - _STEPS) ** 3)

_SPEC_DEPTH = 4
"""How deep the distributions lie in the nested objects of a file."""

_SPREAD = {"normal": "std", "truncnorm": "norm_scale", "gamma": "std", "poisson": "mean"}
"""The families that the reference can correlate, each with what must not be 0."""

_SHARED_FROM = 0.5
"""Correlation within connections from which on a value is written as shared, below as independent.
"""

_MOVED = 1e-3
"""How far correlations may be moved without a warning, to be those of a normal distribution."""

Spec = dict[str, Any]
"""Type and parameters of one distribution, in the reference's words."""

Nested = Mapping[str, Mapping[str, Any]]
"""By source type and target type."""

M = TypeVar("M", bound=ModelTable)


def to_json(model: ModelTable) -> str:
    """Return a model as the reference's JSON, strictly valid, one distribution a line.

    Families that the reference lacks become others that it has. Without loss: exponential is
    gamma, uniform is truncnorm of a wide normal distribution, and counts that take few values are
    listed with their probabilities. The others become :data:`_VALUES` values: the medians of as
    many slices of the distribution, narrower towards its tails, with the slices' probabilities. A
    warning names property, family and what is lost. Correlations are written as far as the
    reference can have them: see :func:`_correlations_of`.

    Raises
    ------
    ModelError
        Where a pathway has no distribution, which the reference does not allow.
    """
    distributions = {name: _property(model, name) for name in model.properties}
    _warn_of_within(model)
    _warn_of_families(model)
    correlations = _correlations_of(model, distributions)
    about = {k: model.facts[k] for k in ("generation",) if k in model.facts}
    return as_text(model.source_types, model.target_types, distributions, correlations, **about)


def numbers_of(model: ModelTable, enough: int) -> int:
    """Return how many numbers the JSON of a model would have at most; counting ends with enough.

    They are parameters, of which each distribution has one at least, and the values of lists.
    """
    total = len(model.pathways) * len(model.properties)
    if total > enough:
        return total
    return sum(
        sum(values.size for values in distributions.parameters.values())
        if distributions.family.name in (*REFERENCE_FAMILIES, *_REWRITTEN)
        else 2 * _VALUES * len(distributions)
        for name in model.properties
        for distributions in model.distributions(name)
    )


def as_text(
    source_types: Sequence[str],
    target_types: Sequence[str],
    prop_stats: Mapping[str, Any],
    prop_cov: Mapping[str, Any],
    **facts: Any,
) -> str:
    """Return the JSON of a model file from what stands in it, one distribution a line.

    ``facts`` go where readers do not look, beside the version, and with them the text's checksum.
    """
    fields = {
        "src_types": json.dumps(source_types),
        "tgt_types": json.dumps(target_types),
        "prop_stats": _nested(prop_stats),
        "prop_cov": json.dumps(prop_cov, allow_nan=False),
        "data_keys": "[]",
        "model": json.dumps(_KIND),
        "__version_info__": json.dumps(
            {"connprops": schema.VERSION, **facts, sealed.KEY: sealed.UNSEALED}
        ),
    }
    text = "{\n" + ",\n".join(f'  "{key}": {text}' for key, text in fields.items()) + "\n}\n"
    before, _, after = text.rpartition(_UNSEALED)
    return before + hashlib.sha256(text.encode()).hexdigest() + after


def _nested(distributions: Mapping[str, Any], depth: int = 2) -> str:
    """Return the JSON of distributions by property, source and target type: each on a line."""
    last = depth == _SPEC_DEPTH
    lines = (
        f"{'  ' * depth}{json.dumps(key)}: "
        + (json.dumps(of_key, allow_nan=False) if last else _nested(of_key, depth + 1))
        for key, of_key in distributions.items()
    )
    return "{\n" + ",\n".join(lines) + f"\n{'  ' * (depth - 1)}}}"


def _by_types(pathways: Pathways, values: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return values of all pathways, in the order of their numbers, as the reference nests them."""
    following = iter(values)
    return {s: {t: next(following) for t in pathways.target_types} for s in pathways.source_types}


def _property(model: ModelTable, name: str) -> dict[str, dict[str, Spec]]:
    """Return one property's distributions as the reference nests them."""
    pathways = model.pathways
    rows = model.marginals.filter(pl.col("property") == name).unique(schema.PATHWAY)
    within = dict(rows.select(pathways.number_of_row, "within_correlation").iter_rows())
    specs: dict[int, Spec] = {}
    for distributions in model.distributions(name):
        numbers = distributions.pathway.tolist()
        bounds = zip(distributions.lower.tolist(), distributions.upper.tolist(), strict=True)
        of_family = _specs(distributions)
        for number, spec, (lower, upper) in zip(numbers, of_family, bounds, strict=True):
            if within[number] is not None:
                spec["shared_within"] = float(within[number] >= _SHARED_FROM)
            spec["dtype"] = model.dtype(name)
            for bound, value in (("lower_bound", lower), ("upper_bound", upper)):
                if np.isfinite(value):
                    spec[bound] = value
            specs[number] = spec
    for number in range(len(pathways)):
        if number not in specs:
            source, target = pathways.names(number)
            raise ModelError.of(
                f"The model has no {name!r} for pathway {source!r} to {target!r}",
                expected="every property of every pathway, in the reference's format",
            )
    return _by_types(pathways, (specs[number] for number in range(len(pathways))))


def _warn_of_within(model: ModelTable) -> None:
    """Say what is lost where values of a connection are alike, though they are not shared."""
    within = pl.col("within_correlation")
    lost = model.marginals.filter(within > 0, within < 1)
    for written, is_it in (("shared", within >= _SHARED_FROM),
                           ("independent", within < _SHARED_FROM)):  # fmt: skip
        of = lost.filter(is_it)
        if len(of):
            low, high = of.select(within.min().alias("low"), within.max().alias("high")).row(0)
            names = listing(of["property"].cast(pl.String).unique(maintain_order=True))
            warnings.warn(
                "connectome-manipulator has no correlation within connections: its JSON has the "
                f"values of {names} as {written} within connections where they correlate by "
                f"{low:.2f} to {high:.2f}",
                ConnpropsWarning,
                stacklevel=3,
            )


def _warn_of_families(model: ModelTable) -> None:
    """Say which properties have distributions that the reference lacks, and what they become."""
    families: dict[str, list[str]] = {}
    for name in model.properties:
        for family in sorted({d.family.name for d in model.distributions(name)}):
            if family not in (*REFERENCE_FAMILIES, *_REWRITTEN):
                families.setdefault(family, []).append(name)
    if families:
        lacking = ", ".join(f"{f!r} (for {listing(names)})" for f, names in families.items())
        warnings.warn(
            f"connectome-manipulator has no {lacking}: its JSON lists values with their "
            f"probabilities instead, counts but for {2 * _TAIL:g} in the tails, and {_VALUES} "
            "values where there are more, off by some 1 % of a standard deviation on average",
            ConnpropsWarning,
            stacklevel=3,
        )


def _specs(distributions: Distributions) -> list[Spec]:
    """Return type and parameters of each pathway."""
    family, values = distributions.family, dict(distributions.parameters)
    kind = family.name if family.name in REFERENCE_FAMILIES else None
    if kind == "discrete":
        return _listed(values["val"], values["p"])
    if family.name == "exponential":  # a gamma distribution of shape 1
        kind, values = "gamma", {"mean": values["mean"], "std": values["mean"]}
    elif family.name == "uniform":
        low, high = values["min"], values["max"]
        wide = 1e4 * (high - low)  # so wide a normal distribution is level between the bounds
        kind = "truncnorm"
        values = {"norm_loc": (low + high) / 2, "norm_scale": wide, "min": low, "max": high}
    if kind is None:
        return _tabulated(distributions)
    kinds = pl.repeat(kind, len(distributions), eager=True)
    specs = pl.DataFrame({"type": kinds, **values}).to_dicts()
    if kind == "gamma":
        # The reference cannot draw from gamma distributions of mean 0, which are nothing but 0.
        return [spec if spec["mean"] else {"type": "constant", "mean": spec["mean"]}
                for spec in specs]  # fmt: skip
    return specs


def _listed(values: Floats, p: Floats) -> list[Spec]:
    """Return discrete distributions (g, k) without padding: values or probabilities of NaN."""
    kept = ~np.isnan(values) & ~np.isnan(p)
    return [
        {"type": "discrete", "val": v[k].tolist(), "p": q[k].tolist()}
        for v, q, k in zip(values, p, kept, strict=True)
    ]


def _tabulated(distributions: Distributions) -> list[Spec]:
    """Return discrete distributions in place of those the reference lacks."""
    family, specs = distributions.family, {}
    few = np.zeros(len(distributions), dtype=bool)
    if family.kind == "discrete":
        first, last = (family.ppf(np.full(few.shape, q), distributions.parameters)
                       for q in (_TAIL, 1 - _TAIL))  # fmt: skip
        few = last - first < _VALUES
        rows = np.flatnonzero(few)
        counts = first[rows, None] + np.arange(_VALUES)
        p = np.exp(family.logpdf(counts, distributions.take(rows).parameters))
        p[counts > last[rows, None]] = np.nan
        specs = dict(zip(rows.tolist(), _listed(counts, p / np.nansum(p, axis=1)[:, None]),
                         strict=True))  # fmt: skip
    rows = np.flatnonzero(~few)
    medians = family.ppf(
        np.tile((_SLICES[1:] + _SLICES[:-1]) / 2, (rows.size, 1)),
        distributions.take(rows).parameters,
    )
    p = np.broadcast_to(np.diff(_SLICES), medians.shape)
    specs |= zip(rows.tolist(), _listed(medians, p), strict=True)
    return [specs[i] for i in range(few.size)]


def _correlations_of(model: ModelTable, specs: Mapping[str, Nested]) -> dict[str, Any]:
    """Return the correlations of a model, as far as the reference can have them.

    Properties are left out, with a warning that says why, where some pathway has another family,
    or where some pathways share them and others do not. Of those shared and those not, the more
    are written.
    """
    copulas = {shared: model.copulas(shared=shared) for shared in (True, False)}
    correlated = {name for of_flag in copulas.values() for name in of_flag.properties}
    reasons: dict[str, str] = {}
    by_flag: dict[bool, list[str]] = {True: [], False: []}
    for name in (name for name in model.properties if name in correlated):
        of_name = [spec for of_source in specs[name].values() for spec in of_source.values()]
        unfit = [s["type"] for s in of_name if not s.get(_SPREAD.get(s["type"], ""), 0)]
        flags = {bool(spec["shared_within"]) for spec in of_name}
        if unfit:
            families = listing(sorted(set(unfit)))
            reasons[name] = f"{families} in {len(unfit)} of {len(of_name)} pathways"
        elif len(flags) > 1:
            reasons[name] = "shared within connections in some pathways only"
        else:
            by_flag[flags.pop()].append(name)
    shared = len(by_flag[True]) >= len(by_flag[False])
    kept, others = by_flag[shared], by_flag[not shared]
    word = "" if shared else "not "
    for name in others:
        reasons[name] = f"the {len(kept)} written ones are {word}shared, this is not so"
    if len(kept) == 1:
        reasons[kept.pop()] = "no other property is left that it could be correlated with"
    if reasons:
        left_out = "; ".join(f"{name!r} ({reason})" for name, reason in reasons.items())
        warnings.warn(
            "connectome-manipulator correlates normal, truncnorm, gamma and poisson distributions, "
            f"all or none of them shared: written without correlations are {left_out}",
            ConnpropsWarning,
            stacklevel=3,
        )
    if not kept:
        return {}
    pathways = model.pathways
    matrices = np.tile(np.eye(len(kept)), (len(pathways), 1, 1))
    for copula in copulas.values():
        pairs = [(i, copula.properties.index(name)) for i, name in enumerate(kept)
                 if name in copula.properties]  # fmt: skip
        for (i, own), (j, other) in product(pairs, pairs):
            matrices[copula.pathway, i, j] += copula.matrix[:, own, other] - (i == j)
    return {"props": kept, "cov": _by_types(pathways, (m.tolist() for m in matrices))}


class _Kind(msgspec.Struct):
    model: str


class _Correlations(msgspec.Struct):
    props: list[str] = []
    cov: dict[str, dict[str, list[list[float]]]] = {}


class _Content(_Kind):
    src_types: list[str]
    tgt_types: list[str]
    prop_stats: dict[str, dict[str, dict[str, Spec]]]
    prop_cov: _Correlations | None = None


class _About(msgspec.Struct):
    """What a distribution says beside its parameters."""

    type: str
    shared_within: bool | float = True
    dtype: str = "float"
    lower_bound: float | None = None
    upper_bound: float | None = None


def from_json(file: Path, kind: Callable[..., M], folder: Folder) -> M:
    """Read a model that the reference wrote, or :func:`to_json`, as ``kind``, from its ``folder``.

    Keys that begin with two underscores are passed over, as the reference does. Such files tell
    neither classes, layers and numbers of nodes of types, which are null and 0, nor levels and
    standard errors: all pathways count as observed.

    Raises
    ------
    ModelError
        Where the file is missing, not valid JSON, or not such a model, or its distributions do not
        hold together.
    """
    try:
        with folder.open(file.name) as opened:
            text = sealed.checked(opened, file)
        folder.check(file.name, hashlib.sha256(text).hexdigest())
        raw = json.loads(text.decode())
        model = msgspec.convert(raw, _Kind).model
        if model != _KIND:
            raise ModelError.of(
                f"{file} is another kind of model", found=repr(model), expected=repr(_KIND)
            )
        content = msgspec.convert(raw, _Content)
        # Whatever the order in the file, the number of synapses comes last.
        properties = sorted(content.prop_stats, key=lambda name: name == N_SYN_PER_CONN)
        for names in (content.src_types, content.tgt_types, properties):
            _check_names(names)
        rows = _rows(content, properties)
    except OSError as error:
        raise ModelError.of(f"{file} cannot be read", found=str(error)) from error
    except (ValueError, KeyError, RecursionError, msgspec.ValidationError) as error:
        raise ModelError.of(
            f"{file} is not a model of connectome-manipulator",
            found=f"{type(error).__name__}: {error}",
        ) from error
    table = (
        pl.DataFrame(rows, schema=_ROW, orient="row")
        .with_columns(position=pl.int_ranges(pl.col("value").list.len(), dtype=pl.Int32))
        .explode("value", "position")
    )
    types = pl.DataFrame(
        [(side, i, name, None, None, 0)
         for side, names in (("source", content.src_types), ("target", content.tgt_types))
         for i, name in enumerate(names)],
        schema=schema.TYPES.polars_schema(),
        orient="row",
    )  # fmt: skip
    units = {name: schema.unit_of(name) for name in properties}
    return kind(table, types=types, units=units, facts={"source": file.name})


_ROW = schema.MODEL.polars_schema(value=pl.List(pl.Float64), position=pl.Int32())
for _name in ("position", *schema.ROW_KEYS[2:]):
    del _ROW[_name]

_UNKNOWN = (None, None, None, None)
"""Standard error, interval and own value of a parameter."""


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        name.encode()  # half of a surrogate pair is no name
    if len(set(names)) < len(names):
        raise ValueError(f"names occur twice in {names!r}")


def _rows(content: _Content, properties: Sequence[str]) -> list[tuple[Any, ...]]:
    """Return the parameters and correlations of a file, as rows of the model with lists."""
    rows: list[tuple[Any, ...]] = []
    about: dict[tuple[str, str, str], tuple[Any, ...]] = {}
    for name, source, target in product(properties, content.src_types, content.tgt_types):
        spec = content.prop_stats[name][source][target]
        said = msgspec.convert(spec, _About)
        place = f"{name!r} for {source!r} to {target!r}"
        if said.type not in REFERENCE_FAMILIES:
            raise ModelError.unknown(f"distribution of {place}", said.type, REFERENCE_FAMILIES)
        family = REFERENCE_FAMILIES[said.type]
        is_count = name == N_SYN_PER_CONN
        shared = None if is_count else bool(said.shared_within)
        dtype = "int" if is_count or said.dtype.startswith(("int", "uint")) else "float"
        within = None if shared is None else float(shared)
        about[name, source, target] = (
            -1, shared, within, dtype, said.lower_bound, said.upper_bound
        )  # fmt: skip
        # A distribution without parameters has one row all the same: the mean, 0.
        parameters = {p.name: spec[p.name] for p in family.parameters} or {"mean": 0.0}
        for parameter, value in parameters.items():
            values = msgspec.convert(value if isinstance(value, list) else [value], list[float])
            if not values:
                raise ValueError(f"{parameter!r} of {place} is empty")
            rows.append((source, target, name, None, family.name, parameter, values,
                         *_UNKNOWN, *about[name, source, target]))  # fmt: skip
    if content.prop_cov and (content.prop_cov.props or content.prop_cov.cov):
        names = content.prop_cov.props
        if not set(names) <= set(properties) - {N_SYN_PER_CONN} or len(set(names)) < len(names):
            raise ValueError(f"properties of 'prop_cov' are {names!r}")
        pairs = [
            sorted(pair, key=lambda i: properties.index(names[i]))
            for pair in combinations(range(len(names)), 2)
        ]
        pathways = list(product(content.src_types, content.tgt_types))
        matrices = _matrices([content.prop_cov.cov[s][t] for s, t in pathways], names)
        rows += [
            (source, target, names[i], names[j], schema.COPULA, schema.CORRELATION,
             [float(matrix[i, j])], *_UNKNOWN, *about[names[i], source, target])
            for (source, target), matrix in zip(pathways, matrices, strict=True)
            for i, j in pairs
        ]  # fmt: skip
    return rows


def _matrices(lists: Sequence[Any], names: Sequence[str]) -> Floats:
    """Return a file's matrices, or the nearest positive definite ones, with a warning."""
    matrices = np.array(lists, dtype=np.float64)
    if matrices.shape != (len(lists), len(names), len(names)):
        raise ValueError(f"matrices of 'prop_cov' are {matrices.shape[1:]} for {names!r}")
    is_correlation = (
        np.array_equal(matrices, matrices.swapaxes(1, 2))
        and (np.abs(matrices) <= 1).all()
        and (np.diagonal(matrices, axis1=1, axis2=2) == 1).all()
    )
    if not is_correlation:
        raise ValueError("'prop_cov' has matrices that hold no correlations")
    nearest = nearest_correlations(matrices)
    moved = float(np.abs(nearest - matrices).max(initial=0.0))
    if moved > _MOVED:
        warnings.warn(
            "correlations that no normal variables can have are replaced by the nearest ones, "
            f"off by up to {moved:.3f}",
            ConnpropsWarning,
            stacklevel=5,
        )
    return nearest
