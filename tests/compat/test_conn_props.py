"""The reference's extract, build and plot, ours beside the installed ones."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import textwrap
import warnings

import bluepysnap
import libsonata
import numpy as np
import pytest
from circuits import SHARED, two_types, write_circuit

import connprops
import connprops.compat as conn_props
from connprops.charts.pathway import roc_curve
from connprops.compat import CompatError
from connprops.errors import ConnpropsError, ConnpropsWarning, OutputError
from connprops.model.model import read_model

# The reference calls what later versions of pandas and numpy deprecate.
of_the_reference = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::RuntimeWarning",
    "ignore::scipy.optimize.OptimizeWarning",
    "ignore::connprops.errors.ConnpropsWarning",
)
NUMBERS = ("mean", "std", "min", "max", "norm_loc", "norm_scale")
NAMED = {"u_syn": "normal", "n_syn_per_conn": "ztpoisson"}


@pytest.fixture
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        return pytest.importorskip("connectome_manipulator.model_building.conn_props")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, in which datasets are kept."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def snapshot(folder):
    return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in folder.rglob("*")}


# extract


def test_extracted_dictionary(tmp_path, temporary):
    config = two_types(tmp_path / "c")
    before = snapshot(tmp_path / "c")
    found = conn_props.extract(bluepysnap.Circuit(str(config)), sel_props=["u_syn", "conductance"])
    assert snapshot(tmp_path / "c") == before
    assert list(found) == ["syns_per_conn_data", "conn_prop_data", "m_types", "m_type_class",
                           "m_type_layer", "syn_props", "hist_bins"]  # fmt: skip
    assert found["m_types"] == [["L4_PC", "L5_BC"]] * 2
    assert found["m_type_class"] == [["EXC", "INH"]] * 2
    assert found["m_type_layer"] == [["4", "5"]] * 2
    assert found["syn_props"] == ["u_syn", "conductance"]  # in the order asked for
    assert found["hist_bins"] == 51
    of_conn, of_syn = found["syns_per_conn_data"], found["conn_prop_data"]
    assert set(of_conn) == {*NUMBERS, "hist", "val", "cnt", "p"}
    assert set(of_syn) == {*of_conn, "shared_within"}
    for name in NUMBERS:
        assert (of_conn[name].shape, of_syn[name].shape) == ((2, 2), (2, 2, 2))
        assert of_conn[name].dtype == of_syn[name].dtype == np.float64
    for name in ("hist", "val", "cnt", "p"):
        assert of_conn[name].dtype == of_syn[name].dtype == object
    counts, edges = of_syn["hist"][0, 0, 1]
    assert (counts.dtype, edges.dtype) == (np.int64, np.float32)  # conductance is float32
    assert (len(counts), len(edges)) == (51, 52)
    assert of_syn["shared_within"][0, 1].tolist() == [0, 1]
    assert of_conn["val"][0, 0].dtype == np.int64
    assert of_syn["val"][0, 0, 0] == []  # too many to be listed
    assert len(list((temporary / f"connprops-{os.getuid()}").glob("c-*"))) == 1
    again = conn_props.extract(config, sel_props=["delay"], hist_bins=3)  # another part of it
    assert again["syn_props"] == ["delay"]
    assert len(list((temporary / f"connprops-{os.getuid()}").glob("c-*"))) == 1
    far = conn_props.extract(config, sel_props=["afferent_center_x"])  # is not exported by default
    assert np.isfinite(far["conn_prop_data"]["mean"]).all()


def test_extract_loads_only_what_it_needs(tmp_path):
    needless = ["scipy", "altair", "pandas", "duckdb", "bluepysnap", "connprops.fits.samples"]
    code = (
        f"import sys, tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        f"import connprops.compat as c; c.extract({str(two_types(tmp_path / 'c'))!r})\n"
        f"print([name for name in {needless!r} if name in sys.modules])\n"
        "print(c.build.__name__, c.ConnPropsModel.__name__)"
    )
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\nbuild ConnPropsModel\n"


def test_changed_circuit_is_extracted_again(tmp_path, temporary):
    first = conn_props.extract(two_types(tmp_path / "c"), sel_props=["u_syn"])
    second = conn_props.extract(two_types(tmp_path / "c", seed=1), sel_props=["u_syn"])
    means = [d["conn_prop_data"]["mean"] for d in (first, second)]
    assert (means[0] != means[1]).all()
    assert temporary.is_dir()


def test_a_dataset_of_another_version_is_made_anew(tmp_path, temporary):
    config = two_types(tmp_path / "c")
    first = conn_props.extract(config, sel_props=["u_syn"])
    (manifest,) = temporary.glob("*/*/manifest.json")
    for content in ('{"schema_version": 999}', "{"):
        manifest.write_text(content)
        with pytest.warns(ConnpropsWarning, match="made anew"):
            again = conn_props.extract(config, sel_props=["u_syn"])
        np.testing.assert_array_equal(
            again["conn_prop_data"]["mean"], first["conn_prop_data"]["mean"]
        )


def test_nothing_extracted(tmp_path, temporary):
    config = two_types(tmp_path / "c")
    for least in (np.inf, 10_000):
        found = conn_props.extract(config, min_sample_size_per_group=least, sel_props=["u_syn"])
        assert found["m_types"] == [["L4_PC", "L5_BC"]] * 2
        for data in (found["syns_per_conn_data"], found["conn_prop_data"]):
            for array in data.values():
                assert all(isinstance(one, float) and np.isnan(one) for one in array.ravel())
        with pytest.raises(CompatError, match="No pathway has data"):
            conn_props.build(**found)
    assert conn_props.extract(config, sel_props=[])["conn_prop_data"]["mean"].shape == (2, 2, 0)
    assert temporary.is_dir()


def test_refused_options(tmp_path, temporary):
    config = two_types(tmp_path / "c")
    for options, text in (
        ({"sel_props": ["u_sin"]}, "Unknown property: 'u_sin'"),
        ({"edges_popul_name": "x"}, "Unknown edge population"),
        ({"sel_src": "x"}, "Unknown node set"),
        ({"CV_dict": {"n_folds": 2}}, "CV_dict is incomplete"),
    ):
        with pytest.raises(AssertionError, match=text) as caught:
            conn_props.extract(config, **options)
        assert isinstance(caught.value, ConnpropsError)
    assert temporary.is_dir()


def test_a_temporary_folder_of_somebody_else(tmp_path, temporary):
    (tmp_path / "theirs").mkdir()
    (temporary / f"connprops-{os.getuid()}").symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputError, match="is in the way, where unfinished work goes"):
        conn_props.extract(two_types(tmp_path / "c"))


def test_whole_numbers_as_layers(tmp_path, temporary):
    config = write_circuit(
        tmp_path / "c", [0, 1, 1], [1, 0, 2], {"u_syn": [0.1, 0.2, 0.3]}, mtype=["A", "B", "B"],
        attributes={"layer": [2, 3, 3], "synapse_class": ["EXC"] * 3},
    )  # fmt: skip
    found = conn_props.extract(config)
    assert found["m_type_layer"] == [[2, 3]] * 2
    assert temporary.is_dir()


# build


def arrays(shape, n_properties, *, seed=0):
    """Return dictionaries of made-up statistics."""
    rng = np.random.default_rng(seed)
    of_conn = {name: rng.integers(1, 10, shape).astype(float) for name in NUMBERS}
    of_syn = {name: rng.random((*shape, n_properties)) for name in NUMBERS}
    of_syn["shared_within"] = np.round(rng.random((*shape, n_properties)))
    for of in (of_conn, of_syn):
        cells = {name: np.full(of["mean"].shape, np.nan, dtype=object) for name in ("val", "cnt")}
        cells["p"] = cells["val"].copy()
        for at in np.ndindex(of["mean"].shape):
            values, counts = np.unique(rng.integers(20, size=10), return_counts=True)
            for name, array in zip(cells, (values, counts, counts / 10), strict=True):
                cells[name][at] = array
        of.update(cells)
    return of_conn, of_syn


TYPES = [["L4_PC:A", "L4_PC:B", "L5_PC", "L5_MC"]] * 2
CLASSES = [["EXC", "EXC", "EXC", "INH"]] * 2
LAYERS = [[4, 4, 5, 5]] * 2


def built(of_conn, of_syn, properties=("g",), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConnpropsWarning)  # of what has no distribution
        return conn_props.build(
            of_conn, of_syn, TYPES, CLASSES, LAYERS, list(properties), **options
        )


def test_parameters_are_the_statistics():
    of_conn, of_syn = arrays((4, 4), 2)
    m = built(of_conn, of_syn, ["g", "u"], distr_types={"g": "truncnorm"},
              data_types={"u": "int"}, data_bounds={"u": [None, 5], "g": (-np.inf, np.inf)},
              shared_within={"u": True}, hist_bins=51, CV_dict=None)  # fmt: skip
    assert m.get_prop_names() == ["g", "u", "n_syn_per_conn"]
    for i, source in enumerate(TYPES[0]):
        for j, target in enumerate(TYPES[1]):
            cell = {name: array[i, j] for name, array in of_syn.items()}
            assert m.get_distr_props("g", source, target) == {
                "type": "truncnorm", "norm_loc": cell["norm_loc"][0],
                "norm_scale": cell["norm_scale"][0], "min": cell["min"][0], "max": cell["max"][0],
                "shared_within": cell["shared_within"][0],
            }  # fmt: skip
            assert m.get_distr_props("u", source, target) == {
                "type": "normal", "mean": cell["mean"][1], "std": cell["std"][1],
                "shared_within": True, "dtype": "int", "upper_bound": 5,
            }  # fmt: skip
            assert m.get_distr_props("n_syn_per_conn", source, target) == {
                "type": "normal", "mean": of_conn["mean"][i, j], "std": of_conn["std"][i, j]
            }  # fmt: skip


@pytest.mark.parametrize(
    ("missing", "lenders"),
    [  # of the first type to itself
        ([(0, 0)], [(0, 0), (0, 1)]),
        ([(0, 0), (0, 1)], [(0, 0), (0, 1), (0, 2)]),
        ([(0, 0), (0, 1), (0, 2)], [(i, j) for i in (0, 1) for j in (0, 1)]),
        ([(i, j) for i in (0, 1) for j in (0, 1, 2)], [(i, j) for i in range(3) for j in range(3)]),
        ([(i, j) for i in range(3) for j in range(3)], [(i, j) for i in range(4)
                                                        for j in range(4)]),
    ],
)  # fmt: skip
def test_levels_of_interpolation(missing, lenders):
    of_conn, of_syn = arrays((4, 4), 1, seed=3)
    for of in (of_conn, of_syn):
        for name in of:
            for at in missing:
                of[name][at] = np.nan
    of_syn["shared_within"][~np.isnan(of_syn["shared_within"])] = 1.0
    there = [at for at in lenders if at not in missing]
    truncated = built(of_conn, of_syn, distr_types={"g": "truncnorm", "n_syn_per_conn": "normal"})
    distribution = truncated.get_distr_props("g", TYPES[0][0], TYPES[1][0])
    cells = {name: [of_syn[name][at][0] for at in there] for name in of_syn}
    assert distribution["norm_loc"] == pytest.approx(np.mean(cells["norm_loc"]), rel=1e-15)
    assert distribution["norm_scale"] == pytest.approx(np.mean(cells["norm_scale"]), rel=1e-15)
    assert (distribution["min"], distribution["max"]) == (min(cells["min"]), max(cells["max"]))
    assert distribution["shared_within"] == 1.0
    of_n = truncated.get_distr_props("n_syn_per_conn", TYPES[0][0], TYPES[1][0])
    assert of_n["std"] == pytest.approx(np.mean([of_conn["std"][at] for at in there]), rel=1e-15)
    listed = built(of_conn, of_syn, distr_types={"g": "discrete"})
    distribution = listed.get_distr_props("g", TYPES[0][0], TYPES[1][0])
    pooled = np.concatenate(
        [np.repeat(v, c) for v, c in zip(cells["val"], cells["cnt"], strict=True)]
    )
    values, counts = np.unique(pooled, return_counts=True)
    assert distribution["val"] == values.tolist()
    np.testing.assert_allclose(distribution["p"], counts / pooled.size, rtol=1e-15)


def test_a_tie_is_not_shared():
    of_conn, of_syn = arrays((4, 4), 1)
    of_conn["mean"][0, 0] = np.nan
    for name in of_syn:
        of_syn[name][0, 0] = np.nan
    of_conn["mean"][0, 1] = np.nan  # leaves (0, 2) alone for level 1, and two for level 0 of others
    of_syn["shared_within"][0, 2] = 0
    assert built(of_conn, of_syn).get_distr_props("g", *["L4_PC:A"] * 2)["shared_within"] == 0
    of_conn, of_syn = arrays((4, 4), 1)
    of_conn["mean"][0, 2] = np.nan  # level 1: (0, 0) and (0, 1), besides itself
    of_syn["shared_within"][0, :3, 0] = [0, 1, np.nan]
    assert built(of_conn, of_syn).get_distr_props("g", "L4_PC:A", "L5_PC")["shared_within"] == 0


def test_interpolated_values_do_not_depend_on_the_order_of_types():
    """The reference reads the table that it is filling."""
    of_conn, of_syn = arrays((4, 4), 1)
    for at in ((0, 0), (0, 1), (1, 0)):
        of_conn["mean"][at] = np.nan
        for name in of_syn:
            of_syn[name][at] = np.nan
    order = [3, 1, 0, 2]
    turned = [
        {name: array[np.ix_(order, order)] for name, array in of.items()}
        for of in (of_conn, of_syn)
    ]
    about = [[[one[i] for i in order]] * 2 for (one, _) in (TYPES, CLASSES, LAYERS)]
    options = {"distr_types": {"g": "discrete", "n_syn_per_conn": "discrete"}}
    one = conn_props.build(of_conn, of_syn, TYPES, CLASSES, LAYERS, ["g"], **options)
    other = conn_props.build(*turned, *about, ["g"], **options)
    for source in TYPES[0]:
        for target in TYPES[1]:
            distributions = [m.get_distr_props("g", source, target) for m in (one, other)]
            assert distributions[0] == distributions[1]


def test_refused_builds():
    of_conn, of_syn = arrays((4, 4), 1)
    for options, text in (
        ({"distr_types": {"g": "WRONG"}}, 'Distribution type "WRONG" not supported!'),
        ({"data_bounds": {"g": [2, 1]}}, "Data bounds error!"),
        ({"data_bounds": {"g": [1, 2, 3]}}, "Data bounds error!"),
        ({"data_types": {"g": "number"}}, "none of numpy's"),
        ({"shared_within": {"g": "yes"}}, "is no bool"),
    ):
        with pytest.raises(AssertionError, match=text):
            built(of_conn, of_syn, **options)
    del of_syn["val"]
    with pytest.raises(AssertionError, match="ERROR: Not all required attribute"):
        built(of_conn, of_syn, distr_types={"g": "discrete"})
    of_syn["std"][2, 1] = np.nan
    with pytest.raises(AssertionError, match="'g' of 'L5_PC' to 'L4_PC:B': 'std'"):
        built(of_conn, of_syn)


def test_what_is_warned_of():
    of_conn, of_syn = arrays((4, 4), 1)
    build = conn_props.build
    args = (of_conn, of_syn, TYPES, CLASSES, LAYERS, ["g"])
    with pytest.warns(ConnpropsWarning, match='No distribution type for "g"'):
        build(*args, distr_types={"n_syn_per_conn": "normal"})
    normal = {"n_syn_per_conn": "normal"}
    with pytest.warns(ConnpropsWarning, match="yet varies in 16 pathways"):
        build(*args, distr_types={"g": "constant", **normal})
    with pytest.warns(ConnpropsWarning, match="not extracted: 'h'"):
        build(*args, distr_types={"g": "gamma", **normal}, data_types={"h": "int"})
    build(*args, distr_types={"g": "zero", **normal})  # without a warning
    zero = build(*args, distr_types={"g": "zero", **normal})
    assert zero.get_distr_props("g", "L5_PC", "L5_MC") == {"type": "zero", "shared_within": False}


# Beside the reference


def differences(theirs, ours, where=""):
    """Return what is not the same in two nested dictionaries: keys, order, types, values."""
    if isinstance(theirs, dict):
        if list(theirs) != list(ours):
            return [(where, list(theirs), list(ours))]
        return [d for key in theirs for d in differences(theirs[key], ours[key], f"{where}/{key}")]
    same = type(theirs) is type(ours) and theirs == ours
    return [] if same else [(where, theirs, ours)]


@of_the_reference
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", ["normal", "truncnorm", "gamma", "poisson", "discrete", "zero"])
def test_builds_are_the_references(reference, family, seed):
    of_conn, of_syn = arrays((4, 4), 3, seed=seed)
    rng = np.random.default_rng(seed)
    for at in zip(*np.nonzero(rng.random((4, 4)) < 0.3), strict=True):
        for of in (of_conn, of_syn):
            for name in of:
                of[name][at] = np.nan
    if family == "discrete":  # one missing pathway: of several the reference reads what it filled
        of_conn, of_syn = arrays((4, 4), 3, seed=seed)
        of_conn["mean"][1, seed] = np.nan
        of_syn["val"][1, seed], of_syn["cnt"][1, seed] = np.nan, np.nan
    options = {
        "distr_types": {"a": family, "b": "normal", "c": family, "n_syn_per_conn": "normal"},
        "data_types": {"a": "int", "n_syn_per_conn": "int"},
        "data_bounds": {"b": [0, None], "c": [0.1, 0.9]},
        "shared_within": {"c": seed == 1},
    }
    args = (of_conn, of_syn, TYPES, CLASSES, LAYERS, ["a", "b", "c"])
    theirs = reference.build(*args, **options).get_param_dict()
    assert differences(theirs, conn_props.build(*args, **options).get_param_dict()) == []


@of_the_reference
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
def test_a_real_circuit_beside_the_reference(reference, temporary, tmp_path):
    circuit = bluepysnap.Circuit(str(SHARED / "nbs1_ten_cells" / "circuit_config.json"))
    options = {"edges_popul_name": "S1nonbarrel_neurons__S1nonbarrel_neurons__chemical",
               "sel_props": ["u_syn", "conductance", "n_rrp_vesicles"]}  # fmt: skip
    theirs, ours = (module.extract(circuit, **options) for module in (reference, conn_props))
    for key in ("m_types", "m_type_class", "m_type_layer", "syn_props", "hist_bins"):
        assert ours[key] == theirs[key]
    for key in ("syns_per_conn_data", "conn_prop_data"):
        assert list(ours[key]) == list(theirs[key])
        for name, array in theirs[key].items():
            assert ours[key][name].dtype == array.dtype
            if name in NUMBERS:
                np.testing.assert_allclose(ours[key][name], array, rtol=1e-6)
    families = {"u_syn": "truncnorm", "conductance": "gamma", "n_rrp_vesicles": "poisson"}
    models = [module.build(**theirs, distr_types=families) for module in (reference, conn_props)]
    assert differences(*(m.get_param_dict() for m in models)) == []
    models[1].save_model(tmp_path, "m")
    from connectome_manipulator.model_building.model_types import AbstractModel

    loaded = AbstractModel.model_from_file(str(tmp_path / "m.json"))  # theirs, of our file
    assert differences(loaded.get_param_dict(), models[0].get_param_dict()) == []
    assert temporary.is_dir()


@of_the_reference
def test_generated_circuits_beside_the_reference(reference, temporary, tmp_path):
    config = two_types(tmp_path / "c")
    libsonata.EdgePopulation.write_indices(str(tmp_path / "c" / "edges.h5"), "default", 10, 10)
    circuit = bluepysnap.Circuit(str(config))
    options = {"sel_props": ["conductance", "u_syn", "n_rrp_vesicles"], "sel_src": "Left",
               "min_sample_size_per_group": 7}  # fmt: skip
    families = {"conductance": "gamma", "u_syn": "truncnorm", "n_rrp_vesicles": "discrete",
                "n_syn_per_conn": "ztpoisson"}  # fmt: skip
    distributions = []
    for module in (reference, conn_props):
        model = module.build(**module.extract(circuit, **options), distr_types=families)
        distributions.append(model.get_param_dict()["prop_stats"])
    compared = 0
    for name, by_source in distributions[0].items():
        for source, by_target in by_source.items():
            for target, distribution in by_target.items():
                compared += 1
                found = distributions[1][name][source][target]
                assert list(found) == list(distribution)
                for key in distribution.keys() - {"type", "norm_loc", "norm_scale"}:
                    np.testing.assert_allclose(found[key], distribution[key], rtol=1e-14)
                assert found["type"] == distribution["type"]
    assert compared == 16
    assert temporary.is_dir()


# The reference's own tests


SWAP = """
import sys, pytest, connprops.compat as ours
import connectome_manipulator.model_building as building
from connectome_manipulator.model_building import model_types
name = "connectome_manipulator.model_building.conn_props"
sys.modules[name] = building.conn_props = ours
model_types.ConnPropsModel = ours.ConnPropsModel
folder = sys.argv[1]
sys.path.insert(0, folder)
options = ["-q", "-c", "/dev/null", "--rootdir", folder, "-p", "no:cacheprovider", "-W", "ignore"]
code = pytest.main([f"{folder}/test_conn_props.py",
                    f"{folder}/test_model_types.py::test_ConnPropsModel", *options])
