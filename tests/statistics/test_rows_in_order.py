from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from circuits import two_types
from hypothesis import given, settings
from hypothesis import strategies as st

import connprops.export.parts
import connprops.export.plan
import connprops.statistics.rows_in_order
from connprops.circuit.circuit import open_circuit
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice
from connprops.export.export import export
from connprops.statistics.rows import DatasetRows
from connprops.statistics.rows_in_order import RowsAhead, RowsInOrder

PROPERTIES = ("conductance", "u_syn", "n_syn_per_conn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a dataset of several parts, each of several row groups."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connprops.export.plan, "ROWS_PER_PART", 40)
        patch.setattr(connprops.export.parts, "ROW_GROUP", 3)
        found = Dataset(export(open_circuit(two_types(folder / "c")), folder / "d"))
    assert found.n_parts > 2
    return found


def together(source, request):
    """Return what is given for a request, as two lists of rows."""
    found = list(source.chunks(*request))
    connections = pa.concat_tables([rows.connections for rows in found]) if found else None
    synapses = pa.concat_tables([rows.synapses for rows in found]) if found else None
    return [table.to_pylist() if table is not None else [] for table in (connections, synapses)]


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.sets(st.integers(0, 4), min_size=2),
    skipped=st.integers(0, 3),
    selected=st.sets(st.integers(0, 9), min_size=1),
    ahead=st.booleans(),
)
def test_one_pass_gives_what_each_range_read_for_itself_gives(data, cuts, skipped, selected, ahead):
    groups = Choice.of(sorted(selected), None, None, 0, None).grouping(data).groups
    ranges = list(pairwise(sorted(cuts)))
    requests = [(*one, PROPERTIES) for one in ranges]
    plain = DatasetRows(data, groups)
    with RowsInOrder(data, groups, requests) as in_order:
        source = in_order
        if ahead:
            source = RowsAhead(in_order, requests)
        for request in requests[skipped % len(requests) :]:
            assert together(source, request) == together(plain, request)
            other = (request[0], request[1], ("conductance",))
            assert together(source, other) == together(plain, other)
        if ahead:
            source.__exit__()


def test_one_pass_reads_each_row_group_once(data, monkeypatch):
    read, original = [], connprops.statistics.rows_in_order._InOrder._read

    def spy(self, begin, end):
        read.extend((id(self), i) for i in range(begin, end))
        return original(self, begin, end)

    monkeypatch.setattr(connprops.statistics.rows_in_order._InOrder, "_read", spy)
    groups = Choice.of(None, None, None, 0, None).grouping(data).groups
    requests = [(i, i + 1, PROPERTIES) for i in range(4)]
    with RowsInOrder(data, groups, requests) as rows:
        n = sum(c.connections.num_rows for r in requests for c in rows.chunks(*r))
    assert n == data.n_connections
    assert len(read) == len(set(read)) > 4 * data.n_parts
