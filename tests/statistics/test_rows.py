from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest
from circuits import two_types
from hypothesis import given, settings
from hypothesis import strategies as st

import connprops.export.parts
import connprops.export.plan
from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Choice
from connprops.export.export import export
from connprops.statistics.rows import DatasetRows, RowsAhead, _File, put_in_order

PROPERTIES = ("conductance", "u_syn", "n_syn_per_conn")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a dataset of several parts, each of several row groups."""
    folder = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connprops.export.plan, "ROWS_PER_PART", 40)
        patch.setattr(connprops.export.parts, "ROW_GROUP", 3)
        found = Dataset(export(resolve_circuit(two_types(folder / "c")), folder / "d"))
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
    at_once=st.integers(1, 20),
)
def test_one_pass_gives_what_each_range_read_for_itself_gives(
    data, cuts, skipped, selected, ahead, at_once
):
    groups = Choice.of(sorted(selected), None, None, 0, None).grouping(data).groups
    ranges = list(pairwise(sorted(cuts)))
    requests = [(*one, PROPERTIES) for one in ranges]
    plain = DatasetRows(data, groups)
    source = DatasetRows(data, groups, keep=True, at_once=at_once)
    if ahead:
        source = RowsAhead(source, requests)
    for request in requests[skipped % len(requests) :]:
        assert together(source, request) == together(plain, request)
        if not ahead:
            other = (request[0], request[1], ("conductance",))
            assert together(source, other) == together(plain, other)
    if ahead:
        source.__exit__()


def test_one_pass_reads_each_row_group_once(data, monkeypatch):
    read, original = [], _File.read_to

    def spy(self, end):
        before = self._next
        original(self, end)
        read.extend((id(self), i) for i in range(before, self._next))

    monkeypatch.setattr(_File, "read_to", spy)
    groups = Choice.of(None, None, None, 0, None).grouping(data).groups
    rows = DatasetRows(data, groups, keep=True)
    requests = [(i, i + 1, PROPERTIES) for i in range(4)]
    n = sum(c.connections.num_rows for r in requests for c in rows.chunks(*r))
    assert n == data.n_connections
    assert len(read) == len(set(read)) > 4 * data.n_parts


@settings(max_examples=20, deadline=None)
@given(
    cuts=st.sets(st.integers(0, 10), min_size=2),
    selected=st.sets(st.integers(0, 9), min_size=1),
    by=st.sampled_from([None, ("region", "@population"), ("@node", "@population")]),
    at_once=st.integers(1, 20),
)
def test_rows_put_in_order_are_those_of_the_dataset(
    tmp_path_factory, data, cuts, selected, by, at_once
):
    groups = Choice.of(sorted(selected), None, None, 0, by).grouping(data).groups
    ranges = list(pairwise(sorted(cuts)))
    plain = DatasetRows(data, groups, at_once=at_once)
    on_disk = put_in_order(plain, ranges, PROPERTIES, tmp_path_factory.mktemp("rows"))
    for properties in (PROPERTIES, ("u_syn",), ()):
        for request in ((*one, properties) for one in ranges):
            found = list(on_disk.chunks(*request))
            assert all(rows.connections.num_rows <= at_once for rows in found)
            assert together(on_disk, request) == together(plain, request)
