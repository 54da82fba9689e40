"""Which columns of tables are the ends, ids, types and counts, where nobody has said so."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

from connprops.errors import ConnpropsWarning, OptionError, listing

ENDS = (
    ("pre_pt_root_id", "post_pt_root_id"), ("pre_root_id", "post_root_id"),
    ("bodyId_pre", "bodyId_post"), ("body_pre", "body_post"),
    ("source_node_id", "target_node_id"), ("source_node", "target_node"),
    ("source_id", "target_id"), ("source", "target"), ("pre_id", "post_id"),
    ("pre_gid", "post_gid"), ("pre_neuron_id", "post_neuron_id"),
    ("pre_cell_id", "post_cell_id"), ("pre", "post"),
)  # fmt: skip
"""Names of the columns of ids, of the source and of the target."""

_ENDS_OF_TYPES = (
    ("source_type", "target_type"), ("pre_type", "post_type"), ("type_pre", "type_post"),
    ("pre_cell_type", "post_cell_type"), ("cell_type_pre", "cell_type_post"),
)  # fmt: skip
_TYPES = ("mtype", "cell_type", "type", "primary_type", "celltype", "neuron_type")
_IDS = (
    "node_id", "pt_root_id", "root_id", "bodyId", "body", "cell_id", "neuron_id", "node", "id",
    "gid",
)  # fmt: skip
_COUNTS = ("nsyns", "syn_count", "synapse_count", "n_synapses")

_SIDES = ("pre_", "_pre", "source_")
"""What the name of a source column has before or behind the name of its nodes' column."""


def known(name: str, names: Sequence[str], option: str, table: str) -> str:
    """Return a column that an option names, and that must be there."""
    if name not in names:
        raise OptionError.unknown(f"column of the {table} ({option}=)", name, names)
    return name


def ends(source: str | None, target: str | None, names: Sequence[str]) -> tuple[str, str]:
    """Return the columns of the ids of both ends, as given or as their names say."""
    pairs = [
        (a, b) for a, b in _present(ENDS, names) if source in (None, a) and target in (None, b)
    ]
    if source is not None and target is not None:
        pairs = [(source, target)]
    if len(pairs) != 1:
        raise OptionError.of(
            "Which columns of the edges name the nodes of both ends?",
            found=listing(" and ".join(pair) for pair in pairs) if pairs else listing(names),
            hint="give --source and --target (source=, target=)",
        )
    for option, name in zip(("source", "target"), pairs[0], strict=True):
        known(name, names, option, "edges")
    if source is None or target is None:
        _say(f"the ends of the edges are taken from the columns {listing(pairs[0])}", "source")
    return pairs[0]


def node_id(asked: str | None, names: Sequence[str], source: str) -> str:
    """Return the column of the nodes' ids."""
    if asked is not None:
        return known(asked, names, "node_id", "nodes")
    of_source = [source.replace(side, "") for side in _SIDES if side in source]
    named = [name for name in (*of_source, source) if name in names][:1] or [
        name for name in names if name in _IDS or not name.removeprefix("column").strip("0")
    ]
    if len(named) != 1:
        raise OptionError.of(
            "Which column of the nodes has their ids?",
            found=listing(named or names), hint="give --node-id (node_id=)",
        )  # fmt: skip
    _say(f"the ids of the nodes are taken from the column {named[0]!r}", "node-id")
    return named[0]


def type_of_nodes(names: Sequence[str]) -> str | None:
    """Return the column of the nodes' types where their name says so; None without."""
    named = [name for name in _TYPES if name in names]
    if len(named) != 1:
        return None
    _say(f"types are taken from the column {named[0]!r}", "type")
    return named[0]


def types_of_edges(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the columns of both ends' types in a table of edges; None without."""
    pairs = _present(_ENDS_OF_TYPES, names)
    if len(pairs) != 1:
        return None
    _say(f"types are taken from the columns {listing(pairs[0])}", "source-type")
    return pairs[0]


def count(asked: str | None, names: Sequence[str]) -> str | None:
    """Return the column of the number of synapses that a row stands for; None for one each."""
    if asked is not None:
        return known(asked, names, "count", "edges")
    named = [name for name in _COUNTS if name in names]
    if len(named) != 1:
        return None
    _say(f"a row stands for as many synapses as its column {named[0]!r} says", "count")
    return named[0]


def _present(pairs: Iterable[tuple[str, str]], names: Sequence[str]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if {*pair} <= {*names}]


def _say(what: str, option: str) -> None:
    warnings.warn(f"{what} (else: --{option})", ConnpropsWarning, stacklevel=2)
