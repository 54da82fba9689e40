"""Jobs that share the work without a scheduler leave, merged, what one process would have made."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from circuits import two_types, write_circuit
from typer.testing import CliRunner

import connprops.export.export
import connprops.export.plan
import connprops.statistics.units
from connprops import merge
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice
from connprops.errors import ConnpropsError, OptionError, OutputError
from connprops.export.export import export
from connprops.resources import Resources
from connprops.statistics.extract import extract
from connprops.statistics.statistics import read_statistics
from connprops.statistics.units import lie_apart
from connprops.store.shards import Shard, ranges, shards_of


def content(folder):
    """Return the bytes of each file of a folder."""
    return {
        str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()
    }


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)


def small_units(**options):
    """Return resources that cut statistics of two types into a bucket for each of 4 pathways."""
    return Resources(unit_memory=(2_000, 1 << 26), **options)


@pytest.fixture
def small_by_default(monkeypatch):
    """Let the command line have such resources."""
    monkeypatch.setattr(
        connprops.statistics.units, "bytes_of_unit", lambda _: small_units().unit_memory
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    return Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d"))


# --- shares


@pytest.mark.parametrize(("n_units", "n_shards"), [(0, 3), (1, 3), (7, 3), (20, 20), (5, 8)])
def test_each_unit_is_in_one_shard(n_units, n_shards):
    units = list(range(n_units))
    shares = [Shard(i, n_shards).share(units) for i in range(1, n_shards + 1)]
    assert [unit for share in shares for unit in share] == units
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    for number, share in enumerate(shares, 1):
        assert shards_of(share, n_units, n_shards) == ([number] if share else [])


def test_shards_are_named_as_people_write_them():
    assert Shard.parse("3/20") == Shard.parse((3, 20)) == Shard(3, 20)
    for wrong in ("0/4", "5/4", "3", "a/b", (0, 4), (1, 0)):
        with pytest.raises(OptionError, match="no such shard"):
            Shard.parse(wrong)


def test_numbers_are_listed_as_slurm_takes_them():
    assert ranges([1, 4, 5, 6, 12]) == "1,4-6,12"
    assert ranges(range(0, 40, 2)) == "0,2,4,6,8,10,12,14, ..."


# --- export


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shuffled", [False, True])
def test_an_export_in_shards_has_the_same_bytes(tmp_path, shuffled):
    circuit = resolve_circuit(two_types(tmp_path / "c", shuffled=shuffled))
    whole = content(export(circuit, tmp_path / "whole"))
    for number, means in ((3, {"threads": 1}), (1, {"workers": 2}), (2, {})):
        export(circuit, tmp_path / "d", shard=(number, 3), resources=Resources(**means))
        assert not (tmp_path / "d").exists()
    assert merge(tmp_path / "d") == [tmp_path / "d"]
    assert content(tmp_path / "d") == whole
    assert sum(name.startswith("connections") for name in whole) > 5
    assert not list(tmp_path.glob(".*"))
    assert merge(tmp_path / "d") == [tmp_path / "d"]
    before = (tmp_path / "d" / "manifest.json").stat().st_mtime_ns
    export(circuit, tmp_path / "d", shard=(2, 3))  # nothing is left to do
    assert (tmp_path / "d" / "manifest.json").stat().st_mtime_ns == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("small_parts")
def test_merge_names_the_shards_that_are_missing(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    n_parts = len(Dataset(export(circuit, tmp_path / "whole")).manifest.parts)
    for number in (1, 4):
        export(circuit, tmp_path / "d", shard=(number, 5))
    first, stop = n_parts // 5, n_parts * 3 // 5
    with pytest.raises(OutputError) as raised:
        merge(tmp_path / "d")
    assert f"{stop - first + n_parts - n_parts * 4 // 5} of {n_parts} parts" in str(raised.value)
    assert f"all but {first}-{stop - 1}," in str(raised.value)
    assert "of the 5 shards 2-3,5 again" in str(raised.value)
    next((tmp_path / ".d.partial" / "notes").glob("00000.json")).unlink()
    with pytest.raises(OutputError, match="5 shards 1-3,5 again"):
        merge(tmp_path / "d")
    for number in (1, 2, 3, 5):
        export(circuit, tmp_path / "d", shard=(number, 5))
    merge(tmp_path / "d")
    assert content(tmp_path / "d") == content(tmp_path / "whole")


def late_surprises(folder, *, disorder=False):
    """Write a circuit whose middle no probe sees: a column varies there, or the order breaks."""
    source, target = np.arange(600) // 2 % 30, np.arange(600) // 60
    values = np.repeat(np.arange(300.0), 2)
    if disorder:
        moved = np.r_[0:280, 320:340, 300:320, 280:300, 340:600]
        source, target, values = source[moved], target[moved], values[moved]
    else:
        values[355] += 0.5
    return resolve_circuit(write_circuit(folder, source, target, {"p": values}, mtype=["A"] * 30))


@pytest.mark.usefixtures("small_parts")
def test_what_one_shard_learns_the_others_are_told(tmp_path):
    circuit = late_surprises(tmp_path / "c")
    whole = content(export(circuit, tmp_path / "whole"))
    for number in (1, 2, 3):
        export(circuit, tmp_path / "d", shard=(number, 3))
    # Shard 2 has seen that p varies, and 3 was told so; 1 was there before.
    with pytest.raises(OutputError, match="of the 3 shards 1 again"):
        merge(tmp_path / "d")
    export(circuit, tmp_path / "d", shard=(1, 3))
    merge(tmp_path / "d")
    assert content(tmp_path / "d") == whole


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("n_shards", [2, 30])
def test_rows_that_turn_out_to_be_in_no_order_are_sorted(tmp_path, n_shards):
    circuit = late_surprises(tmp_path / "c", disorder=True)
    whole = content(export(circuit, tmp_path / "whole"))
    for _ in range(2):
        for number in range(1, n_shards + 1):
            export(circuit, tmp_path / "d", shard=(number, n_shards))
        try:
            merge(tmp_path / "d")
        except OutputError as error:
            assert re.search("in no order|missing", str(error))  # noqa: PT017
    assert content(tmp_path / "d") == whole


@pytest.mark.usefixtures("small_parts")
def test_shards_of_other_options_or_input_are_refused_by_name(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    export(circuit, tmp_path / "d", shard="1/2")
    finished = content(tmp_path / ".d.partial")
    other = resolve_circuit(two_types(tmp_path / "c2", seed=1))
    for options, says in (
        ({"properties": ["u_syn"], "shard": "2/2"}, "differs in: properties"),
        ({"source_type": "layer", "shard": "2/2"}, "differs in: nodes_sha256, source_type"),
        ({"shard": "2/3"}, r"shard 2/3\n  expected: one of 2 shards"),
        ({"properties": ["u_syn"]}, "differs in: properties"),  # nor does a whole export end them
        ({"shard": "2/2", "resume": False}, "always goes on"),
        ({"shard": "2/2", "verify": True}, "--verify"),
    ):
        with pytest.raises(ConnpropsError, match=says):
            export(circuit, tmp_path / "d", **options)
    with pytest.raises(OutputError, match="differs in: edges, time of the edge file"):
        export(other, tmp_path / "d", shard="2/2")
    now = content(tmp_path / ".d.partial")
    assert {name: now[name] for name in finished} == finished
    edges = tmp_path / "c" / "edges.h5"
    os.utime(edges, (1, 1))
    with pytest.raises(OutputError, match="differs in: time of the edge file"):
        merge(tmp_path / "d")


@pytest.mark.usefixtures("small_parts")
def test_a_whole_export_takes_over_from_shards(tmp_path, monkeypatch):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    export(circuit, tmp_path / "d", shard="2/2")
    written = []
    original = connprops.export.parts.write_part

    def counted(spec, *rest):
        written.append(spec.part)
        return original(spec, *rest)

    monkeypatch.setattr(connprops.export.parts, "write_part", counted)
    n = len(Dataset(export(circuit, tmp_path / "d")).manifest.parts)
    assert sorted(written) == Shard(1, 2).share(range(n))


@pytest.mark.usefixtures("small_parts")
def test_shards_over_another_dataset_want_leave_to_replace_it(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    export(circuit, tmp_path / "d", properties=["u_syn"])
    with pytest.raises(OutputError, match="differs in: properties"):
        export(circuit, tmp_path / "d", shard="1/1")
    export(circuit, tmp_path / "d", shard="1/1", overwrite=True)
    with pytest.raises(OutputError, match="differs in: properties"):
        merge(tmp_path / "d")
    assert Dataset(tmp_path / "d").properties == ["u_syn", "n_syn_per_conn"]
    merge(tmp_path / "d", overwrite=True)
    assert len(Dataset(tmp_path / "d").properties) > 2


@pytest.mark.usefixtures("small_parts")
def test_two_jobs_of_one_shard_and_a_merge_too_early(tmp_path):
    circuit = resolve_circuit(two_types(tmp_path / "c"))
    export(circuit, tmp_path / "d", shard="1/2")
    stage = tmp_path / ".d.partial"
    with (stage / "lock").open("rb") as all_of_it, (stage / "shards" / "2.lock").open("wb") as own:
        fcntl.flock(all_of_it, fcntl.LOCK_SH)
        fcntl.flock(own, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="Another process is writing shard 2/2 of "):
            export(circuit, tmp_path / "d", shard="2/2")
        for other in (merge, lambda folder: export(circuit, folder)):
            with pytest.raises(OutputError, match="Another process is writing"):
                other(tmp_path / "d")
        export(circuit, tmp_path / "d", shard="1/2")  # others may work
    export(circuit, tmp_path / "d", shard="2/2")
    merge(tmp_path / "d")


def test_nothing_to_merge(tmp_path):
    with pytest.raises(OutputError, match="No shards have left anything"):
        merge(tmp_path / "nowhere")


# --- statistics


def test_statistics_in_shards_have_the_same_bytes(data, tmp_path):
    extract(data, hist_bins=7).write(tmp_path / "whole", correlations=True)
    for number, means in ((2, {"threads": 1}), (3, {"memory": 1 << 28}), (1, {"workers": 2})):
        stats = extract(data, hist_bins=7, resources=small_units(**means))
        stats.write(tmp_path / "s", correlations=True, shard=(number, 3))
    planned = json.loads((tmp_path / "s/.statistics.partial/plan.json").read_text())["asked"]
    assert len(planned["buckets"]) == 4
    assert len(planned["ranges"]) > 2
    files = merge(tmp_path / "s")
    assert len(files) == 6
    assert content(tmp_path / "s") == content(tmp_path / "whole")
    assert [f.name for f in merge(tmp_path / "s")] == [f.name for f in files[:5]]
    assert read_statistics(tmp_path / "s").correlations.collect().height


def test_a_shard_of_statistics_goes_on_from_its_buckets(data, tmp_path, monkeypatch):
    stats = extract(data, resources=small_units())
    stats.write(tmp_path / "whole")
    original, done = connprops.statistics.units.compute_unit, []

    def fails_at_the_third(task):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.unit.first)
        return original(task)

    monkeypatch.setattr(connprops.statistics.units, "compute_unit", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        stats.write(tmp_path / "s", shard=(1, 1))
    with pytest.raises(OutputError, match=r"2 of 4 buckets are missing\n  found:    all but 2-3"):
        merge(tmp_path / "s")
    stage = tmp_path / "s" / ".statistics.partial"
    damaged = stage / "buckets" / "00001.values.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    with pytest.raises(OutputError, match="all but 1-3"):
        merge(tmp_path / "s")
    again = []
    monkeypatch.setattr(
        connprops.statistics.units,
        "compute_unit",
        lambda task: again.append(task) or original(task),
    )
    stats.write(tmp_path / "s", shard=(1, 1))
    assert len(again) == 3
    merge(tmp_path / "s")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_shards_of_other_statistics_are_refused_by_name(data, tmp_path):
    extract(data).write(tmp_path, shard="1/2")
    for stats, options, says in (
        (extract(data, hist_bins=9), {}, "differs in: hist_bins"),
        (extract(data, sel_src="Left", seed=3), {}, "differs in: seed, sel_src"),
        (extract(data), {"correlations": True}, "differs in: correlations"),
    ):
        with pytest.raises(OutputError, match=says):
            stats.write(tmp_path, shard="2/2", **options)
    extract(data).write(tmp_path, shard="2/2")
    merge(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        extract(data, hist_bins=9).write(tmp_path, shard="1/2")
    extract(data, hist_bins=9).write(tmp_path, shard="1/1", overwrite=True)
    with pytest.raises(OutputError, match="exists already"):
        merge(tmp_path)
    merge(tmp_path, overwrite=True)
    assert read_statistics(tmp_path).options["hist_bins"] == 9
    with pytest.raises(OptionError, match="read from files"):
        read_statistics(tmp_path).write(tmp_path / "t", shard="1/2")


@pytest.mark.parametrize("workers", [None, 2])
def test_rows_put_in_order_first_give_the_same_bytes(data, tmp_path, monkeypatch, workers):
    extract(data).write(tmp_path / "whole", correlations=True)
    in_order, original = [], connprops.statistics.units.put_in_order
    for decision, answer in (("lie_apart", True), ("fits_one_pass", False)):
        monkeypatch.setattr(connprops.statistics.units, decision, lambda *_, a=answer: a)
    monkeypatch.setattr(
        connprops.statistics.units,
        "put_in_order",
        lambda *given: in_order.append(0) or original(*given),
    )
    extract(data, resources=small_units(workers=workers)).write(tmp_path / "s", correlations=True)
    assert len(in_order) == 2
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_rows_that_would_be_read_too_often_lie_apart(data):
    grouping = Choice.of(None, None, None, 0).grouping(data)
    large = SimpleNamespace(n_parts=100, n_connections=10_000_000)
    for n_ranges, workers, apart in ((40, None, False), (60, 2, True), (60, "tcp://x", False)):
        resources = Resources(workers=workers)
        assert lie_apart(large, grouping.groups, n_ranges, resources) is apart
    assert lie_apart(large, replace(grouping.groups, is_pathway=False), 2, Resources())


def test_more_shards_than_buckets(data, tmp_path):
    extract(data).write(tmp_path / "whole")
    for number in range(1, 4):
        extract(data).write(tmp_path / "s", shard=(number, 3))
    merge(tmp_path / "s")
    assert content(tmp_path / "s") == content(tmp_path / "whole")


def test_correlations_by_workers_are_those_of_this_process(data):
    expected = extract(data).correlations.collect()
    assert expected.height == 4  # of conductance and n_rrp_vesicles, in each pathway
    found = extract(data, resources=small_units(workers=2)).correlations.collect()
    assert found.equals(expected)


# --- the end of a job's time

_SLOWLY = """
import sys, time
import connprops.statistics.units, connprops.cli, connprops.export.export, connprops.export.plan
connprops.export.plan.ROWS_PER_PART = 20
connprops.statistics.units.bytes_of_unit = lambda _: (2_000, 1 << 26)
def slow(function):
    def slowly(unit):
        made = function(unit)
        time.sleep(0.4)
        return made
    return slowly
