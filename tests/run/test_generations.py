"""A folder's results change together, and what is missing from a record counts as damage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pyarrow.dataset
import pytest
from circuits import write_circuit
from typer.testing import CliRunner

import connprops as cp
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsError, DatasetError, OutputError
from connprops.export.export import export
from connprops.options import RunOptions
from connprops.query.session import Session
from connprops.run.run import run
from connprops.run.verify import verify
from connprops.statistics.extract import extract
from connprops.store.writing import locked

P = RunOptions(distr_types={"p": "normal"})
MEANS = """
    select (select avg(p) from synapses),
        (select avg(mean) from statistics where property = 'p'),
        (select avg(value) from model where property = 'p' and parameter = 'mean' and level = -1)
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def flip(file, at=None):
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    file.write_bytes(data)


def content(folder):
    """Return the bytes of all files, hidden ones too, but of ``run.json``, which tells the time."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name != "run.json"
    }


def circuit_of(folder, scale):
    """Write a circuit of one pathway whose property is all about one value."""
    values = {"p": scale * np.array([1.0, 1.0, 1.0, 1.001, 0.999])}
    return write_circuit(folder, [0, 1, 0, 1, 0], [2, 2, 3, 3, 2], values, mtype=[*"AABB"])


def answer(folder):
    """Return which circuit the data, the statistics and the model of a folder are of."""
    with Session(folder) as session:
        (row,) = session.ask(MEANS).rows()
    return tuple(round(float(mean)) for mean in row)


@pytest.fixture(scope="module")
def circuits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("circuits")
    return circuit_of(folder / "a", 1), circuit_of(folder / "b", 10)


@pytest.fixture(scope="module")
def runs(circuits, tmp_path_factory):
    """Return the folders of a run on each circuit; the second was put over one on the first."""
    folder = tmp_path_factory.mktemp("runs")
    run(circuits[0], folder / "a", P)
    run(circuits[0], folder / "b", P)
    run(circuits[1], folder / "b", P, overwrite=True)
    return folder / "a", folder / "b"


@pytest.fixture
def ours(runs, tmp_path):
    """Return a copy of the run on the first circuit, to be changed."""
    return shutil.copytree(runs[0], tmp_path / "out")


# --- one generation


def test_a_run_over_another_leaves_nothing_of_it(runs, circuits, tmp_path):
    run(circuits[1], tmp_path / "out", P)
    assert content(runs[1]) == content(tmp_path / "out")
    assert [answer(folder) for folder in runs] == [(1, 1, 1), (10, 10, 10)]


def test_killed_commands_and_readers_beside_runs(tmp_path):
    script = Path(__file__).parents[1] / "stress" / "run.py"
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(script), "--calls", "100", "--readers", "5"],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("0 failures\n")


def test_a_commit_that_was_killed_before_its_rename_is_done_again(circuits, ours):
    """What it left, a stage with a record, is no folder of its own to be locked twice."""
    stage = ours / ".run.partial"
    stage.mkdir(mode=0o700)
    shutil.copy(ours / "connprops.json", stage)
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, "-c", "from connprops.cli import main; main()",
         "run", str(circuits[1]), "-o", str(ours), "--overwrite", "-q",
         "--distr-type", "p=normal"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert answer(ours) == (10, 10, 10)
    assert not stage.exists()


def test_a_run_waits_for_a_reader_that_cleans_up(circuits, ours):
    with ThreadPoolExecutor() as pool:
        with locked(ours, "a reader"):
            replacing = pool.submit(run, circuits[1], ours, P, overwrite=True)
            with pytest.raises(TimeoutError):
                replacing.result(timeout=2)
        assert replacing.result().state == "complete"
    assert answer(ours) == (10, 10, 10)


@pytest.mark.parametrize("has_record", [True, False])
@pytest.mark.parametrize("name", ["statistics", "model", "fits"])
def test_a_file_of_another_run_is_refused(runs, ours, name, has_record):
    shutil.copy(runs[1] / f"{name}.parquet", ours)
    if not has_record:
        (ours / "connprops.json").unlink()
    with pytest.raises(DatasetError, match=r"connprops\.json says|goes with another"):
        Session(ours)
    for command in ("plot", "database"):
        assert invoke(command, ours, "--overwrite").exit_code == 2
    assert invoke("verify", ours).exit_code == 2


def test_a_dataset_of_another_run_is_refused(runs, ours):
    shutil.rmtree(ours / "dataset")
    shutil.copytree(runs[1] / "dataset", ours / "dataset")
    with pytest.raises(DatasetError, match=r"dataset/manifest\.json is damaged"):
        Session(ours)
    assert invoke("verify", ours).exit_code == 2


def test_a_model_of_earlier_statistics_is_refused(ours):
    extract(Dataset(ours / "dataset"), hist_bins=3).write(ours, overwrite=True)
    with pytest.raises(DatasetError, match="goes with another statistics"):
        Session(ours)
    result = invoke("plot", ours)
    assert result.exit_code == 2
    assert "is of other statistics than those beside it" in result.stderr
    assert invoke("build", ours, "--overwrite").exit_code == 0
    assert invoke("plot", ours, "--formats", "json").exit_code == 0
    assert {f.name for f in verify(ours).damaged} >= {"model.parquet"}  # not what run.json says
    flip(ours / "charts" / "overview.json")
    assert ours / "charts" / "overview.json" in verify(ours).damaged


def test_the_same_data_in_other_samples_of_the_file_are_other_statistics(circuits, tmp_path):
    config = shutil.copytree(circuits[0].parent, tmp_path / "c") / "circuit_config.json"
    run(config, tmp_path / "out", P)
    manifest = json.loads((tmp_path / "out" / "dataset" / "manifest.json").read_text())
    metadata = pl.read_parquet_metadata(tmp_path / "out" / "statistics.parquet")
    assert any(manifest["seal"] in value for value in metadata.values())


# --- handles


def test_what_a_handle_gave_never_reads_another_dataset(circuits, tmp_path):
    folder = tmp_path / "d"
    export(resolve_circuit(circuits[0]), folder)
    opened, unread, session = Dataset(folder), Dataset(folder), Session(folder)
    frame, relation = opened.synapses, opened.sql("select sum(p) from synapses")
    before = frame.collect()
    assert session.ask("select count(*) from synapses").rows().__next__() == (5,)
    export(resolve_circuit(circuits[1]), folder, overwrite=True)
    replaced = "was replaced since it was opened"
    for read in (
        lambda: opened.synapses,
        lambda: unread.connections,
        lambda: unread.types,
        lambda: opened.sql("from synapses"),
        lambda: extract(unread),
        lambda: session.ask("from synapses"),
    ):
        with pytest.raises(DatasetError, match=replaced):
            read()
    for read in (frame.collect, relation.fetchall):
        with pytest.raises(Exception, match=r"00000-"):  # names the file that is gone
            read()
    assert Dataset(folder).synapses.collect()["p"].sum() == pytest.approx(10 * before["p"].sum())


def test_a_session_that_a_replacement_overtakes_opens_the_new_dataset(ours, circuits, monkeypatch):
    """Files that were found intact may be gone when they are opened."""
    original, commits = pyarrow.dataset.dataset, []

    def overtaken(*arguments, **options):
        if not commits:
            commits.append(run(circuits[1], ours, P, overwrite=True))
        return original(*arguments, **options)

    monkeypatch.setattr(pyarrow.dataset, "dataset", overtaken)
    assert answer(ours) == (10, 10, 10)
    (commit,) = commits
    assert commit.state == "complete"


def test_a_session_that_has_answered_opens_no_other_dataset(ours, circuits):
    with Session(ours) as session:
        assert session.ask("select count(*) from pathways").rows().__next__()[0] > 0
        run(circuits[1], ours, P, overwrite=True)
        with pytest.raises(DatasetError, match="was replaced since it was opened"):
            session.ask("from synapses")


def test_files_of_a_dataset_that_was_written_again_are_not_damaged(circuits, tmp_path):
    """They made way for another's, and have come back since: of that, seals tell nothing."""
    folder = tmp_path / "d"
    export(resolve_circuit(circuits[0]), folder)
    opened, session = Dataset(folder), Session(folder)
    assert session.ask("select count(*) from synapses").rows().__next__() == (5,)
    for which in (1, 0):
        export(resolve_circuit(circuits[which]), folder, overwrite=True)
    for file in (folder / "synapses").iterdir():
        file.unlink()  # as it was for a moment
    for read in (lambda: opened.synapses, lambda: [*session.ask("from synapses").rows()]):
        with pytest.raises(DatasetError, match="was replaced since it was opened"):
            read()
    with pytest.raises(DatasetError, match="is missing"):
        Dataset(folder).synapses  # noqa: B018


