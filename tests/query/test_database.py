"""The DuckDB file and its views: in DuckDB 1.x and 2.0, moved, and from any working directory."""

from __future__ import annotations

import importlib.util
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from circuits import contents_of_database, two_types
from typer.testing import CliRunner

from connprops import schema
from connprops.circuit.circuit import resolve_circuit
from connprops.cli import app
from connprops.dataset import relations
from connprops.dataset.dataset import Dataset
from connprops.errors import DatasetError, OutputError
from connprops.export.export import export
from connprops.model.build import build
from connprops.query.database import DATABASE, VIEWS, write_database
from connprops.query.session import questions
from connprops.resources import Resources
from connprops.statistics.extract import extract

ROOT = Path(__file__).parents[2]
SHELL = shutil.which("duckdb", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("database")
    config = two_types(place / "circuit")
    dataset = Dataset(export(resolve_circuit(config), place / "out" / "dataset"))
    stats = extract(dataset)
    stats.write(place / "out")
    build(stats).write_parquet(place / "out" / "model.parquet")
    write_database(place / "out")
    return place / "out"


@pytest.fixture(scope="module")
def dataset(folder):
    return Dataset(folder / "dataset")


def opened(folder):
    """Open the database as a client would, and run views.sql."""
    connection = duckdb.connect(str(folder / DATABASE), read_only=True)
    connection.execute((folder / VIEWS).read_text())
    return connection


def frames(folder):
    return {f.stem: pl.read_parquet(f) for f in sorted(folder.glob("*.parquet"))}


def as_rows(frame):
    return frame.with_columns(pl.col(pl.Enum).cast(pl.String)).rows()


def test_small_tables_are_those_of_the_files(folder, dataset):
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        for name, frame in frames(folder).items():
            assert connection.sql(f'from "{name}"').pl().rows() == as_rows(frame), name
        assert connection.sql("from types").pl().rows() == dataset.types.rows()
        population = connection.sql("select n_synapses, name, source_nodes from edge_population")
        assert population.fetchall() == [(dataset.n_synapses, "default", "All")]
        units = dict(connection.sql("select property, unit from properties").fetchall())
    assert units["conductance"] == "nS"
    assert units["n_syn_per_conn"] == "1"


def test_every_table_and_column_says_what_it_is(folder):
    with opened(folder) as connection:
        tables = connection.sql("select table_name, comment from duckdb_tables()").fetchall()
        columns = connection.sql(
            "select table_name, column_name, comment from duckdb_columns() where not internal "
            "and table_name in (select table_name from duckdb_tables()) "
            "or table_name in ('connections', 'synapses')"
        ).fetchall()
    assert len(tables) == len(frames(folder)) + 4
    assert [name for name, comment in tables if not comment] == []
    assert [row for row in columns if not row[2]] == []
    texts = {(table, column): comment for table, column, comment in columns}
    assert texts["pathways", "n_synapses"] == "number of its synapses [1]"
    assert texts["statistics", "mean"] == "arithmetic mean [unit of the property]"
    assert texts["connections", "conductance"] == "peak conductance [nS]"
    assert texts["synapses", "delay"] == "axonal delay [ms]"


def test_the_storage_is_one_that_duckdb_1_opens(folder):
    with duckdb.connect() as connection:
        connection.execute(f"attach '{folder / DATABASE}' as it (read_only)")
        tags = connection.sql(
            "select tags from duckdb_databases() where database_name = 'it'"
        ).fetchall()
    assert "v1.0.0" in str(tags)


def test_views_give_the_large_tables_wherever_the_folder_is(folder, dataset, tmp_path, monkeypatch):
    moved = Path(shutil.copytree(folder, tmp_path / "it's moved" / "out"))
    monkeypatch.chdir("/")
    for place in (folder, moved):
        with opened(place) as connection:
            assert connection.sql("select count(*) from synapses").fetchall() == [
                (dataset.n_synapses,)
            ]
            found = connection.sql("from connections order by first_edge").pl()
            expected = dataset.connections.collect().sort("first_edge")
            assert found.select(expected.columns).rows() == as_rows(expected)
            # The tables of the run are not hidden by views of the same name.
            assert "n_sampled" in connection.sql("from pathways").columns


def test_macros_take_the_folder(folder, dataset):
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        place = folder / "dataset"
        for kind, lazy in (("connections", dataset.connections), ("synapses", dataset.synapses)):
            found = connection.sql(f"from {kind}_in('{place}')").pl()
            expected = lazy.collect()
            assert sorted(found.columns) == sorted(expected.columns)
            key = "first_edge" if kind == "connections" else "edge_id"
            rows = found.select(expected.columns).sort(key).rows()
            assert rows == as_rows(expected.sort(key)), kind
        assert connection.sql(f"from nodes_in('{place}') select count(*)").fetchall() == [(20,)]


def test_macros_of_frequent_questions(folder, dataset):
    tables = frames(folder)
    with opened(folder) as connection:

        def rows(sql):
            return connection.sql(sql).pl()

        histogram = rows("from histogram_of('L4_PC', 'L5_BC', 'conductance')")
        of = tables["histograms"].filter(
            source_type="L4_PC", target_type="L5_BC", property="conductance"
        )
        assert histogram["count"].to_list() == of["count"].to_list()
        area = histogram["density"] * (histogram["right"] - histogram["left"])
        assert area.sum() == pytest.approx(1)
        inputs = rows("from inputs_of('L5_BC')")
        pathways = tables["pathways"].cast({"source_type": pl.String})
        towards = pathways.filter(target_type="L5_BC").sort("n_synapses", descending=True)
        assert inputs["n_synapses"].to_list() == towards["n_synapses"].to_list()
        assert inputs["part"].sum() == pytest.approx(1)
        outputs = rows("from outputs_of('L5_BC')")
        assert (
            outputs["n_synapses"].sum() == pathways.filter(source_type="L5_BC")["n_synapses"].sum()
        )
        quantiles = rows("from quantiles_of('conductance', ['source_class', 'target_layer'])")
        of = dataset.connections.filter(
            pl.col("source_type") == "L4_PC", pl.col("target_type") == "L5_BC"
        )
        chosen = of.select("conductance").collect().to_series().to_numpy()
        row = quantiles.row(
            by_predicate=(pl.col("source_class") == "EXC") & (pl.col("target_layer") == "5")
        )
        assert row[2] == chosen.size
        expected = np.quantile(chosen.astype(np.float64), [0.05, 0.25, 0.5, 0.75, 0.95])
        np.testing.assert_allclose(row[3:], expected, rtol=1e-12)
        delays = rows("from quantiles_of('delay', ['source_layer'], relation := 'synapses')")
        assert delays["n"].sum() == dataset.n_synapses
        model = rows("from model_against_data('L4_PC', 'L5_BC')")
        fits = tables["fits"].cast({"property": pl.String}).filter(
            source_type="L4_PC", target_type="L5_BC"
        ).sort("property")  # fmt: skip
        assert model["property"].to_list() == fits["property"].to_list()
        assert model["ks"].to_list() == fits["ks"].to_list()


def test_contents_are_the_same_each_time_and_nothing_is_overwritten_unasked(folder, tmp_path):
    again = Path(shutil.copytree(folder, tmp_path / "again"))
    with pytest.raises(OutputError, match="exists already"):
        write_database(again)
    before = (again / VIEWS).read_bytes()
    write_database(again, overwrite=True)
    assert (again / VIEWS).read_bytes() == before
    assert contents_of_database(again / DATABASE) == contents_of_database(folder / DATABASE)
    assert not list(again.glob(".*"))


def test_a_folder_without_its_dataset_still_has_a_database(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "carried", ignore=shutil.ignore_patterns("dataset", "conn*"))
    (tmp_path / "carried" / VIEWS).unlink()
    assert write_database(tmp_path / "carried") == (tmp_path / "carried" / DATABASE,)
    with duckdb.connect(str(tmp_path / "carried" / DATABASE), read_only=True) as connection:
        assert len(connection.sql("from types").fetchall()) == 4
        assert len(connection.sql("from inputs_of('L5_BC')").fetchall()) == 2
    with pytest.raises(DatasetError, match="neither a dataset nor tables"):
        write_database(tmp_path)


def test_the_database_is_made_in_the_folder_for_temporary_files(folder, tmp_path, monkeypatch):
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(FileNotFoundError):
        tempfile.mkdtemp()
    (tmp_path / "big").mkdir()
    made = []
    connect = duckdb.connect

    def watched(**options):
        made.extend((tmp_path / "big").iterdir())
        return connect(**options)

    monkeypatch.setattr(duckdb, "connect", watched)
    limits = Resources(temp_dir=tmp_path / "big")
    write_database(place, overwrite=True, resources=limits)
    assert len(made) == 2  # for the file, and for what does not fit into memory
    assert all(stat.S_IMODE(item.stat().st_mode) == 0o700 for item in made if item.exists())


def test_the_command_writes_both(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "out")
    done = CliRunner().invoke(app, ["database", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "exists already" in done.output
    done = CliRunner().invoke(app, ["database", str(tmp_path / "out"), "--overwrite"])
    assert done.exit_code == 0
    assert done.output.split() == [str(tmp_path / "out" / name) for name in (DATABASE, VIEWS)]


@pytest.mark.parametrize("suffix", ["pandas", "pyarrow"])
def test_other_readers_open_every_table(folder, suffix):
    for name, frame in frames(folder).items():
        file = folder / f"{name}.parquet"
        if suffix == "pandas":
            table = pd.read_parquet(file)
            assert list(table.columns) == frame.columns
        else:
            table = pq.read_table(file)
            assert table.column_names == frame.columns
            assert schema.METADATA_KEY.encode() in table.schema.metadata
        assert len(table) == len(frame)
        for column in frame.columns:
            if frame.schema[column].is_numeric():
                found = np.asarray(table[column], dtype=np.float64)
                expected = frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
                np.testing.assert_array_equal(found, expected, err_msg=f"{name}.{column}")


def test_pandas_opens_the_database(folder):
    with duckdb.connect(str(folder / DATABASE), read_only=True) as connection:
        frame = connection.sql("from pathways").df()
    assert isinstance(frame, pd.DataFrame)
    expected = pd.read_parquet(folder / "pathways.parquet")
    assert frame["n_synapses"].tolist() == expected["n_synapses"].tolist()


def test_every_sql_file_is_used_or_listed_and_documented():
    files = {str(f.relative_to(relations.folder()).with_suffix("")) for f in
             relations.folder().rglob("*.sql")}  # fmt: skip
    chain = {*relations.CHAIN, *relations.BY_ID}
    used = {*chain, "macros", *(f"queries/{name}" for name in questions())}
    assert files == used
    page = (ROOT / "docs" / "tables.md").read_text()
    for name in chain | questions().keys():
        assert f"`{name}`" in page, name
    for name in re.findall(
        r"^create or replace macro (\w+)", relations.text("macros"), re.MULTILINE
    ):
        assert f"`{name}(" in page, name


def test_every_question_runs_as_it_is(folder):
    with opened(folder) as connection:
        for name, asked in questions().items():
            *_, last = [connection.execute(s) for s in connection.extract_statements(asked.sql)]
            assert last.description, name
            last.fetchall()


@pytest.mark.skipif(SHELL is None, reason="the duckdb shell is not installed")
def test_every_question_runs_in_the_shell_as_it_is(folder, tmp_path):
    script = "".join(
        f".read '{relations.folder() / 'queries' / name}.sql'\n" for name in questions()
    )
    for relation in relations.CHAIN:
        script += f"from {relation} select '{relation}', count(*);\n"
    done = subprocess.run(  # noqa: S603 - our own arguments
        [SHELL, "-readonly", "-bail", "-csv", "-init", folder / VIEWS, folder / DATABASE],
        input=script, capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rror" not in done.stderr
    counts = dict(re.findall(r"^(\w+),(\d+)$", done.stdout, re.MULTILINE))
    assert {*relations.CHAIN} <= counts.keys()


def test_the_reference_page_is_that_of_the_schema():
    spec = importlib.util.spec_from_file_location("make_tables", ROOT / "docs" / "make_tables.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == made.page(), "python docs/make_tables.py writes it again"
    for table in {**schema.TABLES, **schema.LARGE}.values():
        for column in table.columns:
            assert f"`{column.name}`" in page


def test_the_same_tables_make_the_same_rows_whatever_else_the_process_does(folder, tmp_path):
    for number in range(3):
        place = Path(shutil.copytree(folder, tmp_path / str(number)))
        with duckdb.connect() as connection:
            connection.execute("create table noise as select uuid()::varchar u from range(100_000)")
            connection.sql("select u, random() from noise order by u").fetchall()
        write_database(place, overwrite=True)
        assert contents_of_database(place / DATABASE) == contents_of_database(folder / DATABASE)
