"""The page of the model's format is enough: its samplers, schema and vectors hold."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import polars as pl
import pytest
from circuits import SHARED
from hand_made import Marginal, model_of, pairs
from scipy import stats as scipy_stats

from connprops import schema
from connprops.distributions.distributions import Distributions
from connprops.distributions.rows import LATER
from connprops.draw.quantiles import Quantiles
from connprops.families.registry import FAMILIES, REFERENCE_FAMILIES
from connprops.model.model import Model, read_model
from connprops.schema import N_SYN_PER_CONN

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "model-format.md").read_text(encoding="utf-8")
VECTORS = pl.read_parquet(DOCS / "conformance.parquet")
CASES = list(VECTORS.partition_by("family", "parameters", "dtype", maintain_order=True))
U = np.concatenate([[1e-9], np.linspace(0, 1, 16)[1:-1], [1 - 1e-9]])


def code(language):
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL).group(1)


@pytest.fixture(scope="module")
def sampler():
    """The functions of the page's Python code."""
    names = {}
    exec(compile(code("python"), "model-format.md", "exec"), names)  # noqa: S102 - our own text
    return names


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Run a script that has the functions of the page's JavaScript; return what it prints."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("javascript")
    (folder / "sampler.mjs").write_text(code("javascript"))

    def run(script, given):
        head = 'import { draw, value, quantile } from "./sampler.mjs";\nimport fs from "node:fs";\n'
        head += 'const given = JSON.parse(fs.readFileSync(0, "utf8"));\n'
        (folder / "main.mjs").write_text(head + script)
        done = subprocess.run(  # noqa: S603 - our own text
            [node, "main.mjs"], cwd=folder, input=json.dumps(given), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def parameters_of(case):
    return json.loads(case["parameters"][0])


def of_vectors():
    """A model with a type for each case of the vectors, and its distributions of a property."""
    names = [f"case {i}" for i in range(len(CASES))]
    marginals = {
        (name, name): Marginal(case["family"][0], parameters_of(case), dtype=case["dtype"][0],
                               lower=case["lower_bound"][0], upper=case["upper_bound"][0])
        for name, case in zip(names, CASES, strict=True)
    }  # fmt: skip
    by_dtype = {
        dtype: {key: one for key, one in marginals.items() if one.dtype == dtype}
        for dtype in ("float", "int")
    }
    return names, model_of(by_dtype, names)


# ---- the vectors


def test_the_vectors_have_every_family():
    assert set(VECTORS["family"]) == set(FAMILIES)


def test_the_vectors_are_what_the_script_makes():
    pytest.importorskip("mpmath")
    sys.path.insert(0, str(DOCS))
    try:
        import make_conformance
    finally:
        sys.path.remove(str(DOCS))
    some = {"truncnorm", "ztpoisson", "quantiles"}  # all of them take three seconds
    make_conformance.CASES = {f: make_conformance.CASES[f] for f in some}
    made = make_conformance.table()
    assert made.sort(made.columns).equals(
        VECTORS.filter(pl.col("family").is_in(some)).sort(made.columns)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['family'][0]}-{case['dtype'][0]}")
def test_families_agree_with_the_vectors(case):
    family = FAMILIES[case["family"][0]]
    parameters = {name: np.array([value]) for name, value in parameters_of(case).items()}
    u, x, density, cumulative = (case[n].cast(float).to_numpy()[None]
                                 for n in ("u", "x", "density", "cumulative"))  # fmt: skip
    np.testing.assert_allclose(family.ppf(u, parameters), x, rtol=1e-8)
    np.testing.assert_allclose(family.cdf(x, parameters), cumulative, rtol=1e-8)
    known = ~np.isnan(density)
    ours = np.exp(family.logpdf(x, parameters))
    np.testing.assert_allclose(ours[known], density[known], rtol=1e-10)


def test_quick_quantiles_agree_with_the_vectors():
    for case in CASES:
        parameters = {name: np.array([value]) for name, value in parameters_of(case).items()}
        alone = Distributions(FAMILIES[case["family"][0]], np.array([0]), parameters)
        quick = Quantiles([alone], np.array([0]))(np.zeros(len(case), dtype=np.int64),
                                                  case["u"].to_numpy())  # fmt: skip
        x = case["x"].to_numpy()
        np.testing.assert_allclose(quick, x, rtol=1e-8, atol=1e-9 * x.std())


def test_models_draw_the_values_of_the_vectors():
    names, model = of_vectors()
    for name, case in zip(names, CASES, strict=True):
        values = model.quantile(case["dtype"][0], name, name, case["u"].to_numpy())
        values = np.rint(values) if case["dtype"][0] == "int" else values
        np.testing.assert_allclose(values, case["drawn"].to_numpy(), rtol=1e-8)


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_sampler_is_short(language):
    assert sum(bool(line.strip()) for line in code(language).splitlines()) <= 60


# ---- the sampler in NumPy


def test_numpy_draws_the_values_of_the_vectors(sampler, tmp_path):
    names, model = of_vectors()
    read = sampler["read"](model.write_parquet(tmp_path / "model.parquet"))
    for name, case in zip(names, CASES, strict=True):
        law = sampler["resolve"](read, case["dtype"][0], name, name)
        values = sampler["value"](law, case["u"].to_numpy())
        np.testing.assert_allclose(values, case["drawn"].to_numpy(), rtol=1e-8)


def agrees_everywhere(sampler, file):
    """Check the quantiles of every property in every pathway of a model."""
    model, read = read_model(file), sampler["read"](file)
    n_borrowed = 0
    for name in model.properties:
        whole = model.dtype(name) == "int" or name == N_SYN_PER_CONN
        for source in model.source_types:
            for target in model.target_types:
                law = sampler["resolve"](read, name, source, target)
                n_borrowed += law["level"] >= 0
                ours = model.quantile(name, source, target, U)
                theirs = sampler["value"](law, U)
                ours = np.rint(ours) if whole else ours
                np.testing.assert_allclose(theirs, ours, rtol=1e-7, err_msg=f"{name} {source}")
    return n_borrowed


@pytest.fixture(scope="module")
def recipe_model(tmp_path_factory):
    """A model of a real circuit with pathways that borrow at several levels."""
    if not SHARED.is_dir():
        pytest.skip("the public circuits are not here")
    import connprops as cp

    folder = tmp_path_factory.mktemp("format")
    circuit = SHARED / "functionalizer_1000n" / "circuit_config.json"
    from connprops.circuit.circuit import resolve_circuit
    from connprops.export.export import export

    stats = cp.extract(cp.open_dataset(export(resolve_circuit(circuit), folder / "dataset")))
    model = cp.build(stats, correlations=True)
    model.write_json(folder / "model.json")
    return model.write_parquet(folder / "model.parquet")


def test_numpy_reads_a_real_model(sampler, recipe_model):
    assert agrees_everywhere(sampler, recipe_model) > 20


def test_numpy_reads_version_1_as_the_page_says(sampler, recipe_model):
    model = read_model(recipe_model)
    expanded = model.marginals.drop(*LATER)
    assert set(schema.MODEL.names) - set(expanded.columns) == set(LATER)
    again = Model(expanded, types=model.types, units=model.units)
    (recipe_model.parent / "first").mkdir()
    assert agrees_everywhere(
        sampler, again.write_parquet(recipe_model.parent / "first" / "m.parquet")
    )


CORRELATED = {("x", "y"): 0.7, ("x", "z"): -0.4, ("s", "t"): 0.6}
WITHIN = {"x": 0.8, "y": 0.3, "z": 0.0, "s": 1.0, "t": 1.0}


def correlated_model():
    marginals = {
        "x": Marginal("gamma", {"mean": 1.0, "std": 0.5}, shared=False, within=0.8),
        "y": Marginal("normal", {"mean": 0.0, "std": 1.0}, shared=False, within=0.3),
        "z": Marginal("poisson", {"mean": 5.0}, shared=False, dtype="int"),
        "s": Marginal("truncnorm", {"norm_loc": 0.5, "norm_scale": 0.3, "min": 0.0, "max": 1.0}),
        "t": Marginal("gamma", {"mean": 3.0, "std": 1.0}),
        N_SYN_PER_CONN: Marginal("ztpoisson", {"mean": 4.0}, dtype="int"),
    }
    return model_of(marginals, correlations=CORRELATED)


def dependence(drawn):
    """Rank correlations of properties, and of a property between synapses of a connection."""
    names = list(WITHIN)
    columns = np.stack([drawn[name].to_numpy() for name in names])
    first = drawn.unique("connection", keep="first", maintain_order=True)
    last = drawn.unique("connection", keep="last", maintain_order=True)
    other = (drawn.group_by("connection", maintain_order=True).len()["len"] > 1).to_numpy()
    alike = [scipy_stats.spearmanr(first[n].to_numpy()[other], last[n].to_numpy()[other]).statistic
             for n in names]  # fmt: skip
    return np.concatenate([scipy_stats.spearmanr(columns.T).statistic.ravel(), alike])


def test_numpy_draws_connections_as_the_model_does(sampler, tmp_path):
    model = correlated_model()
    ours = model.draw_synapses(pairs(40, 40), rng=1)
    ours = ours.with_columns(connection=pl.struct("source_node", "target_node").rank("dense"))
    read = sampler["read"](model.write_parquet(tmp_path / "model.parquet"))
    rng = np.random.default_rng(2)
    theirs = pl.concat([
        pl.DataFrame(sampler["draw"](read, "A", "A", rng)).with_columns(connection=pl.lit(i))
        for i in range(250)
    ])  # fmt: skip
    assert len(theirs) / 250 == pytest.approx(len(ours) / 1600, rel=0.15)
    np.testing.assert_allclose(dependence(theirs), dependence(ours), atol=0.25)
    for name in WITHIN:
        assert scipy_stats.ks_2samp(
            *(each.unique("connection", keep="first", maintain_order=True)[name].to_numpy()
              for each in (ours, theirs))
        ).pvalue > 1e-4  # fmt: skip


# ---- the sampler in JavaScript


def test_javascript_draws_the_values_of_the_vectors(javascript):
    cases = [case for case in CASES if case["family"][0] in REFERENCE_FAMILIES]
    assert len(cases) > 8
    laws = [
        {"type": case["family"][0], "dtype": case["dtype"][0], **parameters_of(case)}
        | ({} if case["lower_bound"][0] is None
           else {"lower_bound": case["lower_bound"][0], "upper_bound": case["upper_bound"][0]})
        for case in cases
    ]  # fmt: skip
    given = [[law, case["u"].to_list()] for law, case in zip(laws, cases, strict=True)]
    script = "console.log(JSON.stringify(given.map(([law, us]) => us.map((u) => value(law, u)))));"
    for values, case in zip(javascript(script, given), cases, strict=True):
        np.testing.assert_allclose(values, case["drawn"].to_numpy(), rtol=1e-7)


def test_javascript_draws_connections_as_the_model_does(javascript, tmp_path):
    model = model_of(
        {
            "s": Marginal("truncnorm", {"norm_loc": 0.5, "norm_scale": 0.3, "min": 0, "max": 1}),
            "t": Marginal("gamma", {"mean": 3.0, "std": 1.0}),
            "free": Marginal("normal", {"mean": 0.0, "std": 1.0}, shared=False),
            N_SYN_PER_CONN: Marginal("ztpoisson", {"mean": 4.0}, dtype="int"),
        },
        correlations={("s", "t"): 0.6},
    )
    content = json.loads(model.write_json(tmp_path / "model.json").read_text())
    script = """
    const columns = { connection: [], s: [], t: [], free: [] };
    for (let i = 0; i < 400; i += 1) for (const synapse of draw(given, "A", "A"))
      for (const name of Object.keys(columns)) columns[name].push(synapse[name] ?? i);
    console.log(JSON.stringify(columns));"""
    drawn = pl.DataFrame(javascript(script, content))
    assert len(drawn) / 400 == pytest.approx(4.0, abs=0.5)
    first = drawn.unique("connection", maintain_order=True)
    assert drawn.group_by("connection").agg(pl.col("s", "t").n_unique()).sum()["s"].item() == 400
    ours = model.draw_synapses(pairs(40, 40), rng=1)
    for name in ("s", "t", "free"):
        some = ours.unique(["source_node", "target_node"], maintain_order=True)[name]
        assert scipy_stats.ks_2samp(first[name].to_numpy(), some.to_numpy()).pvalue > 1e-4
    r = scipy_stats.spearmanr(first["s"].to_numpy(), first["t"].to_numpy()).statistic
    assert r == pytest.approx(6 / np.pi * np.arcsin(0.6 / 2), abs=0.15)
    assert abs(drawn.select(pl.corr("free", "s", method="spearman")).item()) < 0.15


# ---- the JSON Schema


SCHEMA = json.loads((files("connprops.model") / "model.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    types = SCHEMA["$defs"]["distribution"]["properties"]["type"]["enum"]
    assert set(types) == set(REFERENCE_FAMILIES)


def test_the_schema_has_the_parameters_of_the_families():
    for name, family in REFERENCE_FAMILIES.items():
        parameters = {p.name: [0.5, 1] if p.is_list else 1.0 for p in family.parameters}
        law = {"type": name, "shared_within": 1.0, "dtype": "float", **parameters}
        model = {"model": "ConnPropsModel", "src_types": ["A"], "tgt_types": ["A"],
                 "prop_stats": {"x": {"A": {"A": law}}}}  # fmt: skip
        assert VALIDATOR.is_valid(model)
        for parameter in parameters:
            less = {key: value for key, value in law.items() if key != parameter}
            assert not VALIDATOR.is_valid({**model, "prop_stats": {"x": {"A": {"A": less}}}})


def test_written_models_are_valid(recipe_model):
    content = json.loads(recipe_model.with_name("model.json").read_text(encoding="utf-8"))
    VALIDATOR.validate(content)
    VALIDATOR.validate(json.loads(json.dumps(content)))


def test_models_with_correlations_and_bounds_are_valid(tmp_path):
    marginals = {name: Marginal("gamma", {"mean": 1.0, "std": 0.5}, lower=0.1) for name in "ab"}
    model = model_of(marginals, correlations={("a", "b"): 0.5})
    content = json.loads(model.write_json(tmp_path / "model.json").read_text())
    assert content["prop_cov"]["props"] == ["a", "b"]
    VALIDATOR.validate(content)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model": "Other"}, "'ConnPropsModel' was expected"),
        ({"src_types": ["A", "A"]}, "non-unique"),
        ({"more": 1}, "'more'"),
        ({"prop_cov": {"props": ["x"]}}, "'cov' is a dependency"),
        ({"prop_stats": {"x": {"A": {"A": {"type": "cauchy"}}}}}, "is not one of"),
        ({"prop_stats": {"x": {"A": {"A": {"type": "normal", "mean": 1, "std": -1}}}}}, "minimum"),
        ({"prop_stats": {"x": {"A": {"A": {"type": "zero", "scale": 1}}}}}, "'scale'"),
    ],
)
def test_the_schema_refuses_other_files(change, fault):
    model = {"model": "ConnPropsModel", "src_types": ["A"], "tgt_types": ["A"], "prop_stats": {}}
    VALIDATOR.validate(model)
    with pytest.raises(jsonschema.ValidationError, match=fault):
        VALIDATOR.validate({**model, **change})
