"""The rows of a model's table: checked, and read as distributions and copulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.distributions.copula import Copulas, copulas
from connprops.distributions.distributions import Distributions
from connprops.errors import ModelError
from connprops.families.composed import adapted
from connprops.families.family import Parameter
from connprops.families.registry import FAMILIES
from connprops.families.sample import Known
from connprops.pathways import (
    IS_OWN,
    Pathways,
    enums_of_keys,
    expanded,
    number_of_pair,
    resolved,
)
from connprops.schema import COPULA, CORRELATION, N_SYN_PER_CONN, PATHWAY, ROW_KEYS

SUM_TO_ONE = 1e-5
"""How far from 1 the sum of probabilities may be: as the reference has it."""

ENUMS = {
    "distribution": pl.Enum([*FAMILIES, COPULA]),
    "parameter": pl.Enum(
        sorted({CORRELATION, *(p.name for f in FAMILIES.values() for p in f.parameters)})
    ),
    "dtype": pl.Enum(["int", "float"]),
    "status": pl.Enum(["ok", "fallback", "failed", "rejected"]),
}
"""Types of the columns whose words are the same in all models."""

_KEYS = [*ROW_KEYS, "property"]

PATHWAYS_AT_ONCE = 1 << 20
"""Pathways of which it is found at once what they borrow."""

_CHECKED_AT_ONCE = 1 << 18
"""Distributions that are checked at once: a check takes several times their memory."""

_OF_PROPERTY = ("shared_within", "within_correlation", "dtype", "lower_bound", "upper_bound")
"""Columns that say the same on all rows of a pathway and property, those of its copula too."""

_OF_DISTRIBUTION = ("distribution", "parameter", "position", "value", "std_error", "own_value",
                    "lower_bound", "upper_bound")  # fmt: skip
"""Columns that distributions are read from."""

_OF_PARAMETER = ("pathway", "position", "value", "std_error", "own_value")
"""Columns that the values of one parameter are read from."""

LATER = {
    **dict.fromkeys(ROW_KEYS[2:], pl.lit(None, dtype=pl.String)),
    "ci_low": pl.lit(None, dtype=pl.Float64),
    "ci_high": pl.lit(None, dtype=pl.Float64),
    "own_value": pl.lit(None, dtype=pl.Float64),
    "within_correlation": pl.col("shared_within").cast(pl.Float64),
}
"""Columns that tables of version 1 lack, and what stands for them."""

_HAS_LEVEL = pl.col("level").is_between(-1, 4)

# Rules: what would be wrong with a row, and how it is said. Rows are sorted: those of one
# distribution follow each other.
_SAME = pl.all_horizontal(pl.col(key).eq_missing(pl.col(key).shift()) for key in _KEYS)
_OF_MARGINALS = (
    (pl.col("distribution") == COPULA, "is a copula, yet of no other property"),
    *((_SAME & pl.col(name).ne_missing(pl.col(name).shift()), f"has several values of {name!r}")
      for name in ("distribution", "level", *_OF_PROPERTY)),
    (~_HAS_LEVEL, "has an unknown level"),
    (~IS_OWN & (pl.col("level") < 0), "has no types, yet does not borrow"),
    (pl.col("shared_within").is_null() & (pl.col("property") != N_SYN_PER_CONN),
     "does not say whether connections share it"),
    ((pl.col("within_correlation") == 1).ne_missing(pl.col("shared_within"))
     | ~pl.col("within_correlation").is_between(0, 1),
     "has a correlation within connections that is not within [0, 1], or not 1 where it is shared"),
    (pl.any_horizontal(pl.col("lower_bound", "upper_bound").is_nan()),
     "has a bound that is no number"),
)  # fmt: skip
_OF_CORRELATIONS = (
    ((pl.col("distribution") != COPULA) | (pl.col("parameter") != CORRELATION),
     "has another property, yet is no correlation of a copula"),
    (~_HAS_LEVEL, "has a correlation of an unknown level"),
    (~IS_OWN, "has a correlation that is not of one pathway"),
    (pl.any_horizontal(pl.col("property", "other_property") == N_SYN_PER_CONN),
     f"is correlated with {N_SYN_PER_CONN}"),
    (pl.col("property").to_physical() >= pl.col("other_property").to_physical(),
     "is correlated with one that is not after it in the model's order"),
    (pl.struct(*_KEYS, "other_property").is_duplicated() | (pl.col("position") != 0),
     "has several correlations with one other property"),
    (~pl.col("value").is_between(-1, 1) | pl.col("value").is_nan(),
     "has a correlation that is not within [-1, 1]"),
    (pl.col("dtype_of_marginal").is_null() | pl.col("shared_within_of_other").is_null(),
     "is correlated, yet one of the two has no distribution"),
    (pl.col("shared_within") != pl.col("shared_within_of_other"),
     "is correlated with one that is not shared alike"),
    (pl.any_horizontal(
        pl.col(name).ne_missing(pl.col(f"{name}_of_marginal")) for name in _OF_PROPERTY),
     "has correlations that say something else of it than its distribution"),
)  # fmt: skip


def of_any_version(table: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a model with the columns that tables of version 1 lack."""
    if "shared_within" not in table.columns:
        return table
    return table.with_columns(
        column.alias(name) for name, column in LATER.items() if name not in table.columns
    )


