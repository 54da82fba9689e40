"""What goes wrong outside: each fault gives one clear error, and leaves what was there alone."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import duckdb
import h5py
import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit
from typer.testing import CliRunner

import connprops.export.export
import connprops.store.folder
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.display import printable
from connprops.errors import CircuitError, ConnpropsWarning, DatasetError, OutputError
from connprops.export.export import export
from connprops.model.model import read_model
from connprops.options import RunOptions
from connprops.run import steps as steps_module
from connprops.run.run import run
from connprops.run.verify import verify
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics

ONE = RunOptions(sel_props=("u_syn",), distr_types={"u_syn": "normal"})


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def content(folder):
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


@pytest.fixture(scope="module")
def circuit(tmp_path_factory):
    return two_types(tmp_path_factory.mktemp("faults") / "small")


@pytest.fixture(scope="module")
def finished(circuit, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    run(circuit, out, ONE)
    return out


@pytest.fixture
def ours(circuit, finished, tmp_path):
    """Return a copy of the circuit and of a run on it, to be damaged."""
    shutil.copytree(circuit.parent, tmp_path / "small")
    shutil.copytree(finished, tmp_path / "out")
    return tmp_path / "small" / "circuit_config.json", tmp_path / "out"


@pytest.fixture
def disk(tmp_path):
    """Return a function that makes a small file system."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(  # noqa: S603 - our own words
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],  # noqa: S607
            check=False, capture_output=True,
        )  # fmt: skip
        if done.returncode:
            pytest.skip("file systems cannot be mounted here")
        return place

    yield mount
    # Lazily: files of it that are still open must not keep pytest from removing its folders.
    subprocess.run(["umount", "-l", str(place)], check=False, capture_output=True)  # noqa: S603, S607


# --- the machine


def test_a_full_disk(circuit, finished, disk):
    place = disk("size=24k")
    result = invoke("export", circuit, "-o", place / "d", "--sel-props", "u_syn")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert "No space left on device" in result.stderr
    assert str(place) in result.stderr
    assert not (place / "d").exists()
    disk("remount,size=1m")
    assert invoke("export", circuit, "-o", place / "d", "--sel-props", "u_syn").exit_code == 0
    assert content(place / "d") == content(finished / "dataset")
    assert [p.name for p in place.iterdir()] == ["d"]


@pytest.mark.parametrize("size", ["40k", "120k", "1m"])
def test_a_disk_that_fills_during_a_run(circuit, finished, disk, size):
    place = disk(f"size={size}")
    options = ("-o", place / "out", "--sel-props", "u_syn", "--distr-type", "u_syn=normal")
    result = invoke("run", circuit, *options)
    assert result.exit_code == 2
    assert re.search(rf"{place}/out/\S+ cannot be written\n.*No space left", result.stderr)
    assert json.loads((place / "out" / "run.json").read_text())["state"] in ("running", "failed")
    disk("remount,size=64m")
    assert invoke("run", circuit, *options).exit_code == 0
    assert verify(place / "out").damaged == {}
    found, expected = content(place / "out"), content(finished)
    assert {k: v for k, v in found.items() if k != "run.json"} == {
        k: v for k, v in expected.items() if k != "run.json"
    }


def test_a_limit_on_the_size_of_files(circuit, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OutputError, match=r"parquet cannot be written\n  found: .*too large"):
            export(resolve_circuit(circuit), tmp_path / "d")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "d").exists()


def test_a_read_only_folder(circuit, disk):
    place = disk("ro")
    for command in ("export", "run"):
        result = invoke(command, circuit, "-o", place / "d")
        assert result.exit_code == 2
        assert "cannot be written" in result.stderr
        assert "Read-only file system" in result.stderr


_AS_NOBODY = """
import os, sys
from pathlib import Path
from typer.testing import CliRunner
from connprops.cli import app

place = Path(sys.argv[1])
def export(circuit, out):
    result = CliRunner().invoke(app, ["export", str(place / circuit), "-o", str(place / out)])
    print(result.exit_code, result.stderr.replace("\\n", " "))

export("readable", "first")  # all modules are loaded then, which others may not read
if not os.geteuid():  # whom no permission stops
    os.setgid(65534)
    os.setuid(65534)
export("readable", "closed/d")
export("unreadable", "open/d")
"""


