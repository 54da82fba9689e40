"""Differences of models against distances by scipy, by numpy's samples, and by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from hand_made import FIRST_VERSION
from scipy import stats
from typer.testing import CliRunner

import connprops as cp
from connprops import schema
from connprops.cli import app
from connprops.errors import DatasetError, OptionError, OutputError
from connprops.model.comparison import compare, model_distances, summarized, write_comparison
from connprops.model.model import Model
from connprops.store.tables import read_table

KEYS = ["source_type", "target_type", "property"]


def distribution(
    family, *, source="A", target="A", prop="g", level=-1, low=None, high=None, **values
):
    """Return the rows of one distribution; a list gives a parameter of several positions."""
    about = {
        "source_type": source, "target_type": target, "property": prop, "other_property": None,
        "distribution": family, "std_error": None, "level": level, "shared_within": True,
        "dtype": "float", "lower_bound": low, "upper_bound": high,
    }  # fmt: skip
    return [
        {**about, "parameter": name, "position": i, "value": float(v)}
        for name, value in values.items()
        for i, v in enumerate(value if isinstance(value, list) else [value])
    ]


def model(*distributions, types=("A", "B")):
    rows = [row for of_distribution in distributions for row in of_distribution]
    both = [
        (side, i, name, "EXC", "4", 3)
        for side in ("source", "target")
        for i, name in enumerate(types)
    ]
    units = dict.fromkeys(dict.fromkeys(row["property"] for row in rows), "1")
    return Model(
        pl.DataFrame(rows, schema=FIRST_VERSION),
        types=pl.DataFrame(both, schema=schema.TYPES.polars_schema(), orient="row"),
        units=units,
    )


def distances(a, b):
    row = compare(model(a), model(b)).row(0, named=True)
    return row["ks"], row["wasserstein"]


def numerical(one, other, low, high):
    """Return KS and Wasserstein distances of scipy's distributions from a fine grid of values."""
    x = np.linspace(low, high, 2_000_001)
    apart = np.abs(one.cdf(x) - other.cdf(x))
    return apart.max(), np.trapezoid(apart, x)


@pytest.mark.parametrize(
    ("a", "b", "one", "other", "low", "high"),
    [
        (distribution("normal", mean=0, std=1), distribution("normal", mean=0.5, std=2),
         stats.norm(0, 1), stats.norm(0.5, 2), -20, 20),
        (distribution("gamma", mean=2, std=0.5), distribution("gamma", mean=2.2, std=1.5),
         stats.gamma(16, scale=2 / 16), stats.gamma((2.2 / 1.5) ** 2, scale=1.5**2 / 2.2), 0, 60),
        (distribution("gamma", mean=2, std=0.5), distribution("normal", mean=2, std=0.5),
         stats.gamma(16, scale=2 / 16), stats.norm(2, 0.5), -5, 12),
        (distribution("constant", mean=1.3), distribution("normal", mean=1, std=1),
         stats.uniform(1.3, 1e-9), stats.norm(1, 1), -10, 12),
    ],
)  # fmt: skip
def test_distances_agree_with_a_fine_grid(a, b, one, other, low, high):
    expected = numerical(one, other, low, high)
    assert distances(a, b) == pytest.approx(expected, rel=2e-3)
    assert distances(b, a) == pytest.approx(expected, rel=2e-3)


def test_distances_of_discrete_distributions_are_exact():
    one = {"val": [1, 2, 5.5], "p": [0.2, 0.3, 0.5]}
    other = {"val": [0, 2, 3, 7], "p": [0.1, 0.2, 0.3, 0.4]}
    expected = stats.wasserstein_distance(one["val"], other["val"], one["p"], other["p"])
    # Distribution functions, by hand: at 0: 0, .1; at 1: .2, .1; 2: .5, .3; 3: .5, .6; 5.5: 1, .6.
    found = distances(distribution("discrete", **one), distribution("discrete", **other))
    assert found == pytest.approx((0.4, expected), rel=1e-12)
    points = distances(distribution("constant", mean=1.0), distribution("constant", mean=3.5))
    assert points == (1.0, 2.5)
    counts = distances(distribution("poisson", mean=3.0), distribution("poisson", mean=4.5))
    k = np.arange(200)
    apart = np.abs(stats.poisson(3.0).cdf(k) - stats.poisson(4.5).cdf(k))
    assert counts == pytest.approx((apart.max(), apart.sum()), rel=1e-8)


def test_distances_are_of_values_as_drawn_within_bounds():
    a = distribution("normal", mean=0, std=1, low=0.0)
    b = distribution("normal", mean=0, std=1)
    # Half of a's values lie on 0: the functions differ by b's below 0, to its half just before.
    half_normal_mean = 1 / math.sqrt(2 * math.pi)
    assert distances(a, b) == pytest.approx((0.5, half_normal_mean), rel=2e-3)


def test_equal_models_do_not_differ():
    distributions = [
        distribution("gamma", mean=2, std=0.5),
        distribution("discrete", source="B", val=[1, 4], p=[0.25, 0.75]),
        distribution("constant", prop="n", mean=2),
    ]
    found = compare(model(*distributions), model(*distributions))
    assert found["ks"].to_list() == found["wasserstein"].to_list() == [0.0] * 3
    assert found["shift"].to_list() == [0.0, None, 0.0]


