"""All properties are fitted at once, with the same numbers wherever that is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from circuits import two_types

import connprops.fits.properties
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.fits.samples import StatisticsTables
from connprops.model.build import build
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
    per_property = 100_000_000 + 2000 * (5_000 + 80 * 2 * 512)
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
    for memory, expected in ((10**9, 1), (10**10, 3)):
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
