"""What does not fit in memory gives the same bits as what does."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from circuits import write_circuit
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import pathways, statistics, values_of

from connprops.arrays.histogram import histograms
from connprops.arrays.sorted_samples import (
    append_to_file,
    count_distinct,
    distinct_values,
    moments,
    quantiles,
    sort_file,
)
from connprops.arrays.sorted_samples import sort_samples as sort_in_memory
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.resources import Resources
from connprops.statistics.extract import extract

TABLES = ("histograms", "table", "values", "order_statistics")  # the first makes all


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a dataset of 4 types with all that makes aggregation branch."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("memory")
    n_nodes, n_pairs = 60, 500
    pairs = rng.choice(n_nodes**2, n_pairs, replace=False)
    counts = rng.integers(1, 6, n_pairs)
    source, target = np.repeat(pairs // n_nodes, counts), np.repeat(pairs % n_nodes, counts)
    n = source.size
    varies_sometimes = np.repeat(rng.normal(size=n_pairs), counts)
    inside = (source < 20) & (target < 20)
    varies_sometimes[inside] = rng.normal(size=int(inside.sum()))
    columns = {
        "shared": np.repeat(rng.gamma(3, 1, n_pairs), counts).astype(np.float32),
        "varies": rng.normal(size=n),
        "dirty": np.where(rng.random(n) < 0.05, np.nan, rng.lognormal(size=n)),
        "sometimes": varies_sometimes,
        "count": np.repeat(rng.integers(0, 5, n_pairs), counts).astype(np.int32),
        "constant": np.full(n, 0.3, dtype=np.float32),
        "signs": np.repeat(rng.choice([-0.0, 0.0, 1.0], n_pairs), counts),
    }
    order = np.lexsort((source, target))
    config = write_circuit(
        folder / "c", source[order], target[order],
        {name: values[order] for name, values in columns.items()},
        mtype=[f"T{i // 20}" for i in range(n_nodes)],
        attributes={"region": ["left", "right", "top"] * 20},
    )  # fmt: skip
    with pytest.warns(UserWarning, match="dirty"):
        folder = export(resolve_circuit(config), folder / "d")
    return Dataset(folder)


def tables_of(data, allowed=None, **options):
    """Return all tables, with only so many bytes allowed to a unit."""
    resources = Resources(unit_memory=allowed and (allowed, allowed))
    stats = extract(data, sel_props=data.properties, hist_bins=13, resources=resources, **options)
    return [getattr(stats, name).collect() for name in TABLES]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_sample_size_per_group": 40},
        {"min_sample_size_per_group": 55},
        {"by": "region"},
        {"by": "@population", "max_sample_size_per_group": 300},
        {"by": "@population", "sel_src": {"region": "left"}},
        {"CV_dict": {"n_folds": 3, "fold_idx": 1, "training_set": True}, "by": "region"},
    ],
    ids=str,
)
@pytest.mark.parametrize("allowed", [8_000, 20_000])  # all groups on disk, or half of them
def test_little_memory_gives_the_same_bits(data, options, allowed):
    plenty = tables_of(data, **options)
    little = tables_of(data, allowed, **options)
    for name, a, b in zip(TABLES, plenty, little, strict=True):
        assert len(a)
        assert a.equals(b), name
        floats = [c for c, dtype in a.schema.items() if dtype == pl.Float64]
        for column in floats:  # equal bits: -0.0 is not 0.0 here
            assert a[column].to_numpy().tobytes() == b[column].to_numpy().tobytes(), (name, column)


def test_rows_of_many_small_groups_are_put_in_order(data):
    by = ("@node", "@node")
    for a, b in zip(tables_of(data, by=by), tables_of(data, 40_000, by=by), strict=True):
        assert len(a)
        assert a.equals(b)


def test_one_group_sorted_on_disk_agrees_with_numpy(data):
    _, table, *_ = tables_of(data, 1, by="@population")
    synapses = data.synapses.select("source_node", "target_node", "varies", "dirty").collect()
    source, target = (synapses[f"{side}_node"].to_numpy() for side in ("source", "target"))
    one = np.zeros(60, dtype=int)
    ((_, rows_of),) = pathways(source, target, one, one).items()
    for prop in ("varies", "dirty"):
        kept, _, left_out = values_of(synapses[prop].to_numpy(), rows_of)
        row = table.row(by_predicate=pl.col("property") == prop, named=True)
        assert (row["n"], row["n_null"]) == (kept.size, left_out)
        for name, expected in statistics(kept).items():
            assert row[name] == pytest.approx(expected, rel=1e-12), (prop, name)


@settings(max_examples=60, deadline=None)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.int64, np.uint32]),
        st.integers(1, 400),
    ),
    chunk=st.integers(1, 100),
)
def test_sorting_in_a_file_gives_what_sorting_in_memory_does(tmp_path_factory, values, chunk):
    file = tmp_path_factory.mktemp("sort") / "values"
    for at in range(0, values.size, chunk):
        append_to_file(file, values[at : at + chunk])
    on_disk = sort_file(file, values.dtype)
    in_memory = sort_in_memory(values, np.array([values.size]))
    np.testing.assert_array_equal(on_disk.counts, in_memory.counts)
    with np.errstate(all="ignore"):
        for numbers in (moments, quantiles):
            found, expected = numbers(on_disk), numbers(in_memory)
            for name, number in expected.items():
                assert found[name].tobytes() == number.tobytes(), name
        pairs = [(histograms(on_disk, 7), histograms(in_memory, 7))]
    wanted = np.ones(in_memory.filled.size, bool)
    pairs.append((distinct_values(on_disk, wanted), distinct_values(in_memory, wanted)))
    pairs.append(([count_distinct(on_disk)], [count_distinct(in_memory)]))
    for found, expected in (arrays for pair in pairs for arrays in zip(*pair, strict=True)):
        np.testing.assert_array_equal(found, expected)


_EXTRACT = """
import resource, sys
import connprops as cp
from connprops.resources import Resources
stats = cp.extract(
    sys.argv[1], by=sys.argv[2], sel_props=["varies", "shared"],
    resources=Resources(memory=1 << 27, threads=2),
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = stats.table.collect()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(int(table["n"].sum()), after - before)
"""


@pytest.mark.parametrize("by", ["@population", "region"])
def test_a_group_of_millions_keeps_within_its_memory(tmp_path, by):
    rng = np.random.default_rng(0)
    n_nodes, n_pairs, per_connection = 2_000, 1_000_000, 4
    pairs = np.sort(rng.choice(n_nodes**2, n_pairs, replace=False))
    source, target = (np.repeat(x, per_connection) for x in (pairs % n_nodes, pairs // n_nodes))
    columns = {
        "varies": rng.normal(size=source.size),
        "shared": np.repeat(rng.gamma(3, 1, n_pairs), per_connection),
    }
    config = write_circuit(
        tmp_path / "c", source, target, columns, mtype=["A", "B"] * (n_nodes // 2),
        attributes={"region": ["left", "right"] * (n_nodes // 2)},
    )  # fmt: skip
    folder = export(resolve_circuit(config), tmp_path / "d", resources=Resources(memory=1 << 28))
    del columns, source, target, pairs
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _EXTRACT, str(folder), by],
        capture_output=True, text=True, check=True, env={**os.environ, "POLARS_MAX_THREADS": "2"},
    )  # fmt: skip
    n, kilobytes = map(int, ran.stdout.split())
    assert n == 4_000_000 + 1_000_000 + 1_000_000  # varies, shared, and n_syn_per_conn
    # All values of "varies" alone, with what sorting them at once takes, are 250 MB.
    assert kilobytes < 150_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0


_WRITE = """
import resource, sys
import connprops as cp
from connprops.resources import Resources
stats = cp.extract(sys.argv[1], resources=Resources(memory=1 << 27, threads=2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stats.write(sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_results_of_many_pathways_keep_within_their_memory(tmp_path):
    rng = np.random.default_rng(1)
    n_types, n_pairs = 120, 30_000
    pairs = np.sort(rng.choice((4 * n_types) ** 2, n_pairs, replace=False))
    source, target = pairs % (4 * n_types), pairs // (4 * n_types)
    columns = {name: rng.gamma(3, 1, n_pairs) for name in ("a", "b", "c", "d")}
    config = write_circuit(
        tmp_path / "c", source, target, columns, mtype=[f"T{i % n_types}" for i in range(480)]
    )
    folder = export(resolve_circuit(config), tmp_path / "d")
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _WRITE, str(folder), str(tmp_path / "little")],
        capture_output=True, text=True, check=True, env={**os.environ, "POLARS_MAX_THREADS": "2"},
    )  # fmt: skip
    # Its 3 million rows of histograms alone took 500 MB, when all results were kept.
    assert int(ran.stdout) < 180_000
    stats = extract(folder)
    stats.write(tmp_path / "plenty")
    for file in (tmp_path / "plenty").iterdir():
        assert file.read_bytes() == (tmp_path / "little" / file.name).read_bytes(), file.name
