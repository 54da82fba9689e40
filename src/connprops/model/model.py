"""The model: one tidy table of parameters, enough by itself to evaluate and to draw from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack, overload

import polars as pl
import pyarrow as pa

from connprops import schema
from connprops.display import drawing, html_table
from connprops.distributions.rows import LATER
from connprops.distributions.table import ModelTable
from connprops.draw.connections import ConnectionStream, ConnectionTable
from connprops.draw.source import DrawOptions
from connprops.draw.tables import draw_synapses
from connprops.errors import ConnpropsWarning, DatasetError, ModelError
from connprops.families.goodness import TESTED_FROM
from connprops.model.reference_json import from_json, numbers_of, to_json
from connprops.pathways import rows_of_types
from connprops.store.folder import Folder, new_generation, reading, write_text
from connprops.store.tables import read_table, write_table
from connprops.store.writing import refuse_existing

FILES = frozenset({"model.parquet", "fits.parquet", "scores.parquet", "model.json"})
"""The files of a model in a folder: others of these names make way."""

_HALF, _SMALL = 0.5, 0.05


class Model(ModelTable):
    """Distributions of every property of every pathway, with the evidence for them.

    Attributes
    ----------
    fits, scores : polars.DataFrame or None
        The evidence, where it is known: :data:`connprops.schema.FITS` and ``SCORES``.

    See Also
    --------
    connprops.distributions.table.ModelTable : what evaluates the distributions.
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
        super().__init__(table, types=types, units=units, facts=facts)
        self.fits = fits
        self.scores = scores

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
        return draw_synapses(self, connections, rng, **options)

    def of_types(self, types: pl.DataFrame) -> Model:
        """Return the model of some types alone: rows of :attr:`types`."""
        kept = partial(rows_of_types, types=types)
        return Model(
            kept(self.table), types=types, units=self.units,
            fits=None if self.fits is None else kept(self.fits), scores=self.scores,
            facts=self.facts,
        )  # fmt: skip

    def plot(
        self, source_type: str, target_type: str, properties: Sequence[str] | None = None
    ) -> Any:
        """Draw the distributions of a pathway, of all properties or some, as an Altair chart.

        :func:`connprops.plot` draws them beside the data.

        Raises
        ------
        OptionError
            Where there is no such type or property.
        """
        return drawing().distributions_of(self, source_type, target_type, properties)

    def summary(self, n: int = 20) -> pl.DataFrame:
        """Return the n fits that are most surely poor, by KS distance times root n.

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
        ties = [*schema.PATHWAY, "property"]
        surely = pl.col("ks") * pl.col("n").sqrt()
        return observed.sort(surely, *ties, descending=[True, *[False] * len(ties)]).head(n)

    def evidence(self, pathways: pl.DataFrame) -> pl.DataFrame:
        """Return what the distributions of each property rest on, and how many are rejected.

        Parameters
        ----------
        pathways
            Numbers of connections: :data:`connprops.schema.PATHWAYS`.

        Returns
        -------
        polars.DataFrame
            Per ``property``: the number of pathways that rest mostly on their own values
            (``n_own``), mostly on their level (``n_level``: its weight is more than half) and on
            their level alone (``n_borrowed``); ``share_own``, that of connections in the first;
            ``n_tested`` pathways of 20 values and more, ``n_rejected`` and ``n_failed`` of all with
            values, and ``p_small``, the share of p-values up to 0.05 among ``n_tested``; and
            ``coverage``, the share of values left out that lie in a 90 % range of a model of the
            others. Both are null where there are none.

        Raises
        ------
        ModelError
            Where the model came without its fits.
        """
        if self.fits is None:
            raise ModelError.of("The model has no fits", hint="fits.parquet belongs beside it")
        own, tested = pl.col("borrowed").fill_null(0.0) <= _HALF, pl.col("n") >= TESTED_FROM
        weight, small = pl.col("n_connections"), pl.col("p_value").filter(tested) <= _SMALL
        number = self.pathways.number_of_row.alias("pathway")
        used = ("borrowed", "n", "p_value", "n_inside", "n_left_out")
        rows = (
            self.fits.lazy()
            .filter(pl.col("level") < 0)
            .select(pl.col("property", "status").cast(pl.String), *used, number)
            .join(
                pathways.lazy().select(number, "n_connections"),
                on="pathway",
                how="left",
                maintain_order="left",
            )
            .group_by("property", maintain_order=True)
            .agg(
                own.sum().alias("n_own"),
                (~own).sum().alias("n_level"),
                (weight.filter(own).sum() / weight.sum()).alias("share_own"),
                tested.sum().alias("n_tested"),
                (pl.col("status") == "rejected").sum().alias("n_rejected"),
                (pl.col("status") == "failed").sum().alias("n_failed"),
                small.mean().alias("p_small"),
                (pl.col("n_inside").sum() / pl.col("n_left_out").sum())
                .fill_nan(None)
                .alias("coverage"),
            )
            .collect(engine="streaming")
        )
        borrowed = {name: self.lent(name).n_with for name in self.properties}
        every = pl.col("property").replace_strict(borrowed, default=0, return_dtype=pl.Int64)
        return rows.with_columns(n_borrowed=every - pl.col("n_own") - pl.col("n_level"))

    def write(
        self, folder: str | Path, *, overwrite: bool = False, json_at_most: int = 5_000_000
    ) -> list[Path]:
        """Write a model, its fits and scores, and its JSON form into a folder; return its files.

        The JSON has each pathway by itself. Of more than ``json_at_most`` numbers it is left out,
        with a warning; without one if that is 0.

        Raises
        ------
        OutputError
            As for :meth:`write_parquet`.
        """
        place = Path(folder)
        if not overwrite:
            refuse_existing(*(place / name for name in FILES))
        with new_generation(place, FILES) as stage:
            written = self.write_into(stage, json_at_most)
        return [place / file.name for file in written]

    def write_into(self, stage: Path, json_at_most: int) -> list[Path]:
        """Write the files of a model into a stage; return those that the model is in."""
        model, form = stage / "model.parquet", stage / "model.json"
        self.write_parquet(model, overwrite=True)
        n_numbers = numbers_of(self, json_at_most)
        if n_numbers <= json_at_most:
            return [model, self.write_json(form, overwrite=True)]
        form.unlink(missing_ok=True)
        if json_at_most:
            warnings.warn(
                f"model.json is not written: it would have {n_numbers:,} numbers, more than "
                f"{json_at_most:,}; json_at_most (--json-at-most) sets that, 0 for none",
                ConnpropsWarning,
                stacklevel=3,
            )
        return [model]

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
        return write_text(path, to_json(self), overwrite=overwrite)

    def __repr__(self) -> str:
        return (
            f"<Model of {len(self.properties)} properties, "
            f"{len(self.source_types)} x {len(self.target_types)} types>"
        )

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Give the table to whatever speaks Arrow: Polars, DuckDB, pandas, pyarrow."""
        return self.table.__arrow_c_stream__(requested_schema)

    def _repr_html_(self) -> str:
        observed = (pl.col("level") < 0) & pl.col("other_property").is_null()
        own = self.table.filter(observed).unique([*schema.PATHWAY, "property"])
        rows = []
        for name, unit in self.units.items():
            of_property = own.filter(pl.col("property") == name)
            n_pathways = self.lent(name).n_pathways
            families = sorted(n_pathways.items(), key=lambda item: (-item[1], item[0]))
            used = ", ".join(f"{family} ({count:,})" for family, count in families)
            labels = self.labels.get(name)
            kind = f"{len(labels)} labels" if labels else self._dtypes.get(name, "")
            rows.append((name, unit, kind, used, f"{len(of_property):,}",
                         f"{sum(n_pathways.values()) - len(of_property):,}"))  # fmt: skip
        return html_table(
            "Model",
            f"{len(self.source_types)} source and {len(self.target_types)} target types, "
            f"{len(self.table):,} parameters, {len(self.correlations):,} correlations among them",
            ("property", "unit", "type", "distributions (pathways)", "from data", "borrowed"),
            rows,
        )


