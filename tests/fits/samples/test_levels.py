from __future__ import annotations

import tracemalloc

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from connprops.fits.samples import levels as levels_module
from connprops.fits.samples.levels import borrowed_levels


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


def keys_of(source, target):
    """Return what a pathway needs of its types at each level, and None where they lack it."""
    (s, s_layer, s_class), (_, t_layer, t_class) = source, target
    keys = [(s, t_layer, t_class), (s, t_class), (s_layer, s_class, t_layer, t_class),
            (s_class, t_class), ()]  # fmt: skip
    return [None if None in key else key for key in keys]


def test_each_pathway_without_data_has_keys_and_groups_of_its_own():
    observed = np.array([0, 2, 5, 11])  # Aa, Ac, Bb and Cd
    levels = borrowed_levels(SOURCE, TARGET, observed)
    apart = levels.with_effects(SOURCE, TARGET)
    missing = np.setdiff1d(np.arange(16), observed)
    pools = apart.pool_of(missing)
    assert pools.tolist() == list(range(12))
    of_kind = levels.pool_of(missing)
    for name in ("level_of_pool", "member_of_pool", "sample_of_pool"):
        assert np.array_equal(getattr(apart, name)[pools], getattr(levels, name)[of_kind]), name
    keys = apart.row_keys(SOURCE, TARGET)
    names = [s + t for s in SOURCE["type"] for t in TARGET["type"]]
    named = (keys["source_type"] + keys["target_type"]).to_list()
    assert named == [names[i] for i in (*observed, *missing)]
    assert keys["level"].to_list() == [-1] * 4 + levels.level_of_pool[of_kind].tolist()
    assert keys.drop("source_type", "target_type", "level").null_count().row(0) == (16,) * 4
    targets = np.concatenate([apart.crossed[0][1], apart.crossed_of_pools[0][1]])
    both = np.concatenate([observed, missing])
    assert len({*zip(targets.tolist(), (both % 4).tolist(), strict=True)}) == 4


def test_more_pathways_without_data_than_observed_ones_tell_share_their_rows(monkeypatch):
    levels = borrowed_levels(SOURCE, TARGET, np.array([0, 2, 5, 11]))
    monkeypatch.setattr(levels_module, "ALONE_AT_MOST", 11)
    assert levels.with_effects(SOURCE, TARGET) is levels


words = st.sampled_from([None, "1", "2", "3"])


@settings(deadline=None)
@given(
    st.lists(st.tuples(words, words), min_size=1, max_size=7),
    st.lists(st.tuples(words, words), min_size=1, max_size=7),
    st.data(),
)
def test_each_borrows_from_those_that_share_the_first_key(of_sources, of_targets, data):
    sources = [(f"S{i}", *of) for i, of in enumerate(of_sources)]
    targets = [(f"T{i}", *of) for i, of in enumerate(of_targets)]
    pairs = {s[0] + t[0]: keys_of(s, t) for s in sources for t in targets}
    observed = data.draw(st.sets(st.sampled_from(sorted(pairs)), min_size=1))
    expected = {}
    for name in pairs.keys() - observed:
        for level, key in enumerate(pairs[name]):
            lenders = {o for o in observed if key is not None and pairs[o][level] == key}
            if lenders:
                expected[name] = (level, lenders)
                break
    assert found(types(sources), types(targets), observed) == expected


def test_levels_of_a_hundred_million_pathways_take_the_room_of_the_observed():
    many = [(f"{i:04d}", str(i % 5), "EXC" if i % 3 else "INH") for i in range(10_000)]
    observed = np.unique(np.random.default_rng(0).integers(0, 10**8, 1000))
    tracemalloc.start()
    levels = borrowed_levels(types(many), types(many), observed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert (levels.pool_of(np.arange(1000)) >= 0).all()
