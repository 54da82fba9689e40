"""All properties are fitted at once, with the same numbers wherever that is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from circuits import two_types

import connprops.fits.properties
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.export.opening import open_table
from connprops.fits.properties import fit_properties
from connprops.fits.samples.tables import StatisticsTables, largest_first
from connprops.model.build import build
from connprops.options import BuildOptions
from connprops.resources import Resources
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics


@pytest.fixture(scope="module")
def stats(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fits")
    return extract(Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d")))


def test_as_many_properties_are_fitted_at_once_as_memory_holds(tmp_path, monkeypatch):
    def tables_of(n_pathways, n_synapses):
        tables = StatisticsTables(None, None, None, None)
        tables.__dict__["_sizes"] = pl.Series([n_synapses] * n_pathways)
        return tables

    tables = tables_of(2000, 10_000)
    per_property = 100_000_000 + 2000 * (3_000 + 80 * 2 * 512)
    for memory, threads, n_properties, expected in (
        (1 << 27, 8, 8, 1), (1 << 29, 8, 8, 1), (1 << 34, 8, 8, 4), (1 << 34, 3, 8, 3),
        (4 * per_property, 8, 8, 2), (1 << 34, 8, 2, 2),
    ):  # fmt: skip
        resources = Resources(memory=memory, threads=threads)
        assert tables.fits_at_once(n_properties, resources) == expected
    for memory, workers, expected in ((1 << 29, 8, 1), (1 << 34, 8, 8), (1 << 34, 6, 6)):
        resources = Resources(memory=memory, threads=1, workers=workers)
        assert tables.fits_at_once(8, resources) == expected
    few_points = tables_of(129_000, 34)
    for memory, expected in ((10**9, 1), (10**10, 4)):
        resources = Resources(memory=memory, threads=8)
        assert few_points.fits_at_once(8, resources) == expected
    threads_of_pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, threads):
            threads_of_pools.append(threads)
            super().__init__(threads)

    monkeypatch.setattr(connprops.fits.properties, "ThreadPoolExecutor", Pool)
    stats = extract(Dataset(export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "d")))
    models = [
        build(stats, resources=Resources(memory=1 << 34, threads=threads)).table
        for threads in (1, 3, 8)
    ]
    assert threads_of_pools == [1, 3, 4]
    assert all(model.equals(models[0]) for model in models)


@pytest.mark.parametrize("options", [{}, {"correlations": True}, {"interpolation": "unweighted"}])
def test_processes_fit_what_threads_do(stats, tmp_path, options):
    """Of statistics in memory and of those in files, with room for all of these and without."""
    stats.write(tmp_path, correlations=True)
    expected = build(stats, **options)
    told = []
    for of in (stats, read_statistics(tmp_path)):
        for memory in (1 << 30, 1 << 34):
            model = build(
                of, resources=Resources(workers=2, memory=memory),
                progress=lambda *now: told.append(now), **options,
            )  # fmt: skip
            assert model.table.equals(expected.table)
            assert model.fits.equals(expected.fits)
            assert model.scores.equals(expected.scores)
    n = len(stats.properties)
    assert [done for _, done, _, _ in told] == [*range(1, n + 1)] * 4


def test_fits_that_take_long_are_of_processes(stats, monkeypatch):
    """Of which nobody need say how many there are."""
    asked = []

    def run(function, units, workers, what):
        asked.append((len(units), workers, what))
        yield from ((i, function(unit)) for i, unit in reversed([*enumerate(units)]))

    monkeypatch.setattr(connprops.fits.properties, "run_units", run)
    expected = build(stats, resources=Resources(threads=1)).table
    assert asked == []
    resources = Resources(threads=3, memory=1 << 34)
    assert build(stats, resources=resources).table.equals(expected)
    assert asked == []  # these are few
    monkeypatch.setattr(StatisticsTables, "n_pathways", 100_000)
    assert build(stats, resources=resources).table.equals(expected)
    assert asked == [(len(stats.properties), 3, "property")]
    build(extract(stats.dataset, sel_props=["n_syn_per_conn"]), resources=resources)
    assert len(asked) == 1  # there is nothing to divide


@pytest.fixture(scope="module")
def many_types(tmp_path_factory):
    """Statistics of 900 pathways, of which 700 have data, and the means of all."""
    rng = np.random.default_rng(3)
    connection = rng.choice(700, 6000)
    sources, targets = np.divmod(np.arange(900), 30)
    chosen = np.sort(rng.permutation(900)[:700])
    of_source, of_target = rng.normal(0, 0.4, (2, 30))
    s, t = sources[chosen][connection], targets[chosen][connection]
    size = np.exp(3 + of_source[s] + of_target[t]) * rng.gamma(4, 1 / 4, connection.size)
    edges = pl.DataFrame({
        "pre": 30 * rng.integers(0, 400, s.size) + s,
        "post": 30 * rng.integers(0, 400, s.size) + t,
        "size": size,
    })  # fmt: skip
    cells = np.arange(12_000)
    nodes = pl.DataFrame({"id": cells, "cell_type": [f"t{i % 30:02}" for i in cells]})
    names = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}
    opened = open_table(edges, nodes, folder=tmp_path_factory.mktemp("d") / "d", **names)
    return extract(opened), np.exp(3 + of_source[:, None] + of_target).ravel()


def test_ranges_of_pathways_are_fitted_about_as_well_as_all_at_once(many_types):
    stats, truth = many_types
    whole = StatisticsTables.of(stats)
    (prop,) = (p for p in stats.properties if p.name == "size")
    options = BuildOptions(resources=Resources(threads=1))
    own, errors, fits = pl.col("level") < 0, [], []
    for tables in (whole, replace(whole, at_once=400, in_range=150, reference=200)):
        (fitted,) = fit_properties([prop], stats, tables, options)
        assert fitted.scores.filter("chosen")["distribution"].to_list() == ["gamma"]
        means = fitted.model.filter(own, pl.col("parameter") == "mean")
        numbers = means.select(whole.pathways.number_of_row).to_series()
        assert numbers.len() == 700
        assert numbers.is_sorted()
        errors.append(np.log(means["value"].to_numpy() / truth[numbers.to_numpy()]))
        fits.append(fitted.fits.select("source_type", "target_type", "level"))
    # Effects of target types rest on half of the pathways.
    assert np.std(errors[1]) < 1.4 * np.std(errors[0]) < 0.1
    assert np.mean(errors[1]) == pytest.approx(0, abs=0.02)
    # Only those without data borrow, though the reference has few of the others.
    assert [len(frame.filter(~own)) for frame in fits] == [200, 200]
    assert fits[0].filter(own).equals(fits[1].filter(own))


def test_ranges_are_the_same_whoever_fits_them(many_types):
    stats, _ = many_types
    parts = replace(StatisticsTables.of(stats), at_once=400, in_range=150, reference=200)
    told = []
    options = BuildOptions(resources=Resources(threads=1), progress=lambda *now: told.append(now))
    (alone,) = fit_properties(stats.properties[:1], stats, parts, options)
    options = replace(options, resources=Resources(workers=2))
    (shared,) = fit_properties(stats.properties[:1], stats, parts, options)
    assert all(own.equals(other) for own, other in zip(alone, shared, strict=True))
    assert [done for _, done, _, _ in told] == [*range(1, len(told) // 2 + 1)] * 2


def test_ranges_hold_all_pathways_of_their_source_types(many_types):
    stats, _ = many_types
    ranges = replace(StatisticsTables.of(stats), at_once=400, in_range=150, reference=20).ranges(
        stats.properties[0]
    )
    assert [start for start, _ in ranges.bounds[1:]] == [stop for _, stop in ranges.bounds[:-1]]
    assert (ranges.bounds[0][0], ranges.bounds[-1][1]) == (0, 900)
    assert all(start % 30 == 0 for start, _ in ranges.bounds)
    assert len(ranges.bounds) == 5
    assert 20 <= ranges.reference.size <= 24
    assert np.isin(ranges.reference, ranges.numbers).all()


def test_of_equally_many_values_no_values_are_preferred():
    """Of single values, the smallest would stand for all."""
    rng = np.random.default_rng(2)
    value = np.sort(rng.normal(size=40_000))
    n = np.ones(value.size)
    n[rng.choice(value.size, 100, replace=False)] = 2
    chosen = largest_first(n)[:10_000]
    assert np.isin(np.flatnonzero(n == 2), chosen).all()
    assert value[chosen].mean() == pytest.approx(0, abs=0.05)
    assert value[chosen].std() == pytest.approx(1, abs=0.05)


@pytest.mark.filterwarnings("ignore:no source and no target type has a")
def test_families_are_told_by_many_pathways_of_single_values(tmp_path):
    """A table of connections between cells of many types: nearly each is a pathway by itself."""
    rng = np.random.default_rng(5)
    s, t = rng.integers(0, 400, (2, 4000))
    counts = rng.geometric(0.4, s.size)
    edges = pl.DataFrame({"pre": s, "post": t, "syn": counts}).unique(["pre", "post"])
    nodes = pl.DataFrame({"id": np.arange(400), "cell_type": [f"t{i // 2}" for i in range(400)]})
    names = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}
    stats = extract(open_table(edges, nodes, count="syn", folder=tmp_path / "d", **names))
    fits = build(stats).fits
    assert fits["n"].filter(fits["level"] < 0).max() < 10
    assert set(fits["distribution"]) == {"geometric"}
    pool = fits.filter(pl.col("level") >= 0)
    assert pool["model_mean"].mean() == pytest.approx(2.5, rel=0.04)
    assert pool["model_std"].mean() == pytest.approx(np.sqrt(0.6) / 0.4, rel=0.05)
    n, inside = fits["n_left_out"].sum(), fits["n_inside"].sum()
    assert n >= 40
    assert inside / n > 0.85  # of 90 % ranges; counts fill them in steps


def test_ranges_know_of_a_fraction_wherever_it_is(tmp_path):
    """Else most ranges would be of whole numbers, and one not."""
    rng = np.random.default_rng(0)
    s, t = rng.integers(0, 400, (2, 2000))
    size = rng.integers(1, 9, s.size).astype(float)
    size[1234] = 2.5
    edges = pl.DataFrame({"pre": s, "post": t, "size": size})
    nodes = pl.DataFrame({"id": np.arange(400), "cell_type": [f"t{i // 4:02}" for i in range(400)]})
    names = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}
    stats = extract(open_table(edges, nodes, folder=tmp_path / "d", **names))
    (prop,) = (p for p in stats.properties if p.name == "size")
    tables = replace(StatisticsTables.of(stats), at_once=500, in_range=200, reference=20)
    assert s[1234] // 4 * 100 + t[1234] // 4 in tables.ranges(prop).reference
