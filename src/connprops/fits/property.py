"""The fit of one property: from the statistics of its pathways to the rows of a model.

The pathways' samples are brought together from the statistics tables, and pooled for the pathways
without data. One family is chosen, by evidence unless it is named, and fitted to all pathways at
once. A pathway that the family cannot be fitted to gets the next one of its fallbacks, and its
row says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import NamedTuple

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Bools, Floats
from connprops.arrays.random_numbers import bits
from connprops.distributions.distributions import Distributions
from connprops.distributions.drawn import as_drawn
from connprops.distributions.intervals import with_intervals
from connprops.distributions.rows import ENUMS, parameter_rows
from connprops.families.continuous import common_quantiles
from connprops.families.family import Family, Parameters
from connprops.families.goodness import aicc, bic, is_rejected, ks, n_ends, wasserstein
from connprops.families.registry import family_named
from connprops.families.sample import Known, Sample
from connprops.fits.choice import chosen_families, repeated_value
from connprops.fits.copulas import within_correlations
from connprops.fits.evidence import ks_p_values
from connprops.fits.fitted import (
    Fitted,
    Names,
    fit_labels,
    fit_with_fallbacks,
    with_unweighted_means,
)
from connprops.fits.left_out import best_foretold, inside_ranges
from connprops.fits.samples.levels import OBSERVED, Levels, Places, borrowed_levels, observations_of
from connprops.fits.samples.samples import (
    PropertySamples,
    Samples,
    histograms_of,
    overall_shared,
    truncnorms_through_histograms,
)
from connprops.fits.samples.tables import StatisticsTables, largest_first
from connprops.fits.shrinkage.estimates import with_shrinkage
from connprops.options import AUTO, BuildOptions
from connprops.pathways import enums_of_keys
from connprops.resources import Resources
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.statistics import Statistics

NEARLY = 0.95
"""Share of a pathway's connections, and correlation within them, from which on synapses share a
value, though those of some connections do not."""

_TESTED_AT_MOST = 400  # pathways of which values are left out, to test ranges

_TELLS_SCALE = 2  # values of a pathway beyond which it tells a scale, though one is left out

_MEMORY_OF_BLOCK = 1 << 30  # for each block whose fits are compared with values at once

LISTS = ("constant", "discrete", "zero")
"""Families that repeat the data's values, whatever these are."""


class PropertyTables(NamedTuple):
    """The tables of one property, without the columns that name properties."""

    model: pl.DataFrame
    fits: pl.DataFrame
    scores: pl.DataFrame


def fit_property(
    prop: Property, stats: Statistics, tables: StatisticsTables, options: BuildOptions
) -> PropertyTables:
    """Fit a property; leave nothing behind but its rows."""
    # At the ends of floats: what is not finite becomes null.
    with np.errstate(over="ignore", invalid="ignore"):
        return _PropertyFit(tables, prop, stats, options).to_rows()


