"""From statistics to a model: the fits of all properties, and the correlations among them."""

from __future__ import annotations

import warnings
from importlib.metadata import version

import polars as pl

from connprops import schema
from connprops.declare import names, takes
from connprops.distributions.rows import ENUMS, enums_of_keys
from connprops.errors import ConnpropsWarning
from connprops.fits.copulas import copula_rows
from connprops.fits.property import check_names, fit_properties
from connprops.fits.samples import StatisticsTables
from connprops.model.model import Model
from connprops.options import BuildOptions, StepOptions
from connprops.pathways import expanded
from connprops.schema import Property
from connprops.statistics.statistics import Statistics
from connprops.store.records import seal_of

_RECORDED = [name for name in names(BuildOptions) if name not in names(StepOptions)]
"""Options that numbers depend on, for the model's metadata."""


@takes(BuildOptions)
def build(stats: Statistics, options: BuildOptions) -> Model:
    """Fit a model to statistics.

    Parameters
    ----------
    stats
        From :func:`connprops.extract` or :func:`connprops.read_statistics`.

    Returns
    -------
    Model
        With rows of each pathway that has data, and of each group of pathways that borrow, see
        :mod:`connprops.fits.levels`. A property without a finite value in any pathway is
        left out, with a warning.

    Raises
    ------
    OptionError
        Where an option names an unknown property or distribution, or bounds are in disorder.
    """
    check_names(options, stats.properties)
    correlated = stats.correlations.collect() if options.correlations else None
    tables = StatisticsTables.of(stats)
    _warn_of_skipped_levels(tables)
    properties = _with_values(stats.properties, tables)
    fitted = []
    for rows in fit_properties(properties, stats, tables, options):
        fitted.append(rows)
        if options.progress:
            options.progress("build", len(fitted), len(properties), "properties")
    model, fits, scores = (pl.concat(frames) for frames in zip(*fitted, strict=True))
    if correlated is not None:
        of_copulas = copula_rows(
            correlated, stats, tables, expanded(model, stats.types, tables.pathways),
            shrinkage=options.shrinkage,
        )  # fmt: skip
        model = pl.concat([model, of_copulas])
    enums = {"property": pl.Enum([p.name for p in properties]), **ENUMS}
    enums |= enums_of_keys(stats.types, tables.pathways)
    recorded = {name: getattr(options, name) for name in _RECORDED}
    labels = {p.name: list(p.labels) for p in properties if p.labels is not None}
    facts = {
        "identity": stats.identity,
        "options": {"extract": stats.options, "build": recorded},
        "versions": {**stats.versions, "scipy": version("scipy")},
        "statistics": stats.facts()["generation"],
        **({"labels": labels} if labels else {}),
    }
    return Model(
        model.select(schema.MODEL.names),
        fits=schema.FITS.conform(fits, enums),
        scores=schema.SCORES.conform(scores, enums),
        types=stats.types,
        units={p.name: p.unit for p in properties},
        facts={**facts, "generation": seal_of(facts)},
    )


def _with_values(
    properties: tuple[Property, ...], tables: StatisticsTables
) -> tuple[Property, ...]:
    """Return the properties that any pathway has a number of; say which are left out."""
    names = set(tables.statistics.filter(pl.col("n") > 0)["property"])
    for prop in properties if names else ():
        if prop.name not in names:
            warnings.warn(
                f"property {prop.name!r} has no finite value in any pathway: the model is "
                "without it",
                ConnpropsWarning,
                stacklevel=4,
            )
    return tuple(p for p in properties if p.name in names) or properties


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
                stacklevel=4,
            )
