"""How fast synapses are drawn: ``python -m benchmarks.draw [--synapses N] [--varying] [--work D]``.

A model of 3,025 pathways and ten properties (four gamma distributions, two truncated normal ones, a
beta, a lognormal, a normal distribution and a count; half of them shared within connections, all
varying with ``--varying``) is drawn from a list of connections on disk: as a stream that nobody
keeps, as Parquet, and as a SONATA edge file; then, on a small sample of the same connections, one
by one by the installed connectome-manipulator. Prints a table, and all of it as a line of JSON.

Findings, on two cores, for 30 million synapses, half of the properties shared:

- As a stream 9.9 s, 16 s of cpu and 444 MB at the peak: 3 million synapses a second, of which the
  reference drew 900 in that run. As a SONATA file with its indices 25 s.
- Indices by sorting one number of node and edge, where the next edge is the next number: 0.49 GB
  for 10 million synapses, 1.0 GB when nodes and edges were arrays of their own.
- Pieces of 2^15 synapses (0.71 us) beat 2^16 (0.82) and 2^13 (0.90): what one property needs stays
  in the second cache, and calls do not weigh yet.
- Quantiles of the gamma distribution by ``gammaincinv`` take 560 ns a value, of the beta
  distribution 820. Predicted with polynomials of z: 15 ns of hashing, 15 of ``ndtri``, 40 of
  polynomial; measured: 60 to 80 in all. The truncated normal distribution takes 200 by logarithms
  of tails, 40 by its closed form.
- Distributions of counts by an iteration take 270 to 830 ns a value, by a guide table 15, with the
  same values to the bit.
- Degree 7 on 40 panels took 361 quantiles to fit a distribution, degree 11 on 10 panels takes 131,
  for the same error: a model of 5,700 gamma distributions is ready after 0.75 s instead of 2.1.
  Converted to degree 7 on 20 panels, the coefficients of a panel fill one cache line: 66
  ns, not 84.
- Arrow's ``to_numpy`` imports pandas, 0.7 s: arrays are made and read in place instead.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import measure

N_TYPES = 55
MEAN_SYNAPSES = 4.0
SOURCES_EACH = 1_000
ONE_BY_ONE = 300
LIST = "connections.parquet"


def model_of(*, varying: bool) -> Any:
    """Return a model of 55 x 55 types, and its ten properties of several families."""
    from connprops import schema
    from connprops.model.model import Model

    rng = np.random.default_rng(1)
    types = [f"T{i:02d}" for i in range(N_TYPES)]
    n = N_TYPES**2

    def wide(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, n)

    distributions: list[tuple[str, str, dict[str, np.ndarray], bool, str]] = [
        *((f"gamma_{i}", "gamma", {"mean": mean, "std": mean * wide(0.2, 1)}, i % 2 == 0,
           "float") for i, mean in enumerate([wide(0.1, 10) for _ in range(4)])),
        *((f"truncnorm_{i}", "truncnorm",
           {"norm_loc": wide(0.3, 0.7), "norm_scale": wide(0.1, 1), "min": np.zeros(n),
            "max": np.ones(n)}, i == 0, "float") for i in range(2)),
        ("beta", "beta", {"a": wide(1, 5), "b": wide(1, 5), "min": np.zeros(n), "max": np.ones(n)},
         False, "float"),
        ("lognormal", "lognormal", {"mean_log": wide(0, 1), "std_log": wide(0.2, 1)}, True,
         "float"),
        ("normal", "normal", {"mean": wide(0, 1), "std": wide(0.2, 1)}, False, "float"),
        ("count", "shifted_poisson", {"mean": wide(1.5, 4)}, True, "int"),
        (schema.N_SYN_PER_CONN, "ztpoisson", {"mean": wide(2, 2 * MEAN_SYNAPSES - 2)}, True, "int"),
    ]  # fmt: skip
    frames = [
        pl.DataFrame(
            {
                "source_type": np.repeat(types, N_TYPES),
                "target_type": np.tile(types, N_TYPES),
                "value": values,
            }
        ).with_columns(
            property=pl.lit(name), other_property=pl.lit(None, pl.String),
            distribution=pl.lit(family), parameter=pl.lit(parameter),
            position=pl.lit(0, pl.Int32), std_error=pl.lit(None, pl.Float64),
            level=pl.lit(-1, pl.Int8),
            shared_within=pl.lit(None if name == schema.N_SYN_PER_CONN else shared and not varying,
                                 pl.Boolean),
            dtype=pl.lit(dtype), lower_bound=pl.lit(None, pl.Float64),
            upper_bound=pl.lit(None, pl.Float64),
        )
        for name, family, parameters, shared, dtype in distributions
        for parameter, values in parameters.items()
    ]  # fmt: skip
    sides = [
        (side, code, name, "EXC", "1", 100)
        for side in ("source", "target")
        for code, name in enumerate(types)
    ]
    return Model(
        pl.concat(frames),
        types=pl.DataFrame(sides, schema=schema.TYPES.polars_schema(), orient="row"),
        units={name: "" for name, *_ in distributions},
    )


def write_connections(file: Path, synapses: int) -> None:
    """Write a list of connections with about that many synapses: 1,000 on each target."""
    n = round(synapses / MEAN_SYNAPSES)
    source, target = np.arange(n) % SOURCES_EACH, np.arange(n) // SOURCES_EACH
    source = source * 7 + target % 7
    names = [f"T{i:02d}" for i in range(N_TYPES)]
    pl.DataFrame(
        {
            "source_node": source,
            "target_node": target,
            "source_type": pl.Series(np.array(names)[source % N_TYPES]).cast(pl.Enum(names)),
            "target_type": pl.Series(np.array(names)[target % N_TYPES]).cast(pl.Enum(names)),
        }
    ).write_parquet(file)


TIMES: dict[str, float] = {}


@contextmanager
def _timed() -> Iterator[None]:
    """Measure the block, not what is imported and prepared before."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    TIMES["wall"] = time.perf_counter() - wall
    TIMES["cpu"] = time.process_time() - cpu


