"""Rows for groups of pathways: which of them counts for which pathway."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest
from hand_made import FIRST_VERSION
from hypothesis import given, settings
from hypothesis import strategies as st

from connprops import schema
from connprops.errors import ModelError, OptionError
from connprops.model.model import Model
from connprops.pathways import Pathways, expanded, resolved

CLASSES, LAYERS = ("EXC", "INH", None), ("1", "2", "3", None)
KEYS = schema.ROW_KEYS


def types_of(sources, targets):
    """Return types T0, T1, ... of both sides, by their classes and layers."""
    rows = [(side, i, f"T{i}", *kind, 1)
            for side, kinds in (("source", sources), ("target", targets))
            for i, kind in enumerate(kinds)]  # fmt: skip
    return pl.DataFrame(rows, schema=schema.TYPES.polars_schema(), orient="row")


def matches(row, source, target):
    """Return whether a row says nothing of a pathway that is not so."""
    has = (source["type"], target["type"], source["synapse_class"], target["synapse_class"],
           source["layer"], target["layer"])  # fmt: skip
    return all(key is None or key == value for key, value in zip(row, has, strict=True))


kinds = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.sampled_from(LAYERS)), min_size=1, max_size=6
)
names = st.sampled_from(["T0", "T1", "T2", None])
groups = st.tuples(
    names, names, *[st.sampled_from(CLASSES)] * 2, *[st.sampled_from(LAYERS)] * 2
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(kinds, kinds, st.lists(st.tuples(groups, st.integers(0, 4)), max_size=9))
def test_the_row_of_the_lowest_level_that_matches_counts(sources, targets, rows):
    types = types_of(sources, targets)
    # One of each level: of two that both hold a pathway, neither would go first.
    kept = list({level: (group, level) for group, level in rows}.values())
    keys = pl.DataFrame(
        [(*group, level) for group, level in kept],
        schema=dict.fromkeys(KEYS, pl.String) | {"level": pl.Int8},
        orient="row",
    )
    n_source, n_target = len(sources), len(targets)
    pathways = Pathways([f"T{i}" for i in range(n_source)], [f"T{i}" for i in range(n_target)])
    found = resolved(keys, types, pathways, np.arange(n_source * n_target)).tolist()
    sides = [types.filter(side=side).to_dicts() for side in ("source", "target")]
    for at, (source, target) in zip(found, product(*sides), strict=True):
        fitting = [i for i, (group, _) in enumerate(kept) if matches(group, source, target)]
        expected = min(fitting, key=lambda i: kept[i][1], default=-1)
        assert at == expected


def rows_of(*rows):
    """Return rows of a model: keys, level and a mean each."""
    columns = {key: [row[i] for row in rows] for i, key in enumerate(KEYS)}
    n = len(rows)
    return pl.DataFrame(
        columns
        | {
            "property": ["a"] * n, "other_property": [None] * n, "distribution": ["constant"] * n,
            "parameter": ["mean"] * n, "position": [0] * n,
            "value": [row[-1] for row in rows], "std_error": [None] * n,
            "level": [row[-2] for row in rows], "shared_within": [True] * n, "dtype": ["float"] * n,
            "lower_bound": [None] * n, "upper_bound": [None] * n,
        },
        schema=dict.fromkeys(KEYS, pl.String) | FIRST_VERSION,
    )  # fmt: skip


TYPES = types_of(
    [("EXC", "1"), ("EXC", "2"), ("INH", "1"), (None, None)], [("EXC", "1"), ("INH", "2")]
)
ROWS = rows_of(
    ("T0", "T0", None, None, None, None, -1, 1.0),
    ("T1", None, None, "INH", None, "2", 0, 2.0),
    (None, None, "EXC", "INH", None, None, 3, 3.0),
    (None, None, None, None, None, None, 4, 4.0),
)
MEANS = [[1.0, 3.0], [4.0, 2.0], [4.0, 4.0], [4.0, 4.0]]
"""Of each source type the mean by target type."""


def test_a_model_gives_each_pathway_what_its_row_says(tmp_path):
    model = Model(ROWS, types=TYPES, units={"a": "1"})
    assert len(model.table) == 4
    found = [[model.mean("a", s, t) for t in model.target_types] for s in model.source_types]
    assert found == MEANS
    (of_all,) = model.distributions("a")
    assert of_all.parameters["mean"].tolist() == np.ravel(MEANS).tolist()
    dense = model.marginals
    assert dense["value"].to_list() == np.ravel(MEANS).tolist()
    assert dense["level"].to_list() == [-1, 3, 4, 0, 4, 4, 4, 4]
    assert dense.select(KEYS[:2]).rows() == [
        (f"T{s}", f"T{t}") for s, t in product(range(4), range(2))
    ]
    file = model.write_parquet(tmp_path / "model.parquet")
    assert pl.read_parquet(file).height == 4
    # Drawn values are the same from a model with a row for each pathway.
    pairs = pl.DataFrame(
        {
            "source_node": range(8), "target_node": range(8),
            "source_type": [f"T{i // 2}" for i in range(8)],
            "target_type": [f"T{i % 2}" for i in range(8)], "n_syn_per_conn": [1] * 8,
        }
    )  # fmt: skip
    drawn = model.draw_synapses(pairs)
    assert drawn["a"].to_list() == np.ravel(MEANS).tolist()
    assert Model(dense, types=TYPES, units={"a": "1"}).draw_synapses(pairs).equals(drawn)


def test_a_pathway_for_which_no_row_is_has_no_distribution():
    model = Model(ROWS.head(3), types=TYPES, units={"a": "1"})
    assert model.marginals.height == 3
    with pytest.raises(OptionError, match="no 'a' for pathway 'T2' to 'T0'"):
        model.mean("a", "T2", "T0")


def test_rows_without_types_that_do_not_borrow_are_refused():
    rows = rows_of((None, None, "EXC", None, None, None, -1, 1.0))
    with pytest.raises(ModelError, match="'a' of pathways that borrow has no types"):
        Model(rows, types=TYPES, units={"a": "1"})


def test_only_what_borrows_is_repeated():
    fits = ROWS.select(*KEYS, "property", "level", "value")
    dense = expanded(fits, TYPES, Pathways(["T0", "T1", "T2", "T3"], ["T0", "T1"]))
    assert sorted(dense["value"].to_list()) == sorted(np.ravel(MEANS).tolist())
    assert dense.columns == fits.columns
