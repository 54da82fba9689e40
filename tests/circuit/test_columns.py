"""Columns of nodes and edges, in all dialects."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from circuits import allen, edit, two_types, write_circuit

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import CircuitError, ConnpropsWarning, OptionError
from connprops.export.export import export
from connprops.sources.source import LEFT_OUT


def test_node_attributes_without_floats(tmp_path):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        h5["nodes/All/0/x"] = np.zeros(10)
        h5["nodes/All/0/column"] = np.arange(10)
    nodes = resolve_circuit(config).nodes["All"].attributes()
    assert set(nodes.columns) == {"node", "mtype", "synapse_class", "layer", "region", "column"}
    assert nodes["mtype"].to_list() == ["L4_PC"] * 6 + ["L5_BC"] * 4


@pytest.mark.parametrize("library", [True, False])
def test_enumerated_and_plain_attributes_read_alike(tmp_path, library):
    config = write_circuit(tmp_path, [0, 1], [1, 0], {}, mtype=["b", "ä"], library=library)
    assert resolve_circuit(config).nodes["All"].attributes()["mtype"].to_list() == ["b", "ä"]


@pytest.mark.parametrize("groups", ["interleaved", "blocks"])
def test_the_allen_dialect(tmp_path, groups):
    edges = resolve_circuit(allen(tmp_path, groups=groups)).population()
    columns = edges.columns
    assert edges.target.attributes()["ei"].to_list() == ["e", "i", "e", "i"]
    order = [0, 4, 1, 5, 2, 6, 3, 7] if groups == "interleaved" else list(range(8))

    def both(first, second):
        return [[*first, *second][i] for i in order]

    with edges.reader() as rows:
        weight = rows.column(columns["syn_weight"], 0, 8).tolist()
        assert weight == both([1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0])  # the file wins
        assert rows.column(columns["syn_weight"], 3, 6).tolist() == weight[3:6]
        nan = [float("nan")] * 4
        np.testing.assert_equal(
            rows.column(columns["sec_x"], 0, 8).tolist(), both([0.1, 0.2, 0.3, 0.4], nan)
        )
        assert rows.column(columns["delay"], 0, 8).tolist() == [2.0, 1.5] * 4
        erev = rows.column(columns["@dynamics:erev"], 0, 8).tolist()
        assert erev == both([0.0, 0.0, -70.0, -70.0], [5.0] * 4)
        template = rows.column(columns["model_template"], 0, 8)
        np.testing.assert_equal(template.tolist(), [0.0, float("nan")] * 4)
    assert columns["model_template"].labels == ("exp2syn",)
    assert "target_query" not in columns


def test_text_columns_become_categories_or_are_named_as_text(tmp_path):
    n = 120
    columns = {"kind": ["b", "a"] * (n // 2), "label": [f"s{i}" for i in range(n)]}
    config = write_circuit(tmp_path, [0] * n, [1] * n, columns, mtype=["A", "B"])
    edges = resolve_circuit(config).population()
    assert edges.columns["kind"].labels == ("a", "b")
    assert edges.columns["label"].dtype == "text"
    with edges.reader() as rows:
        assert rows.column(edges.columns["kind"], 1, 4).tolist() == [0, 1, 0]


def in_two_groups(folder, types, *, first=None, second=None, population="default"):
    """Write four edges, two in each of two groups, which inherit from a types file."""
    config = write_circuit(
        folder, [0, 0, 1, 1], [2] * 4, {}, mtype=["A", "B", "C"], groups=[0, 0, 1, 1],
        population=population,
    )  # fmt: skip
    with h5py.File(folder / "edges.h5", "a") as h5:
        edges = h5[f"edges/{population}"]
        edges["edge_type_id"][...] = [100, 100, 101, 101]
        for group, columns in enumerate((first or {}, second or {})):
            for name, values in columns.items():
                edges[f"{group}/{name}"] = values
    (folder / "types.csv").write_text(types)
    edit(config, lambda c: c["networks"]["edges"][0].update(edge_types_file="$BASE_DIR/types.csv"))
    return config


def values_of(config, name):
    """Return a column's values, categories as text."""
    edges = resolve_circuit(config).population()
    column = edges.columns[name]
    with edges.reader() as rows:
        values = rows.column(column, 0, edges.size)
        assert np.array_equal(rows.column(column, 1, 3), values[1:3], equal_nan=True)
    if column.labels is not None:
        return [None if np.isnan(code) else column.labels[int(code)] for code in values]
    return values.tolist()


