from __future__ import annotations

import io
import os

import bluepysnap
import h5py
import numpy as np
import pytest
from circuits import SHARED, edit, two_types, with_node_ids, write_circuit, write_edges

from connprops.circuit.circuit import resolve_circuit
from connprops.errors import CircuitError, ConnpropsWarning, OptionError
from connprops.run.info import describe


def test_a_circuit_from_its_config_its_folder_and_bluepysnap(tmp_path):
    config = two_types(tmp_path)
    for source in (config, str(config), tmp_path, bluepysnap.Circuit(str(config))):
        circuit = resolve_circuit(source)
        assert list(circuit.edges) == ["default"]
        assert circuit.edges["default"].target.name == "All"
        assert circuit.edges["default"].kind == "chemical"


def test_node_sets(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path))
    sets = circuit.node_sets(circuit.nodes["All"])
    assert sets["Left"].tolist() == [0, 2, 4, 6, 8]
    assert sets["Excitatory"].tolist() == list(range(6))


def test_no_populations_entry_and_no_default(tmp_path):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5.copy("edges/default", h5["edges"], "second")
        h5.move("edges/default", "edges/first")
    edit(
        config, lambda c: [entry.pop("populations") for k in c["networks"].values() for entry in k]
    )
    circuit = resolve_circuit(config)
    assert set(circuit.edges) == {"first", "second"}
    with pytest.raises(OptionError, match=r"(?s)several.*'first \(\d+ rows\)', 'second"):
        circuit.population()
    with pytest.raises(OptionError, match="did you mean 'first'"):
        circuit.population("frist")


def test_a_missing_edge_file_is_left_out_with_a_warning(tmp_path):
    config = two_types(tmp_path)
    gone = {"edges_file": "$BASE_DIR/gone.h5"}
    edit(config, lambda c: c["networks"]["edges"].append(gone))
    with pytest.warns(ConnpropsWarning, match=r"gone\.h5, which does not exist"):
        assert list(resolve_circuit(config).edges) == ["default"]


def test_a_truncated_file(tmp_path):
    config = two_types(tmp_path)
    whole = (tmp_path / "edges.h5").read_bytes()
    (tmp_path / "edges.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CircuitError, match="cannot be opened as HDF5"):
        resolve_circuit(config)


def test_identity_follows_the_content(tmp_path):
    edges = resolve_circuit(two_types(tmp_path / "a")).population()
    same = resolve_circuit(two_types(tmp_path / "b")).population()
    other = resolve_circuit(two_types(tmp_path / "c", seed=1)).population()
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
    edges = resolve_circuit(SHARED / config).population(population)
    assert edges.size == size
    assert len(edges.columns) == n_columns


def of_three(folder, ids, source=(), target=()):
    """Return a circuit of nodes A, B and C, which have ids."""
    weight = np.arange(len(source), dtype=float)
    sets = {"ids": {"node_id": [1, 2, 101]}, "A": {"mtype": "A"}, "not B": {"mtype": ["A", "C"]}}
    config = write_circuit(
        folder, source, target, {"weight": weight}, mtype=["A", "B", "C"], node_sets=sets
    )
    with_node_ids(folder / "nodes.h5", ids)
    return resolve_circuit(config)


@pytest.mark.parametrize(
    "ids", [[0, 1, 2], [2, 0, 1], [1, 2, 3], [101, 102, 103], [5, 1, 7_000_000]]
)
def test_attributes_and_node_sets_are_those_of_ids(tmp_path, ids):
    circuit = of_three(tmp_path, ids)
    nodes = circuit.nodes["All"]
    types = dict(zip(ids, "ABC", strict=True))
    frame = nodes.attributes().select("node", "mtype")
    assert frame.rows() == sorted(types.items())
    assert {name: list(members) for name, members in circuit.node_sets(nodes).items()} == {
        "A": [ids[0]],
        "ids": sorted({1, 2, 101} & set(ids)),
        "not B": sorted([ids[0], ids[2]]),
    }
    assert nodes.end == max(ids) + 1


def test_an_edge_of_a_node_that_is_not_there(tmp_path):
    edges = of_three(tmp_path, [5, 1, 9], [5, 1, 9, 7], [1, 1, 5, 5]).population()
    with edges.reader() as rows:
        assert rows.node_ids(0, 3)[0].tolist() == [5, 1, 9]
        with pytest.raises(CircuitError, match=r"(?s)source_node_id.*node id 7 in row 3.*'All'"):
            rows.node_ids(2, 4)


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([4, 0, 4], "has an id twice.*4 in rows 0 and 2"),
        ([0, 1], "has another length.*2 values.*3"),
        ([0, 1, 1 << 60], f"has an id.*no room for.*{1 << 60} in row 2"),
        ([0, 1, -1], "has an id.*no room for.*-1 in row 2"),
    ],
)
def test_node_ids_that_will_not_do(tmp_path, ids, says):
    with pytest.raises(CircuitError, match=f"(?s)nodes/All/node_id {says}"):
        of_three(tmp_path, ids).nodes["All"].attributes()


