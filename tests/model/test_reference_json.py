"""Models in the format of connectome-manipulator, which the installed one reads and writes."""

from __future__ import annotations

import json
import warnings

import numpy as np
import polars as pl
import pytest
from circuits import two_types
from hand_made import FIRST_VERSION, Marginal, model_of
from known_distributions import PARAMETERS, SCIPY

from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning, ModelError, OutputError
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.model import Model, read_model
from connprops.model.reference_json import to_json
from connprops.statistics.extract import extract

EXACT = {"normal", "truncnorm", "gamma", "poisson", "ztpoisson", "exponential", "uniform"}
MOST = 256  # values that stand for a distribution
ONE_TYPE = pl.DataFrame(
    [(side, 0, "A", "EXC", "4", 3) for side in ("source", "target")],
    schema=schema.TYPES.polars_schema(),
    orient="row",
)
SPECS = {
    "a": {"type": "constant", "mean": 1 / 3},
    "b": {"type": "normal", "mean": -2.0, "std": 0.1, "lower_bound": -3.0, "upper_bound": 5.0},
    "c": {"type": "truncnorm", "norm_loc": 0.5, "norm_scale": 0.2, "min": 0.0, "max": 1.0},
    "d": {"type": "gamma", "mean": 0.7, "std": 1.9, "lower_bound": 0.0},
    "e": {"type": "poisson", "mean": 4.5, "dtype": "int"},
    "f": {"type": "ztpoisson", "mean": 1.3, "dtype": "int", "upper_bound": 30},
    "g": {"type": "discrete", "val": [1.0, 5.0, 2.5], "p": [0.5, 0.25, 0.25]},
    "h": {"type": "zero", "shared_within": False},
}

# The reference calls what later pandas and numpy deprecate.
of_the_reference = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        return pytest.importorskip("connectome_manipulator.model_building.model_types")


def model(**distributions):
    """Return a model of one pathway: for each property a family and its parameters."""
    rows = [
        ("A", "A", name, None, family, parameter, position, value, None, -1,
         None if name == "n_syn_per_conn" else True, "float", None, None)
        for name, (family, distribution) in distributions.items()
        for parameter, given in distribution.items()
        for position, value in enumerate(given if isinstance(given, list) else [given])
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=FIRST_VERSION, orient="row")
    return Model(table, types=ONE_TYPE, units=dict.fromkeys(distributions, ""))


def quietly(m):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)
        return to_json(m)


