"""Tables as sources of edges: the same bytes as SONATA, numbers as Polars has them, and errors."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from circuits import SHARED, two_types
from typer.testing import CliRunner

import connprops as cp
import connprops.export.plan
from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.errors import ConnpropsWarning, OptionError, TableError
from connprops.export.export import export
from connprops.export.opening import open_network
from connprops.options import EdgeOptions

GUESSED = pytest.mark.filterwarnings("ignore:(the ends|the ids|types|a row stands):UserWarning")
LEFT_OUT = pytest.mark.filterwarnings("ignore:.* rows are left out:UserWarning")
ENDS = {"source": "pre", "target": "post", "node_id": "id", "type": "cell_type"}


def connectome(seed=0, n=3000, n_cells=60, first=864691130000000000):
    """Synapses with ids that no float holds, and the cells, in no order."""
    rng = np.random.default_rng(seed)
    cells = first + rng.permutation(n_cells) * 1001
    types = rng.choice(["L23P", "L4P", "BC", "MC"], n_cells)
    synapses = pl.DataFrame(
        {
            "pre": rng.choice(cells, n),
            "post": rng.choice(cells, n),
            "size": rng.lognormal(5, 1, n).astype(np.int64),
            "area": rng.gamma(2.0, 3.0, n).astype(np.float32),
            "compartment": rng.choice(["soma", "spine"], n),
        }
    )
    return synapses, pl.DataFrame({"id": cells, "cell_type": types})


def oracle(synapses, cells, name):
    of_cells = dict(cells.select("id", "cell_type").iter_rows())
    typed = synapses.with_columns(
        pl.col(end).replace_strict(of_cells, default=None).alias(f"{side}_type")
        for side, end in (("source", "pre"), ("target", "post"))
    ).drop_nulls(["source_type", "target_type"])
    value = pl.col(name)
    return typed.group_by("source_type", "target_type").agg(
        n=pl.len(), mean=value.mean(), std=value.std(ddof=0), min=value.min(), max=value.max(),
        q50=value.median(), n_unique=value.n_unique(),
    ).sort("source_type", "target_type")  # fmt: skip


def statistics(dataset, name, **options):
    table = cp.extract(dataset, **options).table.filter(pl.col("property") == name)
    names = ["source_type", "target_type", "n", "mean", "std", "min", "max", "q50", "n_unique"]
    frame = table.select(names).collect().with_columns(pl.col(names[:2]).cast(pl.String))
    return frame.sort(names[:2])


def assert_as_polars(dataset, synapses, cells, name="size"):
    expected = oracle(synapses, cells, name)
    found = statistics(dataset, name)
    assert (
        found.select("source_type", "target_type", "n").rows()
        == expected.select("source_type", "target_type", "n").rows()
    )
    for column in ("mean", "std", "min", "max", "q50", "n_unique"):
        np.testing.assert_allclose(found[column], expected[column].cast(float), rtol=1e-6)


def data_of(file: Path) -> bytes:
    """The bytes of a Parquet file but for its footer, which says what it was made of."""
    content = file.read_bytes()
    return content[: -8 - int.from_bytes(content[-8:-4], "little")]


def same_part(file: Path, folder: Path, other: Path) -> Path:
    """The other dataset's file of the same part: names have a part of the checksum, too."""
    inside = file.relative_to(folder).parent
    (found,) = (other / inside).glob(f"{file.stem.partition('-')[0]}*.parquet")
    return found


def as_tables(config, population, properties):
    """The edges of a circuit as a frame, in their order, and its nodes."""
    edges = resolve_circuit(config).population(population)
    with edges.reader() as rows:
        source, target = rows.node_ids(0, edges.size)
        names = [name for name in edges.columns if name in properties]
        values = {name: rows.column(edges.columns[name], 0, edges.size) for name in names}
    nodes = edges.source.attributes().sample(fraction=1, shuffle=True, seed=1)
    return pl.DataFrame({"source_node": source, "target_node": target, **values}), nodes


def assert_same_bytes(config, population, properties, folder):
    edges, nodes = as_tables(config, population, properties)
    edges.write_parquet(folder / "default.parquet", row_group_size=1000)
    expected = export(
        resolve_circuit(config), folder / "sonata", population=population, properties=properties
    )
    found = cp.open_table(
        folder / "default.parquet", nodes, source="source_node", target="target_node",
        node_id="node", type="mtype", folder=folder / "table",
    ).folder  # fmt: skip
    for file in sorted(set(expected.rglob("*.parquet")) - {expected / "node_sets.parquet"}):
        same = same_part(file, expected, found)
        assert data_of(same) == data_of(file), file
        assert pq.read_metadata(file).schema == pq.read_metadata(same).schema
    before, now = (json.loads((f / "manifest.json").read_text()) for f in (expected, found))
    assert before["columns"] == now["columns"]
    assert before["contiguous"] == now["contiguous"]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("rows_per_part", [20, 1 << 21])
