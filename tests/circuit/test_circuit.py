from __future__ import annotations

import bluepysnap
import h5py
import pytest
from circuits import SHARED, edit, two_types

from connprops.circuit.circuit import resolve_circuit
from connprops.errors import CircuitError, ConnpropsWarning, OptionError


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
