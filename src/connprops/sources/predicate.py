"""Which rows of the edges count: a predicate in SQL on their columns, and nothing else.

The text is parsed by DuckDB, and what it consists of is checked before any of it is run: columns,
constants, comparisons, operators, and a list of functions that compute from their arguments alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Bools
from connprops.arrays.arrow import taken, to_arrow, to_numpy
from connprops.errors import OptionError
from connprops.sources.source import LEFT_OUT, SourceColumn

if TYPE_CHECKING:
    import duckdb

_EXPRESSIONS = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION",
     "OPERATOR", "TYPE"}
)  # fmt: skip

_FUNCTIONS = frozenset(
    {"+", "-", "*", "/", "//", "%", "**", "^", "~~", "!~~", "~~*", "!~~*", "abs", "ceil", "cos",
     "contains", "ends_with", "exp", "floor", "greatest", "isfinite", "isinf", "isnan", "least",
     "length", "like_escape", "ln", "log", "log10", "log2", "lower", "mod", "not_like_escape",
     "pow", "power", "round", "sign", "sin", "sqrt", "starts_with", "suffix", "prefix", "trunc",
     "upper"}
)  # fmt: skip
"""What a predicate may call: functions of numbers and text that know nothing but these."""


@dataclass(frozen=True)
class Predicate:
    """A condition on columns of the edges, which its rows meet or not."""

    text: str
    columns: tuple[SourceColumn, ...]

    def holds(self, values: Mapping[str, NDArray[Any]]) -> Bools:
        """Return where the condition holds, (n,), for the values of its columns.

        Where it is neither true nor false, for a value is missing, it does not hold.
        """
        if not self.columns:
            raise OptionError.of(
                "where names no column of the edges", found=self.text, expected="a condition on one"
            )
        arrays = [_as_sql(values[column.name], column) for column in self.columns]
        rows = pa.table(arrays, names=[column.name for column in self.columns])
        import duckdb

        try:
            with _locked() as connection:
                connection.register("rows", rows)
                # It reads the columns of its rows, which was checked, and what it calls is listed.
                answer = connection.sql(f"select (\n{self.text}\n) as holds from rows")  # noqa: S608
                holds = answer.to_arrow_table().column(0)
        except duckdb.Error as error:
            raise _no_predicate(self.text, str(error).splitlines()[0]) from error
        if not pa.types.is_boolean(holds.type):
            raise _no_predicate(self.text, f"its value is {holds.type}, neither true nor false")
        return to_numpy(holds)


def _as_sql(values: NDArray[Any], column: SourceColumn) -> pa.Array:
    """Return values as a predicate sees them: labels as text, NaN as null."""
    missing = np.isnan(values) if values.dtype.kind == "f" else None
    if column.labels is None:
        return to_arrow(values, missing)
    codes = np.where(missing, 0, values) if missing is not None else values
    return taken(pa.array(column.labels), to_arrow(codes.astype(np.int32), missing))


def _locked() -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(
        config={"enable_external_access": False, "lock_configuration": True, "threads": 1}
    )


def checked_predicate(text: str, columns: Mapping[str, SourceColumn]) -> Predicate:
    """Return the predicate that a text is, of columns of some edges; raise where it is none."""
    named = {name.lower(): name for name in columns}
    used = {}
    for node in _expressions(_parsed(text)):
        kind = node["class"]
        if kind == "COLUMN_REF":
            name = ".".join(node["column_names"])
            if name.lower() not in named:
                raise OptionError.unknown("column in where", name, columns)
            used[named[name.lower()]] = columns[named[name.lower()]]
        elif kind not in _EXPRESSIONS or (
            kind == "FUNCTION" and node["function_name"].lower() not in _FUNCTIONS
        ):
            call = node.get("function_name", "").lower()
            raise _no_predicate(
                text, f"it calls {call!r}" if call else f"{kind.lower().replace('_', ' ')} in it"
            )
    for name, column in used.items():
        if column.dtype in LEFT_OUT:
            raise OptionError.of(
                f"where names a column that cannot be compared: {name!r}",
                found=LEFT_OUT[column.dtype], expected="numbers, or text of few values",
            )  # fmt: skip
    predicate = Predicate(text, tuple(used.values()))
    predicate.holds({n: np.full(1, c.labels is None, dtype=c.dtype) for n, c in used.items()})
    return predicate


def _parsed(text: str) -> dict[str, Any]:
    """Return the expression that a text is, as DuckDB's parser has it."""
    with _locked() as connection:
        query = "select json_serialize_sql('select ' || $text)"
        answers = [
            json.loads(connection.sql(query, params={"text": each}).fetchall()[0][0])
            for each in (text, "true")
        ]
    parsed, plain = answers
    if parsed["error"]:
        raise _no_predicate(text, parsed["error_message"].splitlines()[0])
    nodes = [statement["node"] for statement in parsed["statements"]]
    of_plain = plain["statements"][0]["node"]
    selected = nodes[0].pop("select_list", []) if nodes else []
    del of_plain["select_list"]
    if len(nodes) != 1 or nodes[0] != of_plain or len(selected) != 1 or selected[0]["alias"]:
        raise _no_predicate(text, "it is more than one expression")
    expression: dict[str, Any] = selected[0]
    return expression


def _expressions(part: Any) -> Iterator[dict[str, Any]]:
    """Yield all expressions that a part of a parsed text consists of."""
    if isinstance(part, Mapping):
        if "class" in part:
            yield dict(part)
        for name, value in part.items():
            if name != "value":  # of a constant
                yield from _expressions(value)
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for value in part:
            yield from _expressions(value)


def _no_predicate(text: str, what: str) -> OptionError:
    return OptionError.of(
        f"where is no condition on columns of the edges: {text}", found=what,
        expected="comparisons of columns and constants, with and, or, not, arithmetic, "
        "such as size > 100 and confidence >= 0.7",
    )  # fmt: skip
