from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from connprops.arrays.gather import Runs, run_rows

RUNS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 300)), max_size=20)


@given(RUNS)
def test_rows_of_runs_are_those_of_one_run_after_the_other(runs):
    starts, counts = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    expected = [row for start, count in runs for row in range(start, start + count)]
    assert run_rows(starts, counts).tolist() == expected


@given(RUNS)
def test_runs_give_copies_of_their_rows(runs):
    starts, counts = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    column = np.arange(400.0) ** 2
    found = Runs(starts, counts).of(column)
    assert found.tolist() == [column[row] for row in run_rows(starts, counts)]
    assert not np.shares_memory(found, column)
