"""Two models beside each other: where their distributions differ, and by how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops import schema
from connprops.arrays import Floats
from connprops.distributions.distances import distribution_distances
from connprops.distributions.distributions import Distributions
from connprops.model.model import Model, read_model
from connprops.store.tables import write_table
from connprops.store.writing import check_format, replacing

_KEYS = ["source_type", "target_type", "property"]


_ROWS = 2048
"""Pathways whose distances are computed at once."""


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
    first, second = (found if isinstance(found, Model) else _read(Path(found)) for found in (a, b))
    both = _described(first, "a").join(_described(second, "b"), on=_KEYS, how="full", coalesce=True)
    distances = _distances(first, second)
    seen_a, seen_b = (pl.col(f"level_{end}").eq_missing(-1) for end in "ab")
    spread = ((pl.col("std_a") ** 2 + pl.col("std_b") ** 2) / 2).sqrt()
    orders = {
        "source_type": _merged(first.source_types, second.source_types),
        "target_type": _merged(first.target_types, second.target_types),
        "property": _merged(first.properties, second.properties),
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
    with replacing(file, overwrite=overwrite) as aside:
        write = comparison.write_csv if file.suffix == ".csv" else comparison.write_json
        write(aside)
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


def _read(path: Path) -> Model:
    return read_model(path / "model.parquet" if path.is_dir() else path)


def _merged(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _described(model: Model, end: str) -> pl.DataFrame:
    """Return one row per pathway and property of a model, whose columns end in "_a" or "_b"."""
    rows = model.marginals.select(*_KEYS, "distribution", "level").unique(_KEYS)
    text = [pl.col(name).cast(pl.String) for name in (*_KEYS, "distribution")]
    rows = rows.with_columns(text).join(_moments(model), on=_KEYS, how="left")
    if model.fits is None:
        rows = rows.with_columns(n=pl.lit(None, dtype=pl.Int64))
    else:
        sizes = model.fits.select(*(pl.col(name).cast(pl.String) for name in _KEYS), "n")
        rows = rows.join(sizes, on=_KEYS, how="left")
    return rows.rename({name: f"{name}_{end}" for name in rows.columns if name not in _KEYS})


def _moments(model: Model) -> pl.DataFrame:
    found = [
        _named(model, name, distributions.pathway).with_columns(
            pl.Series(
                what, np.broadcast_to(of(distributions.parameters), distributions.pathway.shape)
            )
            for what, of in (("mean", distributions.family.mean), ("std", distributions.family.std))
        )
        for name in model.properties
        for distributions in model.distributions(name)
    ]
    empty = dict.fromkeys(_KEYS, pl.String()) | dict.fromkeys(("mean", "std"), pl.Float64())
    moments = pl.concat([pl.DataFrame(schema=empty), *found])
    number = pl.col("mean", "std")
    return moments.with_columns(pl.when(number.is_finite()).then(number))


def _named(model: Model, name: str, pathway: NDArray[np.int64]) -> pl.DataFrame:
    """Return the keys of a property's distributions, by the numbers of their pathways."""
    source, target = np.divmod(pathway, len(model.target_types))
    return pl.DataFrame(
        {
            "source_type": np.array(model.source_types, dtype=object)[source],
            "target_type": np.array(model.target_types, dtype=object)[target],
            "property": [name] * pathway.size,
        },
        schema=dict.fromkeys(_KEYS, pl.String()),
    )


def _distances(a: Model, b: Model) -> pl.DataFrame:
    """Return ks and wasserstein of the pathways and properties that both models have."""
    empty = dict.fromkeys(_KEYS, pl.String()) | dict.fromkeys(("ks", "wasserstein"), pl.Float64())
    found = [pl.DataFrame(schema=empty)]
    for name in set(a.properties) & set(b.properties):
        for one in a.distributions(name):
            left = _named(a, name, one.pathway).with_row_index("of_a")
            for other in b.distributions(name):
                right = _named(b, name, other.pathway).with_row_index("of_b")
                pairs = left.join(right, on=_KEYS)
                for part in pairs.iter_slices(_ROWS):
                    at_a, at_b = part["of_a"].to_numpy(), part["of_b"].to_numpy()
                    ks, wasserstein = _of_different(one.take(at_a), other.take(at_b))
                    found.append(
                        part.select(
                            *_KEYS,
                            pl.Series("ks", ks),
                            pl.Series("wasserstein", wasserstein),
                        )
                    )
    return pl.concat(found)


def _of_different(a: Distributions, b: Distributions) -> tuple[Floats, Floats]:
    """Return the distances of distributions; of equal pairs, as borrowed ones are, once."""
    columns = [
        np.asarray(values, dtype=np.float64).reshape(a.pathway.size, -1)
        for distributions in (a, b)
        for values in (*distributions.parameters.values(), distributions.lower, distributions.upper)
    ]
    _, first, place = np.unique(
        np.concatenate(columns, axis=1), axis=0, return_index=True, return_inverse=True
    )
    ks, wasserstein = distribution_distances(a.take(first), b.take(first))
    return ks[place.reshape(-1)], wasserstein[place.reshape(-1)]
