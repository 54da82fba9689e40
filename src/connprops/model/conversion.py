"""A model as other builders have it, with how far it is then, and what they cannot hold."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import polars as pl

from connprops import schema
from connprops.display import write_csv
from connprops.distributions.table import model_statistics
from connprops.errors import OptionError, collected_warnings
from connprops.model.builders import COLUMNS, Grouping, Parts, PathwayGroups, obi_one, recipe
from connprops.model.comparison import model_distances, write_rows
from connprops.model.model import Model, read_model
from connprops.store.folder import output_file, write_text
from connprops.store.writing import check_format

Format = Literal["recipe", "obi-one", "reference", "csv"]


@dataclass(frozen=True)
class Conversion:
    """A model in the format of another builder.

    Attributes
    ----------
    text : str
        The content of the file.
    distances : polars.DataFrame
        A row for each pathway with data and each property that is written: source_type,
        target_type, property; distribution, the model's; written, the one that stands for it;
        wasserstein, how far they are apart, in the unit of the property, and relative, in standard
        deviations. Values are as drawn: rounded and within bounds.
    losses : tuple of str
        What the format cannot hold.
    """

    text: str
    distances: pl.DataFrame
    losses: tuple[str, ...]

    def write(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the file; return its path."""
        return write_text(path, self.text, overwrite=overwrite)

    def summary(self) -> pl.DataFrame:
        """Return a row for each property: what is written, and median and largest distance."""
        far = pl.col("wasserstein")
        worst = far.arg_max()
        return self.distances.group_by("property", maintain_order=True).agg(
            pl.col("distribution").unique(maintain_order=True).str.join(", "),
            pl.col("written").unique(maintain_order=True).str.join(", "),
            far.median().alias("median distance"),
            far.max().alias("largest distance"),
            pl.col("relative").max().alias("in std"),
            *(pl.col(name).get(worst) for name in schema.PATHWAY),
        )


def write_distances(distances: pl.DataFrame, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write distances as Parquet, CSV or JSON, by the file's name; return the path."""
    file = Path(path)
    check_format(file)
    if file.suffix != ".parquet":
        return write_rows(distances, file, overwrite=overwrite)
    with output_file(file, overwrite=overwrite) as aside:
        distances.write_parquet(aside)
    return file


def convert(model: Model | str | Path, to: Format, *, by: Grouping | None = None) -> Conversion:
    """Convert a model to the format of another builder.

    Where that lacks a distribution, the nearest that it has in Wasserstein distance is written.

    Parameters
    ----------
    model
        A model, its Parquet or JSON file, or the folder of a run.
    to
        "recipe", the synapse properties of a recipe of Blue Brain's functionalizer: rules and
        classes with ``_mu`` and ``_sd``; "obi-one", blocks of a synapse parameterization of
        obi-one: distributions, synaptic models, neuron sets and assigners; "reference", the JSON of
        connectome-manipulator; "csv", the model table.
    by
        What recipe and blocks tell apart: the synapse classes of both sides, "class", or the types,
        "pathway". By default "class" for a recipe and "pathway" for obi-one. Classes have the
        mixture of their pathways with data, by the number of values.

    Returns
    -------
    Conversion
        The text, the distances and what is lost.

    Raises
    ------
    OptionError
        Where ``to`` or ``by`` is unknown, or there are too many pathways to write one by one.
    ModelError
        Where types have no class, or the model lacks a property that the format must have.
    """
    if to not in get_args(Format):
        raise OptionError.unknown("format", to, get_args(Format))
    if by is not None and by not in get_args(Grouping):
        raise OptionError.unknown("grouping", by, get_args(Grouping))
    if by is not None and to in ("reference", "csv"):
        raise OptionError.of(f"{to} has each pathway by itself", found=f"by={by!r}")
    read = model if isinstance(model, Model) else read_model(model)
    match to:
        case "recipe":
            parts = recipe(PathwayGroups(read, by or "class"))
        case "obi-one":
            parts = obi_one(PathwayGroups(read, by or "pathway"))
        case "reference":
            parts = _reference(read)
        case "csv":
            parts = _csv(read)
    return Conversion(*parts)


def _reference(model: Model) -> Parts:
    with collected_warnings() as losses, tempfile.TemporaryDirectory() as folder:
        file = model.write_json(Path(folder) / "model.json")
        written, text = read_model(file), file.read_text(encoding="utf-8")
    distances = model_distances(model, written).drop("ks")
    names = [
        each.marginals.select(
            pl.col(*schema.PATHWAY, "property", "distribution").cast(pl.String)
        ).unique()
        for each in (model, written)
    ]
    keys = [*schema.PATHWAY, "property"]
    both = distances.join(names[0], on=keys).join(
        names[1].rename({"distribution": "written"}), on=keys
    )
    stds = _stds(model)
    own = model.table.filter(pl.col("level") < 0).select(pl.col(keys).cast(pl.String)).unique()
    both = both.join(own, on=keys).join(stds, on=keys, how="left")
    relative = pl.when(pl.col("std") > 0).then(pl.col("wasserstein") / pl.col("std")).otherwise(0.0)
    distances = both.with_columns(relative=relative).select(*COLUMNS).sort(keys)
    return text, distances, (*losses, "levels, standard errors, intervals")


def _stds(model: Model) -> pl.DataFrame:
    return model_statistics(model, {}).select(
        pl.col(*schema.PATHWAY, "property").cast(pl.String), "std"
    )


def _csv(model: Model) -> Parts:
    units = pl.DataFrame({"property": list(model.units), "unit": list(model.units.values())})
    rows = model.table.with_columns(pl.col(pl.Enum).cast(pl.String)).join(
        units, on="property", how="left", maintain_order="left"
    )
    stream = io.StringIO()
    write_csv(rows.columns, rows.iter_rows(), stream)
    labels = ["labels of text properties"] if model.labels else []
    losses = ("classes and layers of types, which say who borrows from whom", *labels,
              "where the model comes from, and with which options")  # fmt: skip
    return stream.getvalue(), pl.DataFrame(schema=COLUMNS), losses
