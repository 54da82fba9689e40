"""The benchmarks. Ratios compare runs on the same circuit, one right after the other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import circuits
from benchmarks.imports import imports
from benchmarks.measure import Measured, Result, connprops, empty, measure, task


def against_reference(
    work: Path, synapses: int, name: str, shape: circuits.Shape, limit: int = 0
) -> Iterator[Result]:
    """Compare extraction with the installed connectome-manipulator, from HDF5 to statistics.

    Gaussian fits to histograms are part of its extract, and of ours in ``compat`` alone: the second
    figure.
    """
    config = str(circuits.random_circuit(work, shape, synapses, indexed=True))
    options = [f"max_sample_size_per_group={limit}"] if limit else []
    size = {"synapses": synapses, "max_sample_size_per_group": limit}
    theirs = task("reference", config, str(work / "reference.npz"), *options)
    ours = task("ours", config, str(work / "ours"), *options, times=3, fresh=work / "ours")
    fitted = task("compat", config, str(work / "arrays"), *options, times=3, fresh=work / "arrays")
    _check_same(work / "arrays" / "arrays.npz", work / "reference.npz", everything=not limit)
    against = "faster than the reference"
    yield Result(name, "the reference's extract", theirs, size=size)
    yield Result(name, "export and extract", ours, theirs.wall / ours.wall, against, size)
    again = float(task("again", "ours", config, str(empty(work / "again")), *options).output)
    yield Result(name, "the same again, in the same process", Measured(again, 0.0, 0.0),
                 theirs.wall / again, against, size)  # fmt: skip
    what = "compat.extract, with its Gaussian fits and arrays"
    yield Result(name, what, fitted, theirs.wall / fitted.wall, against, size)


def by_hand(work: Path, synapses: int) -> Iterator[Result]:
    """Compare with scripts that compute the same statistics from the same file.

    A group-by in Polars has no histograms, and is compared with the table of statistics alone: as
    whole processes, and done again in a process that has done it before.
    """
    config = str(circuits.demo(work, synapses))
    size = {"synapses": synapses}
    alone, out = work / "alone", work / "one_group_by.parquet"
    found = task("statistics_alone", config, str(alone), times=3, fresh=alone)
    once = task("by_one_group_by", config, str(out), times=3)
    differs = task("agreement", str(alone / "statistics.parquet"), str(out)).output.strip()
    yield Result("by_hand", "export, table of statistics alone", found, size=size)
    what = f"one group-by in polars (differs by {differs})"
    yield Result("by_hand", what, once, found.wall / once.wall, "its time is ours", size)
    both = [
        float(task("again", name, config, str(empty(work / "again"))).output)
        for name in ("statistics_alone", "by_one_group_by")
    ]
    yield Result("by_hand", "the first again, in the same process", Measured(both[0], 0.0, 0.0),
                 both[0] / both[1], f"the group-by's {both[1]:.2f} s again", size)  # fmt: skip
    ours = task("ours", config, str(work / "ours"), times=3, fresh=work / "ours")
    yield Result("by_hand", "export and extract", ours, size=size)
    for name in ("polars", "duckdb"):
        out = work / f"{name}.parquet"
        theirs = task(f"by_{name}", config, str(out), times=2)
        differs = task("agreement", str(work / "ours" / "statistics.parquet"), str(out)).output
        what = f"a {name} script (differs by {differs.strip()})"
        yield Result("by_hand", what, theirs, ours.wall / theirs.wall, "its time is ours", size)


def floor(work: Path, synapses: int) -> Iterator[Result]:
    """Compare export with reading and writing once, and extract with one pass of averages.

    What an export of a thousand synapses takes is start-up, which reading and writing are without.
    """
    config = str(circuits.demo(work, synapses))
    size = {"synapses": synapses}
    steps, out = work / "steps", work / "ours"
    dataset = steps / "dataset"
    few = str(circuits.demo(work, 1000))
    start = connprops("export", few, "-o", str(dataset), "-q", times=3, fresh=steps)
    export = connprops("export", config, "-o", str(dataset), "-q", times=3, fresh=steps)
    read = task("read_once", config, times=3)
    write = task("write_once", str(dataset), str(empty(work / "floor")), times=3)
    once = Measured(float(read.output) + float(write.output), 0.0, write.peak_mb)
    yield Result("floor", "read once, write once", once, size=size)
    ratio = (export.wall - start.wall) / once.wall
    yield Result(
        "floor", f"export, but {start.wall:.2f} s of start-up", export, ratio, "the floor", size
    )
    pass_ = task("average", str(dataset), times=3)
    extract = task("extract", str(dataset), str(out), times=3, fresh=out)
    yield Result("floor", "avg of every property, DuckDB", pass_, size=size)
    yield Result("floor", "extract", extract, extract.wall / pass_.wall, "that pass", size)


def whole(work: Path, name: str, config: Path, synapses: int) -> Iterator[Result]:
    """Measure each step of a run alone, everything together, and a changed option."""
    size = {"synapses": synapses}
    steps = empty(work / "steps")
    dataset = str(steps / "dataset")
    yield Result(name, "export", connprops("export", str(config), "-o", dataset, "-q"), size=size)
    extract = ("extract", dataset, "-o", str(steps), "-q")
    yield Result(name, "extract", connprops(*extract), size=size)
    bins, limit = ("--hist-bins", "30"), ("--max-sample-size-per-group", "10000")
    yield Result(name, "extract again, with other bins",
                 connprops(*extract, "--overwrite", *bins), size=size)  # fmt: skip
    yield Result(name, "extract again, with a limit",
                 connprops(*extract, "--overwrite", *limit), size=size)  # fmt: skip
    yield Result(name, "build", connprops("build", str(steps), "-q"), size=size)
    shutil.rmtree(steps)
    out = empty(work / "run")
    yield Result(name, "run: everything, report included",
                 connprops("run", str(config), "-o", str(out), "-q"), size=size)  # fmt: skip
    changed = ("run", str(config), "-o", str(out), "-q", "--overwrite", "--hist-bins", "30")
    yield Result(name, "run again, with other bins", connprops(*changed), size=size)


def growth(work: Path, sizes: list[int]) -> Iterator[Result]:
    """Measure how time and memory grow with the circuit."""
    before: tuple[int, Measured] | None = None
    for synapses in sizes:
        config, out = str(circuits.demo(work, synapses)), empty(work / "steps")
        export = connprops("export", config, "-o", str(out / "dataset"), "-q")
        extract = connprops("extract", str(out / "dataset"), "-o", str(out), "-q")
        peak = max(export.peak_mb, extract.peak_mb)
        taken = Measured(export.wall + extract.wall, export.cpu + extract.cpu, peak)
        ratio, against = None, ""
        if before is not None:
            ratio = taken.wall / before[1].wall
            memory = taken.peak_mb / before[1].peak_mb
            against = (f"the time and {memory:.2f} x the memory for "
                       f"{synapses / before[0]:.2g} x the synapses")  # fmt: skip
        yield Result("growth", f"export and extract, {synapses:,}", taken, ratio, against,
                     {"synapses": synapses})  # fmt: skip
        before = synapses, taken


def start(_work: Path, _synapses: int) -> Iterator[Result]:
    """Measure the start of every command."""
    nothing = measure([sys.executable, "-c", "pass"], times=5)
    for what, code in (
        ("import connprops", "import connprops"),
        ("connprops --help", "import connprops.cli as c; c.app(['--help'], standalone_mode=False)"),
    ):
        taken = measure([sys.executable, "-c", code], times=5)
        yield Result("start", what, taken, taken.wall / nothing.wall, "python itself")


def _check_same(ours: Path, theirs: Path, *, everything: bool) -> None:
    """Raise unless the arrays agree; with a random subset only their shapes can."""
    with np.load(ours) as a, np.load(theirs) as b:
        for name in a.files:
            if a[name].shape != b[name].shape:
                message = f"{name} has shape {a[name].shape}, and {b[name].shape} in the reference"
                raise RuntimeError(message)
            if everything:
                np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-9, err_msg=name)


def hex0(work: Path, synapses: int) -> Iterator[Result]:
    """Measure a circuit like a hexagon of somatosensory cortex: 18 x 18 types, 17 properties."""
    return whole(work, "hex0", circuits.random_circuit(work, circuits.HEX0, synapses), synapses)


def ten_properties(work: Path, synapses: int) -> Iterator[Result]:
    """Measure statistics and fits of ten properties of 18 x 18 types, from HDF5 to the model.

    A prototype of run lengths in numpy, group-bys in DuckDB and batched fits, which wrote no
    Parquet, took 16 s for 28.6 million synapses on two cores of another machine.
    """
    config = circuits.random_circuit(work, circuits.TEN_PROPERTIES, synapses)
    steps, size = empty(work / "steps"), {"synapses": synapses}
    taken = [
        connprops("export", str(config), "-o", str(steps / "dataset"), "-q"),
        connprops("extract", str(steps / "dataset"), "-o", str(steps), "-q"),
        connprops("build", str(steps), "-q"),
    ]
    whole = Measured(
        sum(m.wall for m in taken), sum(m.cpu for m in taken), max(m.peak_mb for m in taken)
    )
    yield Result("ten_properties", "export, extract and build", whole, size=size)


def nmc(work: Path, synapses: int) -> Iterator[Result]:
    """Measure the scale model of the neocortical microcircuit: 1,941 pathways."""
    return whole(work, "nmc", circuits.demo(work, synapses), synapses)


def many_pathways(work: Path, synapses: int) -> Iterator[Result]:
    """Measure 60 x 60 types and 17 properties: 61,200 fits."""
    config = circuits.random_circuit(work, circuits.MANY_PATHWAYS, synapses)
    return whole(work, "many_pathways", config, synapses)


Benchmark = Callable[[Path, int], Iterator[Result]]


def tables(work: Path, synapses: int) -> Iterator[Result]:
    """Export a table of synapses in Parquet, sorted by target or not.

    That is measured against rewriting it by Polars, as it streams by, and by DuckDB, until it is on
    the disk, as a dataset is; against doing so sorted, where it is not; and against a floor: to
    read its columns once, and write the rows of the dataset once, as they are encoded there, in one
    thread.
    """
    folder, size = empty(work / "tables"), {"synapses": synapses, "columns": 8}
    (folder / "few").mkdir()

    def exported(file: Path, dataset: Path) -> Measured:
        return connprops(
            "export", str(file), "--nodes", str(file.with_name("cells.parquet")), "--source", "pre",
            "--target", "post", "--node-id", "id", "--type", "cell_type", "-o", str(dataset), "-q",
            fresh=dataset, times=3,
        )  # fmt: skip

    task("write_tables", str(folder / "few"), "1000")
    task("write_tables", str(folder), str(synapses))
    start = exported(folder / "few" / "sorted.parquet", folder / "few" / "dataset")
    for order in ("sorted", "scattered"):
        file, dataset = folder / f"{order}.parquet", folder / order
        of_table = exported(file, dataset)
        read = task("read_parquet_once", str(file), times=3)
        write = task("write_once", str(dataset), str(empty(folder / "floor")), times=3)
        floor = Measured(float(read.output) + float(write.output), 0.0, write.peak_mb)
        for engine in ("polars", "duckdb"):
            name = f"rewrite_by_{engine}"
            again = task(name, str(file), str(folder / "again.parquet"), times=3)
            yield Result("tables", f"rewrite, {engine}, {order}", again, size=size)
            ratio = of_table.wall / again.wall
            yield Result("tables", f"export, {order}", of_table, ratio, f"that of {engine}", size)
        if order == "scattered":  # to find connections, somebody has to sort
            by_hand = task("rewrite_sorted", str(file), str(folder / "again.parquet"))
            ratio = of_table.wall / by_hand.wall
            yield Result("tables", "sort and rewrite, scattered", by_hand, ratio,
                         "its time is the export's", size)  # fmt: skip
        yield Result("tables", f"read once, write once, {order}", floor, size=size)
        yield Result(
            "tables", f"export, but {start.wall:.2f} s of start-up, {order}", of_table,
            (of_table.wall - start.wall) / floor.wall, "the floor", size,
        )  # fmt: skip


BENCHMARKS: dict[str, tuple[Benchmark, int]] = {
    "start": (start, 0),
    "imports": (imports, 10_000),
    "reference": (
        partial(against_reference, name="reference", shape=circuits.FEW_PATHWAYS),
        200_000,
    ),
    "reference_hex0": (
        partial(against_reference, name="reference_hex0", shape=circuits.HEX0),
        200_000,
    ),
    "reference_capped": (
        partial(against_reference, name="reference_capped", shape=circuits.HEX0, limit=500),
        3_300_000,
    ),
    "by_hand": (by_hand, 30_000_000),
    "by_hand_small": (by_hand, 200_000),
    "by_hand_middle": (by_hand, 2_700_000),
    "floor": (floor, 30_000_000),
    "hex0": (hex0, 31_212_240),
    "ten_properties": (ten_properties, 28_600_000),
    "nmc": (nmc, 37_000_000),
    "many_pathways": (many_pathways, 4_000_000),
    "tables": (tables, 50_000_000),
    "growth": (
        lambda work, n: growth(work, [max(n // k, 1000) for k in (100, 30, 10, 3, 1)]),
        100_000_000,
    ),
}
"""Each benchmark and its default number of synapses."""
