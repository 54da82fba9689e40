"""Synapses of listed connections: they follow their distributions, however they are drawn."""

from __future__ import annotations

import json
import re
import resource

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made import Marginal, model_of, pairs
from known_distributions import PARAMETERS, SCIPY
from oracle import intraclass
from scipy import special, stats
from typer.testing import CliRunner

import connprops
from connprops import schema
from connprops.cli import app
from connprops.draw import write_synapses
from connprops.draw.source import Source
from connprops.draw.tables import write
from connprops.errors import (
    DatasetError,
    ModelError,
    OptionError,
    OutputError,
)
from connprops.families.registry import family_named
from connprops.resources import Resources

COUNT = Marginal("ztpoisson", {"mean": 3.0}, dtype="int")
PLAIN = model_of(
    {
        "conductance": Marginal("gamma", {"mean": 0.8, "std": 0.3}),
        "u_syn": Marginal(
            "truncnorm", {"norm_loc": 0.5, "norm_scale": 0.2, "min": 0, "max": 1}, shared=False
        ),
        "n_rrp_vesicles": Marginal("shifted_poisson", {"mean": 2.5}, dtype="int"),
        "spine_length": Marginal("zero", {}, shared=False),
        "delay": Marginal("normal", {"mean": 1.0, "std": 1.0}, shared=False, lower=0.5, upper=2.0),
        "n_syn_per_conn": COUNT,
    }
)
ENDS = ["source_node", "target_node"]


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


# Tables


def test_a_table_has_a_row_for_each_synapse():
    given = pairs(30, 20)
    drawn = PLAIN.draw_synapses(given, 1)
    assert drawn.columns == [*ENDS, "source_type", "target_type", *PLAIN.properties[:-1]]
    assert drawn.dtypes == [pl.Int64, pl.Int64, pl.Enum(["A"]), pl.Enum(["A"]),
                            pl.Float64, pl.Float64, pl.Int64, pl.Float64, pl.Float64]  # fmt: skip
    counts = drawn.group_by(ENDS, maintain_order=True).len()
    assert counts.select(ENDS).equals(given.select(ENDS))  # each once or more, in order
    assert (
        stats.chisquare(
            np.bincount(np.minimum(counts["len"], 6), minlength=7)[1:],
            600
            * np.append(
                np.diff(SCIPY["ztpoisson"](3.0).cdf(range(6))), SCIPY["ztpoisson"](3.0).sf(5)
            ),
        ).pvalue
        > 1e-3
    )
    assert (drawn["spine_length"] == 0).all()
    assert drawn["delay"].min() == 0.5
    assert drawn["delay"].max() == 2.0
    assert drawn["n_rrp_vesicles"].min() == 1


def test_shared_values_are_one_each_connection_and_others_one_each_synapse():
    drawn = PLAIN.draw_synapses(pairs(40, 40).with_columns(n_syn_per_conn=pl.lit(4)))
    unique = drawn.group_by(ENDS).agg(pl.all().n_unique())
    assert (unique["conductance"] == 1).all()
    assert (unique["n_rrp_vesicles"] == 1).all()
    assert (unique["u_syn"] == 4).all()
    assert drawn["conductance"].n_unique() == 1600


@pytest.mark.parametrize("within", [0.0, 0.2, 0.5, 0.8, 0.98])
@pytest.mark.parametrize("r", [None, 0.6])
def test_synapses_of_a_connection_are_as_alike_as_told(within, r):
    model = model_of(
        {
            "conductance": Marginal(
                "gamma", {"mean": 0.8, "std": 0.3}, shared=False, within=within
            ),
            "delay": Marginal("normal", {"mean": 1.0, "std": 1.0}, shared=False, within=within),
            "n_syn_per_conn": COUNT,
        },
        correlations=r and {("conductance", "delay"): r},
    )
    n = 5
    drawn = model.draw_synapses(pairs(60, 60).with_columns(n_syn_per_conn=pl.lit(n)), 3)
    normals = {
        "conductance": stats.gamma((0.8 / 0.3) ** 2, scale=0.09 / 0.8).cdf(drawn["conductance"]),
        "delay": stats.norm(1, 1).cdf(drawn["delay"]),
    }
    rows_of = list(np.arange(3600 * n).reshape(-1, n))
    for q in normals.values():
        assert stats.kstest(q[::n], "uniform").pvalue > 1e-3
        icc, error = intraclass(q, rows_of)
        assert abs(icc - within) < 4 * error
    a, b = (special.ndtri(q).reshape(-1, n) for q in normals.values())
    r = r or 0.0
    assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(r, abs=0.05)
    # One's value of a synapse and the other's of another have in common what connections have.
    assert np.corrcoef(a[:, 0], b[:, 1])[0, 1] == pytest.approx(within * r, abs=0.07)


