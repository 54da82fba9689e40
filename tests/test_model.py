from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from circuits import two_types
from scipy import stats as scipy_stats

from connprops import schema
from connprops.dataset import Dataset
from connprops.errors import ConnpropsWarning, DatasetError, ModelError, OptionError, OutputError
from connprops.export import export
from connprops.fit import build
from connprops.model import Model, read_model
from connprops.sonata import open_circuit
from connprops.statistics import extract

TYPES = pl.DataFrame(
    [("source", 0, "A", "EXC", "4", 3), ("source", 1, "B", "INH", "5", 2),
     ("target", 0, "A", "EXC", "4", 3)],
    schema=schema.TYPES.polars_schema(),
    orient="row",
)  # fmt: skip


def row(source, prop, distribution, parameter, value, position=0, **other):
    about = {"level": -1, "shared_within": True, "dtype": "float", "lower_bound": None,
             "upper_bound": None, "std_error": None, **other}  # fmt: skip
    return {"source_type": source, "target_type": "A", "property": prop,
            "distribution": distribution, "parameter": parameter, "position": position,
            "value": value, **about}  # fmt: skip


def table(*rows):
    return pl.DataFrame(list(rows), schema=schema.MODEL.polars_schema())


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


def model(*rows):
    return Model(table(*(rows or ROWS)), types=TYPES, units=UNITS)


def test_evaluation_agrees_with_scipy():
    m = model()
    x = np.linspace(0.1, 5, 7)
    gamma = scipy_stats.gamma(16, scale=0.125)
    np.testing.assert_allclose(m.cdf("g", "A", "A", x), gamma.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(m.pdf("g", "A", "A", x), gamma.pdf(x), rtol=1e-11)
    q = np.array([[0.1, 0.5], [0.9, 0.99]])
    np.testing.assert_allclose(m.quantile("g", "A", "A", q), gamma.ppf(q), rtol=1e-10)


def test_bounds_hold_what_is_drawn():
    m = model()
    drawn = m.draw("g", "B", "A", 10_000, rng=1)
    assert drawn.min() == 0.0
    assert drawn.max() == 1.5
    below = scipy_stats.norm(1, 1).cdf(0)
    assert np.mean(drawn == 0.0) == pytest.approx(below, abs=4 * np.sqrt(below / 10_000))
    assert m.cdf("g", "B", "A", [-0.1, 0.0, 1.5]).tolist() == pytest.approx([0.0, below, 1.0])


def test_draws_follow_the_law_and_the_type():
    m = model()
    assert scipy_stats.kstest(m.draw("g", "A", "A", 2000, rng=0),
                              scipy_stats.gamma(16, scale=0.125).cdf).pvalue > 1e-3  # fmt: skip
    counts = m.draw("n", "A", "A", 4000, rng=0)
    assert counts.dtype == np.int64
    assert set(counts) == {1, 4}
    assert np.mean(counts == 4) == pytest.approx(0.75, abs=0.03)
    assert m.draw("n", "B", "A", 3, rng=0).tolist() == [0, 0, 0]
    assert m.draw("g", "A", "A", 5, rng=3).tolist() == m.draw("g", "A", "A", 5, rng=3).tolist()


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


def test_unknown_names():
    m = model()
    with pytest.raises(OptionError, match="Unknown property: 'h'"):
        m.draw("h", "A", "A", 1)
    with pytest.raises(OptionError, match="Unknown source type"):
        m.draw("g", "C", "A", 1)


def built(tmp_path, **options):
    config = two_types(tmp_path / "c")
    ds = Dataset(export(open_circuit(config), tmp_path / "d"))
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
    assert worst["ks"].to_list() == sorted(m.fits["ks"].to_list(), reverse=True)[:3]
    assert "Model of" in repr(m)
    assert "gamma" in m._repr_html_() or "normal" in m._repr_html_()


# The reference's own code calls what later pandas and numpy deprecate.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_reference_loads_our_json_and_draws_the_same_law(tmp_path):
    model_types = pytest.importorskip("connectome_manipulator.model_building.model_types")
    families = {"conductance": "gamma", "u_syn": "truncnorm", "n_rrp_vesicles": "shifted_poisson",
                "n_syn_per_conn": "discrete", "decay_time": "constant"}  # fmt: skip
    m = built(tmp_path, distr_types=families)
    with pytest.warns(ConnpropsWarning, match="has no 'shifted_poisson'"):
        m.write_json(tmp_path / "model.json")
    theirs = model_types.AbstractModel.model_from_file(str(tmp_path / "model.json"))
    assert theirs.get_prop_names() == m.properties
    assert theirs.get_src_types() == m.source_types
    np.random.seed(1)  # noqa: NPY002 - the reference draws from the global state
    for name in families:
        spec = theirs.get_distr_props(name, "L4_PC", "L5_BC")
        drawn = theirs.draw_from_distribution(spec, size=3000)
        grid = np.unique(drawn)
        ecdf = np.searchsorted(np.sort(drawn), grid, side="right") / drawn.size
        assert np.abs(ecdf - m.cdf(name, "L4_PC", "L5_BC", grid)).max() < 0.04, name
    again = read_model(tmp_path / "model.json")
    for name in ("conductance", "u_syn", "decay_time"):
        ours, back = (x.law(name, "L4_PC", "L5_BC").parameters for x in (m, again))
        assert {k: v.tolist() for k, v in ours.items()} == {k: v.tolist() for k, v in back.items()}


def test_json_of_something_else(tmp_path):
    file = tmp_path / "model.json"
    for content, says in (
        ("{", "not a model"),
        ('{"model": "ConnProb2ndOrder"}', "another kind of model"),
        ('{"model": "ConnPropsModel"}', "not a model"),
    ):
        file.write_text(content)
        with pytest.raises(ModelError, match=says):
            read_model(file)
