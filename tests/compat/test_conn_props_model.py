"""The reference's class of models, ours beside the installed one."""

from __future__ import annotations

import json
import types
import warnings

import numpy as np
import polars as pl
import pytest
from hand_made import FIRST_VERSION
from scipy import stats

from connprops import schema
from connprops.compat import CompatError, ConnPropsModel
from connprops.compat.errors import UnknownNameError
from connprops.errors import ConnpropsError, ConnpropsWarning
from connprops.model.model import Model, read_model

DISTRIBUTIONS = {
    "constant": {"type": "constant", "mean": 3.0},
    "normal": {"type": "normal", "mean": -1.0, "std": 2.0, "lower_bound": -2.5},
    "truncnorm": {"type": "truncnorm", "norm_loc": 0.5, "norm_scale": 0.2, "min": 0.4, "max": 1.0},
    "gamma": {"type": "gamma", "mean": 0.7, "std": 1.9, "shared_within": False},
    "narrow": {"type": "gamma", "mean": 0.7, "std": 0.0, "shared_within": False},
    "poisson": {"type": "poisson", "mean": 4.5, "dtype": "int", "shared_within": False},
    "ztpoisson": {"type": "ztpoisson", "mean": 1.3, "shared_within": False},
    "many": {"type": "ztpoisson", "mean": 17.0, "dtype": "int32", "upper_bound": 20},
    "discrete": {"type": "discrete", "val": [1.0, 2.5, 7.0], "p": [0.2, 0.3, 0.5]},
    "zero": {"type": "zero", "shared_within": False, "dtype": "float"},
    "n_syn_per_conn": {"type": "gamma", "mean": 4.0, "std": 3.0, "dtype": "int"},
}
SCIPY = {
    "normal": stats.norm(-1, 2),
    "truncnorm": stats.truncnorm(-0.5, 2.5, 0.5, 0.2),
    "gamma": stats.gamma((0.7 / 1.9) ** 2, scale=1.9**2 / 0.7),
}
CORRELATED = ["gamma", "poisson"]


@pytest.fixture
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        return pytest.importorskip("connectome_manipulator.model_building.model_types")


def described(
    distributions=DISTRIBUTIONS, *, correlation=None, sources=("A", "B µ"), targets=("A",)
):
    """Return what a model file holds, every pathway with the same distributions."""
    content = {
        "model": "ConnPropsModel",
        "src_types": list(sources),
        "tgt_types": list(targets),
        "prop_stats": {n: {s: {t: dict(distribution) for t in targets} for s in sources}
                       for n, distribution in distributions.items()},
    }  # fmt: skip
    if correlation is not None:
        matrix = [[1.0, correlation], [correlation, 1.0]]
        content["prop_cov"] = {
            "props": CORRELATED,
            "cov": {s: dict.fromkeys(targets, matrix) for s in sources},
        }
    return content


def model(*args, **kwargs):
    return ConnPropsModel.model_from_dict(described(*args, **kwargs))


def seeded(seed, call, *args, **kwargs):
    np.random.seed(seed)  # noqa: NPY002 - what scripts of the reference do
    return call(*args, **kwargs)


def test_what_it_tells():
    m = model(correlation=0.5)
    assert m.get_prop_names() == list(DISTRIBUTIONS)
    assert (m.get_src_types(), m.get_tgt_types()) == (["A", "B µ"], ["A"])
    assert m.get_distr_props("gamma", "B µ", "A") == DISTRIBUTIONS["gamma"]
    assert (
        m.get_distr_props(prop_name="gamma", src_type="A", tgt_type="A") == DISTRIBUTIONS["gamma"]
    )
    assert m.get_prop_cov_names() == CORRELATED
    np.testing.assert_array_equal(m.get_prop_cov_mat("A", "A"), [[1, 0.5], [0.5, 1]])
    assert m.has_nsynconn
    assert not model({"gamma": DISTRIBUTIONS["gamma"]}).has_nsynconn
    assert list(m.get_param_dict()) == ["src_types", "tgt_types", "prop_stats", "prop_cov"]
    assert m.get_data_dict() == {}
    text = str(m)
    assert "with #syn/conn" in text
    assert "poisson: poisson (int)" in text
    assert "correlated: gamma, poisson" in text


