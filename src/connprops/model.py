"""The model: one tidy table of parameters, enough by itself to evaluate and to draw from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from connprops import schema
from connprops.artifacts import read_table, refuse_existing, write_table, write_text
from connprops.copula import Copulas, copulas, fault_in
from connprops.distributions import DISTRIBUTIONS, distribution
from connprops.errors import DatasetError, ModelError, OptionError
from connprops.html_table import html_table
from connprops.laws import Laws
from connprops.schema import N_SYN_PER_CONN

if TYPE_CHECKING:
    import pyarrow as pa

    from connprops.draw.connections import ConnectionStream, ConnectionTable
    from connprops.draw.tables import DrawOptions

Floats = NDArray[np.float64]
Rng = int | np.random.Generator | None

_SUM_TO_ONE = 1e-5  # as near as the reference asks for

_ENUMS = {
    "distribution": pl.Enum([*DISTRIBUTIONS, schema.COPULA]),
    "parameter": pl.Enum(
        sorted(
            {schema.CORRELATION, *(p.name for f in DISTRIBUTIONS.values() for p in f.parameters)}
        )
    ),
    "dtype": pl.Enum(["int", "float"]),
}

_OF_PATHWAY = ("distribution", "level", "shared_within", "dtype", "lower_bound", "upper_bound")
"""Columns that say the same on all rows of a pathway and property."""

_LEVELS = (-1, 4)

_LEAST_PROBABILITY = 2.0**-54


class Model:
    """Distributions of every property of every pathway.

    Attributes
    ----------
    table : polars.DataFrame
        The parameters: :data:`connprops.schema.MODEL`.
    fits, scores : polars.DataFrame or None
        The evidence, where it is known: :data:`connprops.schema.FITS` and ``SCORES``.
    types : polars.DataFrame
        Types of both sides: :data:`connprops.schema.TYPES`.
    units : dict
        Unit of each property.
    facts : dict
        Where the model comes from: identity of the data, and options.

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
        fits: pl.DataFrame | None = None,
        scores: pl.DataFrame | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        schema.MODEL.check(table, "The model")
        self.types = types
        self.units = dict(units)
        self.facts = dict(facts or {})
        self.fits = fits
        self.scores = scores
        self.table = _with_enums(table, self.source_types, self.target_types, self.properties)
        self._check_rows()
        self._dtypes = dict(self.table.select("property", "dtype").unique().iter_rows())
        self._laws: dict[str, list[Laws]] = {}
        for name in self.properties:
            self._laws[name] = list(self._checked_laws(name))
        self._copulas = self._checked_copulas()

    @property
    def properties(self) -> list[str]:
        """Return the names of the properties, ``n_syn_per_conn`` last."""
        return list(self.units)

    @cached_property
    def source_types(self) -> list[str]:
        """Return the source types in order."""
        return self._types_of("source")

    @cached_property
    def target_types(self) -> list[str]:
        """Return the target types in order."""
        return self._types_of("target")

    def _types_of(self, side: str) -> list[str]:
        return self.types.filter(pl.col("side") == side).sort("code")["type"].to_list()

    @cached_property
    def marginals(self) -> pl.DataFrame:
        """Return the rows of the table that are of the properties' own distributions."""
        return self.table.filter(pl.col("other_property").is_null())

    @cached_property
    def correlations(self) -> pl.DataFrame:
        """Return the rows of the table that are of the copulas: a correlation each."""
        return self.table.filter(pl.col("other_property").is_not_null())

    def laws(self, property: str) -> list[Laws]:  # noqa: A002 - the field's own word
        """Return the laws of a property, family by family."""
        if property not in self._laws:
            raise OptionError.unknown("property", property, self.properties)
        return self._laws[property]

    def copulas(self, *, shared: bool) -> Copulas:
        """Return the correlations of properties that connections share, or of the others.

        Their :meth:`~connprops.copula.Copulas.uniforms` are what to draw correlated values with.
        """
        return self._copulas[shared]

    def law(self, property: str, source_type: str, target_type: str) -> Laws:  # noqa: A002
        """Return the law of one property of one pathway.

        Raises
        ------
        OptionError
            Where there is no such property, type or pathway.
        """
        for what, name, known in (
            ("source type", source_type, self.source_types),
            ("target type", target_type, self.target_types),
        ):
            if name not in known:
                raise OptionError.unknown(what, name, known)
        pathway = self.source_types.index(source_type) * len(self.target_types)
        pathway += self.target_types.index(target_type)
        for laws in self.laws(property):
            at = int(np.searchsorted(laws.pathway, pathway))
            if at < laws.pathway.size and laws.pathway[at] == pathway:
                return laws.take(np.array([at]))
        raise OptionError.of(
            f"The model has no {property!r} for pathway {source_type!r} to {target_type!r}"
        )

    def cdf(
        self,
        property: str,  # noqa: A002
        source_type: str,
        target_type: str,
        x: ArrayLike,
    ) -> Floats:
        """Return the probability of values up to and including x, of the shape of x."""
        x = np.asarray(x, dtype=np.float64)
        found = self.law(property, source_type, target_type).cdf(x.reshape(1, -1))
        return found.reshape(x.shape)

    def quantile(
        self,
        property: str,  # noqa: A002
        source_type: str,
        target_type: str,
        q: ArrayLike,
    ) -> Floats:
        """Return quantiles, of the shape of q."""
        q = np.asarray(q, dtype=np.float64)
        found = self.law(property, source_type, target_type).ppf(q.reshape(1, -1))
        return found.reshape(q.shape)

    def pdf(
        self,
        property: str,  # noqa: A002
        source_type: str,
        target_type: str,
        x: ArrayLike,
    ) -> Floats:
        """Return the density of a continuous law, or the mass of a discrete one, before bounds."""
        x = np.asarray(x, dtype=np.float64)
        law = self.law(property, source_type, target_type)
        return np.exp(law.family.logpdf(x.reshape(1, -1), law.parameters)).reshape(x.shape)

    def mean(self, property: str, source_type: str, target_type: str) -> float:  # noqa: A002
        """Return the mean of a law, before bounds."""
        law = self.law(property, source_type, target_type)
        return float(law.family.mean(law.parameters).item())

    def std(self, property: str, source_type: str, target_type: str) -> float:  # noqa: A002
        """Return the standard deviation of a law, before bounds."""
        law = self.law(property, source_type, target_type)
        return float(law.family.std(law.parameters).item())

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
            Which law.
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
        law = self.law(property, source_type, target_type)
        # A probability of exactly 0, which the generator can give, may be minus infinity's.
        q = np.maximum(np.random.default_rng(rng).random((1, size)), _LEAST_PROBABILITY)
        values: NDArray[Any] = law.ppf(q)[0]
        if property == N_SYN_PER_CONN:
            values = np.maximum(np.rint(values), 1).astype(np.int64)
        elif self.dtype(property) == "int":
            values = np.rint(values).astype(np.int64)
        return values

    @overload
    def draw_synapses(
        self, connections: pl.DataFrame, rng: int = ..., **options: Unpack[DrawOptions]
    ) -> pl.DataFrame: ...

    @overload
    def draw_synapses(
        self, connections: ConnectionStream, rng: int = ..., **options: Unpack[DrawOptions]
    ) -> pa.RecordBatchReader: ...

    def draw_synapses(
        self, connections: ConnectionTable, rng: int = 0, **options: Unpack[DrawOptions]
    ) -> pl.DataFrame | pa.RecordBatchReader:
        """Draw the synapses of connections, with all their properties.

        See :func:`connprops.draw.draw_synapses` for what may be given, and what comes of it.
        """
        from connprops.draw import draw_synapses

        return draw_synapses(self, connections, rng, **options)

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
        source = _places(histograms["source_type"], self.source_types)
        target = _places(histograms["target_type"], self.target_types)
        rows = histograms.with_columns(
            (source * len(self.target_types) + target).alias("_pathway"),
            pl.int_range(pl.len()).alias("_row"),
        )
        expected = np.full(len(rows), np.nan)
        for name in self.properties:
            of_property = rows.filter(pl.col("property") == name)
            for laws in self.laws(name):
                _expect(of_property, laws, expected)
        return histograms.with_columns(pl.Series("expected", expected).fill_nan(None))

    def summary(self, n: int = 20) -> pl.DataFrame:
        """Return the n fits that are furthest from their data, by KS distance.

        Raises
        ------
        ModelError
            Where the model came without its fits.
        """
        if self.fits is None:
            raise ModelError.of(
                "The model has no fits to rank", hint="fits.parquet belongs beside model.parquet"
            )
        observed = self.fits.filter((pl.col("level") == -1) & pl.col("ks").is_not_null())
        return observed.sort("ks", *schema.FITS.keys, descending=[True, False, False, False]).head(
            n
        )

    def write_parquet(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model; its fits and scores go beside it where the model has them.

        Raises
        ------
        OutputError
            Where one of the files exists and ``overwrite`` is false, before any is written; or
            where they cannot be written.
        """
        file = Path(path)
        units = list(self.units.items())  # a list, for JSON objects are written with sorted keys
        facts = {"types": self.types.rows(), "units": units, **self.facts}
        evidence = {"fits": self.fits, "scores": self.scores}
        beside = {file.with_name(f"{name}.parquet"): (schema.TABLES[name], frame)
                  for name, frame in evidence.items() if frame is not None}  # fmt: skip
        if not overwrite:
            refuse_existing(file, *beside)
        for other, (table, frame) in beside.items():
            write_table(frame, table, other, overwrite=overwrite, facts=self.facts)
        return write_table(self.table, schema.MODEL, file, overwrite=overwrite, facts=facts)

    def write_json(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model in the format of connectome-manipulator, which can load it.

        Families that it does not have are written as the nearest that it has, with a warning.
        """
        from connprops.compat.model_json import to_json

        return write_text(path, to_json(self), overwrite=overwrite)

    def _check_rows(self) -> None:
        """Check what rows say of themselves, and that those of one law agree."""
        law = ("source_type", "target_type", "property")
        # Rows are sorted: those of one law follow each other.
        goes_on = pl.all_horizontal(pl.col(law) == pl.col(law).shift())
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

    def _checked_laws(self, name: str) -> list[Laws]:
        """Return the laws of a property, after checking that they hold together."""
        n_target = len(self.target_types)
        place = pl.col("source_type").to_physical().cast(pl.Int64) * n_target
        rows = self.marginals.filter(pl.col("property") == name).with_columns(
            (place + pl.col("target_type").to_physical()).alias("pathway")
        )
        found = []
        for (family,), of_family in rows.group_by("distribution", maintain_order=True):
            law = distribution(str(family))
            pathway = of_family["pathway"].unique(maintain_order=True).to_numpy()
            # A law without parameters has one row all the same: the mean, 0.
            known = [p.name for p in law.parameters] or ["mean"]
            others = of_family.filter(~pl.col("parameter").is_in(known))
            if len(others):
                at, text = int(others["pathway"][0]), f"is {family}, yet has a parameter"
                self._refuse(name, at, f"{text} {others['parameter'][0]!r}")
            parameters = {
                p.name: self._parameter(name, of_family, p.name, pathway, is_list=p.is_list)
                for p in law.parameters
            }
            bounds = of_family.unique("pathway", keep="first", maintain_order=True)
            lower = bounds["lower_bound"].fill_null(-np.inf).to_numpy()
            upper = bounds["upper_bound"].fill_null(np.inf).to_numpy()
            laws = Laws(law, pathway, parameters, lower, upper)
            self._check_values(name, laws)
            found.append(laws)
        return found

    def _checked_copulas(self) -> dict[bool, Copulas]:
        """Return the copulas of shared properties and of others, after checking them."""
        fault = fault_in(self.correlations, self.marginals)
        if fault is not None:
            (source, target, name), text = fault
            raise _contradiction(name, source, target, text)
        found = {}
        for shared in (True, False):
            rows = self.correlations.filter(pl.col("shared_within") == shared)
            one = copulas(rows, self.properties, len(self.target_types))
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

    def _check_values(self, name: str, laws: Laws) -> None:
        for p in laws.family.parameters:
            values = laws.parameters[p.name]
            with np.errstate(invalid="ignore"):
                wrong = (values < p.lower) | (values > p.upper)
            rows = np.flatnonzero(wrong.any(axis=1) if p.is_list else wrong)
            if rows.size:
                bad = int(laws.pathway[rows[0]])
                text = f"has a {p.name!r} outside [{p.lower}, {p.upper}]"
                self._refuse(name, bad, text)
        if "p" in laws.parameters:
            total = np.nansum(laws.parameters["p"], axis=1)
            lengths = [np.isfinite(laws.parameters[k]).sum(axis=1) for k in ("val", "p")]
            for wrong, text in (
                (np.abs(total - 1) > _SUM_TO_ONE, "has probabilities that do not sum to 1"),
                (lengths[0] != lengths[1], "has values and probabilities of different number"),
            ):
                if wrong.any():
                    self._refuse(name, int(laws.pathway[wrong][0]), text)
        if {"min", "max"} <= laws.parameters.keys():
            wrong = laws.parameters["min"] > laws.parameters["max"]
            if wrong.any():
                self._refuse(name, int(laws.pathway[wrong][0]), "has min above max")
        self._check_moments(name, laws)
        low, high = laws.family.support(laws.parameters)
        for wrong, text in (
            (laws.lower > laws.upper, "has a lower bound above the upper one"),
            ((low > laws.upper) | (high < laws.lower), "has bounds that exclude its support"),
        ):
            if wrong.any():
                at = int(np.flatnonzero(np.broadcast_to(wrong, laws.pathway.shape))[0])
                self._refuse(name, int(laws.pathway[at]), text)

    def _check_moments(self, name: str, laws: Laws) -> None:
        """Refuse laws that floating-point numbers cannot hold, or that are none."""
        mean, std = laws.family.mean(laws.parameters), laws.family.std(laws.parameters)
        mean, std = (np.broadcast_to(values, laws.pathway.shape) for values in (mean, std))
        whole = self.dtype(name) == "int" or name == N_SYN_PER_CONN
        beyond = laws.family.beyond_numbers(laws.parameters, whole=whole)
        vast = np.flatnonzero(beyond & np.isfinite(mean) & (std >= 0))
        if vast.size:
            self._refuse(name, int(laws.pathway[vast[0]]), "has values too large for counts")
        median = laws.family.ppf(np.full(laws.pathway.shape, 0.5), laws.parameters)
        none = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(median) & (std >= 0)))
        if none.size:
            text = "has parameters that describe no distribution"
            self._refuse(name, int(laws.pathway[none[0]]), text)

    def _refuse(self, name: str, pathway: int, text: str) -> None:
        source, target = divmod(pathway, len(self.target_types))
        raise _contradiction(name, self.source_types[source], self.target_types[target], text)

    def __repr__(self) -> str:
        return (
            f"<Model of {len(self.properties)} properties, "
            f"{len(self.source_types)} x {len(self.target_types)} types>"
        )

    def _repr_html_(self) -> str:
        laws = self.marginals.unique(["source_type", "target_type", "property"])
        rows = []
        for name, unit in self.units.items():
            of_property = laws.filter(pl.col("property") == name)
            counts = of_property["distribution"].value_counts().sort(
                "count", "distribution", descending=[True, False]
            )  # fmt: skip
            used = ", ".join(f"{family} ({count:,})" for family, count in counts.iter_rows())
            observed = int((of_property["level"] == -1).sum())
            rows.append((name, unit, self._dtypes.get(name, ""), used, f"{observed:,}",
                         f"{len(of_property) - observed:,}"))  # fmt: skip
        return html_table(
            "Model",
            f"{len(self.source_types)} source and {len(self.target_types)} target types, "
            f"{len(self.table):,} parameters, {len(self.correlations):,} correlations among them",
            ("property", "unit", "type", "distributions (pathways)", "from data", "borrowed"),
            rows,
        )


