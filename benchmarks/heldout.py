"""How well models foretell connections they have not seen: ``python -m benchmarks.heldout``.

The connections of a circuit (``--config``, else a demo of ``--synapses``) are split into folds. For
each fold a model is built on the others, by default and with ``shrinkage=False``, and scored on the
fold's own values; the demo's true distributions are scored beside them. A value x of a distribution
f scores log(0.999 f(x) + 0.001 / range), range being that of the property's training values.
Prints the scores, the share of values inside 90 % ranges, and the continuous ranked probability
scores (by 200 quantiles, in standard deviations of the property's training values; the smaller, the
better), by property and by the number of connections in training; of a demo also the means and
standard deviations of models of all connections against the true ones; and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

import connprops as cp
from benchmarks import measure
from connprops import schema
from connprops.dataset.dataset import Dataset
from connprops.distributions.table import ModelTable
from connprops.errors import ConnpropsWarning

STRAY = 1e-3
SIZES = (0, 1, 2, 4, 10, 30, 100)
"""Least numbers of training connections of the classes of pathways."""

_SHARED = 0.99
"""Share of connections of several synapses from which on a property counts once a connection."""

_PROBABILITIES = (np.arange(200) + 0.5) / 200

_FEW = 2
"""Distinct values in every pathway up to which a property is not scored."""

_TARGETS_FROM = 2**40
_PATHWAY = list(schema.PATHWAY)


def synapses_of(data: Dataset) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the synapses of a dataset and its nodes, with ids that tell the sides apart."""
    apart = pl.col("target_node") + _TARGETS_FROM
    synapses = data.synapses.with_columns(pl.col(*_PATHWAY).cast(pl.String), apart).collect()
    types = data.types.select("side", "code", "synapse_class", "layer", mtype="type")
    node = pl.col("node") + pl.when(side="target").then(_TARGETS_FROM).otherwise(0)
    nodes = data.nodes.select("side", "code", "node").join(types, on=["side", "code"])
    return synapses, nodes.select(node, "mtype", "synapse_class", "layer")


def fold_of(synapses: pl.DataFrame, folds: int, seed: int) -> pl.Series:
    """Return the fold of each synapse, the same for those of a connection."""
    ends = pl.struct("source_node", "target_node")
    return synapses.select(fold=ends.rank("dense").cast(pl.Int64) - 1).select(
        fold=pl.lit(np.random.default_rng(seed).permutation(len(synapses)) % folds).gather("fold")
    )["fold"]


def truth_of(path: Path, types: pl.DataFrame, units: Mapping[str, str]) -> ModelTable:
    """Return the true distributions of a demo circuit as a model."""
    columns = schema.MODEL.polars_schema()
    table = pl.read_parquet(path).filter(pl.col("property").cast(pl.String).is_in(list(units)))
    is_count = pl.col("property") == schema.N_SYN_PER_CONN
    table = table.with_columns(
        pl.col(pl.Enum).cast(pl.String),
        level=pl.lit(-1, dtype=pl.Int8),
        within_correlation=pl.col("shared_within").cast(pl.Float64),
        dtype=pl.when(is_count).then(pl.lit("int")).otherwise(pl.lit("float")),
    )
    lacking = [pl.lit(None, dtype=pl.String if kind == pl.Enum else kind).alias(name)
               for name, kind in columns.items() if name not in table.columns]  # fmt: skip
    return ModelTable(table.with_columns(lacking).select(list(columns)), types=types, units=units)


