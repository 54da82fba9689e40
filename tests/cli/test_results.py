"""The command `connprops sql`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import polars as pl
import pytest
from circuits import SHARED, two_types
from typer.testing import CliRunner

from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.cli.results import converse
from connprops.dataset.dataset import Dataset
from connprops.errors import QueryError
from connprops.export.export import export
from connprops.model.build import build
from connprops.query.session import Session, questions
from connprops.statistics.extract import extract


def invoke(*arguments, **more):
    return CliRunner().invoke(app, ["sql", *(str(a) for a in arguments)], **more)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sql")
    config = two_types(place / "circuit")
    dataset = Dataset(export(resolve_circuit(config), place / "out" / "dataset"))
    stats = extract(dataset)
    stats.write(place / "out")
    build(stats).write_parquet(place / "out" / "model.parquet")
    return place / "out"


@pytest.fixture(scope="module")
def dataset(folder):
    return Dataset(folder / "dataset")


def content(folder):
    return {str(f): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_data_go_to_the_output_and_all_else_to_the_error(folder, dataset, monkeypatch):
    monkeypatch.chdir("/")
    done = invoke(folder, "select property, n from statistics order by all", "--rows", 1)
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["property", "n"]
    assert lines[2][0] == "conductance"
    assert len(lines) == 3
    n = len(pl.read_parquet(folder / "statistics.parquet"))
    assert done.stderr.startswith(f"{n - 1} more rows; ")
    count = invoke(folder, "select count(*) as n from synapses", "--csv")
    assert count.stdout == f"n\n{dataset.n_synapses}\n"
    assert count.stderr == ""


def test_a_prompt_answers_one_statement_after_the_other(folder, dataset, capsys):
    said = iter(["select count(*) as n", "from synapses;", "from nothing;", "select 1 + 1 as two;"])

    def read(_prompt):
        line = next(said, None)
        if line is None:
            raise EOFError
        return line

    with Session(folder, progress_bar=False) as session:
        converse(session, 5, read)
    shown = capsys.readouterr()
    words = shown.out.split()
    assert words[0] == "n"
    assert str(dataset.n_synapses) in words
    assert words[-1] == "2"
    assert shown.err.count("Error: The query failed") == 1


def test_csv_and_json(folder):
    sql = (
        "select 'a,b' as text, null as nothing, 1.5::double as number, 'nan'::double as none, "
        "[1, 2] as list, {'x': 1} as record, date '2026-01-02' as day, 10::hugeint as whole"
    )
    rows = list(csv.DictReader(io.StringIO(invoke(folder, sql, "--csv").stdout)))
    assert [(r["text"], r["nothing"], r["number"], r["whole"]) for r in rows] == [
        ("a,b", "", "1.5", "10")
    ]
    assert json.loads(invoke(folder, sql, "--json").stdout) == [
        {"text": "a,b", "nothing": None, "number": 1.5, "none": None, "list": [1, 2],
         "record": {"x": 1}, "day": "2026-01-02", "whole": 10}
    ]  # fmt: skip
    assert json.loads(invoke(folder, "from types limit 0", "--json").stdout) == []
    assert len(json.loads(invoke(folder, "from types", "--json").stdout)) == 4


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_answers_are_written_by_the_name_of_the_file(folder, dataset, tmp_path, suffix):
    out = tmp_path / f"answer.{suffix}"
    sql = "select edge_id, delay::double as delay, source_type from synapses order by edge_id"
    done = invoke(folder, sql, "-o", out)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"{out}\n")
    found = getattr(pl, f"read_{suffix}")(out)
    expected = dataset.synapses.select(
        "edge_id", pl.col("delay").cast(pl.Float64), pl.col("source_type").cast(pl.String)
    )
    assert found.rows() == expected.sort("edge_id").collect().rows()
    again = invoke(folder, sql, "-o", out)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert invoke(folder, "select 1 as one", "-o", out, "--overwrite").exit_code == 0
    assert getattr(pl, f"read_{suffix}")(out).rows() == [(1,)]
    assert os.listdir(tmp_path) == [out.name]  # noqa: PTH208


def test_formats_that_are_not_known(folder, tmp_path):
    done = invoke(folder, "select 1", "-o", tmp_path / "answer.xlsx")
    assert done.exit_code == 2
    assert "Unknown format: '.xlsx'" in done.stderr


def test_files_input_and_several_statements(folder, tmp_path):
    file = tmp_path / "ask.sql"
    file.write_text("set variable t = 'L5_BC';\n\nfrom types where type = getvariable('t')\n")
    assert len(json.loads(invoke(folder, "-f", file, "--json").stdout)) == 2
    assert invoke(folder, "-f", "-", "--csv", input="select 7 as x").stdout == "x\n7\n"
    missing = invoke(folder, "-f", tmp_path / "no.sql")
    assert missing.exit_code == 2
    assert "no.sql cannot be read" in missing.stderr


def test_ready_questions_and_the_list(folder):
    done = invoke(folder, "--query", "strongest_pathways", "--param", "n=1", "--csv")
    assert len(done.stdout.splitlines()) == 2
    listed = invoke(folder, "--list").stdout
    for name in ("strongest_pathways", "at_least=10", "synapses", "fits", "histograms"):
        assert name in listed
    unknown = invoke(folder, "--query", "strongest_pathway")
    assert "did you mean 'strongest_pathways'" in unknown.stderr
    assert "NAME=VALUE" in invoke(folder, "--query", "multapses", "--param", "x").stderr


@pytest.mark.parametrize(
    "arguments", [(), ("select 1", "--list"), ("select 1", "--query", "in_degree")]
)
def test_what_to_answer_must_be_clear(folder, arguments):
    done = invoke(folder, *arguments)
    assert done.exit_code == 2
    assert "one of SQL, -f FILE, --query, --list" in done.stderr


def test_a_dataset_alone_will_do(folder):
    done = invoke(folder / "dataset", "select count(*) as n from property_values", "--csv")
    assert done.exit_code == 0
    assert invoke(folder / "dataset", "from pathways", "--csv").stdout.count("\n") == 5
    nothing = invoke(folder.parent / "circuit", "from pathways")
    assert nothing.exit_code == 2
    assert "neither a dataset nor tables" in nothing.stderr


def test_errors_point_at_the_line(folder, tmp_path):
    file = tmp_path / "wrong.sql"
    file.write_text("set variable n = 3;\n\nselect\n    source_typ\nfrom pathways\n")
    done = invoke(folder, "-f", file)
    assert done.exit_code == 2
    assert "LINE 4:     source_typ" in done.stderr
    assert '"source_type"' in done.stderr
    syntax = invoke(folder, "select 1;\nselectt 2")
    assert "LINE 2: selectt 2" in syntax.stderr
    assert "--list shows the tables" in invoke(folder, "from nothing").stderr
    assert "no SQL" in invoke(folder, " -- nothing").stderr
    late = invoke(folder, "select 'x'::int")  # found only when rows are asked for
    assert late.exit_code == 2
    assert "LINE 1" in late.stderr


@pytest.mark.parametrize(
    "sql",
    [
        "from read_csv('/etc/passwd')",
        "from read_text('/etc/hostname')",
        "from '{other}'",
        "from glob('/etc/*')",
        "copy (select 1) to '{new}'",
        "copy (select 1) to '{inside}'",
        "with x as (copy (select 1) to '{inside}') from x",
        "explain analyze copy (select 1) to '{inside}'",
        "attach '{new}'",
        "export database '{new}'",
        "install httpfs",
        "load httpfs",
        "from 'https://example.org/x.parquet'",
        "set enable_external_access = true",
        "set lock_configuration = false",
        "insert into pathways select * from pathways",
        "delete from types",
        "update types set layer = 'x'",
    ],
)
def test_nothing_but_the_folder_is_read_and_nothing_is_written(folder, tmp_path, sql):
    other = tmp_path / "other.parquet"
    pl.DataFrame({"x": [1]}).write_parquet(other)
    names = {"other": other, "new": tmp_path / "new", "inside": folder / "dataset" / "new.csv"}
    before = content(folder)
    done = invoke(folder, sql.format(**names))
    assert done.exit_code == 2, done.output
    assert "The query failed" in done.stderr
    assert content(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["other.parquet"]


def test_files_may_be_allowed(folder, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("source_type,weight\nL4_PC,2\n")
    sql = f"from pathways join '{other}' using (source_type) select sum(weight) as w"
    assert "--allow-files lifts that" in invoke(folder, sql).stderr
    assert invoke(folder, sql, "--allow-files", "--csv").stdout == "w\n4\n"


def test_show_sql_and_explain(folder):
    shown = invoke(folder, "select count(*) from synapses", "--show-sql").stdout
    chain = ("connections_as_stored", "synapses_as_stored", "synapses")
    places = [shown.index(f"-- {name}\n") for name in chain]
    assert places == sorted(places)
    assert shown.endswith("select count(*) from synapses\n")
    assert "-- pathways\n" not in shown
    # A run's own table rests on no relation; a dataset's does.
    assert invoke(folder, "from pathways", "--show-sql").stdout == "from pathways\n"
    assert "-- pathways\n" in invoke(folder / "dataset", "from pathways", "--show-sql").stdout
    ready = invoke(folder, "--query", "in_degree", "--show-sql").stdout
    assert questions()["in_degree"].sql.strip() in ready
    plan = invoke(folder, "set variable a = 1; select count(*) from connections", "--explain")
    assert "AGGREGATE" in plan.stdout.upper()


def test_rows_come_in_batches_and_alike_each_time(folder):
    with Session(folder) as session:
        answer = session.ask("select range as r from range(25000)")
        assert [r for (r,) in answer.rows()] == list(range(25000))
        first = list(session.ask_ready("multapses", {"at_least": "1"}).rows())
        default = list(session.ask_ready("multapses").rows())
        assert len(first) == 4
        assert default == [row for row in first if row[2] >= 10]
        with pytest.raises(QueryError):
            session.ask("from nowhere")


@pytest.fixture
def interruptible():
    """Let interrupts interrupt, even where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_a_long_query(folder):
    endless = "select sum(sin(a.range * b.range)) from range(10000000) a, range(1000000) b"
    interrupt = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
    with Session(folder) as session:
        interrupt.start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            session.ask(endless).write_csv(io.StringIO())
    assert time.monotonic() - started < 20


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_command_says_so(folder):
    endless = "select sum(sin(a.range * b.range)) from range(10000000) a, range(1000000) b"
    running = subprocess.Popen(  # noqa: S603 - our own arguments
        [sys.executable, "-c", "from connprops.cli import main; main()", "sql", folder, endless],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(3)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "Interrupted\n")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public circuits are not here")