def test_permission_denied(circuit):
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        for folder, mode in (("closed", 0o555), ("open", 0o777)):
            (place / folder).mkdir()
            (place / folder).chmod(mode)
        for folder in ("readable", "unreadable"):
            shutil.copytree(circuit.parent, place / folder)
        (place / "unreadable" / "edges.h5").chmod(0)
        ran = subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-c", _AS_NOBODY, name], capture_output=True, text=True, check=True
        )
        assert ran.stderr == ""
        first, closed, unreadable = ran.stdout.splitlines()
        assert first == "0 "
        assert re.match(rf"2 Error: {name}/closed/\S+ cannot be written .*Permission den", closed)
        assert re.match(rf"2 Error: {name}/unreadable/edges.h5 .*Permission denied", unreadable)
        assert [*(place / "closed").iterdir(), *(place / "open").iterdir()] == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "Out of memory"),
        (duckdb.OutOfMemoryException("could not allocate"), "Out of memory.*could not allocate"),
        (duckdb.IOException("No space left on device"), "A file cannot be.*No space left"),
        (PermissionError(13, "Permission denied", "/x/y"), "Permission denied: '/x/y'"),
    ],
)
def test_what_the_machine_refuses_is_no_defect(circuit, tmp_path, monkeypatch, error, says):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(steps_module, "build", fail)
    result = invoke("run", circuit, "-o", tmp_path / "out", "--sel-props", "u_syn")
    assert result.exit_code == 2
    assert "defect" not in result.stderr
    assert re.search(f"(?s){says}", result.stderr)


# --- the circuit


def with_h5(config, change, name="edges.h5"):
    with h5py.File(config.parent / name, "a") as h5:
        change(h5)


def replace(h5, path, values):
    attributes = dict(h5[path].attrs) if path in h5 else {}
    if path in h5:
        del h5[path]
    h5[path] = values
    if not isinstance(values, h5py.ExternalLink | h5py.SoftLink):
        h5[path].attrs.update(attributes)


def claim(h5, size):
    del h5[SOURCE]
    h5.create_dataset(SOURCE, (size,), "u8", chunks=(1 << 10,)).attrs["node_population"] = "All"