def test_tables_give_the_bytes_of_sonata(tmp_path, monkeypatch, shuffled, rows_per_part):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", rows_per_part)
    config = two_types(tmp_path / "c", shuffled=shuffled)
    assert_same_bytes(config, "default", ["conductance", "u_syn", "delay"], tmp_path)


@pytest.mark.filterwarnings("ignore:types of .* span:UserWarning")
def test_a_demo_as_tables_gives_the_same_bytes(tmp_path):
    demo = cp.write_demo(tmp_path / "demo", synapses=5000)
    edges = resolve_circuit(demo.config).population()
    names = [n for n in edges.columns if schema.is_exported_by_default(n)]
    assert_same_bytes(demo.config, edges.name, names, tmp_path)


def test_functionalizer_as_tables_gives_the_same_bytes(tmp_path):
    config = SHARED / "functionalizer_1000n" / "circuit_config.json"
    if not config.is_file():
        pytest.skip("no public circuits")
    names = ["conductance", "u_syn", "depression_time", "n_rrp_vesicles", "decay_time"]
    assert_same_bytes(config, "default", names, tmp_path)


OF_TEXT = {"csv", "gzip", "tsv", "jsonl"}
"""Forms that have float64 of what was float32."""


def forms(synapses, folder):
    """Yield a table in every form that is read."""
    parts = folder / "parts"
    parts.mkdir()
    synapses[:1000].write_parquet(parts / "a.parquet")
    synapses[1000:].write_parquet(parts / "b.parquet", row_group_size=200)
    yield "folder", parts
    yield "pattern", str(parts / "*.parquet")
    synapses.write_csv(folder / "s.csv")
    yield "csv", folder / "s.csv"
    (folder / "s.csv.gz").write_bytes(gzip.compress((folder / "s.csv").read_bytes()))
    yield "gzip", folder / "s.csv.gz"
    synapses.write_csv(folder / "s.tsv", separator="\t")
    yield "tsv", folder / "s.tsv"
    synapses.write_ndjson(folder / "s.jsonl")
    yield "jsonl", folder / "s.jsonl"
    synapses.write_ipc(folder / "s.feather", compression="lz4")
    yield "feather", folder / "s.feather"
    with duckdb.connect(folder / "s.duckdb") as connection:
        connection.execute("create table synapses as from synapses; create table other (x int)")
    yield "duckdb", f"{folder / 's.duckdb'}::synapses"
    yield "polars", synapses
    yield "lazy", synapses.lazy()
    yield "pyarrow", synapses.to_arrow()
    yield "pandas", synapses.to_pandas()
    yield "relation", duckdb.sql("from synapses")


def test_all_forms_of_a_table_give_the_same_dataset(tmp_path):
    synapses, cells = connectome(n=1500)
    digests = {}
    for name, table in forms(synapses, tmp_path):
        ds = cp.open_table(table, cells, **ENDS, folder=tmp_path / name)
        digests[name] = [data_of(f) for f in sorted(ds.folder.rglob("*.parquet"))]
        if name not in OF_TEXT:
            assert ds.columns == cp.open_dataset(tmp_path / "folder").columns
    assert all(digests[n] == digests["folder"] for n in digests.keys() - OF_TEXT)
    assert digests["csv"] == digests["gzip"] == digests["tsv"]
    assert_as_polars(cp.open_dataset(tmp_path / "csv"), synapses, cells)


def test_numbers_and_ids_are_those_of_the_table(tmp_path):
    synapses, cells = connectome()
    ds = cp.open_table(synapses, cells, **ENDS, folder=tmp_path / "d")
    assert_as_polars(ds, synapses, cells)
    assert_as_polars(ds, synapses, cells, "area")
    columns = ["source_node", "target_node", "size"]
    expected = sorted(synapses.select("pre", "post", "size").rows())
    assert sorted(ds.synapses.select(columns).collect().rows()) == expected
    in_sql = ds.sql("select source_node, target_node, size from synapses").fetchall()
    assert sorted(in_sql) == expected
    assert sorted(ds.nodes["node"].unique()) == sorted(cells["id"])
    chosen = cells["id"].to_list()[:3]
    kept = synapses.filter(pl.col("pre").is_in(chosen))
    by_id = statistics(ds, "size", sel_src=chosen)
    assert by_id["n"].sum() == kept.height
    with pytest.raises(OptionError, match="nodes that do not exist"):
        cp.extract(ds, sel_src=[1]).table.collect()


