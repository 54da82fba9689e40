"""Distributions to the rows of a model's table, and back to the bit."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from known_distributions import PARAMETERS, stacked

from connprops import schema
from connprops.distributions.distributions import Distributions
from connprops.distributions.rows import ModelRows, parameter_rows
from connprops.families.registry import family_named
from connprops.pathways import Pathways

PATHWAYS = Pathways(list("ABCD"), list("ABC"))


def table(distributions: Distributions) -> pl.DataFrame:
    """Return the rows of distributions as a model's table."""
    return (
        parameter_rows([distributions])
        .with_columns(
            *PATHWAYS.columns(parameter_rows([distributions])["pathway"].to_numpy()),
            pl.lit(-1).alias("level"),
            pl.lit(value=True).alias("shared_within"),
            pl.lit(1.0).alias("within_correlation"),
            pl.lit("float").alias("dtype"),
            pl.lit(None, dtype=pl.Float64).alias("lower_bound"),
            pl.lit(float(distributions.upper[0])).alias("upper_bound"),
            pl.lit("g").alias("property"),
            pl.lit(None, dtype=pl.String).alias("other_property"),
            *(pl.lit(None, dtype=pl.String).alias(key) for key in schema.ROW_KEYS[2:]),
        )
        .sample(fraction=1, shuffle=True, seed=3)
    )


def read(distributions: Distributions) -> list[Distributions]:
    """Return what the rows of distributions are read as."""
    sides = [(side, i, name, None, None, 1)
             for side, names in (("source", "ABCD"), ("target", "ABC"))
             for i, name in enumerate(names)]  # fmt: skip
    types = pl.DataFrame(sides, schema=schema.TYPES.polars_schema(), orient="row")
    lent = ModelRows(table(distributions), types, PATHWAYS, ["g"]).distributions("g")
    assert np.flatnonzero(lent.row_of >= 0).tolist() == distributions.pathway.tolist()
    return lent.rows


def assert_same(one: Distributions, other: Distributions) -> None:
    assert one.family is other.family
    np.testing.assert_array_equal(one.pathway, other.pathway)
    for name, values in one.parameters.items():
        np.testing.assert_array_equal(values, other.parameters[name])
        np.testing.assert_array_equal(one.std_error[name], other.std_error[name])
    np.testing.assert_array_equal(one.lower, other.lower)
    np.testing.assert_array_equal(one.upper, other.upper)


@pytest.mark.parametrize("name", [*PARAMETERS, "constant"])
def test_rows_and_back(name):
    parameters = stacked(PARAMETERS.get(name, [{"mean": 0.5}, {"mean": -1.0}]))
    n = len(next(iter(parameters.values())))
    errors = {key: values / 7 for key, values in parameters.items()}
    there = Distributions(
        family_named(name), np.arange(n), parameters, upper=np.array(1e12), std_error=errors
    )
    (back,) = read(there)
    assert_same(there, back)


def test_lists_are_padded_and_no_errors_are_null():
    nan = np.nan
    value, p = (
        np.array([[1.0, 2.0, 4.0], [3.0, nan, nan]]),
        np.array([[0.2, 0.3, 0.5], [1, nan, nan]]),
    )
    there = Distributions(family_named("discrete"), np.array([1, 4]), {"val": value, "p": p})
    rows = parameter_rows([there])
    assert rows.select("pathway", "parameter", "position", "value").rows() == [
        (1, "val", 0, 1.0), (1, "val", 1, 2.0), (1, "val", 2, 4.0), (4, "val", 0, 3.0),
        (1, "p", 0, 0.2), (1, "p", 1, 0.3), (1, "p", 2, 0.5), (4, "p", 0, 1.0),
    ]  # fmt: skip
    assert rows["std_error"].null_count() == 8
    (back,) = read(there)
    np.testing.assert_array_equal(back.parameters["val"], value)
    np.testing.assert_array_equal(back.parameters["p"], p)
    assert np.isnan(back.std_error["p"]).all()


def test_a_family_without_parameters_has_a_row():
    there = Distributions(family_named("zero"), np.array([0, 5]), {})
    assert parameter_rows([there]).select("pathway", "parameter", "value").rows() == [
        (0, "mean", 0.0), (5, "mean", 0.0),
    ]  # fmt: skip
    (back,) = read(there)
    assert back.pathway.tolist() == [0, 5]
    assert back.parameters == {}


def test_parts_are_joined_by_pathway():
    family = family_named("discrete")
    long = Distributions(
        family, np.array([0, 3]),
        {"val": np.array([[1.0, 2.0], [5.0, np.nan]]), "p": np.array([[0.5, 0.5], [1.0, np.nan]])},
        np.array([-1.0, 0.0]),
        std_error={"p": np.array([[0.1, 0.1], [0.0, np.nan]])},
    )  # fmt: skip
    short = Distributions(family, np.array([1]), {"val": np.array([[9.0]]), "p": np.array([[1.0]])})
    both = long.joined(short)
    assert both.pathway.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(both.parameters["val"], [[1, 2], [9, np.nan], [5, np.nan]])
    np.testing.assert_array_equal(both.std_error["p"], [[0.1, 0.1], [np.nan] * 2, [0, np.nan]])
    assert np.isnan(both.std_error["val"]).all()
    assert both.lower.tolist() == [-1, -np.inf, 0]
    again = both.take(both.pathway != 1)
    np.testing.assert_array_equal(again.parameters["p"], long.parameters["p"])


def test_none_have_no_rows():
    none = Distributions(
        family_named("gamma"), np.arange(0), {"mean": np.empty(0), "std": np.empty(0)}
    )
    assert parameter_rows([none]).is_empty()
    assert len(none) == 0
