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
from connprops.aggregate import RANKS_AT_MOST
from connprops.distributions import DISTRIBUTIONS, Distribution, distribution
from connprops.errors import ConnpropsWarning, OptionError
from connprops.goodness import ks, wasserstein
from connprops.levels import OBSERVED, Levels, borrowed_levels
from connprops.model import Model
from connprops.samples import Sample, weighted_points
from connprops.schema import N_SYN_PER_CONN, unit_of
from connprops.statistics import Property, Statistics

Floats = NDArray[np.float64]
Progress = Callable[[str, int, int, str], None]
DistrType = str | Sequence[str]

AUTO = "auto"
CONTINUOUS = ("normal", "truncnorm", "gamma", "lognormal", "weibull", "exponential", "uniform")
COUNTS = ("poisson", "ztpoisson", "shifted_poisson", "geometric", "negative_binomial", "discrete")

_FALLBACKS = ("constant", "discrete", "truncnorm", "uniform")
"""What is tried, in this order, where the family asked for cannot be fitted."""

_COMPARED_FROM = 10
"""Pathways with fewer values take no part in the choice of a family: they favour any."""

_NEGATIVE_AT_MOST = 1e-3
"""Mass below zero that a family may have, as a mean over pathways, where no value is negative."""


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
    tables = _Tables.of(stats)
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
class _Tables:
    """The statistics tables, and the pathways by their place in the matrix of types."""

    statistics: pl.DataFrame
    values: pl.DataFrame
    order_statistics: pl.DataFrame
    source: pl.DataFrame
    target: pl.DataFrame
    observed: NDArray[np.intp]  # pathways with data: source index * number of targets + target

    @classmethod
    def of(cls, stats: Statistics) -> _Tables:
        sides = {
            side: stats.types.filter(pl.col("side") == side).sort("code").with_row_index("index")
            for side in ("source", "target")
        }
        n_target = len(sides["target"])

        def placed(frame: pl.LazyFrame) -> pl.DataFrame:
            """Return a table with the pathways as numbers, in order."""
            place = pl.col("source_type").to_physical().cast(pl.Int64) * n_target
            return (
                frame.collect()
                .with_columns((place + pl.col("target_type").to_physical()).alias("pathway"))
                .sort("pathway", maintain_order=True)
            )

        table = placed(stats.table)
        return cls(
            table,
            placed(stats.values),
            placed(stats.order_statistics),
            sides["source"],
            sides["target"],
            table["pathway"].unique().sort().to_numpy().astype(np.intp),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of source and target types."""
        return len(self.source), len(self.target)


@dataclass(frozen=True)
class _Frames:
    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def _fit_property(
    tables: _Tables, prop: Property, family: DistrType, settings: _Settings
) -> _Frames:
    """Fit one property of all pathways."""
    rows = tables.statistics.filter(pl.col("property") == prop.name).filter(pl.col("n") > 0)
    observed = _sample(rows, tables, prop)
    places = rows["pathway"].to_numpy().astype(np.intp)
    levels = borrowed_levels(tables.source, tables.target, places)
    chosen, scores = _chosen_family(family, observed, prop)
    samples = _with_pools(observed, levels)
    fitted = _fit_with_fallbacks(chosen, samples)
    shared = _shared(rows, levels, prop, settings)
    return _Frames(
        _model_rows(fitted, levels, shared, prop, settings, samples),
        _fit_rows(fitted, levels, samples, prop, places.size),
        scores.with_columns(pl.lit(prop.name).alias("property")),
    )


def _sample(rows: pl.DataFrame, tables: _Tables, prop: Property) -> Sample:
    """Return the samples of the pathways in ``rows``: moments, and weighted points.

    The points are the distinct values where these were few, else the order statistics, each
    with the ranks nearest to it.
    """
    index = rows.select("pathway", pl.int_range(pl.len()).alias("group"))
    values = tables.values.filter(pl.col("property") == prop.name).join(
        index, on="pathway", maintain_order="left"
    )
    sorted_samples = (
        tables.order_statistics.filter(pl.col("property") == prop.name)
        .join(index, on="pathway", maintain_order="left")
        .join(values, on="group", how="anti", maintain_order="left")
        .join(rows.select("pathway", "n"), on="pathway", maintain_order="left")
    )
    kept = sorted_samples["rank"].list.len().to_numpy().astype(np.intp)
    weights = _rank_weights(sorted_samples, kept)
    group = np.concatenate([values["group"].to_numpy(),
                            np.repeat(sorted_samples["group"].to_numpy(), kept)])  # fmt: skip
    value = np.concatenate([values["value"].to_numpy(),
                            sorted_samples["value"].explode(empty_as_null=False).to_numpy()])  # fmt: skip
    weight = np.concatenate([values["count"].to_numpy().astype(np.float64), weights])
    points, weights, few = weighted_points(group.astype(np.intp), value, weight, len(rows))
    whole = np.zeros(len(rows), dtype=np.bool_)
    whole[values["group"].unique().to_numpy()] = True
    n = rows["n"].to_numpy().astype(np.float64)
    moments = {
        name: rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        for name in ("mean", "std", "min", "max", "mean_log", "std_log", "skewness", "kurtosis")
    }
    return Sample(
        n=n,
        **moments,
        value=points,
        weight=weights,
        exact=few & (whole | (n <= RANKS_AT_MOST)),
        is_integer=prop.dtype.startswith(("int", "uint")),
    )


def _rank_weights(samples: pl.DataFrame, kept: NDArray[np.intp]) -> Floats:
    """Return how many values each order statistic stands for: half way to its neighbours."""
    if not kept.size:
        return np.empty(0)
    rank = samples["rank"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    last = np.cumsum(kept) - 1
    upper = np.empty(rank.size)
    upper[:-1] = (rank[:-1] + rank[1:]) / 2 + 0.5
    upper[last] = samples["n"].to_numpy()
    lower = np.empty(rank.size)
    lower[1:] = upper[:-1]
    lower[last - kept + 1] = 0.0
    return upper - lower


def _with_pools(observed: Sample, levels: Levels) -> Sample:
    """Return the observed samples, then those pooled for pathways without data."""
    if not levels.n_pools:
        return observed
    n = len(observed)
    members = np.concatenate([np.arange(n), levels.member])
    to = np.concatenate([np.arange(n), n + levels.pool])
    return observed.take(members).pool(to, n + levels.n_pools)


def _chosen_family(
    family: DistrType, sample: Sample, prop: Property
) -> tuple[Distribution, pl.DataFrame]:
    """Return the family to fit, and the table of the candidates' scores."""
    if isinstance(family, str) and family != AUTO:
        return distribution(family), _no_scores()
    candidates = _candidates(sample, prop) if isinstance(family, str) else tuple(family)
    if len(candidates) == 1:
        return distribution(candidates[0]), _no_scores()
    compared = sample.take((sample.n >= _COMPARED_FROM) & (sample.std > 0))
    if not len(compared):
        compared = sample.take(sample.std > 0)
    if not len(compared):
        return distribution("constant"), _no_scores()
    scores = pl.concat([_score(distribution(name), compared) for name in candidates])
    best = scores.filter(pl.col("n_failed") == scores["n_failed"].min()).sort(
        "bic", "distribution", nulls_last=True
    )["distribution"][0]
    return distribution(best), scores.with_columns(
        (pl.col("bic") - pl.col("bic").min()).alias("delta_bic"),
        (pl.col("distribution") == best).alias("chosen"),
    )


def _candidates(sample: Sample, prop: Property) -> tuple[str, ...]:
    """Return the families that suit the data: their type, their support, how many values."""
    if not len(sample) or (sample.std == 0).all():
        return ("constant",)
    low = float(sample.min.min())
    if sample.is_integer or sample.whole.all():
        names = [name for name in COUNTS if _reaches(name, low)]
        return tuple(names) if sample.is_integer or prop.name == N_SYN_PER_CONN else ("discrete",)
    if _is_categorical(sample):
        return ("discrete",)
    names = [name for name in CONTINUOUS if _reaches(name, low)]
    if low >= 0 and "normal" in names:
        below = DISTRIBUTIONS["normal"].cdf(
            np.zeros(len(sample)), {"mean": sample.mean, "std": np.maximum(sample.std, 1e-300)}
        )
        if np.average(below, weights=sample.n) > _NEGATIVE_AT_MOST:
            names.remove("normal")
    return tuple(names)


def _reaches(name: str, low: float) -> bool:
    """Return whether a family can have values as low as the lowest."""
    least = {"poisson": 0, "negative_binomial": 0, "exponential": 0,
             "ztpoisson": 1, "shifted_poisson": 1, "geometric": 1}  # fmt: skip
    if name in ("gamma", "lognormal", "weibull"):
        return low > 0
    return low >= least.get(name, -np.inf)


def _is_categorical(sample: Sample) -> bool:
    """Return whether values repeat so much that they are a choice of a few, not a continuum."""
    distinct = (sample.weight > 0).sum(axis=1)
    varied = sample.std > 0
    return bool(sample.exact.all() and (distinct[varied] * 5 <= sample.n[varied]).all())


def _score(family: Distribution, sample: Sample) -> pl.DataFrame:
    """Return the summed log-likelihood and BIC of a family over pathways."""
    estimate = family.fit(sample)
    ok = estimate.status == "ok"
    loglik = family.loglik(sample, estimate.parameters)
    free = family.n_free(estimate.parameters)
    ok &= np.isfinite(loglik)
    bic = free * np.log(sample.n) - 2 * loglik
    return pl.DataFrame(
        {
            "distribution": [family.name],
            "n_pathways": [len(sample)],
            "n_failed": [int((~ok).sum())],
            "loglik": [float(loglik[ok].sum())],
            "bic": [float(bic[ok].sum()) if ok.all() else None],
        },
        schema_overrides={"n_pathways": pl.Int64, "n_failed": pl.Int64, "bic": pl.Float64},
    )


def _no_scores() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            column.name: pl.String if column.dtype is pl.Enum else column.dtype
            for column in schema.SCORES.columns
            if column.name != "property"
        }
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
        fitted = estimate.status == "ok"
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
    overall = bool(votes.sum() > 0) if known.any() else True
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
            "parameter": pl.repeat("value", place.size, eager=True),
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
        with np.errstate(divide="ignore"):
            correction = np.where(room > 0, 2 * free * (free + 1) / room, np.nan)
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
    frame: pl.DataFrame, table: schema.Table, tables: _Tables, names: pl.Enum
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
    enums = {
        "property": names,
        "distribution": pl.Enum(list(DISTRIBUTIONS)),
        "parameter": pl.Enum(sorted({"value"}.union(*(
            (p.name for p in d.parameters) for d in DISTRIBUTIONS.values())))),
        "status": pl.Enum(["ok", "fallback", "failed"]),
        "dtype": pl.Enum(["int", "float"]),
    }  # fmt: skip
    return frame.select(
        pl.col(c.name).cast(
            enums.get(c.name, pl.col(c.name)) if c.dtype is pl.Enum and c.name in enums
            else frame.schema[c.name] if c.dtype is pl.Enum else c.dtype
        )
        for c in table.columns
    ).sort(table.keys)  # fmt: skip