def test_text_is_an_id_too_and_types_may_come_with_the_edges(tmp_path):
    synapses, cells = connectome()
    name = pl.format("n{}", pl.col("id"))
    cells = cells.with_columns(name.alias("id"))
    named = synapses.with_columns(
        pl.format("n{}", "pre").alias("pre"), pl.format("n{}", "post").alias("post")
    )
    of_cells = dict(cells.iter_rows())
    typed = named.with_columns(
        pre_type=pl.col("pre").replace_strict(of_cells),
        post_type=pl.col("post").replace_strict(of_cells),
    )
    ds = cp.open_table(named, cells, **ENDS, folder=tmp_path / "d")
    assert_as_polars(ds, named, cells)
    assert (
        ds.connections.select("source_node")
        .collect()["source_node"]
        .is_in(cells["id"].to_list())
        .all()
    )
    with pytest.warns(ConnpropsWarning, match="pre_type.*post_type"):
        with_edges = cp.open_table(typed, source="pre", target="post", folder=tmp_path / "e")
    assert_as_polars(with_edges, named, cells)
    contrary = typed.with_columns(post_type=pl.lit("other"))
    with pytest.raises(TableError, match="have several types"):
        cp.open_table(contrary, source="pre", target="post", source_type="pre_type",
                      target_type="post_type", folder=tmp_path / "f")  # fmt: skip


@LEFT_OUT
@pytest.mark.parametrize("parts", [20, 1 << 21])
def test_unknown_partners_are_left_out_or_kept_and_counted(tmp_path, monkeypatch, parts):
    monkeypatch.setattr(connprops.export.plan, "ROWS_PER_PART", parts)
    synapses, cells = connectome(n=400)
    cells = cells.with_columns(
        cell_type=pl.when(pl.col("cell_type") == "MC").then(None).otherwise("cell_type")
    )
    lost = np.arange(len(synapses)) % 5 == 0
    values = np.where(lost, np.arange(len(synapses)) % 3 - 1, synapses["pre"])  # -1, 0 and 1
    synapses = synapses.with_columns(pre=pl.Series(values), size=pl.col("size"))
    cells = pl.concat([cells, pl.DataFrame({"id": [0, 0, -1], "cell_type": ["x", "y", "z"]})])
    ds = cp.open_table(synapses, cells, **ENDS, folder=tmp_path / "d")
    known = cells.filter(pl.col("id") > 1)
    assert_as_polars(ds, synapses, known.drop_nulls())
    told = ds.manifest.left_out_rows
    assert told["source or target is no node"] == lost.sum()
    assert sum(told.values()) + ds.n_synapses == len(synapses)
    assert any("80 rows are left out" in text for text in ds.manifest.warnings)
    kept = cp.open_table(synapses, cells, **ENDS, untyped="keep", folder=tmp_path / "k")
    one = pl.DataFrame({"id": [0, 1], "cell_type": ["(none)", "(none)"]})
    assert_as_polars(kept, synapses, pl.concat([known.fill_null("(none)"), one]))
    assert kept.manifest.left_out_rows == {"source or target is no node": int((values == -1).sum())}


def test_rows_may_be_connections_with_a_count(tmp_path):
    synapses, cells = connectome()
    rows = synapses.group_by("pre", "post", maintain_order=True).agg(
        pl.len().cast(float).alias("n")
    )
    ds = cp.open_table(rows, cells, **ENDS, count="n", folder=tmp_path / "d")
    assert (ds.n_connections, ds.n_synapses) == (len(rows), len(synapses))
    found, expected = statistics(ds, "n_syn_per_conn"), oracle(rows, cells, "n")
    assert found["n"].to_list() == expected["n"].to_list()
    np.testing.assert_allclose(found["std"], expected["std"])


