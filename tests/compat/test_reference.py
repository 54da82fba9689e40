"""The installed reference and us, side by side on the same circuits."""

from __future__ import annotations

import bluepysnap
import libsonata
import numpy as np
import pytest
from circuits import SHARED, two_types

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.statistics.extract import extract

# The reference calls what later versions of pandas and numpy deprecate; and curve_fit warns where
# its covariance is not known, which the reference takes as a fit that failed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::scipy.optimize.OptimizeWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning"),
]


def both(config, folder, population=None, **options):
    """Return the reference's dictionaries and ours."""
    reference = pytest.importorskip("connectome_manipulator.model_building.conn_props")
    theirs = reference.extract(
        bluepysnap.Circuit(str(config)), edges_popul_name=population, **options
    )
    ds = Dataset(export(resolve_circuit(config), folder, population=population))
    return theirs, extract(ds, **options).to_arrays()


def assert_equal(theirs, ours):
    for key in ("m_types", "m_type_class", "m_type_layer", "hist_bins"):
        assert ours[key] == theirs[key], key
    assert set(ours["syn_props"]) == set(
        theirs["syn_props"]
    )  # its order follows Python's hash seed
    order = [ours["syn_props"].index(name) for name in theirs["syn_props"]]
    data = {k: v[..., order] for k, v in ours["conn_prop_data"].items()}
    compared = 0
    for found, expected in (
        (ours["syns_per_conn_data"], theirs["syns_per_conn_data"]),
        (data, theirs["conn_prop_data"]),
    ):
        assert found.keys() == expected.keys()
        for name in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, err_msg=name)
        if "shared_within" in expected:
            np.testing.assert_array_equal(found["shared_within"], expected["shared_within"])
        observed = ~np.isnan(expected["mean"])
        np.testing.assert_array_equal(observed, ~np.isnan(found["mean"]))
        for at in zip(*np.nonzero(observed), strict=True):
            compared += 1
            for a, b in zip(found["hist"][at], expected["hist"][at], strict=True):
                assert np.asarray(a).tolist() == np.asarray(b).astype(np.asarray(a).dtype).tolist()
            for name in ("val", "cnt", "p"):
                assert list(found[name][at]) == list(expected[name][at]), name
        fitted = observed & (expected["norm_loc"] != expected["mean"])  # else the data's mean
        for name in ("norm_loc", "norm_scale"):
            np.testing.assert_allclose(found[name][fitted], expected[name][fitted], rtol=1e-3)
    assert compared


def test_generated_circuits(tmp_path):
    config = two_types(tmp_path / "c")
    edges = str(tmp_path / "c" / "edges.h5")
    libsonata.EdgePopulation.write_indices(edges, "default", 10, 10)  # which the reference needs
    assert_equal(*both(config, tmp_path / "d"))
    assert_equal(*both(config, tmp_path / "d", sel_src={"synapse_class": "EXC"}, hist_bins=11))
    assert_equal(*both(config, tmp_path / "d", sel_dest="Left", min_sample_size_per_group=12))
    assert_equal(*both(config, tmp_path / "d", sel_props=["u_syn"], sel_src=[0, 2, 7]))
    theirs, ours = both(config, tmp_path / "d", sel_props=[])
    assert ours["syn_props"] == theirs["syn_props"] == []


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.parametrize(
    ("circuit", "population"),
    [
        ("nbs1_ten_cells", "S1nonbarrel_neurons__S1nonbarrel_neurons__chemical"),
        ("thalamus_400", "thalamus_neurons__thalamus_neurons__chemical"),
    ],
)
def test_public_circuits(tmp_path, circuit, population):
    config = SHARED / circuit / "circuit_config.json"
    assert_equal(*both(config, tmp_path / "d", population))
