"""The rows of a model's table: checked, and read as distributions."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.distributions.copula import Copulas, copulas, fault_in
from connprops.distributions.distributions import Distributions
from connprops.errors import ModelError
from connprops.families.registry import FAMILIES, family_named
from connprops.schema import N_SYN_PER_CONN

_SUM_TO_ONE = 1e-5  # as near as the reference asks for

ENUMS = {
    "distribution": pl.Enum([*FAMILIES, schema.COPULA]),
    "parameter": pl.Enum(
        sorted({schema.CORRELATION, *(p.name for f in FAMILIES.values() for p in f.parameters)})
    ),
    "dtype": pl.Enum(["int", "float"]),
    "status": pl.Enum(["ok", "fallback", "failed"]),
}
"""Columns of names that are the same in all models."""

_OF_PATHWAY = ("distribution", "level", "shared_within", "dtype", "lower_bound", "upper_bound")
"""Columns that say the same on all rows of a pathway and property."""

_LEVELS = (-1, 4)


class ModelRows:
    """The rows of a model's table, by the names that it knows.

    What does not hold together is refused with a :class:`~connprops.errors.ModelError` that names
    pathway and property.

    Attributes
    ----------
    table : polars.DataFrame
        The rows with their names as Enums in their order, sorted by their keys.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        source_types: list[str],
        target_types: list[str],
        properties: list[str],
    ) -> None:
        self._source_types = source_types
        self._target_types = target_types
        self._properties = properties
        self.table = _with_enums(table, source_types, target_types, properties)

    @cached_property
    def marginals(self) -> pl.DataFrame:
        """Return the rows that are of the properties' own distributions."""
        return self.table.filter(pl.col("other_property").is_null())

    @cached_property
    def correlations(self) -> pl.DataFrame:
        """Return the rows that are of the copulas: a correlation each."""
        return self.table.filter(pl.col("other_property").is_not_null())

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """Return "int" or "float" of each property."""
        return dict(self.table.select("property", "dtype").unique().iter_rows())

    def check(self) -> None:
        """Check what rows say of themselves, and that those of one distribution agree."""
        distribution = ("source_type", "target_type", "property")
        # Rows are sorted: those of one distribution follow each other.
        goes_on = pl.all_horizontal(pl.col(distribution) == pl.col(distribution).shift())
        unshared = pl.col("shared_within").is_null() & (pl.col("property") != N_SYN_PER_CONN)
        unbounded = pl.any_horizontal(pl.col("lower_bound", "upper_bound").is_nan())
        is_copula = pl.col("distribution") == schema.COPULA
        for wrong, text in (
            (is_copula, "is a copula, yet of no other property"),
            *((goes_on & pl.col(name).ne_missing(pl.col(name).shift()),
               f"has several values of {name!r}") for name in _OF_PATHWAY),
            (~pl.col("level").is_between(*_LEVELS), "has an unknown level"),
            (unshared, "does not say whether connections share it"),
            (unbounded, "has a bound that is no number"),
        ):  # fmt: skip
            found = self.marginals.filter(wrong)
            if len(found):
                source, target, name = found.row(0)[:3]
                raise _contradiction(name, source, target, text)
        dtypes = self.table.group_by("property").agg(pl.col("dtype").n_unique())
        several = dtypes.filter(pl.col("dtype") > 1)["property"]
        if len(several):
            raise ModelError.of(
                f"Property {several[0]!r} has several data types", expected="one in all pathways"
            )

    def distributions(self, name: str) -> list[Distributions]:
        """Return the distributions of a property, after checking that they hold together."""
        n_target = len(self._target_types)
        place = pl.col("source_type").to_physical().cast(pl.Int64) * n_target
        rows = self.marginals.filter(pl.col("property") == name).with_columns(
            (place + pl.col("target_type").to_physical()).alias("pathway")
        )
        found = []
        for (family,), of_family in rows.group_by("distribution", maintain_order=True):
            distribution = family_named(str(family))
            pathway = of_family["pathway"].unique(maintain_order=True).to_numpy()
            # A distribution without parameters has one row all the same: the mean, 0.
            known = [p.name for p in distribution.parameters] or ["mean"]
            others = of_family.filter(~pl.col("parameter").is_in(known))
            if len(others):
                at, text = int(others["pathway"][0]), f"is {family}, yet has a parameter"
                self._refuse(name, at, f"{text} {others['parameter'][0]!r}")
            parameters = {
                p.name: self._parameter(name, of_family, p.name, pathway, is_list=p.is_list)
                for p in distribution.parameters
            }
            bounds = of_family.unique("pathway", keep="first", maintain_order=True)
            lower = bounds["lower_bound"].fill_null(-np.inf).to_numpy()
            upper = bounds["upper_bound"].fill_null(np.inf).to_numpy()
            distributions = Distributions(distribution, pathway, parameters, lower, upper)
            self._check_values(name, distributions)
            found.append(distributions)
        return found

    def copulas(self) -> dict[bool, Copulas]:
        """Return the copulas of shared properties and of others, after checking them."""
        fault = fault_in(self.correlations, self.marginals)
        if fault is not None:
            (source, target, name), text = fault
            raise _contradiction(name, source, target, text)
        found = {}
        for shared in (True, False):
            rows = self.correlations.filter(pl.col("shared_within") == shared)
            one = copulas(rows, self._properties, len(self._target_types))
            singular = np.flatnonzero(np.linalg.eigvalsh(one.matrix).min(axis=1, initial=1) <= 0)
            if singular.size:
                text = "has correlations whose matrix is not positive definite"
                self._refuse(one.properties[0], int(one.pathway[singular[0]]), text)
            found[shared] = one
        return found

    def _parameter(
        self,
        name: str,
        rows: pl.DataFrame,
        parameter: str,
        pathway: NDArray[np.int64],
        *,
        is_list: bool,
    ) -> Floats:
        of_parameter = rows.filter(pl.col("parameter") == parameter)
        at = np.searchsorted(pathway, of_parameter["pathway"].to_numpy())
        counts = np.bincount(at, minlength=pathway.size)
        if (counts == 0).any():
            missing = int(pathway[np.argmin(counts)])
            self._refuse(name, missing, f"lacks the parameter {parameter!r}")
        values = of_parameter["value"].to_numpy()
        if not np.isfinite(values).all():
            bad = int(of_parameter["pathway"].to_numpy()[~np.isfinite(values)][0])
            self._refuse(name, bad, f"has a parameter {parameter!r} that is no number")
        if not is_list:
            if (counts > 1).any():
                self._refuse(
                    name, int(pathway[np.argmax(counts)]), f"has several values of {parameter!r}"
                )
            return values.astype(np.float64)
        position = of_parameter["position"].to_numpy()
        expected = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        if (position != expected).any():
            bad = int(of_parameter["pathway"].to_numpy()[position != expected][0])
            self._refuse(name, bad, f"has gaps in the positions of {parameter!r}")
        padded = np.full((pathway.size, int(counts.max(initial=1))), np.nan)
        padded[at, position] = values
        return padded

    def _check_values(self, name: str, distributions: Distributions) -> None:
        for p in distributions.family.parameters:
            values = distributions.parameters[p.name]
            with np.errstate(invalid="ignore"):
                wrong = (values < p.lower) | (values > p.upper)
            rows = np.flatnonzero(wrong.any(axis=1) if p.is_list else wrong)
            if rows.size:
                bad = int(distributions.pathway[rows[0]])
                text = f"has a {p.name!r} outside [{p.lower}, {p.upper}]"
                self._refuse(name, bad, text)
        if "p" in distributions.parameters:
            total = np.nansum(distributions.parameters["p"], axis=1)
            lengths = [np.isfinite(distributions.parameters[k]).sum(axis=1) for k in ("val", "p")]
            for wrong, text in (
                (np.abs(total - 1) > _SUM_TO_ONE, "has probabilities that do not sum to 1"),
                (lengths[0] != lengths[1], "has values and probabilities of different number"),
            ):
                if wrong.any():
                    self._refuse(name, int(distributions.pathway[wrong][0]), text)
        if {"min", "max"} <= distributions.parameters.keys():
            wrong = distributions.parameters["min"] > distributions.parameters["max"]
            if wrong.any():
                self._refuse(name, int(distributions.pathway[wrong][0]), "has min above max")
        self._check_moments(name, distributions)
        low, high = distributions.family.support(distributions.parameters)
        for wrong, text in (
            (distributions.lower > distributions.upper, "has a lower bound above the upper one"),
            (
                (low > distributions.upper) | (high < distributions.lower),
                "has bounds that exclude its support",
            ),
        ):
            if wrong.any():
                at = int(np.flatnonzero(np.broadcast_to(wrong, distributions.pathway.shape))[0])
                self._refuse(name, int(distributions.pathway[at]), text)

    def _check_moments(self, name: str, distributions: Distributions) -> None:
        """Refuse distributions that floating-point numbers cannot hold, or that are none."""
        mean, std = (
            distributions.family.mean(distributions.parameters),
            distributions.family.std(distributions.parameters),
        )
        mean, std = (np.broadcast_to(values, distributions.pathway.shape) for values in (mean, std))
        whole = self.dtypes[name] == "int" or name == N_SYN_PER_CONN
        beyond = distributions.family.beyond_numbers(distributions.parameters, whole=whole)
        vast = np.flatnonzero(beyond & np.isfinite(mean) & (std >= 0))
        if vast.size:
            self._refuse(
                name, int(distributions.pathway[vast[0]]), "has values too large for counts"
            )
        median = distributions.family.ppf(
            np.full(distributions.pathway.shape, 0.5), distributions.parameters
        )
        none = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(median) & (std >= 0)))
        if none.size:
            text = "has parameters that describe no distribution"
            self._refuse(name, int(distributions.pathway[none[0]]), text)

    def _refuse(self, name: str, pathway: int, text: str) -> None:
        source, target = divmod(pathway, len(self._target_types))
        raise _contradiction(name, self._source_types[source], self._target_types[target], text)