def test_unknown_names():
    m = model()
    for args in (("gama", "A", "A"), ("gamma", "C", "A"), ("gamma", "A", "B µ")):
        with pytest.raises(KeyError, match="Unknown") as caught:
            m.get_distr_props(*args)
        assert isinstance(caught.value, UnknownNameError)
        assert isinstance(caught.value, ConnpropsError)
        assert "\n  expected: " in str(caught.value)
    with pytest.raises(KeyError, match="WRONG"):
        m.apply(src_type="WRONG", tgt_type="A")
    with pytest.raises(CompatError, match="no correlations"):
        m.get_prop_cov_mat("A", "A")


@pytest.mark.parametrize("name", SCIPY)
def test_drawn_distributions(name):
    distribution = {k: v for k, v in DISTRIBUTIONS[name].items() if "bound" not in k}
    drawn = seeded(11, ConnPropsModel.draw_from_distribution, distribution, size=4000)
    assert stats.kstest(drawn, SCIPY[name].cdf).pvalue > 0.001


def test_drawn_counts():
    m = model()
    drawn = seeded(1, m.draw, "n_syn_per_conn", "A", "A", size=5000)
    assert drawn.dtype == np.int64
    assert drawn.min() == 1
    # A gamma distribution of shape 16/9 and scale 9/4, rounded, at least 1.
    distribution = stats.gamma(16 / 9, scale=9 / 4)
    for k in (1, 3, 6):
        expected = distribution.cdf(k + 0.5)
        error = np.sqrt(expected * (1 - expected) / 5000)
        assert np.mean(drawn <= k) == pytest.approx(expected, abs=4 * error)
    truncated = seeded(2, m.draw, "ztpoisson", "A", "A", size=5000)
    rate = 0.5496  # of mean 1.3: r / (1 - exp(-r)) = 1.2999
    assert ConnPropsModel.compute_ztpoisson_lambda(1.3) == pytest.approx(rate, abs=2e-3)
    counts = np.bincount(truncated)[1:4] / 5000
    mass = stats.poisson(rate).pmf([1, 2, 3]) / -np.expm1(-rate)
    np.testing.assert_allclose(counts, mass, atol=4 * np.sqrt(0.25 / 5000))
    assert counts[0] > 0
    assert ConnPropsModel.compute_ztpoisson_lambda(1.0) == 0
    assert set(ConnPropsModel.zero_truncated_poisson(0.0, 50)) == {1}


def test_sharing_bounds_and_types():
    m = model()
    assert len(np.unique(seeded(3, m.draw, "truncnorm", "A", "A", 500))) == 1
    assert len(np.unique(seeded(3, m.draw, "gamma", "A", "A", 500))) == 500
    drawn = [seeded(i, m.draw, "normal", "A", "A", 1)[0] for i in range(200)]
    assert min(drawn) == -2.5
    assert sum(x == -2.5 for x in drawn) == pytest.approx(200 * stats.norm.cdf(-0.75), abs=24)
    many = [seeded(i, m.draw, "many", "A", "A", 1)[0] for i in range(100)]
    assert max(many) == 20
    assert many[0].dtype == np.int32
    assert seeded(0, m.draw, "zero", "A", "A", 2).tolist() == [0, 0]
    assert seeded(0, m.draw, "narrow", "A", "A", 2).tolist() == [0.7, 0.7]
    rounded = {"type": "constant", "mean": 2.7, "dtype": "int16"}
    assert model({"x": rounded}).draw("x", "A", "A").tolist() == [3]