@dataclass(frozen=True)
class Lent:
    """The distributions of a property, of which several pathways may have one.

    ``rows`` are numbered as ``pathway`` by the pathway whose own they are, and by numbers beyond
    those of all pathways. ``keys`` says which pathways may have each of the latter, and ``own``
    which have one of the former. What is of all pathways, observed or not, is made when it is asked
    for: of thousands of types there are a hundred million.
    """

    rows: list[Distributions]
    keys: pl.DataFrame
    own: Ints
    types: pl.DataFrame
    pathways: Pathways

    def row_at(self, numbers: Ints) -> Ints:
        """Return the number of the distribution of some pathways, -1 where one has none."""
        place = np.minimum(np.searchsorted(self.own, numbers), max(self.own.size - 1, 0))
        is_own = self.own[place] == numbers if self.own.size else np.zeros(numbers.size, np.bool_)
        row_of = numbers.astype(np.int64)
        row = resolved(self.keys, self.types, self.pathways, numbers[~is_own])
        row_of[~is_own] = np.where(row < 0, -1, len(self.pathways) + row)
        return row_of

    @cached_property
    def row_of(self) -> Ints:
        """Return the number of the distribution of each pathway, -1 where it has none."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._blocks()])

    def _blocks(self) -> Iterator[Ints]:
        n = len(self.pathways)
        for start in range(0, n, PATHWAYS_AT_ONCE):
            yield self.row_at(np.arange(start, min(start + PATHWAYS_AT_ONCE, n)))

    @cached_property
    def n_with(self) -> int:
        """Return how many pathways have a distribution."""
        is_of_all = pl.all_horizontal(pl.col(ROW_KEYS).is_null())
        if self.keys.select(is_of_all.any()).item():
            return len(self.pathways)
        return sum(int(np.count_nonzero(row_of >= 0)) for row_of in self._blocks())

    @property
    def n_pathways(self) -> dict[str, int]:
        """Return how many pathways have each family."""
        users = dict.fromkeys((d.family.name for d in self.rows), 0)
        for row_of in self._blocks():
            for d in self.rows:
                users[d.family.name] += int(_users(d.pathway, row_of)[0].size)
        return {name: n for name, n in users.items() if n}

    def by_pathway(self) -> list[Distributions]:
        """Return the distributions of all pathways that have one, family by family."""
        return [
            replace(of_family.take(place), pathway=pathway)
            for of_family in self.rows
            for pathway, place in [_users(of_family.pathway, self.row_of)]
            if pathway.size
        ]


def _users(number: Ints, row_of: Ints) -> tuple[Ints, Ints]:
    """Return the pathways that have one of some distributions, and which."""
    place = np.minimum(np.searchsorted(number, row_of), number.size - 1)
    pathway = np.flatnonzero(number[place] == row_of)
    return pathway, place[pathway]


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
        self, table: pl.DataFrame, types: pl.DataFrame, pathways: Pathways, properties: list[str]
    ) -> None:
        self._types = types
        self._pathways = pathways
        self._properties = properties
        self.table = _with_enums(table, types, pathways, properties)

    @cached_property
    def marginals(self) -> pl.DataFrame:
        """Return the rows that are of the properties' own distributions."""
        has_correlations = self.table["other_property"].null_count() < len(self.table)
        of_marginals = pl.col("other_property").is_null()
        return self.table.filter(of_marginals) if has_correlations else self.table

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
        _refuse_rows(self.marginals, _OF_MARGINALS)
        dtypes = self.table.group_by("property").agg(pl.col("dtype").n_unique())
        several = dtypes.filter(pl.col("dtype") > 1)["property"]
        if len(several):
            raise ModelError.of(
                f"Property {several[0]!r} has several data types", expected="one in all pathways"
            )

    @cached_property
    def by_pathway(self) -> pl.DataFrame:
        """Return the marginals of each pathway by its types."""
        return expanded(self.marginals, self._types, self._pathways).sort(schema.MODEL.keys)

    def distributions(self, name: str) -> Lent:
        """Return the distributions of a property as the rows have them, after checking them."""
        rows = self.marginals.lazy().filter(pl.col("property") == name)
        lent = rows.filter(~IS_OWN).collect()
        keys = lent.select(*ROW_KEYS, "level").unique(maintain_order=True)
        number = len(self._pathways) + pl.int_range(pl.len(), dtype=pl.Int64)
        lent = lent.join(
            keys.with_columns(number.alias("pathway")), on=[*ROW_KEYS, "level"], how="left",
            nulls_equal=True, maintain_order="left",
        ).sort("pathway", maintain_order=True)  # fmt: skip
        # Rows are sorted, and their Enums in our order; no column is copied that is not needed.
        source, target = (pl.col(side).to_physical().cast(pl.Int64) for side in PATHWAY)
        pathway = number_of_pair(source, target, self._pathways.shape[1]).alias("pathway")
        of_one = rows.filter(IS_OWN).select(pathway, *_OF_DISTRIBUTION).collect()
        of_all = pl.concat([of_one, lent.select("pathway", *_OF_DISTRIBUTION)])
        own = of_one["pathway"].unique().sort().to_numpy()
        return Lent(self._read(name, of_all), keys, own, self._types, self._pathways)

    def _read(self, name: str, rows: pl.DataFrame) -> list[Distributions]:
        whole = self.dtypes.get(name) == "int" or name == N_SYN_PER_CONN
        read = []
        families = rows["distribution"].unique(maintain_order=True)
        for family in families:
            of_family = pl.col("distribution") == family
            distributions = self._from_rows(
                name, rows if len(families) == 1 else rows.filter(of_family)
            )
            for start in range(0, len(distributions), _CHECKED_AT_ONCE):
                part = distributions.take(np.s_[start : start + _CHECKED_AT_ONCE])
                with np.errstate(invalid="ignore"):
                    for wrong, text in faults_of(part, whole=whole):
                        self._refuse(name, wrong, part.pathway, text)
            read.append(distributions)
        return read

    def copulas(self) -> dict[bool, Copulas]:
        """Return the copulas of shared properties and of others, after checking them."""
        if self.correlations.is_empty():
            none = copulas(self.correlations, self._properties, self._pathways)
            return dict.fromkeys((True, False), none)
        marginals = self.by_pathway.select(*PATHWAY, "property", *_OF_PROPERTY)
        marginals = marginals.unique([*PATHWAY, "property"])
        other = marginals.select(
            *PATHWAY, pl.col("property").alias("other_property"), "shared_within"
        )
        pairs = self.correlations.join(
            marginals, on=[*PATHWAY, "property"], how="left", suffix="_of_marginal",
            maintain_order="left",
        ).join(
            other, on=[*PATHWAY, "other_property"], how="left", suffix="_of_other",
            maintain_order="left",
        )  # fmt: skip
        _refuse_rows(pairs, _OF_CORRELATIONS)
        read = {}
        for shared in (True, False):
            rows = self.correlations.filter(pl.col("shared_within") == shared)
            copula = copulas(rows, self._properties, self._pathways)
            singular = np.linalg.eigvalsh(copula.matrix).min(axis=1, initial=1) <= 0
            text = "has correlations whose matrix is not positive definite"
            self._refuse((*copula.properties, "")[0], singular, copula.pathway, text)
            read[shared] = copula
        return read

    def _from_rows(self, name: str, rows: pl.DataFrame) -> Distributions:
        """Return the distributions of a family: the inverse of :func:`parameter_rows`."""
        known = Known(rounded=self.dtypes.get(name) == "int" or name == N_SYN_PER_CONN)
        family = adapted(FAMILIES[rows["distribution"][0]], known)
        # A family without parameters has one row all the same: the mean, 0.
        other = ~rows["parameter"].is_in([p.name for p in family.parameters] or ["mean"])
        if other.any():
            text = f"is {family.name}, yet has a parameter {rows['parameter'].filter(other)[0]!r}"
            self._refuse(name, other.to_numpy(), rows["pathway"].to_numpy(), text)
        first = rows.select("pathway", "lower_bound", "upper_bound").unique(
            "pathway", keep="first", maintain_order=True
        )
        pathway = first["pathway"].to_numpy()
        parameters: dict[str, Floats] = {}
        std_error: dict[str, Floats] = {}
        own_value: dict[str, Floats] = {}
        for parameter in family.parameters:
            is_its = rows["parameter"] == parameter.name
            of_parameter = rows.select(*_OF_PARAMETER).filter(is_its)
            row, column = self._places(name, of_parameter, pathway, parameter)
            shape = (pathway.size, int(column.max(initial=0)) + 1)
            for arrays, values in (
                (parameters, "value"), (std_error, "std_error"), (own_value, "own_value"),
            ):  # fmt: skip
                numbers = of_parameter[values]
                array = np.broadcast_to(np.nan, shape)
                if numbers.null_count() < len(numbers):
                    array = np.full(shape, np.nan)
                    array[row, column] = numbers.fill_null(np.nan).to_numpy()
                arrays[parameter.name] = array if parameter.is_list else array[:, 0]
        lower = first["lower_bound"].fill_null(-np.inf).to_numpy()
        upper = first["upper_bound"].fill_null(np.inf).to_numpy()
        return Distributions(
            family, pathway, parameters, lower, upper, std_error, own_value=own_value
        )

    def _places(
        self, name: str, rows: pl.DataFrame, pathway: Ints, parameter: Parameter
    ) -> tuple[Ints, Ints]:
        """Return the places of a parameter's values in their array (g, k), after checking them."""
        number, position = rows["pathway"].to_numpy(), rows["position"].to_numpy()
        row = np.searchsorted(pathway, number)
        counts = np.bincount(row, minlength=pathway.size)
        quoted = repr(parameter.name)
        self._refuse(name, counts == 0, pathway, f"lacks the parameter {quoted}")
        finite = np.isfinite(rows["value"].to_numpy())
        self._refuse(name, ~finite, number, f"has a parameter {quoted} that is no number")
        if not parameter.is_list:
            self._refuse(name, counts > 1, pathway, f"has several values of {quoted}")
            return row, np.zeros_like(row)
        gaps = position != np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
        self._refuse(name, gaps, number, f"has gaps in the positions of {quoted}")
        return row, position

    def _refuse(self, name: str, wrong: ArrayLike, pathway: Ints, text: str) -> None:
        """Refuse the first of a property's pathways with which something is wrong."""
        at = np.flatnonzero(np.broadcast_to(wrong, pathway.shape))
        if at.size:
            number = int(pathway[at[0]])
            is_own = number < len(self._pathways)
            names = self._pathways.names(number) if is_own else ("", "")
            raise _contradiction(name, *names, text)


