from __future__ import annotations

import json
from pathlib import Path

import bluepysnap
import h5py
import msgspec
import numpy as np
import pytest
from circuits import SHARED, allen, two_types, write_circuit

from connprops.circuit.circuit import open_circuit
from connprops.circuit.config import resolved
from connprops.errors import CircuitError, ConnpropsWarning, OptionError


def test_a_circuit_from_its_config_its_folder_and_bluepysnap(tmp_path):
    config = two_types(tmp_path)
    for source in (config, str(config), tmp_path, bluepysnap.Circuit(str(config))):
        circuit = open_circuit(source)
        assert list(circuit.edges) == ["default"]
        assert circuit.edges["default"].target.name == "All"
        assert circuit.edges["default"].kind == "chemical"


def files_in(networks):
    """Return the files of networks, as absolute paths, and the names of their populations."""
    return {
        kind: [
            (
                sorted(entry["populations"]),
                {k: Path(v).resolve() for k, v in entry.items() if k.endswith("_file") and v},
            )
            for entry in networks[kind]
        ]
        for kind in ("nodes", "edges")
    }


MODERN = ("functionalizer_1000n", "hippocampus_one_cell", "nbs1_ten_cells", "nbs1_two_cells",
          "sscx_plasticity_five_cells/sub_L5_5cells", "thalamus_400")  # fmt: skip


@pytest.mark.parametrize("name", [None, *MODERN])
def test_configurations_are_resolved_as_by_bluepysnap(tmp_path, name):
    config = two_types(tmp_path) if name is None else SHARED / name / "circuit_config.json"
    if not config.is_file():
        pytest.skip("needs the public circuits")
    theirs = bluepysnap.Circuit(str(config)).config
    networks, node_sets = resolved(config)
    assert files_in(msgspec.to_builtins(networks)) == files_in(theirs["networks"])
    assert node_sets == theirs.get("node_sets_file")


def test_node_attributes_without_floats(tmp_path):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        h5["nodes/All/0/x"] = np.zeros(10)
        h5["nodes/All/0/column"] = np.arange(10)
    nodes = open_circuit(config).nodes["All"].attributes()
    assert set(nodes.columns) == {"node", "mtype", "synapse_class", "layer", "region", "column"}
    assert nodes["mtype"].to_list() == ["L4_PC"] * 6 + ["L5_BC"] * 4


@pytest.mark.parametrize("library", [True, False])
def test_enumerated_and_plain_attributes_read_alike(tmp_path, library):
    config = write_circuit(tmp_path, [0, 1], [1, 0], {}, mtype=["b", "ä"], library=library)
    assert open_circuit(config).nodes["All"].attributes()["mtype"].to_list() == ["b", "ä"]


def test_node_sets(tmp_path):
    circuit = open_circuit(two_types(tmp_path))
    sets = circuit.node_sets(circuit.nodes["All"])
    assert sets["Left"].tolist() == [0, 2, 4, 6, 8]
    assert sets["Excitatory"].tolist() == list(range(6))


@pytest.mark.parametrize("groups", ["interleaved", "blocks"])
def test_the_allen_dialect(tmp_path, groups):
    edges = open_circuit(allen(tmp_path, groups=groups)).population()
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
    edges = open_circuit(config).population()
    assert edges.columns["kind"].labels == ("a", "b")
    assert edges.columns["label"].dtype == "text"
    with edges.reader() as rows:
        assert rows.column(edges.columns["kind"], 1, 4).tolist() == [0, 1, 0]


def edit(config, change):
    """Change a configuration's content."""
    content = json.loads(config.read_text())
    change(content)
    config.write_text(json.dumps(content))


def test_no_populations_entry_and_no_default(tmp_path):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5.copy("edges/default", h5["edges"], "second")
        h5.move("edges/default", "edges/first")
    edit(
        config, lambda c: [entry.pop("populations") for k in c["networks"].values() for entry in k]
    )
    circuit = open_circuit(config)
    assert set(circuit.edges) == {"first", "second"}
    with pytest.raises(OptionError, match=r"(?s)several.*'first \(\d+ rows\)', 'second"):
        circuit.population()
    with pytest.raises(OptionError, match="did you mean 'first'"):
        circuit.population("frist")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No circuit at"),
        ("{", "not valid JSON"),
        ("[]", "not a SONATA circuit configuration"),
        ('{"a": 1}', "expected: an object with the key 'networks'"),
        ('{"networks": {"nodes": [], "edges": []}}', "has no edge population"),
    ],
)
def test_configurations_that_are_none(tmp_path, content, says):
    config = tmp_path / "circuit_config.json"
    if content is not None:
        config.write_text(content)
    with pytest.raises(CircuitError, match=says):
        open_circuit(config)


def test_a_missing_edge_file_is_left_out_with_a_warning(tmp_path):
    config = two_types(tmp_path)
    gone = {"edges_file": "$BASE_DIR/gone.h5"}
    edit(config, lambda c: c["networks"]["edges"].append(gone))
    with pytest.warns(ConnpropsWarning, match=r"gone\.h5, which does not exist"):
        assert list(open_circuit(config).edges) == ["default"]


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
    edges = open_circuit(config).population()

    def read_all(rows):
        return rows.node_ids(0, edges.size), rows.column(edges.columns["u_syn"], 0, edges.size)

    with edges.reader() as rows, pytest.raises(CircuitError, match=says):
        read_all(rows)


def test_a_truncated_file(tmp_path):
    config = two_types(tmp_path)
    whole = (tmp_path / "edges.h5").read_bytes()
    (tmp_path / "edges.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CircuitError, match="cannot be opened as HDF5"):
        open_circuit(config)


def test_identity_follows_the_content(tmp_path):
    edges = open_circuit(two_types(tmp_path / "a")).population()
    same = open_circuit(two_types(tmp_path / "b")).population()
    other = open_circuit(two_types(tmp_path / "c", seed=1)).population()
    assert edges.identity()["population"] == "default"
    assert edges.identity() == same.identity()
    assert edges.identity() != other.identity()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
@pytest.mark.parametrize(
    ("config", "population", "size", "n_columns"),
    [
        ("allen_layer4/circuit_config.json", "l4_to_l4", 47_020, 11),
        ("bmtk_300cells/config.circuit.json", "internal_to_internal", 25_181, 8),
        (
            "thalamus_400/circuit_config.json",
            "thalamus_neurons__thalamus_neurons__chemical",
            6_299,
            32,
        ),
    ],
)
def test_public_circuits(config, population, size, n_columns):
    edges = open_circuit(SHARED / config).population(population)
    assert edges.size == size
    assert len(edges.columns) == n_columns
