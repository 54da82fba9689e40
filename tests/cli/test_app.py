"""The command line: exit codes, what is written, and what is left alone."""

import io
import json
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import polars as pl
import pytest
import typer
from circuits import SHARED, two_types, write_circuit, write_edges
from typer.testing import CliRunner

import connprops
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.display import Lines, show_progress
from connprops.errors import ConnpropsWarning, OptionError
from connprops.export.export import export
from connprops.families.registry import FAMILIES
from connprops.options import RunOptions
from connprops.resources import Resources
from connprops.run import steps as steps_module
from connprops.run.record import ARTIFACTS
from connprops.run.run import run

HEAVY = ("polars", "duckdb", "scipy.stats", "altair", "bluepysnap", "numpy", "h5py", "rich.table")


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def everything(folder):
    """Return the content of all files below a folder."""
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    return two_types(tmp_path_factory.mktemp("circuits") / "small")


@pytest.fixture(scope="module")
def finished(circuit, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "small"
    return out, invoke("run", circuit, "-o", out)


def loaded(names, code):
    """Return which modules of some names are loaded at the end of a process of its own."""
    script = (
        "import sys, atexit\natexit.register(lambda: sys.stderr.write('LOADED ' + ' '.join("
        f"m for m in {names!r} if m in sys.modules)))\n{code}"
    )
    done = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stderr.rpartition("LOADED")[2].split()


@pytest.mark.parametrize("code", ["import connprops", "import connprops.cli as c; c.app(['-h'])"])
def test_neither_the_import_nor_help_loads_what_is_heavy(code):
    assert loaded(HEAVY[:6], code) == []


def test_extracting_loads_only_what_it_needs(circuit, tmp_path):
    dataset, out = str(tmp_path / "dataset"), str(tmp_path / "out")
    needless = [
        "pandas", "duckdb", "altair", "bluepysnap", "scipy", "pydantic", "pyarrow.compute",
    ]  # fmt: skip
    for arguments in (["export", str(circuit), "-o", dataset], ["extract", dataset, "-o", out]):
        code = f"import numpy, connprops.cli as c; c.app({arguments!r})"
        assert loaded([*needless, "numpy"], code) == ["numpy"]


def test_exporting_a_table_loads_only_what_it_needs(tmp_path):
    edges = {"pre": [7, 7, None], "post": [5, 6, 6], "size": [1.0, None, 3.0],
             "kind": ["a", None, "b"]}  # fmt: skip
    pl.DataFrame(edges).write_parquet(tmp_path / "edges.parquet")
    pl.DataFrame({"id": [5, 6, 7], "type": ["A", "B", "B"]}).write_parquet(tmp_path / "n.parquet")
    arguments = ["export", str(tmp_path / "edges.parquet"), "--nodes", str(tmp_path / "n.parquet"),
                 "-o", str(tmp_path / "dataset")]  # fmt: skip
    code = f"import connprops.cli as c; c.app({arguments!r})"
    needless = ["pandas", "duckdb", "pyarrow.compute", "pyarrow.dataset", "h5py", "scipy", "altair"]
    assert loaded([*needless, "polars"], code) == ["polars"]


@pytest.mark.parametrize(("table", "needed"), [("pathways", []), ("synapses", ["pyarrow.dataset"])])
def test_a_query_loads_only_what_it_needs(finished, table, needed):
    arguments = ["connprops", "sql", str(finished[0]), f"from {table}"]
    code = f"import connprops.cli as c; sys.argv = {arguments!r}; c.main()"
    assert loaded(["pandas", "pyarrow.dataset"], code) == needed


def test_models_load_of_scipy_only_its_special_functions():
    code = "import connprops.model.build, connprops.reports.report, connprops.run.run"
    assert loaded(["scipy.stats", "scipy.optimize", "scipy.special"], code) == ["scipy.special"]


@pytest.mark.parametrize("given", [(), ("--rows", "7"), ("--param", "a=1", "--param", "b=2")])
def test_values_are_what_typer_makes_of_them(given, monkeypatch):
    """Those that come without pydantic are those that come with it."""
    command = typer.main.get_command(app).commands["sql"]
    arguments = ["results", "select 1", "-o", "x.csv", "--threads", "2", "-f", "é", *given]
    quick = command.make_context("sql", [*arguments]).params
    converts = type(command.params[0].get_runtime_param)
    by_typer = lambda self, value, **context: self.typed().coerce(value, **context)  # noqa: E731
    monkeypatch.setattr(converts, "coerce", by_typer)
    assert command.make_context("sql", [*arguments]).params == quick
    assert quick["folder"] == Path("results")


def test_every_name_of_the_interface_is_there():
    assert set(connprops.__all__) <= set(dir(connprops))
    assert all(callable(getattr(connprops, name)) for name in connprops.__all__)
    with pytest.raises(AttributeError, match=r"attribute '?nothing"):
        _ = connprops.nothing


def test_the_module_report_does_not_hide_the_function():
    code = "import connprops.reports.report, connprops; assert callable(connprops.report)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own text


@pytest.mark.parametrize("command", ["run", "export", "extract", "build", "plot", "info", "demo"])
def test_each_command_has_help(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Usage" in result.output
    assert re.search(rf"Examples:\s+connprops {command}", result.output)


def test_version():
    assert connprops.__version__ in invoke("--version").output


def test_a_list_that_is_given_twice_is_refused(circuit, tmp_path):
    twice = ["--sel-props", "u_syn", "--sel-props=decay_time"]
    result = invoke("run", circuit, "-o", tmp_path / "out", *twice)
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert all(text in said for text in ("--sel-props", "2 times", "commas"))
    assert not (tmp_path / "out").exists()


def test_options_that_may_be_repeated_may_be(finished, tmp_path):
    out, _ = finished
    chosen = ["--distr-type", "u_syn=beta", "--distr-type", "decay_time=normal"]
    result = invoke("build", out, "-o", tmp_path / "model.parquet", *chosen, "--quiet", "--quiet")
    assert result.exit_code == 0, result.output


def test_a_run_writes_all_artifacts_and_tells_of_them(finished):
    out, result = finished
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {*ARTIFACTS, "connprops.json"}
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "complete"
    steps = ["open", "export", "extract", "build", "database", "report"]
    assert [s["name"] for s in record["steps"]] == steps
    assert all(s["seconds"] >= 0 and s["peak_memory"] > 1 << 20 for s in record["steps"])
    pathways = pl.read_parquet(out / "pathways.parquet")
    assert record["n_pathways"] == len(pathways) == 4
    # By hand from two_types: 100 pairs, of which (7 s + 3 t) % 4 leaves three quarters.
    pairs = [(s, t) for t in range(10) for s in range(10) if (s * 7 + t * 3) % 4]
    assert record["n_connections"] == len(pairs)
    assert f"{len(pairs)} connections" in result.stdout
    for word in ("conductance", "nS", "rejected", "peak memory", "report.html", str(out)):
        assert word in result.stdout
    assert result.stdout.endswith(f"\nReport: {out / 'report.html'}\n")


def test_the_report_is_the_last_step_whichever_ends_first(circuit, tmp_path, monkeypatch):
    report_ended = threading.Event()
    real_report, real_write = steps_module.report, steps_module.write_database_into

    def report_that_tells(*arguments, **options):
        real_report(*arguments, **options)
        report_ended.set()

    def write_late(*arguments):
        assert report_ended.wait(60)
        time.sleep(0.2)  # until the step of the report is noted
        real_write(*arguments)

    monkeypatch.setattr(steps_module, "report", report_that_tells)
    monkeypatch.setattr(steps_module, "write_database_into", write_late)
    options = RunOptions(resources=Resources(threads=2, memory="8GB"))
    steps = run(circuit, tmp_path / "out", options).steps
    assert [s.name for s in steps] == ["open", "export", "extract", "build", "database", "report"]


def test_the_summary_says_what_the_tables_say(finished):
    out, _ = finished
    record = json.loads((out / "run.json").read_text())
    fits = pl.read_parquet(out / "fits.parquet").filter(pl.col("level") == -1)
    statistics = pl.read_parquet(out / "statistics.parquet")
    pathways = pl.read_parquet(out / "pathways.parquet").cast({pl.Enum: pl.String})
    for summary in record["properties"]:
        of_fits = fits.filter(pl.col("property") == summary["name"])
        counts = of_fits["distribution"].cast(pl.String).to_list()
        assert counts.count(summary["distribution"]) == summary["n_pathways"]
        assert summary["n_pathways"] == max(counts.count(name) for name in set(counts))
        assert summary["n_rejected"] == (of_fits["status"] == "rejected").sum()
        weight = of_fits.cast({pl.Enum: pl.String}).join(
            pathways, on=["source_type", "target_type"]
        )
        own = weight.filter((pl.col("borrowed") <= 0.5) | pl.col("borrowed").is_null())
        assert summary["share_own"] == pytest.approx(
            own["n_connections"].sum() / weight["n_connections"].sum()
        )
        assert summary["n_tested"] == (of_fits["n"] >= 20).sum()
        assert summary["n_own"] + summary["n_level"] == len(of_fits)
        assert summary["n_level"] == (of_fits["borrowed"] > 0.5).sum()
        shared = statistics.filter(pl.col("property") == summary["name"])["shared_within"]
        expected = shared.drop_nulls().cast(pl.Float64).mean()
        assert summary["shared"] == (expected if expected is None else pytest.approx(expected))


def test_a_run_again_reuses_the_dataset_and_gives_the_same_tables(circuit, finished):
    out, _ = finished
    dataset = out / "dataset" / "manifest.json"
    before, written = everything(out), dataset.stat().st_mtime_ns
    result = invoke("run", circuit, "-o", out, "--quiet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert dataset.stat().st_mtime_ns == written
    after = everything(out)
    tables = [name for name in before if name.endswith((".parquet", "model.json"))]
    assert len(tables) > 8
    assert [name for name in tables if before[name] != after[name]] == []


def test_results_of_other_options_are_replaced_only_when_asked(circuit, tmp_path):
    out = tmp_path / "out"
    given = ("run", circuit, "-o", out, "--sel-props", "u_syn")
    assert invoke(*given).exit_code == 0
    before = everything(out)
    refused = invoke(*given, "--hist-bins", "7")
    assert refused.exit_code == 2
    assert "differs in: options" in refused.stderr
    assert everything(out) == before
    assert invoke(*given, "--hist-bins", "7", "--overwrite").exit_code == 0
    assert pl.read_parquet(out / "histograms.parquet")["bin"].max() == 6


def test_other_resources_are_no_reason_to_refuse(circuit, tmp_path):
    out = tmp_path / "out"
    given = ("run", circuit, "-o", out, "--sel-props", "u_syn", "--quiet")
    assert invoke(*given).exit_code == 0
    resources = ("--threads", "1", "--memory", "1GB", "--temp-dir", tmp_path)
    assert invoke(*given, *resources).exit_code == 0


def test_the_folder_is_named_after_the_circuit(circuit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("run", circuit, "--sel-props", "u_syn").exit_code == 0
    assert (tmp_path / "small-connprops" / "run.json").is_file()


def test_the_steps_give_what_the_run_gives(circuit, finished, tmp_path):
    steps, (out, _) = tmp_path / "steps", finished
    for arguments in (
        ("export", circuit, "-o", steps / "dataset"),
        ("extract", steps / "dataset"),
        ("build", steps),
        ("plot", steps, "--sel-props", "u_syn", "--formats", "json"),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
    for name in ("statistics", "histograms", "values", "model", "fits", "scores"):
        assert pl.read_parquet(steps / f"{name}.parquet").equals(
            pl.read_parquet(out / f"{name}.parquet")
        )
    assert (steps / "charts" / "histogram_u_syn.json").is_file()
    before = everything(steps)
    assert invoke("extract", steps / "dataset").exit_code == 2  # without --overwrite
    assert everything(steps) == before


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("circuit", "edge population"),
        ("run", "complete"),
        ("dataset", "within connections"),
        ("fits.parquet", "Kolmogorov"),
    ],
)
def test_info(circuit, finished, which, says):
    out, _ = finished
    path = {"circuit": circuit, "run": out}.get(which, out / which)
    result = invoke("info", path)
    assert result.exit_code == 0, result.output
    assert says in result.stdout


def test_info_of_the_folder_of_a_step(finished, tmp_path):
    out, _ = finished
    for step in (("extract", out / "dataset"), ("build", tmp_path / "extract")):
        assert invoke(*step, "-o", tmp_path / step[0], "--quiet").exit_code == 0
        facts = json.loads(invoke("info", tmp_path / step[0], "--json").stdout)
        rows = {f.name: pl.read_parquet(f).height for f in tmp_path.glob(f"{step[0]}/*.parquet")}
        assert {table["file"]: table["rows"] for table in facts["tables"]} == rows
        shown = invoke("info", tmp_path / step[0]).stdout
        assert all(name in shown for name in rows)


@pytest.mark.parametrize("which", ["circuit", "run", "dataset", "fits.parquet"])
def test_info_for_programs(circuit, finished, which):
    out, _ = finished
    path = {"circuit": circuit, "run": out}.get(which, out / which)
    facts = json.loads(invoke("info", path, "--json").stdout)
    assert facts["kind"] == ("table" if which == "fits.parquet" else which)
    n_synapses = (
        pl.scan_parquet(out / "pathways.parquet").select("n_synapses").sum().collect().item()
    )
    fits = pl.read_parquet(out / "fits.parquet")
    told = {
        "circuit": lambda: [p["rows"] for p in facts["edges"]] == [n_synapses],
        "run": lambda: (facts["state"], facts["n_synapses"]) == ("complete", n_synapses),
        "dataset": lambda: (facts["n_synapses"], facts["damaged"]) == (n_synapses, {}),
        "fits.parquet": lambda: (
            [(c["name"]) for c in facts["columns"]] == fits.columns and facts["rows"] == len(fits)
        ),
    }
    assert told[which]()


def test_a_run_a_comparison_and_a_check_for_programs(circuit, finished):
    out, _ = finished
    again = json.loads(invoke("run", circuit, "-o", out, "--json", "--quiet").stdout)
    assert (again["reused"], again["n_pathways"]) == (True, 4)
    same = json.loads(invoke("compare", out, out, "--json").stdout)
    assert {row["largest KS"] for row in same} == {0.0}
    checked = json.loads(invoke("verify", out, "--json").stdout)
    assert (checked["n_checked"] > 10, checked["damaged"]) == (True, {})


def test_families_are_listed_with_their_parameters():
    text = re.sub(" +\n", "\n", invoke("families").stdout)
    assert re.search(r"^ gamma +continuous +mean +property +mean$", text, re.MULTILINE)
    assert {name for name in FAMILIES if re.search(rf"^ {name} ", text, re.MULTILINE)} == {
        *FAMILIES
    }


def test_flags_show_no_type_and_the_shell_completes(monkeypatch):
    text = invoke("run", "--help").stdout
    assert "--overwrite" in text
    assert "<bool>" not in text
    monkeypatch.setenv("_CONNPROPS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "connprops comp")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert CliRunner().invoke(app, [], prog_name="connprops").stdout.split() == ["compare"]


def without_edges(circuit, _):
    config = json.loads(circuit.read_text())
    config["networks"]["edges"] = []
    path = circuit.with_name("without_edges.json")
    path.write_text(json.dumps(config))
    return [path]


def several_populations(_, folder):
    circuit = write_circuit(folder / "several", [0], [1], {"u_syn": [0.5]}, mtype=["A", "B"])
    config = json.loads(circuit.read_text())
    for name in ("first", "second"):
        write_edges(circuit.with_name(f"{name}.h5"), name, [0, 1], [1, 0], {"u_syn": [0.5, 0.6]})
    config["networks"]["edges"] = [
        {"edges_file": f"$BASE_DIR/{name}.h5", "populations": {name: {"type": "chemical"}}}
        for name in ("first", "second")
    ]
    circuit.write_text(json.dumps(config))
    return [circuit]


BAD = {
    "missing file": (lambda _, folder: [folder / "nothing.json"], "nothing.json"),
    "no edges": (without_edges, "no edge population"),
    "population": (lambda c, _: [c, "--population", "defalt"], "did you mean 'default'"),
    "property": (lambda c, _: [c, "--sel-props", "u_sin"], "did you mean 'u_syn'"),
    "property of distribution": (lambda c, _: [c, "--distr-type", "u=gamma"], "Unknown property"),
    "distribution": (lambda c, _: [c, "--distr-type", "u_syn=gama"], "did you mean 'gamma'"),
    "not a distribution": (lambda c, _: [c, "--distr-type", "u_syn"], "property=name"),
    "type": (lambda c, _: [c, "--source-type", "etype"], "Unknown attribute"),
    "selection": (lambda c, _: [c, "--sel-src", "{"], "no valid JSON"),
    "node set": (lambda c, _: [c, "--sel-src", "Lef"], "did you mean 'Left'"),
    "value": (lambda c, _: [c, "--sel-dest", '{"layer": "9"}'], "expected: '4', '5'"),
    "empty selection": (lambda c, _: [c, "--sel-src", "[]"], "source selection is empty"),
    "all distributions": (lambda c, _: [c, "--distr-type", "u_syn=x"], "'auto-per-pathway'"),
    "node": (lambda c, _: [c, "--sel-dest", "[99]"], "ids from 0 to 9"),
    "memory": (lambda c, _: [c, "--memory", "much"], "no amount of bytes"),
    "temporary folder": (lambda c, _: [c, "--temp-dir", "/nowhere"], "temp_dir is no folder"),
    "bins": (lambda c, _: [c, "--hist-bins", "0"], "at least 1"),
    "criterion": (lambda c, _: [c, "--criterion", "aic"], "did you mean 'aicc'"),
    "p-values": (lambda c, _: [c, "--p-values", "18"], "at least 19"),
    "several populations": (several_populations, r"first \(2 rows\).*second \(2 rows\)"),
    "no such option": (lambda c, _: [c, "--nonsense"], "No such option"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_and_nothing_is_written(name, tmp_path):
    arguments, says = BAD[name]
    given = arguments(two_types(tmp_path / "circuit"), tmp_path)
    before, out = everything(tmp_path), tmp_path / "out"
    result = invoke("run", *given, "-o", out)
    assert result.exit_code == 2, result.output
    assert re.search(says, re.sub(r"\s+", " ", result.stderr))
    assert result.stdout == ""
    assert not out.exists()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "run.json"])
def test_a_folder_that_holds_something_else_is_left_alone(circuit, tmp_path, name):
    (tmp_path / name).write_text('{"precious": true}')
    before = everything(tmp_path)
    result = invoke("run", circuit, "-o", tmp_path, "--overwrite")
    assert result.exit_code == 2
    assert "holds something else" in result.stderr
    assert everything(tmp_path) == before


def test_a_folder_of_single_steps_is_taken_over_when_asked(circuit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("export", circuit).exit_code == 0
    before, dataset = everything(tmp_path), tmp_path / "small-connprops" / "dataset"
    written = (dataset / "manifest.json").stat().st_mtime_ns
    refused = invoke("run", circuit)
    assert refused.exit_code == 2
    assert "holds the results of single steps" in refused.stderr
    assert everything(tmp_path) == before
    (dataset.parent / "notes.txt").write_text("precious")
    assert "something else" in invoke("run", circuit, "--overwrite").stderr
    (dataset.parent / "notes.txt").unlink()
    assert invoke("run", circuit, "--overwrite").exit_code == 0
    assert (dataset / "manifest.json").stat().st_mtime_ns == written  # reused


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("cell_42/circuit_config.json", "cell_42-connprops"),
        ("O1/build/Sonata/circuit_config.json", "O1-connprops"),
    ],
)
def test_results_are_named_after_a_folder_that_says_something(tmp_path, config, name):
    circuit = resolve_circuit(two_types(tmp_path / Path(config).parent))
    assert circuit.results_folder() == Path(name)


def test_an_empty_folder_is_taken(circuit, tmp_path):
    assert invoke("run", circuit, "-o", tmp_path, "--sel-props", "u_syn").exit_code == 0


def test_what_bounds_exclude_is_said_before_anything_is_written(circuit, tmp_path):
    out, options = tmp_path / "out", tmp_path / "options.toml"
    options.write_text("[data_bounds]\nu_syn = [2, 1]\n")
    result = invoke("run", circuit, "-o", out, "--config", options)
    assert result.exit_code == 2
    assert "exclude everything" in result.stderr
    assert not out.exists()
    assert invoke("run", circuit, "-o", out, "--sel-src", "Left").exit_code == 0


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [(KeyboardInterrupt(), 130, "Interrupted"), (ZeroDivisionError("by 0"), 1, "by 0")],
)
def test_an_interrupted_or_failed_run_says_so(circuit, tmp_path, monkeypatch, error, code, says):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(steps_module, "build", fail)
    out = tmp_path / "out"
    result = invoke("run", circuit, "-o", out)
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert json.loads((out / "run.json").read_text())["state"] == "failed"
    # What is finished waits for the next run.
    assert {item.name for item in out.rglob(".*")} == {".run.partial"}
    debugged = invoke("run", circuit, "-o", out, "--debug")
    assert debugged.exit_code == code
    assert "Traceback" in debugged.stderr
    monkeypatch.undo()
    assert invoke("run", circuit, "-o", out).exit_code == 0


def test_warnings_are_listed_and_kept(circuit, tmp_path, monkeypatch):
    real = steps_module.build

    def warn(*arguments, **options):
        for _ in range(2):
            warnings.warn("mind this", ConnpropsWarning, stacklevel=1)
        return real(*arguments, **options)

    monkeypatch.setattr(steps_module, "build", warn)
    result = invoke("run", circuit, "-o", tmp_path / "out")
    assert result.stderr.count("Warning: mind this") == 1
    quiet = invoke("run", circuit, "-o", tmp_path / "out", "--quiet")
    assert quiet.exit_code == 0
    assert quiet.output == ""
    assert "mind this" in json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]


def test_an_error_does_not_swallow_warnings(circuit, tmp_path, monkeypatch):
    def warn_and_fail(*_arguments, **_options):
        warnings.warn("mind this", ConnpropsWarning, stacklevel=1)
        raise OptionError.of("no good")

    monkeypatch.setattr(steps_module, "build", warn_and_fail)
    result = invoke("run", circuit, "-o", tmp_path / "out", "--quiet")
    assert result.exit_code == 2
    assert result.stderr == "Warning: mind this\nError: no good\n"


def test_demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("demo", "tiny", "--synapses", "2000", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "tiny" / "truth.parquet").is_file()
    record = json.loads((tmp_path / "tiny-connprops" / "run.json").read_text())
    assert record["state"] == "complete"
    assert record["circuit"] == str(tmp_path / "tiny" / "circuit_config.json")
    assert invoke("demo", "tiny", "--synapses", "3000").exit_code == 2


@pytest.mark.parametrize(
    ("name", "population"),
    [
        ("functionalizer_1000n", None),
        ("thalamus_400", "thalamus_neurons__thalamus_neurons__chemical"),
        ("nbs1_two_cells", "external_S1nonbarrel_neurons__S1nonbarrel_neurons__chemical"),
    ],
)
def test_public_circuits(name, population, tmp_path):
    config = SHARED / name / "circuit_config.json"
    if not config.is_file():
        pytest.skip("the public circuits are not here")
    summary = run(config, tmp_path / "out", RunOptions(population=population))
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*ARTIFACTS, "connprops.json"}
    assert summary.n_pathways > 0


