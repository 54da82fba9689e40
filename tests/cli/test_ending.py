"""How a command ends, whatever becomes of its streams, and what it is given."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from circuits import write_circuit
from typer.testing import CliRunner

from connprops.cli import app
from connprops.cli.ending import end_when_told, errors
from connprops.run.run import run

ESCAPES = "\x1b]0;owned\x07\x1b[31mB"
COMMAND = [sys.executable, "-c", "from connprops.cli import main; main()"]


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def start(*arguments, **streams):
    return subprocess.Popen([*COMMAND, *map(str, arguments)], **streams)  # noqa: S603 - ours


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuit")
    columns = {"p": [1.0, 2.0, 3.0, 2.5, 4.0]}
    types = ["A", ESCAPES, "C"]
    return write_circuit(folder, [0, 1, 2, 2, 0], [1, 2, 0, 0, 2], columns, mtype=types)


@pytest.fixture(scope="module")
def finished(circuit, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "o"
    run(circuit, out)
    return out


def test_garbage_is_kept_after_all_else_has_ended():
    code = (
        "import atexit, gc; from connprops.cli.ending import collect_seldom; collect_seldom();"
        "atexit.register(lambda: print(gc.get_threshold()[0] > 700, gc.get_freeze_count()))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)  # noqa: S603
    assert ended.stdout == b"True 0\n"


def test_a_closed_output_is_no_defect(circuit):
    with start("info", circuit, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1)) as info:
        assert info.communicate()[1] == b""
    assert info.returncode == 0


@pytest.mark.parametrize("arguments", [("info", ...), ("verify", ...), ("--help",)])
def test_a_reader_that_has_gone_ends_it_as_a_broken_pipe_does(finished, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [finished if a is ... else a for a in arguments]
    with start(*arguments, stdout=writer, stderr=subprocess.PIPE) as command:
        os.close(writer)
        assert command.communicate()[1] == b""
    assert command.returncode == 141


def test_a_full_disk_behind_the_output_is_told(finished):
    with (
        Path("/dev/full").open("w") as full,
        start("info", finished, stdout=full, stderr=-1) as info,
    ):
        assert b"No space left" in info.communicate()[1]
    assert info.returncode == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_what_the_system_asks_for_is_in_the_exit_code(number, code, capsys):
    before = {n: signal.getsignal(n) for n in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(number, signal.SIG_DFL)  # whatever these tests were started by
        end_when_told()
        with pytest.raises(BaseException) as ended, errors(debug=False):  # noqa: PT012
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert ended.value.exit_code == code
        assert signal.getsignal(number) == signal.SIG_DFL  # a second one ends it at once
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        end_when_told()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
    assert "Terminated" in capsys.readouterr().err


def on_a_terminal(*arguments, columns=80):
    """Return what a command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    with start(*arguments, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as command:
        os.close(theirs)
        text = b""
        while True:
            try:
                text += os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
    os.close(ours)
    return command.returncode, text.decode()


@pytest.mark.parametrize("form", [(), ("--csv",), ("--json",)])
def test_no_name_is_a_command_to_a_terminal(finished, form):
    code, text = on_a_terminal("sql", finished, "select type from types", *form)
    assert code == 0
    assert "owned" in text
    assert "\x1b]0;" not in text
    assert "\x07" not in text
    piped = invoke("sql", finished, "select type from types", "--csv")
    assert ESCAPES in piped.stdout  # a program gets it as it is


def test_names_in_messages_are_no_commands_either(circuit, tmp_path):
    for arguments in (
        ("run", circuit, "-o", tmp_path / "o", "--sel-src", ESCAPES),
        ("info", tmp_path / ESCAPES),
        ("info", circuit),
    ):
        assert "\x1b]" not in invoke(*arguments).output


def test_workers_that_are_neither_a_number_nor_an_address(circuit, tmp_path):
    began = time.monotonic()
    for workers in ("two", "-1", "0", "1.5"):
        done = invoke("export", circuit, "-o", tmp_path / "d", "--workers", workers)
        assert done.exit_code == 2
        assert "a number of processes, or a Dask scheduler's address" in done.stderr
    assert time.monotonic() - began < 5


DEEP = "[" * 100_000


def test_json_that_is_nested_deeply(circuit, finished, tmp_path):
    deep = tmp_path / "deep.json"
    deep.write_text(DEEP)
    less = tmp_path / "less.json"
    less.write_text('{"sel_src": {"a": ' + "[" * 900 + "]" * 900 + "}}")
    config = tmp_path / "circuit_config.json"
    config.write_text(circuit.read_text()[:-1] + ',"x":' + "[" * 900 + "]" * 900 + "}")
    for arguments in (
        ("run", circuit, "-o", tmp_path / "o", "--config", deep),
        ("run", circuit, "-o", tmp_path / "o", "--config", less),
        ("run", circuit, "-o", tmp_path / "o", "--sel-src", DEEP),
        ("build-model", deep),
        ("draw", deep, "--circuit", circuit, "-o", tmp_path / "d.parquet"),
        ("compare", deep, finished),
        ("info", deep),
        ("info", config),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 2, done.output
        assert "nested" in done.stderr or "recursion" in done.stderr


def test_texts_that_are_no_paths(circuit, tmp_path):
    config = json.loads(circuit.read_text())
    config["networks"]["edges"][0]["edge_types_file"] = "a\0b"
    broken = {"edges.json": config, "network.json": {"network": "a\0b"},
              "half.json": {"network": "\ud800"}}  # fmt: skip
    for name, content in broken.items():
        (tmp_path / name).write_text(json.dumps(content))
        done = invoke("info", tmp_path / name)
        assert done.exit_code == 2, done.output
    done = invoke("export", circuit, "-o", "\udce9")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (2, "Error: An argument is not UTF-8")


def test_the_folder_that_a_command_runs_in_is_no_dataset(circuit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = invoke("export", circuit, "-o", ".")
    assert done.exit_code == 2
    assert "the folder that this command runs in" in done.stderr


def resealed(content):
    """Return JSON with the checksum that it should have, of whoever forged it."""
    content.pop("seal")
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return json.dumps({**content, "seal": hashlib.sha256(text.encode()).hexdigest()})


@pytest.mark.parametrize("forged", [None, 1, "x", [], {}, [{}], [None], {"a": {}}])
def test_forged_manifests(circuit, tmp_path, forged):
    folder = tmp_path / "d"
    assert invoke("export", circuit, "-o", folder).exit_code == 0
    manifest = folder / "manifest.json"
    whole = json.loads(manifest.read_text())
    for name in whole.keys() - {"seal"}:
        manifest.write_text(resealed({**whole, name: forged}))
        for arguments in (
            ("info", folder), ("verify", folder), ("sql", folder, "from synapses"),
            ("extract", folder, "-o", tmp_path / "s", "--dry-run"),
        ):  # fmt: skip
            done = invoke(*arguments)
            assert done.exit_code in (0, 2), (name, forged, arguments, done.output)
