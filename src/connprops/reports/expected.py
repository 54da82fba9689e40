"""Data and model beside means that were expected: of a recipe, or of a publication."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from connprops.errors import DatasetError, listing
from connprops.pathways import Pathways
from connprops.schema import PATHWAY

COLUMNS = (*PATHWAY, "property", "mean")
_SHOWN = 200
_NEAR = 2.0
"""Standard errors within which a mean is as expected."""


def read_expected(expected: pl.DataFrame | str | Path) -> pl.DataFrame:
    """Return a table of expected means, with its names as text; refuse others."""
    try:
        frame = expected if isinstance(expected, pl.DataFrame) else pl.read_parquet(expected)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError.of(f"{expected} cannot be read", found=str(error)) from error
    lacking = [name for name in COLUMNS if name not in frame.columns]
    if lacking:
        raise DatasetError.of(
            f"The table of expected means lacks the column {lacking[0]!r}",
            found=listing(frame.columns),
            expected=", ".join(COLUMNS),
        )
    return frame.select(pl.col(COLUMNS[:3]).cast(pl.String), pl.col("mean").cast(pl.Float64))


def against_expected(
    expected: pl.DataFrame, tables: Mapping[str, pl.DataFrame], pathways: Pathways
) -> tuple[str, dict[str, Any]]:
    """Return in words how far data are from what was expected, and the rows that are furthest.

    ``tables`` are those of a report, whose pathways are numbers.
    """
    keys = ["pathway", "property"]
    text = pl.col("property").cast(pl.String)
    data = tables["statistics"].select("pathway", text, "n", data="mean")
    # The model's spread: that of a few values says little of their error.
    model = tables["model"].select("pathway", text, "std", model="mean")
    rows = (
        expected.rename({"mean": "expected"})
        .with_columns(pathway=pathways.number_of_row)
        .join(data, on=keys, how="left")
        .join(model, on=keys, how="left")
        .with_columns(z=(pl.col("data") - pl.col("expected")) * pl.col("n").sqrt() / pl.col("std"))
        .with_columns(z=pl.when(pl.col("z").is_finite()).then("z"))
        .sort(pl.col("z").abs(), descending=True, nulls_last=True)
    )
    known = rows.drop_nulls("z")
    near = int((known["z"].abs() <= _NEAR).sum())
    words = (
        f"Against expected means: {near:,} of {len(known):,} means of data lie within {_NEAR:g} "
        f"standard errors of what was expected."
    )
    if near < len(known):
        worst = known.row(0, named=True)
        words += (
            f" Furthest: {worst['property']} of {worst['source_type']} → {worst['target_type']}, "
            f"{worst['data']:.3g} instead of {worst['expected']:.3g}, {abs(worst['z']):.1f} "
            "standard errors."
        )
    lost = len(rows) - len(known)
    if lost:
        words += f" {lost:,} expected means have no data with a spread to compare with."
    shown = rows.head(_SHOWN).select(
        pl.format("{} → {}", "source_type", "target_type"),
        *("property", "expected", "data", "n", "z", "model"),
    )
    heads = ["pathway", "property", "expected mean", "mean, data", "values",
             "off by (standard errors)", "mean, model"]  # fmt: skip
    return words, {"heads": heads, "rows": [list(row) for row in shown.iter_rows()]}