EDGES = "edges/default"
SOURCE = f"{EDGES}/source_node_id"
FAULTS = {
    "external link": (
        lambda h5: replace(h5, f"{EDGES}/0/u_syn", h5py.ExternalLink("/etc/passwd", "/x")),
        "edges/default/0/u_syn is a link to another file",
    ),
    "cyclic link": (
        lambda h5: replace(h5, SOURCE, h5py.SoftLink(f"/{SOURCE}")),
        "lacks edges/default/source_node_id",
    ),
    "link that leads nowhere": (
        lambda h5: replace(h5, f"{EDGES}/0/u_syn", h5py.SoftLink("/nowhere")),
        "edges/default/0/u_syn is a link that leads nowhere",
    ),
    "ragged column": (
        lambda h5: replace(h5, f"{EDGES}/0/u_syn", h5[f"{EDGES}/0/u_syn"][:-1]),
        "edges/default/0/u_syn has another length",
    ),
    "ragged ends": (
        lambda h5: replace(h5, f"{EDGES}/target_node_id", h5[f"{EDGES}/target_node_id"][:-1]),
        "source_node_id and target_node_id of edges/default are not of one length",
    ),
    "missing column": (lambda h5: h5[EDGES].pop("target_node_id"), "lacks edges/default/target_"),
    "a group for a column": (
        lambda h5: replace(h5, f"{EDGES}/target_node_id", h5py.SoftLink("/edges")),
        "edges/default/target_node_id is not a one-dimensional",
    ),
    "node out of range": (
        lambda h5: h5[SOURCE].write_direct(np.full(1, 10, "u8"), dest_sel=np.s_[3:4]),
        "node id 10 in row 3",
    ),
    "ids that are no whole numbers": (
        lambda h5: replace(h5, f"{EDGES}/source_node_id", h5[f"{EDGES}/source_node_id"][:] + 0.5),
        "edges/default/source_node_id does not hold whole numbers",
    ),
    "wrong attribute": (
        lambda h5: h5[f"{EDGES}/source_node_id"].attrs.modify("node_population", "Nobody"),
        "names a node population that is not there",
    ),
    "more rows than the file holds": (
        lambda h5: claim(h5, 1 << 40),
        "claims values that the file does not hold",
    ),
    "values in other files": (
        lambda h5: h5.create_dataset(
            f"{EDGES}/0/z", (3,), "f4", external=[("/etc/passwd", 0, 12)]
        ),
        "the values of edges/default/0/z lie in other files",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_edge_files(ours, tmp_path, fault):
    config, _ = ours
    change, says = FAULTS[fault]
    with_h5(config, change)
    with pytest.raises(CircuitError) as error:
        export(resolve_circuit(config), tmp_path / "d")
    assert str(config.parent / "edges.h5") in str(error.value)
    assert says in str(error.value)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h5: replace(h5, "nodes/All/0/mtype", np.full(10, 7)), "its @library does not name"),
        (
            lambda h5: replace(h5, "nodes/All/0/mtype", np.zeros(10, "c8")),
            "nodes/All/0/mtype does not hold whole numbers",
        ),
        (
            lambda h5: replace(h5, "nodes/All/0/mtype", np.zeros(9, "u4")),
            "nodes/All/0/mtype has another length",
        ),
        (lambda h5: h5["nodes"].pop("All"), "names a node population that is not there"),
    ],
)
def test_faults_of_node_files(ours, tmp_path, change, says):
    config, _ = ours
    with_h5(config, change, "nodes.h5")
    with pytest.raises(CircuitError, match=says):
        export(resolve_circuit(config), tmp_path / "d")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("networks",), ["x"], "networks is of the wrong kind"),
        (("networks", "edges"), {"a": 1}, "networks.edges is of the wrong kind"),
        (("networks", "edges", 0), "x", "networks.edges[0] is of the wrong kind"),
        (
            ("networks", "nodes", 0, "nodes_file"),
            3,
            "networks.nodes[0].nodes_file is of",
        ),
        (
            ("networks", "edges", 0, "populations"),
            ["default"],
            ".edges[0].populations is of the wrong kind",
        ),
        (("manifest", "$BASE_DIR"), "$BASE_DIR/$BASE_DIR", "refer to each other in a circle"),
    ],
)
def test_faults_of_configurations(ours, tmp_path, path, value, says):
    config, _ = ours
    tree = json.loads(config.read_text())
    part = tree
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    config.write_text(json.dumps(tree))
    result = invoke("export", config, "-o", tmp_path / "d")
    assert result.exit_code == 2
    assert says in result.stderr
    assert str(config) in result.stderr


