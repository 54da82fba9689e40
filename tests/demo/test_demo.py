"""The demo circuit: valid SONATA, the published numbers, and values that follow its own truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bluepysnap
import h5py
import numpy as np
import polars as pl
import pytest
from bluepysnap.circuit_validation import validate
from numpy.typing import NDArray
from scipy import stats

from connprops.demo import EDGES, NODES, DemoCircuit, write_demo
from connprops.demo.published import table
from connprops.demo.scale_model import ScaleModel
from connprops.errors import OptionError, OutputError

SYNAPSES, SEED = 20_000, 7
PAIR = ["source", "target"]
PATHWAY = ["source_type", "target_type"]
SHARED = [
    "conductance",
    "decay_time",
    "depression_time",
    "facilitation_time",
    "u_syn",
    "n_rrp_vesicles",
    "conductance_scale_factor",
    "u_hill_coefficient",
    "syn_type_id",
]
UNLIKELY = 1e-3
"""p-value below which a seeded sample is held not to follow its distribution."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoCircuit:
    return write_demo(tmp_path_factory.mktemp("demo") / "a", synapses=SYNAPSES, seed=SEED)


@pytest.fixture(scope="module")
def truth(demo: DemoCircuit) -> pl.DataFrame:
    return pl.read_parquet(demo.truth).with_columns(pl.col(PATHWAY).cast(pl.String))


@pytest.fixture(scope="module")
def synapses(demo: DemoCircuit) -> pl.DataFrame:
    """All rows of the edge file, read with h5py alone, and the m-types of both ends."""
    with h5py.File(demo.config.parent / "nodes.h5") as file:
        nodes = file[f"nodes/{NODES}/0"]
        mtype = nodes["@library/mtype"].asstr()[:][nodes["mtype"][:]]
    with h5py.File(demo.config.parent / "edges.h5") as file:
        population = file[f"edges/{EDGES}"]
        columns: dict[str, Any] = {
            side: population[f"{side}_node_id"][:].astype(np.int64) for side in PAIR
        }
        columns |= {name: values[:] for name, values in population["0"].items()}
    types = {f"{side}_type": mtype[columns[side]].astype(str) for side in PAIR}
    return pl.DataFrame({**columns, **types})


@pytest.fixture(scope="module")
def connections(synapses: pl.DataFrame) -> pl.DataFrame:
    return synapses.group_by(PAIR, maintain_order=True).agg(
        pl.first(*PATHWAY, *SHARED), n_syn_per_conn=pl.len()
    )


def with_parameters(frame: pl.DataFrame, truth: pl.DataFrame, name: str) -> pl.DataFrame:
    """Join the parameters of a property, one column each, to rows with a pathway."""
    distribution = truth.filter(property=name).pivot("parameter", index=PATHWAY, values="value")
    return frame.join(distribution, on=PATHWAY, maintain_order="left")


def tree(path: Path) -> dict[str, Any]:
    """All datasets and attributes of an HDF5 file."""
    found: dict[str, Any] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found[f"{name}@"] = {key: str(value) for key, value in item.attrs.items()}
        if isinstance(item, h5py.Dataset):
            found[name] = item[:].tolist()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def test_published_tables_have_the_published_sums() -> None:
    pathways = table("pathways")
    assert len(pathways) == 1941
    connections = pathways["n_connections"]
    assert connections.sum() == pytest.approx(7.82e6, rel=1e-3)
    assert (connections * pathways["n_syn_per_conn_mean"]).sum() == pytest.approx(37.3e6, rel=1e-3)
    mtypes = table("mtypes")
    assert mtypes["mtype"].n_unique() == 55
    assert mtypes["n_neurons"].sum() == 31_283
    pairs = {
        (mtype, etype)
        for mtype, etypes in mtypes["mtype", "etypes"].rows()
        for etype in etypes.split()
    }
    assert len(pairs) == 207
    assert set(pathways["source_type"]) == set(mtypes["mtype"]) == set(pathways["target_type"])


def test_synapse_type_tells_the_class_of_the_source() -> None:
    classes = dict(table("mtypes")["mtype", "synapse_class"].rows())
    declared = dict(table("synapse_types")["synapse_type", "synapse_class"].rows())
    for source, number in table("pathways")["source_type", "synapse_type"].rows():
        assert declared[number] == classes[source] == ("EXC" if number >= 100 else "INH")


