"""Node sets: the nodes that a circuit has names for, by rules about their attributes.

A rule is an object, whose clauses must all hold, or a list of other node sets, which are joined::

    {"L5_PC": {"mtype": ["L5_TPC", "L5_UPC"]}, "deep": {"y": {"$lt": 500}, "population": "All"},
     "L5": ["L5_PC", "L5_BC"]}

The rules are libsonata's, which is not asked: it believes what a damaged file says until the
process dies of it, and writes to standard error what it stumbles over.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.errors import CircuitError, listing

_COMPARISONS: dict[str, Callable[[Any, float], Any]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip
_PATTERN = "$regex"
_LARGEST = 2**63 - 1

Rules = Mapping[str, Any]
"""The rule of each node set by its name; those that a list names come before it."""


def read_node_sets(file: Path) -> Rules:
    """Return the rules of a file of node sets. Empty objects are no node sets.

    Raises
    ------
    CircuitError
        Where it cannot be read, or a rule in it not be understood.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        json.dumps(content, ensure_ascii=False).encode()  # half a character is no name
    except (OSError, ValueError, RecursionError) as error:
        raise CircuitError.of(
            f"{file} cannot be read as node sets", found=str(error), expected="JSON"
        ) from error
    if not isinstance(content, dict):
        raise CircuitError.of(
            f"{file} cannot be read as node sets", found=_short(content), expected="an object"
        )
    rules = {name: rule for name, rule in content.items() if rule != {}}
    for name, rule in rules.items():
        place = f"{file}: node set {name!r}"
        if isinstance(rule, dict):
            for attribute, value in rule.items():
                _check_clause(attribute, value, f"{place}, {attribute!r}")
        elif not isinstance(rule, list) or not all(isinstance(other, str) for other in rule):
            raise CircuitError.of(
                f"{place} cannot be understood", found=_short(rule),
                expected="an object of clauses, or a list of the names of others",
            )  # fmt: skip
        elif unknown := [other for other in rule if other not in rules]:
            raise CircuitError.of(f"{place} names others that are not there",
                                  found=listing(unknown))  # fmt: skip
    others = {name: rule if isinstance(rule, list) else [] for name, rule in rules.items()}
    try:
        order = list(TopologicalSorter(others).static_order())
    except CycleError as error:
        raise CircuitError.of(
            f"{file}: node sets are made of each other in a circle", found=listing(error.args[1])
        ) from error
    return {name: rules[name] for name in order}


def attributes_in(rules: Rules) -> set[str]:
    """Return the names of the attributes that rules are about."""
    clauses = {name for rule in rules.values() if isinstance(rule, dict) for name in rule}
    return clauses - {"population", "node_id"}


def members(rules: Rules, nodes: pl.DataFrame, population: str) -> dict[str, NDArray[np.int64]]:
    """Return the ids of each node set in a population, in order; by name, in order.

    Parameters
    ----------
    rules
        From :func:`read_node_sets`.
    nodes
        All nodes of the population by their id, with the attributes of :func:`attributes_in` that
        they have. A clause about another one holds for no node.
    population
        Its name.
    """
    bits: dict[str, NDArray[np.uint8]] = {}  # of few nodes or many, a set takes an eighth of them
    for name, rule in rules.items():
        if isinstance(rule, list):
            none = np.packbits(np.zeros(len(nodes), dtype=np.bool_))
            bits[name] = np.bitwise_or.reduce([none, *(bits[other] for other in rule)])
        else:
            holds = np.ones(len(nodes), dtype=np.bool_)
            for attribute, value in rule.items():
                holds &= _holds(attribute, value, nodes, population)
            bits[name] = np.packbits(holds)
    return {
        name: np.flatnonzero(np.unpackbits(bits[name], count=len(nodes))) for name in sorted(bits)
    }


def _check_clause(attribute: str, value: Any, place: str) -> None:
    """Raise unless a clause is one that can be understood."""
    values = value if isinstance(value, list) else [value]
    if attribute == "population":
        understood, expected = _are_text(values), "a name, or a list of names"
    elif attribute == "node_id":
        understood, expected = _are_whole(values), "ids"
        understood = understood and min(values, default=0) >= 0
    elif isinstance(value, dict):
        understood, expected = (
            _is_comparison(value),
            f"one of {_PATTERN}, {', '.join(_COMPARISONS)}",
        )
    else:
        understood = _are_text(values) or _are_whole(values)
        expected = "a text or a whole number, a list of either, or a comparison"
    if not understood:
        raise CircuitError.of(
            f"{place} cannot be understood", found=_short(value), expected=expected
        )


def _are_text(values: Iterable[Any]) -> bool:
    return all(isinstance(v, str) for v in values)


def _are_whole(values: Iterable[Any]) -> bool:
    """Return whether all values are whole numbers that a column can have."""
    return all(type(v) is int and abs(v) <= _LARGEST for v in values)


def _is_comparison(value: dict[str, Any]) -> bool:
    if len(value) != 1:
        return False
    ((name, given),) = value.items()
    if name == _PATTERN and isinstance(given, str):
        try:
            _matching(pl.Series([""]), given)
        except pl.exceptions.PolarsError:
            return False
        return True
    return name in _COMPARISONS and type(given) in (int, float)


def _holds(attribute: str, value: Any, nodes: pl.DataFrame, population: str) -> NDArray[np.bool_]:
    """Return for which nodes a clause holds."""
    values = value if isinstance(value, list) else [value]
    if attribute == "population":
        return np.full(len(nodes), population in values)
    chosen = np.zeros(len(nodes), dtype=np.bool_)
    if attribute == "node_id":
        ids = np.array(values, dtype=np.int64)
        chosen[ids[ids < len(nodes)]] = True
    elif attribute in nodes.columns:
        column = nodes[attribute]
        is_text = column.dtype == pl.String
        if not isinstance(value, dict):
            if values and is_text == isinstance(values[0], str) and not column.dtype.is_float():
                return column.is_in(values).fill_null(value=False).to_numpy()
            return chosen
        ((name, given),) = value.items()
        if is_text and name == _PATTERN:
            labels = column.drop_nulls().unique()
            matching = labels.filter(_matching(labels, given))
            return column.is_in(matching.implode()).fill_null(value=False).to_numpy()
        if not is_text and name in _COMPARISONS:
            return np.asarray(_COMPARISONS[name](column.to_numpy(), given))
    return chosen


def _matching(labels: pl.Series, pattern: str) -> pl.Series:
    """Return which labels a pattern is found in, in time that grows with their length alone."""
    return labels.str.contains(pattern)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits in a line