def test_numbers_of_synapses_are_taken_where_given():
    given = pairs(7, 9).with_columns(n_syn_per_conn=pl.int_range(1, 64))
    counts = PLAIN.draw_synapses(given).group_by(ENDS, maintain_order=True).len()
    assert counts["len"].to_list() == list(range(1, 64))


def test_numbers_of_synapses_are_whole_and_at_least_one():
    few = model_of({"n_syn_per_conn": Marginal("normal", {"mean": 0.2, "std": 1.0})})
    counts = few.draw_synapses(pairs(100, 100)).group_by(ENDS).len()["len"].to_numpy()
    distribution = stats.norm(0.2, 1.0)
    expected = [
        distribution.cdf(1.5),
        distribution.cdf(2.5) - distribution.cdf(1.5),
        distribution.sf(2.5),
    ]
    found = np.bincount(np.minimum(counts, 3), minlength=4)[1:]
    assert stats.chisquare(found, 10_000 * np.array(expected)).pvalue > 1e-3


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", sorted(SCIPY))
def test_values_follow_their_distribution(name, shared):
    parameters = PARAMETERS[name][0]
    model = model_of({"a": Marginal(name, parameters, shared), "n_syn_per_conn": COUNT})
    drawn = model.draw_synapses(pairs(60, 60), 11)
    per_distribution = drawn.group_by(ENDS, maintain_order=True).first() if shared else drawn
    values, distribution = per_distribution["a"].to_numpy(), SCIPY[name](**parameters)
    if family_named(name).kind == "continuous":
        assert stats.kstest(values, distribution.cdf).pvalue > 1e-3
    else:
        assert abs(values.mean() - distribution.mean()) < 4 * distribution.std() / np.sqrt(
            values.size
        )
        for k in np.unique(values)[:5]:
            p = distribution.pmf(k)
            assert abs((values == k).mean() - p) < 4 * np.sqrt(p * (1 - p) / values.size)


@pytest.mark.parametrize("shared", [True, False])
def test_correlated_properties_have_their_correlations(shared):
    distributions = {
        "a": Marginal("gamma", {"mean": 2.0, "std": 1.0}, shared),
        "b": Marginal("normal", {"mean": 0.0, "std": 1.0}, shared),
        "c": Marginal("uniform", {"min": 0.0, "max": 1.0}, shared),
        "d": Marginal("exponential", {"mean": 1.0}, shared=not shared),
        "n_syn_per_conn": COUNT,
    }
    r = {("a", "b"): 0.8, ("a", "c"): -0.3, ("b", "c"): 0.1}
    model = model_of(distributions, correlations=r)
    drawn = model.draw_synapses(pairs(80, 80), 2)
    one_each = drawn.group_by(ENDS, maintain_order=True).first() if shared else drawn
    scores = {
        "a": special.ndtri(SCIPY["gamma"](2.0, 1.0).cdf(one_each["a"])),
        "b": one_each["b"].to_numpy(),
        "c": special.ndtri(one_each["c"].to_numpy()),
        "d": special.ndtri(stats.expon().cdf(one_each["d"])),
    }
    for name in "abcd":
        assert stats.kstest(scores[name], "norm").pvalue > 1e-3 or name == "d"
    n = one_each.height
    for one, other in (("a", "b"), ("a", "c"), ("b", "c"), ("a", "d")):
        expected = r.get((one, other), 0.0)
        found = np.corrcoef(scores[one], scores[other])[0, 1]
        # d has one value for several rows or several for one; fewer independent pairs.
        assert abs(np.arctanh(found) - np.arctanh(expected)) < 4 / np.sqrt(n / 3)
    assert drawn.group_by(ENDS).agg(pl.col("a", "b", "c").n_unique() == 1).select(
        pl.col("a", "b", "c").all()
    ).row(0) == ((True,) * 3 if shared else (False,) * 3)


# The same bits