def test_validate_circuit_has_no_complaint(demo: DemoCircuit) -> None:
    assert validate(str(demo.config), skip_slow=False, print_errors=False) == set()


def test_bluepysnap_opens_it(demo: DemoCircuit, synapses: pl.DataFrame) -> None:
    circuit = bluepysnap.Circuit(str(demo.config))
    nodes, edges = circuit.nodes[NODES], circuit.edges[EDGES]
    assert nodes.size == demo.n_neurons
    assert edges.size == demo.n_synapses == len(synapses)
    assert {"mtype", "synapse_class", "layer", "etype", "x", "y", "z"} <= nodes.property_names
    for everything in ("All", "Mosaic"):
        assert len(nodes.ids(everything)) == nodes.size
    assert len(nodes.ids("Excitatory")) + len(nodes.ids("Inhibitory")) == nodes.size
    assert sum(len(nodes.ids(f"Layer{layer}")) for layer in range(1, 7)) == nodes.size
    for mtype in table("mtypes")["mtype"].unique():
        assert set(nodes.get(mtype, properties="mtype")) == {mtype}

    target = int(synapses["target"][0])
    rows = np.flatnonzero(synapses["target"] == target)
    assert edges.afferent_edges(target, "@source_node").tolist() == (
        synapses["source"].to_numpy()[rows].tolist()
    )
    source = int(synapses["source"][0])
    efferent = edges.efferent_edges(source, "conductance")
    assert efferent.tolist() == synapses.filter(source=source)["conductance"].to_list()


def test_somata_lie_in_their_layers(demo: DemoCircuit) -> None:
    nodes = bluepysnap.Circuit(str(demo.config)).nodes[NODES].get()
    bottom = {"6": 0, "5": 700, "4": 1225, "3": 1415, "2": 1768, "1": 1917}
    top = {"6": 700, "5": 1225, "4": 1415, "3": 1768, "2": 1917, "1": 2082}
    for layer, y in nodes.groupby("layer", observed=True)["y"]:
        assert y.min() >= bottom[layer]
        assert y.max() <= top[layer]
    assert np.hypot(nodes["x"], nodes["z"]).max() <= 230


def test_connections_are_distinct_pairs_in_order(synapses: pl.DataFrame) -> None:
    assert (synapses["source"] != synapses["target"]).all()
    pairs = synapses.select("target", "source")
    assert pairs.equals(pairs.sort("target", "source"))


def test_numbers_of_connections_are_proportional(
    demo: DemoCircuit, connections: pl.DataFrame
) -> None:
    assert len(connections) == demo.n_connections
    counted = connections.group_by(PATHWAY).len("n")
    rows = (
        table("pathways")
        .join(counted, on=PATHWAY, how="left")
        .with_columns(pl.col("n").fill_null(0))
    )
    published = rows["n_connections"].to_numpy()
    n = rows["n"].to_numpy()
    # One factor, rounded: each pathway leaves an interval for it, and all have a part in common.
    assert ((n - 0.5) / published).max() <= ((n + 0.5) / published).min()
    assert demo.n_synapses == pytest.approx(SYNAPSES, rel=0.02)


@pytest.mark.parametrize("size", [1_000, 10_000, 200_000])
def test_expected_number_of_synapses_is_met_at_any_size(size: int) -> None:
    model = ScaleModel(size, seed=0)
    drawn = sum(model.connections(block).n_syn.sum() for block in range(model.n_blocks))
    assert drawn == pytest.approx(size, rel=max(0.02, 3 / np.sqrt(size)))


def test_small_pathways_are_kept_where_they_cost_little() -> None:
    pathways = ScaleModel(200_000, seed=0).pathways
    assert len(pathways) == 1941
    assert (pathways["n_connections"] >= pathways["n_published"].floor().clip(upper_bound=3)).all()


def test_full_size_has_the_published_numbers() -> None:
    published = table("pathways")
    synapses = round((published["n_connections"] * published["n_syn_per_conn_mean"]).sum())
    model = ScaleModel(synapses, seed=0)
    # The distribution is rounded and at least 1, which raises the mean a little.
    ratio = model.pathways["n_connections"] / model.pathways["n_published"]
    large = ratio.filter(model.pathways["n_published"] > 1000)
    assert len(model.pathways) == 1941
    assert large.min() == pytest.approx(1, rel=0.01)
    assert large.max() == pytest.approx(1, rel=0.01)
    assert len(model.neurons) == pytest.approx(31_283, rel=0.01)


