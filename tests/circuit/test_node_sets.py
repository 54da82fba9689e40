"""Node sets, against libsonata, whose rules they are."""

from __future__ import annotations

import json

import h5py
import libsonata
import numpy as np
import polars as pl
import pytest
from circuits import SHARED, write_circuit
from hypothesis import given, settings
from hypothesis import strategies as st

from connprops.circuit.circuit import resolve_circuit
from connprops.circuit.node_sets import members, read_node_sets
from connprops.errors import CircuitError
from connprops.export.export import export

N = 12
ATTRIBUTES = {
    "mtype": ["L4_PC", "L5_PC", "L4_BC"] * 4,  # enumerated
    "column": list(range(N)),
    "x": np.linspace(-1, 1, N),
    "name": [f"cell {i % 5}" for i in range(N)],
}


@pytest.fixture(scope="module", params=[True, False], ids=["enumerated", "plain"])
def config(request, tmp_path_factory):
    attributes = {k: v for k, v in ATTRIBUTES.items() if k != "mtype"}
    return write_circuit(
        tmp_path_factory.mktemp("sets"), [0, 1], [1, 2], {}, mtype=ATTRIBUTES["mtype"],
        attributes=attributes, node_sets={}, library=request.param,
    )  # fmt: skip


def of_libsonata(content, population):
    """Return what libsonata gives, None for a set that it cannot make of these attributes."""
    sets = libsonata.NodeSets(json.dumps(content))
    nodes = libsonata.NodeStorage(str(population.file)).open_population(population.name)
    found = {}
    for name in sets.names:
        try:
            found[name] = sorted(sets.materialize(name, nodes).flatten().tolist())
        except (libsonata.SonataError, RuntimeError):
            found[name] = None
    return found


def ours(content, config):
    (config.parent / "node_sets.json").write_text(json.dumps(content))
    circuit = resolve_circuit(config)
    (population,) = circuit.nodes.values()
    return {k: v.tolist() for k, v in circuit.node_sets(population).items()}, population


texts = st.sampled_from(["L4_PC", "L5_PC", "L4_BC", "cell 1", "cell 4", "nobody", ""])
whole = st.integers(-2, N + 2)
clause = st.one_of(
    st.tuples(st.sampled_from(["mtype", "name"]), texts | st.lists(texts, max_size=3)),
    st.tuples(st.just("column"), whole | st.lists(whole, max_size=3)),
    st.tuples(st.just("node_id"), st.lists(st.integers(0, N + 3), max_size=5) | st.integers(0, N)),
    st.tuples(st.just("population"), st.sampled_from(["All", "Nobody", ["All", "x"]])),
    st.tuples(
        st.sampled_from(["x", "column"]),
        st.dictionaries(
            st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), st.sampled_from([-0.5, 0, 3, 0.4]),
            min_size=1, max_size=1,
        ),
    ),
    st.tuples(
        st.sampled_from(["mtype", "name"]),
        st.sampled_from(["PC", "^L4", "L[45]_(PC|BC)$", "1$", "", "x*", "."]).map(
            lambda pattern: {"$regex": pattern}
        ),
    ),
)  # fmt: skip
rule = st.lists(clause, min_size=1, max_size=3, unique_by=lambda c: c[0]).map(dict)


@st.composite
def contents(draw):
    basic = draw(st.lists(rule, min_size=1, max_size=4))
    content = {f"basic {i}": one for i, one in enumerate(basic)}
    for i in range(draw(st.integers(0, 3))):
        content[f"compound {i}"] = draw(st.lists(st.sampled_from(sorted(content)), max_size=4))
    return dict(sorted(content.items(), key=lambda _: draw(st.integers())))


@settings(max_examples=75, deadline=None)
@given(content=contents())
def test_any_rules_give_what_libsonata_gives(config, content):
    found, population = ours(content, config)
    assert found == of_libsonata(content, population)