def faults_of(distributions: Distributions, *, whole: bool) -> Iterator[tuple[ArrayLike, str]]:
    """Give what may be wrong with distributions, (g,), and how it is said; ``whole`` for counts."""
    family, values = distributions.family, distributions.parameters
    for p in family.parameters:
        wrong = (values[p.name] < p.lower) | (values[p.name] > p.upper)
        text = f"has a {p.name!r} outside [{p.lower}, {p.upper}]"
        yield wrong.any(axis=1) if p.is_list else wrong, text
    if "p" in values:
        total = np.nansum(values["p"], axis=1)
        yield np.abs(total - 1) > SUM_TO_ONE, "has probabilities that do not sum to 1"
        n_values, n_p = (np.isfinite(values[name]).sum(axis=1) for name in ("val", "p"))
        yield n_values != n_p, "has values and probabilities of different number"
    if "quantile" in values:
        yield (np.diff(values["quantile"]) < 0).any(axis=1), "has quantiles that decrease"
    if {"min", "max"} <= values.keys():
        yield values["min"] > values["max"], "has min above max"
    mean, std = (family.unrounded or family).moments(values)
    is_number = np.isfinite(mean) & (std >= 0)
    beyond = family.beyond_numbers(values, whole=whole)
    yield beyond & is_number, "has values too large for counts"
    median = family.ppf(np.full(len(distributions), 0.5), values)
    yield ~(is_number & np.isfinite(median)), "has parameters that describe no distribution"
    lower, upper = distributions.lower, distributions.upper
    yield lower > upper, "has a lower bound above the upper one"
    low, high = family.support(values)
    yield (low > upper) | (high < lower), "has bounds that exclude its support"