def test_values_are_shared_within_connections(synapses: pl.DataFrame, truth: pl.DataFrame) -> None:
    several = (
        synapses.group_by(PAIR)
        .agg(
            n=pl.len(),
            **{name: pl.col(name).n_unique() for name in [*SHARED, "spine_length", "delay"]},
        )
        .filter(pl.col("n") > 1)
    )
    for name in SHARED:
        assert (several[name] == 1).all()
    for name in ("spine_length", "delay"):
        assert (several[name] == several["n"]).mean() > 0.999
    declared = dict(truth["property", "shared_within"].unique().rows())
    assert declared == {
        **dict.fromkeys(SHARED, True),
        "spine_length": False,
        "n_syn_per_conn": None,
    }


def test_truth_is_a_long_table_of_the_published_parameters(
    truth: pl.DataFrame, connections: pl.DataFrame
) -> None:
    key = [*PATHWAY, "property", "parameter", "position"]
    assert truth.select(key).is_unique().all()
    assert not truth.select(pl.exclude("shared_within")).null_count().sum_horizontal().item()
    pathways = connections.select(PATHWAY).unique().sort(PATHWAY)
    for name in [*SHARED, "spine_length", "n_syn_per_conn"]:
        assert truth.filter(property=name).select(PATHWAY).unique().sort(PATHWAY).equals(pathways)

    published = table("pathways").join(table("synapse_types"), on="synapse_type")
    for name in ("conductance", "depression_time", "facilitation_time"):
        rows = with_parameters(published, truth, name).drop_nulls("mean")
        assert rows["mean"].to_list() == rows[f"{name}_mean"].to_list()
        assert rows["std"].to_list() == rows[f"{name}_std"].to_list()
    for name in ("u_syn", "decay_time"):
        rows = with_parameters(published, truth, name).drop_nulls("norm_loc")
        mean, std = rows[f"{name}_mean"].to_numpy(), rows[f"{name}_std"].to_numpy()
        np.testing.assert_array_equal(rows["norm_loc"], mean)
        np.testing.assert_array_equal(rows["norm_scale"], std)
        np.testing.assert_allclose(rows["min"], np.maximum(mean - std, 0), rtol=1e-15)
        np.testing.assert_allclose(rows["max"], mean + std, rtol=1e-15)


def test_truth_of_the_number_of_synapses_is_a_rounded_gamma_distribution(
    truth: pl.DataFrame,
) -> None:
    distribution = truth.filter(
        source_type="L23_PC", target_type="L4_PC", property="n_syn_per_conn"
    )
    value = distribution.filter(parameter="val")["value"].to_numpy()
    p = distribution.filter(parameter="p")["value"].to_numpy()
    gamma = stats.gamma(a=(3.0 / 1.1) ** 2, scale=1.1**2 / 3.0)  # published: 3.0 and 1.1
    expected = gamma.cdf(value + 0.5) - np.where(value > 1, gamma.cdf(value - 0.5), 0)
    np.testing.assert_array_equal(value, np.arange(1, len(value) + 1))
    np.testing.assert_allclose(p, expected, rtol=1e-8)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    # Published without spread: 2 synapses.
    same = truth.filter(source_type="L6_TPC_L1", target_type="L23_PC", property="n_syn_per_conn")
    assert same["distribution", "parameter", "value"].rows() == [("constant", "mean", 2.0)]


def probability_integral(frame: pl.DataFrame, truth: pl.DataFrame, name: str) -> NDArray[Any]:
    """Return each value's place in its distribution, by scipy: uniform if the truth is true."""
    rows = with_parameters(frame, truth, name)
    value = rows[name].to_numpy().astype(float)
    if "norm_loc" in rows.columns:
        loc, scale = rows["norm_loc"].to_numpy(), rows["norm_scale"].to_numpy()
        a, b = (rows["min"].to_numpy() - loc) / scale, (rows["max"].to_numpy() - loc) / scale
        return stats.truncnorm.cdf(value, a, b, loc, scale)
    mean, std = rows["mean"].to_numpy(), rows["std"].to_numpy()
    return stats.gamma.cdf(value, (mean / std) ** 2, scale=std**2 / mean)


