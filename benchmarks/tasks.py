"""Measured tasks, a process each: ``python -m benchmarks.tasks NAME ARGUMENTS``."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl


def by_polars(config: str, out: str) -> None:
    """Compute the statistics with the Polars script, and write them."""
    from benchmarks import by_hand

    by_hand.with_polars(Path(config), _properties(config)).write_parquet(out)


def by_one_group_by(config: str, out: str) -> None:
    """Compute the statistics that one group-by gives, and write them."""
    from benchmarks import by_hand

    by_hand.with_one_group_by(Path(config), _properties(config)).write_parquet(out)


def by_duckdb(config: str, out: str) -> None:
    """Compute the statistics with the DuckDB script, and write them."""
    from benchmarks import by_hand

    by_hand.with_duckdb(Path(config), _properties(config)).write_parquet(out)


def ours(config: str, folder: str, *options: str) -> None:
    """Export and extract, and write all tables of statistics."""
    _ours(config, folder, options)


def statistics_alone(config: str, folder: str) -> None:
    """Export, compute the table of statistics alone, and write it."""
    import connprops as cp
    from connprops.circuit.circuit import resolve_circuit
    from connprops.export.export import export

    dataset = export(resolve_circuit(config), Path(folder) / "dataset")
    stats = cp.extract(cp.open_dataset(dataset))
    stats.table.collect().write_parquet(Path(folder) / "statistics.parquet")


def again(name: str, config: str, out: str, *options: str) -> None:
    """Run a task three times in this process, each into a new place; print the least seconds."""
    taken = []
    for i in range(4):
        place = Path(out) / str(i)
        place.mkdir(parents=True)
        begin = time.perf_counter()
        target = place if name != "by_one_group_by" else place / "s.parquet"
        _TASKS[name](config, str(target), *options)
        taken.append(time.perf_counter() - begin)
    sys.stdout.write(f"{min(taken[1:])}\n")


def compat(config: str, folder: str, *options: str) -> None:
    """Extract as the reference does, its Gaussian fits among it, and keep its arrays."""
    import connprops.compat

    tempfile.tempdir = folder  # where it keeps the dataset
    arrays = connprops.compat.extract(config, **_parsed(options))
    np.savez(Path(folder) / "arrays.npz", **_flat(arrays))


def reference(config: str, out: str, *options: str) -> None:
    """Extract with the installed connectome-manipulator, and keep its arrays."""
    import bluepysnap
    from connectome_manipulator.model_building import conn_props

    arrays = conn_props.extract(bluepysnap.Circuit(config), **_parsed(options))
    np.savez(out, **_flat(arrays))


def read_once(config: str) -> None:
    """Read the columns that an export reads, once, with h5py; print the seconds."""
    import h5py

    begin = time.perf_counter()
    with h5py.File(Path(config).parent / "edges.h5") as file:
        (edges,) = file["edges"].values()
        datasets = [edges["source_node_id"], edges["target_node_id"]]
        datasets += [edges["0"][name] for name in _properties(config)]
        for start in range(0, edges["source_node_id"].shape[0], 1 << 21):
            for dataset in datasets:
                dataset[start : start + (1 << 21)]
    sys.stdout.write(f"{time.perf_counter() - begin}\n")


def read_parquet_once(file: str) -> None:
    """Read all columns of a Parquet file, once, with pyarrow in one thread; print the seconds."""
    import pyarrow.parquet as pq

    begin = time.perf_counter()
    with pq.ParquetFile(file) as rows:
        for group in range(rows.num_row_groups):
            rows.read_row_group(group, use_threads=False)
    sys.stdout.write(f"{time.perf_counter() - begin}\n")


def write_once(dataset: str, folder: str) -> None:
    """Write a dataset's rows as Parquet, encoded as they are; print the seconds of writing."""
    import pyarrow.parquet as pq

    from connprops.export.parts import Kind, encode

    Path(folder).mkdir(exist_ok=True)
    spent = 0.0
    kinds: tuple[Kind, ...] = ("connections", "synapses")
    for kind in kinds:
        for file in sorted((Path(dataset) / kind).glob("*.parquet")):
            table = pq.read_table(file)
            start = time.perf_counter()
            with (Path(folder) / f"{kind}-{file.name}").open("wb") as out:
                encode(table, kind, out)
            spent += time.perf_counter() - start
    sys.stdout.write(f"{spent}\n")


