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
from connprops.display import html_table
from connprops.distributions.copula import Copulas
from connprops.distributions.distributions import Laws
from connprops.distributions.expected import with_expected
from connprops.distributions.rows import ModelRows
from connprops.errors import DatasetError, ModelError, OptionError
from connprops.schema import N_SYN_PER_CONN
from connprops.store.tables import read_table, refuse_existing, write_table, write_text

if TYPE_CHECKING:
    import pyarrow as pa

    from connprops.draw.connections import ConnectionStream, ConnectionTable
    from connprops.draw.tables import DrawOptions

Floats = NDArray[np.float64]
Rng = int | np.random.Generator | None

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
        self._rows = rows = ModelRows(table, self.source_types, self.target_types, self.properties)
        rows.check()
        self.table = rows.table
        self._dtypes = rows.dtypes
        self._laws = {name: rows.laws(name) for name in self.properties}
        self._copulas = rows.copulas()

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

    @property
    def marginals(self) -> pl.DataFrame:
        """Return the rows of the table that are of the properties' own distributions."""
        return self._rows.marginals

    @property
    def correlations(self) -> pl.DataFrame:
        """Return the rows of the table that are of the copulas: a correlation each."""
        return self._rows.correlations

    def laws(self, property: str) -> list[Laws]:  # noqa: A002 - the field's own word
        """Return the laws of a property, family by family."""
        if property not in self._laws:
            raise OptionError.unknown("property", property, self.properties)
        return self._laws[property]

    def copulas(self, *, shared: bool) -> Copulas:
        """Return the correlations of properties that connections share, or of the others.

        Their ``distributions.copula.Copulas.uniforms`` are what to draw correlated values with.
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
        return with_expected(histograms, self._laws, self.source_types, self.target_types)

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

    def write(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write a model, its fits and scores, and its JSON form into a folder.

        Raises
        ------
        OutputError
            As for :meth:`write_parquet`.
        """
        place = Path(folder)
        self.write_parquet(place / "model.parquet", overwrite=overwrite)
        self.write_json(place / "model.json", overwrite=overwrite)

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
        from connprops.model.reference_json import to_json

        return write_text(path, to_json(self), overwrite=overwrite)

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
        from connprops.model.reference_json import from_json

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
