"""Work gives the same wherever it is done, and is done again where workers are lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from circuits import two_types
from typer.testing import CliRunner

import connprops.export.export
import connprops.export.plan
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError, WorkerError
from connprops.export.export import export
from connprops.resources import Resources
from connprops.statistics.extract import extract, extract_folds
from connprops.workers import Shared, run_units, started, with_processes

TABLES = ("table", "histograms", "values", "order_statistics")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    return Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d"))


@pytest.fixture(scope="module")
def cluster():
    """Return the client of a Dask cluster of two processes."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def small_units(**options):
    """Return resources of which each unit takes little."""
    return Resources(unit_memory=(2_000, 2_000), **options)


def tables(stats):
    return [getattr(stats, name).collect() for name in TABLES]


def assert_same(ours, expected):
    for name, a, b in zip(TABLES, ours, expected, strict=True):
        assert len(a)
        assert a.equals(b), name


def test_processes_threads_and_a_cluster_give_what_this_process_does(data, cluster):
    expected = tables(extract(data, resources=small_units()))
    with ThreadPoolExecutor(2) as threads:
        for workers in (2, cluster, cluster.scheduler.address, threads):
            assert_same(tables(extract(data, resources=small_units(workers=workers))), expected)


@pytest.mark.parametrize("shuffled", [False, True])
def test_an_export_by_workers_has_the_same_bytes(tmp_path, cluster, monkeypatch, shuffled):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 40)
    circuit = resolve_circuit(two_types(tmp_path / "c", shuffled=shuffled))
    folders = [
        export(circuit, tmp_path / name, resources=Resources(workers=workers))
        for name, workers in (("here", None), ("processes", 2), ("cluster", cluster))
    ]
    here, *others = (
        {str(f.relative_to(d)): f.read_bytes() for d in [folder] for f in sorted(d.rglob("*"))
         if f.is_file() and f.name != "source.json"}
        for folder in folders
    )  # fmt: skip
    assert len(here) > 8
    assert here == others[0] == others[1]


def test_the_command_line_takes_the_address_of_a_cluster(data, cluster, tmp_path):
    for name, means in (("here", ()), ("there", ("--cluster", cluster.scheduler.address))):
        result = CliRunner().invoke(
            app, ["extract", str(data.folder), "-o", str(tmp_path / name), *means]
        )
        assert result.exit_code == 0, result.output
    here, there = (sorted((tmp_path / name).iterdir()) for name in ("here", "there"))
    assert [f.read_bytes() for f in here] == [f.read_bytes() for f in there]


def test_groups_whose_rows_lie_anywhere_are_the_same_on_a_cluster(data, cluster):
    expected = extract(data, by="region", resources=small_units()).table.collect()
    assert (
        extract(data, by="region", resources=small_units(workers=cluster))
        .table.collect()
        .equals(expected)
    )


def test_correlations_on_a_cluster_are_those_of_this_process(data, cluster):
    expected = extract(data, resources=small_units()).correlations.collect()
    assert len(expected)
    found = extract(data, resources=small_units(workers=cluster)).correlations.collect()
    assert found.equals(expected)


def test_folds_on_a_cluster_are_those_of_this_process(data, cluster):
    options = {"cv_folds": 2, "sel_props": ["u_syn"]}
    pairs = zip(
        extract_folds(data, **options, resources=small_units(workers=cluster)),
        extract_folds(data, **options, resources=small_units()),
        strict=True,
    )
    for ours, expected in pairs:
        for which in ("training", "test"):
            assert (
                getattr(ours, which)
                .table.collect()
                .equals(getattr(expected, which).table.collect())
            )


def die_once(unit):
    """Kill the process that first works on unit 2; give the number of the unit else."""
    folder, number = unit
    mark = Path(folder) / "died"
    if number == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (Path(folder) / f"{number}-{time.monotonic_ns()}").touch()
    return number


def number_of_process(_unit):
    time.sleep(0.05)
    return os.getpid()


def test_processes_that_are_started_work_until_the_end():
    resources = Resources(workers=2)

    def used():
        return {pid for _, pid in run_units(number_of_process, range(8), 2, "unit")}

    with started(resources, "json"):
        before = used()
        with started(resources):
            assert used() == before
        assert used() == before
        assert len(before) == 2
        assert all(map(_is_alive, before))
    assert not any(map(_is_alive, before))
    assert used().isdisjoint(before)


def test_processes_that_are_lost_are_replaced(tmp_path):
    with started(Resources(workers=2)):
        before = {pid for _, pid in run_units(number_of_process, range(8), 2, "unit")}
        units = [(str(tmp_path), i) for i in range(12)]
        assert dict(run_units(die_once, units, 2, "unit")) == {i: i for i in range(12)}
        after = {pid for _, pid in run_units(number_of_process, range(8), 2, "unit")}
        assert after.isdisjoint(before)


