"""The record of a run: its states, and which of them count."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from circuits import two_types
from typer.testing import CliRunner

from connprops.cli import app
from connprops.errors import OutputError
from connprops.options import RunOptions
from connprops.run.record import (
    RUN_FILE,
    CompleteRun,
    Doing,
    PropertySummary,
    Record,
    Step,
    check_folder,
    last_words,
    record_of,
    write_run,
)
from connprops.run.run import run
from connprops.run.verify import verify
from connprops.store.writing import leftover_of, locked

RUNNING = Record(
    state="running", circuit="c.json", input={"edges": 1}, options={"seed": 0}, versions={},
    started="2026-01-01",
)  # fmt: skip
COMPLETE = CompleteRun(
    **vars(replace(RUNNING, state="complete")), out="out", population="default", n_pathways=4,
    n_connections=5, n_synapses=6,
    properties=(PropertySummary("u_syn", "1", "beta", 3, 4, None, 3, 1, 0, 0.9, 2, 1, None),),
    steps=(Step("export", 0.5, 1 << 21),), artifacts=("model.parquet",), warnings=("mind this",),
    sha256={"model.parquet": "0"}, seconds=1.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "flaw"),
    [
        (RUNNING, "says that the run is running"),
        (replace(RUNNING, state="failed", error="no room"), "says that the run is failed"),
        (COMPLETE, ""),
    ],
)
def test_a_record_comes_back(tmp_path, record, flaw):
    write_run(tmp_path, record)
    assert record_of(tmp_path) == record
    assert record.flaw == flaw
    content = json.loads((tmp_path / RUN_FILE).read_text())
    assert "reused" not in content
    assert ("error" in content) == (record.error is not None)


@pytest.mark.parametrize(
    "change", [{"n_pathways": 5}, {"n_pathways": "five"}, {"seal": None}, {"steps": None}]
)
def test_a_complete_record_that_was_changed_counts_no_more(tmp_path, change):
    write_run(tmp_path, COMPLETE)
    file = tmp_path / RUN_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    changed = record_of(tmp_path)
    assert not isinstance(changed, CompleteRun)
    assert changed.flaw == "has been changed by hand"
    assert changed.circuit == "c.json"
    with pytest.raises(OutputError, match="differs in: options"):
        check_folder(tmp_path, replace(RUNNING, options={"seed": 1}), overwrite=False)


@pytest.mark.parametrize("text", ["", "[]", '{"precious": true}', '{"program": "other"}'])
def test_other_files_are_no_records(tmp_path, text):
    (tmp_path / RUN_FILE).write_text(text)
    assert record_of(tmp_path) is None


def test_what_did_not_finish_is_no_obstacle(tmp_path):
    write_run(tmp_path, replace(RUNNING, state="failed", error="no room"))
    check_folder(tmp_path, replace(RUNNING, options={"seed": 1}), overwrite=False)


DOING = Doing("build", "129,000 pathways x 10 properties", 10**9, 19 * 10**8)


def test_a_run_that_was_killed_says_of_what(tmp_path):
    write_run(tmp_path, replace(RUNNING, doing=DOING))
    stage = leftover_of(tmp_path / "run")
    for _ in range(2):
        words = last_words(tmp_path)
        assert "was killed during build" in words
        assert "it had taken 1.9 GB, allowed were 1.0 GB (--memory)" in words
        assert "what grows there is 129,000 pathways x 10 properties" in words
        assert "--sel-props" in words
        stage.mkdir(exist_ok=True)
    with locked(stage, "a run"):
        assert not last_words(tmp_path)
    write_run(tmp_path, COMPLETE)
    assert not last_words(tmp_path)
    write_run(stage, replace(RUNNING, doing=DOING))  # of a run that was to replace another
    assert "was killed during build" in last_words(tmp_path)


_KILLED = """
import os, signal, sys
import connprops.run.steps as module
from connprops.run.run import run
module.build = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
run(sys.argv[1], sys.argv[2])
"""


def test_who_looks_at_a_run_that_was_killed_learns_of_it(tmp_path):
    config, out = two_types(tmp_path / "c"), tmp_path / "out"
    command = [sys.executable, "-W", "ignore", "-c", _KILLED, config, out]
    ended = subprocess.run(command, check=False)  # noqa: S603
    assert ended.returncode == -signal.SIGKILL
    grows = "what grows there is 4 pathways x "
    shown = " ".join(CliRunner().invoke(app, ["info", str(out)]).output.split())
    assert ", killed, started" in shown
    assert "says that the run was killed" in shown
    assert grows in shown
    assert grows in verify(out).damaged[out / RUN_FILE]
    done = run(config, out, RunOptions(sel_props=("u_syn",)))
    assert any(grows in text for text in done.warnings)
    assert "doing" not in json.loads((out / RUN_FILE).read_text())
    assert not verify(out).damaged
    assert grows not in (out / "report.html").read_text()
