"""Pathways are numbered in one way, whether by names, numbers or columns."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connprops.errors import OptionError
from connprops.pathways import Pathways, check_number, number_of_pair

TYPES = st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True)
PATHWAYS = st.builds(Pathways, TYPES, TYPES)


@given(PATHWAYS)
def test_each_pathway_has_a_number_of_its_own_and_comes_back_from_it(pathways):
    pairs = [(s, t) for s in pathways.source_types for t in pathways.target_types]
    numbers = [pathways.number(*pair) for pair in pairs]
    assert numbers == list(range(len(pathways)))
    assert [pathways.names(number) for number in numbers] == pairs
    assert pathways.shape == (len(pathways.source_types), len(pathways.target_types))


@given(PATHWAYS, st.data())
def test_numbers_of_rows_are_those_of_their_names(pathways, data):
    numbers = data.draw(st.lists(st.integers(0, len(pathways) - 1), max_size=8))
    frame = pl.DataFrame(pathways.columns(np.array(numbers, dtype=np.int64)))
    assert frame.rows() == [pathways.names(number) for number in numbers]
    as_text = frame.cast({pl.Enum: pl.String})
    for columns in (frame, as_text):
        found = columns.select(pathways.number_of_row.alias("n"))["n"]
        assert found.dtype == pl.Int64
        assert found.to_list() == numbers


@given(PATHWAYS)
def test_pairs_of_places_are_numbered_alike(pathways):
    source, target = np.indices(pathways.shape).reshape(2, -1)
    numbers = number_of_pair(source, target, pathways.shape[1])
    assert numbers.tolist() == list(range(len(pathways)))


def test_names_that_are_not_there():
    pathways = Pathways(["L4_PC", "L5_BC"], ["L5_BC"])
    with pytest.raises(OptionError, match=r"(?s)source type: 'L4_PS'.*did you mean 'L4_PC'"):
        pathways.number("L4_PS", "L5_BC")
    with pytest.raises(OptionError, match="target type"):
        pathways.number("L4_PC", "L4_PC")
    frame = pl.DataFrame({"source_type": ["L4_PC", "other"], "target_type": ["L5_BC", "L5_BC"]})
    assert frame.select(pathways.number_of_row).to_series().to_list() == [0, None]


def test_too_many_pathways_for_their_codes_are_refused():
    check_number(1, 2**31 - 1)
    with pytest.raises(OptionError, match="found:    2,500,000,000 pathways"):
        check_number(50_000, 50_000)
