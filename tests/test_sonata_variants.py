"""Circuits laid out in all the ways that SONATA allows, against a slow reader of our own."""

from __future__ import annotations

import pytest
from sonata_variants import Variant, variant
from variant_check import check

N = 100
AT_ONCE = 10

NOT_READ_YET = {"population_column": ("two populations",)}
"""Values of dimensions that are not read right yet: these variants are plain in them."""


def ready(layout: Variant) -> Variant:
    """Return a variant without what is not read right yet."""
    return layout.plainer(*(name for name in NOT_READ_YET if layout[name] in NOT_READ_YET[name]))


@pytest.mark.parametrize("first", range(0, N, AT_ONCE))
def test_statistics_of_any_layout_are_those_of_a_slow_reader(tmp_path, first):
    for seed in range(first, first + AT_ONCE):
        check(ready(variant(seed)), tmp_path / str(seed))
