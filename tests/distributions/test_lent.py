"""What pathways without data borrow, by number, against the rows of every pathway by itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from circuits import write_circuit

import connprops.distributions.rows
import connprops.distributions.table
import connprops.fits.samples.levels
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning
from connprops.export.export import export
from connprops.model.build import build
from connprops.model.model import Model
from connprops.statistics.extract import extract


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a model of six types, of whose 36 pathways some ten have data, and others share."""
    folder = tmp_path_factory.mktemp("lent")
    rng = np.random.default_rng(3)
    types = [f"L{2 + i // 2}_{'PC' if i % 2 else 'BC'}" for i in range(6)]
    ends = rng.integers(0, 24, (14, 2))
    source, target = np.repeat(ends[np.lexsort(ends.T)], 5, axis=0).T
    values = {"p": rng.gamma(3, 1, source.size).astype(np.float32)}
    config = write_circuit(folder / "c", source, target, values, mtype=types * 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connprops.fits.samples.levels, "ALONE_AT_MOST", 0)
        with pytest.warns(ConnpropsWarning, match="borrow without the levels"):
            return build(extract(Dataset(export(resolve_circuit(config), folder / "d"))))


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_pathways_by_number_have_what_they_have_by_name(model, monkeypatch, at_once):
    monkeypatch.setattr(connprops.distributions.rows, "PATHWAYS_AT_ONCE", at_once)
    lent = model.lent("p")
    rows = model.marginals.filter(pl.col("property") == "p")
    n = len(model.pathways)
    by_names = rows.select("source_type", "target_type", "distribution").unique()
    expected = dict(by_names.group_by("distribution").len().iter_rows())
    vars(lent).pop("n_with", None)
    vars(lent).pop("row_of", None)
    assert lent.n_pathways == expected
    assert lent.n_with == len(by_names)
    assert lent.row_of.tolist() == lent.row_at(np.arange(n)).tolist()
    assert 0 < (lent.row_of >= n).sum() < n
    assert (lent.row_of >= 0).sum() == len(by_names)
    for source, target in by_names.select("source_type", "target_type").iter_rows():
        number = model.pathways.number(source, target)
        of_pathway = rows.filter(source_type=source, target_type=target)
        (distribution,) = of_pathway["distribution"].unique()
        (of_family,) = [d for d in lent.rows if d.family.name == distribution]
        place = of_family.pathway.tolist().index(lent.row_at(np.array([number]))[0])
        for name, value in of_pathway.select("parameter", "value").iter_rows():
            assert of_family.parameters[name][place] == value


def test_what_a_large_model_reads_again_is_the_same(model, monkeypatch):
    kept = {name: model.lent(name) for name in model.properties}
    monkeypatch.setattr(connprops.distributions.table, "KEPT_ROWS", 0)
    large = Model(model.table, types=model.types, units=model.units, facts=model.facts)
    for name in [*model.properties, *reversed(model.properties)]:
        for of_family, expected in zip(large.lent(name).rows, kept[name].rows, strict=True):
            assert of_family.pathway.tolist() == expected.pathway.tolist()
            for parameter, values in of_family.parameters.items():
                assert values.tolist() == expected.parameters[parameter].tolist()
        assert large.lent(name) is large.lent(name)
