"""Each ready question against its answer by Polars or numpy, from the arrays that were written."""

from __future__ import annotations

import itertools
from pathlib import Path

import duckdb
import h5py
import numpy as np
import polars as pl
import pytest
from circuits import two_types, write_circuit

from connprops.circuit.circuit import resolve_circuit
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError, QueryError
from connprops.export.export import export
from connprops.model.build import build
from connprops.query.database import DATABASE, VIEWS, write_database
from connprops.query.session import Session, question, questions
from connprops.statistics.extract import extract

TYPES = ["L4_PC"] * 6 + ["L5_BC"] * 4
LAYER, CLASS = {"L4_PC": "4", "L5_BC": "5"}, {"L4_PC": "EXC", "L5_BC": "INH"}
SIZE = {"L4_PC": 6, "L5_BC": 4}
PAIR = ["source_type", "target_type"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("queries")
    config = two_types(place / "circuit", shuffled=True)
    dataset = Dataset(export(resolve_circuit(config), place / "out" / "dataset"))
    stats = extract(dataset, sel_props=dataset.properties)
    stats.write(place / "out")
    build(stats).write_parquet(place / "out" / "model.parquet")
    return place / "out"


@pytest.fixture(scope="module")
def synapses(folder):
    """Return one row per synapse, straight from the circuit's file."""
    with h5py.File(folder.parent / "circuit" / "edges.h5") as h5:
        base = h5["edges/default"]
        frame = pl.DataFrame({name: values[:] for name, values in base["0"].items()})
        ends = {side: base[f"{side}_node_id"][:].astype(np.int64) for side in ("source", "target")}
    return frame.cast({pl.Float32: pl.Float64}).with_columns(
        pl.Series("source", ends["source"]),
        pl.Series("target", ends["target"]),
        pl.Series("source_type", np.array(TYPES)[ends["source"]]),
        pl.Series("target_type", np.array(TYPES)[ends["target"]]),
    )


@pytest.fixture(scope="module")
def connections(synapses):
    names = ["conductance", "n_rrp_vesicles"]
    keys = ["source", "target", *PAIR]
    return synapses.group_by(keys).agg(pl.len().alias("k"), pl.col(names).first())


@pytest.fixture(scope="module")
def session(folder):
    with Session(folder) as opened:
        yield opened


@pytest.fixture
def ask(session):
    def answered(name, **parameters):
        answer = session.ask_ready(name, {k: str(v) for k, v in parameters.items()})
        return pl.DataFrame(list(answer.rows()), schema=answer.columns, orient="row")

    return answered


def same(found, expected, *, rtol=1e-12):
    """Compare answers row by row: text and whole numbers exactly, others within rounding."""
    assert found.columns == expected.columns
    assert len(found) == len(expected) > 0
    for name in found.columns:
        a, b = found[name], expected[name]
        if b.dtype.is_float():
            np.testing.assert_allclose(
                a.cast(pl.Float64).fill_null(np.nan), b.fill_null(np.nan), rtol=rtol, err_msg=name
            )
        else:
            assert a.to_list() == b.to_list(), name


def by(frame, *columns):
    """Return rows by falling first column, and by the others where it is equal."""
    return frame.sort(*columns, descending=[True] + [False] * (len(columns) - 1), nulls_last=True)


def of_pathways(connections):
    counts = connections.group_by(PAIR).agg(
        pl.len().cast(pl.Int64).alias("n_connections"),
        pl.col("k").sum().cast(pl.Int64).alias("n_synapses"),
    )
    return counts.sort(PAIR)


def test_there_are_many_and_each_says_what_it_answers():
    known = questions()
    assert len(known) >= 15
    for name, asked in known.items():
        assert asked.answers.endswith(("?", ".")), name
        assert "?" in asked.answers, name
        assert asked.sql.count("getvariable(") >= 2 * len(asked.parameters), name
        assert asked.sql.count("set variable") == len(asked.parameters), name


@pytest.mark.parametrize("sql", [
    "show tables", "describe", "desc", "select view_name from duckdb_views() where not internal",
    "select table_name from information_schema.tables", "from synapses", "from inputs_of('A')",
    "begin; select count(*) from connections; commit", "explain from connections",
    "with p as (from pathways) select count(*) from p join connections using (source_type)",
])  # fmt: skip
def test_all_tables_are_there_for_whom_asks_for_them(folder, sql):
    with Session(folder) as fresh, Session(folder) as whole:
        assert whole.tables
        asked = [[*session.ask(sql).rows()] for session in (fresh, whole)]
        assert sorted(asked[0]) == sorted(asked[1])


def test_a_name_of_a_table_is_taken(folder):
    with Session(folder) as session, pytest.raises(QueryError, match="exists"):
        session.ask("create table synapses as select 1")


def test_strongest_pathways(ask, connections):
    counts = of_pathways(connections)
    part = pl.col("n_synapses") / pl.col("n_synapses").sum()
    expected = by(counts.with_columns(part=part), "n_synapses", *PAIR)
    same(ask("strongest_pathways"), expected)
    same(ask("strongest_pathways", n=2), expected.head(2))


def test_excitation_and_inhibition_by_layer(ask, synapses):
    rows = []
    for layer, name in (("4", "L4_PC"), ("5", "L5_BC")):
        received = synapses.filter(pl.col("target_type") == name)["source_type"]
        e, i = ((received == of).sum() / SIZE[name] for of in ("L4_PC", "L5_BC"))
        rows.append((layer, SIZE[name], e, i, e / i))
    same(
        ask("excitation_and_inhibition_by_layer"),
        pl.DataFrame(
            rows,
            schema=[
                "layer",
                "n_neurons",
                "excitatory_per_neuron",
                "inhibitory_per_neuron",
                "ratio",
            ],
            orient="row",
        ),
    )


def test_convergence_and_divergence(ask, connections):
    n = pl.len().cast(pl.Int64)
    expected = connections.group_by(PAIR).agg(
        n.alias("n_connections"),
        pl.col("source").n_unique().alias("n_sources"),
        pl.col("target").n_unique().alias("n_targets"),
        (n / pl.col("target").n_unique()).alias("convergence"),
        (n / pl.col("source").n_unique()).alias("divergence"),
    )
    same(ask("convergence_and_divergence"), by(expected, "convergence", *PAIR))


@pytest.mark.parametrize(
    ("name", "end", "column"),
    [("in_degree", "target", "target_type"), ("out_degree", "source", "source_type")],
)
def test_degrees(ask, connections, name, end, column):
    degrees = np.bincount(connections[end], minlength=len(TYPES))
    rows = [
        (t, len(d), d.mean(), d.std(), int(d.min()), float(np.median(d)), int(d.max()))
        for t in SIZE
        for d in [degrees[np.array(TYPES) == t]]
    ]
    head = [column, "n_neurons", "mean", "std", "min", "median", "max"]
    same(ask(name), pl.DataFrame(rows, schema=head, orient="row"))


def test_neurons_without_input_count(tmp_path):
    config = write_circuit(
        tmp_path / "c", [0, 1], [2, 2], {"u_syn": [0.5, 0.6]}, mtype=["A", "A", "B", "B"]
    )
    with Session(export(resolve_circuit(config), tmp_path / "d")) as opened:
        rows = list(opened.ask_ready("in_degree").rows())
    assert rows == [("A", 2, 0.0, 0.0, 0, 0.0, 0), ("B", 2, 1.0, 1.0, 0, 1.0, 2)]


def test_synapses_per_connection_by_layer(ask, connections):
    counts = of_pathways(connections)
    expected = counts.select(
        pl.col("source_type").replace_strict(LAYER).alias("source_layer"),
        pl.col("target_type").replace_strict(LAYER).alias("target_layer"),
        "n_connections",
        "n_synapses",
        (pl.col("n_synapses") / pl.col("n_connections")).alias("synapses_per_connection"),
    ).sort("source_layer", "target_layer")
    same(ask("synapses_per_connection_by_layer"), expected)


def test_multapses(ask, connections):
    expected = connections.group_by(PAIR).agg(
        pl.len().cast(pl.Int64).alias("n_connections"),
        (pl.col("k") > 1).mean().alias("part"),
        pl.col("k").max().cast(pl.Int64).alias("largest"),
    )
    same(ask("multapses", at_least=1), by(expected, "part", *PAIR))
    most = expected["n_connections"].max()
    assert len(ask("multapses", at_least=most + 1)) == 0


def test_connection_probability(ask, connections):
    pairs = connections.select("source", "target").rows()
    rows = []
    for a, b in itertools.product(SIZE, SIZE):
        of = [(s, t) for s, t in pairs if (TYPES[s], TYPES[t]) == (a, b)]
        n_autapses = sum(s == t for s, t in of)
        possible = SIZE[a] * (SIZE[b] - (a == b))
        rows.append((a, b, len(of) - n_autapses, n_autapses, possible,
                     (len(of) - n_autapses) / possible))  # fmt: skip
    assert sum(row[3] for row in rows) > 0
    head = [*PAIR, "n_connections", "n_autapses", "n_pairs", "probability"]
    expected = pl.DataFrame(rows, schema=head, orient="row")
    same(ask("connection_probability"), by(expected, "probability", *PAIR))


def test_pairs_of_neurons_are_ordered_and_of_two(tmp_path):
    # 0 and 1 connect both ways, 2 to itself alone; targets are grouped by another attribute.
    config = write_circuit(
        tmp_path / "c", [0, 1, 2], [1, 0, 2], {}, mtype=["A", "A", "B"],
        attributes={"region": ["1", "2", "2"]},
    )  # fmt: skip

    def ask(dataset, name):
        with Session(dataset) as opened:
            return list(opened.ask_ready(name).rows())

    same_types = export(resolve_circuit(config), tmp_path / "same")
    assert ask(same_types, "connection_probability") == [
        ("A", "A", 2, 0, 2, 1.0), ("B", "B", 0, 1, 0, None),
    ]  # fmt: skip
    assert ask(same_types, "reciprocal_connections") == [("A", "A", 2, 2, 1.0, 1.0)]
    other_types = export(resolve_circuit(config), tmp_path / "other", target_type="region")
    assert ask(other_types, "connection_probability") == [
        ("A", "1", 1, 0, 1, 1.0), ("A", "2", 1, 0, 3, 1 / 3), ("B", "2", 0, 1, 1, 0.0),
    ]  # fmt: skip
    assert ask(other_types, "reciprocal_connections") == [
        ("A", "1", 1, 1, 1.0, None), ("A", "2", 1, 1, 1.0, None),
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
def test_values_that_are_no_numbers_are_null(tmp_path):
    columns = {
        "conductance": [1.0, 1.0, 2.0, 2.0, np.nan, np.nan],
        "delay": np.array([1.0, 2.0, np.nan, 4.0, np.nan, 1.0], dtype=np.float32),
        "u_syn": [1.0, np.inf, -np.inf, 2.0, 3.0, np.nan],
        "n_rrp_vesicles": [1, 1, 2, 2, 3, 3],
    }
    config = write_circuit(
        tmp_path / "c", [0, 0, 1, 1, 2, 2], [3] * 6, columns, mtype=["A", "A", "A", "B"],
        attributes={"synapse_class": ["EXC"] * 4, "layer": ["1"] * 4},
    )  # fmt: skip
    folder = tmp_path / "out"
    dataset = Dataset(export(resolve_circuit(config), folder / "dataset"))
    stats = extract(dataset, sel_props=dataset.properties)
    stats.write(folder)
    build(stats).write_parquet(folder / "model.parquet")
    asked = {
        "select count(*), count(delay), avg(delay), max(delay), sum(delay) from synapses":
            (6, 4, 2.0, 4.0, 8.0),
        "select avg(conductance), count(*), count(conductance) from connections": (1.5, 3, 2),
        "select count(*) from synapses where delay > 1": (2,),
        "select count(*) from synapses where delay <> 1": (2,),
        "select count(*) from synapses where delay <= 1": (2,),
        "select count(*) from synapses where isnan(delay) or isnan(conductance)": (0,),
        "select count(*) from synapses where isinf(u_syn)": (2,),
        "select typeof(delay), typeof(n_rrp_vesicles) from synapses limit 1": ("FLOAT", "BIGINT"),
        "select count(*) from synapses_as_stored where isnan(delay)": (2,),
        "select count(*) from connections_as_stored where isnan(conductance)": (1,),
    }  # fmt: skip
    write_database(folder)
    place = str(folder / "dataset")
    with Session(folder) as opened, duckdb.connect(str(folder / DATABASE)) as database:
        database.execute((folder / VIEWS).read_text())
        for sql, expected in asked.items():
            assert list(opened.ask(sql).rows()) == [expected], sql
            assert dataset.sql(sql).fetchall() == [expected], sql
            assert database.sql(sql).fetchall() == [expected], sql
        in_folder = database.sql("select avg(delay) from synapses_in($f)", params={"f": place})
        assert in_folder.fetchall() == [(2.0,)]
        for name, of in questions().items():
            properties = [p for p in of.parameters if p.name in ("property", "x", "y")]
            for value in columns:
                bound = {p.name: value for p in properties} | {
                    p.name: "1" for p in of.parameters if p.name == "at_least"
                }
                rows = list(opened.ask_ready(name, bound).rows())
                assert all(v == v for row in rows for v in row), (name, value)  # noqa: PLR0124 - NaN


def test_few_connections(ask, connections):
    counts = of_pathways(connections)
    limit = int(counts["n_connections"].median())
    expected = counts.filter(pl.col("n_connections") < limit).sort("n_connections", *PAIR)
    same(ask("few_connections", fewer_than=limit), expected)


def test_autapses(ask, connections):
    expected = (
        connections.filter(pl.col("source") == pl.col("target"))
        .group_by(pl.col("source_type").alias("type"))
        .agg(
            pl.len().cast(pl.Int64).alias("n_autapses"),
            pl.col("k").sum().cast(pl.Int64).alias("n_synapses"),
        )
    )
    same(ask("autapses"), by(expected, "n_autapses", "type"))


def test_reciprocal_connections(ask, connections):
    pairs = {(s, t) for s, t in connections.select("source", "target").rows() if s != t}
    rows = []
    for a, b in itertools.product(SIZE, SIZE):
        of = [(s, t) for s, t in pairs if (TYPES[s], TYPES[t]) == (a, b)]
        back = sum((TYPES[s], TYPES[t]) == (b, a) for s, t in pairs)
        possible = sum(
            TYPES[s] == a and TYPES[t] == b and s != t
            for s, t in itertools.product(range(10), range(10))
        )
        answered = sum((t, s) in pairs for s, t in of)
        rows.append((a, b, len(of), answered, answered / len(of), back / possible))
    head = [*PAIR, "n_connections", "n_reciprocal", "part", "by_chance"]
    expected = pl.DataFrame(rows, schema=head, orient="row")
    same(ask("reciprocal_connections"), by(expected, "n_reciprocal", *PAIR))


@pytest.mark.parametrize("name", ["conductance", "delay"])
def test_received_per_neuron(ask, synapses, name):
    rows = []
    for t, size in SIZE.items():
        received = synapses.filter(pl.col("target_type") == t)
        e, i = (
            received.filter(pl.col("source_type") == of)[name].sum() / size
            for of in ("L4_PC", "L5_BC")
        )
        rows.append((t, size, e, i, e + i))
    head = ["target_type", "n_neurons", "excitatory", "inhibitory", "total"]
    same(ask("received_per_neuron", property=name), pl.DataFrame(rows, schema=head, orient="row"))


def test_property_correlations(ask, connections):
    rows = [
        (*pair, len(of), np.corrcoef(of["conductance"], of["n_rrp_vesicles"])[0, 1])
        for pair, of in connections.group_by(PAIR)
    ]
    expected = pl.DataFrame(rows, schema=[*PAIR, "n", "pearson"], orient="row")
    order = pl.col("pearson").abs()
    found = ask("property_correlations", at_least=1)
    same(found, expected.sort(order, descending=True), rtol=1e-9)
    constant = ask("property_correlations", x="decay_time", at_least=1)
    assert constant["pearson"].null_count() == len(constant) == 4


def test_variation_within_connections(ask, synapses):
    rows = []
    for pair, of in synapses.group_by(PAIR):
        mean = of.group_by("source", "target").agg(pl.col("delay").mean().alias("mean"))
        joined = of.join(mean, on=["source", "target"])
        within = float(((joined["delay"] - joined["mean"]) ** 2).mean())
        total = float(np.var(of["delay"].to_numpy()))
        rows.append((*pair, len(mean), within, within / total))
    head = [*PAIR, "n_connections", "within_connections", "part"]
    expected = by(pl.DataFrame(rows, schema=head, orient="row"), "part", *PAIR)
    same(ask("variation_within_connections", at_least=1), expected, rtol=1e-9)


def test_property_by_layer(ask, synapses, connections):
    for name, values in (("conductance", connections), ("delay", synapses)):
        expected = (
            values.group_by(PAIR)
            .agg(pl.len().cast(pl.Int64).alias("n"), pl.col(name).mean().alias("mean"))
            .select(
                *(
                    pl.col(f"{side}_type").replace_strict(of).alias(f"{side}_{what}")
                    for side in ("source", "target")
                    for what, of in (("layer", LAYER), ("class", CLASS))
                ),
                pl.lit(1, dtype=pl.Int64).alias("n_pathways"),
                "n",
                "mean",
            )
        )
        same(ask("property_by_layer", property=name), expected.sort(expected.columns[:4]))


def test_heaviest_tails(ask, folder):
    rows = pl.read_parquet(folder / "statistics.parquet").cast({pl.Categorical: pl.String})
    expected = rows.filter(pl.col("kurtosis").is_not_null()).select(
        *PAIR,
        "property",
        "n",
        "kurtosis",
        "skewness",
        pl.when(pl.col("q95") > pl.col("q50"))
        .then((pl.col("max") - pl.col("q50")) / (pl.col("q95") - pl.col("q50")))
        .alias("reach"),
    )
    found = ask("heaviest_tails", n=5, at_least=2)
    same(found, by(expected, "kurtosis", *PAIR, "property").head(5))


def test_shared_properties(ask):
    # By the way the circuit was written.
    varying, shared, constant = (
        {"delay", "u_syn"},
        {"conductance", "n_rrp_vesicles"},
        {"decay_time"},
    )
    rows = [
        (name, 4, 4 * (name in shared), 4 * (name in varying), 4 * (name in constant))
        for name in sorted(varying | shared | constant)
    ]
    head = ["property", "n_pathways", "shared", "varying", "cannot_tell"]
    same(ask("shared_properties"), pl.DataFrame(rows, schema=head, orient="row"))


@pytest.mark.filterwarnings("ignore::connprops.errors.ConnpropsWarning")
def test_missing_values(tmp_path):
    columns = {"u_syn": [0.5, np.nan, 0.6, np.inf], "delay": [1.0, 2.0, 3.0, 4.0]}
    config = write_circuit(tmp_path / "c", [0, 1, 0, 1], [0, 0, 1, 1], columns, mtype=["A", "B"])
    with Session(export(resolve_circuit(config), tmp_path / "d")) as opened:
        rows = list(opened.ask_ready("missing_values").rows())
    assert rows == [("u_syn", 2, 2, 1.0)]


def test_worst_fits(ask, folder):
    rows = pl.read_parquet(folder / "fits.parquet").cast({pl.Categorical: pl.String})
    expected = rows.filter((pl.col("level") == -1) & pl.col("ks").is_not_null()).select(
        *PAIR, "property", "distribution", "n", "status", "ks",
        (pl.col("ks") * pl.col("n").sqrt()).alias("ks_root_n"),
        pl.when(pl.col("data_std") > 0).then(pl.col("wasserstein") / pl.col("data_std"))
        .alias("wasserstein_in_std"),
        "data_mean", "model_mean", "data_std", "model_std",
    )  # fmt: skip
    found = ask("worst_fits", n=7, at_least=1)
    same(found, by(expected, "ks_root_n", *PAIR, "property").head(7))


def test_what_the_model_is_made_of(ask, folder):
    rows = pl.read_parquet(folder / "model.parquet").cast({pl.Categorical: pl.String})
    distributions = rows.unique([*PAIR, "property"])
    chosen = (
        distributions.filter(pl.col("level") == -1)
        .group_by("property", "distribution")
        .agg(pl.len().cast(pl.Int64).alias("n_pathways"))
        .with_columns(part=pl.col("n_pathways") / pl.col("n_pathways").sum().over("property"))
        .sort("property", "n_pathways", "distribution", descending=[False, True, False])
    )
    same(ask("distributions_chosen"), chosen)
    found = ask("borrowed_pathways")
    assert found["property"].to_list() == sorted(distributions["property"].unique())
    assert found.select(pl.exclude("property")).unique().rows() == [(4, 0, 0, 0, 0, 0, 0.0)]


def test_each_question_has_a_test():
    source = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in questions() if f'"{name}"' not in source] == []


def test_questions_that_the_folder_cannot_answer(folder):
    with Session(folder / "dataset") as opened:
        assert len(list(opened.ask_ready("strongest_pathways").rows())) == 4
        with pytest.raises(QueryError, match=r"(?s)fits.*--list"):
            opened.ask_ready("worst_fits")
        with pytest.raises(OptionError, match="did you mean 'in_degree'"):
            question("in_degre")
        with pytest.raises(OptionError, match=r"(?s)parameter of multapses: 'n'.*'at_least'"):
            opened.ask_ready("multapses", {"n": "1"})
        with pytest.raises(OptionError, match=r"(?s)'at_least' of 'multapses'.*'many'.*such as 10"):
            opened.ask_ready("multapses", {"at_least": "many"})
