"""Statistics of one's own groups: equal to extract's, to SQL's, and to numpy's."""

from __future__ import annotations

from contextlib import nullcontext

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.stats
from circuits import two_types
from hypothesis import example, given, settings
from hypothesis import strategies as st

import connprops as cp
from connprops import schema
from connprops.errors import OptionError
from connprops.groups.describe import describe, distinct_values, finite, histogram, moments

PAIR = ["source_type", "target_type"]
TEXT = pl.col(*PAIR, "property").cast(pl.String)


@pytest.fixture(scope="module", params=["demo", "hard"])
def dataset(request, tmp_path_factory):
    """Give a dataset of many small pathways, then one of few, whose columns vary and are shared."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "demo":
        config = cp.write_demo(folder / "circuit", synapses=3000).config
    else:
        config = two_types(folder / "circuit", shuffled=True)
    warned = pytest.warns(cp.ConnpropsWarning) if request.param == "demo" else nullcontext()
    with warned:
        return cp.open_circuit(config, folder=folder / "dataset")


def _assert_same(table: pl.DataFrame, other: pl.DataFrame) -> None:
    both = table.with_columns(TEXT).join(
        other.with_columns(TEXT), on=[*PAIR, "property"], how="full", suffix="_other"
    )
    assert len(both) == len(table) == len(other)
    shared = [
        n for n in table.columns if f"{n}_other" in both.columns and n not in (*PAIR, "property")
    ]
    assert {"n", "n_null", "shared_within", "mean", "std", "q95", "n_unique"} <= {*shared}
    for name in shared:
        ours, theirs = both[name], both[f"{name}_other"]
        assert (ours.is_null() == theirs.is_null()).all(), name
        if ours.dtype == pl.Boolean or ours.dtype.is_integer():
            assert (ours == theirs).all(), name
        else:
            rtol, atol = (0, 1e-8) if name in ("skewness", "kurtosis") else (1e-12, 1e-12)
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=name)


def test_pathways_are_those_of_extract_and_of_sql(dataset):
    table = cp.extract(dataset, sel_props=dataset.properties).table.collect()
    described = describe(dataset.synapses, PAIR)
    _assert_same(described.collect(), table)
    _assert_same(described.collect(engine="streaming"), table)
    _assert_same(described.collect(), dataset.sql("from statistics").pl())


def test_other_groups_are_those_of_extract_by_them(dataset):
    frame = dataset.synapses.with_columns(everything=pl.lit("all"))
    whole = describe(frame, "everything", ["conductance"]).collect()
    values = dataset.synapses.select("conductance").collect()["conductance"]
    row = whole.filter(pl.col("property") == "conductance").row(0, named=True)
    assert row["max"] == values.max()
    assert {*whole["property"]} == {"conductance", "n_syn_per_conn"}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", None]),
            st.one_of(st.none(), st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, 0.0, 1.0])),
        ),
        min_size=1,
        max_size=40,
    )
)
@example([("a", 0.0), ("a", 3e-300)])
@example([("a", 0.0), ("a", 5e-324), ("a", 5e-324)])
@example([("a", 1e300), ("a", -1e300), ("a", 0.0)])
def test_each_group_is_as_numpy_has_it(rows):
    frame = pl.DataFrame({"key": [k for k, _ in rows], "x": [x for _, x in rows]},
                         schema={"key": pl.String, "x": pl.Float64})  # fmt: skip
    table = describe(frame, "key").collect()
    assert len(table) == frame["key"].n_unique()
    for row in table.iter_rows(named=True):
        own = [np.nan if x is None else x for k, x in rows if k == row["key"]]
        values = np.array(own)[np.isfinite(own)]
        assert (row["n"], row["n_null"]) == (values.size, len(own) - values.size)
        assert row["n_unique"] == np.unique(values).size
        if not values.size:
            assert all(row[name] is None for name in ("mean", "std", "min", "q50", "skewness"))
            continue
        scale = np.abs(values).max() or 1.0
        std = np.std(values / scale) * scale  # whose squares do not vanish
        for name, right in {
            "mean": values.mean(), "std": std, "min": values.min(), "max": values.max(),
            **{f"q{q:02d}": np.quantile(values, q / 100) for q in (5, 25, 50, 75, 95)},
        }.items():  # fmt: skip
            least = max(1e-12 * scale, 5e-324)
            assert row[name] == pytest.approx(right, rel=1e-12, abs=least), name
        if std > 1e-3 * scale:
            unit = values / scale
            assert row["skewness"] == pytest.approx(scipy.stats.skew(unit), abs=1e-6)
            assert row["kurtosis"] == pytest.approx(scipy.stats.kurtosis(unit), abs=1e-6)
        if values.min() > 0:
            assert row["mean_log"] == pytest.approx(np.log(values).mean(), rel=1e-12, abs=1e-12)
        else:
            assert row["mean_log"] is None


def test_single_expressions_are_numpys():
    values = np.random.default_rng(0).integers(0, 20, 300) / 4
    frame = pl.DataFrame({"x": values, "key": np.arange(300) % 3})
    edges = np.array([0.0, 0.25, 1.0, 3.0, 4.75])
    table = frame.group_by("key", maintain_order=True).agg(
        histogram(finite("x"), edges).alias("counts"),
        distinct_values(finite("x")).alias("distinct"),
        moments(finite("x"))["mean"],
    )
    for key, counts, distinct, mean in table.iter_rows():
        own = values[key::3]
        assert counts == np.histogram(own, edges)[0].tolist()
        value, count = np.unique(own, return_counts=True)
        assert [(d["x"], d["count"]) for d in distinct] == list(zip(value, count, strict=True))
        assert mean == pytest.approx(own.mean(), rel=1e-14)


def test_connections_of_ones_own():
    frame = pl.DataFrame({
        "pre": [1, 1, 2, 2, 3], "post": [9, 9, 9, 9, 9], "type": ["A", "A", "B", "B", "B"],
        "size": [2, 2, 3, 5, 1],
    })  # fmt: skip
    table = describe(frame, "type", connection=("pre", "post")).sort("type", "property").collect()
    sizes = {r["type"]: r for r in table.rows(named=True) if r["property"] == "size"}
    assert (sizes["A"]["n"], sizes["A"]["shared_within"]) == (1, None)  # a constant cannot tell
    assert (sizes["B"]["n"], sizes["B"]["shared_within"]) == (3, False)
    assert sizes["B"]["connection_mean"] == (4 + 1) / 2
    counts = {r["type"]: r for r in table.rows(named=True) if r["property"] == "n_syn_per_conn"}
    assert (counts["B"]["n"], counts["B"]["mean"]) == (2, 1.5)


def test_a_value_that_is_not_known_keeps_a_connection_from_sharing():
    frame = pl.DataFrame({
        "source_node": [1, 1, 2, 2, 3, 3], "target_node": 0, "key": [0, 0, 1, 1, 1, 1],
        "x": [1.0, None, np.nan, np.inf, 4.0, 4.0],
    })  # fmt: skip
    table = describe(frame, "key", ["x"]).filter(pl.col("property") == "x").sort("key")
    first, second = table.collect().rows(named=True)
    assert (first["n"], first["n_null"], first["shared_within"]) == (1, 1, False)
    assert (second["n"], second["n_null"], second["shared_within"]) == (1, 2, True)


def test_frames_of_others_are_read():
    columns = {"key": ["a", "a", "b"], "x": [1.0, 3.0, 5.0]}
    right = describe(pl.DataFrame(columns), "key").sort("key").collect()
    arrow = pa.table(columns)
    relation = duckdb.connect().from_arrow(arrow)
    for frame in (pl.LazyFrame(columns), arrow, arrow.to_pandas(), relation):
        assert describe(frame, "key").sort("key").collect().equals(right)


def test_columns_come_in_the_order_of_the_schema():
    table = describe(pl.DataFrame({"key": [1], "x": [2]}), ["key"]).collect()
    order = [name for name in schema.STATISTICS.names if name in table.columns]
    assert table.columns == ["key", *order]


@pytest.mark.parametrize(
    ("by", "properties", "message"),
    [
        ("kye", None, "did you mean 'key'"),
        ("key", ["name"], "'name' cannot be described"),
        ("key", ["x", "x"], "once"),
        ("key", ["key"], "a key"),
    ],
)
def test_what_cannot_be_described_is_said(by, properties, message):
    frame = pl.DataFrame({"key": [1], "x": [1.0], "name": ["n"]})
    with pytest.raises(OptionError, match=message):
        describe(frame, by, properties)


def test_no_table_and_no_edges_are_said():
    with pytest.raises(OptionError, match="no table"):
        describe([1, 2], "key")
    with pytest.raises(OptionError, match="edges"):
        histogram(pl.col("x"), [1.0, 1.0])
