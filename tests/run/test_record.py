"""The record of a run: its states, and which of them count."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from connprops.errors import OutputError
from connprops.run.record import (
    RUN_FILE,
    CompleteRun,
    PropertySummary,
    Record,
    Step,
    check_folder,
    record_of,
    started_with,
    write_run,
)

RUNNING = Record(
    state="running", circuit="c.json", input={"edges": 1}, options={"seed": 0}, versions={},
    started="2026-01-01",
)  # fmt: skip
COMPLETE = CompleteRun(
    **started_with(RUNNING), state="complete", out="out", population="default", n_pathways=4,
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
