"""Fits of one's own groups: equal to a model's, to scipy's, whatever the keys and the frame."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.stats
from circuits import two_types

import connprops as cp
from connprops.errors import ConnpropsWarning, OptionError

PAIR = ["source_type", "target_type"]
ROW = [*PAIR, "property", "parameter", "position"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    config = cp.write_demo(folder / "circuit", synapses=3000).config
    with pytest.warns(ConnpropsWarning):
        return cp.open_circuit(config, folder=folder / "dataset")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Give a dataset of shared values and of values that vary within connections."""
    folder = tmp_path_factory.mktemp("mixed")
    return cp.open_circuit(two_types(folder / "circuit", shuffled=True), folder=folder / "dataset")


@pytest.mark.parametrize("of", ["demo", "mixed"])
@pytest.mark.filterwarnings("ignore::connprops.ConnpropsWarning")
def test_pathways_have_the_fits_of_the_model(of, request):
    dataset = request.getfixturevalue(of)
    names = [n for n in dataset.properties if n != "n_syn_per_conn"]
    numeric = [n for n in names if dataset.synapses.collect_schema()[n].is_numeric()]
    stats = cp.extract(dataset, sel_props=numeric)
    model = cp.build(stats, shrinkage=False)
    ours = cp.fit(dataset.synapses, PAIR, properties=numeric, shrinkage=False)
    theirs = model.table.filter(pl.col("level") == -1)
    text = pl.col(*ROW[:4]).cast(pl.String)
    of_fits = pl.col(*ROW[:3]).cast(pl.String)
    both = ours.with_columns(text).join(theirs.with_columns(text), on=ROW, suffix="_of_model")
    assert len(both) == len(theirs) == len(ours.filter(pl.col("shared_keys").is_null()))
    alike = pl.col("within_correlation").is_between(0, 1, closed="none")
    assert {*both["property"]} == {*numeric, "n_syn_per_conn"}
    for name in ("value", "std_error", "ci_low", "lower_bound"):
        # Errors of values that differ within connections count how alike these are, which
        # pathways without several synapses take from their level; other groups have other levels.
        compared = both if name in ("value", "lower_bound") else both.filter(~alike)
        mine, of_model = compared[name], compared[f"{name}_of_model"]
        assert (mine.is_null() == of_model.is_null()).all()
        np.testing.assert_allclose(mine, of_model, rtol=1e-9, err_msg=name)
    for name in ("distribution", "dtype"):
        assert (both[name] == both[f"{name}_of_model"].cast(pl.String)).all()
    assert both["shared_within"].equals(both["shared_within_of_model"], check_names=False)
    fits = model.fits.filter(pl.col("level") == -1).with_columns(of_fits)
    keyed = ours.unique([*PAIR, "property"]).with_columns(of_fits)
    same = keyed.join(fits, on=[*PAIR, "property"], suffix="_of_fits")
    assert (same["n"] == same["n_of_fits"]).all()
    np.testing.assert_allclose(same["ks"], same["ks_of_fits"], rtol=1e-9)


def _frame(n=6000):
    rng = np.random.default_rng(1)
    return pl.DataFrame({
        "layer": rng.integers(1, 4, n),
        "region": pl.Series(rng.choice(["a", "b"], n), dtype=pl.Categorical),
        "sex": pl.Series(rng.choice(["f", "m", ""], n)).replace("", None),
        "x": rng.gamma(3.0, 2.0, n),
        "k": rng.poisson(4, n),
    })  # fmt: skip


def test_one_family_is_fitted_as_scipy_fits_it():
    frame = _frame()
    table = cp.fit(frame, by="layer", properties=["x"], distr_types={"x": "gamma"},
                   shrinkage=False)  # fmt: skip
    assert table.columns[:3] == ["layer", "property", "distribution"]
    assert table.schema["layer"] == frame.schema["layer"]
    for (layer,), rows in table.group_by("layer"):
        values = frame.filter(pl.col("layer") == layer)["x"].to_numpy()
        shape, _, scale = scipy.stats.gamma.fit(values, floc=0)
        value = dict(rows.select("parameter", "value").iter_rows())
        assert value["mean"] == pytest.approx(shape * scale, rel=1e-6)
        assert value["std"] == pytest.approx(np.sqrt(shape) * scale, rel=1e-3)
        ks = scipy.stats.kstest(values, "gamma", (shape, 0, scale)).statistic
        assert rows["ks"][0] == pytest.approx(ks, abs=3e-3)
        assert rows["n"].unique().to_list() == [values.size]


