"""Whether intervals hold the truth, and how alike synapses are: ``python -m benchmarks.intervals``.

Simulates pathways of one family by a known distribution, fits each by itself, and gives the share
of 95 % intervals that hold the true parameter, of those that have an end. Simulates connections
whose synapses are alike to a known degree, and compares that with the statistics, and the standard
deviation of sums over connections as drawn by a model with that of the data. With ``--config``, of
a circuit: how alike the synapses of connections are in its data and as drawn. Prints tables and a
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

import connprops as cp
from benchmarks import measure
from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.errors import ConnpropsWarning

SIZES = (20, 100, 1000)
ALIKE = (0.0, 0.2, 0.5, 0.8)
_NORMAL_95 = 1.96

Rng = np.random.Generator
TRUE: Mapping[str, tuple[Mapping[str, float], Callable[[Rng, tuple[int, int]], Floats]]] = {
    "normal": ({"mean": 3, "std": 1}, lambda rng, size: rng.normal(3, 1, size)),
    "gamma": ({"mean": 1, "std": 0.5}, lambda rng, size: rng.gamma(4, 0.25, size)),
    "lognormal": ({"mean_log": 0, "std_log": 0.6}, lambda rng, size: rng.lognormal(0, 0.6, size)),
    "weibull": ({"shape": 1.5, "scale": 1}, lambda rng, size: rng.weibull(1.5, size)),
    "exponential": ({"mean": 1}, lambda rng, size: rng.exponential(1, size)),
    "truncnorm": (
        {"norm_loc": 0, "norm_scale": 1, "min": -1, "max": 1},
        lambda rng, size: stats.truncnorm(-1, 1).rvs(size, random_state=rng),
    ),
    "uniform": ({"min": 0, "max": 1}, lambda rng, size: rng.uniform(0, 1, size)),
    "beta": ({"a": 2, "b": 3, "min": 0, "max": 1}, lambda rng, size: rng.beta(2, 3, size)),
    "poisson": ({"mean": 3}, lambda rng, size: rng.poisson(3, size)),
    "ztpoisson": ({"mean": 3 / -np.expm1(-3)}, lambda rng, size: stats.poisson(3).ppf(
        rng.uniform(np.exp(-3), 1, size))),
    "negative_binomial": (
        {"mean": 4, "dispersion": 2}, lambda rng, size: rng.negative_binomial(2, 1 / 3, size)
    ),
}  # fmt: skip
"""The true parameters of families, and draws of them."""


def statistics_of(
    source: Ints, target: Ints, values: Floats, folder: Path
) -> tuple[cp.Statistics, pl.DataFrame]:
    """Return the statistics of synapses whose source nodes are types of their own, and connections.

    The property is ``x``; all target nodes are of one type.
    """
    sources = int(source.max()) + 1
    table = pl.DataFrame({"source_node": source, "target_node": sources + target, "x": values})
    numbers = np.arange(sources + int(target.max()) + 1)
    types = [f"S{number}" if number < sources else "T" for number in numbers]
    data = cp.open_table(
        table, pl.DataFrame({"node": numbers, "mtype": types}), source="source_node",
        target="target_node", node_id="node", type="mtype", folder=folder,
    )  # fmt: skip
    columns = ["source_node", "target_node", *schema.PATHWAY, schema.N_SYN_PER_CONN]
    return cp.extract(data, sel_props=["x"]), data.connections.select(columns).collect()


def held(family: str, n: int, pathways: int) -> Iterator[dict[str, object]]:
    """Give, for each parameter of a family, the share of intervals that there are, and hold it."""
    true, draw = TRUE[family]
    values = draw(np.random.default_rng(n), (pathways, n))
    source, target = np.divmod(np.arange(pathways * n), n)
    with tempfile.TemporaryDirectory() as folder:
        statistics, _ = statistics_of(source, target, values.ravel(), Path(folder) / "d")
        model = cp.build(statistics, distr_types={"x": family}, shrinkage=False)
        rows = model.table.filter(pl.col("property") == "x", pl.col("level") == -1)
        for name, truth in true.items():
            low, high = pl.col("ci_low"), pl.col("ci_high")
            known = rows.filter(low.is_not_null() | high.is_not_null(), parameter=name)
            inside = (low <= truth).fill_null(value=True) & (high >= truth).fill_null(value=True)
            yield {"family": family, "n": n, "parameter": name, "intervals": len(known) / pathways,
                   "held": known.select(inside.mean()).item()}  # fmt: skip


def alike(truth: float, pathways: int = 40, connections: int = 60) -> dict[str, float]:
    """Return how alike synapses of connections are found to be, and how their sums are drawn."""
    rng = np.random.default_rng(3)
    source, target = np.divmod(np.arange(pathways * connections), connections)
    of = np.repeat(np.arange(source.size), 1 + rng.poisson(4, source.size))
    common, own = rng.normal(size=source.size)[of], rng.normal(size=of.size)
    z = np.sqrt(truth) * common + np.sqrt(1 - truth) * own
    values = stats.gamma(4, scale=0.25).ppf(stats.norm.cdf(z))
    with tempfile.TemporaryDirectory() as folder:
        statistics, connections = statistics_of(source[of], target[of], values, Path(folder) / "d")
        drawn = cp.build(statistics).draw_synapses(connections, 1)
        found = statistics.table.filter(pl.col("property") == "x").collect()
    icc, error = found["icc"].to_numpy(), found["icc_error"].to_numpy()
    about_mean = drawn.group_by("source_node", "target_node").agg((pl.col("x") - 1).sum())["x"]
    sums = about_mean.std(), (np.bincount(of, values) - np.bincount(of)).std()
    return {"truth": truth, "icc": icc.mean(),
            "held": np.mean(np.abs(icc - truth) <= _NORMAL_95 * error),
            "sums": sums[0] / sums[1]}  # fmt: skip


def of_circuit(config: str, population: str | None, prop: str) -> pl.DataFrame:
    """Return how alike the synapses of connections are, of each pathway, in data and as drawn."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = cp.open_circuit(config, folder=work / "d", edges_popul_name=population)
        model = cp.build(cp.extract(data, sel_props=[prop]))
        drawn = model.draw_synapses(data.connections.select(
            "source_node", "target_node", *schema.PATHWAY, schema.N_SYN_PER_CONN
        ).collect(), 1)  # fmt: skip
        types = data.types.select("side", "code", mtype="type", synapse_class="synapse_class")
        nodes = data.nodes.select("side", "code", "node").join(types, on=["side", "code"])
        nodes = nodes.unique("node").select("node", "mtype", "synapse_class")
        again = cp.open_table(
            drawn.select("source_node", "target_node", prop), nodes, source="source_node",
            target="target_node", node_id="node", type="mtype", folder=work / "again",
        )  # fmt: skip
        found = [cp.extract(each, sel_props=[prop]).table.filter(pl.col("property") == prop)
                 .select(*schema.PATHWAY, "n_multi", "icc", "icc_error").collect()
                 .with_columns(pl.col(*schema.PATHWAY).cast(pl.String))
                 for each in (data, again)]  # fmt: skip
    return found[0].join(found[1].drop("n_multi"), on=schema.PATHWAY, suffix="_drawn")