def test_apply():
    m = model(correlation=0.8)
    synapses = seeded(5, m.apply, src_type="A", tgt_type="A", n_syn=3000)
    assert set(synapses.columns) == DISTRIBUTIONS.keys() - {"n_syn_per_conn"}
    assert len(synapses) == 3000
    assert synapses["poisson"].dtype == np.int64
    assert stats.kstest(synapses["gamma"], SCIPY["gamma"].cdf).pvalue > 0.001
    # Spearman's rho of the normal scores is 6/pi asin(r/2) = 0.786; the counts' ties take a little.
    rho = stats.spearmanr(synapses["gamma"], synapses["poisson"]).statistic
    assert 0.74 < rho < 0.79
    sizes = [len(seeded(i, m.apply, src_type="B µ", tgt_type="A", other=1)) for i in range(60)]
    assert min(sizes) >= 1
    assert len(set(sizes)) > 4
    with pytest.raises(AssertionError, match='"n_syn" must be at least 1'):
        m.apply(src_type="A", tgt_type="A", n_syn=0)
    without = model({"gamma": DISTRIBUTIONS["gamma"]})
    with pytest.raises(AssertionError, match='"n_syn_per_conn" missing'):
        without.apply(src_type="A", tgt_type="A")


def test_correlated_properties_shared_within():
    distributions = {
        name: {**distribution, "shared_within": True}
        for name, distribution in DISTRIBUTIONS.items()
    }
    m = model(distributions, correlation=0.8)
    values = seeded(1, m.draw_cov, "A", "A", 7)
    assert [v.shape for v in values] == [(7, 1), (7, 1)]
    assert [len(np.unique(v)) for v in values] == [1, 1]
    assert model(distributions).draw_cov("A", "A", 7) == []


def test_saved_and_loaded(tmp_path):
    m = model({n: distribution for n, distribution in DISTRIBUTIONS.items() if n not in CORRELATED})
    m.save_model(tmp_path, "one")
    m.save_model(str(tmp_path), "one")  # replaced, as the reference does
    file = tmp_path / "one.json"
    again = ConnPropsModel.init_model({"file": str(file)})
    assert again.get_param_dict() == m.get_param_dict()
    ours = read_model(file)  # in this package's own form
    assert ours.properties == m.get_prop_names()
    assert ours.distribution("narrow", "B µ", "A").family.name == "gamma"
    for wrong, text in (
        ({"file": "x.json"}, "not found"),
        ({"file": str(file), "model": "ConnPropsModel"}, "Inconsistent"),
        ({"src_types": []}, "Model type not found"),
        ({"model": "ConnPropsModel", "src_types": ["A"]}, "Missing parameters"),
    ):
        with pytest.raises(CompatError, match=text):
            ConnPropsModel.init_model(wrong)
    for text in ("{", "[]"):
        file.write_text(text)
        with pytest.raises(CompatError, match="is not"):
            ConnPropsModel.model_from_file(file)


def test_infinite_bounds_are_none(tmp_path):
    m = model(
        {"x": {**DISTRIBUTIONS["gamma"], "lower_bound": 0.5, "upper_bound": np.float64(np.inf)}}
    )
    assert m.get_distr_props("x", "A", "A") == {**DISTRIBUTIONS["gamma"], "lower_bound": 0.5}
    m.save_model(tmp_path, "m")
    json.loads((tmp_path / "m.json").read_text(), parse_constant=pytest.fail)


def test_of_our_own_model():
    rows = [
        ("A", "A", "g", None, "lognormal", name, 0, value, None, -1, True, "float", None, None)
        for name, value in (("mean_log", 0.5), ("std_log", 0.4))
    ]
    table = pl.DataFrame(rows, schema=FIRST_VERSION, orient="row")
    types_ = pl.DataFrame([(side, 0, "A", "EXC", "4", 3) for side in ("source", "target")],
                          schema=schema.TYPES.polars_schema(), orient="row")  # fmt: skip
    own = Model(table, types=types_, units={"g": ""})
    with pytest.warns(ConnpropsWarning, match="has no 'lognormal'"):
        m = ConnPropsModel.from_model(own)
    drawn = [seeded(i, m.draw, "g", "A", "A")[0] for i in range(500)]
    distribution = stats.lognorm(0.4, scale=np.exp(0.5))
    assert np.mean(drawn) == pytest.approx(
        distribution.mean(), abs=4 * distribution.std() / np.sqrt(500)
    )