def _refuse_rows(rows: pl.DataFrame, rules: Iterable[tuple[pl.Expr, str]]) -> None:
    """Refuse the first row that breaks the first of the rules that are broken."""
    for wrong, text in rules:
        broken = rows.filter(wrong)
        if len(broken):
            columns = pl.col(*PATHWAY, "property").cast(pl.String)
            source, target, name = broken.select(columns).row(0)
            raise _contradiction(name, source, target, text)


def _contradiction(name: str, source: str | None, target: str | None, text: str) -> ModelError:
    of = f"pathway {source!r} to {target!r}" if source and target else "pathways that borrow"
    return ModelError.of(
        f"Property {name!r} of {of} {text}",
        hint="was the model edited by hand?",
    )


def _with_enums(
    table: pl.DataFrame, types: pl.DataFrame, pathways: Pathways, properties: list[str]
) -> pl.DataFrame:
    """Return the table with its names as Enums in their order, sorted by its keys."""
    names = dict.fromkeys(("property", "other_property"), pl.Enum(properties))
    fixed = {column: enum for column, enum in ENUMS.items() if column in table.columns}
    enums = {**enums_of_keys(types, pathways), **names, **fixed}
    enums = {column: enum for column, enum in enums.items() if table.schema[column] != enum}
    for column, enum in enums.items():
        text = table[column].cast(pl.String).drop_nulls()
        unknown = text.filter(text.cast(enum, strict=False).is_null())
        if len(unknown):
            what = column.replace("_", " ")
            raise ModelError.unknown(f"{what} in the model", unknown[0], enum.categories)
    table = table.select(schema.MODEL.names).with_columns(
        pl.col(column).cast(pl.String).cast(enum) for column, enum in enums.items()
    )
    return schema.MODEL.sorted(table)