def die_once_elsewhere(unit):
    """Kill the first other process that works; return which process works else."""
    folder, parent = unit
    mark = Path(folder) / "died"
    if os.getpid() != parent and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return os.getpid()


def test_this_process_is_one_of_those_that_share_work(tmp_path):
    units = [(str(tmp_path), os.getpid())] * 12
    done = dict(run_units(die_once_elsewhere, units, Shared(2), "unit"))
    assert [*sorted(done)] == [*range(12)]
    assert os.getpid() in done.values()
    assert len({*done.values()}) == 2
    assert (tmp_path / "died").exists()


def test_a_script_that_does_not_ask_whether_it_is_the_main_one_runs_once(data, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nimport connprops as cp\nfrom connprops.resources import Resources\n"
        "print('runs')\n"
        "stats = cp.extract(sys.argv[1], resources=Resources(workers=2))\n"
        "print(len(stats.table.collect()))\n"
    )
    command = [sys.executable, str(script), str(data.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert done.stdout.split() == ["runs", str(len(extract(data).table.collect()))]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("threads", "gigabytes", "seconds", "n"),
    [(2, 8, 60, 2), (2, 8, 1.9, None), (64, 64, 5.5, 5), (64, 4, 600, 4), (1, 8, 60, None),
     (8, 1, 60, None)],
)  # fmt: skip
def test_there_are_as_many_processes_as_are_worth_it(threads, gigabytes, seconds, n):
    resources = Resources(threads=threads, memory=gigabytes << 30)
    assert with_processes(resources, seconds).workers == n
    assert with_processes(replace(resources, workers=7), seconds).workers == 7


def test_processes_that_are_there_take_shorter_work_too():
    resources = Resources(threads=3, memory=8 << 30)
    with started(Resources(workers=2)):
        assert with_processes(resources, 0.5).workers == 3
        assert with_processes(resources, 0.1).workers is None
        assert with_processes(replace(resources, threads=1), 60).workers is None
    assert with_processes(resources, 0.5).workers is None


def _own_choice(_unit):
    return with_processes(Resources(threads=8, memory=8 << 30), 60).workers


def test_a_process_starts_none_of_its_own():
    assert dict(run_units(_own_choice, [0], 1, "unit")) == {0: None}


def die(unit):
    os.kill(os.getpid(), signal.SIGKILL)
    return unit


def refuse(unit):
    raise OptionError.of(f"unit {unit} cannot be done")


def test_a_lost_process_costs_only_what_was_in_flight(tmp_path):
    units = [(str(tmp_path), i) for i in range(12)]
    done = dict(run_units(die_once, units, 2, "unit"))
    assert done == {i: i for i in range(12)}
    assert (tmp_path / "died").exists()
    times = [path.name.split("-")[0] for path in tmp_path.iterdir() if "-" in path.name]
    assert set(times) == {str(i) for i in range(12)}
    assert len(times) < 12 + 6  # those in flight, and no more, were done twice


def test_a_worker_killed_in_the_middle_of_a_run_on_a_cluster(data, cluster):
    expected = tables(extract(data, resources=small_units()))
    seen = threading.Event()

    def kill_a_worker():
        seen.wait(20)
        pid = next(iter(cluster.run(os.getpid).values()))
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    resources = small_units(workers=cluster)
    stats = extract(data, resources=resources, progress=lambda *_: seen.set())
    assert_same(tables(stats), expected)
    killer.join()
    cluster.wait_for_workers(2, timeout=30)


def test_a_unit_that_kills_every_worker_is_given_up():
    with pytest.raises(WorkerError, match="lost again and again, 2 of the units"):
        list(run_units(die, [0, 1], 1, "unit"))


@pytest.mark.parametrize("workers", [None, 2])
def test_an_error_of_a_unit_comes_through_as_it_is(workers):
    with pytest.raises(OptionError, match="unit 0 cannot be done"):
        list(run_units(refuse, [0], workers, "unit"))


@pytest.mark.parametrize(
    ("workers", "text"),
    [(0, "at least 1 process"), (2.5, "can run no units"), ("tcp://127.0.0.1:1", "No Dask")],
)
def test_what_can_run_no_units_is_refused(workers, text):
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(OptionError, match=text),
    ):
        list(run_units(die, [0], workers, "unit"))


def _for_long(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_workers as t\n"
        "from connprops.workers import Shared, run_units, started, with_processes\n"
        "if __name__ == '__main__': list(run_units(t._for_long, sys.argv[2:], 2, 'unit'))"
    )
    files = [tmp_path / "a", tmp_path / "b"]
    command = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, files)]
    with subprocess.Popen(command) as parent:  # noqa: S603 - ours
        _wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        parent.kill()
    for file in files:
        _wait_until(lambda: not _is_alive(int(file.read_text())))  # noqa: B023 - at once


def _wait_until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def _is_alive(number):
    """Return whether a process is there, and no zombie that nobody has asked for."""
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