@LEFT_OUT
def test_which_synapses_count_is_chosen_alike_in_tables_and_circuits(tmp_path):
    config = two_types(tmp_path / "c")
    edges, nodes = as_tables(config, "default", ["conductance", "u_syn"])
    chosen = {"where": "conductance > 0.5 and u_syn < 0.9", "min_syn_per_conn": 2}
    names = ["conductance", "u_syn"]
    circuit = cp.open_dataset(
        export(resolve_circuit(config), tmp_path / "s", properties=names, **chosen)
    )
    table = cp.open_table(
        edges, nodes, source="source_node", target="target_node", node_id="node", type="mtype",
        folder=tmp_path / "t", **chosen,
    )  # fmt: skip
    meets = edges.filter((pl.col("conductance") > 0.5) & (pl.col("u_syn") < 0.9))
    n = pl.len().over("source_node", "target_node")
    expected = meets.filter(n >= 2).sort(pl.all())
    for ds in (circuit, table):
        found = ds.synapses.select(expected.columns).collect().sort(pl.all())
        np.testing.assert_allclose(found.to_numpy(), expected.to_numpy())
        assert ds.identity["where"] == chosen["where"]
        assert ds.manifest.left_out_rows["they do not meet where"] == len(edges) - len(meets)
    for file in circuit.folder.glob("*/*.parquet"):
        assert data_of(same_part(file, circuit.folder, table.folder)) == data_of(file)


def test_codes_may_be_labels(tmp_path):
    synapses, cells = connectome()
    synapses = synapses.with_columns(code=pl.col("size") % 3 * 10)
    ds = cp.open_table(synapses, cells, **ENDS, nominal=["code"], folder=tmp_path / "d")
    column = next(c for c in ds.columns if c.name == "code")
    assert (column.labels, column.role) == (("0", "10", "20"), "categories")
    codes = ds.synapses.select("code", "size").collect()
    assert (codes["code"] == codes["size"] % 3).all()
    with pytest.raises(OptionError, match="cannot be labels"):
        cp.open_table(synapses, cells, **ENDS, nominal=["area"], folder=tmp_path / "e")


def test_ids_with_and_without_signs_are_the_same_and_said(tmp_path):
    synapses, cells = connectome(n=200)
    mixed = synapses.with_columns(pl.col("post").cast(pl.UInt64))
    with pytest.warns(ConnpropsWarning, match="'pre' int64, 'post' uint64"):
        ds = cp.open_table(mixed, cells, **ENDS, folder=tmp_path / "d")
    assert_as_polars(ds, synapses, cells)


def test_rows_without_synapses_are_refused_unless_a_condition_leaves_them_out(tmp_path):
    synapses, cells = connectome(n=200)
    rows = synapses.unique(["pre", "post"]).with_columns(n=pl.col("size") % 4)
    with pytest.raises(TableError, match="column 'n' must hold numbers of synapses"):
        cp.open_table(rows, cells, **ENDS, count="n", folder=tmp_path / "d")
    assert not (tmp_path / "d").exists()
    with pytest.warns(ConnpropsWarning, match="do not meet where"):
        ds = cp.open_table(rows, cells, **ENDS, count="n", where="nsyns > 0", folder=tmp_path / "d")
    assert ds.n_synapses == rows["n"].sum()