assert sys.modules["test_conn_props"].test_module is ours
sys.exit(code)
"""


@pytest.fixture(scope="module")
def their_tests(tmp_path_factory):
    """The folder of the reference's unit tests: given, or in its source distribution on PyPI."""
    given = os.environ.get("CONNPROPS_REFERENCE_SDIST")
    folder = tmp_path_factory.mktemp("sdist")
    if given is None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:",
                   "--retries", "0", "--timeout", "5", "-d", str(folder),
                   "connectome-manipulator==1.0.4"]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, timeout=90, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            pytest.skip("the reference's source distribution took too long to come")
        if done.returncode:
            pytest.skip("the reference's source distribution could not be downloaded")
        given = next(folder.glob("*.tar.gz"))
    with tarfile.open(given) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob("*/tests/unit"))


def test_their_tests_pass_with_our_module(their_tests, reference, tmp_path):
    assert reference
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", textwrap.dedent(SWAP), str(their_tests)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
    assert "3 passed" in run.stdout


def test_their_published_models_load(their_tests):
    for name, has_counts in (("ConnProps", True), ("ConnPropsNoNSynConn", False)):
        file = their_tests / "data" / f"model_config__{name}.json"
        theirs, ours = conn_props.ConnPropsModel.model_from_file(file), read_model(file)
        assert theirs.has_nsynconn is has_counts
        assert sorted(ours.properties) == sorted(theirs.get_prop_names())
        for source in theirs.get_src_types():
            for prop in theirs.get_prop_names():
                distribution = theirs.get_distr_props(prop, source, theirs.get_tgt_types()[0])
                if "mean" in distribution:
                    found = ours.mean(prop, source, theirs.get_tgt_types()[0])
                    assert found == pytest.approx(distribution["mean"], rel=1e-9)


