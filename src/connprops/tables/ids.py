"""The ids of nodes, looked up piece by piece."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connprops.arrays import Ints
from connprops.arrays.arrow import to_numpy

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, odd: products of it with whole numbers differ in their leading bits
(Knuth, "The Art of Computer Programming", volume 3, section 6.4)."""

_BUCKETS_AT_MOST, _MOST_IN_BUCKET = 22, 32
"""Logarithm of the number of buckets, and the ids in one beyond which Arrow looks them up."""


class NodeIds:
    """Ids in order, whose places are looked up.

    Arrow makes a hash table of all ids for each piece of a column, which takes ten times as long as
    to look the piece up if they are hundreds of thousands. Integers have a table of their own here:
    of the ids by buckets.
    """

    def __init__(self, ids: pa.Array) -> None:
        self._ids, self._has_buckets = ids, False
        if not pa.types.is_integer(ids.type) or not len(ids):
            return
        keys = ids.to_numpy().view(np.uint64)
        n_bits = min((4 * len(ids)).bit_length(), _BUCKETS_AT_MOST)
        self._shift = np.uint64(64 - n_bits)
        bucket = self._bucket(keys)
        sizes = np.bincount(bucket, minlength=1 << n_bits)
        self._has_buckets = bool(sizes.max() <= _MOST_IN_BUCKET)
        self._places = np.argsort(bucket, kind="stable")
        self._keys = keys[self._places]
        self._starts = np.append(0, np.cumsum(sizes))

    def places(self, ids: pa.ChunkedArray) -> Ints:
        """Return the place of each id, -1 where it is none of these or null."""
        ids = ids.cast(self._ids.type, safe=False)
        if not self._has_buckets:
            places = pc.fill_null(pc.index_in(ids, value_set=self._ids), -1)
            return to_numpy(places).astype(np.int64, copy=False)
        keys = to_numpy(ids).view(np.uint64)
        bucket, last = self._bucket(keys), self._keys.size - 1
        at = self._starts[bucket]
        is_known = self._keys[np.minimum(at, last)] == keys  # beyond a bucket no id is the same
        left = np.flatnonzero(~is_known)
        while left.size:
            left = left[at[left] + 1 < self._starts[bucket[left] + 1]]
            at[left] += 1
            is_known[left] = self._keys[at[left]] == keys[left]
            left = left[~is_known[left]]
        places = np.where(is_known, self._places[np.minimum(at, last)], -1)
        if ids.null_count:
            places[to_numpy(pc.is_null(ids))] = -1
        return places

    def _bucket(self, keys: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> Ints:
        return ((keys * _FACTOR) >> self._shift).astype(np.int64)
