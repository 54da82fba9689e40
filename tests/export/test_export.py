from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import h5py
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from circuits import SHARED, allen, edit, two_types, with_node_ids, write_circuit
from polars.testing import assert_frame_equal
from typer.testing import CliRunner

import connprops.export.export
import connprops.export.plan
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset, open_dataset
from connprops.errors import (
    CircuitError,
    ConnpropsWarning,
    DatasetError,
    OptionError,
    OutputError,
)
from connprops.export.export import export
from connprops.export.opening import open_circuit
from connprops.store.stage import put_in_place


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)


def raw(config):
    with h5py.File(config.parent / "edges.h5") as h5:
        base = h5["edges/default"]
        return pl.DataFrame(
            {
                "edge_id": np.arange(base["source_node_id"].shape[0]),
                "source_node": base["source_node_id"][:].astype(np.int64),
                "target_node": base["target_node_id"][:].astype(np.int64),
                **{name: column[:] for name, column in base["0"].items()},
            }
        )


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("parts", ["one", "many"])
def test_synapses_come_back_whole(tmp_path, shuffled, parts, request):
    if parts == "many":
        request.getfixturevalue("small_parts")
    config = two_types(tmp_path / "c", shuffled=shuffled)
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    expected = raw(config).drop("afferent_center_x")
    found = ds.synapses.select(expected.columns).sort("edge_id").collect()
    assert found.equals(expected)
    in_sql = ds.sql("select * from synapses order by edge_id").pl().select(expected.columns)
    assert in_sql.equals(expected)
    assert (ds.n_parts > 3) == (parts == "many")
    assert not (tmp_path / "d" / "sorted").exists()


@pytest.mark.usefixtures("small_parts")
def test_rows_ordered_by_source(tmp_path):
    config = two_types(tmp_path / "c")
    with h5py.File(tmp_path / "c" / "edges.h5", "a") as h5:
        base = h5["edges/default"]
        order = np.argsort(base["source_node_id"][:], kind="stable")
        for values in (base["source_node_id"], base["target_node_id"], *base["0"].values()):
            values[...] = values[:][order]
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.manifest.contiguous
    assert ds.synapses.sort("edge_id").collect()["u_syn"].equals(raw(config)["u_syn"])


def test_connections_hold_shared_values_and_synapses_the_varying_ones(tmp_path):
    config = two_types(tmp_path / "c")
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert {c.name: c.varies for c in ds.columns} == {
        "conductance": False,
        "decay_time": False,
        "delay": True,
        "n_rrp_vesicles": False,
        "u_syn": True,
    }
    connections = ds.connections.collect()
    one = connections.filter(pl.col("n_syn_per_conn") == 1)
    several = connections.filter(pl.col("n_syn_per_conn") > 1)
    assert one["u_syn"].null_count() == 0
    assert several["u_syn"].null_count() == len(several)
    stored = pl.scan_parquet(ds.files("synapses")).collect_schema().names()
    assert stored == ["pathway", "first_edge", "edge_id", "delay", "u_syn"]


@pytest.mark.usefixtures("small_parts")
def test_a_column_that_varies_in_one_late_connection_only(tmp_path):
    source, target = np.arange(120) // 2 % 6, np.arange(120) // 12
    shared = np.repeat(np.arange(60.0), 2)
    shared[75] += 1e-9
    config = write_circuit(tmp_path / "c", source, target, {"p": shared}, mtype=["A"] * 10)
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.columns[0].varies
    assert ds.synapses.sort("edge_id").collect()["p"].to_list() == shared.tolist()


def test_parts_are_ordered_by_pathway(tmp_path):
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    for kind in ("connections", "synapses"):
        for file in ds.files(kind):
            assert pl.read_parquet(file)["pathway"].is_sorted()


class Far:
    """Edges whose rows are numbered from ``first`` on."""

    def __init__(self, edges, first):
        self.edges, self.first, self.columns = edges, first, edges.columns

    @contextmanager
    def reader(self):
        with self.edges.reader() as self.rows:
            yield self

    def node_ids(self, start, stop):
        return self.rows.node_ids(start - self.first, stop - self.first)

    def column(self, column, start, stop):
        return self.rows.column(column, start - self.first, stop - self.first)