# plot


def test_areas_of_the_roc_curve():
    edges = np.arange(5.0)
    same = roc_curve(edges, np.array([1, 2, 3, 0]), np.array([2, 4, 6, 0]))
    assert same[2:] == pytest.approx((0, 0), abs=1e-12)
    apart = roc_curve(edges, np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    assert apart[2:] == pytest.approx((0.5, 0.5), abs=0.006)  # but for the steps of 0.01
    turned = roc_curve(edges, np.array([1, 1, 0, 0]), np.array([0, 0, 1, 1]))
    assert turned[2:] == pytest.approx((-0.5, 0.5), abs=0.006)
    # Centres at 0, 1/3, 2/3, 1: shares above are 1, 1/2, 1/2, 1/2 of the data; 1, 1, 1/2, 0.
    false, true, auc, error = roc_curve(edges, np.array([1, 0, 0, 1]), np.array([0, 1, 1, 0]))
    assert set(zip(false.tolist(), true.tolist(), strict=True)) == {(1, 1), (1, 0.5), (0.5, 0.5),
                                                                   (0, 0.5)}  # fmt: skip
    assert (auc, error) == pytest.approx((0, 0.25), abs=0.01)
    one = roc_curve(np.array([0.0, 1.0]), np.array([5]), np.array([3]))
    assert one[2:] == pytest.approx((0, 0), abs=1e-12)


@of_the_reference
def test_areas_are_the_references(reference, monkeypatch):
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # which numpy 2.4 has no more
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.3, -0.8, 3.0):
        data, edges = np.histogram(rng.normal(0, 1, 2000), bins=51)
        wide = np.arange(-8, 9) / 2
        drawn = rng.normal(shift, 1.3, 1000)
        theirs = reference._compute_AUC(data, np.histogram(drawn, wide)[0], edges, wide)
        ours = roc_curve(wide, np.histogram(rng.normal(0, 1, 2000), wide)[0],
                         np.histogram(drawn, wide)[0])  # fmt: skip
        # Coarser bins for the data, and other draws of them.
        assert ours[2:] == pytest.approx(theirs[:2], abs=0.06)
        common = np.histogram(rng.normal(0, 1, 2000), wide)[0]
        theirs = reference._compute_AUC(common, np.histogram(drawn, wide)[0], wide, wide)
        ours = roc_curve(wide, common, np.histogram(drawn, wide)[0])
        assert ours[2:] == pytest.approx(theirs[:2], abs=0.01)


