"""From statistics to a model: the fits of all properties, and the correlations among them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version

import polars as pl

from connprops import schema
from connprops.declare import names, takes
from connprops.distributions.rows import ENUMS
from connprops.errors import ConnpropsWarning
from connprops.fits.checks import check_names
from connprops.fits.copulas import check_room, copula_rows
from connprops.fits.properties import fit_properties
from connprops.fits.property import PropertyTables
from connprops.fits.samples.tables import StatisticsTables
from connprops.model.model import Model
from connprops.options import BuildOptions, StepOptions
from connprops.pathways import enums_of_keys, expanded
from connprops.resources import Resources, release_memory
from connprops.schema import Property
from connprops.statistics.statistics import Statistics
from connprops.store.records import seal_of

_HELD = 1 << 30
"""Bytes that a process may hold after the fits."""

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
        :mod:`connprops.fits.samples.levels`. A property without a finite value in any pathway is
        left out, with a warning.

    Raises
    ------
    OptionError
        Where an option names an unknown property or distribution, bounds are in disorder, or
        there is no room for the correlations of all pathways.
    """
    check_names(options, stats.properties)
    tables = StatisticsTables.of(stats, options.resources)
    if options.correlations:
        check_room(stats, tables, options.resources or Resources())
    correlated = stats.correlations.collect() if options.correlations else None
    _warn_of_skipped_levels(tables)
    properties = _with_values(stats.properties, tables)
    names_of = pl.Enum([p.name for p in properties])
    enums = {"property": names_of, "other_property": names_of, **ENUMS}
    enums |= enums_of_keys(stats.types, tables.pathways)
    model, fits, scores = _fitted(fit_properties(properties, stats, tables, options),
                                  properties, enums, options)  # fmt: skip
    model = model.with_columns(pl.lit(None, dtype=names_of).alias("other_property"))
    if correlated is not None:
        of_copulas = copula_rows(
            correlated, stats, tables, expanded(model, stats.types, tables.pathways),
            shrinkage=options.shrinkage,
        )  # fmt: skip
        model = pl.concat([model, _with_enums(of_copulas, enums)])
    model = model.select(schema.MODEL.names)
    if not schema.MODEL.is_sorted(model):
        order = model.select(pl.arg_sort_by(schema.MODEL.keys)).to_series()
        model = _in_order(model.get_columns(), order)
    fits = schema.FITS.conform(fits, enums)
    release_memory(_HELD)  # which fits took, and the model's arrays need
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
        model,
        fits=fits,
        scores=schema.SCORES.conform(scores, enums),
        types=stats.types,
        units={p.name: p.unit for p in properties},
        facts={**facts, "generation": seal_of(facts)},
    )


def _fitted(
    results: Iterator[PropertyTables],
    properties: Sequence[Property],
    enums: Mapping[str, pl.Enum],
    options: BuildOptions,
) -> Iterator[pl.DataFrame]:
    """Return the tables of all properties; words are Enums, as text they would be most of them."""
    pieces: tuple[list[pl.DataFrame], ...] = ([], [], [])
    for done, prop in enumerate(properties, 1):
        own = pl.lit(prop.name, dtype=enums["property"]).alias("property")
        for frames, frame in zip(pieces, next(results), strict=True):
            frames.append(_with_enums(frame.with_columns(own), enums))
        del frame  # the next property needs the room
        if options.progress:
            options.progress("build", done, len(properties), "properties")
    return map(pl.concat, pieces)


def _in_order(columns: list[pl.Series], order: pl.Series) -> pl.DataFrame:
    """Return a table of columns in an order, put so one by one: there is no room for two tables."""
    for i, column in enumerate(columns):
        columns[i] = column.gather(order)
    return pl.DataFrame(columns)


def _with_enums(frame: pl.DataFrame, enums: Mapping[str, pl.Enum]) -> pl.DataFrame:
    """Return a frame with its names as Enums."""
    return frame.cast({name: enums[name] for name in frame.columns if name in enums})


def _with_values(
    properties: tuple[Property, ...], tables: StatisticsTables
) -> tuple[Property, ...]:
    """Return the properties that any pathway has a number of; say which are left out."""
    with_values = tables.stats.table.filter(pl.col("n") > 0).select("property").unique()
    names = set(with_values.collect(engine="streaming")["property"])
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
    if tables.n_pathways == len(tables.pathways):
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
