"""Fits: statistics in, a model out, with the evidence for it.

For each property, the pathways' samples are brought together from the statistics tables, and
pooled for the pathways without data. One family is chosen for the property, by evidence unless it
is named, and fitted to all pathways at once. A pathway that the family cannot be fitted to gets
the next one of its fallbacks, and its row says so.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.errors import ConnpropsWarning
from connprops.families.histogram import truncnorms_through_histograms
from connprops.families.registry import DISTRIBUTIONS, distribution, ks, wasserstein
from connprops.families.sample import Sample
from connprops.fits.build_options import Interpolation, Settings, TruncnormFit
from connprops.fits.choice import AUTO, Criterion, DistrType, aicc, bic, chosen_families, n_ends
from connprops.fits.copulas import copula_rows
from connprops.fits.fitted import Fitted, fit_with_fallbacks, with_unweighted_means
from connprops.fits.levels import Levels, borrowed_levels, level_keys
from connprops.fits.p_values import ks_p_values
from connprops.fits.samples import (
    Tables,
    histograms_of,
    observed_rows,
    overall_shared,
    sample_of,
    with_pools,
)
from connprops.fits.shrinkage import with_shrinkage
from connprops.model.model import Model
from connprops.progress import Progress
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.statistics import Property, Statistics

Floats = NDArray[np.float64]

_THREADS = 4
"""Properties that are fitted at once, at most: more are no faster."""

_BYTES_PER_PATHWAY = 70_000
"""What fitting a property takes for each pathway, while samples and candidates are compared."""

_SHARE_OF_FITS = 0.5
"""Share of the memory for properties being fitted: tables and finished fits have the rest."""


def build(
    stats: Statistics,
    *,
    distr_types: Mapping[str, DistrType] | None = None,
    criterion: Criterion = "aicc",
    data_types: Mapping[str, Literal["int", "float"]] | None = None,
    data_bounds: Mapping[str, Sequence[float | None]] | None = None,
    shared_within: Mapping[str, bool] | None = None,
    truncnorm: TruncnormFit = "mle",
    interpolation: Interpolation = "pooled",
    shrinkage: bool = False,
    p_values: int | None = None,
    correlations: bool = False,
    seed: int = 0,
    resources: Resources | None = None,
    progress: Progress | None = None,
) -> Model:
    """Fit a model to statistics.

    Parameters
    ----------
    stats
        From :func:`connprops.extract` or :func:`connprops.read_statistics`.
    distr_types
        For a property the name of its distribution, a list of candidates, or ``"auto"``: all that
        suit the data, which is the default. Among candidates the evidence of all pathways
        together decides; with ``"auto-per-pathway"`` each pathway chooses for itself.
    criterion
        What weighs the evidence: see :mod:`connprops.fits.choice`.
    data_types
        For a property ``"int"`` or ``"float"``, the type of drawn values; by default the data's.
    data_bounds
        For a property the bounds of drawn values, lower and upper; either may be None.
    shared_within
        For a property whether all synapses of a connection get one value, where it is not to
        be as in the data.
    truncnorm
        How truncated normal laws are fitted: by maximum likelihood, or ``"histogram"``: by the
        least squares of connectome-manipulator (:mod:`connprops.families.histogram`), which have no
        standard errors and no p-values.
    interpolation
        What pathways without data borrow: ``"pooled"``, a fit to all values of the pathways that
        they borrow from, or ``"unweighted"``, as in connectome-manipulator, the mean of the
        parameters of these, see ``fits.fitted.with_unweighted_means``; the majority of
        them decides whether connections share a value, and a tie means no.
    shrinkage
        Whether pathways with few values borrow from those of their level, weighed by evidence:
        see :mod:`connprops.fits.shrinkage`. ``borrowed`` in the fits says how much.
    p_values
        Number of samples to simulate for each p-value of the Kolmogorov-Smirnov distance, 200, say;
        None for no p-values. See ``fits.p_values.ks_p_values``; it takes about that many
        times as long as the fits, a millisecond per thousand simulated values.
    correlations
        Whether properties are correlated, by a Gaussian copula: see :mod:`connprops.fits.copulas`.
        Takes another pass over the data where the statistics were not read from files.
    seed
        Seed of these samples.
    resources
        Threads and memory, which decide how many properties are fitted at once.
    progress
        Called as properties get done.

    Returns
    -------
    Model
        With one row set per pair of types and property; pathways without data borrow, see
        :mod:`connprops.fits.levels`.

    Raises
    ------
    OptionError
        Where an option names an unknown property or distribution, or bounds are in disorder.
    """
    properties = stats.properties
    settings = Settings.checked(
        properties,
        distr_types=distr_types,
        criterion=criterion,
        data_types=data_types,
        data_bounds=data_bounds,
        shared_within=shared_within,
        truncnorm=truncnorm,
        interpolation=interpolation,
        shrinkage=shrinkage,
        p_values=p_values,
        correlations=correlations,
        seed=seed,
    )
    correlated = stats.correlations.collect() if settings.correlations else None
    tables = Tables.of(stats)
    _warn_of_skipped_levels(tables)
    model, fits, scores = [], [], []
    fitted = _fit_properties(stats, tables, settings, resources or Resources())
    for done, one in enumerate(fitted, 1):
        model.append(one.model)
        fits.append(one.fits)
        scores.append(one.scores)
        if progress:
            progress("build", done, len(properties), "properties")
    if correlated is not None:
        model.append(copula_rows(correlated, stats, tables, pl.concat(model)))
    names = pl.Enum([p.name for p in properties])
    return Model(
        _finished(pl.concat(model), schema.MODEL, tables, names),
        fits=_finished(pl.concat(fits), schema.FITS, tables, names),
        scores=_finished(pl.concat(scores), schema.SCORES, tables, names),
        types=stats.types,
        units={p.name: p.unit for p in properties},
        facts={
            "identity": stats.identity,
            "options": {"extract": stats.options, "build": settings.facts()},
        },
    )


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
class _Frames:
    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def _fit_properties(
    stats: Statistics, tables: Tables, settings: Settings, resources: Resources
) -> Iterator[_Frames]:
    """Fit all properties, several at once: numpy and scipy leave the processors free to others."""
    one = partial(_fit_property, stats, tables, settings=settings)
    if settings.truncnorm == "histogram":  # which silences warnings, for all threads at once
        yield from map(one, stats.properties)
        return
    of_property = _BYTES_PER_PATHWAY * max(tables.observed.size, 1)
    allowed = int(resources.memory * _SHARE_OF_FITS) // of_property
    threads = max(1, min(resources.threads, _THREADS, len(stats.properties), allowed))
    with ThreadPoolExecutor(threads) as executor:
        yield from executor.map(one, stats.properties)


def _fit_property(stats: Statistics, tables: Tables, prop: Property, settings: Settings) -> _Frames:
    """Fit one property of all pathways."""
    rows = observed_rows(tables, prop)
    observed = sample_of(rows, tables, prop)
    places = rows["pathway"].to_numpy().astype(np.intp)
    levels = borrowed_levels(tables.source, tables.target, places)
    samples = with_pools(observed, levels)
    asked = settings.families.get(prop.name, AUTO)
    wanted, scores = chosen_families(asked, observed, samples, prop, settings.criterion)
    fitted = fit_with_fallbacks(wanted, samples)
    p_value = _p_values(fitted, observed, rows, prop, settings)
    if settings.truncnorm == "histogram":
        fitted = _through_histograms(fitted, wanted, samples, places, stats, tables, prop)
    if settings.interpolation == "unweighted":
        fitted = with_unweighted_means(fitted, wanted, observed, levels)
    borrowed = np.full(len(observed), np.nan)
    if settings.shrinkage:
        keys = [key[places] for key in level_keys(tables.source, tables.target)]
        fitted, borrowed = with_shrinkage(fitted, wanted, observed, keys)
    shared = _shared(rows, levels, prop, settings)
    found = {"p_value": p_value, "borrowed": borrowed}
    return _Frames(
        _model_rows(fitted, levels, shared, prop, settings, samples),
        _fit_rows(fitted, levels, samples, prop, found),
        scores.with_columns(pl.lit(prop.name).alias("property")),
    )


def _through_histograms(
    fitted: Fitted,
    wanted: NDArray[np.str_],
    samples: Sample,
    places: NDArray[np.intp],
    stats: Statistics,
    tables: Tables,
    prop: Property,
) -> Fitted:
    """Return the fits with the reference's truncated normal laws where there are such laws.

    Observed pathways have the histograms of the statistics, pools those of their points.
    """
    rows = np.flatnonzero((wanted == "truncnorm") | (fitted.choice == "truncnorm"))
    of_observed = rows[rows < places.size]
    histograms = histograms_of(stats, prop, tables, places[of_observed])
    for row in rows[rows >= places.size]:
        bins = stats.options["hist_bins"]
        histograms.append(np.histogram(samples.value[row], bins, weights=samples.weight[row]))
    values = truncnorms_through_histograms(samples.take(rows), histograms)
    return fitted.replaced("truncnorm", rows, values)


def _p_values(
    fitted: Fitted, observed: Sample, rows: pl.DataFrame, prop: Property, settings: Settings
) -> Floats:
    """Return the p-values of observed pathways, each for the family that it has."""
    found = np.full(len(observed), np.nan)
    if settings.p_values is None:
        return found
    pathways = rows.select(pl.col(*schema.PATHWAY).cast(pl.String)).rows()
    identities = [json.dumps([prop.name, *pathway]) for pathway in pathways]
    choice = fitted.choice[: len(observed)]
    for name in fitted.parameters:
        if name == "truncnorm" and settings.truncnorm == "histogram":
            continue  # samples simulated from another fit would say nothing of this one
        of_family = np.flatnonzero(choice == name)
        found[of_family] = ks_p_values(
            observed.take(of_family),
            distribution(name),
            n_bootstrap=settings.p_values,
            seed=settings.seed,
            identities=[identities[i] for i in of_family],
        )
    return found


def _shared(
    rows: pl.DataFrame, levels: Levels, prop: Property, settings: Settings
) -> list[bool | None]:
    """Return, for observed pathways and then pools, whether connections share the property.

    Where the data cannot tell, the pathways that can tell decide, each with as many votes as
    it has connections of two synapses or more, or with one, if pools are not weighted; a tie means
    no, and none at all yes.
    """
    n = len(rows) + levels.n_pools
    if prop.name == N_SYN_PER_CONN:
        return [None] * n
    if prop.name in settings.shared:
        return [settings.shared[prop.name]] * n
    known = rows["shared_within"].is_not_null().to_numpy()
    says = rows["shared_within"].fill_null(value=False).to_numpy()
    weight = rows["n_multi"].to_numpy() if settings.interpolation == "pooled" else 1
    votes = np.where(known, np.where(says, 1, -1) * weight, 0)
    overall = bool(rows.select(overall_shared()).item()) if len(rows) else True
    observed = np.where(known, says, overall)
    pooled = np.bincount(levels.pool, weights=votes[levels.member], minlength=levels.n_pools)
    knowing = np.bincount(levels.pool, weights=known[levels.member], minlength=levels.n_pools)
    borrowed = np.where(knowing > 0, pooled > 0, overall)
    return [bool(s) for s in (*observed, *borrowed)]


def _model_rows(
    fitted: Fitted,
    levels: Levels,
    shared: list[bool | None],
    prop: Property,
    settings: Settings,
    samples: Sample,
) -> pl.DataFrame:
    """Return the long model rows of one property, for all pathways."""
    pieces = []
    place = np.concatenate([levels.observed, levels.missing])
    sample_of = np.concatenate([np.arange(levels.observed.size),
                                levels.observed.size + levels.pool_of_missing])  # fmt: skip
    if not fitted.parameters:  # no pathway has a value
        pieces.append(_bare_rows("zero", place[:0], sample_of[:0]))
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
            pl.lit(None, dtype=pl.String).alias("other_property"),
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


def _inferred_lower(fitted: Fitted, samples: Sample) -> float | None:
    """Return 0 where no value is negative but some law in use could give one."""
    if not len(samples) or np.nanmin(samples.min) < 0:
        return None
    return 0.0 if "normal" in fitted.parameters else None


def _fit_rows(
    fitted: Fitted,
    levels: Levels,
    samples: Sample,
    prop: Property,
    of_observed: Mapping[str, Floats],
) -> pl.DataFrame:
    """Return the evidence of one property, for all pathways, with what only observed ones have."""
    n, n_observed = len(samples), levels.observed.size
    found = {
        name: np.full(n, np.nan)
        for name in ("loglik", "aicc", "bic", "ks", "p_value", "borrowed", "wasserstein",
                     "model_mean", "model_std")
    }  # fmt: skip
    for name, column in of_observed.items():
        found[name][:n_observed] = column
    for name, (values, _) in fitted.parameters.items():
        rows = np.flatnonzero(fitted.choice == name)
        family, sample = distribution(name), samples.take(rows)
        parameters = {k: v[rows] for k, v in values.items()}
        free, loglik = family.n_free(parameters), family.loglik(sample, parameters)
        found["loglik"][rows] = loglik
        found["aicc"][rows] = aicc(loglik, free, n_ends(family), sample.n)
        found["bic"][rows] = bic(loglik, free, n_ends(family), sample.n)
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
        "other_property": names,
        "distribution": pl.Enum([*DISTRIBUTIONS, schema.COPULA]),
        "parameter": pl.Enum(sorted({*parameters, schema.CORRELATION})),
        "status": pl.Enum(["ok", "fallback", "failed"]),
        "dtype": pl.Enum(["int", "float"]),
    }  # fmt: skip
    dtypes = {
        c.name: enums.get(c.name, frame.schema[c.name]) if c.dtype is pl.Enum else c.dtype
        for c in table.columns
    }
    columns = [pl.col(name).cast(dtype) for name, dtype in dtypes.items()]
    return frame.select(columns).sort(table.keys)
