"""A circuit against the recipe that made it: ``python -m benchmarks.recipe CONFIG RECIPE``.

Blue Brain's functionalizer draws the properties of each connection from distributions whose means
and standard deviations the recipe gives, by synapse class. So the truth of every pathway is known.
Prints a table, fits by maximum likelihood beside connectome-manipulator's, and a line of JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats as scipy_stats

import connprops as cp
from connprops.circuit.circuit import resolve_circuit
from connprops.export.export import export
from connprops.families.registry import family_named
from connprops.families.sample import Sample
from connprops.statistics.statistics import Statistics

Floats = NDArray[np.float64]

FAMILIES = {
    "conductance": "gamma",
    "depression_time": "gamma",
    "facilitation_time": "gamma",
    "u_syn": "truncnorm",
    "decay_time": "truncnorm",
}
"""The recipe's distributions: gamma, and normal ones cut one standard deviation
to either side, and at 0."""

LEAST = 20
"""Pathways with fewer connections are left out."""

_LEVEL = 0.05
_BOOTSTRAP = 199
_COVERED = 1.959963984540054  # standard errors to either side of a 95 % interval


def truths(recipe: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the parameters by class of the source neurons, property and name."""
    content = recipe["synapse_properties"]
    by_class = {entry["class"]: entry for entry in content["classes"]}
    of_source = {rule["src_synapse_class"]: rule["class"] for rule in content["rules"]}
    names = {"gamma": ("mean", "std"), "truncnorm": ("norm_loc", "norm_scale")}
    return {
        source: {
            prop: {
                name: by_class[synapse_class][f"{prop}_{moment}"]
                for name, moment in zip(names[family], ("mu", "sd"), strict=True)
            }
            for prop, family in FAMILIES.items()
        }
        for source, synapse_class in of_source.items()
    }


def fitted_pathways(stats: Statistics, model: cp.Model) -> pl.DataFrame:
    """Return one row per pathway and property: its values, its distribution, both deviations."""
    own = pl.col("level") == -1
    keys = ["source_type", "target_type", "property"]
    text = [pl.col(key).cast(pl.String) for key in keys]
    known = pl.col("property").is_in(list(FAMILIES))
    parameters = (
        model.table.filter(own)
        .with_columns(text)
        .group_by(keys)
        .agg(pl.col("parameter").cast(pl.String), "value", "std_error")
    )
    values = stats.order_statistics.select(*text, pl.col("value").alias("sample")).collect()
    classes = stats.types.filter(pl.col("side") == "source").select(
        pl.col("type").alias("source_type"), pl.col("synapse_class").alias("source_class")
    )
    return (
        model.fits.filter(
            own & (pl.col("n") >= LEAST) & (pl.col("status").is_in(["ok", "rejected"]))
        )
        .with_columns(text)
        .filter(known)
        .select(*keys, "n", "ks", "model_std", "data_std")
        .join(parameters, on=keys)
        .join(values, on=keys)
        .join(classes, on="source_type")
        .sort(keys)
    )


def frozen(family: str, distribution: Mapping[str, float]) -> Any:
    """Return a distribution as scipy has it."""
    if family == "gamma":
        mean, std = distribution["mean"], distribution["std"]
        return scipy_stats.gamma((mean / std) ** 2, scale=std**2 / mean)
    loc, scale = distribution["norm_loc"], distribution["norm_scale"]
    ends = ((distribution[end] - loc) / scale for end in ("min", "max"))
    return scipy_stats.truncnorm(*ends, loc, scale)


def ks_distance(values: Floats, distribution: Any) -> Floats:
    """Return the Kolmogorov-Smirnov distances of samples, (g, n), and distributions."""
    x = np.sort(values, axis=1)
    n = x.shape[1]
    upto = distribution.cdf(x)
    above, below = np.arange(1, n + 1) / n - upto, upto - np.arange(n) / n
    return np.maximum(above, below).max(axis=1)