@pytest.fixture
def mixed():
    """Several types, families, shared and not within one property, correlated in some pathways."""
    types = ("A", "B", "C")
    gamma = Marginal("gamma", {"mean": 2.0, "std": 0.5})
    distributions = {
        "a": {
            (s, t): Marginal(gamma.family, gamma.parameters, shared=s != "A")
            if t != "C"
            else Marginal("lognormal", {"mean_log": 0.1, "std_log": 0.4}, shared=True)
            for s in types
            for t in types
        },
        "b": {
            (s, t): Marginal(
                "beta",
                {"a": 2.0, "b": 3.0, "min": 0.0, "max": 1.0},
                shared=False,
                within=0.0 if t == "C" else 0.4,
            )
            for s in types
            for t in types
        },
        "c": {
            (s, t): Marginal(
                "negative_binomial",
                {"mean": 3.0, "dispersion": 2.0},
                shared=False,
                dtype="int",
                within=0.3 if s == "A" else 0.0,
            )
            for s in types
            for t in types
        },
        "d": Marginal("weibull", {"shape": 1.5, "scale": 2.0}),
        "n_syn_per_conn": COUNT,
    }
    return model_of(distributions, types, {("b", "c"): 0.6}), pairs(60, 60, types)


def test_values_do_not_depend_on_pieces_threads_order_or_company(mixed, tmp_path):
    model, given = mixed
    whole = model.draw_synapses(given, 7, resources=Resources(threads=1))
    expected = whole.join(given[:100], on=ENDS, how="semi", maintain_order="left")
    few = Source(model, 7, at_once=3)  # less than a connection may have
    write(few, given[:100], tmp_path / "few.parquet")
    assert pl.read_parquet(tmp_path / "few.parquet").cast(dict(expected.schema)).equals(expected)
    assert model.draw_synapses(given, 7, resources=Resources(threads=3)).equals(whole)
    back = model.draw_synapses(given.reverse(), 7)
    assert back.sort(ENDS, maintain_order=True).equals(whole.sort(ENDS, maintain_order=True))
    alone = pl.concat([model.draw_synapses(given[i : i + 1], 7) for i in range(0, 3600, 240)])
    assert alone.equals(
        whole.join(given.gather_every(240), on=ENDS, how="semi", maintain_order="left")
    )
    some = model.draw_synapses(given, 7, properties=["d", "b"])
    assert some.equals(whole.select(*some.columns))
    assert some.columns[-2:] == ["b", "d"]
    other = model.draw_synapses(given, 8)
    assert other.height != whole.height or not other["a"].equals(whole["a"])


def test_lists_come_in_any_form(mixed, tmp_path):
    model, given = mixed
    file = tmp_path / "list.parquet"
    given.with_columns(pl.col("source_type").cast(pl.Enum(["C", "B", "A"]))).write_parquet(
        file, row_group_size=100
    )
    expected = model.draw_synapses(given, 1)
    table = given.to_arrow(compat_level=pl.CompatLevel.oldest())
    for form in (given.lazy(), table, table.to_reader(max_chunksize=77), file, str(file)):
        stream = model.draw_synapses(form, 1)
        assert isinstance(stream, pa.RecordBatchReader)
        found = pl.DataFrame(stream.read_all()).cast(
            dict(zip(expected.columns, expected.dtypes, strict=True))
        )
        assert found.equals(expected)


def test_types_come_from_a_table_of_nodes(mixed):
    model, given = mixed
    nodes = pl.concat(
        pl.DataFrame(
            {"side": side, "node": range(60), "type": [("A", "B", "C")[i % 3] for i in range(60)]}
        )
        for side in ("source", "target")
    )
    assert model.draw_synapses(given.select(ENDS), 3, nodes=nodes).equals(
        model.draw_synapses(given, 3)
    )
    with pytest.raises(OptionError, match="node 60"):
        model.draw_synapses(pl.DataFrame({"source_node": [60], "target_node": [0]}), nodes=nodes)
    with pytest.raises(OptionError, match="lack the column 'type'"):
        model.draw_synapses(given.select(ENDS), nodes=nodes.drop("type"))


@pytest.mark.parametrize(
    ("ids", "match"),
    [([5.0, 5.5], "can be no id"), (["5", "six"], "can be no id"), ([5, 99], "node 99")],
)
def test_nodes_that_are_no_ids_of_a_dataset_are_refused(ids, match, mixed, tmp_path):
    edges = pl.DataFrame({"pre": [5, 6], "post": [6, 5], "size": [1.0, 2.0]})
    nodes = pl.DataFrame({"id": [5, 6], "type": ["A", "B"]})
    dataset = connprops.open_table(
        edges, nodes, source="pre", target="post", node_id="id", type="type",
        folder=tmp_path / "dataset",
    )  # fmt: skip
    connections = pl.DataFrame({"source_node": ids, "target_node": [6, 6]})
    with pytest.raises(OptionError, match=match):
        mixed[0].draw_synapses(connections, nodes=dataset)