def test_progress_lines_tell_how_fast_it_goes_and_how_long_it_will_take():
    calls = [  # time, step, done
        (2, "export", 10), (12, "export", 60), (15, "export", 75), (20, "export", 100),
        (21, "extract", 50), (25, "extract", 100), (40, "build", 1), (95, "build", 5),
    ]  # fmt: skip
    times = iter([0.0, *(float(time) for time, *_ in calls)])
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: next(times))
    for _, step, done in calls:
        lines(step, done, 100, "rows")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "export: 60 of 100 rows (60 %), 8 s left, 5 a second",
        "export: 100 rows in 20 s",
        "build: 1 of 100 rows (1 %), 24 min 45 s left, 15 s each",
        "build: 5 of 100 rows (5 %), 22 min 10 s left, 14 s each",
    ]


def test_lines_tell_the_rate_where_the_end_is_not_known():
    times = iter([0.0, 20.0, 21.0])
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: next(times))
    lines("draw", 60, 0, "synapses")
    lines("draw", 63, 63, "synapses")
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        "draw: 60 synapses, 3 a second",
        "draw: 63 synapses in 21 s",
    ]


def test_a_long_step_has_few_lines():
    times = iter(range(86_401))
    stream = io.StringIO()
    lines = Lines(stream, clock=lambda: float(next(times)))
    for done in range(1, 86_401):
        lines("extract", done, 86_400, "connections")
    written = stream.getvalue().splitlines()
    assert 60 < len(written) < 250
    assert written[-1].endswith("extract: 86,400 connections in 24 h 0 min")


