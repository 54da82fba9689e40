"""Fits: statistics in, a model out, with the evidence for it.

For each property, the pathways' samples are brought together from the statistics tables, and
pooled for the pathways without data. One family is chosen for the property, by evidence unless it
is named, and fitted to all pathways at once. A pathway that the family cannot be fitted to gets
the next one of its fallbacks, and its row says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.choice import AUTO, DistrType, chosen_family
from connprops.distributions import DISTRIBUTIONS, Distribution, distribution, ks, wasserstein
from connprops.errors import ConnpropsWarning, OptionError
from connprops.levels import Levels, borrowed_levels
from connprops.model import Model
from connprops.pathway_samples import (
    Tables,
    observed_rows,
    overall_shared,
    sample_of,
    with_pools,
)
from connprops.samples import Sample
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics import Property, Statistics

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int, str], None]
_FALLBACKS = ("constant", "discrete", "truncnorm", "uniform")
"""What is tried, in this order, where the family asked for cannot be fitted."""


@dataclass(frozen=True)
class _Fitted:
    """One property, fitted to samples: for each sample its family, and all there is to tell."""

    choice: NDArray[np.str_]
    parameters: dict[str, tuple[dict[str, Floats], dict[str, Floats]]]  # by family: values, errors
    status: NDArray[np.str_]
    message: list[str | None]


def build(
    stats: Statistics,
    *,
    distr_types: Mapping[str, DistrType] | None = None,
    data_types: Mapping[str, Literal["int", "float"]] | None = None,
    data_bounds: Mapping[str, Sequence[float | None]] | None = None,
    shared_within: Mapping[str, bool] | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit a model to statistics.

    Parameters
    ----------
    stats
        From :func:`connprops.statistics.extract` or :func:`~connprops.statistics.read_statistics`.
    distr_types
        For a property the name of its distribution, a list of candidates, or ``"auto"``: all that
        suit the data, which is the default. Among candidates the lowest BIC, summed over
        pathways, decides.
    data_types
        For a property ``"int"`` or ``"float"``, the type of drawn values; by default the data's.
    data_bounds
        For a property the bounds of drawn values, lower and upper; either may be None.
    shared_within
        For a property whether all synapses of a connection get one value, where it is not to
        be as in the data.
    progress
        Called as properties get done.

    Returns
    -------
    Model
        With one row set per pair of types and property; pathways without data borrow, see
        :mod:`connprops.levels`.

    Raises
    ------
    OptionError
        Where an option names an unknown property or distribution, or bounds are in disorder.
    """
    properties = stats.properties
    families = _checked_families(distr_types or {}, properties)
    settings = _Settings(
        _checked(data_types or {}, properties, "data_types", _checked_dtype),
        _checked(data_bounds or {}, properties, "data_bounds", _checked_bounds),
        _checked(shared_within or {}, properties, "shared_within", _checked_bool),
    )
    tables = Tables.of(stats)
    _warn_of_skipped_levels(tables)
    model, fits, scores = [], [], []
    for done, prop in enumerate(properties):
        if progress:
            progress("build", done, len(properties), "properties")
        one = _fit_property(tables, prop, families.get(prop.name, AUTO), settings)
        model.append(one.model)
        fits.append(one.fits)
        scores.append(one.scores)
    if progress:
        progress("build", len(properties), len(properties), "properties")
    names = pl.Enum([p.name for p in properties])
    return Model(
        _finished(pl.concat(model), schema.MODEL, tables, names),
        fits=_finished(pl.concat(fits), schema.FITS, tables, names),
        scores=_finished(pl.concat(scores), schema.SCORES, tables, names),
        types=stats.types,
        units={p.name: p.unit for p in properties},
        facts={
            "identity": stats.identity,
            "options": {
                "extract": stats.options,
                "build": {
                    "distr_types": {k: v if isinstance(v, str) else list(v)
                                    for k, v in families.items()},
                    "data_types": settings.dtypes,
                    "data_bounds": {k: list(v) for k, v in settings.bounds.items()},
                    "shared_within": settings.shared,
                },
            },
        },
    )  # fmt: skip