def test_rows_inherit_what_their_group_lacks(tmp_path):
    nan = float("nan")
    types = (
        "edge_type_id target_query weight delay count region mixed none\n"
        "100 * NULL 1.0 NULL NULL 3 NULL\n101 * 7.5 2.0 5 south south NULL\n"
    )
    first = {
        "weight": [1.0, 2.0],
        "count": np.array([3, 4], "i2"),
        "region": np.array([b"north", b"west"]),
        "mixed": [1, 2],
        "none": np.array([1, 2], "f4"),
    }
    config = in_two_groups(tmp_path, types, first=first, second={"nsyns": [1, 1]})
    assert values_of(config, "weight") == [1.0, 2.0, 7.5, 7.5]
    assert values_of(config, "delay") == [1.0, 1.0, 2.0, 2.0]
    assert values_of(config, "count") == [3, 4, 5, 5]
    assert values_of(config, "region") == ["north", "west", "south", "south"]
    np.testing.assert_equal(values_of(config, "none"), [1.0, 2.0, nan, nan])
    assert resolve_circuit(config).population().columns["mixed"].stored == "other"


def test_codes_and_inherited_text_have_labels_of_both(tmp_path):
    types = "edge_type_id region\n100 east\n101 south\n"
    config = in_two_groups(tmp_path, types, second={"region": np.array([1, 0], "u1")})
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        labels = np.array(["west", "east"], dtype=object)
        h5.create_dataset("edges/default/1/@library/region", data=labels, dtype=h5py.string_dtype())
    assert values_of(config, "region") == ["east", "east", "east", "west"]
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/1/region"][...] = 2  # a label of the types file, not of the library
    with pytest.raises(CircuitError, match="its @library does not name"):
        values_of(config, "region")


def test_nodes_inherit_what_their_group_lacks(tmp_path):
    config = write_circuit(tmp_path, [0], [1], {}, mtype=["A"] * 4)
    with h5py.File(tmp_path / "nodes.h5", "w") as h5:
        population = h5.create_group("nodes/All")
        population["node_type_id"] = [100, 101, 102, 100]
        population["node_group_id"] = [0, 1, 1, 1]
        population["node_group_index"] = [0, 0, 1, 2]
        text = h5py.string_dtype()
        population["0/layer"] = np.array([4], "u1")
        population.create_dataset("0/ei", data=["i"], dtype=text)
        population["0/mixed"] = [1]
        population["1/other"] = [5, 6, 7]
    (tmp_path / "types.csv").write_text(
        "node_type_id ei layer mixed\n100 e 1 x\n101 i 2 y\n102 NULL NULL NULL\n"
    )
    edit(config, lambda c: c["networks"]["nodes"][0].update(node_types_file="$BASE_DIR/types.csv"))
    assert resolve_circuit(config).nodes["All"].attributes().to_dict(as_series=False) == {
        "node": [0, 1, 2, 3],
        "layer": [4, 2, None, 1],
        "ei": ["i", "i", None, "e"],
        "mixed": ["1", "y", None, "x"],
        "other": [None, 5, 6, 7],
    }


def test_populations_share_a_types_file(tmp_path):
    types = (
        "population edge_type_id weight\nother 100 0.5\ndefault 100 4.0\nNULL 101 8.0\nother 7 x\n"
    )
    config = in_two_groups(tmp_path, types)
    assert values_of(config, "weight") == [4.0, 4.0, 8.0, 8.0]
    assert "population" not in resolve_circuit(config).population().columns
    (tmp_path / "types.csv").write_text("population edge_type_id weight\nother 100 0.5\n")
    with pytest.warns(ConnpropsWarning, match="has no types of 'default'"):
        assert "weight" not in resolve_circuit(config).population().columns


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ("edge_type_id delay delay\n100 1 2\n", "two columns of one name.*'delay' in columns 2, 3"),
        ("edge_type_id delay\n100 1\n101 2\n100 3\n", "100 stands in.*lines 2 and 4"),
        ("edge_type delay\n100 1\n", "no column 'edge_type_id'"),
        ("edge_type_id delay\nx 1\n", "in line 2 is no whole number"),
        ("edge_type_id\n\xff", "cannot be read"),
    ],
)
def test_types_files_that_say_two_things(tmp_path, types, says):
    config = in_two_groups(tmp_path, "")
    (tmp_path / "types.csv").write_bytes(types.encode("latin-1"))
    with pytest.raises(CircuitError, match=rf"(?s)types\.csv.*{says}"):
        values_of(config, "delay")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_types_files_that_are_no_files(tmp_path, make):
    config = in_two_groups(tmp_path, "")
    (tmp_path / "types.csv").unlink()
    make(tmp_path / "types.csv")
    with pytest.raises(CircuitError, match=r"types\.csv is not a file"):
        values_of(config, "delay")


