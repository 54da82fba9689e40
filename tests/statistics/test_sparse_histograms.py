from __future__ import annotations

import polars as pl
import pytest
from circuits import two_types

import connprops.statistics.tables
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning, OptionError
from connprops.export.export import export
from connprops.model.build import build
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics

BINS, PROPERTIES = 45, ["conductance", "u_syn"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sparse")
    return Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d"))


def test_of_many_pathways_those_of_few_values_have_no_histogram(tmp_path, dataset, monkeypatch):
    whole = extract(dataset, hist_bins=BINS, sel_props=PROPERTIES)
    all_rows = whole.histograms.collect()
    monkeypatch.setattr(connprops.statistics.tables, "HISTOGRAM_ROWS_AT_MOST", 100)
    stats = extract(dataset, hist_bins=BINS, sel_props=PROPERTIES)
    with pytest.warns(ConnpropsWarning, match="histograms are of pathways with 45 values and more"):
        stats.write(tmp_path / "s")
    again = read_statistics(tmp_path / "s")
    keys = ["source_type", "target_type", "property"]
    counted = all_rows.group_by(keys).agg(pl.col("count").sum())
    many = counted.filter(pl.col("count") >= BINS)
    assert 0 < len(many) < len(counted)
    expected = all_rows.join(many.select(keys), on=keys, how="semi", maintain_order="left")
    assert again.histograms.collect().equals(expected)
    for table in ("table", "values", "order_statistics"):
        found = getattr(again, table).collect()
        assert found.equals(getattr(whole, table).collect())


def test_what_needs_all_histograms_says_so(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr(connprops.statistics.tables, "HISTOGRAM_ROWS_AT_MOST", 100)
    stats = extract(dataset, hist_bins=BINS, sel_props=PROPERTIES)
    with pytest.warns(ConnpropsWarning, match="histograms are of pathways"):
        stats.write(tmp_path / "s")
    again = read_statistics(tmp_path / "s")
    with pytest.raises(OptionError, match="Arrays need a histogram of each pathway"):
        again.to_arrays()
    with pytest.raises(OptionError, match="through histograms need one of each pathway"):
        build(again, distr_types={"conductance": "truncnorm"}, truncnorm="histogram")