@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
@pytest.mark.parametrize(
    ("config", "population"),
    [
        ("functionalizer_1000n/circuit_config.json", "default"),
        ("nbs1_two_cells", "external_S1nonbarrel_neurons__S1nonbarrel_neurons__chemical"),
    ],
)
def test_questions_of_public_circuits(tmp_path, config, population):
    circuit = resolve_circuit(SHARED / config)
    place = export(circuit, tmp_path / "dataset", population=population)
    stats = extract(Dataset(place))
    stats.write(tmp_path)
    build(stats).write_parquet(tmp_path / "model.parquet")
    pathways = len(stats.pathways.collect())
    with Session(tmp_path) as session:
        found = {name: list(session.ask_ready(name).rows()) for name in questions()}
    assert len(found["convergence_and_divergence"]) == pathways
    assert len(found["connection_probability"]) == pathways
    assert all(0 < row[-1] <= 1 for row in found["connection_probability"])
    # Sources of another population are never the targets themselves.
    assert bool(found["autapses"]) <= (population == "default")
    assert bool(found["reciprocal_connections"]) == (population == "default")


def test_a_damaged_table_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    file = tmp_path / "out" / "fits.parquet"
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    done = invoke(tmp_path / "out", "from pathways")
    assert done.exit_code == 2
    assert "is damaged" in done.stderr