def write_tables(folder: str, synapses: str) -> None:
    """Write a table of eight columns, ordered by target and in no order; and one of the cells.

    Connections have 3.6 synapses on average, as those of a fly's brain (FlyWire) have.
    """
    import polars as pl

    n, rng, place = int(synapses), np.random.default_rng(0), Path(folder)
    cells = 864691130000000000 + rng.permutation(20_000) * 1001
    types = rng.choice([f"t{i:02d}" for i in range(50)], cells.size)
    pl.DataFrame({"id": cells, "cell_type": types}).write_parquet(place / "cells.parquet")
    several = rng.geometric(1 / 3.6, n)
    several = several[: int(np.searchsorted(np.cumsum(several), n)) + 1]
    order = rng.permutation(n)
    ends = (rng.choice(cells, several.size), rng.choice(cells, several.size))
    pre, post = (np.repeat(ids, several)[:n][order] for ids in ends)
    table = pl.DataFrame(
        {
            "pre": pre,
            "post": post,
            "size": rng.lognormal(5, 1, n).astype(np.int32),
            "area": rng.gamma(2, 3, n).astype(np.float32),
            "confidence": rng.random(n, dtype=np.float32),
            **{axis: rng.integers(0, 1_000_000, n, dtype=np.int32) for axis in "xyz"},
        }
    )
    table.write_parquet(place / "scattered.parquet", row_group_size=1 << 18)
    table.sort("post", "pre").write_parquet(place / "sorted.parquet", row_group_size=1 << 18)


def rewrite_by_polars(file: str, out: str) -> None:
    """Read a Parquet file and write it again, as it streams by."""
    import polars as pl

    pl.scan_parquet(file).sink_parquet(out, compression="zstd", row_group_size=16_384)
    _sync(out)


def rewrite_by_duckdb(file: str, out: str) -> None:
    """Read a Parquet file and write it again, as DuckDB does by default."""
    import duckdb

    duckdb.sql(f"copy (from '{file}') to '{out}' (format parquet)")
    _sync(out)


def rewrite_sorted(file: str, out: str) -> None:
    """Read a Parquet file and write it again, ordered by target and source."""
    import polars as pl

    rows = pl.scan_parquet(file).sort("post", "pre")
    rows.sink_parquet(out, compression="zstd", row_group_size=16_384)
    _sync(out)


def average(dataset: str) -> None:
    """Average every property per pathway over the synapses, in one pass of DuckDB."""
    import connprops as cp

    data = cp.open_dataset(dataset)
    names = ", ".join(f'avg("{name}")' for name in data.properties)
    data.sql(f"select source_type, target_type, {names} from synapses group by all").fetchall()


def extract(dataset: str, folder: str, *options: str) -> None:
    """Extract all statistics of a dataset, and write them."""
    import connprops as cp

    stats = cp.extract(cp.open_dataset(dataset), **_parsed(options))
    stats.write(folder, overwrite=True)


def _sync(file: str) -> None:
    """Wait until a file is on the disk, as a dataset is when its export ends."""
    with Path(file).open("rb") as written:
        os.fsync(written.fileno())


def _ours(config: str, folder: str, options: Sequence[str]) -> None:
    import connprops as cp
    from connprops.circuit.circuit import resolve_circuit
    from connprops.export.export import export

    dataset = export(resolve_circuit(config), Path(folder) / "dataset", overwrite=True)
    cp.extract(cp.open_dataset(dataset), **_parsed(options)).write(folder, overwrite=True)


def _parsed(options: Sequence[str]) -> dict[str, int]:
    return {name: int(value) for name, value in (option.split("=") for option in options)}


def _flat(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the numbers of the reference's dictionaries that are not random."""
    numbers = {
        f"syns_{k}": v for k, v in arrays["syns_per_conn_data"].items() if k in ("mean", "std")
    }
    order = np.argsort(arrays["syn_props"])
    for key in ("mean", "std", "min", "max"):
        numbers[f"prop_{key}"] = np.asarray(arrays["conn_prop_data"][key])[..., order]
    return numbers


def _properties(config: str) -> list[str]:
    """Return the properties that are described by default, in the file's order."""
    import h5py

    left_out = ("delay", "afferent", "efferent", "spine_length", "@")
    with h5py.File(Path(config).parent / "edges.h5") as file:
        (edges,) = file["edges"].values()
        return [name for name in edges["0"] if not any(word in name for word in left_out)]


def agreement(ours_file: str, theirs_file: str) -> None:
    """Print the largest relative difference of two tables of statistics."""
    from benchmarks import by_hand

    difference = by_hand.disagreement(pl.read_parquet(ours_file), pl.read_parquet(theirs_file))
    sys.stdout.write(f"{difference:.2g}\n")


_TASKS: dict[str, Callable[..., None]] = {
    f.__name__: f
    for f in (by_polars, by_one_group_by, by_duckdb, ours, statistics_alone, again, compat,
              reference, read_once, read_parquet_once, write_once, write_tables,
              rewrite_by_polars, rewrite_by_duckdb, rewrite_sorted, average, extract, agreement)
}  # fmt: skip

if __name__ == "__main__":
    _TASKS[sys.argv[1]](*sys.argv[2:])
