"""The ids of nodes, looked up piece by piece."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.arrays.arrow import filled, missing, of_type, places_in, to_numpy
from connprops.arrays.gather import run_starts

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, odd: products of it with whole numbers differ in their leading bits
(Knuth, "The Art of Computer Programming", volume 3, section 6.4)."""

_SHORT_RUN = 2
"""Equal ids in a row, on average, from which each run is looked up once."""

_BUCKETS_AT_MOST, _MOST_IN_BUCKET = 22, 32
"""Logarithm of the number of buckets, and the ids in one beyond which Arrow looks them up."""


Keys = NDArray[np.uint64]


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
        keys = to_numpy(ids).view(np.uint64)
        n_bits = min((4 * len(ids)).bit_length(), _BUCKETS_AT_MOST)
        self._shift = np.uint64(64 - n_bits)
        bucket = self._bucket(keys)
        sizes = np.bincount(bucket, minlength=1 << n_bits)
        self._has_buckets = bool(sizes.max() <= _MOST_IN_BUCKET)
        self._places = np.argsort(bucket, kind="stable")
        self._keys = keys[self._places]
        self._starts = np.append(0, np.cumsum(sizes))
        # Of a bucket without ids, the first is of another: no id that belongs there is the same.
        first = np.minimum(self._starts[:-1], self._keys.size - 1)
        self._first_keys, self._first_places = self._keys[first], self._places[first]

    def places(self, ids: pa.ChunkedArray) -> Ints:
        """Return the place of each id, -1 where it is none of these or null."""
        ids = of_type(ids, self._ids.type)
        if not self._has_buckets:
            return filled(places_in(ids, self._ids), -1).astype(np.int64, copy=False)
        places = self._of_runs(to_numpy(ids).view(np.uint64))
        if ids.null_count:
            places[missing(ids)] = -1
        return places

    def _of_runs(self, keys: Keys) -> Ints:
        """Return the place of each key, looked up once for keys in a row that are equal."""
        begins = run_starts(keys)
        if begins.size * _SHORT_RUN > keys.size:
            return self._of_keys(keys)
        return np.repeat(self._of_keys(keys[begins]), np.diff(begins, append=keys.size))

    def _of_keys(self, keys: Keys) -> Ints:
        bucket = self._bucket(keys)
        places: Ints = self._first_places[bucket]
        left = np.flatnonzero(self._first_keys[bucket] != keys)
        at, stop = self._starts[bucket[left]], self._starts[bucket[left] + 1]
        while left.size:
            at += 1
            is_within = at < stop
            places[left[~is_within]] = -1
            left, at, stop = left[is_within], at[is_within], stop[is_within]
            is_known = self._keys[at] == keys[left]
            places[left[is_known]] = self._places[at[is_known]]
            left, at, stop = left[~is_known], at[~is_known], stop[~is_known]
        return places

    def _bucket(self, keys: Keys) -> Ints:
        return ((keys * _FACTOR) >> self._shift).view(np.int64)