connprops.export.export.export_range = slow(connprops.export.export.export_range)
connprops.statistics.units.compute_unit = slow(connprops.statistics.units.compute_unit)
connprops.cli.main()
"""


def ended_after_two(finished, *arguments):
    """Run a command until two files match, then end it as a batch system does; return both."""
    command = [sys.executable, "-c", _SLOWLY, *map(str, arguments)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603
    deadline = time.monotonic() + 30
    while len(list(finished())) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    _, said = job.communicate(timeout=20)
    assert time.monotonic() - sent < 3
    assert job.returncode == 143, said
    assert "Terminated" in said
    return len(list(finished()))


@pytest.mark.usefixtures("small_parts", "small_by_default")
def test_the_end_of_a_jobs_time_costs_what_was_in_flight(tmp_path):
    config = two_types(tmp_path / "c")
    whole = Dataset(export(resolve_circuit(config), tmp_path / "whole"))
    extract(whole).write(tmp_path / "tables")
    notes = tmp_path / ".d.partial" / "notes"
    n = ended_after_two(
        lambda: notes.glob("*.json"),
        "export", config, "-o", tmp_path / "d", "--shard", "1/1", "--threads", 1,
    )  # fmt: skip
    assert 2 <= n <= 4 < len(whole.manifest.parts)
    times = {file: file.stat().st_mtime_ns for file in notes.glob("*.json")}
    assert invoke("export", config, "-o", tmp_path / "d", "--shard", "1/1").exit_code == 0
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())
    assert invoke("merge", tmp_path / "d").exit_code == 0
    assert content(tmp_path / "d") == content(tmp_path / "whole")

    buckets = tmp_path / ".statistics.partial" / "buckets"
    n = ended_after_two(
        lambda: buckets.glob("0*.order_statistics.parquet"),
        "extract", tmp_path / "d", "--shard", "1/1", "--threads", 1,
    )  # fmt: skip
    assert 2 <= n < 4
    assert invoke("extract", tmp_path / "d", "--shard", "1/1").exit_code == 0
    assert invoke("merge", tmp_path).exit_code == 0
    for file in (tmp_path / "tables").iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()


# --- dry runs


@pytest.mark.usefixtures("small_parts", "small_by_default")
def test_dry_runs_count_and_write_nothing(tmp_path):
    config = two_types(tmp_path / "c")
    before = content(tmp_path)
    said = invoke("export", config, "-o", tmp_path / "d", "--dry-run", "--shard", "2/3").stdout
    assert content(tmp_path) == before
    data = Dataset(export(resolve_circuit(config), tmp_path / "out" / "dataset"))
    rows = data.n_synapses
    # Two node ids of 8 bytes; conductance, delay, u_syn and decay_time of 4, n_rrp_vesicles of 2.
    assert f"{(16 + 4 * 4 + 2) * rows / 1000:.3g} kB of {tmp_path}/c/edges.h5" in said
    assert re.search(rf"tasks +{-(-rows // 80) * 4} parts", said)
    assert f"Export of {rows} synapses" in said
    assert int(re.search(r"connections +about (\d+)", said)[1]) == data.n_connections
    before = content(tmp_path)
    said = invoke("extract", data.folder, "--dry-run", "--workers", 2).stdout
    assert f"4 pathways: {data.n_connections} connections, {rows} synapses" in said
    assert re.search(r"tasks +4 buckets", said)
    assert re.search(r"at once +2 buckets, one in each worker", said)
    told = invoke("run", config, "-o", tmp_path / "out", "--dry-run").stdout
    assert "4 pathways" in told
    assert "Export of" in invoke("run", config, "-o", tmp_path / "r", "--dry-run").stdout
    assert content(tmp_path) == before


def test_what_an_export_writes_before_compression(tmp_path):
    rng = np.random.default_rng(0)
    pairs = np.sort(rng.choice(400**2, 40_000, replace=False))
    counts = rng.integers(1, 6, pairs.size)
    source, target = np.repeat(pairs % 400, counts), np.repeat(pairs // 400, counts)
    columns = {"varies": rng.normal(size=source.size).astype(np.float32)}
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=["A", "B"] * 200)
    said = invoke("export", config, "-o", tmp_path / "d", "--dry-run").stdout
    estimated = float(re.search(r"written +([\d.]+) MB before compression", said)[1]) * 1e6
    assert estimated == pytest.approx(source.size * 20 + pairs.size * 24, rel=0.01)
    folder = export(resolve_circuit(config), tmp_path / "d")
    written = sum(f.stat().st_size for kind in ("connections", "synapses")
                  for f in Path(folder / kind).iterdir())  # fmt: skip
    assert written < estimated