def damage_ids(h5):
    h5["edges/default/source_node_id"][3] = 77


def damage_length(h5):
    values = h5["edges/default/0/u_syn"][:-5]
    del h5["edges/default/0/u_syn"]
    h5["edges/default/0/u_syn"] = values


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (damage_ids, "node id 77 in row 3"),
        (damage_length, r"(?s)0/u_syn has another length than its population.*expected: "),
    ],
)
def test_damaged_edges_are_named(tmp_path, damage, says):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        damage(h5)
    edges = resolve_circuit(config).population()

    def read_all(rows):
        return rows.node_ids(0, edges.size), rows.column(edges.columns["u_syn"], 0, edges.size)

    with edges.reader() as rows, pytest.raises(CircuitError, match=says):
        read_all(rows)


def test_nodes_of_several_groups_gather_attributes_of_any_kind(tmp_path):
    config = write_circuit(tmp_path, [0, 1], [1, 2], {}, mtype=["A"] * 4)
    with h5py.File(tmp_path / "nodes.h5", "w") as h5:
        population = h5.create_group("nodes/All")
        population["node_type_id"] = [100, 101, 100, 7]
        population["node_group_id"] = [0, 1, 1, 0]
        population["node_group_index"] = [1, 0, 1, 0]
        text = h5py.string_dtype()
        for group, labels in (("0", ["p", "q"]), ("1", ["q", "r"])):
            population[f"{group}/layer"] = np.array([4, 5], "u1" if group == "0" else "i8")
            population[f"{group}/enumerated"] = np.array([0, 1], "u4")
            population.create_dataset(f"{group}/@library/enumerated", data=labels, dtype=text)
            population.create_dataset(f"{group}/name", data=[f"a{group}", f"b{group}"], dtype=text)
        population["0/in_one"] = [7, 8]
        population["0/mixed"] = [1, 2]
        population.create_dataset("1/mixed", data=["x", "y"], dtype=text)
    (tmp_path / "types.csv").write_text("node_type_id ei\n100 e\n101 NULL\n")
    edit(config, lambda c: c["networks"]["nodes"][0].update(node_types_file="$BASE_DIR/types.csv"))
    nodes = resolve_circuit(config).nodes["All"].attributes()
    assert nodes.to_dict(as_series=False) == {
        "node": [0, 1, 2, 3],
        "layer": [5, 4, 5, 4],
        "enumerated": ["q", "q", "r", "p"],
        "name": ["b0", "a1", "b1", "a0"],
        "in_one": [8, None, None, 7],
        "mixed": ["2", "x", "y", "1"],
        "ei": ["e", None, "e", None],
    }


SIX = {"conductance": [1.0, 2.0, 3.0, 10.0, 20.0, 30.0]}


def move_rows(file, base, kind, index, **columns):
    """Give rows their places in group 0, whose columns are as long as the places need."""
    with h5py.File(file, "a") as h5:
        population = h5[base]
        for name in [n for n in population if n.startswith(f"{kind}_group")]:
            del population[name]
        population[f"{kind}_group_id"] = np.zeros(len(index), "u2")
        population[f"{kind}_group_index"] = np.asarray(index, "u8")
        for name, values in columns.items():
            del population[f"0/{name}"]
            population[f"0/{name}"] = values


@pytest.mark.parametrize(
    ("index", "length"),
    [
        ([0, 1, 2, 3, 4, 5], 6),
        ([3, 4, 5, 0, 1, 2], 6),
        ([5, 4, 3, 2, 1, 0], 6),
        ([4, 5, 6, 7, 8, 9], 12),
        ([9, 0, 7, 2, 11, 4], 12),
        ([0, 2_000_000, 3, 1_999_999, 5, 1_048_576], 2_000_001),
    ],
)
def test_rows_of_one_group_in_any_order(tmp_path, index, length):
    config = write_circuit(tmp_path, [0, 0, 0, 1, 1, 1], [2] * 6, SIX, mtype=["A", "B", "C"])
    stored = np.full(length, -7.0)
    stored[index] = SIX["conductance"]
    move_rows(tmp_path / "edges.h5", "edges/default", "edge", index, conductance=stored)
    edges = resolve_circuit(config).population()
    with edges.reader() as rows:
        for start, stop in ((0, 6), (2, 5), (3, 3), (5, 6)):
            values = rows.column(edges.columns["conductance"], start, stop)
            assert values.tolist() == SIX["conductance"][start:stop]


