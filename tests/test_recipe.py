"""A circuit whose recipe is known: the fits find the distributions that it was made from."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from circuits import SHARED
from scipy import stats as scipy_stats

from benchmarks.recipe import FAMILIES, compared, fitted_pathways, truths
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.model.build import build
from connprops.statistics.extract import extract

CIRCUIT = SHARED / "functionalizer_1000n"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")

COVERED = scipy_stats.norm.ppf(0.975)
CHANCE = 1e-3


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe") / "d"
    return extract(Dataset(export(resolve_circuit(CIRCUIT / "circuit_config.json"), folder)))


@pytest.fixture(scope="module")
def rows(statistics):
    truth = truths(json.loads((CIRCUIT / "recipe.json").read_text()))
    # Simulated samples are fitted each by itself, and so must the pathways be.
    model = build(statistics, distr_types=FAMILIES, shrinkage=False)
    return compared(fitted_pathways(statistics, model), truth, times=79)


@pytest.fixture(scope="module")
def shrunk(statistics):
    truth = truths(json.loads((CIRCUIT / "recipe.json").read_text()))
    return compared(
        fitted_pathways(statistics, build(statistics, distr_types=FAMILIES)), truth, times=0
    )


@pytest.mark.parametrize("name", ["u_syn", "decay_time"])
def test_the_spread_is_the_datas(rows, name):
    """The reference gives 0.83 and 0.89."""
    ratio = rows.filter((pl.col("property") == name) & (pl.col("n") >= 50))["ratio"]
    assert len(ratio) > 30
    assert ratio.median() == pytest.approx(1.0, abs=0.02)


def test_the_distributions_are_rejected_as_often_as_chance_would(rows):
    p_values = rows["p_value"].drop_nulls()
    assert len(p_values) > 200
    rejected = int((p_values <= 0.05).sum())
    assert scipy_stats.binomtest(rejected, len(p_values), 0.05).pvalue > CHANCE
    regular = rows.filter(pl.col("property").replace_strict(FAMILIES) == "gamma")["p_value"]
    assert scipy_stats.kstest(regular, "uniform").pvalue > CHANCE


def test_the_recipes_parameters_lie_inside_intervals_as_often_as_they_should(rows):
    for family, alternative in (("gamma", "two-sided"), ("truncnorm", "less")):
        names = [name for name in FAMILIES if FAMILIES[name] == family]
        z = np.abs(rows.filter(pl.col("property").is_in(names))["z"].explode().to_numpy())
        inside = int((z < COVERED).sum())
        assert z.size > 100
        # Intervals of a cut normal distribution are wider than need be where it is nearly flat.
        found = scipy_stats.binomtest(inside, z.size, 0.95, alternative=alternative)
        assert found.pvalue > CHANCE, (family, inside, z.size)


def test_parameters_that_borrow_are_as_near_to_the_recipes_as_they_say(shrunk):
    z = np.abs(shrunk["z"].explode().to_numpy())
    inside = int((z < COVERED).sum())
    assert z.size > 300
    assert np.mean(z**2) < 1
    assert scipy_stats.binomtest(inside, z.size, 0.95, alternative="less").pvalue > CHANCE


def test_the_distributions_are_chosen_without_being_named(statistics):
    chosen = dict(
        build(statistics)
        .scores.filter("chosen")
        .select(pl.col("property", "distribution").cast(pl.String))
        .rows()
    )
    assert {name: chosen[name] for name in FAMILIES} == FAMILIES