def test_what_is_added_lost_and_borrowed():
    a = model(
        distribution("gamma", mean=2, std=0.5),
        distribution("gamma", source="B", mean=2, std=0.5),
        distribution("gamma", target="B", mean=2, std=0.5, level=0),
        distribution("gamma", source="B", target="B", mean=2, std=0.5, level=3),
    )
    b = model(
        distribution("gamma", mean=3, std=0.5),
        distribution("gamma", source="B", mean=2, std=0.5, level=2),
        distribution("normal", target="B", mean=2, std=0.5),
        distribution("gamma", source="B", target="B", mean=2, std=0.5, level=4),
        distribution("gamma", source="C", mean=1, std=0.25),
        distribution("constant", prop="n", mean=1),
        types=("C", "B", "A"),
    )
    found = compare(a, b)
    schema.COMPARISON.check(found, "the comparison")
    assert found.columns == schema.COMPARISON.names
    assert found["source_type"].dtype == pl.Enum(["A", "B", "C"])
    rows = {(r["source_type"], r["target_type"], r["property"]): r for r in found.to_dicts()}
    status = {key: r["status"] for key, r in rows.items()}
    assert status == {
        ("A", "A", "g"): "both",
        ("B", "A", "g"): "lost",
        ("A", "B", "g"): "added",
        ("B", "B", "g"): "borrowed",
        ("C", "A", "g"): "added",
        ("A", "A", "n"): "added",
    }
    one = rows["A", "A", "g"]
    assert (one["mean_a"], one["mean_b"], one["std_a"], one["std_b"]) == (2, 3, 0.5, 0.5)
    assert one["shift"] == pytest.approx(2)
    assert one["wasserstein"] == pytest.approx(
        numerical(stats.gamma(16, scale=2 / 16), stats.gamma(36, scale=3 / 36), 0, 20)[1], rel=2e-3
    )
    other = rows["A", "B", "g"]
    assert (other["distribution_a"], other["distribution_b"]) == ("gamma", "normal")
    assert (other["level_a"], other["level_b"]) == (0, -1)
    new = rows["C", "A", "g"]
    assert (new["mean_a"], new["ks"], new["n_b"], new["mean_b"]) == (None, None, None, 1)
    assert rows["A", "A", "n"]["shift"] is None
    short = summarized(found).row(0, named=True)
    assert (short["property"], short["both"], short["added"], short["lost"]) == ("g", 1, 2, 1)
    assert (short["source_type"], short["target_type"]) == ("A", "A")
    assert short["largest KS"] == one["ks"]


def test_many_pathways_are_each_compared_with_their_own():
    rng = np.random.default_rng(0)
    names = tuple(f"t{i}" for i in range(6))
    means = {(s, t): rng.uniform(1, 3, 2) for s in names for t in names}
    a, b = (
        model(*(distribution("constant", source=s, target=t, mean=mean[i])
                for (s, t), mean in means.items()),
              types=order)
        for i, order in enumerate((names, names[::-1]))
    )  # fmt: skip
    found = model_distances(a, b, at_once=7)
    assert len(found) == 36
    for row in found.to_dicts():
        one, other = means[row["source_type"], row["target_type"]]
        assert row["wasserstein"] == pytest.approx(abs(one - other), rel=1e-12)


def test_files_folders_and_the_public_name(tmp_path):
    a, b = (
        model(distribution("gamma", mean=2, std=0.5)),
        model(distribution("gamma", mean=2.5, std=0.5)),
    )
    a.write_parquet(tmp_path / "a" / "model.parquet")
    b.write_parquet(tmp_path / "b.parquet")
    assert cp.compare(tmp_path / "a", tmp_path / "b.parquet").equals(compare(a, b))
    with pytest.raises(DatasetError, match="No file"):
        compare(tmp_path, a)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "json"])
def test_comparisons_are_written(tmp_path, suffix):
    found = compare(
        model(distribution("gamma", mean=2, std=0.5)),
        model(distribution("gamma", mean=2.5, std=0.5)),
    )
    file = write_comparison(found, tmp_path / f"differences.{suffix}")
    if suffix == "parquet":
        assert read_table(file, schema.COMPARISON)[0].equals(found)
    else:
        row = getattr(pl, f"read_{suffix}")(file).row(0, named=True)
        assert row["ks"] == found["ks"][0]
        assert list(row) == found.columns
    with pytest.raises(OutputError, match="exists already"):
        write_comparison(found, file)
    with pytest.raises(OptionError, match="Unknown format"):
        write_comparison(found, tmp_path / "differences.xlsx")


def test_the_command(tmp_path):
    model(distribution("gamma", mean=2, std=0.5)).write_parquet(tmp_path / "a.parquet")
    model(distribution("gamma", mean=2.5, std=0.5)).write_parquet(tmp_path / "b.parquet")
    arguments = ["compare", str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "d.json")])
    assert done.exit_code == 0
    assert done.stderr == f"{tmp_path / 'd.json'}\n"
    words = done.stdout.split()
    assert words.count("gamma") == 1
    assert "2.5" in words
    assert json.loads((tmp_path / "d.json").read_text())[0]["mean_b"] == 2.5
    same = CliRunner().invoke(app, ["compare", arguments[1], arguments[1]])
    assert "gamma" not in same.stdout
    assert CliRunner().invoke(app, [*arguments, "-o", "d.txt"]).exit_code == 2
    assert CliRunner().invoke(app, ["compare", arguments[1], str(tmp_path)]).exit_code == 2
