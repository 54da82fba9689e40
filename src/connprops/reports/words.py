"""What a report says in words: what the circuit is, how it connects, what is unusual in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from connprops.charts.fits import ENOUGH
from connprops.charts.maps import MISFIT_OF_A_FIT
from connprops.families.goodness import TESTED_FROM
from connprops.schema import Property

_CLASSES = ("source_class", "target_class")
_FAR = 4.0
"""Standard errors from which on a mean stands out among so many pathways."""

_NAMED = 3
CAVEAT = (
    "Probabilities are of the neurons that are here. If these were cut out of a larger circuit, "
    "those near the cut have lost partners, and the whole circuit has other probabilities."
)
_STRENGTHS = ("conductance", "weight", "syn_weight", "cleft_size")
"""Properties that say how strong a synapse is, the first that is there."""


def words_of(
    tables: Mapping[str, pl.DataFrame], types: pl.DataFrame, properties: Sequence[Property]
) -> list[str]:
    """Return some sentences on a circuit and its model, from the tables of a report."""
    return [
        _what_it_is(tables["pathways"], types),
        _families(tables["model"], tables["fits"], properties),
        *_unusual(tables, properties),
        *_poor(tables["fits"]),
    ]


def class_rows(
    tables: Mapping[str, pl.DataFrame], types: pl.DataFrame, properties: Sequence[Property]
) -> dict[str, Any] | None:
    """Return how likely and how strong connections are between classes; None without classes."""
    pathways = tables["pathways"].drop_nulls(_CLASSES)
    if pathways.is_empty():
        return None
    nodes = types.with_columns(pl.col("synapse_class").cast(pl.String)).group_by(
        "side", "synapse_class"
    ).agg(pl.col("n_nodes").sum())  # fmt: skip
    sizes = {(side, name): n for side, name, n in nodes.iter_rows()}
    strength = next((of for name in _STRENGTHS for of in properties if of.name == name), None)
    means = _class_means(tables, strength.name) if strength else {}
    pairs = pathways.group_by(_CLASSES).agg(pl.col("n_connections", "n_synapses").sum())
    rows = []
    in_order = pairs.sort(-pl.col("n_connections").cast(pl.Int64), *_CLASSES)
    for source, target, n, n_synapses in in_order.iter_rows():
        possible = (sizes.get(("source", source)) or 0) * (sizes.get(("target", target)) or 0)
        row = [f"{source} → {target}", n, n / possible if possible else None, n_synapses / n]
        rows.append([*row, means.get((source, target))] if strength else row)
    heads = ["classes", "connections", "probability", "synapses each"]
    if strength:
        unit = f" ({strength.unit})" if strength.unit else ""
        heads.append(f"mean {strength.name}{unit}")
    return {"heads": heads, "rows": rows, "caveat": CAVEAT}


def _class_means(tables: Mapping[str, pl.DataFrame], name: str) -> dict[tuple[str, str], float]:
    """Return the mean of a property in the connections of each pair of classes."""
    rows = tables["statistics"].filter(pl.col("property") == name)
    classes = tables["pathways"].select("pathway", *_CLASSES)
    rows = rows.join(classes, on="pathway", maintain_order="left")
    mean = (pl.col("mean") * pl.col("n")).sum() / pl.col("n").sum()
    by_class = rows.group_by(_CLASSES).agg(mean)
    return {(source, target): value for source, target, value in by_class.iter_rows()}


def _what_it_is(pathways: pl.DataFrame, types: pl.DataFrame) -> str:
    n, n_synapses = (int(pathways[f"n_{what}"].sum()) for what in ("connections", "synapses"))
    sides = [types.filter(pl.col("side") == side) for side in ("source", "target")]
    nodes = [int(side["n_nodes"].sum()) for side in sides]
    if not n:
        return "There are no connections."
    if nodes[0] == nodes[1] and sides[0]["type"].to_list() == sides[1]["type"].to_list():
        of = f"{nodes[0]:,} neurons of {_count(len(sides[0]), 'type')}"
    else:
        of = (f"{nodes[0]:,} source neurons of {_count(len(sides[0]), 'type')} and "
              f"{nodes[1]:,} target neurons of {_count(len(sides[1]), 'type')}")  # fmt: skip
    possible = len(sides[0]) * len(sides[1])
    per = n_synapses / n
    return (
        f"{of} with {_count(n, 'connection')}, which have {_count(n_synapses, 'synapse')}, "
        f"{per:.3g} each on average. {len(pathways):,} of {possible:,} pathways are connected; the "
        "others borrow their model from similar ones."
    )


def _families(model: pl.DataFrame, fits: pl.DataFrame, properties: Sequence[Property]) -> str:
    used: dict[str, list[str]] = {}
    for of in properties:
        rows = model.filter(pl.col("property") == of.name)["distribution"]
        if len(rows):
            used.setdefault(str(rows.mode().sort()[0]), []).append(of.name)
    told = "; ".join(f"{family} for {_and(names)}" for family, names in used.items())
    few = fits.filter(pl.col("level") < 0, pl.col("n") < ENOUGH).select("pathway").n_unique()
    own = fits.filter(pl.col("level") < 0).select("pathway").n_unique()
    rest = (
        f" {few:,} of {own:,} pathways with data have fewer than {ENOUGH} values of some "
        "property: their parameters lean on those of similar pathways."
        if few
        else ""
    )
    return f"Distributions: {told}.{rest}" if told else "There is no model."


def _unusual(tables: Mapping[str, pl.DataFrame], properties: Sequence[Property]) -> Iterator[str]:
    """Yield the pathways whose means are furthest from those of their classes."""
    pathways = tables["pathways"].select("pathway", *_CLASSES)
    units = {of.name: of.unit for of in properties if not of.labels}
    n_others = pl.col("all") - pl.col("n")
    rows = (
        tables["statistics"]
        .filter(pl.col("property").is_in(list(units)), pl.col("n") >= ENOUGH)
        .join(pathways, on="pathway", how="left", maintain_order="left")
        .with_columns(
            total=(pl.col("mean") * pl.col("n")).sum().over("property", *_CLASSES),
            all=pl.col("n").sum().over("property", *_CLASSES),
        )
        .filter(n_others > 0)
        # The others of its classes, without itself; errors of both means, by its own spread.
        .with_columns(
            others=(pl.col("total") - pl.col("mean") * pl.col("n")) / n_others,
            error=pl.col("std") * (1 / pl.col("n") + 1 / n_others).sqrt(),
        )
        .with_columns(z=(pl.col("mean") - pl.col("others")) / pl.col("error"))
        .filter(pl.col("z").is_finite(), pl.col("z").abs() > _FAR)
        .sort(-pl.col("z").abs(), "property", "pathway")
    )
    if rows.is_empty():
        yield (
            f"No pathway's mean stands out from the others of its classes by more than {_FAR:g} "
            "standard errors."
        )
        return
    named = "; ".join(
        f"{row['property']} of {row['source_type']} → {row['target_type']}, "
        f"{_with_unit(row['mean'], units[row['property']])} where the others have "
        f"{_with_unit(row['others'], units[row['property']])}"
        for row in rows.head(_NAMED).iter_rows(named=True)
    )
    yield (
        f"{_count(len(rows), 'mean')} of pathways "
        f"{'stands' if len(rows) == 1 else 'stand'} out from the others of the same classes, by "
        f"more than {_FAR:g} standard errors. Furthest: {named}."
    )


def _poor(fits: pl.DataFrame) -> Iterator[str]:
    """Yield what is poorly fitted: what the model says is rejected, as the tables count it."""
    tested = pl.col("n") >= TESTED_FROM
    rows = fits.filter(pl.col("level") < 0, tested, pl.col("ks").is_not_null())
    if rows.is_empty():
        return
    poor = rows.filter(pl.col("status") == "rejected")
    if poor.is_empty():
        yield (
            f"None of {_count(len(rows), 'fit')} to {TESTED_FROM} values or more is further from "
            "its data than chance explains at 1 %."
        )
        return
    counts = poor.group_by("property").len().sort("len", "property", descending=[True, False])
    told = ", ".join(f"{name} ({n:,})" for name, n in counts.head(_NAMED).iter_rows())
    worst = poor.sort(MISFIT_OF_A_FIT, descending=True).row(0, named=True)
    yield (
        f"{len(poor):,} of {_count(len(rows), 'fit')} to {TESTED_FROM} values or more "
        f"{'is' if len(poor) == 1 else 'are'} further from the data than chance explains at 1 %: "
        f"{told}. Worst: {worst['property']} of {worst['source_type']} → {worst['target_type']}, "
        f"a KS distance of {worst['ks']:.2g} with {worst['n']:,} values."
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _with_unit(value: float, unit: str) -> str:
    return f"{value:.3g}{'' if unit in ('', '1') else ' ' + unit}"
