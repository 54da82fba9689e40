"""What was published, with what the demo adds to it: tables, distributions and numbers."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import polars as pl
from scipy.special import gammainc

from connprops import schema
from connprops.arrays import Floats, Ints

GAMMA = ("conductance", "depression_time", "facilitation_time")
TRUNCNORM = ("decay_time", "u_syn")
RRP = "n_rrp_vesicles"
SPINE = "spine_length"
SPINE_MEAN, SPINE_STD = 1.2, 0.6  # µm

FEW = 3
"""Connections that a pathway keeps, and neurons that an m-type keeps, however small the model."""

_SHARE_OF_FEW = 0.25
"""Largest share of the synapses that may go into keeping small pathways."""

_NEGLIGIBLE = 1e-10
"""Probability below which a number of synapses per connection counts as impossible."""


def table(name: str) -> pl.DataFrame:
    """Read the table ``<name>.csv`` of the folder ``nmc2015``; layers are text."""
    content = (files(__package__) / "nmc2015" / f"{name}.csv").read_bytes()
    return pl.read_csv(content, comment_prefix="#", schema_overrides={"layer": pl.String})


def published_pathways() -> pl.DataFrame:
    """Return the published pathways with the parameters of all their distributions."""

    def by_class(*, onto_exc: float, onto_inh: float, inhibitory: float) -> pl.Expr:
        excitatory = pl.when(target_class="EXC").then(onto_exc).otherwise(onto_inh)
        return pl.when(source_class="EXC").then(excitatory).otherwise(inhibitory)

    classes = table("mtypes").select("mtype", target_class="synapse_class").unique()
    return (
        table("pathways")
        .rename({"n_connections": "n_published"})
        .join(table("synapse_types"), on="synapse_type")
        .rename({"synapse_class": "source_class", "synapse_type": "syn_type_id_mean"})
        .join(classes, left_on="target_type", right_on="mtype")
        .with_columns(
            **{
                f"{RRP}_mean": by_class(onto_exc=2.5, onto_inh=2.5, inhibitory=1.5),
                "conductance_scale_factor_mean": by_class(
                    onto_exc=0.8, onto_inh=0.4, inhibitory=0.0
                ),
                "u_hill_coefficient_mean": by_class(onto_exc=2.79, onto_inh=1.09, inhibitory=1.94),
                f"{SPINE}_mean": pl.lit(SPINE_MEAN),
                f"{SPINE}_std": pl.lit(SPINE_STD),
            },
            **{
                f"{name}_{edge}": (pl.col(f"{name}_mean") + sign * pl.col(f"{name}_std")).clip(0)
                for name in TRUNCNORM
                for edge, sign in (("min", -1), ("max", 1))
            },
        )
        .sort(*schema.PATHWAY)
    )


def count_distribution(mean: float, std: float) -> tuple[Ints, Floats]:
    """Return values and probabilities of the number of synapses of a connection.

    A gamma distribution, rounded, and at least 1; without spread all connections have the mean.
    """
    if std == 0:
        return np.array([round(mean)]), np.ones(1)
    value = np.arange(1, 2 + round(mean + 50 * std))
    at_most = gammainc((mean / std) ** 2, (value + 0.5) * mean / std**2)
    p = np.diff(at_most, prepend=0.0)
    possible = p > _NEGLIGIBLE
    return value[possible], p[possible] / p[possible].sum()


def apportion(n_published: Floats, n_syn: Floats, synapses: int, *, most: Ints) -> Ints:
    """Return numbers of connections in proportion to the published ones, by Webster's method.

    ``synapses`` are expected, with ``n_syn`` a connection; small pathways keep a few if cheap.
    """
    floors = (np.minimum(np.floor(n_published), few) for few in range(FEW, -1, -1))
    least = next(floor for floor in floors if floor @ n_syn <= _SHARE_OF_FEW * synapses)

    def numbers(factor: float) -> Floats:
        return np.clip(np.rint(factor * n_published), np.minimum(least, most), most)

    low, high = 0.0, 10 * synapses / float(n_published @ n_syn)
    for _ in range(60):  # halvings: beyond the digits of a double
        middle = (low + high) / 2
        if numbers(middle) @ n_syn < synapses:
            low = middle
        else:
            high = middle
    return numbers(high).astype(np.int64)