@pytest.mark.parametrize(
    "name", ["conductance", "depression_time", "facilitation_time", "u_syn", "decay_time"]
)
def test_values_of_connections_follow_the_truth(
    connections: pl.DataFrame, truth: pl.DataFrame, name: str
) -> None:
    place = probability_integral(connections, truth, name)
    assert stats.kstest(place, "uniform").pvalue > UNLIKELY
    large = (connections["source_type"] == "L23_PC") & (connections["target_type"] == "L23_PC")
    assert large.sum() > 100
    assert stats.kstest(place[large.to_numpy()], "uniform").pvalue > UNLIKELY


def test_spine_lengths_follow_the_truth_for_each_synapse(
    synapses: pl.DataFrame, truth: pl.DataFrame
) -> None:
    place = probability_integral(synapses, truth, "spine_length")
    assert stats.kstest(place, "uniform").pvalue > UNLIKELY


def test_vesicles_follow_the_truth(connections: pl.DataFrame, truth: pl.DataFrame) -> None:
    rows = with_parameters(connections, truth, "n_rrp_vesicles")
    assert set(rows["mean"]) == {1.5, 2.5}
    for (mean,), group in rows.group_by("mean"):
        found = np.bincount(group["n_rrp_vesicles"].clip(upper_bound=5), minlength=6)[1:]
        p = [stats.poisson.pmf(k, mean - 1) for k in range(4)]
        expected = len(group) * np.array([*p, 1 - sum(p)])
        assert stats.chisquare(found, expected).pvalue > UNLIKELY


def test_constants_are_the_truth(connections: pl.DataFrame, truth: pl.DataFrame) -> None:
    for name in ("conductance_scale_factor", "u_hill_coefficient", "syn_type_id"):
        rows = with_parameters(connections, truth, name)
        np.testing.assert_array_equal(rows[name], rows["mean"].to_numpy().astype(np.float32))


def test_numbers_of_synapses_follow_the_truth(
    connections: pl.DataFrame, truth: pl.DataFrame
) -> None:
    distribution = truth.filter(property="n_syn_per_conn", distribution="discrete").pivot(
        "parameter", index=[*PATHWAY, "position"], values="value"
    )
    distribution = distribution.sort(*PATHWAY, "position").with_columns(
        below=pl.col("p").cum_sum().over(PATHWAY) - pl.col("p")
    )
    rows = connections.with_columns(val=pl.col("n_syn_per_conn").cast(pl.Float64)).join(
        distribution, on=[*PATHWAY, "val"]
    )
    fixed = truth.filter(property="n_syn_per_conn", distribution="constant")
    assert len(rows) == len(connections) - len(connections.join(fixed, on=PATHWAY))
    # A discrete distribution's place is a step; a uniform number on the step makes it uniform.
    chance = np.random.default_rng(0).random(len(rows))
    place = rows["below"].to_numpy() + chance * rows["p"].to_numpy()
    assert stats.kstest(place, "uniform").pvalue > UNLIKELY


def test_partners_are_drawn_evenly(synapses: pl.DataFrame) -> None:
    pairs = synapses.filter(source_type="L23_PC", target_type="L23_PC").select(PAIR).unique()
    ends = synapses.select(pl.concat_list(PAIR).alias("id"), pl.concat_list(PATHWAY).alias("type"))
    members = ends.explode("id", "type").filter(type="L23_PC")["id"].n_unique()
    for side in PAIR:
        degree = pairs.group_by(side).len()["len"].to_numpy()
        degree = np.concatenate([degree, np.zeros(members - len(degree))])
        mean = len(pairs) / members
        # Hypergeometric, so a little narrower than Poisson.
        assert stats.chi2.sf(((degree - mean) ** 2 / mean).sum(), members - 1) > UNLIKELY


def test_synapses_scatter_about_the_somata_of_their_targets(
    demo: DemoCircuit, synapses: pl.DataFrame
) -> None:
    nodes = bluepysnap.Circuit(str(demo.config)).nodes[NODES].get(properties=["x", "y", "z"])
    soma = nodes.to_numpy().astype(float)[synapses["target"].to_numpy()]
    for place in ("center", "surface"):
        position = synapses.select(f"afferent_{place}_{axis}" for axis in "xyz").to_numpy()
        for scattered in (position - soma).T:
            assert stats.kstest(scattered, stats.norm(scale=100).cdf).pvalue > UNLIKELY
    assert (synapses["afferent_section_id"] == 0).all()
    assert (synapses["afferent_section_type"] == 1).all()  # a soma, as SWC numbers them


