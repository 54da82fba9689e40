"""Ids of nodes: their places, by an independent dictionary."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connprops.tables.ids import NodeIds

of_64_bits = st.integers(-(2**63), 2**63 - 1)


def expected(ids, sought):
    place = {key: i for i, key in enumerate(ids)}
    return [place.get(key, -1) for key in sought]


@settings(deadline=None)
@given(st.sets(of_64_bits, max_size=60), st.lists(of_64_bits | st.none(), max_size=60), st.data())
def test_places_are_those_of_a_dictionary(ids, others, data):
    ids = sorted(ids)
    sought = data.draw(st.lists(st.sampled_from(ids), max_size=60)) + others if ids else others
    half = len(sought) // 2
    pieces = pa.chunked_array([sought[:half], sought[half:]], pa.int64())
    assert NodeIds(pa.array(ids, pa.int64())).places(pieces).tolist() == expected(ids, sought)


@pytest.mark.parametrize("dtype", [pa.int64(), pa.uint64(), pa.string()])
def test_ids_of_all_kinds_are_found(dtype):
    rng = np.random.default_rng(0)
    ids = np.unique(864691130000000000 + rng.integers(0, 2**40, 5000))
    if dtype == pa.uint64():
        ids = ids.astype(np.uint64) + np.uint64(2**63)
    ids = sorted(ids.astype(str)) if dtype == pa.string() else ids.tolist()
    sought = [*rng.permutation(ids).tolist(), ids[0], None, ids[-1]]
    sought += ["7"] if dtype == pa.string() else [7, 0]
    places = NodeIds(pa.array(ids, dtype)).places(pa.chunked_array([sought], dtype))
    assert places.dtype == np.int64
    assert places.tolist() == expected(ids, sought)


def test_ids_that_all_fall_into_few_buckets_are_found():
    # Multiples of the inverse of the factor have products that count from 0.
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    ids = np.sort((np.arange(200, dtype=np.uint64) * np.uint64(inverse)).view(np.int64)).tolist()
    places = NodeIds(pa.array(ids)).places(pa.chunked_array([[*ids, 5]]))
    assert places.tolist() == expected(ids, [*ids, 5])
