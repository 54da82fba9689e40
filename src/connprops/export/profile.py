"""What a column of the edges holds: a property, categories, or numbers that are none.

A profile is taken of each part as it is written, and profiles of parts are merged, so that
what a column is follows from all its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from connprops.arrays import Bools, Ints

Role = Literal["property", "categories", "identifier", "too large"]

_IDENTIFIER_FROM = 20
"""Fewer distinct numbers than this may be distinct by chance."""

_SOME = 1 << 14
"""Values that are looked at before all of them are."""

_EXACT = 2**53
"""Integers beyond this are not all float64 numbers, which statistics are made of."""


@dataclass(frozen=True)
class Profile:
    """Facts about the values of a column: counts, range, and whether all differ."""

    n: int
    n_not_finite: int
    n_negative: int
    n_minus_one: int
    low: float | None
    high: float | None
    distinct: bool

    def role(self, dtype: str, labels: Sequence[str] | None, *, is_asked: bool = False) -> Role:
        """Return what the column is good for.

        Integers that are all different are identifiers: they count something, but measure nothing;
        unless somebody has asked for them.
        """
        if labels is not None:
            return "categories"
        if not dtype.startswith(("int", "uint")) or self.low is None or self.high is None:
            return "property"
        if self.distinct and self.n >= _IDENTIFIER_FROM and not is_asked:
            return "identifier"
        if max(abs(self.low), abs(self.high)) > _EXACT:
            return "too large"
        return "property"

    @property
    def has_sentinel(self) -> bool:
        """Return whether -1 is the one negative value, as where it stands for "none"."""
        alone = 0 < self.n_minus_one == self.n_negative
        return alone and self.n_minus_one < self.n - self.n_not_finite


def profile(values: NDArray[Any], n_syn: Ints | None = None) -> Profile:
    """Take the profile of a part's values, of synapses or of connections of ``n_syn`` synapses.

    Counts are of synapses. Where values are fewer, some are shared, and so not all different.
    """
    n_synapses = values.size if n_syn is None else int(n_syn.sum())

    def count(chosen: Bools) -> int:
        return int(np.count_nonzero(chosen) if n_syn is None else n_syn[chosen].sum())

    finite, n_not_finite = values, 0
    if values.dtype.kind == "f" and not (is_finite := np.isfinite(values)).all():
        finite, n_not_finite = values[is_finite], count(~is_finite)
    low, high = (finite.min(), finite.max()) if finite.size else (None, None)
    has_negative = low is not None and low < 0
    wide = values.dtype.kind in "iu" and values.dtype.itemsize >= 4  # noqa: PLR2004 - bytes
    return Profile(
        n=n_synapses,
        n_not_finite=n_not_finite,
        n_negative=count((values < 0) & np.isfinite(values)) if has_negative else 0,
        n_minus_one=count(values == -1) if has_negative else 0,
        low=None if low is None else float(low),
        high=None if high is None else float(high),
        distinct=bool(wide and values.size == n_synapses and _all_differ(values)),
    )


def merged(profiles: Sequence[Profile]) -> Profile:
    """Return the profile of several parts together."""
    ranges = sorted((p.low, p.high) for p in profiles if p.low is not None and p.high is not None)
    apart = all(a[1] < b[0] for a, b in pairwise(ranges))
    return Profile(
        n=sum(p.n for p in profiles),
        n_not_finite=sum(p.n_not_finite for p in profiles),
        n_negative=sum(p.n_negative for p in profiles),
        n_minus_one=sum(p.n_minus_one for p in profiles),
        low=ranges[0][0] if ranges else None,
        high=max((high for _, high in ranges), default=None),
        distinct=apart and all(p.distinct for p in profiles),
    )


def _all_differ(values: NDArray[Any]) -> bool:
    if values.size and (values[1:] > values[:-1]).all():
        return True
    for part in (values[:_SOME], values):  # which, of most columns, have two that are the same
        ordered = np.sort(part)
        if (ordered[1:] == ordered[:-1]).any():
            return False
    return True