def _warn_of_skipped_levels(tables: Tables) -> None:
    """Say which levels of interpolation are out of reach, where pathways need to borrow."""
    n_source, n_target = tables.shape
    if tables.observed.size == n_source * n_target:
        return
    for attribute, levels in (("synapse_class", "0 to 3"), ("layer", "0 and 2")):
        sides = [
            name
            for name, types in (("source", tables.source), ("target", tables.target))
            if types[attribute].is_null().all()
        ]
        if sides:
            warnings.warn(
                f"no {' and no '.join(sides)} type has a {attribute}: pathways without data borrow "
                f"without the levels {levels} of the interpolation that need it",
                ConnpropsWarning,
                stacklevel=3,
            )


@dataclass(frozen=True)
class _Settings:
    dtypes: dict[str, Any]
    bounds: dict[str, Any]
    shared: dict[str, Any]


def _checked_families(
    given: Mapping[str, DistrType], properties: Sequence[Property]
) -> dict[str, DistrType]:
    def check(name: str, family: DistrType) -> DistrType:
        for one in [family] if isinstance(family, str) else family:
            if one != AUTO and one not in DISTRIBUTIONS:
                raise OptionError.unknown(
                    f"distribution for property {name!r}", one, [*DISTRIBUTIONS, AUTO]
                )
        if not isinstance(family, str) and not family:
            raise OptionError.of(f"distr_types has no candidate for property {name!r}")
        return family

    return _checked(given, properties, "distr_types", check)