def test_three_keys_of_any_type_and_null_among_them():
    frame = _frame()
    by = ["region", "layer", "sex"]
    table = cp.fit(frame, by, properties=["k"])
    groups = table.select(by).unique()
    assert groups.schema == frame.select(by).schema
    assert len(groups) == len(frame.select(by).unique()) == 18
    sizes = frame.group_by(by).len()
    joined = table.unique(by).join(sizes, on=by, nulls_equal=True)
    assert len(joined) == 18
    assert (joined["n"] == joined["len"]).all()
    mean = table.filter(parameter="mean").join(
        frame.group_by(by).agg(m=pl.col("k").mean()), on=by, nulls_equal=True
    )
    np.testing.assert_allclose(mean["own_value"], mean["m"], rtol=0.02)
    # Drawn from one distribution, they are drawn together.
    assert mean["value"].std() < 0.7 * mean["own_value"].std()


def test_groups_without_values_lean_on_those_with_the_same_first_keys():
    rng = np.random.default_rng(2)
    frame = pl.DataFrame({
        "a": np.repeat(["low", "high"], 2000),
        "b": np.tile(np.arange(8), 500),
        "x": np.concatenate([rng.normal(10, 1, 2000), rng.normal(50, 1, 2000)]),
    })  # fmt: skip
    lost = (pl.col("a") == "high") & (pl.col("b") == 3)
    frame = frame.with_columns(x=pl.when(~lost).then("x"))
    table = cp.fit(frame, ["a", "b"], distr_types={"x": "normal"})
    row = table.filter(lost, pl.col("parameter") == "mean").row(0, named=True)
    assert row["shared_keys"] == 1
    assert row["own_value"] is None
    assert row["value"] == pytest.approx(50, abs=0.5)
    assert table.filter(~lost)["shared_keys"].null_count() == len(table) - table.filter(lost).height


@pytest.mark.parametrize("kind", ["lazy", "pandas", "arrow", "shuffled"])
def test_any_frame_in_any_order_gives_the_same(kind):
    frame = _frame(600).with_columns(pl.col("region").cast(pl.String))
    made = {
        "lazy": frame.lazy,
        "pandas": frame.to_pandas,
        "arrow": lambda: pa.table(frame),
        "shuffled": lambda: frame.sample(fraction=1, shuffle=True, seed=3),
    }[kind]()
    one = cp.fit(frame, ["layer", "region"])
    other = cp.fit(made, ["layer", "region"])
    assert one.equals(other.cast(one.schema))


def test_values_of_a_connection_count_once_where_it_shares_them():
    rng = np.random.default_rng(4)
    of = rng.integers(0, 300, 2000)
    shared = rng.normal(5, 1, 300)
    frame = pl.DataFrame({"g": of % 3, "cell": of, "x": shared[of], "y": rng.normal(0, 1, 2000)})
    table = cp.fit(frame, "g", connection=["cell"], properties=["x", "y"])
    n_cells = frame.group_by("g").agg(pl.col("cell").n_unique(), pl.len())
    for g, cells, rows in n_cells.iter_rows():
        own = table.filter(g=g).unique("property")
        n = dict(own.select("property", "n").iter_rows())
        assert n == {"x": cells, "y": rows, "n_syn_per_conn": cells}
    shares = dict(table.select("property", "shared_within").unique().iter_rows())
    assert shares == {"x": True, "y": False, "n_syn_per_conn": None}
    within = table.filter(property="y")["within_correlation"]
    assert within.max() < 0.2


def test_what_is_empty_or_not_there():
    frame = _frame(100)
    nothing = cp.fit(frame.head(0), ["layer", "sex"])
    assert nothing.schema == cp.fit(frame, ["layer", "sex"]).schema
    assert len(nothing) == 0
    for by, options, words in (
        ("lyer", {}, "Unknown column: 'lyer'(?s:.*)mean 'layer'"),
        ("layer", {"properties": ["X"]}, "Unknown column: 'X'(?s:.*)'x'"),
        ("layer", {"properties": ["region"]}, "Column 'region' cannot be described"),
        ("layer", {"distr_types": {"x": "gama"}}, "(?s)gama.*gamma"),
        ("layer", {"distr_types": {"y": "gamma"}}, "Unknown property in distr_types: 'y'"),
        ([], {}, "by names no column"),
        (["layer", "x", "k"], {}, "There is nothing to fit"),
    ):
        with pytest.raises(OptionError, match=words):
            cp.fit(frame, by, **options)
    with pytest.raises(OptionError, match="option of fit"):
        cp.fit(frame, "layer", correlations=True)
