"""Drawn synapses as SONATA edge files, and back through the whole pipeline."""

from __future__ import annotations

import json
import resource
import shutil

import bluepysnap
import h5py
import libsonata
import numpy as np
import polars as pl
import pytest
from circuits import with_node_ids, write_circuit, write_edges
from hand_made import Marginal, model_of
from scipy import stats
from typer.testing import CliRunner

import connprops
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.draw import write_synapses
from connprops.draw.source import Source
from connprops.draw.tables import write
from connprops.errors import CircuitError, OptionError, OutputError
from connprops.resources import Resources

TYPES = ("A", "B")
NODES = 60
DISTRIBUTIONS = {
    "conductance": Marginal("gamma", {"mean": 0.8, "std": 0.3}),
    "u_syn": Marginal("beta", {"a": 2.0, "b": 3.0, "min": 0.0, "max": 1.0}, shared=False),
    "n_rrp_vesicles": Marginal("shifted_poisson", {"mean": 2.5}, dtype="int"),
    "n_syn_per_conn": Marginal("ztpoisson", {"mean": 3.0}, dtype="int"),
}
MODEL = model_of(DISTRIBUTIONS, TYPES)
ENDS = ["source_node", "target_node"]
MTYPES = [TYPES[i % 2] for i in range(NODES)]


def circuit(folder, *, order="sorted", seed=1, columns=()):
    """Write a circuit whose rows are sorted by target and source, or scattered."""
    rng = np.random.default_rng(seed)
    target, source = (ids.ravel() for ids in np.indices((NODES, NODES)))
    counts = rng.integers(0, 5, source.size)
    source, target = np.repeat(source, counts), np.repeat(target, counts)
    if order == "scattered":
        rows = rng.permutation(source.size)
        source, target = source[rows], target[rows]
    n = source.size
    return write_circuit(
        folder,
        source,
        target,
        {
            "conductance": np.full(n, -1, np.float32),
            "n_rrp_vesicles": np.zeros(n, np.uint8),
            "afferent_center_x": rng.normal(size=n).astype(np.float32),
            "syn_type_id": rng.integers(0, 9, n).astype(np.int16),
            **dict(columns),
        },
        mtype=MTYPES,
        attributes={"synapse_class": ["EXC"] * NODES, "layer": ["1"] * NODES},
    )


def edges_of(file):
    with h5py.File(file) as h5:
        group = h5["edges/default"]
        ids = {
            f"{side}_node": group[f"{side}_node_id"][:].astype(np.int64)
            for side in ("source", "target")
        }
        return pl.DataFrame({**ids, **{name: group["0"][name][:] for name in group["0"]}})


def moved(config, file, folder):
    """Return a circuit of the nodes of another and an edge file."""
    folder.mkdir()
    shutil.copy(config.parent / "nodes.h5", folder)
    shutil.copy(file, folder / "edges.h5")
    return shutil.copy(config, folder)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("order", ["sorted", "scattered"])
def test_a_circuit_is_drawn_anew_with_all_else_as_it_was(order, tmp_path):
    config, file = circuit(tmp_path / "c", order=order), tmp_path / "drawn.h5"
    seen = []
    source = Source(MODEL, 3, nodes=config, at_once=1000)
    n = write(source, None, file, progress=lambda *told: seen.append(told))
    before, after = edges_of(tmp_path / "c/edges.h5"), edges_of(file)
    assert n == before.height == seen[-1][1] == seen[-1][2]
    kept = [*ENDS, "afferent_center_x", "syn_type_id"]
    assert after.select(kept).equals(before.select(kept))
    assert after.schema["conductance"] == pl.Float32
    assert after.schema["n_rrp_vesicles"] == pl.UInt8
    assert after.schema["u_syn"] == pl.Float32  # which the circuit did not have
    # The values of each connection are those that a list of connections gets.
    counts = (
        before.group_by(ENDS)
        .len("n_syn_per_conn")
        .with_columns(
            pl.col(f"{side}_node").map_elements(MTYPES.__getitem__, pl.String).alias(f"{side}_type")
            for side in ("source", "target")
        )
    )
    expected = MODEL.draw_synapses(counts.cast({"n_syn_per_conn": pl.Int64}), 3)
    found = after.select(*ENDS, "conductance", "u_syn", "n_rrp_vesicles")
    for frame in (found, expected):
        assert frame.group_by(ENDS).agg(pl.col("conductance").n_unique())["conductance"].max() == 1
    wanted = expected.select(found.columns).cast(found.schema).sort(ENDS, maintain_order=True)
    assert found.sort(ENDS, maintain_order=True).equals(wanted)