def _checked(
    given: Mapping[str, Any],
    properties: Sequence[Property],
    option: str,
    check: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """Return an option by property, each name known and each value checked."""
    known = [p.name for p in properties]
    for name in given:
        if name not in known:
            raise OptionError.unknown(f"property in {option}", name, known)
    return {name: check(name, value) for name, value in given.items()}


def _checked_dtype(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    for dtype in ("int", "float"):
        if text.startswith(dtype) or (dtype == "int" and text.startswith("uint")):
            return dtype
    raise OptionError.unknown(f"data type for property {name!r}", text, ["int", "float"])


def _checked_bounds(name: str, value: Any) -> tuple[float | None, float | None]:
    try:
        lower, upper = (None if v is None else float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise OptionError.of(
            f"data_bounds of property {name!r} are not two bounds",
            found=repr(value),
            expected="[lower, upper], of which either may be null",
        ) from error
    if lower is not None and upper is not None and lower > upper:
        raise OptionError.of(
            f"data_bounds of property {name!r} exclude everything",
            found=f"lower {lower} above upper {upper}",
        )
    return lower, upper


def _checked_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise OptionError.of(
            f"shared_within of property {name!r} is neither true nor false", found=repr(value)
        )
    return bool(value)


@dataclass(frozen=True)
class _Frames:
    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def _fit_property(
    tables: Tables, prop: Property, family: DistrType, settings: _Settings
) -> _Frames:
    """Fit one property of all pathways."""
    rows = observed_rows(tables, prop)
    observed = sample_of(rows, tables, prop)
    places = rows["pathway"].to_numpy().astype(np.intp)
    levels = borrowed_levels(tables.source, tables.target, places)
    chosen, scores = chosen_family(family, observed, prop)
    samples = with_pools(observed, levels)
    fitted = _fit_with_fallbacks(chosen, samples)
    shared = _shared(rows, levels, prop, settings)
    return _Frames(
        _model_rows(fitted, levels, shared, prop, settings, samples),
        _fit_rows(fitted, levels, samples, prop, places.size),
        scores.with_columns(pl.lit(prop.name).alias("property")),
    )


def _fit_with_fallbacks(family: Distribution, samples: Sample) -> _Fitted:
    """Fit a family to all samples; where it can't be, the first of the fallbacks that can."""
    n = len(samples)
    choice = np.full(n, "", dtype="U32")
    status = np.full(n, "failed", dtype="U8")
    message: list[str | None] = [None] * n
    parameters = {}
    for name in dict.fromkeys([family.name, *_FALLBACKS]):
        left = np.flatnonzero(choice == "")
        if not left.size:
            break
        estimate = distribution(name).fit(samples.take(left))
        # A law without parameters has nothing to fit: it is taken at its user's word.
        fitted = (estimate.status == "ok") | (not family.parameters)
        rows = left[fitted]
        choice[rows] = name
        status[rows] = "ok" if name == family.name else "fallback"
        if name == family.name:
            for i, text in zip(left[~fitted], estimate.message[~fitted], strict=True):
                message[i] = f"{family.name}: {text}"
        if rows.size:
            parameters[name] = _expanded(estimate.parameters, estimate.std_error, fitted, rows, n)
    return _Fitted(choice, parameters, status, message)


def _expanded(
    values: Mapping[str, Floats],
    errors: Mapping[str, Floats],
    fitted: NDArray[np.bool_],
    rows: NDArray[np.intp],
    n: int,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return parameters of some samples as arrays over all, NaN for the others."""
    found: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for place, source in zip(found, (values, errors), strict=True):
        for name, array in source.items():
            place[name] = np.full((n, *array.shape[1:]), np.nan)
            place[name][rows] = array[fitted]
    return found


def _shared(
    rows: pl.DataFrame, levels: Levels, prop: Property, settings: _Settings
) -> list[bool | None]:
    """Return, for observed pathways and then pools, whether connections share the property.

    Where the data cannot tell, the pathways that can tell decide, each with as many votes as
    it has connections of two synapses or more; a tie means no, and none at all yes.
    """
    n = len(rows) + levels.n_pools
    if prop.name == N_SYN_PER_CONN:
        return [None] * n
    if prop.name in settings.shared:
        return [settings.shared[prop.name]] * n
    known = rows["shared_within"].is_not_null().to_numpy()
    says = rows["shared_within"].fill_null(value=False).to_numpy()
    votes = np.where(known, np.where(says, 1, -1) * rows["n_multi"].to_numpy(), 0)
    overall = bool(rows.select(overall_shared()).item()) if len(rows) else True
    observed = np.where(known, says, overall)
    pooled = np.bincount(levels.pool, weights=votes[levels.member], minlength=levels.n_pools)
    knowing = np.bincount(levels.pool, weights=known[levels.member], minlength=levels.n_pools)
    borrowed = np.where(knowing > 0, pooled > 0, overall)
    return [bool(s) for s in (*observed, *borrowed)]


def _model_rows(
    fitted: _Fitted,
    levels: Levels,
    shared: list[bool | None],
    prop: Property,
    settings: _Settings,
    samples: Sample,
) -> pl.DataFrame:
    """Return the long model rows of one property, for all pathways."""
    pieces = []
    place = np.concatenate([levels.observed, levels.missing])
    sample_of = np.concatenate([np.arange(levels.observed.size),
                                levels.observed.size + levels.pool_of_missing])  # fmt: skip
    for name, (values, errors) in fitted.parameters.items():
        for parameter, array in values.items():
            rows = np.flatnonzero(fitted.choice[sample_of] == name)
            taken = array[sample_of[rows]].reshape(rows.size, -1)
            error = errors[parameter][sample_of[rows]].reshape(rows.size, -1)
            filled = ~np.isnan(taken)
            row, position = np.nonzero(filled)
            pieces.append(
                pl.DataFrame(
                    {
                        "pathway": place[rows[row]],
                        "sample": sample_of[rows[row]],
                        "distribution": pl.repeat(name, row.size, eager=True),
                        "parameter": pl.repeat(parameter, row.size, eager=True),
                        "position": position.astype(np.int32),
                        "value": taken[filled],
                        "std_error": error[filled],
                    }
                )
            )
        if not values:  # a law without parameters still needs a row that says so
            rows = np.flatnonzero(fitted.choice[sample_of] == name)
            pieces.append(_bare_rows(name, place[rows], sample_of[rows]))
    about = pl.DataFrame(
        {
            "pathway": place,
            "level": levels.level,
            "shared_within": pl.Series([shared[i] for i in sample_of], dtype=pl.Boolean),
        }
    )
    lower, upper = settings.bounds.get(prop.name) or (_inferred_lower(fitted, samples), None)
    integer = samples.is_integer or prop.name == N_SYN_PER_CONN
    dtype = settings.dtypes.get(prop.name, "int" if integer else "float")
    return (
        pl.concat(pieces)
        .join(about, on="pathway", maintain_order="left")
        .with_columns(
            pl.col("std_error").fill_nan(None),
            pl.when(pl.col("distribution") == "zero")
            .then(pl.lit(value=False))
            .otherwise(pl.col("shared_within"))
            .alias("shared_within"),
            pl.lit(prop.name).alias("property"),
            pl.lit(dtype).alias("dtype"),
            pl.lit(lower, dtype=pl.Float64).alias("lower_bound"),
            pl.lit(upper, dtype=pl.Float64).alias("upper_bound"),
        )
    )


def _bare_rows(name: str, place: NDArray[np.intp], sample: NDArray[np.intp]) -> pl.DataFrame:
    """Return rows for a law without parameters: one a pathway, with the value it always gives."""
    return pl.DataFrame(
        {
            "pathway": place,
            "sample": sample,
            "distribution": pl.repeat(name, place.size, eager=True),
            "parameter": pl.repeat("mean", place.size, eager=True),
            "position": np.zeros(place.size, dtype=np.int32),
            "value": np.zeros(place.size),
            "std_error": np.full(place.size, np.nan),
        }
    )


def _inferred_lower(fitted: _Fitted, samples: Sample) -> float | None:
    """Return 0 where no value is negative but some law in use could give one."""
    if not len(samples) or np.nanmin(samples.min) < 0:
        return None
    return 0.0 if "normal" in fitted.parameters else None


def _fit_rows(
    fitted: _Fitted, levels: Levels, samples: Sample, prop: Property, n_observed: int
) -> pl.DataFrame:
    """Return the evidence of one property, for all pathways."""
    n = len(samples)
    found = {
        name: np.full(n, np.nan)
        for name in ("loglik", "aicc", "bic", "ks", "wasserstein", "model_mean", "model_std")
    }
    for name, (values, _) in fitted.parameters.items():
        rows = np.flatnonzero(fitted.choice == name)
        family, sample = distribution(name), samples.take(rows)
        parameters = {k: v[rows] for k, v in values.items()}
        free, loglik = family.n_free(parameters), family.loglik(sample, parameters)
        found["loglik"][rows] = loglik
        found["bic"][rows] = free * np.log(sample.n) - 2 * loglik
        # Hurvich and Tsai 1989, Biometrika 76:297-307.
        room = sample.n - free - 1
        correction = 2 * free * (free + 1) / np.where(room > 0, room, np.nan)
        found["aicc"][rows] = 2 * free - 2 * loglik + correction
        found["ks"][rows] = ks(sample, family, parameters)
        found["wasserstein"][rows] = wasserstein(sample, family, parameters)
        found["model_mean"][rows] = family.mean(parameters)
        found["model_std"][rows] = family.std(parameters)
    pooled = np.bincount(levels.pool, minlength=levels.n_pools)
    of_sample = pl.DataFrame(
        {
            "distribution": fitted.choice,
            "n_pathways": np.concatenate([np.ones(n_observed, dtype=np.int64), pooled]),
            "n": samples.n.astype(np.int64),
            "status": fitted.status,
            "message": pl.Series(fitted.message, dtype=pl.String),
            **found,
            "data_mean": samples.mean,
            "data_std": samples.std,
        }
    ).with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)))
    sample_of = np.concatenate([np.arange(n_observed), n_observed + levels.pool_of_missing])
    return of_sample[sample_of].with_columns(
        pl.Series("pathway", np.concatenate([levels.observed, levels.missing])),
        pl.Series("level", levels.level),
        pl.lit(prop.name).alias("property"),
    )


def _finished(
    frame: pl.DataFrame, table: schema.Table, tables: Tables, names: pl.Enum
) -> pl.DataFrame:
    """Return a table with types and names as Enums, its columns and rows in order."""
    if "pathway" in frame.columns:
        n_target = max(tables.shape[1], 1)
        for side, number in (
            ("source", pl.col("pathway") // n_target),
            ("target", pl.col("pathway") % n_target),
        ):
            types = getattr(tables, side)["type"]
            enum = pl.Enum(types.to_list())
            frame = frame.with_columns(
                types.cast(enum).gather(frame.select(number).to_series()).alias(f"{side}_type")
            )
    parameters = {p.name for family in DISTRIBUTIONS.values() for p in family.parameters}
    enums = {
        "property": names,
        "distribution": pl.Enum(list(DISTRIBUTIONS)),
        "parameter": pl.Enum(sorted(parameters)),
        "status": pl.Enum(["ok", "fallback", "failed"]),
        "dtype": pl.Enum(["int", "float"]),
    }  # fmt: skip
    dtypes = {
        c.name: enums.get(c.name, frame.schema[c.name]) if c.dtype is pl.Enum else c.dtype
        for c in table.columns
    }
    columns = [pl.col(name).cast(dtype) for name, dtype in dtypes.items()]
    return frame.select(columns).sort(table.keys)