def test_progress_on_a_terminal_and_in_quiet():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with show_progress(stream=(terminal := Terminal())) as progress:
        progress("export", 2, 2, "rows")
        progress("extract", 1, 2, "connections")
    assert "2 / 2 rows" in terminal.getvalue()
    assert re.search(r"1 / 2 connections \d+ s left, ", terminal.getvalue())
    with show_progress(quiet=True, stream=(silent := Terminal())) as progress:
        progress("export", 1, 2, "rows")
    assert silent.getvalue() == ""


@pytest.mark.parametrize("memory", [1 << 33, 1 << 30])
def test_every_step_that_lasts_tells_how_far_it_is(circuit, tmp_path, memory):
    """The database is written beside the report where there is room for both, else after it."""
    told = []
    options = RunOptions(resources=Resources(memory=memory, threads=2))
    for _ in range(2):
        run(circuit, tmp_path / "out", options, lambda *call: told.append(call))
    steps = list(dict.fromkeys(step for step, *_ in told))
    assert steps == ["export", "extract", "build", "report", "database", "check"]
    for step in steps:
        counts = [(done, total) for one, done, total, _ in told if one == step]
        assert counts == sorted(counts)
        assert counts[-1][0] == counts[-1][1] > 0


def test_sorting_tells_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("connprops.export.plan.ROWS_PER_PART", 20)
    monkeypatch.setattr("connprops.export.sorted_rows.ROWS_AT_ONCE", 100)
    told = []
    shuffled = resolve_circuit(two_types(tmp_path / "c", shuffled=True))
    export(shuffled, tmp_path / "d", progress=lambda *call: told.append(call))
    size = told[0][2]
    assert told[:2] == [("sort", 100, size, "rows"), ("sort", size, size, "rows")]
    assert {step for step, *_ in told[2:]} == {"export"}
