"""The reference's model-building configurations, run as they are."""

from __future__ import annotations

import json
import os

import pytest
from circuits import two_types
from typer.testing import CliRunner

import connprops.compat.build_model as module
from connprops.cli import app
from connprops.compat import ConnPropsModel
from connprops.compat.build_model import build_model
from connprops.errors import CircuitError, ConnpropsWarning, OptionError
from connprops.model.model import read_model
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics

KWARGS = {
    "min_sample_size_per_group": 2,
    "max_sample_size_per_group": None,
    "hist_bins": 21,
    "sel_props": ["u_syn", "conductance"],
    "sel_src": None,
    "sel_dest": {"node_set": "Left"},
    "distr_types": {"u_syn": "truncnorm", "conductance": "gamma", "n_syn_per_conn": "ztpoisson"},
    "data_types": {"n_syn_per_conn": "int"},
    "data_bounds": {"u_syn": [0, 1]},
    "shared_within": {"u_syn": True},
    "plot_sample_size": 100,
}


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """Figures, which take long and have tests of their own, are only counted here."""
    calls = []

    def plot(folder, *_, model, plot_sample_size, hist_bins, **__):
        calls.append((folder, model, plot_sample_size, hist_bins))

    monkeypatch.setattr(module, "plot", plot)
    return calls


