"""The sorted copy of rows is in the order of a sort in memory, however the rows are dealt out."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from circuits import two_types
from hypothesis import given
from hypothesis import strategies as st

import connprops.export.plan
from connprops.circuit.circuit import EdgeReader, resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import OutputError
from connprops.export import sorted_rows
from connprops.export.export import export
from connprops.export.sorted_rows import SortedRows, write_sorted
from connprops.options import EdgeOptions
from connprops.resources import Resources
from connprops.sources.source import SourceColumn
from connprops.tables.table import TableNetwork

COLUMNS = [SourceColumn(*of) for of in (("weight", "float32"), ("kind", "int8"), ("", "int16"))]


class Edges:
    """Rows in memory, as a source of edges."""

    def __init__(self, source, target):
        self._ends, self.size, self.columns = (source, target), source.size, {}
        self.rows_together, self.asked = 1, []

    @contextmanager
    def reader(self):
        yield self

    def node_ids(self, start, stop):
        self.asked.append((start, stop))
        return self._ends[0][start:stop], self._ends[1][start:stop]

    def column(self, column, start, stop):
        return np.arange(start, stop).astype(column.dtype)


def check(edges: Edges, folder: Path, n_nodes: int = 1 << 41) -> None:
    write_sorted(edges, COLUMNS, n_nodes, folder / "sorted", Resources())
    source, target = edges.node_ids(0, edges.size)
    order = np.lexsort((source, target))
    with SortedRows(folder / "sorted") as rows:
        for start, stop in ((0, edges.size), (edges.size // 3, edges.size // 2)):
            expected = order[start:stop]
            ends = rows.node_ids(start, stop)
            assert np.array_equal(ends[0], source[expected])
            assert np.array_equal(ends[1], target[expected])
            assert np.array_equal(rows.edge_ids(start, stop), expected)
            for column in COLUMNS:
                values = rows.column(column, start, stop)
                assert values.dtype == column.dtype
                assert np.array_equal(values, expected.astype(column.dtype))
    assert not (folder / "sorted.tmp").exists()


def deal_out(monkeypatch, rows):
    """Let rows be dealt out again and again, so many at once, to few files of few."""
    for name, value in (("ROWS_AT_ONCE", rows), ("FILES_AT_MOST", 3), ("ROOM_AT_LEAST", 5)):
        monkeypatch.setattr(sorted_rows, name, value)


def content(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != "source.json"
    }


@pytest.fixture
def little_room(monkeypatch):
    deal_out(monkeypatch, 7)


@pytest.mark.usefixtures("little_room")
@given(
    st.lists(st.tuples(st.integers(-1, 40), st.integers(-1, 40)), max_size=120),
    st.sampled_from([1, 41, 2**40]),
)
def test_rows_are_sorted_whatever_their_ends(tmp_path_factory, ends, scale):
    ends = np.array(ends, dtype=np.int64).reshape(-1, 2)
    source, target = np.where(ends < 0, -1, ends * scale).T
    for n_nodes in {41 * scale, 1 << 41}:  # kept in 32 bits, where they are few, and in 64
        check(Edges(source, target), tmp_path_factory.mktemp("sorted"), n_nodes)


def test_nodes_that_are_none_stay_so_in_less_room(tmp_path):
    target = np.array([2**40, 3, -1, 2**30 - 1, 2**62, 3])
    edges = Edges(np.arange(6), target)
    write_sorted(edges, COLUMNS, 2**30 - 1, tmp_path / "sorted", Resources())
    with SortedRows(tmp_path / "sorted") as rows:
        ends = rows.node_ids(0, 6)
        assert np.array_equal(rows.edge_ids(0, 6), [2, 1, 5, 3, 0, 4])
    assert np.array_equal(ends[0], [2, 1, 5, 3, 0, 4])
    assert np.array_equal(ends[1][:3], [-1, 3, 3])
    assert (ends[1][3:] >= 2**30 - 1).all()


def test_rows_that_are_stored_together_are_read_together(tmp_path, monkeypatch):
    monkeypatch.setattr(sorted_rows, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(sorted_rows, "ROWS_TOGETHER_AT_MOST", 30)
    for together, read in ((1, 10), (4, 8), (12, 12), (30, 30), (31, 30)):
        edges = Edges(np.arange(100), np.arange(100))
        edges.rows_together = together
        write_sorted(edges, COLUMNS, 100, tmp_path / str(together), Resources())
        assert sorted(edges.asked) == [(a, min(a + read, 100)) for a in range(0, 100, read)]


@pytest.mark.parametrize("n_targets", [1, 1000])
def test_many_rows_are_sorted(tmp_path, n_targets):
    rng = np.random.default_rng(n_targets)
    n = 700_000  # more than there is room for at once
    check(Edges(rng.integers(0, 5000, n), rng.integers(0, n_targets, n)), tmp_path)


@pytest.mark.parametrize("rows", [7, 64, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bytes_whatever_the_pieces_and_threads(tmp_path, monkeypatch, rows, threads):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)
    config = two_types(tmp_path / "c", shuffled=True)
    circuit = resolve_circuit(config)
    folder = export(circuit, tmp_path / "a", resources=Resources(threads=2))
    assert Dataset(folder).n_parts > 3
    deal_out(monkeypatch, rows)
    again = export(circuit, tmp_path / "b", resources=Resources(threads=threads))
    assert content(again) == content(folder)


def test_what_a_piece_raises_ends_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)
    deal_out(monkeypatch, 10)
    circuit = resolve_circuit(two_types(tmp_path / "c", shuffled=True))
    original, calls = EdgeReader.node_ids, []

    def fails(self, start, stop):
        calls.append((start, stop))
        if (start, stop) == (30, 40):
            raise OSError("the disk is gone")
        return original(self, start, stop)

    monkeypatch.setattr(EdgeReader, "node_ids", fails)
    with pytest.raises(OutputError, match="disk is gone"):
        export(circuit, tmp_path / "d", resources=Resources(threads=3))
    assert not (tmp_path / "d").exists()
    monkeypatch.setattr(EdgeReader, "node_ids", original)
    assert Dataset(export(circuit, tmp_path / "d")).verify() == []
    assert not list(tmp_path.glob(".d*"))


def scattered_table(n=3000):
    rng = np.random.default_rng(1)
    return pl.DataFrame(
        {
            "pre": [["a", "b", "c", "nobody", None][i] for i in rng.integers(0, 5, n)],
            "post": rng.choice(["c", "d", "e", "f"], n),
            "nsyns": rng.integers(0, 4, n),
            "x": rng.integers(-(10**6), 10**6, n),
            "few": rng.integers(0, 5, n).astype(np.int16),
            "size": [*rng.integers(0, 99, n - 300).tolist(), *[None] * 300],
            "kind": [["round", "flat", None][i] for i in rng.integers(0, 3, n)],
        },
        schema_overrides={"size": pl.Int32},
    )


def test_scattered_rows_of_all_kinds_come_back_as_polars_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 400)
    deal_out(monkeypatch, 333)
    table = scattered_table()
    table.write_parquet(tmp_path / "edges.parquet")
    nodes = pl.DataFrame({"id": list("abcdef"), "type": list("XXYYZZ")})
    nodes.write_parquet(tmp_path / "nodes.parquet")
    asked = {
        "nodes": tmp_path / "nodes.parquet", "source": "pre", "target": "post", "node_id": "id",
        "type": "type", "count": "nsyns", "where": "kind = 'round' or x > 0",
        "min_syn_per_conn": 150,
    }  # fmt: skip
    counted = table.filter(pl.col("nsyns") > 0)
    counted.write_parquet(tmp_path / "edges.parquet")
    network = TableNetwork(tmp_path / "edges.parquet", EdgeOptions(**asked))
    with pytest.warns(Warning, match="left out"):
        ds = Dataset(export(network, tmp_path / "d", **asked))
    assert ds.n_parts > 2
    expected = (
        counted.with_row_index("edge_id")
        .filter(((pl.col("kind") == "round") | (pl.col("x") > 0)).fill_null(value=False))
        .filter(pl.col("pre").is_in(list("abcdef")))
        .select(pl.all().repeat_by("nsyns").explode())
        .filter(pl.len().over("pre", "post") >= 150)
        .sort("edge_id")
    )
    read = ds.sql("select edge_id, x, few, size, kind from synapses order by edge_id").pl()
    for name in ("edge_id", "x", "few"):
        assert read[name].to_list() == expected[name].to_list()
    assert next(c.labels for c in ds.columns if c.name == "kind") == ("flat", "round")
    codes = expected["kind"].replace_strict({"flat": 0, "round": 1}, return_dtype=pl.Float64)
    assert read["kind"].fill_nan(None).to_list() == codes.to_list()
    assert read["size"].fill_nan(None).to_list() == expected["size"].to_list()
