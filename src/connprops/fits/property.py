"""The fit of one property: from the statistics of its pathways to the rows of a model.

The pathways' samples are brought together from the statistics tables, and pooled for the pathways
without data. One family is chosen, by evidence unless it is named, and fitted to all pathways at
once. A pathway that the family cannot be fitted to gets the next one of its fallbacks, and its
row says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Bools, Floats
from connprops.distributions.distributions import Distributions
from connprops.distributions.rows import parameter_rows
from connprops.families.goodness import ks, wasserstein
from connprops.families.histogram import truncnorms_through_histograms
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.fits.choice import aicc, bic, chosen_families, n_ends
from connprops.fits.fitted import Fitted, Names, fit_with_fallbacks, with_unweighted_means
from connprops.fits.levels import Levels, borrowed_levels, level_keys
from connprops.fits.p_values import ks_p_values
from connprops.fits.samples import (
    StatisticsTables,
    histograms_of,
    observed_rows,
    overall_shared,
    sample_of,
    with_pools,
)
from connprops.fits.shrinkage import with_shrinkage
from connprops.options import AUTO, BuildOptions
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
class PropertyFit:
    """The rows of one property, whose pathways are numbers."""

    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def fit_properties(
    stats: Statistics, tables: StatisticsTables, options: BuildOptions, resources: Resources
) -> Iterator[PropertyFit]:
    """Fit all properties, several at once: numpy and scipy leave the processors free to others."""
    fit = partial(_fit_property, stats, tables, options=options)
    if options.truncnorm == "histogram":  # which silences warnings, for all threads at once
        yield from map(fit, stats.properties)
        return
    n_pathways = tables.statistics["pathway"].n_unique()
    with ThreadPoolExecutor(fits_at_once(len(stats.properties), n_pathways, resources)) as executor:
        yield from executor.map(fit, stats.properties)


def fits_at_once(n_properties: int, n_pathways: int, resources: Resources) -> int:
    """Return how many properties of so many pathways are fitted at once."""
    per_property = _BYTES_PER_PATHWAY * max(n_pathways, 1)
    allowed = int(resources.memory * _SHARE_OF_FITS) // per_property
    return max(1, min(resources.threads, _THREADS, n_properties, allowed))


def _fit_property(
    stats: Statistics, tables: StatisticsTables, prop: Property, options: BuildOptions
) -> PropertyFit:
    rows = observed_rows(tables, prop)
    observed = sample_of(rows, tables, prop)
    levels = borrowed_levels(tables.source, tables.target, rows["pathway"].to_numpy())
    samples = with_pools(observed, levels)
    families, scores = chosen_families(
        options.distr_types.get(prop.name, AUTO), observed, samples, prop, options.criterion
    )
    fitted = fit_with_fallbacks(families, samples)
    p_value = _p_values(fitted, observed, rows, prop, options)
    if options.truncnorm == "histogram":
        fitted = _through_histograms(fitted, families, samples, levels, stats, tables, prop)
    if options.interpolation == "unweighted":
        fitted = with_unweighted_means(fitted, families, observed, levels)
    borrowed = np.full(len(observed), np.nan)
    if options.shrinkage:
        keys = [key[levels.observed] for key in level_keys(tables.source, tables.target)]
        fitted, borrowed = with_shrinkage(fitted, families, observed, keys)
    return PropertyFit(
        _model_rows(fitted, levels, _shared(rows, levels, prop, options), prop, options, samples),
        _fit_rows(fitted, levels, samples, prop, {"p_value": p_value, "borrowed": borrowed}),
        scores.with_columns(pl.lit(prop.name).alias("property")),
    )


def _through_histograms(
    fitted: Fitted,
    families: Names,
    samples: Sample,
    levels: Levels,
    stats: Statistics,
    tables: StatisticsTables,
    prop: Property,
) -> Fitted:
    """Return the fits with the reference's truncated normal distributions where there are such.

    Observed pathways have the histograms of the statistics, pools those of their points.
    """
    rows = np.flatnonzero((families == "truncnorm") | (fitted.families == "truncnorm"))
    n = levels.observed.size
    observed = levels.observed[rows[rows < n]]
    histograms = histograms_of(stats, prop, tables.pathways, observed)
    for row in rows[rows >= n]:
        bins = stats.options["hist_bins"]
        histograms.append(np.histogram(samples.value[row], bins, weights=samples.weight[row]))
    values = truncnorms_through_histograms(samples.take(rows), histograms)
    return fitted.replaced(Distributions(family_named("truncnorm"), rows, values))


def _p_values(
    fitted: Fitted, observed: Sample, rows: pl.DataFrame, prop: Property, options: BuildOptions
) -> Floats:
    """Return the p-values of observed pathways, each for the family that it has."""
    p_values = np.full(len(observed), np.nan)
    if options.p_values is None:
        return p_values
    pathways = rows.select(pl.col(*schema.PATHWAY).cast(pl.String)).rows()
    families = fitted.families[: len(observed)]
    for name, distributions in fitted.distributions.items():
        if name == "truncnorm" and options.truncnorm == "histogram":
            continue  # samples simulated from another fit would say nothing of this one
        own = np.flatnonzero(families == name)
        p_values[own] = ks_p_values(
            observed.take(own),
            distributions.family,
            n_bootstrap=options.p_values,
            seed=options.seed,
            identities=[json.dumps([prop.name, *pathways[i]]) for i in own],
        )
    return p_values


def _shared(rows: pl.DataFrame, levels: Levels, prop: Property, options: BuildOptions) -> pl.Series:
    """Return, for observed pathways and then pools, whether connections share the property.

    Where the data cannot tell, the pathways that can tell decide, each with as many votes as
    it has connections of two synapses or more, or with one, if pools are not weighted; a tie means
    no, and none at all yes.
    """
    n = len(rows) + levels.n_pools
    if prop.name == N_SYN_PER_CONN or prop.name in options.shared_within:
        shared = None if prop.name == N_SYN_PER_CONN else options.shared_within[prop.name]
        return pl.repeat(shared, n, dtype=pl.Boolean, eager=True)
    known = rows["shared_within"].is_not_null().to_numpy()
    says = rows["shared_within"].fill_null(value=False).to_numpy()
    weight = rows["n_multi"].to_numpy() if options.interpolation == "pooled" else 1
    votes = np.where(known, np.where(says, 1, -1) * weight, 0)
    overall = bool(rows.select(overall_shared()).item()) if len(rows) else True
    pooled = np.bincount(levels.pool, weights=votes[levels.member], minlength=levels.n_pools)
    voters = np.bincount(levels.pool, weights=known[levels.member], minlength=levels.n_pools)
    borrowed: Bools = np.where(voters > 0, pooled > 0, overall)
    return pl.Series(np.concatenate([np.where(known, says, overall), borrowed]).astype(np.bool_))


def _model_rows(
    fitted: Fitted,
    levels: Levels,
    shared: pl.Series,
    prop: Property,
    options: BuildOptions,
    samples: Sample,
) -> pl.DataFrame:
    """Return the long model rows of one property, for all pathways."""
    of_pathways = []
    for distributions in fitted.distributions.values():
        place = np.full(len(samples), -1)
        place[distributions.pathway] = np.arange(distributions.pathway.size)
        place = place[levels.sample]
        rows, pathway = place[place >= 0], levels.pathway[place >= 0]
        of_pathways.append(replace(distributions.take(rows), pathway=pathway))
    about = pl.DataFrame(
        {"pathway": levels.pathway, "level": levels.level, "shared": shared[levels.sample]}
    )
    lower, upper = options.data_bounds.get(prop.name) or (_inferred_lower(fitted, samples), None)
    integer = samples.is_integer or prop.name == N_SYN_PER_CONN
    dtype = options.data_types.get(prop.name, "int" if integer else "float")
    return (
        parameter_rows(of_pathways)
        .join(about, on="pathway", maintain_order="left")
        .select(
            pl.exclude("shared"),
            pl.when(pl.col("distribution") == "zero")
            .then(pl.lit(value=False))
            .otherwise("shared")
            .alias("shared_within"),
            pl.lit(prop.name).alias("property"),
            pl.lit(None, dtype=pl.String).alias("other_property"),
            pl.lit(dtype).alias("dtype"),
            pl.lit(lower, dtype=pl.Float64).alias("lower_bound"),
            pl.lit(upper, dtype=pl.Float64).alias("upper_bound"),
        )
    )


def _inferred_lower(fitted: Fitted, samples: Sample) -> float | None:
    """Return 0 where no value is negative but some distribution in use could give one."""
    if not len(samples) or np.nanmin(samples.min) < 0:
        return None
    return 0.0 if "normal" in fitted.distributions else None


def _fit_rows(
    fitted: Fitted,
    levels: Levels,
    samples: Sample,
    prop: Property,
    of_observed: Mapping[str, Floats],
) -> pl.DataFrame:
    """Return the evidence of one property, for all pathways, with what only observed ones have."""
    n, n_observed = len(samples), levels.observed.size
    columns = {
        name: np.full(n, np.nan)
        for name in ("loglik", "aicc", "bic", "ks", "p_value", "borrowed", "wasserstein",
                     "model_mean", "model_std")
    }  # fmt: skip
    for name, column in of_observed.items():
        columns[name][:n_observed] = column
    for distributions in fitted.distributions.values():
        family, parameters, rows = (
            distributions.family, distributions.parameters, distributions.pathway,
        )  # fmt: skip
        sample = samples.take(rows)
        free, loglik = family.n_free(parameters), family.loglik(sample, parameters)
        evidence = {
            "loglik": loglik,
            "aicc": aicc(loglik, free, n_ends(family), sample.n),
            "bic": bic(loglik, free, n_ends(family), sample.n),
            "ks": ks(sample, family, parameters),
            "wasserstein": wasserstein(sample, family, parameters),
            "model_mean": family.mean(parameters),
            "model_std": family.std(parameters),
        }
        for name, values in evidence.items():
            columns[name][rows] = values
    pooled = np.bincount(levels.pool, minlength=levels.n_pools)
    of_sample = pl.DataFrame(
        {
            "distribution": fitted.families,
            "n_pathways": np.concatenate([np.ones(n_observed, dtype=np.int64), pooled]),
            "n": samples.n.astype(np.int64),
            "status": fitted.status,
            "message": pl.Series(fitted.message, dtype=pl.String),
            **columns,
            "data_mean": samples.mean,
            "data_std": samples.std,
        }
    ).with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)))
    return of_sample[levels.sample].with_columns(
        pl.Series("pathway", levels.pathway),
        pl.Series("level", levels.level),
        pl.lit(prop.name).alias("property"),
    )
