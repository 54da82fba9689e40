"""The types of the nodes: how nodes are grouped, and the small tables that say so."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Ints
from connprops.errors import ConnpropsWarning, OptionError, listing
from connprops.sources.source import Network, SourceEdges

BY_POPULATION = "@population"
"""Grouping that makes one type of a whole node population, named after it."""

BY_NODE = "@node"
"""Grouping that makes each node a type of its own."""

ID = "@id"
"""Attribute of nodes that the input names by other ids than their numbers."""

NONE = "(none)"
"""The type of nodes whose type is not known."""

TYPE = "@type"
"""Column of grouped nodes that has their type."""

_NAMED = 5
"""Types that a warning names."""


@dataclass(frozen=True)
class Side:
    """The nodes of one side, with the type of each, and the types in order."""

    by: str
    nodes: pl.DataFrame
    types: pl.DataFrame


def group_nodes(
    nodes: pl.DataFrame,
    population: str,
    by: str,
    side: str,
    *,
    report: bool = True,
    untyped: str | None = None,
) -> Side:
    """Group the nodes of one side by an attribute, ``"@population"`` or ``"@node"``.

    ``nodes`` has a row per node: ``node``, its id, and its attributes. Where nodes have no
    ``mtype``, grouping by it falls back to one group, with a warning. ``report`` also warns of
    types that span several classes or layers. With ``untyped="leave-out"``, nodes without a type
    are no nodes.
    """
    has_none = by == "mtype" and by not in nodes.columns
    if has_none:
        warnings.warn(
            f"node population {population!r} has no attribute {by!r}: "
            f"all its nodes form one {side} type, {population!r}",
            ConnpropsWarning,
            stacklevel=3,
        )
    if (by == BY_POPULATION or has_none) and BY_POPULATION in nodes.columns:  # of several
        values = nodes[BY_POPULATION]
    elif by == BY_POPULATION or has_none:
        values = pl.repeat(population, len(nodes), eager=True)
    elif by == BY_NODE:
        values = nodes[ID if ID in nodes.columns else "node"]
        if values.dtype.is_integer():  # zeros in front, so that names sort as the numbers do
            width = len(str(values.to_numpy().max(initial=-1) + 1))
            values = values.cast(pl.String).str.zfill(width)
    elif by in nodes.columns:
        values = nodes[by].cast(pl.String)
    else:
        raise OptionError.unknown(
            f"attribute of node population {population!r}",
            by,
            [name for name in nodes.columns if name not in ("node", ID, BY_POPULATION)],
            hint=f"give --{side}-type one of these, or {BY_POPULATION}",
        )
    nodes = nodes.with_columns(values.alias(TYPE))
    if untyped == "leave-out":
        nodes = nodes.filter(pl.col(TYPE).is_not_null())
    nodes = nodes.with_columns(pl.col(TYPE).fill_null(NONE))
    types = nodes.group_by(type=TYPE).len("n_nodes").sort("type").with_row_index("code")
    for attribute in ("synapse_class", "layer"):
        majority = _majority(nodes, attribute, population if report else None)
        types = types.join(majority, on="type", how="left")
    types = schema.TYPES.conform(types.with_columns(side=pl.lit(side)), {})
    codes = types.select("code", pl.col("type").alias(TYPE))
    return Side(by, nodes.join(codes, on=TYPE).sort("node"), types)


def _majority(nodes: pl.DataFrame, attribute: str, population: str | None) -> pl.DataFrame:
    """Return, for each type, the attribute's value of most of its nodes (first in a tie).

    Types that have several are warned of, unless ``population`` is None.
    """
    if attribute not in nodes.columns:
        return pl.DataFrame(schema={"type": pl.String, attribute: pl.String})
    counts = (
        nodes.select(pl.col(TYPE).alias("type"), pl.col(attribute).cast(pl.String))
        .drop_nulls()
        .group_by("type", attribute)
        .len()
        .sort(["type", "len", attribute], descending=[False, True, False])
    )
    several = counts.group_by("type").len().filter(pl.col("len") > 1).sort("type")
    # One type of all nodes spans whatever they do.
    if population is not None and len(several) and nodes[TYPE].n_unique() > 1:
        warnings.warn(
            f"types of {population!r} span several values of {attribute!r} "
            f"({listing(several['type'], _NAMED)}): each takes that of most of its nodes",
            ConnpropsWarning,
            stacklevel=4,
        )
    return counts.group_by("type", maintain_order=True).first().select("type", attribute)


def node_sets_of(network: Network, edges: SourceEdges) -> pl.DataFrame:
    """Return the node sets of both sides: side, node_set, and ids as ranges start to stop."""
    of_population = {
        population: network.node_sets(population) for population in {edges.source, edges.target}
    }
    sets = [
        (side, name, *_ranges(ids))
        for side, population in (("source", edges.source), ("target", edges.target))
        for name, ids in of_population[population].items()
    ]
    sides, names, starts, stops = zip(*sets, strict=True) if sets else ((), (), (), ())
    sizes = np.array([start.size for start in starts], dtype=np.int64)
    rows = np.repeat(np.arange(len(sets)), sizes)
    texts = [pl.Series("side", sides, pl.String), pl.Series("node_set", names, pl.String)]
    none = np.empty(0, np.int64)
    return pl.DataFrame([
        *(text.gather(rows) for text in texts),
        pl.Series("start", np.concatenate([none, *starts])),
        pl.Series("stop", np.concatenate([none, *stops])),
    ])  # fmt: skip


def node_set(network: Network, population: Any, name: str) -> Ints:
    """Return the ids of one node set among the nodes of a side."""
    sets = network.node_sets(population)
    if name not in sets:
        raise OptionError.unknown("node set", name, sets)
    return sets[name]


def node_tables(sides: Mapping[str, Side], node_sets: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return the tables types, nodes and node_sets of a dataset."""
    nodes = [
        side.nodes.drop(TYPE).select(
            pl.lit(name).alias("side"), "node", "code", pl.exclude("node", "code")
        )
        for name, side in sides.items()
    ]
    return {
        "types": pl.concat([side.types for side in sides.values()]),
        "nodes": pl.concat(nodes, how="diagonal_relaxed"),
        "node_sets": node_sets,
    }


def _ranges(ids: Ints) -> tuple[Ints, Ints]:
    """Return sorted ids as half-open ranges; an empty set as one empty range, to keep its name."""
    if not ids.size:
        return np.zeros(1, np.int64), np.zeros(1, np.int64)
    cuts = np.flatnonzero(np.diff(ids) != 1) + 1
    return ids[np.append(0, cuts)], ids[np.append(cuts - 1, -1)] + 1