def test_figures(tmp_path, temporary):
    found = conn_props.extract(two_types(tmp_path / "c"), sel_props=["u_syn"])
    m = conn_props.build(**found, distr_types=NAMED)
    conn_props.plot(tmp_path / "figures", **found, model=m, plot_sample_size=50)
    names = ["u_syn", "n_syn_per_conn"]
    kinds = ["map_mean", "map_std", "map_shared_within", "hist", "AUC"]
    expected = {f"data_vs_model_{kind}__{name}.png" for kind in kinds for name in names}
    expected.remove("data_vs_model_map_shared_within__n_syn_per_conn.png")
    files = {f.name: f for f in (tmp_path / "figures").iterdir()}
    assert set(files) == expected
    assert all(f.read_bytes().startswith(b"\x89PNG") for f in files.values())
    with pytest.raises(CompatError, match="plot_sample_size"):
        conn_props.plot(tmp_path / "figures", **found, model=m, plot_sample_size=0)
    nothing = conn_props.extract(
        tmp_path / "c" / "circuit_config.json",
        sel_props=["u_syn"],
        min_sample_size_per_group=np.inf,
    )
    with pytest.raises(CompatError, match="No pathway has data"):
        conn_props.plot(tmp_path / "none", **nothing, model=m)
    assert temporary.is_dir()