@pytest.mark.parametrize("change", ["written", "cut short"])
def test_a_file_that_changes_while_it_is_read(ours, tmp_path, monkeypatch, change):
    config, _ = ours
    edges, original = config.parent / "edges.h5", connprops.export.export.export_range

    def meanwhile(spec):
        summary = original(spec)
        os.utime(edges) if change == "written" else os.truncate(edges, edges.stat().st_size - 1)
        return summary

    monkeypatch.setattr(connprops.export.export, "export_range", meanwhile)
    with pytest.raises(CircuitError, match=r"edges\.h5 has changed while it was read"):
        export(resolve_circuit(config), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_what_is_left_out_is_said_and_counted(tmp_path):
    """Dirty data, as whoever runs the command sees them."""
    values = np.arange(1.0, 41.0)
    values[[3, 7, 25]] = np.nan, np.inf, -np.inf
    source = np.arange(40) % 4
    config = write_circuit(
        tmp_path / "c", source, np.arange(40) // 4,
        {"p": values, "flag": np.where(source == 1, -1, 2), "number": np.arange(40)},
        mtype=["A", "A", "B", "B", *["A"] * 6],
    )  # fmt: skip
    result = invoke("run", config, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "'p' has 3 values that are NaN or infinite: they are left out" in result.stderr
    assert "'flag' is -1 in 10 places and else never negative" in result.stderr
    found = pl.read_parquet(tmp_path / "out" / "statistics.parquet").filter(
        pl.col("property").cast(pl.String) == "p"
    )
    lost = {(row["source_type"], row["target_type"]): (row["n"], row["n_null"])
            for row in found.to_dicts()}  # fmt: skip
    types = np.array(["A", "A", "B", "B"])[source], np.array(list("AABBAAAAAA"))[np.arange(40) // 4]
    for pathway, numbers in lost.items():
        of_pathway = values[(types[0] == pathway[0]) & (types[1] == pathway[1])]
        finite = int(np.isfinite(of_pathway).sum())
        assert numbers == (finite, of_pathway.size - finite)
    assert sum(n_null for _, n_null in lost.values()) == 3
    assert "'number' is left out" in invoke("info", tmp_path / "out" / "dataset").stdout


# --- what was written


def flip(file, at=None):
    data = bytearray(file.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    file.write_bytes(data)


def first_of(folder, kind):
    """Return the first file of rows of a dataset: its name ends with a part of its checksum."""
    (file,) = (folder / kind).glob("00000-*.parquet")
    return file


@pytest.mark.parametrize("kind", ["connections", "synapses"])
def test_a_flipped_bit_of_a_dataset_reaches_no_reader(ours, kind):
    config, out = ours
    folder, expected = out / "dataset", content(out / "dataset")
    flip(file := first_of(folder, kind))
    readers = {
        "frames": lambda ds: ds.synapses.collect(),
        "SQL": lambda ds: ds.sql("select count(*) from synapses").fetchall(),
        "statistics": lambda ds: extract(ds).table.collect(),
    }
    for read in readers.values():
        with pytest.raises(DatasetError, match=rf"{file} is not what its checksum says"):
            read(Dataset(folder))
    with pytest.raises(DatasetError, match="checksum"):  # not taken for finished, either
        export(resolve_circuit(config), folder, properties=["u_syn"])
    with pytest.warns(ConnpropsWarning, match="is exported again"):
        export(resolve_circuit(config), folder, properties=["u_syn"], overwrite=True)
    assert content(folder) == expected


@pytest.mark.parametrize("file", ["types.parquet", "nodes.parquet", "node_sets.parquet"])
def test_a_flipped_bit_of_the_nodes_reaches_no_reader(ours, file):
    flip(ours[1] / "dataset" / file)
    with pytest.raises(DatasetError, match=f"{file} is not what its checksum says"):
        extract(Dataset(ours[1] / "dataset"), sel_src="Left").table.collect()


def test_a_part_that_was_damaged_meanwhile_is_written_again(ours, tmp_path, monkeypatch):
    config, out = ours
    monkeypatch.setattr(connprops.export.export, "write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(resolve_circuit(config), tmp_path / "d", properties=["u_syn"])
    monkeypatch.undo()
    stage = tmp_path / ".d.partial"
    flip(first_of(stage / "dataset", "connections"))
    export(resolve_circuit(config), tmp_path / "d", properties=["u_syn"])
    assert content(tmp_path / "d").keys() == content(out / "dataset").keys()
    assert Dataset(tmp_path / "d").verify() == []
    assert not stage.exists()


def test_a_manifest_from_the_future_or_changed_by_hand(ours):
    config, out = ours
    file = out / "dataset" / "manifest.json"
    manifest = json.loads(file.read_text())
    for key, value, says in (
        ("schema_version", 99, "schema version"),
        ("n_synapses", 7, "is not what its checksum says"),
        ("parts", None, "is incomplete"),
    ):
        file.write_text(json.dumps({**manifest, key: value}))
        before = content(out)
        for command in (
            ("extract", out / "dataset", "--overwrite"),
            ("run", config, "-o", out, "--overwrite"),
            ("export", config, "-o", out / "dataset"),
        ):
            result = invoke(*command)
            assert result.exit_code == 2, command
            assert says in result.stderr
            assert str(file) in result.stderr
        after = content(out)
        assert {k: v for k, v in after.items() if k != "run.json"} == {
            k: v for k, v in before.items() if k != "run.json"
        }


def test_tables_changed_by_hand(ours):
    _, out = ours
    for name in ("model", "statistics"):
        frame = pl.read_parquet(out / f"{name}.parquet")
        metadata = pl.read_parquet_metadata(out / f"{name}.parquet")
        frame.reverse().write_parquet(out / f"{name}.parquet", metadata=metadata)
    with pytest.raises(DatasetError, match=r"model\.parquet is damaged"):
        read_model(out / "model.parquet")
    with pytest.raises(DatasetError, match=r"statistics\.parquet is damaged"):
        read_statistics(out)
    (out / "model.json").write_text((out / "model.json").read_text().replace("[", "{", 1))
    with pytest.raises(Exception, match=r"model\.json") as error:
        read_model(out / "model.json")
    assert type(error.value).__module__.startswith("connprops")


def test_tables_of_two_runs_do_not_mix(ours, tmp_path):
    _, out = ours
    extract(Dataset(out / "dataset"), sel_props=["u_syn"], hist_bins=3).write(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "histograms.parquet", out)
    with pytest.raises(
        DatasetError, match=r"histograms\.parquet .* is not what connprops\.json says"
    ):
        read_statistics(out)
    (out / "connprops.json").unlink()
    with pytest.raises(DatasetError, match="not of the same data and options"):
        read_statistics(out)


def test_verify(ours):
    _, out = ours
    assert verify(out).damaged == {}
    assert invoke("verify", out).exit_code == 0
    for file in (
        first_of(out / "dataset", "connections"),
        *(out / name for name in ("dataset/source.json", "report.html", "fits.parquet")),
    ):
        flip(file)
        assert list(verify(out).damaged) == [file]
        assert list(verify(file).damaged) == [file]
        result = invoke("verify", out)
        assert result.exit_code == 2
        assert str(file) in result.stderr
        flip(file)
    record = (out / "run.json").read_text()
    (out / "run.json").write_text(record.replace('"seed": 0', '"seed": 1'))
    assert verify(out).damaged == {out / "run.json": "has been changed by hand"}
    assert "has been changed by hand" in invoke("info", out).stdout
    (out / "run.json").write_text(record)
    (out / "model.json").unlink()
    assert verify(out).damaged == {out / "model.json": "is missing"}
    flip(out / "dataset" / "manifest.json", 40)
    assert out / "dataset" / "manifest.json" in verify(out / "dataset").damaged
    with pytest.raises(DatasetError, match="nothing that has a checksum"):
        verify(out.parent)


# --- what is used once more


def test_a_file_that_was_written_since_meets_no_old_result(ours):
    config, out = ours
    circuit, folder = resolve_circuit(config), out / "dataset"
    edges = config.parent / "edges.h5"
    os.utime(edges)  # the same bytes at another time: who knows
    with pytest.raises(OutputError, match="differs in: time of the edge file"):
        export(circuit, folder, properties=["u_syn"])
    export(circuit, folder, properties=["u_syn"], overwrite=True, verify=True)
    written = first_of(folder, "connections").stat().st_mtime_ns
    os.utime(edges)
    export(circuit, folder, properties=["u_syn"], verify=True)  # all of its bytes say so
    export(circuit, folder, properties=["u_syn"])  # and the time is known now
    assert first_of(folder, "connections").stat().st_mtime_ns == written
    with_h5(
        config, lambda h5: h5[f"{EDGES}/0/u_syn"].write_direct(np.ones(1, "f4"), dest_sel=np.s_[:1])
    )
    with pytest.raises(OutputError, match="differs in"):
        export(circuit, folder, properties=["u_syn"], verify=True)  # fmt: skip


def test_other_node_sets_meet_no_old_result(ours):
    config, out = ours
    (config.parent / "node_sets.json").write_text(json.dumps({"Left": {"region": "right"}}))
    with pytest.raises(OutputError, match="differs in: nodes_sha256"):
        export(resolve_circuit(config), out / "dataset", properties=["u_syn"])


def test_an_unchanged_run_is_not_made_again(ours, monkeypatch):
    config, out = ours
    run(config, out, ONE, overwrite=True)  # of this copy of the circuit
    before = content(out)
    calls = []
    for name in ("export", "extract", "build", "report"):
        monkeypatch.setattr(steps_module, name, lambda *_a, _n=name, **_k: calls.append(_n))
    again = run(config, out, ONE)
    assert again.reused
    assert calls == []
    assert content(out) == before
    assert again.n_synapses == Dataset(out / "dataset").n_synapses


def test_statistics_are_used_once_more_where_only_the_model_is_another(ours):
    config, out = ours
    run(config, out, ONE, overwrite=True)
    before = (out / "statistics.parquet").stat().st_mtime_ns
    run(
        config,
        out,
        RunOptions(sel_props=("u_syn",), distr_types={"u_syn": "gamma"}),
        overwrite=True,
    )
    assert (out / "statistics.parquet").stat().st_mtime_ns == before
    assert set(read_model(out / "model.parquet").table["distribution"].unique()) >= {"gamma"}


def test_other_expected_means_make_the_report_anew(ours, tmp_path):
    config, out = ours
    run(config, out, ONE, overwrite=True)
    stated = pl.read_parquet(out / "statistics.parquet").filter(pl.col("property") == "u_syn")
    means = stated.select("source_type", "target_type", "property", "mean")
    file = tmp_path / "recipe.parquet"
    means.write_parquet(file)
    asked = ("run", config, "-o", out, "--sel-props", "u_syn", "--expected", file)
    assert "differs in: input, options" in invoke(*asked).stderr
    assert "Against expected means: " not in (out / "report.html").read_text()
    before = (out / "statistics.parquet").stat().st_mtime_ns
    assert invoke(*asked, "--overwrite").exit_code == 0
    of_all = rf"Against expected means: {len(means)} of {len(means)} means"
    assert re.search(of_all, (out / "report.html").read_text())
    assert json.loads(invoke(*asked, "--json").stdout)["reused"]
    assert "everything would be reused" in invoke("info", out).stdout
    means.with_columns(pl.col("mean") * 2).write_parquet(file)
    assert "differs in: input" in invoke(*asked).stderr
    assert "not complete as it is: other input" in invoke("info", out).stdout
    assert invoke(*asked, "--overwrite").exit_code == 0
    assert re.search(r"Against expected means: 0 of", (out / "report.html").read_text())
    assert (out / "statistics.parquet").stat().st_mtime_ns == before
    means.drop("mean").write_parquet(file)
    done = invoke(*asked, "--overwrite")
    assert (done.exit_code, "lacks the column 'mean'" in done.stderr) == (2, True)
    file.unlink()
    done = invoke(*asked, "--overwrite")
    assert (done.exit_code, f"{file} cannot be read" in done.stderr) == (2, True)
    assert verify(out).damaged == {}


def test_info_tells_what_would_be_reused(ours):
    config, out = ours
    run(config, out, ONE, overwrite=True)
    assert "everything would be reused" in invoke("info", out).stdout
    flip(out / "report.html")
    said = invoke("info", out).stdout
    assert "the dataset would be reused" in said
    assert "report.html is not what connprops.json says" in said
    os.utime(config.parent / "edges.h5")
    assert "exported again (other time of the edge file)" in invoke("info", out).stdout
    flip(out / "dataset" / "types.parquet")
    assert "types.parquet is not what its checksum says" in invoke("info", out / "dataset").stdout
    flip(out / "fits.parquet")
    assert "is damaged" in invoke("info", out / "fits.parquet").stderr


# --- processes that end


def test_an_older_dataset_comes_back_after_a_kill_between_two_renames(ours, monkeypatch):
    config, out = ours
    folder, circuit = out / "dataset", resolve_circuit(config)
    before, original = content(folder), Path.rename

    def killed(self, target):
        if Path(target) == folder:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            export(circuit, folder, overwrite=True)
    assert not folder.exists()
    with pytest.raises(OutputError, match="differs in"):
        export(circuit, folder)
    assert content(folder) == before


def test_a_run_that_was_killed_at_once_is_no_obstacle(ours):
    config, out = ours
    shutil.rmtree(out)
    out.mkdir()
    aside = out / f".run.json.{'0' * 16}.tmp"
    aside.mkdir()
    (aside / ".lock").touch()
    (aside / "run.json").write_text("{")
    run(config, out, ONE)
    assert not list(out.glob(".*"))


def test_a_second_process_in_the_folder_of_a_run_is_told(ours, monkeypatch):
    monkeypatch.setattr(connprops.store.folder, "PATIENCE", 0.1)
    config, out = ours
    code = f"""
import fcntl, os, sys
fcntl.flock(os.open({str(out)!r}, os.O_RDONLY), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(  # noqa: S603 - ours
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        before = content(out)
        with pytest.raises(OutputError, match="Another process is writing"):
            run(config, out, ONE, overwrite=True)
        assert content(out) == before


# --- names


HOSTILE = {
    "SQL and HTML": "'; drop table synapses; --<script>",
    "patterns, expressions, templates": 'x[1]*? \\" + warn(1)\n{{title}}\u2028${p}',
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_live_through_everything(tmp_path, name):
    columns = {name: [1.0, 2.0, 3.0, 2.5, 4.0], "p": [1, 2, 2, 2, 3]}
    circuit = write_circuit(
        tmp_path / name, [0, 1, 2, 2, 0], [1, 2, 0, 0, 2], columns, mtype=[name, "B", name],
        population=name, node_sets={name: {"mtype": name}},
        attributes={"synapse_class": [name, "INH", name], "layer": [name, "2", name]},
    )  # fmt: skip
    out, drawn = tmp_path / f"{name} out", tmp_path / f"{name}.h5"
    options = ("--sel-src", json.dumps({"mtype": [name, "B"]}), "--correlations")
    result = invoke("run", circuit, "-o", out, *options, "--distr-type", f"{name}=normal")
    assert result.exit_code == 0, result.output
    data = Dataset(out / "dataset")
    assert data.population == name
    assert data.sql("select count(*) from synapses").fetchall() == [(5,)]
    values = data.sql("select value from property_values where property = $name", name=name)
    assert sorted(v for (v,) in values.fetchall()) == [1.0, 2.0, 2.5, 3.0, 4.0]
    assert name in data.source_types
    assert extract(data, sel_props=[name], sel_src=name).types["type"].to_list()[0] == name
    rows = pl.read_parquet(out / "statistics.parquet", glob=False)
    of_name = rows.filter(pl.col("property") == name)
    assert of_name["source_type"].cast(pl.String).to_list().count(name) >= 1
    distribution = read_model(out / "model.json").draw(name, name, "B", size=3, rng=0)
    assert len(distribution) == 3
    page = (out / "report.html").read_text()
    assert "<script>'" not in page
    assert "synapses; --<script>" not in page
    with duckdb.connect(shutil.copy(out / "connprops.duckdb", tmp_path / "db")) as database:
        found = database.sql("select distinct property from statistics").fetchall()
    assert (name,) in found
    for command in (
        ("plot", out, "--formats", "svg", "--pathway", name, "B", "--sel-props", name),
        ("info", out),
        ("verify", out),
        ("compare", out, out, "-o", tmp_path / f"{name}.csv"),
        ("draw", out / "model.json", "--circuit", circuit, "-o", drawn),
        ("sql", out, "select count(*) from synapses", "--csv"),
        ("sql", out, "--query", "in_degree", "-o", tmp_path / f"{name}.parquet"),
    ):
        result = invoke(*command)
        assert result.exit_code == 0, (command, result.output)
    assert invoke("sql", out, "select count(*) as n from synapses", "--csv").stdout == "n\n5\n"
    with h5py.File(drawn) as h5:
        assert h5[f"edges/{name}/0"][name].shape == (5,)
    assert printable(name) in invoke("info", circuit).stdout


# --- all of it, a little


def test_a_short_stress_run(tmp_path):
    script = Path(__file__).parents[1] / "stress" / "run.py"
    done = subprocess.run(  # noqa: S603 - ours
        [sys.executable, str(script), "--kills", "4", "--mutations", "80", "--circuits", "6",
         "--synapses", "30000"],
        capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "in all 80" in done.stdout
    assert "476 MiB in a control group" in done.stdout or "no control group" in done.stdout
    assert done.stdout.endswith("0 failures\n")


@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
@pytest.mark.parametrize(
    "values",
    [
        [5e-324] * 5,
        [5e-324, 1e-323, 1e-320, 2e-320, 5e-324],
        [1e308, 1.7e308, -1.7e308, 1e-320, 1e308],
        [np.finfo(float).max] * 5,
        [np.finfo(float).max, -np.finfo(float).max, 1.0, 2, 0],
    ],
)
def test_values_at_the_ends_of_floats_reach_the_report(values, tmp_path):
    config = write_circuit(
        tmp_path / "c", [0, 0, 0, 1, 1], [2, 3, 3, 2, 3], {"p": np.array(values)}, mtype=[*"AABB"]
    )
    run(config, tmp_path / "o")
    table = read_statistics(tmp_path / "o").table.filter(pl.col("property") == "p").collect()
    assert table["mean"].item() == pytest.approx(float(sum(map(Fraction, values)) / 5), rel=1e-12)
    assert "NaN" not in (tmp_path / "o" / "report.html").read_text().split('id="index"')[1][:5000]