def test_a_rule_that_does_not_apply_holds_for_nobody(config):
    content = {
        "no such attribute": {"region": "x"},
        "text for numbers": {"column": "3"},
        "numbers for text": {"mtype": 3},
        "equal floats": {"x": 1},
        "one that applies": {"column": [1, 2]},
        "either": ["one that applies", "no such attribute"],
        "nothing": {},
    }
    found, population = ours(content, config)
    assert found == {**{name: [] for name in list(content)[:4]},
                     "one that applies": [1, 2], "either": [1, 2]}  # fmt: skip
    theirs = of_libsonata(content, population)
    assert all(theirs[name] is None for name in list(content)[:4])
    assert theirs.keys() == found.keys()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1], "found:    .1.\n"),
        ({"a": 3}, "node set 'a' cannot be understood\n  found:    3"),
        ({"a": ["b"]}, "node set 'a' names others that are not there\n  found:    'b'"),
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "made of each other in a circle"),
        ({"a": [{"mtype": "x"}]}, "node set 'a' cannot be understood"),
        ({"a": {"mtype": None}}, "node set 'a', 'mtype' cannot be understood\n  found:    null"),
        ({"a": {"mtype": True}}, "'mtype' cannot be understood"),
        ({"a": {"mtype": ["x", 1]}}, "'mtype' cannot be understood"),
        ({"a": {"mtype": {"$is": "x"}}}, "expected: one of .regex"),
        ({"a": {"x": {"$gt": 1, "$lt": 2}}}, "'x' cannot be understood"),
        ({"a": {"node_id": [-1]}}, "expected: ids"),
        ({"a": {"node_id": "x"}}, "expected: ids"),
        ({"a": {"population": 1}}, "expected: a name"),
        ({"a": {"column": 2**70}}, "'column' cannot be understood"),
    ],
)
def test_rules_that_cannot_be_understood(config, content, says):
    with pytest.raises(CircuitError, match=says) as error:
        ours(content, config)
    assert str(config.parent / "node_sets.json") in str(error.value)
    with pytest.raises((libsonata.SonataError, RuntimeError)):
        libsonata.NodeSets(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", '{"a": {"x": "\\ud800"}}', "[" * 100_000, "\0", "nul",
                                  '{"a": {"x": 1}, "a": {"x": 2}}'])  # fmt: skip
def test_files_that_are_no_node_sets(tmp_path, text):
    file = tmp_path / "sets.json"
    file.write_text(text)
    with pytest.raises(CircuitError, match=r"sets\.json cannot be read as node sets"):
        read_node_sets(file)


def test_patterns_take_no_time(tmp_path):
    file = tmp_path / "sets.json"
    file.write_text(json.dumps({"slow": {"name": {"$regex": "^(a+)+$"}}}))
    nodes = pl.DataFrame({"node": [0, 1], "name": ["a" * 60 + "!", "aa"]})
    assert members(read_node_sets(file), nodes, "x")["slow"].tolist() == [1]
    file.write_text(json.dumps({"ahead": {"name": {"$regex": "(?=a)"}}}))
    with pytest.raises(CircuitError, match=r"'ahead', 'name' cannot be understood"):
        read_node_sets(file)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
@pytest.mark.parametrize("name", ["thalamus_400", "nbs1_two_cells", "hippocampus_one_cell"])
def test_node_sets_of_public_circuits(name):
    circuit = resolve_circuit(SHARED / name / "circuit_config.json")
    content = json.loads(circuit.node_sets_file.read_text())
    for population in circuit.nodes.values():
        found = {k: v.tolist() for k, v in circuit.node_sets(population).items()}
        theirs = of_libsonata(content, population)
        assert len(found) > 3
        assert found == {k: found[k] if v is None else v for k, v in theirs.items()}


def test_a_damaged_file_brings_nobody_down(tmp_path, capfd):
    """Codes that lead out of their library took libsonata, and the process, with them."""
    config = write_circuit(
        tmp_path, [0], [1], {}, mtype=["a", "b"], node_sets={"a": {"mtype": "a"}}
    )
    with h5py.File(tmp_path / "nodes.h5", "a") as h5:
        h5["nodes/All/0/mtype"][...] = [0, 1 << 30]
    with pytest.raises(CircuitError, match="its @library does not name"):
        export(resolve_circuit(config), tmp_path / "d")
    assert capfd.readouterr().err == ""
