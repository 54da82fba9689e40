"""Options: each declared once; in Python, on the command line, and in configuration files."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import connprops
from connprops import options as declarations
from connprops.cli import app
from connprops.declare import Checked, about, names, option, takes
from connprops.errors import OptionError
from connprops.export.export import export
from connprops.options import (
    BuildOptions,
    CrossValidateOptions,
    ExportOptions,
    ExtractOptions,
    RunOptions,
    parse_distr_types,
    parse_selection,
    read_options,
)
from connprops.resources import Resources

STEPS = {
    export: ExportOptions,
    connprops.extract: ExtractOptions,
    connprops.build: BuildOptions,
    connprops.cross_validate: CrossValidateOptions,
}


def test_each_option_is_declared_once():
    classes = {c for c in vars(declarations).values() if inspect.isclass(c)}
    classes = [c for c in classes | {Resources} if issubclass(c, Checked) and c is not Checked]
    declared = Counter(name for c in classes for name in vars(c).get("__annotations__", {}))
    assert {name for name, n in declared.items() if n > 1} == set()


@pytest.mark.parametrize("function", STEPS, ids=lambda f: f.__name__)
def test_functions_have_the_options_with_defaults_and_help(function):
    parameters = inspect.signature(function).parameters
    keyword = [p for p in parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert [p.name for p in keyword] == names(STEPS[function])
    defaults = STEPS[function]()
    assert all(p.default == getattr(defaults, p.name) for p in keyword)
    head, _, rest = inspect.getdoc(function).partition("\n\nReturns\n")
    assert rest
    for declared in fields(STEPS[function]):
        assert f"\n{declared.name} : {declared.type}" in head
        assert about(declared).help.split()[0] in head


def test_help_of_commands_has_the_options():
    commands = typer.main.get_command(app).commands
    flags = {name: {p.name: p for p in command.params} for name, command in commands.items()}
    shown = {f.name: f for c in (RunOptions, Resources) for f in fields(c) if about(f).panel}
    assert set(shown) <= set(flags["run"])
    for command in flags.values():
        for name in set(command) & set(shown) - {"seed", "sel_props"}:
            assert about(shown[name]).help in command[name].help
    says = CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output
    assert "Bins of each histogram. [default: 51]" in says
    assert "Seed of all random choices. [default: 0]" in says
    assert "[default: 0.6 of what there is]" in says


@dataclass(frozen=True, kw_only=True)
class Few(Checked):
    """Some options."""

    size: int = option(3, help="A size.", at_least=2)
    names: list[str] | None = option(None, help="Names.")
    by_name: dict[str, float] = option(factory=dict, help="Numbers.")


@takes(Few)
def few(data, options):
    """Return what is given.

    Parameters
    ----------
    data
        Anything.

    Returns
    -------
    tuple
    """
    return data, options


def test_a_function_that_takes_options():
    assert few(1) == (1, Few(size=3, names=None, by_name={}))
    assert few(data=1, size=None, names=None) == few(1)
    assert few(1, size=np.int64(4), by_name={"a": np.float32(1)})[1].by_name == {"a": 1.0}
    assert few.__doc__.split("Returns")[0].endswith("""
    size : int, default: 3
        A size.
    names : list[str] | None, optional
        Names.
    by_name : dict[str, float], optional
        Numbers.

    """)
    with pytest.raises(OptionError, match="Unknown option of few: 'sice'") as e:
        few(1, sice=4)
    assert "did you mean 'size'" in str(e.value)
    for values, says in (
        ({"size": 1}, "a whole number, at least 2"),
        ({"size": True}, "a whole number"),
        ({"size": 2.0}, "a whole number"),
        ({"names": "ab"}, "a list, each text"),
        ({"by_name": {"a": "b"}}, "a table with properties as keys, each value a number"),
    ):
        with pytest.raises(OptionError, match=says) as error:
            few(1, **values)
        assert str(error.value).startswith(f"{next(iter(values))} is not valid")


def test_options_from_files(tmp_path):
    toml = tmp_path / "options.toml"
    toml.write_text(
        'memory = "1GiB"\nhist_bins = [0, 1, 2.5]\nseed = 4\n'
        'sel_src = { layer = ["4", "5"] }\n[distr_types]\nu_syn = ["gamma", "beta"]\n'
    )
    options = read_options(toml, seed=5, distr_types={"conductance": "gamma"})
    assert options == RunOptions(
        resources=Resources(memory=2**30),
        hist_bins=(0, 1, 2.5),
        seed=5,
        sel_src={"layer": ["4", "5"]},
        distr_types={"u_syn": ["gamma", "beta"], "conductance": "gamma"},
    )
    as_json = tmp_path / "options.json"
    as_json.write_text(json.dumps({"sel_props": ["u_syn", "n_syn_per_conn"]}))
    assert read_options(as_json).edges()["properties"] == ["u_syn"]
    with pytest.raises(AttributeError):
        options.seed = 1


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.toml", "sead = 1", "did you mean 'seed'"),
        ("a.toml", "resources = 1", "Unknown option"),
        ("a.toml", "CV_dict = {}", "Unknown option"),
        ("a.toml", "threads = 0", "at least 1"),
        ("a.toml", "workers = 0", "number of processes"),
        ("a.toml", "workers = true", "number of processes"),
        ("a.toml", "memory = true", "bytes"),
        ("a.toml", 'memory = "much"', "no amount of bytes"),
        ("a.toml", "temp_dir = 1", "a folder"),
        ("a.toml", "sel_src = 1", "a node set's name"),
        ("a.toml", "shrinkage = 1", "true or false"),
        ("a.toml", 'criterion = "aic"', "did you mean 'aicc'"),
        ("a.toml", "p_values = 18", "at least 19"),
        ("a.toml", "data_bounds = { g = [2, 1] }", "exclude everything"),
        ("a.toml", 'seed = "1"', "whole number"),
        ("a.toml", "seed = true", "whole number"),
        ("a.toml", 'sel_props = "u_syn"', "a list of properties"),
        ("a.toml", "hist_bins = [1, 1]", "increasing edges"),
        ("a.toml", "distr_types = 3", "properties as keys"),
        ("a.toml", "seed = ", "cannot be read"),
        ("a.json", "[]", "holds no options"),
        ("a.yaml", "seed: 1", "Unknown kind"),
    ],
)
def test_bad_option_files(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(OptionError, match=says) as error:
        read_options(tmp_path / name)
    assert name in str(error.value)


def test_a_missing_option_file(tmp_path):
    with pytest.raises(OptionError, match="cannot be read"):
        read_options(tmp_path / "none.toml")


def test_parsing():
    assert parse_selection("Excitatory") == "Excitatory"
    assert parse_selection("[1, 2]") == [1, 2]
    assert parse_selection('{"layer": "4"}') == {"layer": "4"}
    assert parse_distr_types(["a=gamma", "b=beta,normal"]) == {
        "a": "gamma",
        "b": ["beta", "normal"],
    }
