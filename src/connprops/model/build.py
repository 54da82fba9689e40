"""From statistics to a model: the fits of all properties, and the correlations among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import polars as pl

from connprops import schema
from connprops.distributions.rows import ENUMS
from connprops.errors import ConnpropsWarning
from connprops.fits.build_options import Interpolation, Settings, TruncnormFit
from connprops.fits.choice import Criterion, DistrType
from connprops.fits.copulas import copula_rows
from connprops.fits.property import fit_properties
from connprops.fits.samples import StatisticsTables
from connprops.model.model import Model
from connprops.progress import Progress
from connprops.resources import Resources
from connprops.statistics.statistics import Statistics


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
        How truncated normal distributions are fitted: by maximum likelihood, or ``"histogram"``: by
        the least squares of connectome-manipulator (:mod:`connprops.families.histogram`), which
        have no standard errors and no p-values.
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
    tables = StatisticsTables.of(stats)
    _warn_of_skipped_levels(tables)
    fitted = []
    for fit in fit_properties(stats, tables, settings, resources or Resources()):
        fitted.append(fit)
        if progress:
            progress("build", len(fitted), len(properties), "properties")
    model = pl.concat(fit.model for fit in fitted)
    if correlated is not None:
        model = pl.concat([model, copula_rows(correlated, stats, tables, model)])
    model, fits = (
        frame.with_columns(tables.pathways.columns(frame["pathway"].to_numpy()))
        for frame in (model, pl.concat(fit.fits for fit in fitted))
    )
    enums = {"property": pl.Enum([p.name for p in properties]), **ENUMS}
    return Model(
        model.select(schema.MODEL.names),
        fits=schema.FITS.conform(fits, enums),
        scores=schema.SCORES.conform(pl.concat(fit.scores for fit in fitted), enums),
        types=stats.types,
        units={p.name: p.unit for p in properties},
        facts={
            "identity": stats.identity,
            "options": {"extract": stats.options, "build": settings.facts()},
        },
    )


def _warn_of_skipped_levels(tables: StatisticsTables) -> None:
    """Say which levels of interpolation are out of reach, where pathways need to borrow."""
    if tables.statistics["pathway"].n_unique() == len(tables.pathways):
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