@pytest.mark.parametrize("library", [True, False])
def test_nodes_of_one_group_in_any_order(tmp_path, library):
    config = write_circuit(tmp_path, [0], [1], {}, mtype=["A", "B", "C"], library=library)
    move_rows(tmp_path / "nodes.h5", "nodes/All", "node", [2, 0, 1])
    assert resolve_circuit(config).nodes["All"].attributes()["mtype"].to_list() == ["C", "A", "B"]


def test_a_range_within_one_of_several_groups(tmp_path):
    config = write_circuit(
        tmp_path, [0] * 6, [1] * 6, SIX, mtype=["A", "B"], groups=[0, 0, 0, 1, 1, 1]
    )
    edges = resolve_circuit(config).population()
    with edges.reader() as rows:
        assert rows.column(edges.columns["conductance"], 4, 6).tolist() == [20.0, 30.0]


def test_rows_of_a_group_that_is_not_there(tmp_path):
    config = write_circuit(tmp_path, [0] * 6, [1] * 6, SIX, mtype=["A", "B"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/edge_group_id"] = [0, 0, 0, 3, 0, 0]
    edges = resolve_circuit(config).population()
    with edges.reader() as rows, pytest.raises(CircuitError, match="group 3 in row 3"):
        rows.column(edges.columns["conductance"], 0, 6)


def test_one_group_under_two_names(tmp_path):
    config = write_circuit(tmp_path, [0] * 6, [1] * 6, SIX, mtype=["A", "B"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5.create_group("edges/default/00")
    with pytest.raises(CircuitError, match=r"(?s)has a group twice.*'0' and '00'"):
        resolve_circuit(config).population().columns  # noqa: B018 - the error is what counts


def test_columns_of_several_dimensions_are_named(tmp_path):
    config = write_circuit(tmp_path, [0] * 6, [1] * 6, SIX, mtype=["A", "B"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/0/pair"] = np.ones((6, 2))
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        h5["nodes/All/0/position"] = np.ones((2, 3))
    circuit = resolve_circuit(config)
    assert circuit.population().columns["pair"].stored in LEFT_OUT
    assert circuit.nodes["All"].attributes().columns == ["node", "mtype"]
    with pytest.warns(ConnpropsWarning, match="several values for each row are left out: 'pair'"):
        folder = export(circuit, tmp_path / "d")
    assert "pair" in Dataset(folder).manifest.left_out
    with pytest.raises(OptionError, match=r"(?s)'pair'.*more than one dimension"):
        export(circuit, tmp_path / "e", properties=["pair"])


def test_two_columns_of_one_name(tmp_path):
    config = write_circuit(tmp_path, [0] * 6, [1] * 6, SIX, mtype=["A", "B"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/0/dynamics_params/tau"] = np.ones(6)
        h5["edges/default/0/@dynamics:tau"] = np.zeros(6)
    with pytest.raises(CircuitError, match=r"(?s)0 has two columns of one name.*'@dynamics:tau'"):
        resolve_circuit(config).population().columns  # noqa: B018 - the error is what counts


@pytest.mark.parametrize("dtype", ["f4", "f8", "u8", "i2"])
def test_whole_numbers_of_any_type_are_ids(tmp_path, dtype):
    config = in_two_groups(tmp_path, "edge_type_id weight\n100 1.5\n101 2.5\n")
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        names = ("source_node_id", "edge_type_id", "edge_group_id", "edge_group_index")
        for name in (f"edges/default/{name}" for name in names):
            attributes, values = dict(h5[name].attrs), h5[name][:].astype(dtype)
            del h5[name]
            h5[name] = values
            h5[name].attrs.update(attributes)
    assert values_of(config, "weight") == [1.5, 1.5, 2.5, 2.5]
    edges = resolve_circuit(config).population()
    with edges.reader() as rows:
        assert rows.node_ids(0, 4)[0].tolist() == [0, 0, 1, 1]


def test_a_type_of_minus_one_among_unsigned_numbers(tmp_path):
    config = in_two_groups(tmp_path, "edge_type_id weight\n-1 1.5\n101 2.5\n")
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        del h5["edges/default/edge_type_id"]
        h5["edges/default/edge_type_id"] = np.array([2**64 - 1, 2**64 - 1, 101, 101], "u8")
    assert values_of(config, "weight") == [1.5, 1.5, 2.5, 2.5]


def test_rows_that_do_not_say_their_types(tmp_path):
    config = in_two_groups(tmp_path, "edge_type_id weight\n100 1.5\n101 2.5\n")
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        del h5["edges/default/edge_type_id"]
    with pytest.raises(CircuitError, match=r"(?s)lacks edges/default/edge_type_id.*types\.csv"):
        resolve_circuit(config).population().columns  # noqa: B018 - the error is what counts
    edit(config, lambda c: c["networks"]["edges"][0].pop("edge_types_file"))
    assert not resolve_circuit(config).population().columns


@pytest.mark.parametrize("kind", ["edge", "node"])
@pytest.mark.parametrize("what", ["type_id", "group_id", "group_index", "id"])
def test_datasets_about_rows_have_one_length(tmp_path, kind, what):
    config = in_two_groups(tmp_path, "edge_type_id weight\n100 1.5\n101 2.5\n")
    place = {"edge": "edges/default", "node": "nodes/All"}[kind]
    name = "target_node_id" if (kind, what) == ("edge", "id") else f"{kind}_{what}"
    with h5py.File(tmp_path / f"{kind}s.h5", "a") as h5:
        if name in h5[place]:
            del h5[place][name]
        h5[place].create_dataset(name, (10**12,), "u8", chunks=(1 << 16,))  # nothing is stored
        h5[place][name].attrs["node_population"] = "All"
    circuit = resolve_circuit(config)
    population = circuit.population() if kind == "edge" else circuit.nodes["All"]
    says = f"{name} has another length than|{name} claims values that|not of one length"
    with pytest.raises(CircuitError, match=says):
        population.size  # noqa: B018 - the error is what counts


def test_the_number_of_nodes_where_they_have_no_types(tmp_path):
    config = write_circuit(tmp_path, [0], [1], {}, mtype=["A", "B", "C"])
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        nodes = h5["nodes/All"]
        del nodes["node_type_id"]
        assert resolve_circuit(config).nodes["All"].size == 3
        nodes["node_group_id"], nodes["node_group_index"] = [0, 1, 0, 0], [0, 0, 1, 2]
        nodes["1/other"] = [7]
        h5.flush()
        assert resolve_circuit(config).nodes["All"].size == 4
        del nodes["node_group_id"], nodes["node_group_index"]
        h5.flush()
        with pytest.raises(CircuitError, match="does not say how many nodes it has"):
            resolve_circuit(config).nodes["All"].size  # noqa: B018 - the error is what counts


def test_libraries_that_never_end(tmp_path):
    config = write_circuit(tmp_path, [0], [1], {"kind": np.array([1], "u1")}, mtype=["A", "B"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5.create_dataset("edges/default/0/@library/kind", (60_000_000,), "S4", chunks=(1 << 16,))
    with pytest.raises(CircuitError, match=r"(?s)@library/kind has more labels.*60,000,000"):
        resolve_circuit(config).population().columns  # noqa: B018 - the error is what counts


def test_long_ids_of_nodes_stay_apart(tmp_path):
    config = write_circuit(tmp_path, [0], [1], {}, mtype=["A", "B", "C"])
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        nodes = h5["nodes/All"]
        nodes["0/long"] = np.array([2**60 + 1, 2**60 + 2, 2**60 + 3])
        nodes["0/unsigned"] = np.array([2**63 + 1, 2**64 - 1, 5], "u8")
    nodes = resolve_circuit(config).nodes["All"].attributes()
    assert nodes["long"].to_list() == [2**60 + 1, 2**60 + 2, 2**60 + 3]
    assert nodes["unsigned"].to_list() == [str(2**63 + 1), str(2**64 - 1), "5"]
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:  # a node of a group that has no such ids
        nodes = h5["nodes/All"]
        nodes["node_group_id"], nodes["node_group_index"] = [0, 0, 1], [0, 1, 0]
        nodes["1/other"] = [7]
    nodes = resolve_circuit(config).nodes["All"].attributes()
    assert nodes["long"].to_list() == [2**60 + 1, 2**60 + 2, None]
    assert nodes["unsigned"].to_list() == [str(2**63 + 1), str(2**64 - 1), None]
    assert nodes["other"].to_list() == [None, None, 7]
