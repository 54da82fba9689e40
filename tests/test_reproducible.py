"""The same bytes, whatever the threads, the memory, the place, the clock, or the process."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from circuits import contents_of_database, two_types, write_circuit
from oracle import statistics

import connprops.export.export
import connprops.export.plan
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.export.export import export
from connprops.model.build import build
from connprops.query.database import DATABASE
from connprops.resources import Resources
from connprops.run.record import RUN_FILE
from connprops.statistics.extract import extract

MEANS = [(threads, memory) for threads in (1, 2, 3, 5, 8) for memory in (1 << 27, 1 << 32)]


def digests(folder, *, but=()):
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and f.name not in but
    }


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", 20)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("shuffled", [False, True])
def test_ten_times_with_other_threads_and_memory(tmp_path, shuffled):
    circuit = resolve_circuit(two_types(tmp_path / "c", shuffled=shuffled))
    found = set()
    for number, (threads, memory) in enumerate(MEANS):
        out, means = tmp_path / str(number), Resources(threads=threads, memory=memory)
        data = Dataset(export(circuit, out / "dataset", resources=means))
        stats = extract(data, sel_props=["conductance", "u_syn"], resources=means)
        stats.write(out)
        build(stats, distr_types={"u_syn": "normal"}).write_parquet(out / "model.parquet")
        found.add(json.dumps(digests(out)))
    assert data.n_parts > 3
    assert len(found) == 1
    assert len(json.loads(found.pop())) > 15


def test_runs_of_other_processes_days_and_places(tmp_path):
    config = two_types(tmp_path / "c")
    command = [
        sys.executable, "-c", "from connprops.cli import main; main()", "run", str(config),
        "--sel-props", "conductance,u_syn", "--quiet",
    ]  # fmt: skip
    found = []
    for name, environment in (
        ("a", {"POLARS_MAX_THREADS": "1", "TZ": "UTC", "PYTHONHASHSEED": "1", "LC_ALL": "C"}),
        (
            "b",
            {
                "POLARS_MAX_THREADS": "7",
                "TZ": "Asia/Tokyo",
                "PYTHONHASHSEED": "2",
                "PYTHONOPTIMIZE": "2",
            },
        ),
    ):
        place = tmp_path / name
        place.mkdir()
        means = ("--threads", "1" if name == "a" else "3", "--memory", "1GB", "--temp-dir", name)
        (tmp_path / name / name).mkdir()
        subprocess.run(  # noqa: S603 - our own words
            [*command, "-o", "out", *means],
            check=True,
            cwd=place,
            env={**os.environ, **environment},
        )
        found.append(digests(place / "out", but=(RUN_FILE,)))
        record = json.loads((place / "out" / "run.json").read_text())
        assert DATABASE in record["sha256"]
        assert record["sha256"].items() <= found[-1].items()
        del found[-1][DATABASE]
    assert found[0] == found[1]
    databases = [contents_of_database(tmp_path / name / "out" / DATABASE) for name in "ab"]
    assert databases[0] == databases[1]
    assert len(found[0]) > 15


POOLS = range(1, 65) if "CONNPROPS_ALL_POOLS" in os.environ else (1, 7, 12)
"""Numbers of Polars' threads: by default those of machines whose bytes once differed."""

TABLES = """
import sys
from pathlib import Path
import numpy as np, polars as pl
from connprops import schema
from connprops.store.tables import write_table
n, rng, folder = 40_000, np.random.default_rng(0), Path(sys.argv[1])
names = pl.Enum([f"T{i:03d}" for i in range(200)])
keys = rng.permutation(n)
frame = pl.DataFrame({
    "source_type": pl.Series(keys // 200, dtype=pl.UInt32).cast(pl.String).replace_strict(
        {str(i): f"T{i:03d}" for i in range(200)}).cast(names),
    "target_type": pl.Series([f"T{k % 200:03d}" for k in keys]).cast(names),
    "property": pl.Series(["p"] * n).cast(pl.Enum(["p"])),
    "rank": pl.Series([[1, k % 7 + 2] for k in keys], dtype=pl.List(pl.Int64)),
    "value": pl.Series([[0.5, float(k)] for k in keys], dtype=pl.List(pl.Float64)),
})
write_table(frame, schema.ORDER_STATISTICS, folder / "order_statistics.parquet")
values = frame.drop("rank").with_columns(
    value=rng.random(n), count=pl.lit(1, pl.Int64), p=rng.random(n)
)
write_table(values, schema.VALUES, folder / "values.parquet")
"""


def test_tables_do_not_depend_on_the_threads_of_polars(tmp_path):
    found = set()
    for n in POOLS:
        place = tmp_path / str(n)
        place.mkdir()
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", TABLES, str(place)],
            check=True,
            env={**os.environ, "POLARS_MAX_THREADS": str(n)},
        )
        found.add(json.dumps(digests(place)))
    assert len(found) == 1
    assert len(json.loads(found.pop())) == 2


def test_statistics_do_not_depend_on_the_processor(tmp_path):
    """With all that NumPy can use of this one, and with what processors of 2009 had."""
    data = export(resolve_circuit(two_types(tmp_path / "c")), tmp_path / "data")
    found = []
    for number, without in enumerate((" ", "X86_V3 X86_V4 AVX512_ICL AVX512_SPR")):
        out = tmp_path / str(number)
        command = "from connprops.cli import main; main()"
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, "-c", command, "extract", str(data), "-o", str(out), "--correlations"],
            check=True,
            env={**os.environ, "NPY_DISABLE_CPU_FEATURES": without},
        )
        found.append(digests(out))
    assert found[0] == found[1]
    assert len(found[0]) == 7


@pytest.mark.skipif(platform.machine() != "x86_64", reason="others have one kind of instructions")
def test_the_command_line_computes_with_what_all_processors_have():
    text = (
        "from connprops.cli import app; import connprops.cli as cli; cli.app = lambda: None\n"
        "cli.main(); import numpy; print(numpy.show_config('dicts')['SIMD Extensions']['found'])"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", text], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() in ("[]", "['X86_V3']")


def test_sums_are_those_of_exact_arithmetic(tmp_path):
    """Nearly constant values, and values that cancel: where naive sums lose all digits."""
    rng = np.random.default_rng(0)
    columns = {
        "nearly_constant": 1e8 + rng.normal(0, 1e-6, 400),
        "cancels": np.where(np.arange(400) % 2, 1e16, -1e16) + rng.normal(0, 1, 400),
        "whole": np.full(400, 2**53 - 1, dtype=np.int64) - np.arange(400),
    }
    source, target = np.arange(400) % 20, np.arange(400) // 20
    config = write_circuit(tmp_path / "c", source, target, columns, mtype=["A"] * 20)
    data = Dataset(export(resolve_circuit(config), tmp_path / "d", properties=list(columns)))
    table = extract(data, sel_props=list(columns)).table.collect()
    rows = {row["property"]: row for row in table.to_dicts()}
    for name, values in columns.items():
        exact = statistics(values)
        assert rows[name]["n"] == 400
        assert rows[name]["mean"] == pytest.approx(exact["mean"], rel=1e-15)
        assert rows[name]["std"] == pytest.approx(exact["std"], rel=1e-12)
        assert exact["mean"] == pytest.approx(math.fsum(map(float, values)) / 400, rel=1e-15)