def bootstrap_p_value(
    family: str, values: Floats, distribution: Mapping[str, float], times: int, seed: int
) -> float:
    """Return the p-value of a sample's distance from its distribution, by simulated samples."""
    own = frozen(family, distribution)
    rng = np.random.default_rng(seed)
    drawn = own.rvs(size=(times, values.size), random_state=rng)
    fitted = family_named(family).fit(Sample.from_values(list(drawn))).parameters
    distances = ks_distance(
        drawn, frozen(family, {name: value[:, None] for name, value in fitted.items()})
    )
    return float((1 + np.sum(distances >= ks_distance(values[None], own)[0])) / (1 + times))


def compared(
    pathways: pl.DataFrame,
    truth: Mapping[str, Mapping[str, Mapping[str, float]]],
    times: int,
) -> pl.DataFrame:
    """Return, for each pathway and property, the p-value and how many errors parameters are off.

    The p-value comes from that many simulated samples; there is none for 0.
    """
    rows = []
    for number, row in enumerate(pathways.iter_rows(named=True)):
        family = FAMILIES[row["property"]]
        distribution = dict(zip(row["parameter"], row["value"], strict=True))
        errors = dict(zip(row["parameter"], row["std_error"], strict=True))
        values = np.array(row["sample"])
        result: dict[str, Any] = {name: row[name] for name in ("property", "n")}
        result["ratio"] = row["model_std"] / row["data_std"]
        result["rejected"] = bool(
            scipy_stats.kstest(values, frozen(family, distribution).cdf).pvalue < _LEVEL
        )
        result["p_value"] = (
            bootstrap_p_value(family, values, distribution, times, number) if times else None
        )
        true = truth[row["source_class"]][row["property"]]
        estimated = [name for name in true if errors[name]]
        result["z"] = [(distribution[name] - true[name]) / errors[name] for name in estimated]
        rows.append(result)
    return pl.DataFrame(rows, schema_overrides={"z": pl.List(pl.Float64), "p_value": pl.Float64})


def summary(rows: pl.DataFrame) -> pl.DataFrame:
    """Return one row per property."""
    z = pl.col("z").explode(empty_as_null=False).abs()
    return rows.group_by("property").agg(
        pl.len().alias("pathways"),
        pl.col("ratio").median(),
        pl.col("rejected").cast(pl.Boolean).sum(),
        (pl.col("p_value") <= _LEVEL).sum().alias("bootstrap"),
        pl.col("p_value").count().alias("tested"),
        (z < _COVERED).sum().alias("covered"),
        z.len().alias("intervals"),
    ).sort("property")  # fmt: skip


def main() -> None:
    """Read the command line, fit both ways, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("recipe", type=Path)
    arguments = parser.parse_args()
    truth = truths(json.loads(arguments.recipe.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        dataset = export(resolve_circuit(arguments.config), Path(folder) / "dataset")
        stats = cp.extract(cp.open_dataset(dataset))
        auto = cp.build(stats).scores.filter("chosen")
        ours, theirs = (
            summary(compared(fitted_pathways(stats, model), truth, times))
            for model, times in (
                (cp.build(stats, distr_types=FAMILIES, shrinkage=False, **options), times)
                for options, times in (({}, _BOOTSTRAP), ({"truncnorm": "histogram"}, 0))
            )
        )
    chosen = {str(row["property"]): str(row["distribution"]) for row in auto.to_dicts()}
    print(
        "| property | distribution | chosen by itself | pathways "
        "| model std / data std: ours, reference's "
        "| KS rejects at 5 %: ours, reference's | by bootstrap, ours | truth inside 95 % intervals "
        "|\n|---|---|---|---|---|---|---|---|"
    )
    for a, b in zip(ours.to_dicts(), theirs.to_dicts(), strict=True):
        print(
            f"| {a['property']} | {FAMILIES[a['property']]} | {chosen[a['property']]} "
            f"| {a['pathways']} | {a['ratio']:.3f}, {b['ratio']:.3f} "
            f"| {a['rejected']}, {b['rejected']} | {a['bootstrap']} of {a['tested']} "
            f"| {a['covered']} of {a['intervals']} |"
        )
    print(json.dumps({"benchmark": "recipe", "ours": ours.to_dicts(), "theirs": theirs.to_dicts()}))


if __name__ == "__main__":
    main()