def read_model(path: str | Path) -> Model:
    """Read a model: Parquet, or the JSON of connectome-manipulator, by the file's name.

    Fits and scores are read too where they lie beside the Parquet file and are of the same data.

    Raises
    ------
    DatasetError, ModelError
        Where the file is missing, damaged or foreign, or the model does not hold together.
    """
    file = Path(path)
    if file.suffix == ".json":
        from connprops.compat.model_json import from_json

        return from_json(file)
    table, facts = read_table(file, schema.MODEL)
    try:
        types = pl.DataFrame(facts.pop("types"), schema=schema.TYPES.polars_schema(), orient="row")
        units = dict(facts.pop("units"))
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DatasetError.of(f"The metadata of {file} is incomplete", found=str(error)) from error
    about = _about(facts)
    beside = {}
    for name in ("fits", "scores"):
        other = file.with_name(f"{name}.parquet")
        if other.is_file():
            frame, its_facts = read_table(other, schema.TABLES[name])
            if _about(its_facts) == about:
                beside[name] = frame
    return Model(table, types=types, units=units, facts=about, **beside)


def _about(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata say of the data and options, without what they say of the file."""
    return {k: v for k, v in facts.items() if k not in ("schema_version", "table")}


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
    enums = {column: pl.Enum(known) for column, known in names.items()} | _ENUMS
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


def _places(types: pl.Series, known: list[str]) -> pl.Series:
    """Return the place of each type among the known ones, null for others."""
    return types.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64)


def _expect(rows: pl.DataFrame, laws: Laws, expected: Floats) -> None:
    """Fill in the expected counts of the histograms that are of these laws."""
    places = pl.DataFrame({"_pathway": laws.pathway, "_law": np.arange(laws.pathway.size)})
    found = rows.join(places, on="_pathway").sort("_law", "bin")
    if found.is_empty():
        return
    law, row = found["_law"].to_numpy(), found["_row"].to_numpy()
    left, right = found["left"].to_numpy(), found["right"].to_numpy()
    starts = np.flatnonzero(np.diff(law, prepend=-1))
    counts = np.diff(starts, append=law.size)
    total = np.add.reduceat(found["count"].to_numpy(), starts)
    n_bins = int(counts.max())
    chosen = laws.take(law[starts])
    # Histograms as rows of one matrix; shorter ones repeat their last edge, which is no bin.
    column = np.arange(law.size) - np.repeat(starts, counts)
    of_row = np.repeat(np.arange(starts.size), counts)
    edges = np.repeat(right[starts + counts - 1][:, None], n_bins + 1, axis=1)
    edges[of_row, column] = left
    below, upto = chosen.cdf_sides(edges)
    last = np.take_along_axis(upto, counts[:, None], axis=1)[:, 0]
    mass = np.diff(below, axis=1)
    at_last = np.arange(starts.size)
    mass[at_last, counts - 1] = last - below[at_last, counts - 1]
    expected[row] = (mass * total[:, None])[of_row, column]