def main() -> None:
    """Simulate, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals", description=__doc__)
    parser.add_argument("--pathways", type=int, default=1000)
    parser.add_argument("--families", nargs="*", choices=list(TRUE), default=list(TRUE))
    parser.add_argument("--config", help="a circuit, of which nothing is simulated")
    parser.add_argument("--population")
    parser.add_argument("--property", default="delay")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConnpropsWarning)
    pl.Config.set_tbl_rows(-1).set_tbl_cols(-1).set_tbl_width_chars(160).set_float_precision(3)
    if arguments.config:
        found = of_circuit(arguments.config, arguments.population, arguments.property)
        print(found)
        weighted = pl.col("icc", "icc_drawn").mul(pl.col("n_multi")) / pl.col("n_multi").sum()
        figures = found.drop_nulls(["icc", "icc_drawn"]).select(weighted.sum()).row(0, named=True)
    else:
        rows = pl.DataFrame(
            [row for name in arguments.families for n in SIZES
             for row in held(name, n, arguments.pathways)]
        )  # fmt: skip
        print(rows.pivot("n", index=["family", "parameter"], values=["intervals", "held"]))
        figures = {str(truth): alike(truth) for truth in ALIKE}
        print(pl.DataFrame(list(figures.values())))
    print(json.dumps({"benchmark": "intervals", **figures, "machine": measure.machine(),
                      "versions": measure.versions()}))  # fmt: skip


if __name__ == "__main__":
    main()