@dataclass(frozen=True)
class _PropertyFit(PropertySamples):
    """The fit of one property by the options of a model."""

    stats: Statistics
    options: BuildOptions

    @cached_property
    def observed(self) -> Samples:
        """Return the samples of the pathways that have values, with what is known of these."""
        values = PropertySamples(self.tables, self.prop).observed
        return values.with_known(self._known(values))

    @cached_property
    def largest(self) -> Sample:
        """Return the samples by which a family is chosen."""
        return self.observed.samples(self._telling(self.observed))

    def _telling(self, values: Samples) -> Places:
        """Return the pathways by which a family is chosen: those of most values.

        Where connections share a property, a pathway in which some do not has the values of the
        others as often as they have synapses. Those are no evidence, and would be most of it.
        """
        shares = self.prop.name != N_SYN_PER_CONN and self.rows.select(overall_shared()).item()
        alone = self.rows["shared_within"].fill_null(value=True).to_numpy()
        return values.largest(alone if shares and alone.any() else None)

    def _known(self, values: Samples) -> Known:
        """Return whether values are counts, and which bounds counts have."""
        name, options = self.prop.name, self.options
        counted = values.is_integer or name == N_SYN_PER_CONN or values.whole
        asked = options.data_types.get(name, "int") == "int" and options.truncnorm != "histogram"
        if self.prop.labels is not None or not len(values):
            return Known()
        if not (counted and asked):
            large = values.samples(self._telling(values))
            point = None if counted else repeated_value(large)
            return Known() if point is None else Known(point=point, repeats=True)
        lower, upper = options.data_bounds.get(name) or (None, None)
        least, most = values.min.min(), values.max.max()
        if name == N_SYN_PER_CONN:
            lower = max(lower or 1.0, 1.0)
        # Bounds of draws that the data do not keep are none of theirs.
        return Known.of_counts(
            least, lower if lower is None or lower <= least else None,
            upper if upper is None or upper >= most else None,
        )  # fmt: skip

    @cached_property
    def levels(self) -> Levels:
        """Return from which pathways the others borrow."""
        pooled, tables = self.options.interpolation == "pooled", self.tables
        observations = observations_of(self.observed) if pooled else None
        pathways = self.rows["pathway"].to_numpy()
        further = tables.further
        levels = borrowed_levels(tables.source, tables.target, pathways, observations, further)
        if not tables.lends:
            return levels.among(np.arange(pathways.size))
        if not pooled or not self.options.shrinkage or self.prop.labels is not None:
            return levels
        return levels.with_effects(tables.source, tables.target, further)

    def to_rows(self) -> PropertyTables:
        """Fit the property."""
        name, options, observed = self.prop.name, self.options, self.observed
        families, scores = chosen_families(
            options.distr_types.get(name, AUTO),
            self.largest,
            self.all,
            self.prop,
            options.criterion,
        )
        is_labelled = self.prop.labels is not None
        if options.shrinkage and options.distr_types.get(name, AUTO) == AUTO:
            largest = replace(self.largest, known=self._common_shape)
            levels = self.levels.among(self._telling(observed))
            families, scores = best_foretold(families, scores, largest, levels)
        samples = self.all
        if "quantiles" in families:
            samples = samples.with_known(self._common_shape)
        fitted = fit_labels(samples) if is_labelled else fit_with_fallbacks(families, samples)
        p_value = self._p_values(fitted)
        if options.truncnorm == "histogram":
            fitted = self._through_histograms(fitted, families)
        if options.interpolation == "unweighted":
            fitted = with_unweighted_means(fitted, families, observed, self.levels)
        borrowed = np.full(len(observed), np.nan)
        if options.shrinkage and not is_labelled:
            fitted, borrowed = with_shrinkage(fitted, families, samples, self.levels)
        fitted = self._with_intervals(fitted, borrowed)
        evidence = {"p_value": p_value, "borrowed": borrowed, **self._left_out(families, fitted)}
        return PropertyTables(self._model_rows(fitted), self._fit_rows(fitted, evidence), scores)

    @cached_property
    def _common_shape(self) -> Known:
        """Return what is known of values, with the quantiles that pathways have in common."""
        of_logs = bool(np.all(self.largest.min > 0))
        shape = common_quantiles(self.largest, of_logs=of_logs)
        return replace(self.largest.known, shape=shape, of_logs=of_logs)

    @cached_property
    def _keys(self) -> pl.DataFrame:
        """Return which pathways each sample is for."""
        enums = enums_of_keys(self.stats.types, self.tables.pathways)
        keys = self.levels.row_keys(self.tables.source, self.tables.target)
        return keys.with_columns(pl.col(name).cast(enum) for name, enum in enums.items())

    def _through_histograms(self, fitted: Fitted, families: Names) -> Fitted:
        """Return the fits with the reference's truncated normal distributions where there are such.

        Observed pathways have the histograms of the statistics, pools those of their points.
        """
        rows = np.flatnonzero((families == "truncnorm") | (fitted.families == "truncnorm"))
        n, samples = len(self.observed), self.all
        observed = self.levels.observed[rows[rows < n]]
        histograms = histograms_of(self.stats, self.prop, self.tables.pathways, observed)
        for row in rows[rows >= n]:
            bins = self.stats.options["hist_bins"]
            pool = samples.samples(np.array([row]))
            histograms.append(np.histogram(pool.value[0], bins, weights=pool.weight[0]))
        values = truncnorms_through_histograms(samples.moments(rows), histograms)
        return fitted.replaced(Distributions(family_named("truncnorm"), rows, values))

    def _p_values(self, fitted: Fitted) -> Floats:
        """Return the p-values of observed pathways, each for the family that it has."""
        options, n = self.options, len(self.observed)
        p_values = np.full(n, np.nan)
        if options.p_values is None:
            return p_values
        pathways = self.rows.select(pl.col(*schema.PATHWAY).cast(pl.String)).rows()
        for name, distributions in fitted.distributions.items():
            if name == "truncnorm" and options.truncnorm == "histogram":
                continue  # samples simulated from another fit would say nothing of this one
            bounded, whole = self._bounded(distributions, fitted)
            own = distributions.pathway[distributions.pathway < n]
            for block, part in self.observed.blocks(own):
                p_values[block] = ks_p_values(
                    part,
                    distributions.family,
                    lower=bounded.lower[0],
                    upper=bounded.upper[0],
                    whole=whole,
                    n_bootstrap=options.p_values,
                    seed=options.seed,
                    identities=[json.dumps([self.prop.name, *pathways[i]]) for i in block],
                )
        return p_values

    @cached_property
    def within(self) -> Floats:
        """Return, for observed pathways and then pools, how alike synapses of a connection are.

        1 where they share a value, 0 where they are independent; NaN for counts of synapses.
        """
        shared = self._shared().cast(pl.Float64).fill_null(np.nan).to_numpy()
        named = self.prop.name == N_SYN_PER_CONN or self.prop.name in self.options.shared_within
        if named or self.prop.labels is not None or self.options.interpolation == "unweighted":
            return shared
        alike = within_correlations(
            self.rows, self.observed, self.levels, shrinkage=self.options.shrinkage
        )
        return np.where(shared == 1, 1.0, alike)

    def _with_intervals(self, fitted: Fitted, borrowed: Floats) -> Fitted:
        """Return the fits with intervals, and errors that count how alike values are."""
        n, levels = len(self.observed), self.levels
        within = np.nan_to_num(self.within)
        of_synapses = ~self.rows["shared_within"].fill_null(value=True).to_numpy()
        within[:n] *= of_synapses
        within[n:] *= within[n:] < 1
        sizes = self.tables.synapses_of_connection
        own = (
            self.rows.select("pathway")
            .join(sizes, on="pathway", how="left", maintain_order="left")["size"]
            .fill_null(1.0)
            .to_numpy()
        )
        members = np.bincount(levels.pool, minlength=levels.n_samples)
        pooled = np.bincount(levels.pool, own[levels.member], levels.n_samples) / members
        size = np.append(own, pooled[levels.sample_of_pool])
        of_levels = np.append(
            np.isfinite(borrowed), np.full(levels.n_pools, self.options.shrinkage)
        )
        rests_on = np.where(of_levels, np.inf, self.all.n)
        distributions = {}
        for name, of_family in fitted.distributions.items():
            parts = [
                with_intervals(
                    of_family.take(np.searchsorted(of_family.pathway, at)), sample, rests_on[at],
                    within[at], size[at],
                )
                for at, sample in self.all.blocks(of_family.pathway)
            ]  # fmt: skip
            order = np.argsort(np.concatenate([part.pathway for part in parts]))
            distributions[name] = replace(
                of_family,
                std_error=_in_order([part.std_error for part in parts], order),
                interval=_in_order([part.interval for part in parts], order),
            )
        return replace(fitted, distributions=distributions)

    def _shared(self) -> pl.Series:
        """Return, for observed pathways and then pools, whether connections share the property.

        Where the data cannot tell, the pathways that can tell decide, each with as many votes as it
        has connections of two synapses or more, or with one, if pools are not weighted; a tie means
        no, and none at all yes.
        """
        name, rows, levels = self.prop.name, self.rows, self.levels
        if name == N_SYN_PER_CONN or name in self.options.shared_within:
            shared = None if name == N_SYN_PER_CONN else self.options.shared_within[name]
            return pl.repeat(shared, len(self.all), dtype=pl.Boolean, eager=True)
        tells = rows["shared_within"].is_not_null().to_numpy()
        shares = rows["shared_within"].fill_null(value=False).to_numpy()
        if self.options.interpolation == "pooled":  # few odd synapses do not undo what many share
            nearly = rows["n_shared"] >= NEARLY * rows["n_multi"]
            shares = shares | (nearly & (rows["icc"] >= NEARLY)).fill_null(value=False).to_numpy()
        weight = rows["n_multi"].to_numpy() if self.options.interpolation == "pooled" else 1
        votes = np.where(tells, np.where(shares, 1, -1) * weight, 0)
        overall = bool(rows.select(overall_shared()).item()) if len(rows) else True
        pooled = np.bincount(levels.pool, weights=votes[levels.member], minlength=levels.n_samples)
        voters = np.bincount(levels.pool, weights=tells[levels.member], minlength=levels.n_samples)
        borrowed: Bools = np.where(voters > 0, pooled > 0, overall)[levels.sample_of_pool]
        return pl.Series(np.concatenate([np.where(tells, shares, overall), borrowed]).astype(bool))

    def _drawn_as(self, fitted: Fitted) -> tuple[float | None, float | None, str]:
        """Return the bounds and the type of drawn values."""
        name, options, samples = self.prop.name, self.options, self.all
        # 0 is the lower bound where no value is negative, yet a normal distribution could give one.
        negative = not len(samples) or np.nanmin(samples.min) < 0
        inferred = None if negative or "normal" not in fitted.distributions else 0.0
        families = [of.family for of in fitted.distributions.values()]
        if any(family.unrounded for family in families) and np.isfinite(samples.known.lower):
            inferred = samples.known.lower
        lower, upper = options.data_bounds.get(name) or (inferred, None)
        if (labels := self.prop.labels) is not None:
            lower, upper = 0.0, len(labels) - 1.0
        counts = samples.known.rounded and any(f.name not in LISTS for f in families)
        integer = samples.is_integer or counts or name == N_SYN_PER_CONN or labels is not None
        return lower, upper, options.data_types.get(name, "int" if integer else "float")

    def _bounded(self, distributions: Distributions, fitted: Fitted) -> tuple[Distributions, bool]:
        """Return distributions with the bounds of drawn values, and whether these are rounded."""
        lower, upper, dtype = self._drawn_as(fitted)
        least = 1.0 if self.prop.name == N_SYN_PER_CONN else -np.inf
        low = np.array(max(-np.inf if lower is None else lower, least))
        high = np.array(np.inf if upper is None else upper)
        return replace(distributions, lower=low, upper=high), dtype == "int"

    def _as_drawn(self, distributions: Distributions, fitted: Fitted) -> tuple[Family, Parameters]:
        """Return the family and the parameters of drawn values."""
        bounded, whole = self._bounded(distributions, fitted)
        return as_drawn(bounded, whole=whole)

    def _model_rows(self, fitted: Fitted) -> pl.DataFrame:
        """Return the long model rows of all samples."""
        place = pl.int_range(pl.len(), dtype=pl.Int64).alias("pathway")
        within = pl.Series("within", self.within).fill_nan(None)
        about = self._keys.with_columns(place, within)
        lower, upper, dtype = self._drawn_as(fitted)
        is_zero = pl.col("distribution") == "zero"
        return (
            parameter_rows(fitted.distributions.values())
            .join(about, on="pathway", maintain_order="left")
            .with_columns(own_value=pl.when(pl.col("level") == OBSERVED).then("own_value"))
            .select(
                pl.exclude("within", "pathway"),
                ((pl.col("within") == 1) & ~is_zero).alias("shared_within"),
                pl.when(is_zero)
                .then(0.0 * pl.col("within"))
                .otherwise("within")
                .alias("within_correlation"),
                pl.lit(dtype, dtype=ENUMS["dtype"]).alias("dtype"),
                pl.lit(lower, dtype=pl.Float64).alias("lower_bound"),
                pl.lit(upper, dtype=pl.Float64).alias("upper_bound"),
            )
        )

    def _evidence_of_blocks(self, fitted: Fitted) -> Iterator[tuple[Places, tuple[Floats, ...]]]:
        """Give the evidence of all samples, of as many blocks at once as there are threads."""

        def evidence(
            work: tuple[Distributions, tuple[Places, Sample]],
        ) -> tuple[Places, tuple[Floats, ...]]:
            distributions, (block, sample) = work
            part = distributions.take(np.searchsorted(distributions.pathway, block))
            with np.errstate(over="ignore", invalid="ignore"):  # which is of each thread
                return block, self._evidence(part, sample, fitted)

        limits = self.options.resources or Resources(threads=1)
        threads = max(min(limits.threads, limits.memory // _MEMORY_OF_BLOCK), 1)
        blocks = (
            (distributions, block)
            for distributions in fitted.distributions.values()
            for block in self.all.blocks(distributions.pathway)
        )
        with ThreadPoolExecutor(threads) as executor:
            while at_once := list(islice(blocks, threads)):
                yield from executor.map(evidence, at_once)

    def _evidence(
        self, distributions: Distributions, sample: Sample, fitted: Fitted
    ) -> tuple[Floats, ...]:
        """Return how well distributions fit, and their moments, in the order of columns."""
        family, parameters = distributions.family, distributions.parameters
        free, loglik = family.n_free(parameters), family.loglik(sample, parameters)
        drawn, of_drawn = self._as_drawn(distributions, fitted)
        sides = drawn.cdf_sides(sample.value, of_drawn)
        return (
            loglik,
            aicc(loglik, free, n_ends(family), sample.n),
            bic(loglik, free, n_ends(family), sample.n),
            ks(sample, drawn, of_drawn, sides),
            wasserstein(sample, drawn, of_drawn, sides),
            *drawn.moments(of_drawn),
        )

    def _left_out(self, families: Names, fitted: Fitted) -> dict[str, Floats]:
        """Return how many values were left out of some pathways, and how many were in range."""
        left_out, inside = np.full((2, len(self.observed)), np.nan)
        if self.prop.labels is None and self.options.truncnorm != "histogram":
            key = bits(self.levels.observed.astype(np.uint64), np.zeros(1, dtype=np.int64))
            tested = np.sort(np.argsort(key)[:_TESTED_AT_MOST])
            n, rows = self.observed.n, tested
            if np.count_nonzero(n[tested] > _TELLS_SCALE) < _TESTED_AT_MOST / 4:
                # Of single values, whose scale the others tell: those that tell it.
                most = largest_first(n)[:_TESTED_AT_MOST]
                rows = np.union1d(tested, most[n[most] > _TELLS_SCALE])
            part = self.observed.samples(rows)
            if "quantiles" in families:
                part = replace(part, known=self._common_shape)
            levels = self.levels.among(rows) if self.options.shrinkage else None
            of_rows = inside_ranges(
                families[rows], part, levels, lambda of: self._as_drawn(of, fitted)
            )
            own = np.isin(rows, tested)
            left_out[tested], inside[tested] = (of_row[own] for of_row in of_rows)
        return {"n_left_out": left_out, "n_inside": inside}

    def _fit_rows(self, fitted: Fitted, evidence: Mapping[str, Floats]) -> pl.DataFrame:
        """Return the evidence of all samples, to that of observed pathways that is known."""
        samples, levels, n = self.all, self.levels, len(self.observed)
        names = ("loglik", "aicc", "bic", "ks", "wasserstein", "model_mean", "model_std")
        columns = {name: np.full(len(samples), np.nan) for name in names}
        none = np.full(len(samples) - n, np.nan)
        columns |= {name: np.append(values, none) for name, values in evidence.items()}
        for block, evidence_of_block in self._evidence_of_blocks(fitted):
            for name, values in zip(names, evidence_of_block, strict=False):
                columns[name][block] = values
        if levels.alone is not None:  # the values pooled are others' than those foretold
            for name in names[:-2]:
                columns[name][n:] = np.nan
        status, message = fitted.status.copy(), list(fitted.message)
        for row in np.flatnonzero(is_rejected(columns["ks"], samples.n)[:n] & (status[:n] == "ok")):
            status[row] = "rejected"
            distance = f"KS distance {columns['ks'][row]:.3f} of {samples.n[row]:,.0f} values"
            message[row] = f"{distance}: a right distribution has less in 99 % of samples"
        moments = {"data_mean": samples.mean, "data_std": samples.std}
        if self.prop.labels is not None:  # codes are no quantities
            unknown = np.full(len(samples), np.nan)
            columns |= dict.fromkeys(("wasserstein", "model_mean", "model_std"), unknown)
            moments = dict.fromkeys(moments, unknown)
        pooled = np.bincount(levels.pool, minlength=levels.n_samples)[levels.sample_of_pool]
        of_sample = pl.DataFrame(
            {
                "distribution": fitted.families,
                "n_pathways": np.concatenate([np.ones(n, dtype=np.int64), pooled]),
                "n": samples.n.astype(np.int64),
                "status": status,
                "message": pl.Series(message, dtype=pl.String),
                **columns,
                **moments,
            }
        ).with_columns(pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64)))
        return pl.concat([self._keys, of_sample], how="horizontal")


def _in_order(parts: Sequence[Mapping[str, Floats]], order: Places) -> dict[str, Floats]:
    """Return the arrays of blocks, by name, put together in the order of pathways."""
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}
