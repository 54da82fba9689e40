"""Models for other builders: what is written is the nearest that they have, and its distance."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from circuits import SHARED
from hand_made import Marginal, model_of
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.errors import ModelError, OptionError
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.conversion import convert, write_distances
from connprops.model.model import read_model
from connprops.model.nearest import CUT_NORMAL, GAMMA, NORMAL, PROBABILITIES, UNIFORM, nearest
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.extract import extract

CIRCUIT = SHARED / "functionalizer_1000n"
CUT = {"norm_loc": 0.25, "norm_scale": 0.13, "min": 0.12, "max": 0.38}
RECIPE = {
    "conductance": Marginal("gamma", {"mean": 0.3, "std": 0.2}),
    "decay_time": Marginal("truncnorm", {"norm_loc": 8, "norm_scale": 2, "min": 6, "max": 10}),
    "u_syn": Marginal("truncnorm", CUT),
    "depression_time": Marginal("lognormal", {"mean_log": 6.0, "std_log": 0.3}),
    "facilitation_time": Marginal("gamma", {"mean": 17.0, "std": 5.0}),
    "n_rrp_vesicles": Marginal("ztpoisson", {"mean": 1.8}, dtype="int"),
    "delay": Marginal("normal", {"mean": 1.0, "std": 0.2}, shared=False),
    N_SYN_PER_CONN: Marginal("ztpoisson", {"mean": 4.0}, dtype="int"),
}


def law(name, p):
    """A distribution of scipy."""
    if name == "gamma":
        return scipy_stats.gamma((p["mean"] / p["std"]) ** 2, scale=p["std"] ** 2 / p["mean"])
    loc, scale = p["norm_loc"], p["norm_scale"]
    ends = ((p[end] - loc) / scale for end in ("min", "max"))
    return scipy_stats.truncnorm(*ends, loc, scale)


def area_between(a, b):
    """The Wasserstein distance of two distributions of scipy, by quadrature."""
    x = np.linspace(min(a.ppf(1e-7), b.ppf(1e-7)), max(a.ppf(1 - 1e-7), b.ppf(1 - 1e-7)), 20_001)
    return np.trapezoid(np.abs(a.cdf(x) - b.cdf(x)), x)


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        (scipy_stats.gamma(2.0, scale=0.4), GAMMA, {"mean": 0.8, "std": 0.4 * np.sqrt(2)}),
        (scipy_stats.norm(-3.0, 0.5), NORMAL, {"mean": -3.0, "std": 0.5}),
        (scipy_stats.uniform(2.0, 6.0), UNIFORM, {"min": 2.0, "max": 8.0}),
        (law("truncnorm", CUT), CUT_NORMAL, {"norm_loc": 0.25, "norm_scale": 0.13}),
    ],
)
def test_the_nearest_of_a_family_to_one_of_its_own_is_that_itself(values, target, expected):
    found = nearest(values.ppf(PROBABILITIES), [target])
    for name, value in expected.items():
        assert found.parameters[name] == pytest.approx(value, rel=5e-3)
    assert found.wasserstein < 1e-3 * values.std()


def test_the_nearest_is_nearer_than_its_neighbours_and_its_distance_is_right():
    away = scipy_stats.lognorm(0.6, scale=2.0)
    found = nearest(away.ppf(PROBABILITIES), [GAMMA])
    p = found.parameters
    assert found.wasserstein == pytest.approx(area_between(away, law("gamma", p)), rel=0.03)
    for name in p:
        for factor in (0.97, 1.03):
            other = law("gamma", {**p, name: p[name] * factor})
            assert area_between(away, other) > 0.999 * found.wasserstein


def test_a_recipe_has_a_class_and_a_rule_for_each_pair_of_classes():
    made = convert(model_of(RECIPE, ("A", "B"), {("conductance", "u_syn"): 0.3}), "recipe")
    content = json.loads(made.text)["synapse_properties"]
    assert content["rules"] == [
        {"src_synapse_class": "EXC", "dst_synapse_class": "EXC", "class": "E1"}
    ]
    (entry,) = content["classes"]
    assert entry["conductance_mu"] == pytest.approx(0.3, rel=1e-5)
    assert entry["conductance_sd"] == pytest.approx(0.2, rel=1e-5)
    assert entry["decay_time_mu"] == pytest.approx(8, rel=1e-3)
    assert entry["decay_time_sd"] == pytest.approx(2, rel=1e-2)
    assert entry["n_rrp_vesicles_mu"] == pytest.approx(1.8, rel=1e-3)
    assert "n_rrp_vesicles_sd" not in entry
    lost = "\n".join(made.losses)
    for text in ("'delay'", "'n_syn_per_conn'", "4 correlations", "differences", "intervals"):
        assert text in lost
    far = made.distances.filter(property="depression_time")
    assert far["written"].to_list() == ["gamma"] * 4
    p = {"mean": entry["depression_time_mu"], "std": entry["depression_time_sd"]}
    truth = area_between(scipy_stats.lognorm(0.3, scale=np.exp(6.0)), law("gamma", p))
    np.testing.assert_allclose(far["wasserstein"], truth, rtol=0.05)
    assert made.distances.filter(property="conductance")["relative"].max() < 1e-6


def test_a_recipe_says_what_varies_within_connections():
    changed = {**RECIPE, "u_syn": Marginal("truncnorm", CUT, shared=False, within=0.4)}
    lost = "\n".join(convert(model_of(changed), "recipe").losses)
    assert "values of u_syn that differ within connections, in 1 of 1" in lost


def test_a_recipe_lacks_nothing():
    some = {name: RECIPE[name] for name in ("conductance", "u_syn")}
    with pytest.raises(ModelError, match="lacks 'decay_time'"):
        convert(model_of(some), "recipe")


def test_blocks_have_the_distributions_of_each_pathway():
    model = model_of(RECIPE, ("A", "B"))
    model.facts["identity"] = {"source_type": "mtype", "target_type": "mtype",
                               "source_population": "all", "target_population": "all",
                               "edges": {"population": "all__all"}}  # fmt: skip
    made = convert(model, "obi-one")
    content = json.loads(made.text)
    assert len(content["synaptic_models"]) == len(content["synapse_model_assigners"]) == 4
    assigner = content["synapse_model_assigners"]["A to B"]
    assert assigner["edge_population_name"] == "all__all"
    source = content["neuron_sets"][assigner["source_neuron_set"]["block_name"]]
    assert source["property_filter"]["filter_dict"] == {"mtype": ["A"]}
    synapse = content["synaptic_models"][assigner["synaptic_model"]["block_name"]]
    assert synapse["type"] == "ExcitatoryTsodyksMarkramSynapticModel"
    assert synapse["conductance_distribution_shared_within"] is True
    assert synapse["delay_shared_within"] is False

    def block(field):
        return content["distributions"][synapse[field]["block_name"]]

    assert block("conductance_distribution") == {
        "type": "GammaDistribution", "shape": 2.25, "scale": pytest.approx(0.133333)
    }  # fmt: skip
    assert block("delay_distribution") == {
        "type": "NormalDistribution", "mean": 1.0, "standard_deviation": 0.2
    }  # fmt: skip
    assert block("depression_time") == {
        "type": "LogNormalDistribution", "mean": 6.0, "sigma": 0.3
    }  # fmt: skip
    counts = block("n_rrp_vesicles_distribution")
    assert counts["type"] == "IntDiscreteDistribution"
    assert np.dot(counts["values"], counts["probabilities"]) == pytest.approx(1.8, rel=0.01)
    # One block serves all pathways that have the same distribution.
    assert len(content["distributions"]) == 7
    exact = made.distances.filter(pl.col("property").is_in(["conductance", "delay"]))
    assert exact["wasserstein"].max() == 0
    assert "2 correlations" not in "\n".join(made.losses)


# The fields of obi-one's classes, none of which takes another one (2026, its main branch).
_SEED = ("random_seed", "min", "max", "include_min", "include_max")
_TM = ("u_hill_coefficient_distribution", "conductance_distribution",
       "conductance_scale_factor_distribution", "fascilitation_time", "depression_time",
       "n_rrp_vesicles_distribution", "decay_time", "u_syn", "delay_distribution",
       "u_hill_coefficient_shared_within", "conductance_distribution_shared_within",
       "conductance_scale_factor_distribution_shared_within", "fascilitation_time_shared_within",
       "depression_time_shared_within", "n_rrp_vesicles_shared_within", "decay_time_shared_within",
       "u_syn_shared_within", "delay_shared_within")  # fmt: skip
_FIELDS = {
    "FloatConstantDistribution": ("value", *_SEED),
    "IntConstantDistribution": ("value", *_SEED),
    "GammaDistribution": ("shape", "scale", "shift", *_SEED),
    "NormalDistribution": ("mean", "standard_deviation", *_SEED),
    "LogNormalDistribution": ("mean", "sigma", *_SEED),
    "FloatUniformDistribution": ("low", "high", *_SEED),
    "ExponentialDistribution": ("scale", "shift", *_SEED),
    "IntDiscreteDistribution": ("values", "probabilities", *_SEED),
    "ExcitatoryTsodyksMarkramSynapticModel": _TM,
    "InhibitoryTsodyksMarkramSynapticModel": _TM,
    "BiophysicalPopulationPropertyNeuronSet": (
        "population", "property_filter", "sample_percentage", "sample_seed"),
    "NeuronPropertyFilter": ("filter_dict",),
    "InterNeuronSetSynapticModelAssigner": (
        "source_neuron_set", "targeted_neuron_set", "overwrite_if_exists", "random_seed",
        "edge_population_name", "synaptic_model"),
    **dict.fromkeys(
        ("AllDistributionsReference", "SynapticModelReference", "BiophysicalNeuronSetReference"),
        ("block_dict_name", "block_name")),
}  # fmt: skip
_POSITIVE = ("shape", "scale", "standard_deviation", "sigma")


def _blocks_of(content):
    if isinstance(content, dict):
        if "type" in content:
            yield content
        for part in content.values():
            yield from _blocks_of(part)


def test_blocks_have_fields_that_obi_one_knows():
    marginals = {
        **RECIPE,
        "facilitation_time": Marginal("exponential", {"mean": 17.0}),
        "u_hill_coefficient": Marginal("constant", {"mean": 2.0}),
        "conductance_scale_factor": Marginal("uniform", {"min": 0.5, "max": 1.0}),
    }
    content = json.loads(convert(model_of(marginals, ("A", "B")), "obi-one").text)
    assert {*content} == {
        "distributions", "synaptic_models", "neuron_sets", "synapse_model_assigners"
    }  # fmt: skip
    found = set()
    for block in _blocks_of(content):
        fields = {*block} - {"type"}
        assert fields <= {*_FIELDS[block["type"]]}, block
        assert all(block[name] > 0 for name in _POSITIVE if name in block), block
        found.add(block["type"])
        if "block_name" in fields:
            assert block["block_name"] in content[block["block_dict_name"]]
    assert {*_FIELDS} - found == {
        "IntConstantDistribution", "InhibitoryTsodyksMarkramSynapticModel"
    }  # fmt: skip
    synapse = content["synaptic_models"]["A to B"]
    assert {name for name in _TM if name in synapse} == {*_TM}


def test_the_reference_json_comes_back(tmp_path):
    model = model_of({"x": Marginal("weibull", {"shape": 2.0, "scale": 1.0})})
    made = convert(model, "reference")
    file = made.write(tmp_path / "model.json")
    back = read_model(file).quantile("x", "A", "A", 0.5)
    assert back == pytest.approx(np.log(2) ** 0.5, rel=0.01)
    (far,) = made.distances.to_dicts()
    assert (far["distribution"], far["written"]) == ("weibull", "discrete")
    assert 0 < far["relative"] < 0.02
    assert any("no 'weibull'" in loss for loss in made.losses)


def test_csv_has_the_rows_of_the_table(tmp_path):
    model = model_of(RECIPE)
    file = convert(model, "csv").write(tmp_path / "model.csv")
    read = pl.read_csv(file)
    assert read["value"].to_list() == model.table["value"].to_list()
    assert set(read.columns) == {*model.table.columns, "unit"}


def test_names_are_no_formulas_in_csv(tmp_path):
    model = model_of({"a": Marginal("normal", {"mean": 1.0, "std": 1.0})}, types=("=1+1", "B"))
    made = convert(model, "csv")
    assert "\n'=1+1,B," in made.text
    far = write_distances(convert(model, "reference").distances, tmp_path / "far.csv")
    assert "'=1+1,'=1+1,a,normal" in far.read_text()
    with pytest.raises(OptionError, match=r"Unknown format: '\.txt'"):
        write_distances(made.distances, tmp_path / "far.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "nest"}, "Unknown format: 'nest'"),
        ({"to": "recipe", "by": "layer"}, "Unknown grouping: 'layer'"),
        ({"to": "csv", "by": "class"}, "csv has each pathway by itself"),
    ],
)
def test_what_cannot_be_converted_is_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        convert(model_of(RECIPE), **arguments)


def test_the_command_writes_file_and_distances(tmp_path):
    model = model_of(RECIPE).write_parquet(tmp_path / "model.parquet")
    out, far = tmp_path / "recipe.json", tmp_path / "far.csv"
    done = CliRunner().invoke(
        app, ["convert", str(model), "--to", "recipe", "-o", str(out), "--distances", str(far)]
    )
    assert done.exit_code == 0, done.output
    assert "Not carried over:" in done.output
    assert json.loads(out.read_text())["synapse_properties"]["classes"]
    assert pl.read_csv(far)["wasserstein"].is_not_null().all()
    again = CliRunner().invoke(app, ["convert", str(model), "--to", "csv", "-q"])
    assert again.stdout.startswith("source_type,")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
def test_the_recipe_of_a_circuit_is_that_it_was_made_by(tmp_path):
    """Each class has the recipe's numbers, within the errors that so many connections leave."""
    stats = extract(
        Dataset(export(resolve_circuit(CIRCUIT / "circuit_config.json"), tmp_path / "d"))
    )
    made = json.loads(convert(build(stats), "recipe").text)["synapse_properties"]
    truth = json.loads((CIRCUIT / "recipe.json").read_text())["synapse_properties"]
    found = {entry["class"]: entry for entry in made["classes"]}
    known = {entry["class"]: entry for entry in truth["classes"]}
    class_of = {
        (r["src_synapse_class"], r["dst_synapse_class"]): r["class"] for r in truth["rules"]
    }
    types = stats.types.select("side", "type", "synapse_class")
    sizes = stats.pathways.collect()
    for side in ("source", "target"):
        of_side = types.filter(side=side).select(
            pl.col("type").cast(pl.String).alias(f"{side}_type"),
            pl.col("synapse_class").cast(pl.String).alias(side),
        )
        sizes = sizes.with_columns(pl.col(f"{side}_type").cast(pl.String)).join(
            of_side, on=f"{side}_type"
        )
    for rule in made["rules"]:
        pair = rule["src_synapse_class"], rule["dst_synapse_class"]
        n = sizes.filter(source=pair[0], target=pair[1])["n_connections"].sum()
        ours, theirs = found[rule["class"]], known[class_of[pair]]
        assert rule["class"][0] == class_of[pair][0]
        for name in ("conductance", "depression_time", "facilitation_time", "decay_time", "u_syn"):
            laws = []
            for of in (ours, theirs):
                mu, sd = of[f"{name}_mu"], of[f"{name}_sd"]
                cut = {"norm_loc": mu, "norm_scale": sd, "min": max(mu - sd, 0), "max": mu + sd}
                is_cut = name in ("decay_time", "u_syn")
                laws.append(law(*(("truncnorm", cut) if is_cut
                                  else ("gamma", {"mean": mu, "std": sd}))))  # fmt: skip
            error = laws[1].std() / np.sqrt(n)
            assert area_between(*laws) < 3 * error, (pair, name)
            assert abs(laws[0].mean() - laws[1].mean()) < 3 * error, (pair, name)
        assert ours["n_rrp_vesicles_mu"] == 1  # what any mu up to 1 draws
