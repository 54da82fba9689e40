"""The samples of a property are its pathways' values, with room for little more than these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from connprops.export.opening import open_table
from connprops.families.sample import POINTS, Sample
from connprops.fits.samples.samples import PropertySamples, Samples
from connprops.fits.samples.tables import LARGE, StatisticsTables
from connprops.statistics.extract import extract

SIZES = [1, 1, 2, 3, 3, 40, 700, 1, 5, 3000]
"""Synapses of each pathway, those of one target type."""


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(50)
    return [rng.gamma(2, 1.5, n) for n in SIZES]


@pytest.fixture(scope="module")
def stats(values, tmp_path_factory):
    edges = pl.DataFrame(
        {
            "source": np.arange(sum(SIZES)),
            "target": np.full(sum(SIZES), 10**6),
            "source_type": np.repeat([f"T{i}" for i in range(len(SIZES))], SIZES),
            "target_type": ["A"] * sum(SIZES),
            "size": np.concatenate(values),
        }
    )
    folder = tmp_path_factory.mktemp("samples") / "d"
    names = ("source", "target", "source_type", "target_type")
    opened = open_table(edges, folder=folder, **{name: name for name in names})
    return extract(opened)


@pytest.fixture(scope="module")
def samples(stats):
    prop = next(prop for prop in stats.properties if prop.name == "size")
    return PropertySamples(StatisticsTables.of(stats), prop).observed


def test_each_pathway_has_its_own_values_wherever_they_lie(values, samples):
    assert len(samples) == len(SIZES)
    assert samples.n.tolist() == SIZES
    assert samples.mean == pytest.approx([x.mean() for x in values], rel=1e-12)
    for rows in (np.arange(10), np.array([8, 1, 6]), np.array([4])):
        part = samples.samples(rows)
        for row, value, weight in zip(rows, part.value, part.weight, strict=True):
            own = np.sort(values[row])
            if SIZES[row] <= POINTS:
                assert value[weight > 0].tolist() == own.tolist()
                assert weight[weight > 0].tolist() == [1.0] * own.size
            else:
                assert weight.sum() == pytest.approx(own.size)
                assert np.average(value, weights=weight) == pytest.approx(own.mean(), rel=0.01)


def test_there_is_room_for_little_more_than_the_points(samples):
    cells = sum(part.value.size for part in samples.parts)
    assert cells <= 2 * sum(min(n, POINTS) for n in SIZES)
    assert samples.width[:6].tolist() == [1, 1, 2, 3, 3, 40]
    assert 40 < samples.width[6] <= samples.width[9] <= POINTS


def test_blocks_give_each_group_once(samples, monkeypatch):
    monkeypatch.setattr("connprops.fits.samples.samples.BLOCK", 1)
    rows = np.array([0, 2, 3, 5, 6, 9])
    given = [(int(block[0]), part.mean[0]) for block, part in samples.blocks(rows)]
    assert sorted(given) == [(row, samples.mean[row]) for row in rows]


def test_pools_follow_the_observed(values, samples):
    pools = Sample.from_values([np.concatenate(values[:3]), values[5]])
    both = samples.with_pools(pools, np.array([0, 1, 1]))
    assert both.n.tolist() == [*SIZES, sum(SIZES[:3]), SIZES[5], SIZES[5]]
    last = both.samples(np.array([11, 5, 12]))
    assert last.value[0].tolist() == last.value[1].tolist() == last.value[2].tolist()


def test_of_very_many_pathways_those_of_most_values_count():
    n = np.arange(LARGE + 50) % 7 + 1
    ones = np.ones((n.size, 1))
    sample = Sample(
        *([n.astype(float)] + [ones[:, 0]] * 8), value=ones, weight=n[:, None].astype(float),
        exact=np.ones(n.size, dtype=bool), is_integer=False,
    )  # fmt: skip
    largest = Samples.of(sample).largest()
    assert largest.size == LARGE
    left_out = np.setdiff1d(np.arange(n.size), largest)
    assert (n[left_out] == 1).all()
    assert (np.diff(largest) > 0).all()


def test_rows_of_a_property_are_the_same_whether_all_tables_have_room_or_not(stats):
    whole = StatisticsTables.of(stats)
    apart = replace(whole, room=0)
    assert whole._has_room
    assert not apart._has_room
    for name in ("size", "n_syn_per_conn", "nothing"):
        assert whole.statistics(name).equals(apart.statistics(name))
        assert whole.values(name).equals(apart.values(name))
        assert whole.order_statistics(name).equals(apart.order_statistics(name))
        assert len(whole.statistics(name)) == (0 if name == "nothing" else len(SIZES))