def configured(folder, *, name="M", **changes):
    """Write a circuit and a configuration with relative paths; go there."""
    os.chdir(folder)
    two_types(folder / "circuit")
    kwargs = {**KWARGS, **changes.pop("kwargs", {})}
    content = {
        "working_dir": "work", "out_dir": "out", "seed": 3, "CV_folds": None,
        "circuit_config": "circuit/circuit_config.json",
        "model": {"name": name, "fct": {"source": "conn_props", "kwargs": kwargs}},
        **changes,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


@pytest.fixture(autouse=True)
def _back():
    here = os.getcwd()  # noqa: PTH109
    yield
    os.chdir(here)


def run(config, **options):
    """Build; return what is said of each file, without its path."""
    said = []
    files = build_model(config, say=said.append, **options)
    return files, [text.split(": ", 1)[1] for text in said]


def test_files_go_where_the_reference_puts_them(tmp_path, drawn):
    (file,), said = run(configured(tmp_path))
    assert said == ["extracted (not there yet)", "built (not there yet)"]
    assert (tmp_path / file) == tmp_path / "work" / "model" / "M.json"
    assert (tmp_path / "work" / "data" / "M__dataset" / "manifest.json").is_file()
    config = json.loads((tmp_path / "out" / "output" / "M" / "model_config.json").read_text())
    assert config == json.loads((tmp_path / "config.json").read_text())
    ((folder, model, size, bins),) = drawn
    assert (str(folder), size, bins) == ("out/output/M", 100, 21)
    stats = read_statistics(tmp_path / "work" / "data" / "M")
    assert stats.options["hist_bins"] == 21
    assert stats.options["seed"] == 3
    direct = extract(
        tmp_path / "work" / "data" / "M__dataset", sel_dest={"region": "left"},
        sel_props=["u_syn"], min_sample_size_per_group=2,
    ).table.collect()  # fmt: skip
    assert stats.table.collect().filter(property="u_syn")["mean"].to_list() == (
        direct.filter(property="u_syn")["mean"].to_list()
    )
    loaded = ConnPropsModel.model_from_file(file)
    assert loaded.get_param_dict() == model.get_param_dict()
    assert loaded.get_prop_names() == ["u_syn", "conductance", "n_syn_per_conn"]
    distribution = loaded.get_distr_props("u_syn", "L4_PC", "L5_BC")
    attributes = ("type", "shared_within", "lower_bound", "upper_bound")
    assert tuple(distribution[name] for name in attributes) == (
        "truncnorm", True, 0, 1
    )  # fmt: skip
    assert read_model(file).properties == loaded.get_prop_names()


def test_what_is_reused(tmp_path):
    config = configured(tmp_path)
    run(config)
    same = [
        "reused, circuit and options are the same",
        "reused, statistics and options are the same",
    ]
    assert run(config)[1] == same
    assert run(config, force_rebuild=True)[1] == [same[0], "built (--force-rebuild)"]
    assert run(config, force_reextract=True)[1] == ["extracted (--force-reextract)", same[1]]
    config = configured(tmp_path, kwargs={"data_bounds": {"u_syn": [0, 0.5]}})
    files, said = run(config)
    assert said == [same[0], "built (other options)"]
    assert ConnPropsModel.model_from_file(files[0]).get_distr_props("u_syn", "L4_PC", "L4_PC")[
        "upper_bound"
    ] == 0.5  # fmt: skip
    config = configured(tmp_path, kwargs={"hist_bins": 7})
    assert run(config)[1] == ["extracted (hist_bins was 21, is 7)",
                              "built (other statistics and options)"]  # fmt: skip
    two_types(tmp_path / "circuit", seed=1)
    assert run(config)[1] == ["extracted (the circuit has changed)", "built (other statistics)"]
    (tmp_path / "work" / "model" / "M.json").write_text("{}")
    damaged = tmp_path / "work" / "data" / "M" / "values.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    again = run(config)[1]
    assert again[0].startswith("extracted (")
    assert "Parquet" in again[0]
    assert again[1] == "built (of unknown origin)"


def test_folds(tmp_path, drawn):
    config = configured(tmp_path, CV_folds=3, kwargs={"sel_dest": None})
    files, said = run(config, cv_folds=2)  # goes before the file's
    names = [f"M__CV2-{i}-train" for i in (1, 2)]
    assert [f.stem for f in files] == names
    assert len(said) == 6
    parts = [f"CV2-{i}-{which}" for i in (1, 2) for which in ("train", "test")]
    assert [str(folder) for folder, *_ in drawn] == [f"out/output/M/{part}" for part in parts]
    assert [drawn[i][1] is drawn[i + 1][1] for i in (0, 1, 2)] == [True, False, True]
    sizes = [read_statistics(f"work/data/M__{part}").types["n_nodes"].sum() for part in parts]
    assert sizes == [10, 10, 10, 10]  # of 20: ten nodes on either side
    assert len(run(config)[0]) == 3
    assert [f.stem for f in run(config, cv_folds=1)[0]] == ["M"]


def test_absolute_paths_and_lists(tmp_path):
    config = configured(tmp_path)
    content = json.loads(config.read_text())
    two = []
    for name in "AB":
        one = json.loads(json.dumps(content))
        one["model"]["name"] = name
        one["circuit_config"] = str(tmp_path / "circuit" / "circuit_config.json")
        one["working_dir"], one["out_dir"] = str(tmp_path / "w"), str(tmp_path / "o")
        two.append(one)
    config.write_text(json.dumps(two))
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    assert run(config)[0] == [tmp_path / "w" / "model" / f"{name}.json" for name in "AB"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_refused_configurations(tmp_path):
    config = configured(tmp_path)
    content = json.loads(config.read_text())

    def refused(error, text, **changes):
        config.write_text(json.dumps({**content, **changes}))
        with pytest.raises(error, match=text):
            build_model(config)

    other = {"name": "M", "fct": {"source": "conn_prob", "kwargs": {}}}
    refused(OptionError, "'conn_prob'", model=other)
    refused(OptionError, "does not configure", model={"name": "M"})
    refused(OptionError, "does not configure", seed="many")
    refused(OptionError, "no circuit at x.json", circuit_config="x.json")
    (tmp_path / "bare.json").write_text("{}")
    refused(CircuitError, "bare", circuit_config="bare.json")
    config.write_text(json.dumps(content))
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    with pytest.raises(OptionError, match=f"go to {tmp_path}"):
        build_model(config)
    config.write_text("{")
    with pytest.raises(OptionError, match="cannot be read as JSON"):
        build_model(config)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    config = configured(tmp_path, kwargs={"colour": 1})
    with pytest.warns(ConnpropsWarning, match="nothing takes: 'colour'"):
        build_model(config)


def test_the_command(tmp_path):
    config = configured(tmp_path)
    runner = CliRunner()
    done = runner.invoke(app, ["build-model", str(config), "--cv-folds", "2"])
    assert done.exit_code == 0, done.output
    assert "work/data/M__CV2-1-train: extracted (not there yet)" in done.output
    done = runner.invoke(
        app, ["build-model", str(config), "--cv-folds", "2", "--force-rebuild", "--force-reextract"]
    )
    assert "work/data/M__CV2-2-test: extracted (--force-reextract)" in done.output
    assert "work/model/M__CV2-2-train.json: built (--force-rebuild)" in done.output
    config.write_text("[]")
    assert runner.invoke(app, ["build-model", str(config), "-q"]).output == ""
    config.write_text("5")
    done = runner.invoke(app, ["build-model", str(config)])
    assert done.exit_code == 2
    assert "does not configure the building of a model" in done.output
