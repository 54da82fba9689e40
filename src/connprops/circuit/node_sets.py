"""Node sets: named rules for which nodes belong to a set, and the ids that this comes to.

The rules are those of libsonata, which has no part in reading them: it follows what a damaged file
says until the process dies of it, and writes to standard error what it stumbles over.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from connprops.arrays import Bools, Ints
from connprops.circuit.config import distinct_names
from connprops.errors import CircuitError, listing

_COMPARISONS: dict[str, Callable[[Any, float], Any]] = {
    "$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le,
}  # fmt: skip
_PATTERN = "$regex"
_LARGEST = 2**63 - 1
_SHORT = 60
"""Characters of a value in a message."""

Clause = Callable[[pl.DataFrame, str], Bools]
"""Tells which nodes of a population a clause holds for, by their frame and its name."""

Rules = Mapping[str, list[str] | dict[str, Clause]]
"""Of each node set, clauses by attribute, or the names of others, which come before it."""


def read_node_sets(file: Path) -> Rules:
    """Return the rules of a file of node sets. Empty objects are no node sets."""
    if not file.is_file():
        raise CircuitError.of(f"{file} is not a file", expected="a JSON file of node sets")
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=distinct_names)
        json.dumps(content, ensure_ascii=False).encode()  # half a character is no name
    except (OSError, ValueError, RecursionError) as error:
        raise CircuitError.of(
            f"{file} cannot be read as node sets", found=str(error), expected="JSON"
        ) from error
    if not isinstance(content, dict):
        raise CircuitError.of(
            f"{file} cannot be read as node sets", found=_short(content), expected="an object"
        )
    names = {name for name, rule in content.items() if rule != {}}
    rules = {name: _rule(content[name], names, f"{file}: node set {name!r}")
             for name in content if name in names}  # fmt: skip
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


def members(rules: Rules, nodes: pl.DataFrame, population: str) -> dict[str, Ints]:
    """Return the ids of each node set in a population, in order; by name, in order.

    ``nodes`` has all nodes in the order of ``node``, their id, with the attributes of
    :func:`attributes_in` that there are. A clause about another one holds for no node.
    """
    bits: dict[str, NDArray[np.uint8]] = {}  # of few nodes or many, a set takes an eighth of them
    for name, rule in rules.items():
        if isinstance(rule, list):
            none = np.packbits(np.zeros(len(nodes), dtype=np.bool_))
            bits[name] = np.bitwise_or.reduce([none, *(bits[other] for other in rule)])
        else:
            holds = np.ones(len(nodes), dtype=np.bool_)
            for clause in rule.values():
                holds &= clause(nodes, population)
            bits[name] = np.packbits(holds)
    ids = nodes["node"].to_numpy()
    return {
        name: ids[np.unpackbits(bits[name], count=len(nodes)).view(np.bool_)]
        for name in sorted(bits)
    }


def _rule(rule: Any, names: set[str], place: str) -> list[str] | dict[str, Clause]:
    if isinstance(rule, dict):
        return {
            attribute: _clause(attribute, value, f"{place}, {attribute!r}")
            for attribute, value in rule.items()
        }
    if not isinstance(rule, list) or not _are(str, rule):
        raise CircuitError.of(
            f"{place} cannot be understood", found=_short(rule),
            expected="an object of clauses, or a list of the names of others",
        )  # fmt: skip
    if unknown := [other for other in rule if other not in names]:
        raise CircuitError.of(f"{place} names others that are not there", found=listing(unknown))
    return rule


def _clause(attribute: str, value: Any, place: str) -> Clause:
    """Return the function of a clause; refuse one that cannot be understood."""
    values = value if isinstance(value, list) else [value]
    if attribute == "population":
        expected = "a name, or a list of names"
        if _are(str, values):
            return lambda nodes, population: np.full(len(nodes), population in values)
    elif attribute == "node_id":
        expected = "ids"
        if _are(int, values) and min(values, default=0) >= 0:
            return lambda nodes, _: np.isin(nodes["node"].to_numpy(), values)
    elif isinstance(value, dict):
        expected = f"one of {_PATTERN}, {', '.join(_COMPARISONS)}"
        name = next(iter(value), "")
        operand: Any = value[name] if len(value) == 1 else None
        if name == _PATTERN and isinstance(operand, str) and _is_pattern(operand):
            return _of_column(attribute, lambda column: _matching(column, operand), text=True)
        if (compare := _COMPARISONS.get(name)) and type(operand) in (int, float):
            return _of_column(attribute, lambda column: compare(column.to_numpy(), operand))
    else:
        expected = "a text or a whole number, a list of either, or a comparison"
        if (text := _are(str, values)) or _are(int, values):
            return _of_column(attribute, lambda column: _equal(column, values), text=text)
    raise CircuitError.of(f"{place} cannot be understood", found=_short(value), expected=expected)


def _of_column(
    attribute: str, holds: Callable[[pl.Series], ArrayLike], *, text: bool = False
) -> Clause:
    """Return a clause about an attribute; it holds for no node where that is of the other type."""

    def clause(nodes: pl.DataFrame, _: str) -> Bools:
        column = nodes.get_column(attribute, default=None)
        if column is None or (column.dtype == pl.String) != text:
            return np.zeros(len(nodes), dtype=np.bool_)
        return np.asarray(holds(column))

    return clause


def _equal(column: pl.Series, values: list[Any]) -> Bools:
    if column.dtype.is_float() or not values:
        return np.zeros(len(column), dtype=np.bool_)
    return column.is_in(values).fill_null(value=False).to_numpy()


def _matching(column: pl.Series, pattern: str) -> Bools:
    """Return where a pattern is found, in time that grows with the length of the text alone."""
    labels = column.drop_nulls().unique()
    matching = labels.filter(labels.str.contains(pattern))
    return column.is_in(matching.implode()).fill_null(value=False).to_numpy()


def _is_pattern(text: str) -> bool:
    try:
        pl.Series([""]).str.contains(text)
    except pl.exceptions.PolarsError:
        return False
    return True


def _are(kind: type, values: list[Any]) -> bool:
    """Return whether all values are text, or whole numbers that a column can have."""
    same: list[Any] = [v for v in values if type(v) is kind]
    return len(same) == len(values) and (kind is str or all(abs(v) <= _LARGEST for v in same))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."