def test_a_file_without_indices_gets_them_and_one_with_keeps_them(tmp_path):
    config = circuit(tmp_path / "c")
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    write_synapses(MODEL, None, first, nodes=config)
    indexed = moved(config, first, tmp_path / "d")
    write_synapses(MODEL, None, second, nodes=indexed)
    ids = edges_of(first)
    for file in (first, second):
        population = libsonata.EdgeStorage(str(file)).open_population("default")
        assert population.source == population.target == "All"
        for node in (0, 7, NODES - 1):
            for side, edges in (
                ("target", population.afferent_edges(node)),
                ("source", population.efferent_edges(node)),
            ):
                rows = np.flatnonzero(ids[f"{side}_node"].to_numpy() == node)
                assert edges.flatten().tolist() == rows.tolist()


@pytest.mark.parametrize("threads", [1, 3])
def test_bits_do_not_depend_on_pieces_or_threads(threads, tmp_path):
    config = circuit(tmp_path / "c")
    write_synapses(MODEL, None, tmp_path / "a.h5", nodes=config)
    source = Source(MODEL, 0, nodes=config, at_once=101, resources=Resources(threads=threads))
    write(source, None, tmp_path / "b.h5")
    assert edges_of(tmp_path / "a.h5").equals(edges_of(tmp_path / "b.h5"))


def test_a_list_becomes_an_edge_file_between_the_circuits_nodes(tmp_path):
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    given = pl.DataFrame(
        {"source_node": [5, 2, 0, 9], "target_node": [1, 1, 8, 3], "n_syn_per_conn": [2, 3, 1, 4]}
    )
    assert write_synapses(MODEL, given, file, nodes=config) == 10
    moved(config, file, tmp_path / "d")
    edges = bluepysnap.Circuit(str(tmp_path / "d/circuit_config.json")).edges["default"]
    assert edges.size == 10
    assert edges.afferent_edges(1).tolist() == [0, 1, 2, 3, 4]
    assert edges.efferent_nodes(9).tolist() == [3]
    assert set(edges.property_names) >= {"conductance", "u_syn", "n_rrp_vesicles"}
    types = given.with_columns(
        pl.col(f"{side}_node").map_elements(MTYPES.__getitem__, pl.String).alias(f"{side}_type")
        for side in ("source", "target")
    )
    drawn = MODEL.draw_synapses(types)
    found = edges.get([0, 4, 9], ["conductance", "n_rrp_vesicles"])
    assert (
        found["conductance"].tolist()
        == drawn["conductance"].cast(pl.Float32).gather([0, 4, 9]).to_list()
    )
    assert found["n_rrp_vesicles"].tolist() == drawn["n_rrp_vesicles"].gather([0, 4, 9]).to_list()


def test_a_circuit_drawn_anew_can_be_a_table(tmp_path):
    config = circuit(tmp_path / "c", order="scattered")
    write_synapses(MODEL, None, tmp_path / "drawn.parquet", 2, nodes=config)
    write_synapses(MODEL, None, tmp_path / "drawn.h5", 2, nodes=config)
    table, edges = pl.read_parquet(tmp_path / "drawn.parquet"), edges_of(tmp_path / "drawn.h5")
    for name in (*ENDS, "conductance", "u_syn", "n_rrp_vesicles"):
        assert table[name].cast(edges.schema[name]).equals(edges[name])


def test_connections_that_are_skipped_keep_their_values(tmp_path):
    known = {("A", "A"): DISTRIBUTIONS["conductance"], ("B", "A"): DISTRIBUTIONS["conductance"]}
    model = model_of({"conductance": known}, TYPES)
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    write_synapses(model, None, file, nodes=config, missing="skip")
    drawn = edges_of(file).with_columns(to_a=pl.col("target_node") % 2 == 0)
    assert (drawn.filter(~pl.col("to_a"))["conductance"] == -1).all()
    assert (drawn.filter("to_a")["conductance"] > 0).all()
    both = model_of({"u_syn": {("A", "A"): DISTRIBUTIONS["u_syn"]}}, TYPES)
    with pytest.raises(OptionError, match="lacks a property"):
        write_synapses(both, None, tmp_path / "no.h5", nodes=config, missing="skip")


