from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit
from hand_made import FIRST_VERSION, Marginal, model_of
from known_distributions import PARAMETERS, SCIPY
from scipy import stats as scipy_stats

from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning, DatasetError, ModelError, OptionError, OutputError
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.cross_validation import cross_validate
from connprops.model.model import Model, read_model
from connprops.statistics.extract import extract

TYPES = pl.DataFrame(
    [("source", 0, "A", "EXC", "4", 3), ("source", 1, "B", "INH", "5", 2),
     ("target", 0, "A", "EXC", "4", 3)],
    schema=schema.TYPES.polars_schema(),
    orient="row",
)  # fmt: skip


def row(source, prop, distribution, parameter, value, position=0, **other):
    about = {"level": -1, "shared_within": True, "dtype": "float", "lower_bound": None,
             "upper_bound": None, "std_error": None, **other}  # fmt: skip
    return {"source_type": source, "target_type": "A", "property": prop, "other_property": None,
            "distribution": distribution, "parameter": parameter, "position": position,
            "value": value, **about}  # fmt: skip


def table(*rows):
    later = {name: pl.Float64() for row in rows for name in row if name not in FIRST_VERSION}
    return pl.DataFrame(list(rows), schema={**FIRST_VERSION, **later})


ROWS = (
    row("A", "g", "gamma", "mean", 2.0),
    row("A", "g", "gamma", "std", 0.5),
    row("B", "g", "normal", "mean", 1.0, lower_bound=0.0, upper_bound=1.5),
    row("B", "g", "normal", "std", 1.0, lower_bound=0.0, upper_bound=1.5),
    row("A", "n", "discrete", "val", 1.0, dtype="int"),
    row("A", "n", "discrete", "val", 4.0, 1, dtype="int"),
    row("A", "n", "discrete", "p", 0.25, dtype="int"),
    row("A", "n", "discrete", "p", 0.75, 1, dtype="int"),
    row("B", "n", "zero", "mean", 0.0, dtype="int"),
)
UNITS = {"g": "nS", "n": "1"}


def model(*rows, **units):
    return Model(table(*(rows or ROWS)), types=TYPES, units=units or UNITS)