def second_file(folder, name, nodes=("All", "All"), **entry):
    """Add a file with an edge population to the circuit of two types."""
    write_edges(folder / "more.h5", name, [0, 1], [1, 2], {"delay": [7.0, 8.0]}, nodes=nodes)
    more = {"edges_file": "$BASE_DIR/more.h5", **entry}
    edit(folder / "circuit_config.json", lambda c: c["networks"]["edges"].append(more))


@pytest.mark.parametrize("what", ["edges", "nodes"])
def test_a_population_in_two_files_is_not_read_from_either(tmp_path, what):
    config = two_types(tmp_path)
    (tmp_path / "more.h5").write_bytes((tmp_path / f"{what}.h5").read_bytes())
    more = {f"{what}_file": "$BASE_DIR/more.h5"}
    edit(config, lambda c: c["networks"][what].append(more))
    says = rf"(?s){what[:-1]} population '.*' is listed twice.*{what}\.h5 and in .*more\.h5"
    with pytest.raises(CircuitError, match=says):
        resolve_circuit(config)


def test_a_bad_population_leaves_the_others_to_be_read(tmp_path):
    config = two_types(tmp_path)
    second_file(tmp_path, "from_afar", ("VPM", "All"))
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5.create_group("edges/planned/0")
    planned = {"planned": {"type": "chemical"}, "nowhere": {"type": "chemical"}}
    edit(config, lambda c: c["networks"]["edges"][0]["populations"].update(planned))
    (tmp_path / "broken.h5").write_text("broken")
    broken = {"edges_file": "$BASE_DIR/broken.h5", "populations": {"broken": {}}}
    edit(config, lambda c: c["networks"]["edges"].append(broken))
    circuit = resolve_circuit(config)
    assert circuit.population("default").size > 0
    for name, says in {
        "from_afar": "(?s)names a node population that is not there.*'VPM'",
        "planned": "lacks edges/planned/source_node_id",
        "nowhere": "lacks edges/nowhere",
        "broken": r"broken\.h5 cannot be opened as HDF5",
    }.items():
        with pytest.raises(CircuitError, match=says):
            circuit.population(name)
    with pytest.warns(ConnpropsWarning) as warned:
        assert circuit.population().name == "default"
    texts = [str(warning.message) for warning in warned]
    assert len(texts) == 4
    assert any(
        "'planned' is left out: " in text and "lacks edges/planned" in text for text in texts
    )
    told = io.StringIO()
    describe(config, told)
    assert "'from_afar' of edges cannot be read" in told.getvalue()


@pytest.mark.parametrize("side", ["source", "target"])
def test_edges_that_do_not_say_of_which_nodes_they_are(tmp_path, side):
    config = two_types(tmp_path)
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        del h5[f"edges/default/{side}_node_id"].attrs["node_population"]
    says = rf'(?s){side}_node_id does not say which nodes.*attrs."node_population". = "All"'
    with pytest.raises(CircuitError, match=says):
        resolve_circuit(config)


def test_node_sets_that_are_not_there(tmp_path):
    config = two_types(tmp_path)
    (tmp_path / "node_sets.json").unlink()
    circuit = resolve_circuit(config)
    with pytest.warns(ConnpropsWarning, match=r"node_sets\.json, which does not exist"):
        assert circuit.node_sets(circuit.nodes["All"]) == {}
    os.mkfifo(tmp_path / "node_sets.json")
    with pytest.raises(CircuitError, match=r"node_sets\.json is not a file"):
        circuit.node_sets(circuit.nodes["All"])


def test_labels_that_are_not_utf8_are_kept_apart(tmp_path):
    config = write_circuit(tmp_path, [0, 0, 1], [1, 2, 2], {}, mtype=["A", "B", "C"])
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/0/kind"] = np.array([b"\xff", b"\xfe", b"\xff"])
    edges = resolve_circuit(config).population()
    assert edges.columns["kind"].labels == ("\\xfe", "\\xff")
    with h5py.File(tmp_path / "edges.h5", "a") as h5:
        h5["edges/default/0"][b"\xff"] = [1, 2, 3]
    with pytest.raises(CircuitError, match=r"edges\.h5 is not as SONATA has it"):
        resolve_circuit(config).population().columns  # noqa: B018 - the error is what counts
