"""What a skilled user would write without connprops: the same statistics, in Polars or DuckDB.

For each pathway and property: n, mean, standard deviation, extremes, five quantiles, number of
distinct values, and in two of the three scripts a histogram of 51 bins; over connections where
these share the property, else over synapses. All read the HDF5 columns with h5py and hold them in
memory.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import h5py
import numpy as np
import polars as pl

PATHWAY = ["source_type", "target_type"]
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}
BINS = 51


def read(config: Path, properties: list[str]) -> pl.DataFrame:
    """Return one row per synapse: its ends, their types, and the properties."""
    networks = json.loads(config.read_text(encoding="utf-8"))["networks"]

    def opened(kind: str) -> h5py.File:
        return h5py.File(
            config.parent / networks[kind][0][f"{kind}_file"].replace("$BASE_DIR/", "")
        )

    with opened("nodes") as file:
        (nodes,) = file["nodes"].values()
        codes = nodes["0/mtype"][:]
        library = nodes.get("0/@library/mtype")
        mtype = library.asstr()[:][codes] if library is not None else codes.astype(str)
    types = pl.Series(mtype, dtype=pl.Categorical)
    with opened("edges") as file:
        (edges,) = file["edges"].values()
        ends = {side: edges[f"{side}_node_id"][:].astype(np.int32) for side in ("source", "target")}
        columns = {name: edges[f"0/{name}"][:] for name in properties}
    return pl.DataFrame(
        {
            "source_node": ends["source"],
            "target_node": ends["target"],
            "source_type": types.gather(ends["source"]),
            "target_type": types.gather(ends["target"]),
            **columns,
        }
    )


def with_polars(config: Path, properties: list[str]) -> pl.DataFrame:
    """Return the statistics, by Polars; histograms are counted and dropped."""
    synapses = read(config, properties)
    connections = synapses.group_by("source_node", "target_node").agg(
        pl.col(PATHWAY).first(),
        pl.len().alias("n_syn_per_conn"),
        pl.col(properties).first(),
        *(
            (pl.col(name).min() == pl.col(name).max()).alias(f"{name}_shared")
            for name in properties
        ),
    )
    shared = connections.group_by(PATHWAY).agg(
        pl.col([f"{name}_shared" for name in properties]).all()
    )
    tables = []
    for name in [*properties, "n_syn_per_conn"]:
        values = connections.select(*PATHWAY, pl.col(name).alias("value"))
        if name != "n_syn_per_conn" and not shared[f"{name}_shared"].all():
            varying = shared.filter(~pl.col(f"{name}_shared")).select(PATHWAY)
            values = pl.concat([
                values.join(varying, on=PATHWAY, how="anti"),
                synapses.select(*PATHWAY, pl.col(name).alias("value")).join(
                    varying, on=PATHWAY, how="semi"),
            ])  # fmt: skip
        x = pl.col("value").cast(pl.Float64)
        statistics = values.group_by(PATHWAY).agg(
            pl.lit(name).alias("property"),
            pl.len().alias("n"),
            x.mean().alias("mean"),
            x.std(ddof=0).alias("std"),
            x.min().alias("min"),
            x.max().alias("max"),
            *(x.quantile(q, "linear").alias(label) for label, q in QUANTILES.items()),
            pl.col("value").n_unique().alias("n_unique"),
        )
        binned = values.join(statistics.select(*PATHWAY, "min", "max"), on=PATHWAY).with_columns(
            ((x - pl.col("min")) / (pl.col("max") - pl.col("min")) * BINS)
            .floor().clip(0, BINS - 1).fill_nan(0).cast(pl.Int32).alias("bin")
        )  # fmt: skip
        binned.group_by(*PATHWAY, "bin").len()
        tables.append(statistics)
    return pl.concat(tables)


def with_one_group_by(config: Path, properties: list[str]) -> pl.DataFrame:
    """Return the statistics that one group-by of Polars gives: all but histograms.

    Who writes it knows the circuit: connections lie together in the file, share all properties, and
    are not to be counted.
    """
    synapses = read(config, properties)
    ends = pl.col("source_node"), pl.col("target_node")
    first = pl.any_horizontal(end != end.shift(fill_value=-1) for end in ends)
    x = pl.all().exclude(*PATHWAY, "source_node", "target_node").cast(pl.Float64)
    found = {"mean": x.mean(), "std": x.std(ddof=0), "min": x.min(), "max": x.max(),
             "n_unique": x.n_unique(),
             **{label: x.quantile(q, "linear") for label, q in QUANTILES.items()}}  # fmt: skip
    wide = synapses.lazy().filter(first).group_by(PATHWAY).agg(
        pl.len().alias("n"), *(one.name.suffix(f":{label}") for label, one in found.items())
    ).collect()  # fmt: skip
    return pl.concat(
        wide.select(*PATHWAY, "n", pl.lit(name).alias("property"),
                    *(pl.col(f"{name}:{label}").alias(label) for label in found))
        for name in properties
    )  # fmt: skip


def with_duckdb(config: Path, properties: list[str]) -> pl.DataFrame:
    """Return the statistics, by DuckDB; histograms are counted and dropped."""
    synapses = read(config, properties).with_columns(pl.col(PATHWAY).cast(pl.String)).to_arrow()
    with duckdb.connect() as connection:
        connection.register("raw", synapses)
        pathway_type = "source_type, target_type"
        connection.execute(f"""
            create temp table connections as
            select source_node, target_node, any_value(source_type) as source_type,
                any_value(target_type) as target_type, count(*) as n_syn_per_conn,
                {
            ", ".join(
                f'any_value("{p}") as "{p}", min("{p}") = max("{p}") as "{p}_shared"'
                for p in properties
            )
        }
            from raw group by source_node, target_node""")
        tables = []
        for name in [*properties, "n_syn_per_conn"]:
            if name == "n_syn_per_conn":
                values = f"select {pathway_type}, n_syn_per_conn as value from connections"
            else:
                values = f"""
                    with shared as (select {pathway_type}, bool_and("{name}_shared") as shared
                                    from connections group by all)
                    select {pathway_type}, "{name}" as value from connections
                    join shared using ({pathway_type}) where shared
                    union all
                    select {pathway_type}, "{name}" as value from raw
                    join shared using ({pathway_type}) where not shared"""
            connection.execute(f"create or replace temp table samples as {values}")
            statistics = connection.sql(f"""
                select {pathway_type}, '{name}' as property, count(*) as n, avg(value) as mean,
                    stddev_pop(value) as std, min(value)::double as min, max(value)::double as max,
                    quantile_cont(value::double, {list(QUANTILES.values())}) as q,
                    count(distinct value) as n_unique
                from samples group by all""").pl()
            connection.execute(f"""
                create or replace temp table binned as
                with extremes as (select {pathway_type}, min(value)::double as low,
                                         max(value)::double as high from samples group by all)
                select {pathway_type}, least({BINS - 1}, coalesce(floor(
                    (value - low) / nullif(high - low, 0) * {BINS}), 0)) as bin, count(*) as n
                from samples join extremes using ({pathway_type}) group by all""")
            tables.append(statistics.with_columns(
                pl.col("q").list.get(i).alias(label) for i, label in enumerate(QUANTILES)
            ).drop("q"))  # fmt: skip
    return pl.concat(tables)


def disagreement(ours: pl.DataFrame, theirs: pl.DataFrame) -> float:
    """Return the largest difference of two tables of statistics, relative to the larger number.

    They are compared in the properties that both have.

    Raises
    ------
    RuntimeError
        Where rows or counts differ.
    """
    keys = [*PATHWAY, "property"]
    text: list[Any] = [pl.col(key).cast(pl.String) for key in keys]
    ours = ours.with_columns(text).filter(
        pl.col("property").is_in(theirs["property"].cast(pl.String).unique().to_list())
    )
    both = ours.join(theirs.with_columns(text), on=keys, suffix="_theirs")
    # A constant counts once per synapse in ours (see docs/numbers.md).
    varied = both.filter(pl.col("n_unique") > 1)
    counts = varied.filter(pl.col("n") != pl.col("n_theirs"))
    if len(both) != len(ours) or len(counts):
        message = f"{len(both)} of {len(ours)} rows in common, {len(counts)} with other counts"
        raise RuntimeError(message)
    worst = 0.0
    for name in ("mean", "std", "min", "max", *QUANTILES):
        a, b = both[name].to_numpy(), both[f"{name}_theirs"].to_numpy()
        scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)
        worst = max(
            worst, float((np.abs(a - b) / scale)[both["n_unique"].to_numpy() > 1].max(initial=0))
        )
    return worst
