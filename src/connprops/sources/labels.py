"""Labels: text of few values, and whole numbers that are codes of categories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.errors import OptionError
from connprops.sources.source import CATEGORIES_AT_MOST, EdgeRows, SourceColumn, SourceEdges

_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class LabelledEdges:
    """Edges of which some columns are labels: each distinct value, as text, is one."""

    base: SourceEdges
    values: Mapping[str, NDArray[Any]]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("base", "values"):  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def columns(self) -> dict[str, Any]:
        """Return the columns by name."""
        labelled = {
            name: SourceColumn(name, "int32", tuple(map(str, values.tolist())), column.partial)
            for name, values in self.values.items()
            for column in [self.base.columns[name]]
        }
        return {**self.base.columns, **labelled}

    @contextmanager
    def reader(self) -> Iterator[_LabelledRows]:
        """Open the edges for reading ranges of rows."""
        with self.base.reader() as rows:
            yield _LabelledRows(self, rows)


class _LabelledRows:
    def __init__(self, edges: LabelledEdges, rows: EdgeRows) -> None:
        self._edges, self._rows = edges, rows

    def node_ids(self, start: int, stop: int) -> tuple[Ints, Ints]:
        return self._rows.node_ids(start, stop)

    def column(self, column: SourceColumn, start: int, stop: int) -> NDArray[Any]:
        if column.name not in self._edges.values:
            return self._rows.column(column, start, stop)
        values = self._rows.column(self._edges.base.columns[column.name], start, stop)
        codes = np.searchsorted(self._edges.values[column.name], values)
        if values.dtype.kind == "f":
            return np.where(np.isnan(values), np.nan, codes)
        return codes.astype(np.dtype(column.dtype))


def with_labels(edges: SourceEdges, nominal: Sequence[str]) -> LabelledEdges:
    """Return edges whose columns of these names are labels."""
    distinct = {}
    with edges.reader() as rows:
        for name in nominal:
            if name not in edges.columns:
                raise OptionError.unknown("column in nominal", name, edges.columns)
            column = edges.columns[name]
            if column.labels is None:
                distinct[name] = _distinct(rows, column, edges.size)
    return LabelledEdges(edges, distinct)


def few_labels(blocks: Iterable[set[str]]) -> tuple[str, ...] | None:
    """Return the distinct texts of all blocks, in order; None where they are too many."""
    labels: set[str] = set()
    for block in blocks:
        labels |= block
        if len(labels) > CATEGORIES_AT_MOST:
            return None
    return tuple(sorted(labels))


def _distinct(rows: EdgeRows, column: SourceColumn, size: int) -> NDArray[Any]:
    """Return the distinct values of a column, which must be few whole numbers."""
    is_whole = column.stored.startswith(("int", "uint"))
    distinct: NDArray[Any] = np.empty(0, dtype=column.stored if is_whole else "i8")
    for start in range(0, size if is_whole else 0, _ROWS_AT_ONCE):
        values = rows.column(column, start, min(start + _ROWS_AT_ONCE, size))
        values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
        distinct = np.union1d(distinct, values.astype(distinct.dtype))
        if distinct.size > CATEGORIES_AT_MOST:
            break
    if not is_whole or distinct.size > CATEGORIES_AT_MOST:
        raise OptionError.of(
            f"Column {column.name!r} cannot be labels (nominal)",
            found=f"more than {CATEGORIES_AT_MOST} values" if is_whole else column.stored,
            expected=f"whole numbers, of which at most {CATEGORIES_AT_MOST} differ",
        )
    return distinct
