"""Draw from a model and fit it again: ``python -m benchmarks.round_trip [--synapses N]``.

A model with a property of each family, once shared within connections and once not, some of them
correlated, is drawn as a SONATA edge file; the whole pipeline then runs on that file. The estimates
should lie about the truth as their standard errors say: the table gives, for each family, how many
z-scores (estimate less truth over standard error) there are, their mean, their standard deviation,
which should be 1, and the greatest. A line of JSON follows. Ends of supports have no standard
error, and so no z-score; of the truncated normal and the beta distribution, whose ends are
estimated by the sample's, the others have a bias that vanishes with the sample.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import polars as pl

from benchmarks import measure

TYPES = ("A", "B", "C", "D")
MEAN_SYNAPSES = 3.0
DISTRIBUTIONS: dict[str, dict[str, float | list[float]]] = {
    "beta": {"a": 2.0, "b": 3.0, "min": 0.0, "max": 1.0},
    "constant": {"mean": 1.5},
    "discrete": {"val": [1.0, 2.0, 5.0], "p": [0.2, 0.5, 0.3]},
    "exponential": {"mean": 2.0},
    "gamma": {"mean": 0.8, "std": 0.3},
    "geometric": {"mean": 2.5},
    "lognormal": {"mean_log": 0.5, "std_log": 0.4},
    "negative_binomial": {"mean": 3.0, "dispersion": 2.0},
    "normal": {"mean": 1.0, "std": 2.0},
    "poisson": {"mean": 3.0},
    "shifted_poisson": {"mean": 2.5},
    "truncnorm": {"norm_loc": 0.5, "norm_scale": 0.3, "min": 0.0, "max": 1.0},
    "uniform": {"min": 0.1, "max": 0.7},
    "weibull": {"shape": 1.7, "scale": 3.0},
    "zero": {},
    "ztpoisson": {"mean": MEAN_SYNAPSES},
}
COUNTS = {"geometric", "negative_binomial", "poisson", "shifted_poisson", "zero", "ztpoisson"}
CORRELATED = {("gamma", "normal"): 0.6, ("gamma", "weibull"): -0.3, ("normal", "weibull"): 0.2}


def model() -> object:
    """Return the model: the same distributions in all pathways."""
    from connprops import schema
    from connprops.model.model import Model

    rows = []
    names = [
        (f"{name}_{kind}", name, kind == "one")
        for name in DISTRIBUTIONS
        for kind in ("each", "one")
    ]
    pathways = [(s, t) for s in TYPES for t in TYPES]
    for name, family, shared in [*names, (schema.N_SYN_PER_CONN, "ztpoisson", None)]:
        dtype = "int" if family in COUNTS else "float"
        rows += [
            {"source_type": s, "target_type": t, "property": name, "distribution": family,
             "parameter": p, "position": at, "value": float(value), "level": -1,
             "shared_within": shared, "dtype": dtype,
             "within_correlation": None if shared is None else float(shared)}
            for s, t in pathways
            for p, values in (DISTRIBUTIONS[family] or {"mean": 0.0}).items()
            for at, value in enumerate(np.atleast_1d(values))
        ]  # fmt: skip
    rows += [
        {"source_type": s, "target_type": t, "property": f"{a}_{kind}",
         "other_property": f"{b}_{kind}", "distribution": schema.COPULA,
         "parameter": schema.CORRELATION, "position": 0, "value": r, "level": -1,
         "shared_within": kind == "one", "dtype": "float",
         "within_correlation": float(kind == "one")}
        for s, t in pathways for (a, b), r in CORRELATED.items() for kind in ("each", "one")
    ]  # fmt: skip
    dtypes = {k: pl.String if v is pl.Enum else v for k, v in schema.MODEL.polars_schema().items()
              if k not in schema.ROW_KEYS[2:]}  # fmt: skip
    sides = [(side, code, name, "EXC", "1", 1)
             for side in ("source", "target") for code, name in enumerate(TYPES)]  # fmt: skip
    return Model(
        pl.DataFrame(rows, schema=dtypes),
        types=pl.DataFrame(sides, schema=schema.TYPES.polars_schema(), orient="row"),
        units=dict.fromkeys([*(n for n, *_ in names), schema.N_SYN_PER_CONN], ""),
    )


def write_circuit(work: Path, size: int) -> Path:
    """Write that many nodes, and an edge population with one edge."""
    from connprops.circuit.edge_file import create_edges

    with h5py.File(work / "nodes.h5", "w") as file:
        file["nodes/All/node_type_id"] = np.full(size, -1)
        file["nodes/All/0/mtype"] = (np.arange(size) % len(TYPES)).astype(np.uint32)
        file.create_dataset(
            "nodes/All/0/@library/mtype", data=list(TYPES), dtype=h5py.string_dtype()
        )
    with h5py.File(work / "edges.h5", "w") as file:
        create_edges(file, "default", ("All", "All"), 1)
    networks = {
        "nodes": [{"nodes_file": str(work / "nodes.h5"), "populations": {"All": {}}}],
        "edges": [{"edges_file": str(work / "edges.h5"), "populations": {"default": {}}}],
    }
    config = work / "circuit_config.json"
    config.write_text(json.dumps({"version": 2, "networks": networks}))
    return config


def z_scores(truth: pl.DataFrame, fitted: pl.DataFrame) -> pl.DataFrame:
    """Return the z-score of each parameter that has a standard error."""
    keys = ["source_type", "target_type", "property", "other_property", "parameter", "position"]
    text = [pl.col(key).cast(pl.String) for key in keys[:5]]
    expected = truth.select(*text, "position", pl.col("value").alias("truth"))
    return (
        fitted.with_columns(text)
        .join(expected, on=keys, nulls_equal=True)
        .filter(pl.col("std_error") > 0)
        .with_columns(z=(pl.col("value") - pl.col("truth")) / pl.col("std_error"))
    )


def main() -> None:
    """Draw, fit again, and print the z-scores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.round_trip", description=__doc__)
    parser.add_argument("--synapses", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    import connprops
    from connprops.draw import write_synapses

    truth = model()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        size = round((arguments.synapses / MEAN_SYNAPSES) ** 0.5)
        config = write_circuit(work, size)
        ends = pl.LazyFrame({"target_node": range(size)}).join(
            pl.LazyFrame({"source_node": range(size)}), how="cross"
        )
        start = time.perf_counter()
        n = write_synapses(truth, ends, work / "drawn.h5", arguments.seed, nodes=config)
        drawn = time.perf_counter() - start
        (work / "drawn.h5").replace(work / "edges.h5")
        start = time.perf_counter()
        dataset = connprops.open_circuit(config, work / "dataset")
        names = truth.properties
        fitted = connprops.build(
            connprops.extract(dataset, sel_props=names),
            distr_types={
                name: name.rsplit("_", 1)[0] if name != "n_syn_per_conn" else "ztpoisson"
                for name in names
            },
            correlations=True,
            shrinkage=False,
        )
        back = time.perf_counter() - start
    shared = (
        fitted.marginals.select(pl.col("property").cast(pl.String), "shared_within")
        .unique()
        .filter(~pl.col("property").str.contains("constant|zero|n_syn_per_conn"))
    )
    wrong = shared.filter(pl.col("property").str.ends_with("_one") != pl.col("shared_within"))
    z = z_scores(truth.table, fitted.table)
    summary = (
        z.group_by(pl.col("distribution").cast(pl.String), pl.col("parameter").cast(pl.String))
        .agg(
            pl.len().alias("n"), pl.col("z").mean().alias("mean"),
            pl.col("z").std().alias("std"), pl.col("z").abs().max().alias("greatest"),
        )
        .sort("distribution", "parameter")
    )  # fmt: skip
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True):
        print(f"{n:,} synapses: drawn in {drawn:.1f} s, model again after {back:.1f} s")
        print(summary)
        print(f"properties whose sharing was not recovered: {wrong['property'].to_list()}")
    content = {"benchmark": "round_trip", "synapses": n, "z": summary.to_dicts(),
               "machine": measure.machine(), "versions": measure.versions()}  # fmt: skip
    print(json.dumps(content))


if __name__ == "__main__":
    main()