# Pathways that the model does not have


@pytest.fixture
def gaps():
    """A model of types A, B, C, whose pathways from C to A, B are not known."""
    distributions = {
        (s, t): Marginal("constant", {"mean": 10.0 * "ABC".index(s) + "ABC".index(t)})
        for s in "ABC"
        for t in "ABC"
        if s != "C" or t == "C"
    }
    return model_of({"a": distributions, "n_syn_per_conn": COUNT}, ("A", "B", "C"))


def test_missing_pathways_are_an_error_that_names_them(gaps):
    with pytest.raises(ModelError, match=r"lacks 2 of .*\n.*C to A, C to B(.|\n)*missing='borrow'"):
        gaps.draw_synapses(pairs(9, 9, ("A", "B", "C")))


def test_missing_pathways_are_skipped_on_request(gaps):
    drawn = gaps.draw_synapses(pairs(9, 9, ("A", "B", "C")), missing="skip")
    left = drawn.select(pl.concat_str("source_type", "target_type").unique().sort())
    assert left.to_series().to_list() == ["AA", "AB", "AC", "BA", "BB", "BC", "CC"]


def test_missing_pathways_borrow_from_the_level(gaps):
    # Layers differ, classes do not: level 1, the same source type, has C to C alone.
    drawn = gaps.draw_synapses(pairs(9, 9, ("A", "B", "C")), missing="borrow")
    borrowed = drawn.filter((pl.col("source_type") == "C") & (pl.col("target_type") != "C"))
    assert borrowed["target_type"].n_unique() == 2
    assert (borrowed["a"] == 22).all()
    own = drawn.filter(pl.col("source_type") == "B")
    assert own.group_by("target_type").agg(pl.col("a").unique()).sort("target_type")[
        "a"
    ].to_list() == [[10], [11], [12]]


def test_of_several_observed_pathways_each_is_borrowed_from():
    distributions = {
        ("A", t): Marginal("constant", {"mean": float(i)}) for i, t in enumerate("ABC")
    }
    distributions["B", "A"] = Marginal("constant", {"mean": 9.0}, level=1)
    model = model_of({"a": distributions, "n_syn_per_conn": COUNT}, ("A", "B", "C"))
    given = pairs(900, 3, ("A", "B", "C")).filter(pl.col("source_type") == "C")
    drawn = model.draw_synapses(given, missing="borrow").group_by(ENDS).first()
    assert stats.chisquare(np.bincount(drawn["a"].cast(pl.Int64))).pvalue > 1e-3


