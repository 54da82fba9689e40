"""Two models beside each other: where their distributions differ, and by how much."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.display import write_csv
from connprops.distributions.distances import distribution_distances
from connprops.distributions.distributions import Distributions
from connprops.distributions.table import model_statistics
from connprops.model.model import Model, read_model
from connprops.store.folder import output_file
from connprops.store.tables import write_table
from connprops.store.writing import check_format

_KEYS = [*schema.PATHWAY, "property"]
_TEXT_KEYS = dict.fromkeys(_KEYS, pl.String())

_PAIRS_AT_ONCE = 2048
"""Pairs of distributions whose distances are computed at once."""


def compare(a: Model | str | Path, b: Model | str | Path) -> pl.DataFrame:
    """Compare two models, distribution by distribution.

    The distance ``ks`` is the largest difference of the two distribution functions, and
    ``wasserstein`` the area between them (Vallender 1974, Theory Probab. Appl. 18:784), which for
    two point distributions is the distance of the points. Both are of values as they are drawn,
    within bounds, but before rounding. Discrete distributions are compared at all their values,
    others at 261 quantiles of each, from 4e-11 to 1 - 4e-11, between which the difference is taken
    as linear. Means and standard deviations are those of the distributions before bounds.

    Parameters
    ----------
    a, b
        Models, their Parquet or JSON files, or folders of runs.

    Returns
    -------
    polars.DataFrame
        :data:`connprops.schema.COMPARISON`: a row for each pathway and property of either. What
        one model does not have is null, and so are distances then.

    Raises
    ------
    DatasetError, ModelError
        Where a file is missing or damaged, or holds no model.
    """
    first, second = (model if isinstance(model, Model) else read_model(model) for model in (a, b))
    both = _described(first, "a").join(_described(second, "b"), on=_KEYS, how="full", coalesce=True)
    distances = model_distances(first, second)
    seen_a, seen_b = (pl.col(f"level_{end}").eq_missing(-1) for end in "ab")
    spread = ((pl.col("std_a") ** 2 + pl.col("std_b") ** 2) / 2).sqrt()
    orders = {
        name: list(dict.fromkeys([*of_first, *of_second]))
        for name, of_first, of_second in (
            ("source_type", first.source_types, second.source_types),
            ("target_type", first.target_types, second.target_types),
            ("property", first.properties, second.properties),
        )
    }
    return (
        both.join(distances, on=_KEYS, how="left")
        .with_columns(
            pl.when(seen_a & seen_b)
            .then(pl.lit("both"))
            .when(seen_b)
            .then(pl.lit("added"))
            .when(seen_a)
            .then(pl.lit("lost"))
            .otherwise(pl.lit("borrowed"))
            .alias("status"),
            pl.when(spread > 0).then((pl.col("mean_b") - pl.col("mean_a")) / spread).alias("shift"),
            *(pl.col(name).cast(pl.Enum(order)) for name, order in orders.items()),
        )
        .select(schema.COMPARISON.names)
        .sort(_KEYS)
    )


def write_comparison(
    comparison: pl.DataFrame, path: str | Path, *, overwrite: bool = False
) -> Path:
    """Write a comparison as Parquet, CSV or JSON, by the file's name; return the path.

    Raises
    ------
    OptionError
        Where the name ends in none of these.
    OutputError
        Where the file exists and ``overwrite`` is false, or it cannot be written.
    """
    file = Path(path)
    check_format(file)
    if file.suffix == ".parquet":
        return write_table(comparison, schema.COMPARISON, file, overwrite=overwrite)
    return write_rows(comparison, file, overwrite=overwrite)


def write_rows(rows: pl.DataFrame, file: Path, *, overwrite: bool) -> Path:
    """Write rows for people, as JSON or CSV, by the file's name; return it."""
    with output_file(file, overwrite=overwrite) as aside:
        if file.suffix == ".json":
            rows.write_json(aside)
        else:
            with aside.open("w", encoding="utf-8", newline="") as stream:
                write_csv(rows.columns, rows.iter_rows(), stream)
    return file


def summarized(comparison: pl.DataFrame) -> pl.DataFrame:
    """Return what a comparison comes to, property by property.

    Returns
    -------
    polars.DataFrame
        One row per property: numbers of pathways with data in both, added and lost; of those in
        both, how many have another family; the median and the largest KS distance, and the
        pathway that has it.
    """
    status, ks = pl.col("status"), pl.col("ks").filter(pl.col("status") == "both")
    worst = ks.arg_max()
    in_both = status == "both"
    return comparison.group_by("property", maintain_order=True).agg(
        in_both.sum().alias("both"),
        (status == "added").sum().alias("added"),
        (status == "lost").sum().alias("lost"),
        (in_both & (pl.col("distribution_a") != pl.col("distribution_b")))
        .sum()
        .alias("other family"),
        ks.median().alias("median KS"),
        ks.max().alias("largest KS"),
        *(pl.col(name).filter(in_both).get(worst).alias(name) for name in schema.PATHWAY),
    ).sort("property")  # fmt: skip


def _described(model: Model, end: str) -> pl.DataFrame:
    """Return one row per pathway and property of a model, whose columns end in "_a" or "_b"."""
    sizes = pl.DataFrame(schema=_TEXT_KEYS | {"n": pl.Int64()})
    if model.fits is not None:
        sizes = model.expanded(model.fits).select(pl.col(_KEYS).cast(pl.String), "n")
    text = pl.col(*_KEYS, "distribution").cast(pl.String)
    rows = model_statistics(model, {}).select(text, "level", "mean", "std")
    rows = rows.join(sizes, on=_KEYS, how="left")
    return rows.select(*_KEYS, pl.exclude(_KEYS).name.suffix(f"_{end}"))


def _keys(model: Model, name: str, pathway: Ints) -> pl.DataFrame:
    """Return the keys of a property's distributions, by the numbers of their pathways."""
    names = pl.DataFrame(model.pathways.columns(pathway)).with_columns(property=pl.lit(name))
    return names.select(pl.col(_KEYS).cast(pl.String))


def model_distances(a: Model, b: Model, at_once: int = _PAIRS_AT_ONCE) -> pl.DataFrame:
    """Return ``ks`` and ``wasserstein`` of the pathways and properties that both models have."""
    columns = _TEXT_KEYS | dict.fromkeys(("ks", "wasserstein"), pl.Float64())
    pieces = [pl.DataFrame(schema=columns)]
    for name in set(a.properties) & set(b.properties):
        for of_a, of_b in product(a.distributions(name), b.distributions(name)):
            left = _keys(a, name, of_a.pathway).with_row_index("place_a")
            right = _keys(b, name, of_b.pathway).with_row_index("place_b")
            for part in left.join(right, on=_KEYS).iter_slices(at_once):
                ks, wasserstein = _distances(
                    of_a.take(part["place_a"].to_numpy()), of_b.take(part["place_b"].to_numpy())
                )
                pieces.append(
                    part.select(*_KEYS, pl.Series("ks", ks), pl.Series("wasserstein", wasserstein))
                )
    return pl.concat(pieces)


def _distances(a: Distributions, b: Distributions) -> tuple[Floats, Floats]:
    """Return the distances of distributions; of equal pairs, as borrowed ones are, once."""
    columns = [
        np.asarray(values, dtype=np.float64).reshape(len(a), -1)
        for distributions in (a, b)
        for values in (*distributions.parameters.values(), distributions.lower, distributions.upper)
    ]
    _, first, place = np.unique(
        np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True
    )
    ks, wasserstein = distribution_distances(a.take(first), b.take(first))
    return ks[place.reshape(-1)], wasserstein[place.reshape(-1)]