def stream(model: Any, connections: Path) -> int:
    """Draw without writing."""
    with _timed():
        return sum(batch.num_rows for batch in model.draw_synapses(connections))


def parquet(model: Any, connections: Path) -> int:
    """Draw and write Parquet."""
    from connprops.draw import write_synapses

    with _timed():
        return write_synapses(
            model, connections, connections.with_name("drawn.parquet"), overwrite=True
        )


def sonata(model: Any, connections: Path) -> int:
    """Draw and write a SONATA edge file with its indices."""
    from connprops.draw import write_synapses

    config = _write_nodes(connections)
    with _timed():
        return write_synapses(
            model, connections, connections.with_name("drawn.h5"), nodes=config, overwrite=True
        )


def reference(model: Any, connections: Path) -> int:
    """Draw the first connections one by one with the installed connectome-manipulator."""
    import warnings

    from connectome_manipulator.model_building.model_types import ConnPropsModel

    warnings.simplefilter("ignore")
    file = model.write_json(connections.with_name("model.json"), overwrite=True)
    theirs = ConnPropsModel.model_from_file(str(file))
    pairs = (
        pl.read_parquet(connections, n_rows=ONE_BY_ONE).select("source_type", "target_type").rows()
    )
    with _timed():
        return sum(len(theirs.apply(src_type=source, tgt_type=target)) for source, target in pairs)


STEPS: dict[str, Callable[[Any, Path], int]] = {
    "stream": stream, "parquet": parquet, "sonata": sonata, "reference": reference,
}  # fmt: skip


def _write_nodes(connections: Path) -> Path:
    """Write a circuit of the listed nodes, with one edge to take the names from."""
    import h5py

    from connprops.circuit.edge_file import create_edges

    work = connections.parent
    ends = pl.scan_parquet(connections).select(pl.max("source_node", "target_node")).collect()
    size = max(ends.row(0)) + 1
    with h5py.File(work / "nodes.h5", "w") as file:
        file["nodes/All/node_type_id"] = np.full(size, -1)
        file["nodes/All/0/mtype"] = (np.arange(size) % N_TYPES).astype(np.uint32)
        file.create_dataset(
            "nodes/All/0/@library/mtype", data=[f"T{i:02d}" for i in range(N_TYPES)],
            dtype=h5py.string_dtype(),
        )  # fmt: skip
    with h5py.File(work / "edges.h5", "w") as file:
        create_edges(file, "default", ("All", "All"), 1)
    config = work / "circuit_config.json"
    networks = {
        "nodes": [{"nodes_file": str(work / "nodes.h5"), "populations": {"All": {}}}],
        "edges": [{"edges_file": str(work / "edges.h5"), "populations": {"default": {}}}],
    }
    config.write_text(json.dumps({"version": 2, "networks": networks}))
    return config


def _step(name: str, connections: Path, *, varying: bool) -> None:
    """Run a step in this process, and print its figures."""
    n = STEPS[name](model_of(varying=varying), connections)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"step": name, "synapses": n, **TIMES, "peak_mb": peak}))


def main() -> None:
    """Measure each step in a process of its own, and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.draw", description=__doc__)
    parser.add_argument("--synapses", type=int, default=30_000_000)
    parser.add_argument("--varying", action="store_true", help="no property is shared")
    parser.add_argument("--work", type=Path, help="folder for the files")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        _step(arguments.step, arguments.work / LIST, varying=arguments.varying)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        write_connections(work / LIST, arguments.synapses)
        steps = []
        print(f"{'step':10} {'synapses':>12} {'wall s':>8} {'cpu s':>8} {'M/s':>8} {'peak MB':>8}")
        for name in STEPS:
            command = [sys.executable, "-m", "benchmarks.draw", "--step", name, "--work", str(work)]
            command += ["--varying"] if arguments.varying else []
            took = json.loads(measure.measure(command).output)
            took["per_second"] = took["synapses"] / took["wall"]
            steps.append(took)
            print(
                f"{name:10} {took['synapses']:12,} {took['wall']:8.2f} {took['cpu']:8.2f} "
                f"{took['per_second'] / 1e6:8.4f} {took['peak_mb']:8.0f}"
            )
        ratio = steps[0]["per_second"] / steps[-1]["per_second"]
        print(f"stream against the reference: {ratio:,.0f} times as fast")
        print(
            json.dumps(
                {
                    "benchmark": "draw", "varying": arguments.varying, "ratio": ratio,
                    "steps": steps, "machine": measure.machine(), "versions": measure.versions(),
                }
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