# The whole way round

ROUND = {
    "gamma": {"mean": 0.8, "std": 0.3},
    "normal": {"mean": 1.0, "std": 2.0},
    "lognormal": {"mean_log": 0.5, "std_log": 0.4},
    "weibull": {"shape": 1.7, "scale": 3.0},
    "exponential": {"mean": 2.0},
    "poisson": {"mean": 3.0},
    "shifted_poisson": {"mean": 2.5},
    "geometric": {"mean": 2.5},
    "negative_binomial": {"mean": 3.0, "dispersion": 2.0},
    "constant": {"mean": 1.5},
    "zero": {},
}
COUNTS = {"poisson", "shifted_poisson", "geometric", "negative_binomial", "zero"}


@pytest.mark.parametrize("shared", [True, False])
def test_the_pipeline_gives_the_model_back(shared, tmp_path):
    distributions = {
        f"p_{name}": Marginal(name, p, shared, "int" if name in COUNTS else "float")
        for name, p in ROUND.items()
    }
    distributions["n_syn_per_conn"] = Marginal("ztpoisson", {"mean": 3.0}, dtype="int")
    pair = ("p_gamma", "p_normal")
    model = model_of(distributions, TYPES, {pair: 0.6})
    config = circuit(tmp_path / "c")
    nodes = pl.DataFrame({"source_node": range(NODES)}).join(
        pl.DataFrame({"target_node": range(NODES)}), how="cross"
    )
    write_synapses(model, nodes, tmp_path / "drawn.h5", 5, nodes=config)
    drawn = connprops.open_circuit(
        moved(config, tmp_path / "drawn.h5", tmp_path / "d"), tmp_path / "ds"
    )
    names = list(distributions)
    found = connprops.build(
        connprops.extract(drawn, sel_props=names),
        distr_types={name: distribution.family for name, distribution in distributions.items()},
        correlations=True,
    )
    keys = ["source_type", "target_type", "property", "other_property", "parameter"]
    text = [pl.col(key).cast(pl.String) for key in keys]
    expected = model.table.select(
        *text, pl.col("value").alias("true"), pl.col("shared_within").alias("was")
    )
    both = found.table.with_columns(text).join(expected, on=keys, how="left", nulls_equal=True)
    marginal = both.filter(pl.col("other_property").is_null())
    assert marginal.height == model.marginals.height
    varies = marginal.filter(~pl.col("property").is_in(["p_constant", "p_zero", "n_syn_per_conn"]))
    assert (varies["shared_within"] == shared).all()
    exact = marginal.filter(pl.col("property").is_in(["p_constant", "p_zero"]))
    assert (exact["value"] == exact["true"]).all()
    estimated = both.filter(pl.col("true").is_not_null() & (pl.col("std_error") > 0))
    z = (estimated["value"] - estimated["true"]) / estimated["std_error"]
    assert len(z) >= 4 * 15
    assert z.abs().max() < 4.5
    assert stats.chi2(len(z)).sf((z**2).sum()) > 1e-4
    assert estimated.filter(pl.col("other_property").is_not_null()).height == 4


@pytest.mark.filterwarnings("ignore")
def test_the_reference_reads_what_is_drawn(tmp_path):
    reference = pytest.importorskip("connectome_manipulator.model_building.conn_props")
    config = circuit(tmp_path / "c")
    write_synapses(MODEL, None, tmp_path / "drawn.h5", 1, nodes=config)
    there = moved(config, tmp_path / "drawn.h5", tmp_path / "d")
    found = reference.extract(bluepysnap.Circuit(str(there)), sel_props=["conductance"])
    frame = edges_of(tmp_path / "drawn.h5").group_by(ENDS).first()
    of_a = frame.filter((pl.col("source_node") % 2 == 0) & (pl.col("target_node") % 2 == 0))
    mean = found["conn_prop_data"]["mean"][0, 0, 0]
    assert mean == pytest.approx(of_a["conductance"].cast(pl.Float64).mean(), rel=1e-6)
    assert found["conn_prop_data"]["shared_within"].all()