def read_model(path: str | Path, folder: Folder | None = None) -> Model:
    """Read a model: Parquet, the JSON of connectome-manipulator, or that of a run's folder.

    Fits and scores are read too where they lie beside the Parquet file. ``folder`` is the
    generation to read, by default the one that is there.

    Raises
    ------
    DatasetError, ModelError
        Where a file is missing, damaged, foreign or of another model, or the model does not hold
        together.
    """
    file = Path(path)
    if file.is_dir():
        file /= "model.parquet"
    if folder is None:
        return reading(file.parent, partial(read_model, file))
    if file.suffix == ".json":
        return from_json(file, Model, folder)
    table, facts = read_table(file, schema.MODEL, folder)
    if facts["schema_version"] < schema.VERSION:
        table = table.drop(LATER)
    try:
        types = pl.DataFrame(facts.pop("types"), schema=schema.TYPES.polars_schema(), orient="row")
        units = dict(facts.pop("units"))
    except (KeyError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DatasetError.of(f"The metadata of {file} is incomplete", found=str(error)) from error
    about = _about(facts)
    beside = {}
    for name in ("fits", "scores"):
        other = file.with_name(f"{name}.parquet")
        if folder.file(other.name).is_file():
            beside[name], its_facts = read_table(other, schema.TABLES[name], folder)
            if _about(its_facts) != about:
                raise DatasetError.of(
                    f"{other} is of another model than {file.name}",
                    hint="write the model again, or move one of them to another folder",
                )
    return Model(table, types=types, units=units, facts=about, **beside)


def _about(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what metadata say of the data and options, without what they say of the file."""
    return {k: v for k, v in facts.items() if k not in ("schema_version", "table")}