def scores(
    models: Mapping[str, ModelTable], training: pl.DataFrame, test: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Give, by property and model, the score of each test value and whether its range holds it."""
    connection = ["source_node", "target_node"]
    known = training.unique(connection).group_by(_PATHWAY).len("n_training")
    for name in models["default"].properties:
        if models["default"].labels.get(name):
            continue
        values = [part.filter(pl.col(name).is_not_null()) for part in (training, test)]
        several = values[0].group_by(connection).agg(pl.len(), alike=pl.col(name).n_unique() == 1)
        alike = several.filter(pl.col("len") > 1)["alike"].mean()
        if name == schema.N_SYN_PER_CONN or alike is None or alike >= _SHARED:
            values = [part.unique(connection, maintain_order=True) for part in values]
        if training.group_by(_PATHWAY).agg(pl.col(name).n_unique())[name].max() <= _FEW:
            continue
        whole = models["default"].dtype(name) == "int"
        among = values[0].select(pl.col(name).max() - pl.col(name).min()).item() + whole
        spread = values[0].select(pl.col(name).cast(pl.Float64).std()).item()
        tested = values[1].select(*_PATHWAY, pl.col(name).cast(pl.Float64).alias("value"))
        tested = tested.join(known, on=_PATHWAY, how="left").with_columns(
            pl.col("n_training").fill_null(0)
        )
        for kind, model in models.items():
            for part in of_model(model, name, tested, float(among), whole=whole):
                in_stds = pl.col("crps") / spread
                yield part.with_columns(in_stds, property=pl.lit(name), model=pl.lit(kind))


def of_model(
    model: ModelTable, name: str, tested: pl.DataFrame, among: float, *, whole: bool
) -> Iterator[pl.DataFrame]:
    """Give the score of each value by a model's distribution of its pathway, family by family."""
    if name not in model.properties:
        return
    numbers = tested.with_columns(model.pathways.number_of_row.alias("number"))
    for distributions in model.distributions(name):
        places = pl.DataFrame({"number": distributions.pathway}).with_row_index("place")
        part = numbers.join(places, on="number", maintain_order="left")
        own = distributions.take(part["place"].to_numpy())
        x = part["value"].to_numpy()
        if whole:
            likelihood = np.maximum(own.cdf(x + 0.5) - own.cdf(x - 0.5), 0.0)
        elif own.family.kind == "discrete" or own.family.name == "constant":
            likelihood = np.zeros_like(x)  # single values have no density
        else:
            with np.errstate(over="ignore"):
                likelihood = np.exp(own.family.logpdf(x, own.parameters))
            likelihood[~np.isfinite(likelihood) | (x < own.lower) | (x > own.upper)] = 0.0
        low, high = (own.ppf(np.full_like(x, q)) for q in (0.05, 0.95))
        beyond = x[:, None] - own.ppf(np.tile(_PROBABILITIES, (x.size, 1)))
        crps = 2 * np.maximum(beyond * _PROBABILITIES, beyond * (_PROBABILITIES - 1)).mean(axis=1)
        yield part.select(
            *_PATHWAY, "n_training", distribution=pl.lit(own.family.name),
            whole=pl.lit(whole), score=np.log((1 - STRAY) * likelihood + STRAY / among),
            inside=(x >= low) & (x <= high), crps=crps,
        )  # fmt: skip


def folds_scored(
    data: Dataset, truth: Path | None, folds: int, seed: int, only: int
) -> pl.DataFrame:
    """Return the score of each value of the first ``only`` folds, by models of the others."""
    synapses, nodes = synapses_of(data)
    fold, properties = fold_of(synapses, folds, seed), [column.name for column in data.columns]
    kept = [*properties, "source_node", "target_node"]
    parts = []
    for number in range(min(only, folds)):
        training, test = synapses.filter(fold != number), synapses.filter(fold == number)
        with tempfile.TemporaryDirectory() as folder:
            opened = cp.open_table(
                training.select(kept), nodes, source="source_node", target="target_node",
                node_id="node", type="mtype", folder=Path(folder) / "dataset",
            )  # fmt: skip
            statistics = cp.extract(opened)
            models: dict[str, ModelTable] = {
                "unshrunk": cp.build(statistics, shrinkage=False),
                "default": cp.build(statistics),
            }
        if truth:
            models["truth"] = truth_of(truth, data.types, models["default"].units)
        scored = pl.concat(scores(models, training, test))
        parts.append(scored.with_columns(fold=pl.lit(number)))
    return pl.concat(parts)


def class_of(n: pl.Expr) -> pl.Expr:
    """Return the least number of connections of the class that numbers of them are in."""
    least = pl.lit(SIZES[0])
    for size in SIZES[1:]:
        least = pl.when(n >= size).then(size).otherwise(least)
    return least


def by(scored: pl.DataFrame, *keys: str) -> pl.DataFrame:
    """Return mean scores, and shares inside 90 % ranges, of groups of values; a column a model."""
    size = class_of(pl.col("n_training")).alias("connections")
    return (
        scored.with_columns(size)
        .group_by("model", *keys)
        .agg(pl.len().alias("values"), pl.col("score", "inside", "crps").mean())
        .pivot("model", index=[*keys, "values"], values=["score", "inside", "crps"])
        .sort(keys)
    )


def moments(data: Dataset, truth: Path, properties: Sequence[str]) -> pl.DataFrame:
    """Return means and standard deviations of a model over the true ones, by size of pathway.

    They are those of sums over pathways.
    """
    model = cp.build(cp.extract(data))
    true = truth_of(truth, data.types, model.units)
    connections = data.connections.group_by(_PATHWAY).len("n_training").collect()
    rows = []
    for name in properties:
        both = []
        for each in (model, true):
            numbers, mean, std = [], [], []
            for own in each.distributions(name):
                numbers.append(own.pathway)
                mean.append(own.family.mean(own.parameters))
                std.append(own.family.std(own.parameters))
            names = each.pathways.names_of(pl.col("number"))
            frame = {"number": numbers, "mean": mean, "std": std}
            frame = pl.DataFrame({name: np.concatenate(parts) for name, parts in frame.items()})
            both.append(frame.select(*(x.cast(pl.String) for x in names), "mean", "std"))
        rows.append(both[1].join(both[0], on=_PATHWAY, suffix="_model")
                    .with_columns(property=pl.lit(name)))  # fmt: skip
    sizes = connections.with_columns(pl.col(*_PATHWAY).cast(pl.String))
    size = class_of(pl.col("n_training").fill_null(0)).alias("connections")
    return (
        pl.concat(rows)
        .join(sizes, on=_PATHWAY, how="left")
        .group_by("property", size)
        .agg(
            pl.len().alias("pathways"),
            mean=pl.col("mean_model").sum() / pl.col("mean").sum(),
            std=pl.col("std_model").sum() / pl.col("std").sum(),
        )
        .sort("connections", "property")
    )


def main() -> None:
    """Score the folds, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heldout", description=__doc__)
    parser.add_argument("--config", help="a circuit; else a demo")
    parser.add_argument("--population")
    parser.add_argument("--synapses", type=int, default=20_000)
    parser.add_argument("--demo-seed", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, default=5, help="the first N folds")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--save", type=Path, help="Parquet file for the score of each value")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConnpropsWarning)
    pl.Config.set_tbl_rows(-1).set_tbl_cols(-1).set_tbl_width_chars(160).set_float_precision(3)
    with tempfile.TemporaryDirectory() as folder:
        work, truth, config = Path(folder), None, arguments.config
        if config is None:
            demo = cp.write_demo(
                work / "demo", synapses=arguments.synapses, seed=arguments.demo_seed
            )
            config, truth = str(demo.config), demo.truth
        data = cp.open_circuit(config, folder=work / "d", edges_popul_name=arguments.population)
        scored = folds_scored(data, truth, arguments.folds, arguments.seed, arguments.only)
        if arguments.save:
            scored.write_parquet(arguments.save)
        continuous = scored.filter(~pl.col("whole"))
        of_property = by(scored, "property")
        print(of_property, by(continuous, "connections"), sep="\n")
        if truth:
            print(moments(data, truth, scored["property"].unique().sort().to_list()))
    measured = continuous["property"].unique()
    mean = of_property.filter(pl.col("property").is_in(measured.implode())).select(
        pl.col("^score_.*$", "^crps_.*$").mean()
    )
    print(json.dumps({"benchmark": "heldout", **mean.row(0, named=True),
                      "machine": measure.machine(), "versions": measure.versions()}))  # fmt: skip


if __name__ == "__main__":
    main()