def test_delay_is_the_way_from_the_soma(demo: DemoCircuit, synapses: pl.DataFrame) -> None:
    nodes = bluepysnap.Circuit(str(demo.config)).nodes[NODES].get(properties=["x", "y", "z"])
    soma = nodes.to_numpy().astype(float)[synapses["source"].to_numpy()]
    place = synapses.select(f"afferent_center_{axis}" for axis in "xyz").to_numpy().astype(float)
    expected = 0.1 + np.linalg.norm(place - soma, axis=1) / 300
    np.testing.assert_allclose(synapses["delay"], expected, rtol=1e-5)


def test_same_seed_gives_the_same_circuit(demo: DemoCircuit, tmp_path: Path) -> None:
    again = write_demo(tmp_path / "again", synapses=SYNAPSES, seed=SEED)
    for name in ("nodes.h5", "edges.h5"):
        assert tree(again.config.parent / name) == tree(demo.config.parent / name)
    for name in ("circuit_config.json", "node_sets.json", "demo.json", "truth.parquet"):
        written = (again.config.parent / name).read_bytes()
        assert written == (demo.config.parent / name).read_bytes()


def test_another_seed_gives_another_circuit(demo: DemoCircuit, tmp_path: Path) -> None:
    other = write_demo(tmp_path / "other", synapses=SYNAPSES, seed=SEED + 1)
    name = f"edges/{EDGES}/0/conductance"
    with (
        h5py.File(other.config.parent / "edges.h5") as a,
        h5py.File(demo.config.parent / "edges.h5") as b,
    ):
        assert not np.isin(a[name][:], b[name][:]).mean() > 0.01
    assert other.n_connections == demo.n_connections  # the pathways' numbers are not random


def test_blocks_cover_all_targets_once() -> None:
    model = ScaleModel(600_000, seed=1)
    assert model.n_blocks > 1
    parts = [model.connections(block) for block in range(model.n_blocks)]
    target = np.concatenate([part.target for part in parts])
    assert (np.diff(target) >= 0).all()
    pathway = np.concatenate([part.pathway for part in parts])
    numbers = np.bincount(pathway, minlength=len(model.pathways))
    assert numbers.tolist() == model.pathways["n_connections"].to_list()


def test_written_circuit_is_reused(demo: DemoCircuit) -> None:
    folder = demo.config.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert write_demo(folder, synapses=SYNAPSES, seed=SEED) == demo
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_content_is_refused_and_left_alone(demo: DemoCircuit, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="not a demo circuit"):
        write_demo(tmp_path, synapses=1_000)
    with pytest.raises(OutputError, match="not a demo circuit"):
        write_demo(tmp_path / "thesis.tex", synapses=1_000)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(OutputError, match=f"another demo circuit(.|\n)*seed {SEED}(.|\n)*seed 0"):
        write_demo(demo.config.parent, synapses=SYNAPSES, seed=0)


@pytest.mark.parametrize("note", ["[]", "{}", "no JSON", '{"n_neurons": null}'])
def test_damaged_note_is_refused(tmp_path: Path, note: str) -> None:
    (tmp_path / "demo.json").write_text(note, encoding="utf-8")
    with pytest.raises(OutputError, match="not a demo circuit"):
        write_demo(tmp_path, synapses=1_000)


def test_circuit_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    written = write_demo(tmp_path / "demo", synapses=1_000)
    (tmp_path / "demo" / "edges.h5").unlink()
    with pytest.raises(OutputError, match=r"lacks files(.|\n)*edges\.h5"):
        write_demo(written.config.parent, synapses=1_000)


def test_interruption_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", synapses=1_000, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_empty_folder_is_used_and_progress_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int, str]] = []
    written = write_demo(tmp_path, synapses=1_000, progress=lambda *args: told.append(args))
    assert told == [("demo", written.n_synapses, written.n_synapses, "synapses")]
    note = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert note["n_synapses"] == written.n_synapses


@pytest.mark.parametrize(("synapses", "seed"), [(0, 0), (999, 0), (10**9 + 1, 0), (1_000, -1)])
def test_options_out_of_range_are_refused(tmp_path: Path, synapses: int, seed: int) -> None:
    with pytest.raises(OptionError):
        write_demo(tmp_path / "demo", synapses=synapses, seed=seed)
    assert list(tmp_path.iterdir()) == []