@pytest.mark.parametrize("groups", [np.arange(NODES) % 2, np.arange(NODES) // 7 % 3])
def test_groups_of_attributes_are_drawn_alike(tmp_path, groups):
    drawn = {}
    for name, of_rows in (("one", None), ("several", groups)):
        config = write_circuit(
            tmp_path / name, range(NODES), range(NODES),
            {"conductance": np.ones(NODES), "kept": np.arange(NODES)}, mtype=MTYPES, groups=of_rows,
        )  # fmt: skip
        write_synapses(MODEL, None, tmp_path / f"{name}.h5", 3, nodes=config)
        there = resolve_circuit(moved(config, tmp_path / f"{name}.h5", tmp_path / f"{name}-drawn"))
        edges = there.edges["default"]
        with edges.reader() as reader:
            drawn[name] = {
                column: reader.column(edges.columns[column], 0, edges.size).tolist()
                for column in ("kept", *MODEL.properties[:-1])
            }
    assert drawn["several"] == drawn["one"]
    assert drawn["one"]["kept"] == list(range(NODES))


# What will not do


def test_nothing_is_left_where_it_cannot_be_done(tmp_path):
    config, out = circuit(tmp_path / "c"), tmp_path / "out"
    out.mkdir()
    text = circuit(
        tmp_path / "t", columns={"u_syn": ["x"] * edges_of(config.parent / "edges.h5").height}
    )
    vast = model_of({"n_rrp_vesicles": Marginal("constant", {"mean": 300.0}, dtype="int")}, TYPES)
    huge = model_of({"conductance": Marginal("constant", {"mean": 1e300})}, TYPES)
    other = model_of(DISTRIBUTIONS, ("A", "C"))
    for model, nodes, error, message in (
        (vast, config, OutputError, "n_rrp_vesicles do not fit"),
        (huge, config, OutputError, "conductance do not fit"),
        (other, config, OptionError, "type of connections: 'B'"),
        (MODEL, text, OptionError, "no column of numbers"),
        (MODEL, None, OptionError, "no circuit"),
    ):
        with pytest.raises(error, match=message):
            write_synapses(model, None, out / "drawn.h5", nodes=nodes)
        assert files_in(out) == []
    with pytest.raises(OptionError, match="no circuit"):
        write_synapses(
            MODEL, pl.DataFrame({"source_node": [0], "target_node": [0]}), out / "drawn.h5"
        )


def test_inherited_text_is_not_overwritten_by_numbers(tmp_path):
    config = circuit(tmp_path / "c")
    with h5py.File(tmp_path / "c/edges.h5") as h5:
        (kind,) = np.unique(h5["edges/default/edge_type_id"])
    (tmp_path / "c/types.csv").write_text(f"edge_type_id receptor\n{kind} AMPA\n")
    content = json.loads(config.read_text())
    content["networks"]["edges"][0]["edge_types_file"] = str(tmp_path / "c/types.csv")
    config.write_text(json.dumps(content))
    model = model_of(
        {**DISTRIBUTIONS, "receptor": Marginal("constant", {"mean": 0.0}, dtype="int")}, TYPES
    )
    with pytest.raises(OptionError, match="'receptor' is no column of numbers"):
        write_synapses(model, None, tmp_path / "drawn.h5", nodes=config)
    write_synapses(model, None, tmp_path / "drawn.h5", nodes=config, properties=["conductance"])
    assert edges_of(tmp_path / "drawn.h5")["conductance"].min() > 0
    described = connprops.extract(
        connprops.open_circuit(config, tmp_path / "d"), sel_props=["receptor", "conductance"]
    )
    write_synapses(connprops.build(described), None, tmp_path / "texts.h5", nodes=config)
    with h5py.File(tmp_path / "texts.h5") as h5:
        assert set(h5["edges/default/0/receptor"].asstr()[:]) == {"AMPA"}
        assert h5["edges/default/0/receptor"].size == h5["edges/default/edge_type_id"].size


def test_a_damaged_circuit_leaves_no_file(tmp_path):
    config, out = circuit(tmp_path / "c"), tmp_path / "out"
    edges = tmp_path / "c/edges.h5"
    content = edges.read_bytes()
    edges.write_bytes(content[: len(content) // 2])
    with pytest.raises(CircuitError, match=r"edges\.h5"):
        write_synapses(MODEL, None, out / "drawn.h5", nodes=config)
    assert not out.exists() or files_in(out) == []


@pytest.mark.parametrize("limit", [10_000, 100_000, 200_000])
def test_a_full_disk_leaves_what_was_there(limit, tmp_path):
    config, out = circuit(tmp_path / "c"), tmp_path / "out"
    out.mkdir()
    (out / "drawn.h5").write_text("before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for connections in (
        None,
        pl.DataFrame(
            {"source_node": np.repeat(np.arange(60), 60), "target_node": np.tile(np.arange(60), 60)}
        ),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OutputError, match=r"drawn\.h5.* cannot be"):
                write_synapses(MODEL, connections, out / "drawn.h5", nodes=config, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert files_in(out) == ["drawn.h5"]
        assert (out / "drawn.h5").read_text() == "before"


def test_files_are_not_replaced_unasked(tmp_path):
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    file.write_text("before")
    with pytest.raises(OutputError, match="exists already"):
        write_synapses(MODEL, None, file, nodes=config)
    assert file.read_text() == "before"


def test_other_populations_and_dynamics_are_kept(tmp_path):
    config = circuit(tmp_path / "c")
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5:
        size = h5["edges/default/source_node_id"].size
        h5["edges/default/0/dynamics_params/tau"] = np.zeros(size, np.float32)
        h5["edges/default/0/conductance"].attrs["unit"] = "nS"
        h5.attrs["version"] = 3
    write_edges(tmp_path / "extra.h5", "extra", [0, 1], [1, 0], {"delay": [1.0, 2.0]})
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5, h5py.File(tmp_path / "extra.h5") as more:
        more.copy("edges/extra", h5["edges"])
    model = model_of({**DISTRIBUTIONS, "@dynamics:tau": Marginal("constant", {"mean": 2.0})}, TYPES)
    write_synapses(model, None, tmp_path / "drawn.h5", nodes=config, population="default")
    with h5py.File(tmp_path / "drawn.h5") as h5:
        assert h5["edges/extra/0/delay"][:].tolist() == [1.0, 2.0]
        assert (h5["edges/default/0/dynamics_params/tau"][:] == 2).all()
        assert h5["edges/default/0/conductance"].attrs["unit"] == "nS"
        assert h5.attrs["version"] == 3


def test_the_command_line_draws_a_circuit_anew(tmp_path):
    plain = model_of(
        {
            "conductance": DISTRIBUTIONS["conductance"],
            "n_syn_per_conn": DISTRIBUTIONS["n_syn_per_conn"],
        },
        TYPES,
    )
    plain.write_json(tmp_path / "plain.json")
    config = circuit(tmp_path / "c")
    result = CliRunner().invoke(
        app,
        [
            "draw",
            str(tmp_path / "plain.json"),
            "--circuit",
            str(config),
            "-o",
            str(tmp_path / "e.h5"),
        ],
    )
    assert result.exit_code == 0, result.output
    write_synapses(plain, None, tmp_path / "f.h5", nodes=config)
    assert edges_of(tmp_path / "e.h5").equals(edges_of(tmp_path / "f.h5"))


@pytest.mark.parametrize("anew", [True, False])
def test_drawn_files_have_the_ids_of_the_circuit(anew, tmp_path):
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    ids = np.random.default_rng(0).permutation(NODES) * 3 + 101
    with_node_ids(tmp_path / "c/nodes.h5", ids)
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5:
        for side in ("source", "target"):
            nodes = h5[f"edges/default/{side}_node_id"]
            nodes[...] = ids[nodes[...]]
    before = edges_of(tmp_path / "c/edges.h5")
    listed = before.group_by(ENDS).len("n_syn_per_conn").sort(ENDS)
    write(Source(MODEL, 3, nodes=config), None if anew else listed, file)
    after = edges_of(file)
    assert after.select(ENDS).sort(ENDS).equals(before.select(ENDS).sort(ENDS))
    population = libsonata.EdgeStorage(str(file)).open_population("default")
    assert population.afferent_edges(ids[0]).flat_size == (before["target_node"] == ids[0]).sum()


@pytest.mark.parametrize("length", ["as many", "more"])
def test_rows_of_a_group_are_drawn_in_their_places(length, tmp_path):
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    plain = tmp_path / "plain.h5"
    write(Source(MODEL, 3, nodes=config, at_once=1000), None, plain)
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5:
        population = h5["edges/default"]
        n = population["source_node_id"].size
        index = np.random.default_rng(0).permutation(n + 50 * (length == "more"))[:n]
        population["edge_group_index"] = index
        for name in list(population["0"]):
            values = np.zeros(index.max() + 1, population[f"0/{name}"].dtype)
            values[index] = population[f"0/{name}"]
            del population[f"0/{name}"]
            population[f"0/{name}"] = values
    write(Source(MODEL, 3, nodes=config, at_once=1000), None, file)
    with h5py.File(plain) as expected, h5py.File(file) as drawn:
        for name, values in expected["edges/default/0"].items():
            assert np.array_equal(drawn[f"edges/default/0/{name}"][...][index], values[...])


LABELS = ("x", "y", "a long one")


def labelled_model(labels=LABELS):
    """Return a model of a labelled property, as build makes it."""
    p = {"val": [0.0, 1.0, 2.0], "p": [0.2, 0.3, 0.5]}
    marginal = Marginal("discrete", p, dtype="int", lower=0, upper=2)
    model = model_of({"kind": marginal, **DISTRIBUTIONS}, TYPES)
    model.facts["labels"] = {"kind": list(labels)}
    return model


def kinds_of(file):
    """Return the labels of the drawn synapses, and the type that they are stored in."""
    with h5py.File(file) as h5:
        group = h5["edges/default/0"]
        if h5py.check_string_dtype(group["kind"].dtype):
            return group["kind"].asstr()[:], group["kind"].dtype
        return group["@library/kind"].asstr()[:][group["kind"][:]], group["kind"].dtype


@pytest.mark.parametrize("stored", ["text", "codes", "other codes", "absent"])
def test_labels_are_drawn_as_the_circuit_stores_them(stored, tmp_path):
    config, file = circuit(tmp_path / "c"), tmp_path / "drawn.h5"
    library = LABELS[::-1] if stored == "other codes" else LABELS
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5:
        group, text = h5["edges/default/0"], h5py.string_dtype()
        n = group["conductance"].size
        if stored == "text":
            group.create_dataset("kind", data=np.resize(np.array(LABELS, "S"), n))
        elif stored != "absent":
            group["kind"] = np.zeros(n, np.uint8)
            group.create_dataset("@library/kind", data=library, dtype=text)
    model = labelled_model()
    write_synapses(model, None, file, 3, nodes=config)
    drawn, dtype = kinds_of(file)
    label, count = np.unique(drawn, return_counts=True)
    assert label.tolist() == ["a long one", "x", "y"]
    assert np.abs(count / drawn.size - [0.5, 0.2, 0.3]).max() < 0.02
    if "codes" in stored:
        assert dtype == np.uint8
        with h5py.File(file) as h5:
            assert h5["edges/default/0/@library/kind"].asstr()[:].tolist() == list(library)
    # A new file of the same connections holds the same labels.
    with h5py.File(file) as h5:
        ids = {end: h5[f"edges/default/{end}_id"][:].astype(np.int64) for end in ENDS}
    counts = pl.DataFrame(ids).group_by(ENDS, maintain_order=True).len("n_syn_per_conn")
    counts = counts.cast({"n_syn_per_conn": pl.Int64})
    write_synapses(model, counts, tmp_path / "new.h5", 3, nodes=config)
    assert kinds_of(tmp_path / "new.h5")[0].tolist() == drawn.tolist()


def test_labels_that_a_circuit_has_no_codes_for_are_refused(tmp_path):
    config = circuit(tmp_path / "c")
    with h5py.File(tmp_path / "c/edges.h5", "a") as h5:
        group = h5["edges/default/0"]
        group["kind"] = np.zeros(group["conductance"].size, np.uint8)
        group.create_dataset("@library/kind", data=["x", "z"], dtype=h5py.string_dtype())
    with pytest.raises(OptionError, match="no code for some labels of 'kind'"):
        write_synapses(labelled_model(), None, tmp_path / "drawn.h5", nodes=config)
