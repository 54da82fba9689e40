"""Copulas: the nearest matrix, numbers drawn, the reference's prop_cov."""

import json
import warnings

import numpy as np
import polars as pl
import pytest
from hand_made import FIRST_VERSION
from scipy import stats

from connprops import schema
from connprops.arrays.normal_scores import latent_correlations, normal_scores
from connprops.distributions.copula import Copulas, nearest_correlations
from connprops.errors import ConnpropsWarning, ModelError
from connprops.model.model import Model, read_model
from connprops.model.reference_json import to_json


def test_the_nearest_matrix_is_higham_s():
    # The example of Higham 2002, section 4: a tridiagonal matrix of ones, of order 3.
    given = np.array([[[1.0, 1, 0], [1, 1, 1], [0, 1, 1]]])
    expected = [[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]]
    np.testing.assert_allclose(nearest_correlations(given)[0], expected, atol=1e-4)


def test_nearest_matrices_are_positive_definite_and_no_further_than_others():
    rng = np.random.default_rng(2)
    given = np.tanh(rng.normal(0, 1, (200, 5, 5)))
    given = (given + given.swapaxes(1, 2)) / 2
    given[:, np.arange(5), np.arange(5)] = 1
    definite = np.linalg.eigvalsh(given)[:, 0] > 1e-3
    found = nearest_correlations(given)
    assert definite.any()
    assert not definite.all()
    np.testing.assert_array_equal(found[definite], given[definite])
    assert (np.linalg.eigvalsh(found) > 0).all()
    np.linalg.cholesky(found)
    np.testing.assert_array_equal(found, found.swapaxes(1, 2))
    assert (np.diagonal(found, axis1=1, axis2=2) == 1).all()
    # Clipping eigenvalues and scaling is the usual shortcut, which goes further.
    values, vectors = np.linalg.eigh(given)
    clipped = (vectors * np.maximum(values, 1e-6)[:, None]) @ vectors.swapaxes(1, 2)
    scale = np.sqrt(np.diagonal(clipped, axis1=1, axis2=2))
    clipped /= scale[:, :, None] * scale[:, None]
    distance = [np.linalg.norm(m - given, axis=(1, 2)) for m in (found, clipped)]
    assert (distance[0] <= distance[1] + 1e-5).all()


COPULAS = Copulas(
    ("a", "b", "c"),
    np.array([1, 4]),
    np.array([[[1, 0.8, 0.2], [0.8, 1, 0.0], [0.2, 0.0, 1]],
              [[1, -0.5, 0], [-0.5, 1, 0], [0, 0, 1]]]),
)  # fmt: skip


def test_drawn_numbers_have_the_correlations_of_their_pathway():
    rng = np.random.default_rng(0)
    pathway = rng.choice([1, 3, 4], 90_000)
    z = rng.standard_normal((90_000, 3))
    u = COPULAS.uniforms(z, pathway)
    for i, expected in ((1, COPULAS.matrix[0]), (4, COPULAS.matrix[1]), (3, np.eye(3))):
        found = np.corrcoef(stats.norm.ppf(u[pathway == i]), rowvar=False)
        np.testing.assert_allclose(found, expected, atol=4 / np.sqrt(30_000))
        for column in u[pathway == i].T:
            assert stats.kstest(column, "uniform").pvalue > 1e-3 / 9  # of nine columns
    np.testing.assert_allclose(u[pathway == 3], stats.norm.cdf(z[pathway == 3]), rtol=1e-12)