def test_edges_of_a_part_beyond_32_bits_are_numbered(tmp_path, monkeypatch):
    config = two_types(tmp_path / "c")
    near = Dataset(export(resolve_circuit(config), tmp_path / "near"))
    original, first = connprops.export.export.export_range, 10**10

    def far(spec):
        rows = {"start": spec.start + first, "stop": spec.stop + first}
        return original(replace(spec, population=Far(spec.population, first), **rows))

    monkeypatch.setattr(connprops.export.export, "export_range", far)
    moved = Dataset(export(resolve_circuit(config), tmp_path / "far"))
    edges = pl.col("first_edge", "edge_id")
    expected = near.synapses.with_columns(edges + first).sort("edge_id").collect()
    assert_frame_equal(moved.synapses.sort("edge_id").collect(), expected)


def test_only_values_of_connections_may_be_null(tmp_path):
    folder = export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d")
    nullable = {
        kind: {f.name for f in pq.read_schema(next((folder / kind).iterdir())) if f.nullable}
        for kind in ("connections", "synapses")
    }
    varying = {column.name for column in Dataset(folder).columns if column.varies}
    assert nullable == {"connections": varying, "synapses": set()}


@pytest.mark.usefixtures("small_parts")
def test_the_same_bytes_whatever_the_threads_and_again_after_an_interruption(tmp_path, monkeypatch):
    config = two_types(tmp_path / "c")
    circuit = resolve_circuit(config)
    whole = Dataset(export(circuit, tmp_path / "a")).manifest
    original, calls = connprops.export.export.export_range, []

    def fails_at_the_third(spec):
        calls.append(spec.part)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(spec)

    monkeypatch.setattr(connprops.export.export, "export_range", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        export(circuit, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    monkeypatch.setattr(connprops.export.export, "export_range", original)
    again = Dataset(export(circuit, tmp_path / "b"))
    assert again.manifest == whole
    assert again.verify() == []
    assert [p.name for p in tmp_path.iterdir()]
    assert not list(tmp_path.glob(".b*"))


def test_what_a_process_that_was_killed_at_its_end_left_goes(tmp_path, monkeypatch):
    circuit = resolve_circuit(two_types(tmp_path / "c"))

    def put_and_die(finished, target):
        put_in_place(finished, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(connprops.export.export, "put_in_place", put_and_die)
    with pytest.raises(KeyboardInterrupt):
        export(circuit, tmp_path / "d")
    assert (tmp_path / ".d.partial" / "cuts.json").is_file()
    monkeypatch.undo()
    export(circuit, tmp_path / "d")
    assert not list(tmp_path.glob(".d.*"))


def test_an_export_is_reused_and_another_one_refused(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    folder = export(circuit, tmp_path / "d")
    before = (folder / "manifest.json").stat().st_mtime_ns
    export(circuit, folder)
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    other = resolve_circuit(two_types(tmp_path / "c2", seed=1))
    with pytest.raises(OutputError, match="differs in: edges"):
        export(other, folder)
    export(other, folder, overwrite=True)
    assert Dataset(folder).identity["edges"] == other.population().identity()
    with pytest.raises(OutputError, match="differs in: edges, properties"):
        export(circuit, folder, properties=["u_syn"])


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    with pytest.raises(OutputError, match="is not a connprops dataset"):
        export(circuit, tmp_path / "mine", overwrite=True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_another_process_is_told(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    code = f"""
import fcntl, time, pathlib
stage = pathlib.Path({str(tmp_path)!r}) / ".d.partial"
stage.mkdir()
with (stage / "lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)  # noqa: S603 - ours
    assert other.stdout.readline() == b"locked\n"
    with pytest.raises(OutputError, match="Another process is writing"):
        export(circuit, tmp_path / "d")
    other.send_signal(signal.SIGKILL)
    other.communicate()
    time.sleep(0.01)
    assert Dataset(export(circuit, tmp_path / "d")).n_synapses > 0


def test_allen_rows_count_for_their_synapses(tmp_path):
    config = allen(tmp_path / "c")
    with pytest.warns(ConnpropsWarning):  # no m-types, and NaN where a group lacks a column
        ds = Dataset(
            export(resolve_circuit(config), tmp_path / "d", source_type="ei", target_type="ei")
        )
    # nsyns of the rows in the order of the file: 1 1 2 1 3 2 1 1
    assert ds.n_synapses == 12
    counts = ds.connections.sort("first_edge").collect()["n_syn_per_conn"].to_list()
    assert counts == [1, 1, 2, 1, 3, 2, 1, 1]
    weights = ds.synapses.sort("edge_id").collect()["syn_weight"].to_list()
    assert weights == [1.0, 10.0, 2.0, 2.0, 20.0, 3.0, 3.0, 3.0, 30.0, 30.0, 4.0, 40.0]


def test_types_by_population_and_by_another_attribute(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    with pytest.warns(ConnpropsWarning) as warned:
        ds = Dataset(
            export(circuit, tmp_path / "d", source_type="@population", target_type="region")
        )
    assert ["'synapse_class'" in str(w.message) for w in warned] == [True, False]
    assert ds.source_types == ["All"]
    assert ds.target_types == ["left", "right"]
    with pytest.raises(OptionError, match="did you mean 'region'"):
        export(circuit, tmp_path / "e", target_type="regoin")


def test_nodes_without_mtype_fall_back_with_a_warning(tmp_path):
    config = two_types(tmp_path / "c")
    with h5py.File(tmp_path / "c" / "nodes.h5", "a") as h5:
        del h5["nodes/All/0/mtype"]
    with pytest.warns(ConnpropsWarning, match="has no attribute 'mtype'"):
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.source_types == ["All"]


def test_a_type_that_spans_layers_takes_that_of_most_nodes(tmp_path):
    config = write_circuit(
        tmp_path / "c", [0], [1], {}, mtype=["A"] * 3 + ["B"],
        attributes={"layer": ["2", "3", "3", "6"]},
    )  # fmt: skip
    with pytest.warns(ConnpropsWarning, match="span several values of 'layer'"):
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.types["layer"].to_list() == ["3", "6", "3", "6"]


def test_text_with_many_values_is_left_out_and_named(tmp_path):
    n = 150
    columns = {"label": [f"s{i}" for i in range(n)], "kind": ["x", "y"] * (n // 2)}
    config = write_circuit(tmp_path / "c", [0] * n, [1] * n, columns, mtype=["A", "B"])
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.manifest.left_out == {"label": "text with too many distinct values"}
    assert ds.columns[0].labels == ("x", "y")
    told = CliRunner().invoke(app, ["info", str(ds.folder)]).stdout
    assert "'label' is left out: text with too many distinct values" in told
    with pytest.raises(OptionError, match="too many distinct values"):
        export(resolve_circuit(config), tmp_path / "e", properties=["label"])


def test_values_that_are_not_finite_are_counted(tmp_path):
    config = write_circuit(
        tmp_path / "c", [0, 1, 2], [1, 2, 0], {"p": [1.0, np.nan, np.inf]}, mtype=["A"] * 3
    )
    with pytest.warns(ConnpropsWarning, match="'p' has 2 values that are NaN or infinite"):
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.columns[0].n_not_finite == 2


def test_unknown_property(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    with pytest.raises(OptionError, match="did you mean 'delay'"):
        export(circuit, tmp_path / "d", properties=["dealy"])
    assert not (tmp_path / "d").exists()


def test_a_broken_circuit_leaves_nothing_under_the_datasets_name(tmp_path):
    config = two_types(tmp_path / "c")
    with h5py.File(tmp_path / "c" / "edges.h5", "a") as h5:
        h5["edges/default/target_node_id"][0] = 999
    with pytest.raises(CircuitError, match="node id 999"):
        export(resolve_circuit(config), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_digests_find_a_flipped_bit(tmp_path):
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    assert ds.verify() == []
    file = ds.files("connections")[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert ds.verify() == [f"connections/{file.name}"]


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(DatasetError, match="No dataset at"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(DatasetError, match="schema version"):
        open_dataset(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(DatasetError, match="is incomplete"):
        open_dataset(tmp_path)


def test_opening_a_circuit_exports_it_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = two_types(tmp_path / "c")
    ds = open_circuit(config)
    assert ds.folder == Path("c-connprops/dataset")
    assert open_circuit(config).manifest == ds.manifest
    assert "synapses" in repr(ds)
    assert "conductance" in ds._repr_html_()


def test_relations(tmp_path):
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    expected = (
        ds.connections.group_by("source_type", "target_type")
        .agg(pl.len().cast(pl.Int64), pl.col("n_syn_per_conn").sum().cast(pl.Int64))
        .sort("source_type", "target_type")
        .collect()
    )
    found = ds.sql("select source_type, target_type, n_connections, n_synapses from pathways")
    assert found.fetchall() == expected.rows()
    assert ds.sql("select count(*) from synapses where u_syn > $u", u=0.5).fetchall()[0][0] == (
        ds.synapses.filter(pl.col("u_syn") > 0.5).collect().height
    )


def test_metadata_and_row_groups(tmp_path):
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    meta = pq.read_metadata(ds.files("connections")[0])
    assert json.loads(meta.metadata[b"connprops"])["population"] == "default"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
def test_every_public_population_exports(tmp_path):
    configs = [*SHARED.glob("*/circuit_config.json"), *SHARED.glob("*/sub_*/circuit_config.json"),
               SHARED / "bmtk_300cells" / "config.circuit.json"]  # fmt: skip
    n = 0
    for config in configs:
        circuit = resolve_circuit(config)
        for name, edges in circuit.edges.items():
            ds = Dataset(export(circuit, tmp_path / str(n), population=name))
            rows = ds.sql("select count(distinct edge_id) from synapses").fetchall()[0][0]
            assert rows == edges.size, name
            n += 1
    assert n >= 15


def test_ids_of_the_file_are_those_of_all_tables(tmp_path):
    config = write_circuit(
        tmp_path / "c", [7, 7, 101, 5], [5, 5, 5, 101], {"weight": [1.0, 2.0, 10.0, 20.0]},
        mtype=["C", "A", "B"],
    )  # fmt: skip
    with_node_ids(tmp_path / "c/nodes.h5", [5, 7, 101])
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.nodes.filter(side="source")["node"].to_list() == [5, 7, 101]
    synapses = ds.sql("select * from synapses order by edge_id").pl()
    columns = ["source_node", "source_type", "target_node", "target_type", "weight"]
    assert synapses.select(columns).rows() == [
        (7, "A", 5, "C", 1.0),
        (7, "A", 5, "C", 2.0),
        (101, "B", 5, "C", 10.0),
        (5, "C", 101, "B", 20.0),
    ]


@pytest.mark.parametrize(
    "name",
    ["first_edge", "source_node", "target_node", "pathway", "n_syn_per_conn", "edge_id",
     "source_type", "target_type", "source_layer", "target_class", "First_Edge", "PATHWAY"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["column", "types"])
def test_columns_that_are_called_like_ours_are_left_out(tmp_path, name, place):
    columns = {"u_syn": [1.0, 2.0, 3.0]} | ({name: [7, 8, 9]} if place == "column" else {})
    config = write_circuit(tmp_path / "c", [0, 1, 0], [1, 2, 1], columns, mtype=["A", "B", "B"])
    if place == "types":
        (tmp_path / "c" / "types.csv").write_text(f"edge_type_id {name}\n-1 7\n")
        edit(config, lambda c: c["networks"]["edges"][0].update(edge_types_file="types.csv"))
    with pytest.warns(ConnpropsWarning, match=f"column '{name}' is left out"):
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.properties == ["u_syn", "n_syn_per_conn"]
    rows = ds.synapses.sort("edge_id").collect()
    assert rows["u_syn"].to_list() == [1.0, 2.0, 3.0]
    assert rows.select("source_type", "target_type", "n_syn_per_conn").rows() == [
        ("A", "B", 2), ("B", "B", 1), ("A", "B", 2),
    ]  # fmt: skip
    if name != "n_syn_per_conn":
        with pytest.raises(OptionError, match=r"cannot be a property(.|\n)*edge_id, first_edge"):
            export(resolve_circuit(config), tmp_path / "e", properties=[name])
        assert not (tmp_path / "e").exists()


def test_names_that_differ_by_case_alone_are_one_in_sql(tmp_path):
    columns = {"Delay": [1.0, 2.0], "delay": [3.0, 4.0]}
    config = write_circuit(tmp_path / "c", [0, 1], [1, 0], columns, mtype=["A", "A"])
    with pytest.warns(ConnpropsWarning, match="column 'delay' is left out: the name of 'Delay'"):
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    assert ds.sql("select delay from synapses order by 1").fetchall() == [(1.0,), (2.0,)]
    own = Dataset(export(resolve_circuit(config), tmp_path / "e", properties=["delay"]))
    assert own.sql("select delay from synapses order by 1").fetchall() == [(3.0,), (4.0,)]
    with pytest.raises(OptionError, match="the name of 'Delay' but for its case"):
        export(resolve_circuit(config), tmp_path / "f", properties=["delay", "Delay"])


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (["2"] * 3, "'2'"),
        ([f"s{i}" for i in range(120)], "text"),
        ([1.0, np.inf, 1.0], "inf"),
        ([1.0, np.nan, 1.0], "nan"),
        ([1.0, 1e300, 1.0], "1e\\+300"),
        ([1.0, 1.5, 1.0], "1.5"),
        ([1, -1, 1], "-1"),
        ([1, 0, 1], "0"),
        (np.array([1, 2**64 - 1, 1], dtype=np.uint64), str(2**64 - 1)),
    ],
)
def test_numbers_of_synapses_that_are_none_are_refused(tmp_path, values, found):
    n = len(values)
    columns = {"u_syn": np.ones(n), "nsyns": values}
    config = write_circuit(tmp_path / "c", [0] * n, [1] * n, columns, mtype=["A", "A"])
    says = f"column 'nsyns' must hold numbers of synapses\n  found:    {found}"
    with pytest.raises(CircuitError, match=says):
        export(resolve_circuit(config), tmp_path / "d")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("enumerated", [True, False])
def test_names_are_no_numbers_of_synapses(tmp_path, enumerated):
    config = write_circuit(tmp_path / "c", [0, 1], [1, 0], {"u_syn": [1.0, 2.0]}, mtype=["A", "A"])
    if enumerated:
        with h5py.File(tmp_path / "c" / "edges.h5", "a") as h5:
            h5["edges/default/0/nsyns"] = np.array([0, 0])
            labels = np.array(["many"], dtype=object)
            h5["edges/default/0"].create_dataset(
                "@library/nsyns", data=labels, dtype=h5py.string_dtype()
            )
    else:
        (tmp_path / "c" / "types.csv").write_text("edge_type_id nsyns\n-1 many\n")
        edit(config, lambda c: c["networks"]["edges"][0].update(edge_types_file="types.csv"))
    with pytest.raises(CircuitError, match=r"'nsyns' must hold numbers(.|\n)*'many'"):
        export(resolve_circuit(config), tmp_path / "d")


def test_a_dataset_speaks_arrow(tmp_path):
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "circuit")), tmp_path / "dataset"))
    expected = ds.synapses.sort("edge_id").collect()
    assert pl.DataFrame(ds).sort("edge_id").rows() == expected.rows()
    table = pa.table(ds)
    assert table.schema.names == expected.columns
    assert duckdb.from_arrow(ds).aggregate("count(*)").fetchall() == [(len(expected),)]