def test_an_export_that_was_killed_at_its_end_leaves_nothing(circuits, tmp_path):
    folder = tmp_path / "d"
    export(resolve_circuit(circuits[0]), folder)
    stage = tmp_path / ".d.partial"
    (stage / "notes").mkdir(parents=True)
    for name in ("lock", "plan.json"):
        (stage / name).touch()
    export(resolve_circuit(circuits[0]), folder)
    assert [item.name for item in tmp_path.iterdir()] == ["d"]


# --- records


@pytest.mark.parametrize("record", ["run.json", "connprops.json"])
@pytest.mark.parametrize("how", ["half", "empty", "not UTF-8", "missing", "changed"])
def test_a_broken_record_is_damage(ours, record, how):
    for name in ("model.json", "report.html", "connprops.duckdb"):
        flip(ours / name)
    file = ours / record
    whole = file.read_bytes()
    file.write_bytes(
        {
            "half": whole[: len(whole) // 2],
            "empty": b"",
            "not UTF-8": whole[:50] + b"\xff" + whole[51:],
            "changed": whole.replace(b"e", b"f", 1),
        }.get(how, b"")
    )
    if how == "missing":
        file.unlink()
    result = invoke("verify", ours)
    assert result.exit_code == 2
    assert record in result.stderr
    for name in ("model.json", "report.html", "connprops.duckdb"):
        flip(ours / name)
    assert invoke("verify", ours).exit_code == 2


def test_a_record_that_lacks_a_file_is_damage(ours):
    extract(Dataset(ours / "dataset")).write(ours, correlations=True, overwrite=True)
    assert {p.name for p in verify(ours).damaged} == {"run.json"} or verify(ours).damaged == {}
    shutil.copy(ours / "correlations.parquet", ours / "copy.parquet")
    extract(Dataset(ours / "dataset")).write(ours, overwrite=True)
    assert not (ours / "correlations.parquet").exists()
    (ours / "copy.parquet").rename(ours / "correlations.parquet")
    assert "is not listed in connprops.json" in invoke("verify", ours).stderr


@pytest.mark.parametrize("name", ["model.json", "model.parquet"])
def test_a_flipped_digit_of_a_model_reaches_no_reader(ours, circuits, tmp_path, name):
    file = ours / name
    flip(file, file.read_bytes().index(b'"mean": ') + 8 if name.endswith("json") else None)
    alone = shutil.copy(file, tmp_path / name)  # its own checksum tells, too
    for model in (file, alone):
        with pytest.raises(ConnpropsError, match="is damaged"):
            cp.read_model(model)
        assert invoke("compare", model, ours / "model.json").exit_code == 2
        drawn = ("draw", model, "--circuit", circuits[0], "-o", tmp_path / "drawn.h5")
        assert invoke(*drawn).exit_code == 2
        assert invoke("verify", model).exit_code == 2
    assert not (tmp_path / "drawn.h5").exists()


def test_a_model_that_another_program_wrote_has_no_checksum(ours, tmp_path):
    raw = json.loads((ours / "model.json").read_text())
    del raw["__version_info__"]["connprops.seal"]
    (tmp_path / "m.json").write_text(json.dumps(raw))
    assert cp.read_model(tmp_path / "m.json").properties == ["p", "n_syn_per_conn"]


@pytest.mark.parametrize("name", ["drawn.h5", "drawn.parquet"])
def test_a_drawn_file_has_a_checksum(ours, circuits, tmp_path, name):
    for folder in (tmp_path, ours):
        file = folder / name
        what = ("--circuit", circuits[0])
        if name.endswith("parquet"):
            pairs = pl.DataFrame({"source_node": [0, 1], "target_node": [2, 3]})
            pairs.write_parquet(tmp_path / "pairs.parquet")
            what = ("--connections", tmp_path / "pairs.parquet", *what)
        result = invoke("draw", ours / "model.parquet", *what, "-o", file)
        assert result.exit_code == 0, result.output
        assert invoke("verify", file).exit_code == 0
        flip(file, -9 if name.endswith("parquet") else None)
        assert invoke("verify", file).exit_code == 2
        flip(file, -9 if name.endswith("parquet") else None)
    assert verify(ours).damaged == {}
    (ours / name).unlink()
    assert verify(ours).damaged == {ours / name: "is missing"}


def test_merge_over_damaged_results_says_so(ours):
    assert invoke("merge", ours).exit_code == 0
    flip(ours / "histograms.parquet")
    assert invoke("merge", ours).exit_code == 2
    flip(next((ours / "dataset" / "synapses").iterdir()))
    assert invoke("merge", ours / "dataset").exit_code == 2


def test_a_check_is_no_baseline(tmp_path):
    config = circuit_of(tmp_path / "c", 1)
    circuit, folder = resolve_circuit(config), tmp_path / "d"
    export(circuit, folder)
    for _ in range(2):  # nothing is known of the bytes that were read
        with pytest.raises(OutputError, match="an export without --verify has not recorded"):
            export(circuit, folder, verify=True)
    export(circuit, folder, verify=True, overwrite=True)
    export(circuit, folder, verify=True)
    edges = config.parent / "edges.h5"
    before = edges.stat()
    with h5py.File(edges, "a") as h5:  # as large as before, and as old
        h5["edges/default/0/p"][0] += 1
    os.utime(edges, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(OutputError, match="differs in"):
        export(resolve_circuit(config), folder, verify=True)


@pytest.mark.parametrize("name", ["model.json", "report.html", "run.json"])
def test_a_run_says_what_it_replaces_that_somebody_changed(ours, circuits, runs, name):
    if name == "run.json":
        text = (ours / name).read_text()
        (ours / name).write_text(text.replace('"seed": 0', '"seed": 1'))
    else:
        flip(ours / name)
    said = run(circuits[0], ours, P, overwrite=True).warnings
    assert any(name in text and text.endswith("it is replaced") for text in said)
    assert content(ours) == content(runs[0])  # the report does not tell of it
    assert verify(ours).damaged == {}


def test_a_run_that_fails_over_another_leaves_it(ours, circuits, monkeypatch):
    before = content(ours)
    monkeypatch.setattr("connprops.run.steps.report", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(circuits[1], ours, P, overwrite=True)
    kept = {name: data for name, data in content(ours).items() if ".run.partial" not in name}
    assert kept == before
    assert answer(ours) == (1, 1, 1)
    result = invoke("verify", ours)
    assert result.exit_code == 0
    assert ".run.partial holds what an interrupted command had finished" in result.stdout
    assert "An interrupted run waits in" in invoke("info", ours).stdout
