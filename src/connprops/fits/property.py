"""Fits: statistics in, a model out, with the evidence for it.

For each property, the pathways' samples are brought together from the statistics tables, and
pooled for the pathways without data. One family is chosen for the property, by evidence unless it
is named, and fitted to all pathways at once. A pathway that the family cannot be fitted to gets
the next one of its fallbacks, and its row says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.families.distances import ks, wasserstein
from connprops.families.histogram import truncnorms_through_histograms
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.build_options import Settings
from connprops.fits.choice import AUTO, aicc, bic, chosen_families, n_ends
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
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.statistics import Statistics

_THREADS = 4
"""Properties that are fitted at once, at most: more are no faster."""

_BYTES_PER_PATHWAY = 70_000
"""What fitting a property takes for each pathway, while samples and candidates are compared."""

_SHARE_OF_FITS = 0.5
"""Share of the memory for properties being fitted: tables and finished fits have the rest."""


@dataclass(frozen=True)
class _Frames:
    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def fit_properties(
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
    """Return the fits with the reference's truncated normal distributions in their place.

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
            family_named(name),
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
        if not values:  # a distribution without parameters still needs a row that says so
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
    """Return rows for a family without parameters: one a pathway, with its only value."""
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
    """Return 0 where no value is negative but some distribution in use could give one."""
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
        family, sample = family_named(name), samples.take(rows)
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
