from __future__ import annotations

import numpy as np
import pytest
from circuits import write_circuit

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning
from connprops.export.export import export
from connprops.export.profile import merged, profile
from connprops.statistics.extract import extract


def role(values, *, labels=None):
    values = np.asarray(values)
    return profile(values).role(values.dtype.name, labels)


def test_roles():
    assert role(np.arange(40)) == "identifier"
    assert role(np.random.default_rng(0).permutation(40)) == "identifier"
    assert role(np.arange(10)) == "property"  # ten numbers may differ by chance
    assert role(np.arange(40) % 39) == "property"
    assert role(np.arange(40.0)) == "property"
    assert role(np.arange(40, dtype=np.uint8)) == "property"
    assert role([2**60, 1, 1]) == "too large"
    assert role([0, 1, 0], labels=("a", "b")) == "categories"


def test_shared_values_are_no_identifiers():
    assert not profile(np.arange(30), np.repeat([2, 1], 15)).distinct


def test_merging_parts_equals_the_whole():
    rng = np.random.default_rng(1)
    for values in (
        np.arange(60),
        rng.integers(-1, 5, 60),
        rng.normal(size=60),
        np.full(60, np.nan),
    ):
        parts = [profile(piece) for piece in np.split(values, [13, 40])]
        assert merged(parts) == profile(values)


def test_sentinels():
    assert profile(np.array([-1, 0.5, 2.0])).has_sentinel
    assert not profile(np.array([-1, -2, 2.0])).has_sentinel
    assert not profile(np.array([-1, -1, -1])).has_sentinel
    assert not profile(np.array([0.0, 1.0])).has_sentinel


def test_shared_values_count_for_all_synapses_of_their_connection():
    values = np.array([-1.0, np.nan, 2.0, -1.0])
    shared = profile(values, np.array([2, 3, 1, 1]))
    assert (shared.n, shared.n_not_finite, shared.n_negative, shared.n_minus_one) == (7, 3, 3, 3)
    assert not profile(np.array([-1.0, np.nan]), np.array([2, 3])).has_sentinel


def test_identifiers_stay_out_of_the_default_properties_and_sentinels_are_named(tmp_path):
    n = 60
    columns = {
        "synapse_id": np.arange(n) + 7,
        "rho": np.where(np.arange(n) % 7 == 0, -1.0, 0.5),
        "kind": ["x", "y"] * (n // 2),
    }
    source, target = np.arange(n) // 2 % 3, np.arange(n) // 20
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=["A"] * 3)
    with pytest.warns(ConnpropsWarning) as told:
        ds = Dataset(export(resolve_circuit(config), tmp_path / "d"))
    texts = " ".join(str(warning.message) for warning in told)
    assert "'rho' is -1 in 9 places" in texts
    assert "'synapse_id' has 60 whole numbers that all differ" in texts
    assert {c.name: c.role for c in ds.columns} == {
        "synapse_id": "identifier",
        "rho": "property",
        "kind": "categories",
    }
    assert [p.name for p in extract(ds).properties] == ["kind", "rho", "n_syn_per_conn"]
    asked = extract(ds, sel_props=["synapse_id"])
    assert asked.table.collect()["max"].max() == n + 6
    named = Dataset(export(resolve_circuit(config), tmp_path / "n", properties=["synapse_id"]))
    assert [p.name for p in extract(named).properties] == ["synapse_id", "n_syn_per_conn"]
