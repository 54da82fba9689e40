from __future__ import annotations

import h5py
import polars as pl
import pytest
from circuits import two_types, write_edges
from typer.testing import CliRunner

import connprops as cp
from connprops.circuit.bare import bare_circuit
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.errors import CircuitError
from connprops.export.export import export


def test_an_edge_file_with_its_nodes_gives_the_dataset_of_the_circuit(tmp_path):
    config = two_types(tmp_path / "c")
    bare = bare_circuit(config.parent / "edges.h5", config.parent / "nodes.h5")
    found = export(bare, tmp_path / "bare", properties=["u_syn"])
    expected = export(resolve_circuit(config), tmp_path / "whole", properties=["u_syn"])
    for file in expected.glob("*/*.parquet"):
        assert (found / file.relative_to(expected)).read_bytes() == file.read_bytes()


def test_without_nodes_all_are_of_one_type(tmp_path):
    config = two_types(tmp_path / "c")
    ds = cp.open_dataset(export(bare_circuit(config.parent / "edges.h5", None), tmp_path / "d"))
    assert ds.source_types == ds.target_types == ["All"]
    with h5py.File(config.parent / "edges.h5") as h5:
        ids = [h5[f"edges/default/{side}_node_id"][:].max() for side in ("source", "target")]
    assert ds.nodes.filter(pl.col("side") == "source").height == max(ids) + 1


def test_what_is_no_edge_file_says_so(tmp_path):
    config = two_types(tmp_path / "c")
    with pytest.raises(CircuitError, match="HDF5, but no SONATA edge file"):
        bare_circuit(config.parent / "nodes.h5", None)
    (tmp_path / "text.h5").write_text("no HDF5")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "text.h5"), "-o", str(tmp_path / "o")])
    assert result.exit_code == 2
    assert "cannot be opened as HDF5" in result.stderr
    write_edges(tmp_path / "far.h5", "default", [0, 1 << 40], [1, 1], {"u_syn": [0.1, 0.2]})
    with pytest.raises(CircuitError, match="names a node that is none"):
        export(bare_circuit(tmp_path / "far.h5", None), tmp_path / "far")