@pytest.mark.parametrize(
    ("where", "nominal"),
    [("size > 3 and nsyns < 5", []), ("code like '1%' or area > 0", ["code"])],
)
def test_rows_that_count_without_synapses_leave_nothing_behind(tmp_path, where, nominal):
    synapses, cells = connectome(n=200)
    rows = synapses.unique(["pre", "post"]).with_columns(
        n=pl.col("size") % 4, code=pl.col("size") % 3 * 10
    )
    asked = {**ENDS, "count": "n", "where": where, "nominal": nominal}
    with pytest.raises(TableError, match="column 'n' must hold numbers of synapses"):
        cp.open_table(rows, cells, **asked, folder=tmp_path / "d")
    files = [tmp_path / "rows.parquet", tmp_path / "cells.parquet"]
    rows.write_parquet(files[0])
    cells.write_parquet(files[1])
    names = {"node_id": "node-id"}
    options = [
        f"--{names.get(n, n)}={v}" for n, v in {**ENDS, "count": "n", "where": where}.items()
    ]
    options += [f"--nominal={name}" for name in nominal]
    command = ["run", str(files[0]), "--nodes", str(files[1]), *options, "-o", str(tmp_path / "r")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "must hold numbers of synapses" in result.output
    assert sorted(tmp_path.iterdir()) == sorted(files)


@GUESSED
def test_names_of_columns_are_guessed_and_said(tmp_path):
    synapses, cells = connectome(n=200)
    synapses = synapses.rename({"pre": "pre_pt_root_id", "post": "post_pt_root_id"})
    cells = cells.rename({"id": "pt_root_id"})
    with pytest.warns(ConnpropsWarning) as told:
        cp.open_table(synapses, cells, folder=tmp_path / "d")
    texts = [str(warning.message) for warning in told]
    assert [re.findall(r"'(\w+)'", text) for text in texts] == [
        ["pre_pt_root_id", "post_pt_root_id"], ["pt_root_id"], ["cell_type"]
    ]  # fmt: skip
    doubtful = synapses.with_columns(pre=1, post=2)
    with pytest.raises(OptionError, match="Which columns of the edges"):
        cp.open_table(doubtful, cells, folder=tmp_path / "e")


def wrong(folder):
    """Yield inputs that must be refused, with options, and what the message says."""
    synapses, cells = connectome(n=200)
    synapses.write_parquet(folder / "s.parquet")
    (folder / "cut.parquet").write_bytes((folder / "s.parquet").read_bytes()[:-100])
    synapses[:0].write_parquet(folder / "empty.parquet")
    cells.write_csv(folder / "c.csv")
    pl.concat([cells, cells[:3]]).write_csv(folder / "twice.csv")
    cells.with_columns(pl.col("id").cast(pl.String) + "x").write_csv(folder / "text.csv")
    lines = ["pre,post,size", *(f"{i % 7},{i % 5},{i}" for i in range(30_000))]
    lines[25_000] = "1,2,many"
    (folder / "turns.csv").write_text("\n".join(lines))
    lines[12_000] = "1,2,few"
    (folder / "mixed.csv").write_text("\n".join(lines))
    good = [folder / "s.parquet", "--nodes", folder / "c.csv", "--source", "pre",
            "--target", "post", "--node-id", "id", "--type", "cell_type"]  # fmt: skip

    def instead(**places):
        return [places.get(f"_{i}", part) for i, part in enumerate(good)]

    yield [*good[:4], "Pre", *good[5:]], "did you mean 'pre'"
    yield [*good[:-1], "cell_typ"], "did you mean 'cell_type'"
    yield instead(_2=folder / "text.csv"), "two kinds"
    yield instead(_2=folder / "twice.csv"), "lists nodes twice"
    yield [*good, "--where", "size >"], "no condition"
    yield [*good, "--where", "read_text('/etc/passwd') is not null"], "read_text"
    yield [*good, "--where", "siz > 3"], "did you mean 'size'"
    yield [*good, "--count", "area"], "must hold numbers of synapses"
    yield instead(_0=folder / "empty.parquet"), "has no rows"
    yield instead(_0=folder / "cut.parquet"), "cannot be read as Parquet"
    yield [folder / "turns.csv", "--source", "pre", "--target", "post"], "many"
    yield [folder / "mixed.csv", "--source", "pre", "--target", "post"], "few"
    yield instead(_0=folder / "none.parquet"), "No table at"
    yield [*good, "--source-type", "nothing"], "nothing"


def test_what_is_wrong_is_one_error_and_nothing_is_written(tmp_path):
    for number, (arguments, said) in enumerate(wrong(tmp_path)):
        out = tmp_path / f"out{number}"
        result = CliRunner().invoke(app, ["run", *map(str, arguments), "-o", str(out)])
        assert result.exit_code == 2, (said, result.output)
        assert len(re.findall("^Error:", result.stderr, re.MULTILINE)) == 1
        assert said in result.stderr
        assert not out.exists()


@GUESSED
def test_a_run_on_tables_is_reused_and_refused_like_one_on_a_circuit(tmp_path):
    synapses, cells = connectome(n=300)
    synapses.write_parquet(tmp_path / "s.parquet")
    cells.write_csv(tmp_path / "c.csv")
    out = tmp_path / "out"
    arguments = ["run", str(tmp_path / "s.parquet"), "--nodes", str(tmp_path / "c.csv"),
                 "--node-id", "id", "-o", str(out), "--sel-props", "size"]  # fmt: skip
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    again = CliRunner().invoke(app, arguments)
    assert "Nothing has changed since" in again.stdout
    told = CliRunner().invoke(app, ["info", str(out)])
    assert "everything would be reused" in told.stdout
    other = CliRunner().invoke(app, [*arguments, "--where", "size > 1000"])
    assert other.exit_code == 2
    over = CliRunner().invoke(app, [*arguments, "--where", "size > 1000", "--overwrite"])
    assert over.exit_code == 0
    n = synapses.filter(pl.col("size") > 1000).height
    assert cp.open_dataset(out / "dataset").n_synapses == n
    assert (
        "size &gt; 1000" in (out / "report.html").read_text()
        or "size > 1000" in (out / "report.html").read_text()
    )
    answer = CliRunner().invoke(app, ["sql", str(out), "select min(source_node) from connections"])
    assert str(cells["id"].min()) in answer.stdout or answer.exit_code == 0


def test_options_of_tables_are_refused_for_circuits(tmp_path):
    config = two_types(tmp_path / "c")
    with pytest.raises(OptionError, match="an option of tables"):
        open_network(config, EdgeOptions(source="pre"))