# Input that will not do


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("target_node"), "lack the column 'target_node'"),
        (lambda f: f.drop("source_type"), "types of the source nodes are not known"),
        (lambda f: f.with_columns(pl.lit("D").alias("source_type")), "source type.*'D'"),
        (lambda f: f.with_columns(source_node=pl.lit(-1)), "at least 0"),
        (lambda f: f.with_columns(source_node=pl.lit(1.5)), "'source_node'"),
        (lambda f: f.with_columns(source_node=pl.lit(2**40)), "less than 2\\^32"),
        (lambda f: f.with_columns(target_node=pl.lit(None, pl.Int64)), "nulls"),
        (lambda f: f.with_columns(source_type=pl.lit(None, pl.String)), "nulls"),
        (lambda f: f.with_columns(n_syn_per_conn=pl.lit(0)), "at least 1"),
        (lambda f: pl.concat([f, f[3:4]]), "several times"),
    ],
)
def test_lists_that_are_none_are_refused_and_leave_no_file(change, message, tmp_path):
    bad = change(pairs(5, 5))
    with pytest.raises(OptionError, match=f"(?s){message}"):
        PLAIN.draw_synapses(bad)
    with pytest.raises(OptionError):
        write_synapses(PLAIN, bad, tmp_path / "drawn.parquet")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("seed", [np.random.default_rng(1), 1.0, None, True, "1"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(OptionError, match="whole number"):
        PLAIN.draw_synapses(pairs(2, 2), seed)


def test_options_are_checked():
    with pytest.raises(OptionError, match="'conductance'"):
        PLAIN.draw_synapses(pairs(2, 2), properties=["conductence"])
    with pytest.raises(OptionError, match="'borrow'"):
        PLAIN.draw_synapses(pairs(2, 2), missing="borow")
    bare = model_of({"a": Marginal("normal", {"mean": 0.0, "std": 1.0})})
    with pytest.raises(OptionError, match="number of synapses"):
        bare.draw_synapses(pairs(2, 2))
    assert bare.draw_synapses(pairs(2, 2).with_columns(n_syn_per_conn=2)).height == 8


def test_distributions_that_are_none_never_come_to_be_drawn():
    with pytest.raises(ModelError, match="no number"):
        model_of({"a": Marginal("normal", {"mean": np.nan, "std": 1.0})})
    with pytest.raises(ModelError, match="bounds that exclude its support"):
        model_of({"a": Marginal("uniform", {"min": 0.0, "max": 1.0}, lower=2.0)})


def test_an_empty_list_gives_an_empty_table(tmp_path):
    none = pairs(2, 2)[:0]
    assert PLAIN.draw_synapses(none).height == 0
    assert write_synapses(PLAIN, none, tmp_path / "none.parquet") == 0
    assert pl.read_parquet(tmp_path / "none.parquet").columns == PLAIN.draw_synapses(none).columns


# Files


def test_a_file_holds_what_a_frame_does(tmp_path):
    given, file = pairs(80, 50), tmp_path / "drawn.parquet"
    seen = []
    n = write_synapses(PLAIN, given, file, 4, progress=lambda *told: seen.append(told))
    expected = PLAIN.draw_synapses(given, 4)
    assert n == expected.height
    assert seen[-1] == ("draw", n, n, "synapses")
    found = pl.read_parquet(file)
    assert found.with_columns(pl.col("source_type", "target_type").cast(pl.Enum(["A"]))).equals(
        expected
    )
    facts = json.loads(pq.read_metadata(file).metadata[schema.METADATA_KEY.encode()])
    assert facts["seed"] == 4
    with pytest.raises(OutputError, match="exists already"):
        write_synapses(PLAIN, given, file)
    assert write_synapses(PLAIN, given[:1], file, overwrite=True) == pl.read_parquet(file).height


def test_a_list_cut_short_or_missing_is_refused(tmp_path):
    file = tmp_path / "list.parquet"
    pairs(100, 100).write_parquet(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"list\.parquet cannot be read"):
        write_synapses(PLAIN, file, tmp_path / "drawn.parquet")
    with pytest.raises(DatasetError, match="No file"):
        write_synapses(PLAIN, tmp_path / "nothing.parquet", tmp_path / "drawn.parquet")
    assert files_in(tmp_path) == ["list.parquet"]


def test_a_full_disk_leaves_no_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=r"drawn\.parquet cannot be written"):
            write_synapses(PLAIN, pairs(100, 100), tmp_path / "drawn.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files_in(tmp_path) == []


def test_the_command_line_draws(tmp_path):
    PLAIN.write_parquet(tmp_path / "model.parquet")
    pairs(20, 20).write_parquet(tmp_path / "list.parquet")
    arguments = ["draw", str(tmp_path), "-o", str(tmp_path / "drawn.parquet")]
    given = [*arguments, "--connections", str(tmp_path / "list.parquet"), "--seed", "6"]
    result = CliRunner().invoke(app, [*given, "--sel-props", "u_syn"])
    assert result.exit_code == 0, result.output
    expected = PLAIN.draw_synapses(pairs(20, 20), 6, properties=["u_syn"])
    found = pl.read_parquet(tmp_path / "drawn.parquet")
    assert found["u_syn"].equals(expected["u_syn"])
    assert f"{expected.height:,} synapses" in result.output
    other = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "drawn.txt")])
    assert other.exit_code == 2
    assert "expected: '.parquet', '.h5'" in other.stderr
    again = CliRunner().invoke(app, given)
    assert again.exit_code == 2
    assert "exists already" in again.output
    neither = CliRunner().invoke(app, [*arguments, "--overwrite"])
    assert neither.exit_code == 2
    assert "no circuit" in neither.output


@pytest.mark.parametrize("n", [10**9, 10**12])
def test_connections_of_absurdly_many_synapses_are_refused(n, tmp_path):
    listed = pairs(1, 1).with_columns(n_syn_per_conn=pl.lit(n))
    drawn = model_of({"n_syn_per_conn": Marginal("ztpoisson", {"mean": float(n)}, dtype="int")})
    for model, connections in ((PLAIN, listed), (drawn, pairs(1, 1))):
        with pytest.raises(OptionError, match="has too many synapses") as refused:
            write_synapses(model, connections, tmp_path / "d.parquet", 0)
        found = int(re.search(r"found: +([0-9,]+)", str(refused.value))[1].replace(",", ""))
        assert found == pytest.approx(n, rel=0.01)
        assert list(tmp_path.iterdir()) == []