def test_a_row_depends_on_its_own_numbers_alone():
    rng = np.random.default_rng(1)
    pathway, z = rng.choice([1, 3, 4], 1000), rng.standard_normal((1000, 3))
    whole = COPULAS.uniforms(z, pathway)
    parts = [COPULAS.uniforms(z[i : i + 7], pathway[i : i + 7]) for i in range(0, 1000, 7)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_numbers_stay_between_0_and_1():
    u = COPULAS.uniforms(np.array([[-60.0, -60, -60], [60, 60, 60]]), np.array([1, 1]))
    assert (u > 0).all()
    assert (u < 1).all()


TYPES = pl.DataFrame(
    [(side, 0, "A", None, None, 1) for side in ("source", "target")],
    schema=schema.TYPES.polars_schema(), orient="row",
)  # fmt: skip
DISTRIBUTIONS = {
    "g": ("gamma", {"mean": 2.0, "std": 0.5}),
    "t": ("truncnorm", {"norm_loc": 1.0, "norm_scale": 0.5, "min": 0.0, "max": 2.0}),
    "p": ("poisson", {"mean": 4.0}),
}


def model(*correlations, distributions=DISTRIBUTIONS, **about):
    """Return a model of one pathway; correlations are (property, other, r)."""
    tail = {"level": -1, "shared_within": True, "dtype": "float", "lower_bound": None,
            "upper_bound": None} | about  # fmt: skip
    rows = [
        ("A", "A", name, None, family, parameter, 0, value, None, *tail.values())
        for name, (family, distribution) in distributions.items()
        for parameter, value in distribution.items()
    ]
    rows += [
        ("A", "A", one, other, "copula", "correlation", 0, r, 0.01, *tail.values())
        for one, other, r in correlations
    ]
    table = pl.DataFrame(rows, schema=FIRST_VERSION, orient="row")
    return Model(table, types=TYPES, units=dict.fromkeys(distributions, ""))


PAIRS = (("g", "t", 0.7), ("g", "p", -0.4), ("t", "p", 0.1))
MATRIX = np.array([[1, 0.7, -0.4], [0.7, 1, 0.1], [-0.4, 0.1, 1]])


def test_a_model_keeps_its_copulas(tmp_path):
    m = model(*PAIRS)
    m.write_parquet(tmp_path / "model.parquet")
    for one in (m, read_model(tmp_path / "model.parquet")):
        assert one.copulas(shared=True).properties == ("g", "t", "p")
        np.testing.assert_array_equal(one.copulas(shared=True).matrix, [MATRIX])
        assert one.copulas(shared=False).pathway.size == 0
        assert one.correlations.height == 3
        assert one.marginals.height == 7
        assert one.distribution("g", "A", "A").family.name == "gamma"


@pytest.mark.parametrize(("pairs", "text"), [
    ((("t", "g", 0.1),), "not after it"),
    ((("g", "t", 1.5),), "not within"),
    ((("g", "t", float("nan")),), "not within"),
    ((("g", "t", 0.1), ("g", "t", 0.2)), "several correlations"),
    ((("g", "t", 0.9), ("g", "p", 0.9), ("t", "p", -0.9)), "not positive definite"),
])  # fmt: skip
def test_a_model_refuses_what_is_no_copula(pairs, text):
    with pytest.raises(ModelError, match=text):
        model(*pairs)


def test_a_correlation_has_a_level_of_its_own():
    table = model(*PAIRS).table
    is_pair = pl.col("other_property").is_not_null()
    for level, known in ((4, True), (5, False)):
        changed = table.with_columns(
            pl.when(is_pair).then(pl.lit(level, pl.Int8)).otherwise("level").alias("level")
        )
        if known:
            borrowed = Model(changed, types=TYPES, units=dict.fromkeys(DISTRIBUTIONS, ""))
            assert borrowed.correlations["level"].to_list() == [4] * 3
            continue
        with pytest.raises(ModelError, match="unknown level"):
            Model(changed, types=TYPES, units=dict.fromkeys(DISTRIBUTIONS, ""))


def test_the_number_of_synapses_is_not_correlated():
    distributions = {"g": DISTRIBUTIONS["g"], "n_syn_per_conn": ("poisson", {"mean": 3.0})}
    with pytest.raises(ModelError, match="correlated with n_syn_per_conn"):
        model(("g", "n_syn_per_conn", 0.2), distributions=distributions)


def test_properties_of_a_pair_are_shared_alike():
    table = model(*PAIRS).table
    wrong = table.with_columns(
        (pl.col("shared_within") & (pl.col("property") != "p")).alias("shared_within")
    ).drop("within_correlation")
    with pytest.raises(ModelError, match="not shared alike"):
        Model(wrong, types=TYPES, units=dict.fromkeys(DISTRIBUTIONS, ""))


def test_a_copula_needs_another_property():
    table = model(*PAIRS).table.with_columns(pl.lit(None, pl.String).alias("other_property"))
    with pytest.raises(ModelError, match="yet of no other property"):
        Model(table, types=TYPES, units=dict.fromkeys(DISTRIBUTIONS, ""))


def test_correlations_go_through_json(tmp_path):
    m = model(*PAIRS)
    m.write_json(tmp_path / "model.json")
    content = json.loads((tmp_path / "model.json").read_text())["prop_cov"]
    assert content["props"] == ["g", "t", "p"]
    np.testing.assert_array_equal(content["cov"]["A"]["A"], MATRIX)
    again = read_model(tmp_path / "model.json")
    np.testing.assert_array_equal(again.copulas(shared=True).matrix, [MATRIX])


def test_what_the_reference_cannot_correlate_is_left_out_with_a_warning():
    distributions = {**DISTRIBUTIONS, "k": ("constant", {"mean": 1.0})}
    with pytest.warns(
        ConnpropsWarning, match=r"without correlations are 'k' \('constant' in 1 of 1"
    ):
        content = json.loads(to_json(model(*PAIRS, ("t", "k", 0.3), distributions=distributions)))[
            "prop_cov"
        ]
    assert content["props"] == ["g", "t", "p"]


def test_matrices_of_the_reference_that_are_singular_become_definite(tmp_path):
    content = json.loads(to_json(model(*PAIRS)))
    del content["__version_info__"]["connprops.seal"]
    content["prop_cov"]["cov"]["A"]["A"] = [[1, 0.9, 0.9], [0.9, 1, -0.9], [0.9, -0.9, 1]]
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.warns(ConnpropsWarning, match="no normal variables can have"):
        m = read_model(tmp_path / "model.json")
    assert (np.linalg.eigvalsh(m.copulas(shared=True).matrix) > 0).all()


@pytest.mark.parametrize("change", [
    {"props": ["g", "g", "p"]}, {"props": ["g", "t", "x"]}, {"props": ["g", "t"]}, {"cov": {}},
    {"cov": {"A": {"A": [[1, 2, 0], [2, 1, 0], [0, 0, 1]]}}},
])  # fmt: skip
def test_files_with_other_correlations_are_refused(tmp_path, change):
    content = json.loads(to_json(model(*PAIRS)))
    del content["__version_info__"]["connprops.seal"]
    content["prop_cov"] |= change
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not a model of connectome-manipulator"):
        read_model(tmp_path / "model.json")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_reference_draws_what_is_correlated(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pytest.importorskip("connectome_manipulator.model_building.model_types")
    path = model(*PAIRS, shared_within=False).write_json(tmp_path / "model.json")
    theirs = reference.AbstractModel.model_from_file(str(path))
    assert theirs.get_prop_cov_names() == ["g", "t", "p"]
    np.random.seed(0)  # noqa: NPY002 - the reference's
    drawn = theirs.draw_cov("A", "A", 20_000)
    columns = [np.asarray(values).ravel() for values in drawn]
    scores = [normal_scores(values, np.array([20_000])) for values in columns]
    found = [[latent_correlations(a, b).r[0] for b in scores] for a in scores]
    np.testing.assert_allclose(found, MATRIX, atol=0.03)
    assert columns[0].mean() == pytest.approx(2.0, abs=0.02)
    assert columns[0].std() == pytest.approx(0.5, abs=0.02)