def strictly(text):
    """Return what JSON says, which knows neither NaN nor infinity."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def written(spec):
    return {"model": "ConnPropsModel", "src_types": ["A"], "tgt_types": ["A"],
            "prop_stats": {"g": {"A": {"A": spec}}}}  # fmt: skip


def test_keys_and_their_order():
    m = model(g=("gamma", {"mean": 2.0, "std": 0.5}), n_syn_per_conn=("ztpoisson", {"mean": 3.0}))
    content = strictly(to_json(m))
    assert list(content) == ["src_types", "tgt_types", "prop_stats", "prop_cov", "data_keys",
                             "model", "__version_info__"]  # fmt: skip
    assert content["src_types"] == content["tgt_types"] == ["A"]
    assert (content["prop_cov"], content["data_keys"]) == ({}, [])
    assert content["model"] == "ConnPropsModel"
    assert list(content["prop_stats"]) == ["g", "n_syn_per_conn"]
    g, n = (of["A"]["A"] for of in content["prop_stats"].values())
    assert list(g.items()) == [("type", "gamma"), ("mean", 2.0), ("std", 0.5),
                               ("shared_within", 1.0), ("dtype", "float")]  # fmt: skip
    assert n == {"type": "ztpoisson", "mean": 3.0, "dtype": "float"}


@of_the_reference
@pytest.mark.parametrize("family", list(SCIPY))
def test_the_reference_draws_our_distributions(reference, tmp_path, family):
    distributions = PARAMETERS[family]
    m = model(**{f"p{i}": (family, distribution) for i, distribution in enumerate(distributions)})
    if family in EXACT:
        m.write_json(tmp_path / "model.json")  # without a warning
    else:
        with pytest.warns(ConnpropsWarning, match=rf"has no '{family}' \(for 'p0'"):
            m.write_json(tmp_path / "model.json")
    theirs = reference.AbstractModel.model_from_file(str(tmp_path / "model.json"))
    assert theirs.get_prop_names() == m.properties
    np.random.seed(7)  # noqa: NPY002 - the reference draws from the global state
    n = 4000
    for name, distribution in zip(m.properties, distributions, strict=True):
        spec = theirs.get_distr_props(name, "A", "A")
        drawn = np.sort(theirs.draw_from_distribution(spec, size=n))
        truth = SCIPY[family](**distribution)
        at, first = np.unique(drawn, return_index=True)
        upto = np.append(first[1:], n) / n
        distance = np.abs(upto - truth.cdf(at)).max()
        # Kolmogorov's 0.999 quantile; slices of 256 are at most 3 / 256 wide.
        assert distance < 1.95 / np.sqrt(n) + (0 if family in EXACT else 3 / MOST)


@pytest.mark.parametrize("family", [name for name in SCIPY if name not in EXACT])
def test_what_is_lost_is_little(family):
    names = [f"p{i}" for i in range(len(PARAMETERS[family]))]
    marginals = ((family, parameters) for parameters in PARAMETERS[family])
    content = strictly(quietly(model(**dict(zip(names, marginals, strict=True)))))
    for name, distribution in zip(names, PARAMETERS[family], strict=True):
        spec, truth = content["prop_stats"][name]["A"]["A"], SCIPY[family](**distribution)
        values, p = np.array(spec["val"]), np.array(spec["p"])
        assert spec["type"] == "discrete"
        assert p.sum() == pytest.approx(1, abs=1e-12)
        assert len(values) <= MOST
        q = (np.arange(200_000) + 0.5) / 200_000
        drawn = values[np.searchsorted(np.cumsum(p), q).clip(max=len(p) - 1)]
        moved = np.abs(drawn - truth.ppf(q)).mean()
        if hasattr(truth.dist, "pmf") and truth.ppf(1 - 1e-10) - truth.ppf(1e-10) < MOST:
            np.testing.assert_allclose(p, truth.pmf(values), rtol=1e-8)
            assert moved < 1e-4 * truth.std()
        else:
            assert moved < 0.011 * truth.std()
            assert np.sum(values * p) == pytest.approx(truth.mean(), abs=2e-3 * truth.std())
            spread = np.sqrt(np.sum((values - np.sum(values * p)) ** 2 * p))
            assert spread == pytest.approx(truth.std(), rel=0.05)


def test_families_that_others_hold(tmp_path):
    m = model(a=("exponential", {"mean": 3.0}), b=("uniform", {"min": -1.0, "max": 4.0}),
              c=("exponential", {"mean": 0.0}), d=("gamma", {"mean": 0.0, "std": 0.0}))  # fmt: skip
    again = read_model(m.write_json(tmp_path / "model.json"))
    x = np.linspace(0.01, 3.9, 20)
    for name in "ab":
        np.testing.assert_allclose(again.cdf(name, "A", "A", x), m.cdf(name, "A", "A", x),
                                   rtol=1e-7)  # fmt: skip
    for name in "cd":  # the reference draws no gamma of mean 0
        assert again.distribution(name, "A", "A").family.name == "constant"
        assert again.draw(name, "A", "A", 2).tolist() == [0, 0]


@of_the_reference
def test_what_the_reference_wrote_comes_back(reference, tmp_path):
    types = ["A", "B µ"]
    stats = {
        name: {s: {t: {**spec, "dtype": spec.get("dtype", "float")} for t in types} for s in types}
        for name, spec in SPECS.items()
    }
    for of in stats.values():
        for spec in (spec for by_target in of.values() for spec in by_target.values()):
            spec.setdefault("shared_within", 1.0)
    stats["g"]["A"]["B µ"] = {"type": "discrete", "val": [7], "p": [1], "dtype": "float",
                              "shared_within": False}  # fmt: skip
    nested = {"type": "constant", "mean": 2.0, "dtype": "int"}
    stats["n_syn_per_conn"] = {s: dict.fromkeys(types, nested) for s in types}
    theirs = reference.ConnPropsModel(src_types=types, tgt_types=types, prop_stats=stats)
    theirs.save_model(str(tmp_path), "theirs")
    ours = read_model(tmp_path / "theirs.json")
    assert ours.properties == [*SPECS, "n_syn_per_conn"]
    assert ours.source_types == ours.target_types == types
    assert ours.dtype("e") == "int"
    assert ours.dtype("c") == "float"
    assert ours.distribution("d", "A", "B µ").parameters == {"mean": [0.7], "std": [1.9]}
    assert ours.distribution("g", "A", "B µ").parameters["val"][0, 0] == 7
    back = strictly(to_json(ours))["prop_stats"]
    assert back == stats


def test_what_may_be_absent(tmp_path):
    file = tmp_path / "model.json"
    content = written({"type": "normal", "mean": 1, "std": 0}) | {"__more__": 1}
    counts = {"A": {"A": {"type": "normal", "mean": 2.5, "std": 1.0}}}
    content["prop_stats"] = {"n_syn_per_conn": counts, **content["prop_stats"]}
    file.write_text(json.dumps(content))
    m = read_model(file)
    assert m.properties == ["g", "n_syn_per_conn"]
    assert m.table.filter(pl.col("property") == "g")["shared_within"].all()
    assert m.dtype("g") == "float"
    assert m.draw("n_syn_per_conn", "A", "A", 9).dtype == np.int64
    content["prop_cov"] = {"props": ["g"], "cov": {"A": {"A": [[1.0]]}}}
    file.write_text(json.dumps(content))
    assert read_model(file).correlations.is_empty()  # of one property there are none


def test_a_model_with_gaps_is_not_written(tmp_path):
    two = pl.concat([ONE_TYPE, pl.DataFrame([("target", 1, "B", "INH", "4", 3)], orient="row",
                                            schema=ONE_TYPE.schema)])  # fmt: skip
    m = Model(model(g=("poisson", {"mean": 2.0})).table, types=two, units={"g": ""})
    with pytest.raises(ModelError, match="no 'g' for pathway 'A' to 'B'"):
        m.write_json(tmp_path / "model.json")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_overwritten_unasked(tmp_path):
    m = model(g=("poisson", {"mean": 2.0}))
    file = m.write_json(tmp_path / "model.json")
    with pytest.raises(OutputError, match=r"model\.json exists already"):
        m.write_json(file)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not a model"),
        ("[" * 100_000, "not a model"),
        ("null", "not a model"),
        ('{"model": "ConnProb2ndOrder"}', "another kind of model"),
        ('{"model": "ConnPropsModel"}', "not a model"),
        (json.dumps(written({"type": "gamma", "mean": 1})), "KeyError: 'std'"),
        (json.dumps(written({"type": "cauchy"})), "Unknown distribution of 'g' for 'A' to 'A'"),
        (json.dumps(written({"type": "poisson", "mean": None})), "not a model"),
        (json.dumps(written({"type": "poisson", "mean": 10**400})), "not a model"),
        (json.dumps(written({"type": "poisson", "mean": float("nan")})), "no number"),
        (json.dumps(written({"type": "poisson", "mean": [1, 2]})), "several values of 'mean'"),
        (json.dumps(written({"type": "discrete", "val": [], "p": []})), "'val' of 'g' .* is empty"),
        (json.dumps(written({"type": "discrete", "val": [1], "p": [0.9]})), "do not sum to 1"),
        (json.dumps(written({"type": "zero", "lower_bound": 2, "upper_bound": 1})), "lower bound"),
        (json.dumps(written({"type": "zero"}) | {"src_types": ["A", "A"]}), "occur twice"),
        (
            json.dumps(written({"type": "zero"}) | {"src_types": [1]}),
            r"`int` - at `\$\.src_types\[0\]`",
        ),
        (json.dumps(written({"type": "zero"}) | {"tgt_types": ["\ud800"]}), "not a model"),
        (json.dumps(written({"type": "zero"}) | {"tgt_types": ["A", "B"]}), "KeyError: 'B'"),
    ],
)  # fmt: skip
def test_what_is_no_such_model_is_refused(tmp_path, text, says):
    file = tmp_path / "model.json"
    file.write_text(text)
    with pytest.raises(ModelError, match=says):
        read_model(file)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"no\.json cannot be read"):
        read_model(tmp_path / "no.json")


@of_the_reference
def test_a_model_of_a_circuit_there_and_back(reference, tmp_path):
    families = {"conductance": "gamma", "u_syn": "truncnorm", "n_rrp_vesicles": "shifted_poisson",
                "n_syn_per_conn": "discrete", "decay_time": "constant"}  # fmt: skip
    ds = Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d"))
    m = build(extract(ds), distr_types=families)
    with pytest.warns(ConnpropsWarning, match="has no 'shifted_poisson'"):
        m.write_json(tmp_path / "model.json")
    theirs = reference.AbstractModel.model_from_file(str(tmp_path / "model.json"))
    assert theirs.get_src_types() == m.source_types
    np.random.seed(1)  # noqa: NPY002 - the reference draws from the global state
    synapses = theirs.apply(src_type="L4_PC", tgt_type="L5_BC")
    assert set(synapses.columns) == set(m.properties) - {"n_syn_per_conn"}
    assert len(synapses) >= 1
    for name in families:
        spec = theirs.get_distr_props(name, "L4_PC", "L5_BC")
        drawn = theirs.draw_from_distribution(spec, size=3000)
        grid = np.unique(drawn)
        ecdf = np.searchsorted(np.sort(drawn), grid, side="right") / drawn.size
        assert np.abs(ecdf - m.cdf(name, "L4_PC", "L5_BC", grid)).max() < 0.04, name
    again = read_model(tmp_path / "model.json")
    for name in ("conductance", "u_syn", "decay_time"):
        ours, back = (x.distribution(name, "L4_PC", "L5_BC").parameters for x in (m, again))
        assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in back.items()}


def test_correlations_within_connections_become_true_or_false():
    normal = {"mean": 1.0, "std": 0.3}
    m = model_of(
        {
            "g": Marginal("normal", normal, shared=False, within=0.88),
            "h": Marginal("normal", normal, shared=False, within=0.3),
            "i": Marginal("normal", normal),
            "j": Marginal("normal", normal, shared=False),
            "n_syn_per_conn": Marginal("poisson", {"mean": 3.0}),
        },
        correlations={("g", "h"): 0.5},
    )
    with pytest.warns(ConnpropsWarning) as caught:
        written = json.loads(to_json(m))
    shared = {name: written["prop_stats"][name]["A"]["A"].get("shared_within") for name in "ghij"}
    assert shared == {"g": 1.0, "h": 0.0, "i": 1.0, "j": 0.0}
    said = [str(w.message) for w in caught]
    assert "values of 'g' as shared within connections where" in said[0]
    assert "correlate by 0.88 to 0.88" in said[0]
    assert "values of 'h' as independent" in said[1]
    assert "without correlations are" in said[2]
    assert len(said) == 3


def test_properties_that_are_alike_keep_their_correlations():
    normal = Marginal("normal", {"mean": 1.0, "std": 0.3}, shared=False, within=0.7)
    m = model_of({"g": normal, "h": normal}, correlations={("g", "h"): 0.5})
    written = json.loads(quietly(m))
    assert written["prop_cov"]["cov"]["A"]["A"] == [[1.0, 0.5], [0.5, 1.0]]
    assert written["prop_stats"]["g"]["A"]["A"]["shared_within"] == 1.0
