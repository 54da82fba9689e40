from __future__ import annotations

import numpy as np
import polars as pl

from connprops.fits.levels import borrowed_levels


def types(rows):
    return pl.DataFrame(
        rows,
        schema={"type": pl.String, "layer": pl.String, "synapse_class": pl.String},
        orient="row",
    )


SOURCE = types([("A", "4", "EXC"), ("B", "4", "EXC"), ("C", "5", "EXC"), ("D", "5", "INH")])
TARGET = types([("a", "4", "EXC"), ("b", "4", "EXC"), ("c", "5", "EXC"), ("d", "5", "INH")])


def found(source, target, observed):
    """Return, by missing pathway, its level and the observed pathways that it borrows from."""
    pairs = {
        s + t: i for i, (s, t) in enumerate((s, t) for s in source["type"] for t in target["type"])
    }
    names = list(pairs)
    levels = borrowed_levels(source, target, np.array(sorted(pairs[name] for name in observed)))
    members = {}
    for member, pool in zip(levels.member, levels.pool, strict=True):
        members.setdefault(pool, set()).add(names[levels.observed[member]])
    missing = np.setdiff1d(np.arange(len(names)), levels.observed)
    pools = levels.pool_of(missing)
    return {
        names[m]: (int(levels.level_of_pool[pool]), members[pool])
        for m, pool in zip(missing, pools, strict=True)
        if pool >= 0
    }


def test_each_level_is_reached_in_turn():
    borrowed = found(SOURCE, TARGET, ["Aa", "Ac", "Cd"])
    assert borrowed["Ab"] == (0, {"Aa"})  # same source, target of the same layer and class
    assert borrowed["Ba"] == (2, {"Aa"})  # no data of B: same layers and classes on both sides
    assert borrowed["Bc"] == (2, {"Ac"})
    assert borrowed["Ca"] == (3, {"Aa", "Ac"})  # C has data for INH targets only
    assert borrowed["Da"] == (4, {"Aa", "Ac", "Cd"})  # nothing from INH
    assert found(SOURCE, TARGET, ["Aa", "Bc"])["Ac"] == (1, {"Aa"})


def test_levels_that_need_what_is_not_known_are_skipped():
    plain = SOURCE.with_columns(pl.lit(None, dtype=pl.String).alias("layer"))
    borrowed = found(plain, TARGET, ["Aa"])
    assert borrowed["Ab"] == (0, {"Aa"})  # the source's layer is not needed here
    assert borrowed["Bb"] == (3, {"Aa"})  # level 2 would need it
    nothing = plain.with_columns(pl.lit(None, dtype=pl.String).alias("synapse_class"))
    assert found(nothing, TARGET, ["Aa"])["Bb"] == (4, {"Aa"})


def test_every_missing_pathway_borrows_and_observed_ones_do_not():
    borrowed = found(SOURCE, TARGET, ["Aa", "Bd"])
    assert len(borrowed) == 14
    assert not {"Aa", "Bd"} & borrowed.keys()


def test_no_data_at_all():
    levels = borrowed_levels(SOURCE, TARGET, np.empty(0, dtype=np.intp))
    assert levels.n_pools == 0
    assert (levels.pool_of(np.arange(16)) == -1).all()
