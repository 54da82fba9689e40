"""The table of a model: the distributions of every property of every pathway, evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.arrays.sorted_samples import QUANTILES
from connprops.distributions.copula import Copulas
from connprops.distributions.distributions import Distributions
from connprops.distributions.expected import with_expected
from connprops.distributions.rows import Lent, ModelRows, of_any_version
from connprops.errors import OptionError
from connprops.pathways import Pathways, expanded
from connprops.schema import N_SYN_PER_CONN

Rng = int | np.random.Generator | None

_LEAST_PROBABILITY = 2.0**-54

KEPT_ROWS = 1 << 20
"""Rows of a table up to which all of its distributions are kept once they are read."""


class ModelTable:
    """Distributions of every property of every pathway, by a model's table.

    Attributes
    ----------
    table : polars.DataFrame
        The parameters: :data:`connprops.schema.MODEL`.
    types : polars.DataFrame
        Types of both sides: :data:`connprops.schema.TYPES`.
    units : dict
        Unit of each property.
    facts : dict
        Where the model comes from: identity of the data, and options; and the labels of the
        properties whose values are codes.

    Raises
    ------
    ModelError
        Where the table does not hold together: the message names pathway and property.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        *,
        types: pl.DataFrame,
        units: Mapping[str, str],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        table = of_any_version(table)
        schema.MODEL.check(table, "The model")
        self.types = types
        self.units = dict(units)
        self.facts = dict(facts or {})
        self._rows = rows = ModelRows(table, self.types, self.pathways, self.properties)
        rows.check()
        self.table = rows.table
        self._dtypes = rows.dtypes
        self._lent: dict[str, Lent] = {}
        self._by_pathway: dict[str, list[Distributions]] = {}
        for name in self.properties:
            self.lent(name)  # which checks its rows
        self._copulas = rows.copulas()

    @property
    def properties(self) -> list[str]:
        """Return the names of the properties, ``n_syn_per_conn`` last."""
        return list(self.units)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of the properties whose values are codes from 0, by property."""
        return {name: tuple(labels) for name, labels in self.facts.get("labels", {}).items()}

    @cached_property
    def pathways(self) -> Pathways:
        """Return the pathways, by the types of both sides in order."""
        types = self.types.sort("code")
        return Pathways(
            *(types.filter(side=side)["type"].to_list() for side in ("source", "target"))
        )

    @property
    def source_types(self) -> list[str]:
        """Return the source types in order."""
        return list(self.pathways.source_types)

    @property
    def target_types(self) -> list[str]:
        """Return the target types in order."""
        return list(self.pathways.target_types)

    @property
    def marginals(self) -> pl.DataFrame:
        """Return the rows of the properties' own distributions, of each pathway by its types."""
        return self._rows.by_pathway

    def expanded(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows that have keys as the table has, of each pathway by its types."""
        return expanded(rows, self.types, self.pathways)

    @property
    def correlations(self) -> pl.DataFrame:
        """Return the rows of the table that are of the copulas: a correlation each."""
        return self._rows.correlations

    def lent(self, property: str) -> Lent:  # noqa: A002 - the field's own word
        """Return the distributions of a property, and which of them each pathway has."""
        if property not in self.units:
            raise OptionError.unknown("property", property, self.properties)
        if property not in self._lent:
            if len(self.table) > KEPT_ROWS:  # there is room for one property's
                self._lent.clear()
                self._by_pathway.clear()
            self._lent[property] = self._rows.distributions(property)
        return self._lent[property]

    def distributions(self, property: str) -> list[Distributions]:  # noqa: A002
        """Return the distributions of a property in all pathways, family by family."""
        if property not in self._by_pathway:
            self._by_pathway[property] = self.lent(property).by_pathway()
        return self._by_pathway[property]

    def copulas(self, *, shared: bool) -> Copulas:
        """Return the correlations of properties that connections share, or of the others."""
        return self._copulas[shared]

    def distribution(self, property: str, source_type: str, target_type: str) -> Distributions:  # noqa: A002
        """Return the distribution of one property of one pathway.

        Raises
        ------
        OptionError
            Where there is no such property, type or pathway.
        """
        lent = self.lent(property)
        number = lent.row_at(np.array([self.pathways.number(source_type, target_type)]))[0]
        for distributions in lent.rows:
            at = int(np.searchsorted(distributions.pathway, number))
            if at < len(distributions) and distributions.pathway[at] == number:
                return distributions.take(np.array([at]))
        raise OptionError.of(
            f"The model has no {property!r} for pathway {source_type!r} to {target_type!r}"
        )

    def cdf(self, property: str, source_type: str, target_type: str, x: ArrayLike) -> Floats:  # noqa: A002
        """Return the probability of values up to and including x, of the shape of x."""
        x = np.asarray(x, dtype=np.float64)
        distribution = self.distribution(property, source_type, target_type)
        return distribution.cdf(x.reshape(1, -1)).reshape(x.shape)

    def quantile(self, property: str, source_type: str, target_type: str, q: ArrayLike) -> Floats:  # noqa: A002
        """Return quantiles, of the shape of q."""
        q = np.asarray(q, dtype=np.float64)
        distribution = self.distribution(property, source_type, target_type)
        return distribution.ppf(q.reshape(1, -1)).reshape(q.shape)

    def pdf(self, property: str, source_type: str, target_type: str, x: ArrayLike) -> Floats:  # noqa: A002
        """Return the density, or the mass of a discrete distribution, before bounds."""
        x = np.asarray(x, dtype=np.float64)
        distribution = self.distribution(property, source_type, target_type)
        log = distribution.family.logpdf(x.reshape(1, -1), distribution.parameters)
        return np.exp(log).reshape(x.shape)

    def mean(self, property: str, source_type: str, target_type: str) -> float:  # noqa: A002
        """Return the mean of a distribution, before bounds."""
        distribution = self.distribution(property, source_type, target_type)
        return float(distribution.family.mean(distribution.parameters).item())

    def std(self, property: str, source_type: str, target_type: str) -> float:  # noqa: A002
        """Return the standard deviation of a distribution, before bounds."""
        distribution = self.distribution(property, source_type, target_type)
        return float(distribution.family.std(distribution.parameters).item())

    def draw(
        self,
        property: str,  # noqa: A002
        source_type: str,
        target_type: str,
        size: int,
        rng: Rng = None,
    ) -> NDArray[Any]:
        """Draw values of one property of one pathway.

        Parameters
        ----------
        property, source_type, target_type
            Which distribution.
        size
            How many values.
        rng
            A seed or a generator; None for a seed from the operating system.

        Returns
        -------
        numpy.ndarray
            (size,): within the bounds; int64, rounded, for properties of type int, else
            float64. ``n_syn_per_conn`` is an integer of at least 1.
        """
        distribution = self.distribution(property, source_type, target_type)
        # A probability of exactly 0, which the generator can give, may be minus infinity's.
        q = np.maximum(np.random.default_rng(rng).random((1, size)), _LEAST_PROBABILITY)
        values: NDArray[Any] = distribution.ppf(q)[0]
        if property == N_SYN_PER_CONN:
            values = np.maximum(np.rint(values), 1).astype(np.int64)
        elif self.dtype(property) == "int":
            values = np.rint(values).astype(np.int64)
        return values

    def dtype(self, property: str) -> str:  # noqa: A002
        """Return "int" or "float", the type of drawn values."""
        if property not in self._dtypes:
            raise OptionError.unknown("property", property, self._dtypes)
        return str(self._dtypes[property])

    def expected(self, histograms: pl.DataFrame) -> pl.DataFrame:
        """Return histograms with ``expected``, the counts by the model with as many values.

        A bin holds its left edge, and its right one only if it is the last of its histogram.
        Pathways that the model does not know get null.
        """
        of_pathways = {name: self.distributions(name) for name in self.properties}
        return with_expected(histograms, of_pathways, self.pathways)


_AT_ONCE = 4096
"""Distributions whose moments are computed at once: of counts, each is a list."""


def _in_blocks(distributions: Iterable[Distributions]) -> Iterator[Distributions]:
    """Give distributions in blocks that take little memory."""
    for of_family in distributions:
        for start in range(0, len(of_family), _AT_ONCE):
            yield of_family.take(np.s_[start : start + _AT_ONCE])


def model_statistics(model: ModelTable, quantiles: Mapping[str, float] = QUANTILES) -> pl.DataFrame:
    """Return statistics of a model's distributions, named as those of the data are.

    Returns
    -------
    polars.DataFrame
        One row per pathway and property: level, distribution, shared_within; mean and std of
        the distribution before bounds; its quantiles within the bounds of drawn values; null for
        properties whose values are labels.
    """
    keys = [*schema.PATHWAY, "property"]
    rows = model.marginals.select(*keys, "level", "distribution", "shared_within")
    rows = rows.unique(keys, keep="first", maintain_order=True)
    types = {name: rows.schema[name] for name in keys}
    numbers = [pl.DataFrame(schema=types | dict.fromkeys(("mean", "std", *quantiles), pl.Float64))]
    for name in model.properties:
        for distributions in _in_blocks(model.distributions(name)):
            n = len(distributions)
            values = distributions.ppf(np.tile(list(quantiles.values()), (n, 1)))
            mean, std = distributions.family.moments(distributions.parameters)
            columns = {"mean": mean, "std": std, **dict(zip(quantiles, values.T, strict=True))}
            if name in model.labels:
                columns = dict.fromkeys(columns, np.array(np.nan))
            numbers.append(
                pl.DataFrame(model.pathways.columns(distributions.pathway)).with_columns(
                    pl.lit(name, dtype=types["property"]).alias("property"),
                    *(pl.Series(c, np.broadcast_to(v, n)) for c, v in columns.items()),
                )
            )
    finite = pl.when(pl.col(pl.Float64).is_finite()).then(pl.col(pl.Float64))
    return rows.join(
        pl.concat(numbers).with_columns(finite), on=keys, how="left", maintain_order="left"
    )
