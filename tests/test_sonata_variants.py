"""Circuits laid out in all the ways that SONATA allows, against a slow reader of our own."""

from __future__ import annotations

import pytest
from sonata_variants import variant
from variant_check import check

N = 100
AT_ONCE = 10


@pytest.mark.parametrize("first", range(0, N, AT_ONCE))
def test_statistics_of_any_layout_are_those_of_a_slow_reader(tmp_path, first):
    for seed in range(first, first + AT_ONCE):
        check(variant(seed), tmp_path / str(seed))
