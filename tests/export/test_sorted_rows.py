"""The sorted copy of rows is in the order of a sort in memory, however the rows are dealt out."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connprops.export import sorted_rows
from connprops.export.sorted_rows import SortedRows, write_sorted
from connprops.resources import Resources
from connprops.sources.source import SourceColumn

COLUMNS = [SourceColumn("weight", "float32"), SourceColumn("kind", "int8")]


class Edges:
    """Rows in memory, as a source of edges."""

    def __init__(self, source, target):
        self._ends, self.size, self.columns = (source, target), source.size, {}

    @contextmanager
    def reader(self):
        yield self

    def node_ids(self, start, stop):
        return self._ends[0][start:stop], self._ends[1][start:stop]

    def column(self, column, start, stop):
        return np.arange(start, stop).astype(column.dtype)


def check(edges: Edges, folder: Path) -> None:
    write_sorted(edges, COLUMNS, folder / "sorted", Resources())
    source, target = edges.node_ids(0, edges.size)
    order = np.lexsort((source, target))
    with SortedRows(folder / "sorted") as rows:
        for start, stop in ((0, edges.size), (edges.size // 3, edges.size // 2)):
            expected = order[start:stop]
            ends = rows.node_ids(start, stop)
            assert np.array_equal(ends[0], source[expected])
            assert np.array_equal(ends[1], target[expected])
            assert np.array_equal(rows.edge_ids(start, stop), expected)
            for column in COLUMNS:
                values = rows.column(column, start, stop)
                assert values.dtype == column.dtype
                assert np.array_equal(values, expected.astype(column.dtype))
    assert not (folder / "sorted.tmp").exists()


@pytest.fixture
def little_room(monkeypatch):
    """Rows that are dealt out again and again, to few files."""
    for name, value in (("ROWS_AT_ONCE", 7), ("FILES_AT_MOST", 3), ("ROOM_AT_LEAST", 5)):
        monkeypatch.setattr(sorted_rows, name, value)


@pytest.mark.usefixtures("little_room")
@given(
    st.lists(st.tuples(st.integers(-1, 40), st.integers(-1, 40)), max_size=120),
    st.sampled_from([1, 41, 2**40]),
)
def test_rows_are_sorted_whatever_their_ends(tmp_path_factory, ends, scale):
    ends = np.array(ends, dtype=np.int64).reshape(-1, 2)
    source, target = np.where(ends < 0, -1, ends * scale).T
    check(Edges(source, target), tmp_path_factory.mktemp("sorted"))


@pytest.mark.parametrize("n_targets", [1, 1000])
def test_many_rows_are_sorted(tmp_path, n_targets):
    rng = np.random.default_rng(n_targets)
    n = 700_000  # more than there is room for at once
    check(Edges(rng.integers(0, 5000, n), rng.integers(0, n_targets, n)), tmp_path)