_PARAMETER_ROWS = pl.Schema(
    {name: schema.MODEL.polars_schema(**ENUMS)[name]
     for name in ("distribution", "parameter", "position", "value", "std_error", "ci_low",
                  "ci_high", "own_value")}
    | {"pathway": pl.Int64()}
)  # fmt: skip


def parameter_rows(distributions: Iterable[Distributions]) -> pl.DataFrame:
    """Return a row for each parameter of each pathway, as in a model but for their numbers."""
    pieces = [pl.DataFrame(schema=_PARAMETER_ROWS)]
    for of_family in distributions:
        # A family without parameters has one row all the same: the mean, 0.
        for name, array in (of_family.parameters or {"mean": np.zeros(len(of_family))}).items():
            values = array[:, None] if array.ndim == 1 else array
            interval = of_family.interval.get(name, np.full((*array.shape, 2), np.nan))
            bounds = interval.reshape(*values.shape, 2)
            row, position = np.nonzero(~np.isnan(values))
            piece = {
                "distribution": pl.repeat(
                    of_family.family.name, row.size, dtype=ENUMS["distribution"], eager=True
                ),
                "parameter": pl.repeat(name, row.size, dtype=ENUMS["parameter"], eager=True),
                "position": position,
                "value": values[row, position],
                **{
                    bound: pl.Series(bounds[row, position, i], dtype=pl.Float64).fill_nan(None)
                    for i, bound in enumerate(("ci_low", "ci_high"))
                },
                "pathway": of_family.pathway[row],
            }
            for column in ("std_error", "own_value"):
                beside = getattr(of_family, column).get(name, np.full_like(array, np.nan))
                beside = beside.reshape(values.shape)[row, position]
                piece[column] = pl.Series(beside, dtype=pl.Float64).fill_nan(None)
            pieces.append(
                pl.DataFrame(piece, schema_overrides=_PARAMETER_ROWS).select(
                    _PARAMETER_ROWS.names()
                )
            )
    return pl.concat(pieces)