def test_evaluation_agrees_with_scipy():
    m = model()
    x = np.linspace(0.1, 5, 7)
    gamma = scipy_stats.gamma(16, scale=0.125)
    np.testing.assert_allclose(m.cdf("g", "A", "A", x), gamma.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(m.pdf("g", "A", "A", x), gamma.pdf(x), rtol=1e-11)
    q = np.array([[0.1, 0.5], [0.9, 0.99]])
    np.testing.assert_allclose(m.quantile("g", "A", "A", q), gamma.ppf(q), rtol=1e-10)
    assert m.mean("n", "A", "A") == pytest.approx(0.25 * 1 + 0.75 * 4)
    assert m.std("n", "A", "A") == pytest.approx(3 * np.sqrt(0.25 * 0.75))
    assert (m.mean("n", "B", "A"), m.std("n", "B", "A")) == (0.0, 0.0)


@pytest.mark.parametrize("family", list(SCIPY))
def test_every_family_follows_scipy(family):
    for distribution in PARAMETERS[family]:
        m = model(*(row("A", "g", family, name, value) for name, value in distribution.items()))
        theirs = SCIPY[family](**distribution)
        q = np.array([1e-3, 0.2, 0.5, 0.9, 0.999])
        x = theirs.ppf(q)
        tiny = 1e-12 * theirs.std()
        np.testing.assert_allclose(m.quantile("g", "A", "A", q), x, rtol=1e-6, atol=tiny)
        np.testing.assert_allclose(m.cdf("g", "A", "A", x), theirs.cdf(x), rtol=1e-6)
        np.testing.assert_allclose(m.mean("g", "A", "A"), theirs.mean(), rtol=1e-6, atol=tiny)
        drawn = m.draw("g", "A", "A", 1000, rng=1)
        share = [np.mean(drawn <= value) for value in x]
        np.testing.assert_allclose(share, theirs.cdf(x), atol=0.06)  # 3.8 standard errors


def test_bounds_hold_what_is_drawn():
    m = model()
    drawn = m.draw("g", "B", "A", 10_000, rng=1)
    assert drawn.min() == 0.0
    assert drawn.max() == 1.5
    below = scipy_stats.norm(1, 1).cdf(0)
    assert np.mean(drawn == 0.0) == pytest.approx(below, abs=4 * np.sqrt(below / 10_000))
    assert m.cdf("g", "B", "A", [-0.1, 0.0, 1.5]).tolist() == pytest.approx([0.0, below, 1.0])


def test_draws_follow_the_distribution_and_the_type():
    m = model()
    assert scipy_stats.kstest(m.draw("g", "A", "A", 2000, rng=0),
                              scipy_stats.gamma(16, scale=0.125).cdf).pvalue > 1e-3  # fmt: skip
    counts = m.draw("n", "A", "A", 4000, rng=0)
    assert counts.dtype == np.int64
    assert set(counts) == {1, 4}
    assert np.mean(counts == 4) == pytest.approx(0.75, abs=0.03)
    assert m.draw("n", "B", "A", 3, rng=0).tolist() == [0, 0, 0]
    assert m.draw("g", "A", "A", 5, rng=3).tolist() == m.draw("g", "A", "A", 5, rng=3).tolist()


def test_connections_have_whole_numbers_of_synapses_and_at_least_one():
    about = {"dtype": "float", "shared_within": None}
    m = model(
        row("A", "n_syn_per_conn", "normal", "mean", 1.0, **about),
        row("A", "n_syn_per_conn", "normal", "std", 2.0, **about),
        n_syn_per_conn="1",
    )
    drawn = m.draw("n_syn_per_conn", "A", "A", 4000, rng=0)
    assert drawn.dtype == np.int64
    assert drawn.min() == 1
    assert np.mean(drawn == 1) == pytest.approx(scipy_stats.norm(1, 2).cdf(1.5), abs=0.04)


def test_integers_are_rounded_after_the_bounds():
    about = {"dtype": "int", "lower_bound": 1.6}
    m = model(row("A", "g", "normal", "mean", 1.0, **about),
              row("A", "g", "normal", "std", 1.0, **about))  # fmt: skip
    drawn = m.draw("g", "A", "A", 2000, rng=0)
    assert drawn.min() == 2
    assert np.mean(drawn == 2) == pytest.approx(scipy_stats.norm(1, 1).cdf(2.5), abs=0.04)


def test_expected_counts_are_masses_of_bins():
    m = model()
    edges = np.linspace(0, 5, 11)
    histograms = pl.DataFrame(
        {
            "source_type": ["A"] * 10 + ["A"] * 2 + ["C"],
            "target_type": ["A"] * 13,
            "property": ["g"] * 10 + ["n"] * 2 + ["g"],
            "bin": [*range(10), 0, 1, 0],
            "left": [*edges[:-1], 1.0, 2.0, 0.0],
            "right": [*edges[1:], 2.0, 4.0, 1.0],
            "count": [10] * 10 + [10, 30, 5],
        }
    )
    expected = m.expected(histograms)["expected"].to_list()
    mass = np.diff(scipy_stats.gamma(16, scale=0.125).cdf(edges))
    np.testing.assert_allclose(expected[:10], 100 * mass, rtol=1e-9, atol=1e-12)
    assert expected[10:12] == pytest.approx([10.0, 30.0])  # the last bin holds its right edge
    assert expected[12] is None


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ([row("A", "g", "gamma", "mean", 2.0)], "lacks the parameter 'std'"),
        ([row("A", "g", "gamma", "mean", 2.0), row("A", "g", "gamma", "std", -1.0)], "outside"),
        ([row("A", "g", "gamma", "mean", float("nan")), row("A", "g", "gamma", "std", 1.0)],
         "no number"),
        ([row("A", "n", "discrete", "val", 1.0), row("A", "n", "discrete", "p", 0.9)],
         "do not sum to 1"),
        ([row("A", "n", "discrete", "val", 1.0), row("A", "n", "discrete", "val", 2.0, 2),
          row("A", "n", "discrete", "p", 1.0)], "gaps in the positions"),
        ([row("A", "g", "normal", "mean", 1.0), row("A", "g", "gamma", "std", 1.0)],
         "several values of 'distribution'"),
        ([row("A", "g", "uniform", "min", 2.0), row("A", "g", "uniform", "max", 1.0)],
         "min above max"),
        ([row("A", "n", "discrete", "val", 1.0), row("A", "n", "discrete", "val", 2.0, 1),
          row("A", "n", "discrete", "p", 1.0)], "values and probabilities of different number"),
        ([row("A", "g", "gamma", "mean", 2.0), row("A", "g", "gamma", "mean", 3.0),
          row("A", "g", "gamma", "std", 1.0)], "several values of 'mean'"),
        ([row("A", "g", "gamma", "mean", 2.0), row("A", "g", "gamma", "std", 1.0),
          row("A", "g", "gamma", "min", 0.0)], "is gamma, yet has a parameter 'min'"),
        ([row("A", "g", "gamma", "mean", 0.0), row("A", "g", "gamma", "std", 1.0)],
         "parameters that describe no distribution"),
        ([row("A", "g", "lognormal", "mean_log", 800.0),
          row("A", "g", "lognormal", "std_log", 1.0)], "parameters that describe no distribution"),
        ([row("A", "g", "poisson", "mean", 1e17)], "values too large for counts"),
        ([row("A", "g", "poisson", "mean", 2.0, level=5)], "an unknown level"),
        ([row("A", "g", "poisson", "mean", 2.0, shared_within=None)], "does not say whether"),
        ([row("A", "g", "poisson", "mean", 2.0, within_correlation=0.5)], "not 1 where it is"),
        ([row("A", "g", "poisson", "mean", 2.0, within_correlation=1.5, shared_within=False)],
         "correlation within connections that is not within"),
        ([row("A", "g", "poisson", "mean", 2.0, lower_bound=float("nan"))],
         "bound that is no number"),
        *(([row("A", "g", "gamma", "mean", 2.0),
            row("A", "g", "gamma", "std", 1.0, **{column: other})], f"several values of '{column}'")
          for column, other in (("level", 2), ("shared_within", False), ("dtype", "int"),
                                ("lower_bound", 0.5), ("upper_bound", 9.0))),
        ([row("A", "g", "gamma", "mean", 2.0, upper_bound=-1.0),
          row("A", "g", "gamma", "std", 1.0, upper_bound=-1.0)], "bounds that exclude"),
        ([row("A", "g", "gamma", "mean", 2.0, lower_bound=2.0, upper_bound=1.0),
          row("A", "g", "gamma", "std", 1.0, lower_bound=2.0, upper_bound=1.0)],
         "lower bound above"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_hold_together_is_refused(changed, says):
    with pytest.raises(ModelError, match=f"Property '.' of pathway 'A' to 'A'.*{says}"):
        model(*changed)


def test_a_property_has_one_data_type():
    with pytest.raises(ModelError, match="Property 'g' has several data types"):
        model(row("A", "g", "poisson", "mean", 2.0, dtype="int"),
              row("B", "g", "poisson", "mean", 2.0))  # fmt: skip


@pytest.mark.parametrize(
    ("column", "name"),
    [("source_type", "C"), ("target_type", "B"), ("property", "h"), ("distribution", "gauss"),
     ("parameter", "mu"), ("dtype", "double")],
)  # fmt: skip
def test_names_that_the_model_does_not_know_are_refused(column, name):
    what = column.replace("_", " ")
    changed = {**row("A", "g", "poisson", "mean", 2.0), column: name}
    with pytest.raises(ModelError, match=f"Unknown {what} in the model: '{name}'"):
        model(changed)


def test_unknown_names():
    m = model()
    with pytest.raises(OptionError, match="Unknown property: 'h'"):
        m.draw("h", "A", "A", 1)
    with pytest.raises(OptionError, match="Unknown property: 'h'"):
        m.dtype("h")
    with pytest.raises(OptionError, match="Unknown source type"):
        m.draw("g", "C", "A", 1)
    with pytest.raises(OptionError, match="no 'n' for pathway 'B' to 'A'"):
        model(*ROWS[:-1]).draw("n", "B", "A", 1)


def test_names_are_data_everywhere(tmp_path):
    name = "<script>'; drop table model; --\n µ"
    types = TYPES.with_columns(pl.col("type").replace("B", name))
    rows = [{**row(s, name, "gamma", p, v)} for s in ("A", name) for p, v in
            (("mean", 1.0), ("std", 0.5))]  # fmt: skip
    m = Model(table(*rows), types=types, units={name: "1"})
    again = read_model(m.write_parquet(tmp_path / "model.parquet"))
    assert again.table.equals(m.table)
    assert again.mean(name, name, "A") == 1.0
    assert "<script>" not in again._repr_html_()


def built(tmp_path, **options):
    config = two_types(tmp_path / "c")
    ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    return build(extract(ds), **options)


def test_parquet_and_back(tmp_path):
    m = built(tmp_path)
    file = m.write_parquet(tmp_path / "model.parquet")
    again = read_model(file)
    assert again.table.equals(m.table)
    assert again.fits.equals(m.fits)
    assert again.scores.equals(m.scores)
    assert again.types.equals(m.types)
    assert again.units == m.units
    assert again.facts == json.loads(json.dumps(m.facts))
    with pytest.raises(OutputError, match="exists already"):
        m.write_parquet(file)
    before = file.read_bytes()
    m.write_parquet(file, overwrite=True)
    assert file.read_bytes() == before


def test_the_model_file_is_enough_by_itself(tmp_path):
    m = built(tmp_path)
    file = m.write_parquet(tmp_path / "model.parquet")
    for name in ("fits", "scores"):
        (tmp_path / f"{name}.parquet").unlink()
    again = read_model(file)
    assert again.fits is None
    assert again.scores is None
    for name in m.properties:
        ours, theirs = (x.draw(name, "L4_PC", "L5_BC", 5, rng=1).tolist() for x in (m, again))
        assert ours == theirs
    with pytest.raises(ModelError, match="no fits to rank"):
        again.summary()


def test_nothing_is_written_where_one_file_exists(tmp_path):
    m = built(tmp_path)
    file = tmp_path / "out" / "model.parquet"
    file.parent.mkdir()
    file.write_text("mine")
    with pytest.raises(OutputError, match=r"model\.parquet exists already"):
        m.write_parquet(file)
    assert [path.name for path in file.parent.iterdir()] == ["model.parquet"]
    assert file.read_text() == "mine"


def test_the_fits_of_another_model_are_not_taken(tmp_path):
    built(tmp_path).write_parquet(tmp_path / "model.parquet")
    model().write_parquet(tmp_path / "model.parquet", overwrite=True)
    with pytest.raises(DatasetError, match=r"fits\.parquet is of another model"):
        read_model(tmp_path / "model.parquet")


def test_damaged_and_foreign_files(tmp_path):
    m = built(tmp_path)
    file = m.write_parquet(tmp_path / "model.parquet")
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(DatasetError, match="cannot be read as Parquet"):
        read_model(file)
    pl.DataFrame({"a": [1]}).write_parquet(file)
    with pytest.raises(DatasetError, match="was not written by connprops"):
        read_model(file)
    with pytest.raises(DatasetError, match="No file"):
        read_model(tmp_path / "other.parquet")
    with pytest.raises(DatasetError, match="holds another table"):
        read_model(tmp_path / "fits.parquet")


def test_the_summary_ranks_the_worst(tmp_path):
    m = built(tmp_path)
    worst = m.summary(3)
    assert len(worst) == 3
    sure = [ks * n**0.5 for ks, n in m.fits.filter(pl.col("level") < 0).select("ks", "n").rows()]
    found = [ks * n**0.5 for ks, n in worst.select("ks", "n").rows()]
    assert found == sorted(sure, reverse=True)[:3]
    assert "Model of" in repr(m)
    shown = m._repr_html_()
    assert all(family in shown for family in m.fits["distribution"].cast(pl.String).unique())


@pytest.mark.parametrize("none", [np.nan, np.inf])
def test_a_property_without_a_number_is_left_out_and_named(tmp_path, none):
    pairs = np.array([(s, t) for s in range(8) for t in range(8)])
    columns = {"g": np.arange(64.0), "u_syn": np.full(64, none)}
    config = write_circuit(
        tmp_path / "c", *pairs.T, columns, mtype=["A", "B"] * 4,
        attributes={"synapse_class": ["EXC", "INH"] * 4, "layer": ["1"] * 8},
    )  # fmt: skip
    with pytest.warns(ConnpropsWarning, match="NaN or infinite"):
        dataset = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    stats = extract(dataset)
    with pytest.warns(ConnpropsWarning, match="'u_syn' has no finite value in any pathway"):
        m = build(stats, distr_types={"g": "uniform"}, correlations=True)
    assert list(m.properties) == ["g", "n_syn_per_conn"]
    assert set(m.fits["property"]) == {"g", "n_syn_per_conn"}
    m.write(tmp_path / "model")
    assert read_model(tmp_path / "model" / "model.json").properties == m.properties
    with pytest.warns(ConnpropsWarning, match="'u_syn' has no finite value"):
        scores = cross_validate(dataset, cv_folds=2)
    assert set(scores.table["property"]) == {"g", "n_syn_per_conn"}


def test_too_many_pathways_for_json_do_not_cost_the_model(tmp_path):
    m = model_of({"a": Marginal("constant", {"mean": 1.0})}, types=("A", "B"))
    with pytest.warns(ConnpropsWarning, match=r"model\.json is not written: it would have 4 num"):
        assert m.write(tmp_path, json_at_most=3) == [tmp_path / "model.parquet"]
    assert m.write(tmp_path, overwrite=True, json_at_most=4)[1].is_file()
    m.write(tmp_path, overwrite=True, json_at_most=0)  # without a warning, nor an older file
    assert not (tmp_path / "model.json").exists()


def test_lists_of_values_count_for_the_size_of_json(tmp_path):
    m = model_of({"a": Marginal("weibull", {"shape": 2.0, "scale": 1.0})}, types=("A", "B"))
    with pytest.warns(ConnpropsWarning, match=r"it would have 2,048 numbers, more than 2,047"):
        assert len(m.write(tmp_path, json_at_most=2047)) == 1


def test_the_model_of_some_types_is_as_in_the_whole():
    m = model_of({"a": Marginal("normal", {"mean": 1.0, "std": 2.0})}, types=("A", "B", "C"))
    part = m.of_types(m.types.filter(pl.col("type") != "B"))
    assert part.source_types == ["A", "C"]
    assert part.marginals.height == 2 * 4
    assert part.distribution("a", "C", "A").parameters == m.distribution("a", "C", "A").parameters
