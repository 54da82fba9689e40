from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from circuits import two_types

import connprops.export.gathered
import connprops.export.plan
from connprops.circuit.circuit import EdgeReader, resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import OutputError
from connprops.export.export import export
from connprops.export.parts import by_pair
from connprops.options import EdgeOptions
from connprops.resources import Resources
from connprops.tables.table import TableNetwork


def content(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != "source.json"
    }


@pytest.mark.parametrize("high", [3, 1000, 1 << 40])
@pytest.mark.parametrize("n", [0, 1, 2, 500])
def test_rows_by_pair_are_those_of_a_stable_sort(n, high):
    rng = np.random.default_rng(n)
    source, target = rng.integers(-1, high, (2, n))
    expected = sorted(range(n), key=lambda row: (target[row], source[row], row))
    assert by_pair(source, target).tolist() == expected


@pytest.mark.parametrize("rows", [7, 64, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_bytes_whatever_the_pieces_and_threads(tmp_path, monkeypatch, rows, threads):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)
    config = two_types(tmp_path / "c", shuffled=True)
    circuit = resolve_circuit(config)
    folder = export(circuit, tmp_path / "a", resources=Resources(threads=2))
    assert Dataset(folder).n_parts > 3
    monkeypatch.setattr(connprops.export.gathered, "ROWS_AT_ONCE", (rows, rows))
    again = export(circuit, tmp_path / "b", resources=Resources(threads=threads))
    assert content(again) == content(folder)


def test_what_a_piece_raises_ends_the_export(tmp_path, monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)
    monkeypatch.setattr(connprops.export.gathered, "ROWS_AT_ONCE", (10, 10))
    circuit = resolve_circuit(two_types(tmp_path / "c", shuffled=True))
    original, calls = EdgeReader.node_ids, []

    def fails(self, start, stop):
        calls.append((start, stop))
        if calls.count((30, 40)) == 2:  # the first was to count
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
    monkeypatch.setattr(connprops.export.gathered, "ROWS_AT_ONCE", (333, 333))
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
    found = ds.sql("select edge_id, x, few, size, kind from synapses order by edge_id").pl()
    for name in ("edge_id", "x", "few"):
        assert found[name].to_list() == expected[name].to_list()
    assert next(c.labels for c in ds.columns if c.name == "kind") == ("flat", "round")
    codes = expected["kind"].replace_strict({"flat": 0, "round": 1}, return_dtype=pl.Float64)
    assert found["kind"].fill_nan(None).to_list() == codes.to_list()
    assert found["size"].fill_nan(None).to_list() == expected["size"].to_list()


def test_whole_numbers_are_encoded_by_how_many_differ(tmp_path):
    table = scattered_table().drop_nulls().drop("nsyns")
    network = TableNetwork(table, EdgeOptions(source="pre", target="post", type="@population"))
    ds = Dataset(export(network, tmp_path / "d", type="@population", source="pre", target="post"))
    group = pq.read_metadata(ds.files("synapses")[0]).row_group(0)
    columns = {c.path_in_schema: c for c in map(group.column, range(group.num_columns))}
    assert "DELTA_BINARY_PACKED" in columns["x"].encodings
    assert "RLE_DICTIONARY" in columns["few"].encodings
    found = ds.synapses.sort("edge_id").collect()
    for name in ("x", "few"):
        assert found[name].to_list() == table[name].to_list()