def _contradiction(name: str, source: str, target: str, text: str) -> ModelError:
    return ModelError.of(
        f"Property {name!r} of pathway {source!r} to {target!r} {text}",
        hint="was the model edited by hand?",
    )


def _with_enums(
    table: pl.DataFrame, source: list[str], target: list[str], properties: list[str]
) -> pl.DataFrame:
    """Return the table with its names as Enums in their order, sorted by its keys."""
    names = {"source_type": source, "target_type": target, "property": properties,
             "other_property": properties}  # fmt: skip
    enums = {column: pl.Enum(known) for column, known in names.items()}
    enums |= {column: enum for column, enum in ENUMS.items() if column in table.columns}
    for column, enum in enums.items():
        text = table[column].cast(pl.String).drop_nulls()
        unknown = text.filter(text.cast(enum, strict=False).is_null())
        if len(unknown):
            what = column.replace("_", " ")
            raise ModelError.unknown(f"{what} in the model", unknown[0], enum.categories)
    return (
        table.select(schema.MODEL.names)
        .with_columns(pl.col(column).cast(pl.String).cast(enum) for column, enum in enums.items())
        .sort(schema.MODEL.keys)
    )


_PARAMETER_ROWS = pl.Schema(
    {name: schema.MODEL.polars_schema()[name]
     for name in ("distribution", "parameter", "position", "value", "std_error")}
    | {"pathway": pl.Int64()}
)  # fmt: skip


def parameter_rows(distributions: Iterable[Distributions]) -> pl.DataFrame:
    """Return a row for each parameter of each pathway, as in a model but for their numbers."""
    pieces = [pl.DataFrame(schema=_PARAMETER_ROWS)]
    for of_family in distributions:
        n = of_family.pathway.size
        # A family without parameters has one row all the same: the mean, 0.
        for name, array in (of_family.parameters or {"mean": np.zeros(n)}).items():
            values = array.reshape(n, -1)
            errors = of_family.std_error.get(name, np.full_like(values, np.nan)).reshape(n, -1)
            row, position = np.nonzero(~np.isnan(values))
            piece = {
                "distribution": pl.repeat(of_family.family.name, row.size, eager=True),
                "parameter": pl.repeat(name, row.size, eager=True),
                "position": position,
                "value": values[row, position],
                "std_error": pl.Series(errors[row, position], dtype=pl.Float64).fill_nan(None),
                "pathway": of_family.pathway[row],
            }
            pieces.append(pl.DataFrame(piece, schema_overrides=_PARAMETER_ROWS))
    return pl.concat(pieces)