def test_of_our_own_model_with_correlations():
    distribution = (None, -1, True, "float", None, None)
    rows = [("A", "A", p, None, "gamma", name, 0, value, *distribution)
            for p in "gh" for name, value in (("mean", 2.0), ("std", 1.0))]  # fmt: skip
    rows.append(("A", "A", "g", "h", "copula", "correlation", 0, 0.8, *distribution))
    table = pl.DataFrame(rows, schema=FIRST_VERSION, orient="row")
    types_ = pl.DataFrame([(side, 0, "A", "EXC", "4", 3) for side in ("source", "target")],
                          schema=schema.TYPES.polars_schema(), orient="row")  # fmt: skip
    m = ConnPropsModel.from_model(Model(table, types=types_, units={"g": "", "h": ""}))
    assert m.get_prop_cov_mat("A", "A").tolist() == [[1, 0.8], [0.8, 1]]
    drawn = np.array([seeded(i, m.draw_cov, "A", "A") for i in range(500)])[:, :, 0, 0]
    rho = stats.spearmanr(*drawn.T).statistic
    assert rho == pytest.approx(6 / np.pi * np.arcsin(0.4), abs=0.08)  # Pearson 1907


BROKEN = {
    "no dictionary": (5, "is no dictionary"),
    "no type": ({"mean": 1.0}, "type missing"),
    "unknown type": ({"type": "lognormal", "mean": 1.0}, "not supported"),
    "no std": ({"type": "normal", "mean": 1.0}, "has no 'std'"),
    "empty list": ({"type": "discrete", "val": [], "p": []}, "empty"),
    "no number": ({"type": "constant", "mean": "much"}, "is no number"),
    "NaN": ({"type": "normal", "mean": float("nan"), "std": 1.0}, "no finite number"),
    "negative std": ({"type": "normal", "mean": 0.0, "std": -1.0}, "cannot be"),
    "below 1": ({"type": "ztpoisson", "mean": 0.5}, "cannot be"),
    "sum": ({"type": "discrete", "val": [1, 2], "p": [0.5, 0.6]}, "does not sum to 1.0"),
    "lengths": ({"type": "discrete", "val": [1, 2], "p": [1.0]}, "does not match length"),
    "bounds": (
        {**DISTRIBUTIONS["gamma"], "lower_bound": 2, "upper_bound": 1},
        "Data bounds error!",
    ),
    "bound": ({**DISTRIBUTIONS["gamma"], "lower_bound": "low"}, "Data bounds error!"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_distributions(broken):
    distribution, text = BROKEN[broken]
    content = described()
    content["prop_stats"]["gamma"]["B µ"]["A"] = distribution
    with pytest.raises(AssertionError, match=text) as caught:
        ConnPropsModel.model_from_dict(content)
    assert "'gamma' of 'B µ' to 'A'" in str(caught.value)


def test_broken_models():
    for change, text in (
        ({"prop_stats": 3}, "dictionary required"),
        (
            {"prop_stats": {"gamma": {"A": {"A": DISTRIBUTIONS["gamma"]}}}},
            "'gamma' of 'B µ' to 'A'",
        ),
        ({"prop_cov": {"props": ["gamma"]}}, "must name properties"),
        ({"prop_cov": {"props": ["x"], "cov": {}}}, "Unknown property"),
        ({"prop_cov": {"props": ["n_syn_per_conn"], "cov": {}}}, "Unknown property"),
        ({"prop_cov": {"props": ["gamma"], "cov": {"A": {}}}}, "missing or no matrix"),
        ({"prop_cov": {"props": ["gamma"], "cov": {"A": {"A": [[1, 0], [0, 1]]}}}}, "wrong size"),
        ({"prop_cov": {"props": ["gamma"], "cov": {"A": {"A": [[2]]}}}}, "no correlation matrix"),
        ({"prop_cov": {"props": ["gamma", "normal"],
                       "cov": {"A": {"A": [[1, 0], [0, 1]]}}}}, "some of its properties"),
    ):  # fmt: skip
        with pytest.raises(CompatError, match=text):
            ConnPropsModel.model_from_dict({**described(), **change})
    with pytest.warns(ConnpropsWarning, match="no use for 'colour'"):
        ConnPropsModel.model_from_dict({**described(), "colour": 1, "__version_info__": {}})
    upside_down = {"type": "truncnorm", "norm_loc": 0, "norm_scale": 1, "min": 2, "max": 1}
    with pytest.raises(CompatError, match="Range error"):
        model({"x": upside_down}).draw("x", "A", "A")


# Beside the reference


def test_the_interface_is_the_references(reference):
    theirs = reference.ConnPropsModel
    public = {name for name in dir(theirs) if not name.startswith("_")}
    # How the reference builds on its base class, and files of models that have tables.
    assert public - set(dir(ConnPropsModel)) == {"init_data", "init_params", "load_data_dict"}
    assert ConnPropsModel.distribution_attributes == theirs.distribution_attributes
    assert ConnPropsModel.param_names == theirs.param_names
    assert ConnPropsModel.input_names == theirs.input_names


@pytest.mark.parametrize("correlation", [None, 0.8])
def test_a_seed_gives_the_references_values(reference, correlation):
    content = described(correlation=correlation)
    models = reference.AbstractModel.model_from_dict(content), model(correlation=correlation)
    for name, distribution in DISTRIBUTIONS.items():
        drawn = [seeded(3, m.draw_from_distribution, distribution, 500) for m in models]
        np.testing.assert_allclose(drawn[1], drawn[0], rtol=1e-12, err_msg=name)
    drawn = [
        seeded(4, lambda m: [m.apply(src_type="A", tgt_type="A") for _ in range(50)], m)
        for m in models
    ]
    for theirs, ours in zip(*drawn, strict=True):
        assert list(ours.columns) == list(theirs.columns)
        for name in ours.columns:
            assert ours[name].dtype == theirs[name].dtype
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-11, err_msg=name)


def test_its_rewiring_draws_from_ours(reference, monkeypatch):
    """The reference makes synapses of new connections, from its model and from ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rewiring = pytest.importorskip(
            "connectome_manipulator.connectome_manipulation.manipulation.conn_rewiring"
        )
    import pandas as pd

    nodes = pd.DataFrame({"mtype": ["A", "B µ", "A", "A"]})
    population = types.SimpleNamespace(get=lambda ids, properties: nodes[properties].iloc[ids])
    names = ["gamma", "poisson", "truncnorm"]
    self = types.SimpleNamespace(props_sel=names, nodes=[population, population])
    edges = pd.DataFrame({"@target_node": np.zeros(1, dtype=np.int64),
                          **{name: np.zeros(1) for name in names}})  # fmt: skip
    made = []
    for cls in (reference.ConnPropsModel, ConnPropsModel):
        monkeypatch.setattr(reference, "ConnPropsModel", cls)
        m = reference.AbstractModel.init_model(described())
        assert type(m) is cls
        create = rewiring.ConnectomeRewiring._create_synapses_by_randomization
        made.append(seeded(9, create, self, np.array([0, 1, 2]), 3, m, None, edges))
    np.testing.assert_allclose(made[1][0], made[0][0], rtol=1e-12)
    np.testing.assert_array_equal(made[1][1], made[0][1])
    assert len(made[0][0]) >= 3