def test_our_own_build_has_the_references_ways_too(tmp_path, temporary):
    """Fits of this package, with the reference's least squares and its interpolation."""
    config = two_types(tmp_path / "c")
    options = {"sel_props": ["u_syn"], "min_sample_size_per_group": 13}
    found = conn_props.extract(config, **options)
    missing = ~np.isfinite(found["syns_per_conn_data"]["mean"])
    assert 0 < missing.sum() < 4
    families = {"u_syn": "truncnorm", "n_syn_per_conn": "poisson"}
    theirs = conn_props.build(**found, distr_types=families)
    stats = connprops.extract(connprops.open_circuit(config, tmp_path / "d"), **options)
    ours = connprops.build(
        stats, distr_types=families, truncnorm="histogram", interpolation="unweighted"
    )
    for source in theirs.get_src_types():
        for target in theirs.get_tgt_types():
            distribution = theirs.get_distr_props("u_syn", source, target)
            parameters = ours.distribution("u_syn", source, target).parameters
            for name in ("norm_loc", "norm_scale", "min", "max"):
                assert parameters[name].item() == pytest.approx(distribution[name], rel=1e-6)
            counts = theirs.get_distr_props("n_syn_per_conn", source, target)
            assert ours.mean("n_syn_per_conn", source, target) == pytest.approx(counts["mean"])
    assert temporary.is_dir()
