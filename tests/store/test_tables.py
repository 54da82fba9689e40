from __future__ import annotations

import resource

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connprops import schema
from connprops.errors import DatasetError, OutputError
from connprops.store.tables import read_table, write_table

NASTY = "'; drop table synapses; --<script>\n µ"
TYPES = pl.Enum(["L5", "L4", NASTY])  # not in the alphabet's order
PROPERTY = pl.Enum(["u_syn", "conductance"])
FACTS = {"identity": {"circuit": "c"}, "options": {"sel_src": None, "n": [1, 2]}}


def values():
    """Return the table of values, in order of its keys."""
    return pl.DataFrame(
        {
            "source_type": ["L5", "L5", "L4", NASTY],
            "target_type": ["L4", "L4", "L4", "L5"],
            "property": ["u_syn", "conductance", "conductance", "u_syn"],
            "value": [0.1, 1 / 3, 5e-324, 1.7976931348623157e308],
            "count": [1, 2**62, 3, 0],
            "p": [1.0, 0.1 + 0.2, 1e-300, 0.0],
        },
        schema_overrides={"source_type": TYPES, "target_type": TYPES, "property": PROPERTY},
    )


@pytest.fixture
def file(tmp_path):
    return write_table(values(), schema.VALUES, tmp_path / "values.parquet", facts=FACTS)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_half_way_leaves_what_was_there(tmp_path, file):
    before = file.read_bytes()
    many = pl.concat([values()] * 3000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"values\.parquet cannot be written"):
            write_table(many, schema.VALUES, file, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert names(tmp_path) == ["values.parquet"]


def test_tables_come_back_as_they_were(file):
    frame, facts = read_table(file, schema.VALUES)
    assert frame.equals(values())
    assert frame.schema == values().schema  # Enums with their categories in order
    assert facts == {"schema_version": schema.VERSION, "table": "values", **FACTS}


def test_two_files_of_other_names_join_and_concatenate_in_polars(tmp_path, file):
    other = values().cast({pl.Enum: pl.String}).with_columns(
        pl.col("source_type").replace("L4", "L6")
    ).cast({"source_type": pl.Enum([NASTY, "L6", "L5"]), "target_type": pl.Enum(["L4", "L5"]),
            "property": pl.Enum(["conductance", "u_syn"])})  # fmt: skip
    write_table(other, schema.VALUES, tmp_path / "other.parquet")
    a, b = pl.read_parquet(file), pl.read_parquet(tmp_path / "other.parquet")
    keys = ["source_type", "target_type", "property"]
    assert len(pl.concat([a, b])) == 8
    assert sorted(a.join(b, on=keys)["count"]) == [0, 1, 2**62]
    assert read_table(tmp_path / "other.parquet", schema.VALUES)[0].schema == other.schema


def test_fields_say_their_unit_and_what_they_are(file):
    fields = {field.name: field.metadata for field in pq.read_schema(file)}
    for column in schema.VALUES.columns:
        assert fields[column.name][b"unit"] == column.unit.encode()
        assert fields[column.name][b"description"] == column.meaning.encode()
    of_property = schema.field_metadata(schema.SYNAPSES, "conductance")
    assert of_property == {"unit": "nS", "description": "peak conductance"}


def test_tables_are_sorted_and_their_bytes_depend_on_content_alone(tmp_path, file):
    for seed in range(3):
        shuffled = values().sample(fraction=1, shuffle=True, seed=seed)
        columns = np.random.default_rng(seed).permutation(shuffled.columns).tolist()
        facts = dict(reversed(FACTS.items()))
        other = write_table(
            shuffled.select(columns), schema.VALUES, tmp_path / f"{seed}", facts=facts
        )
        assert other.read_bytes() == file.read_bytes()
    other = write_table(values(), schema.VALUES, tmp_path / "other", facts={"identity": 1})
    assert other.read_bytes() != file.read_bytes()


def test_other_readers_read_them(file):
    assert pl.read_parquet(file).cast(values().schema).equals(values())
    found = duckdb.sql(f"select * from read_parquet('{file}')").fetchall()  # noqa: S608
    assert found == values().rows()
    table = pq.read_table(file)
    assert pa.types.is_dictionary(table.schema.field("source_type").type)
    assert table.to_pylist() == values().to_dicts()
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "SNAPPY"


def test_a_frame_that_is_not_the_table_is_refused(tmp_path):
    for frame, says in (
        (values().drop("p"), "columns are missing"),
        (values().with_columns(pl.col("p").cast(pl.Float32)), "wrong type"),
        (values().with_columns(pl.lit(None, dtype=pl.Float64).alias("p")), "has nulls"),
    ):
        with pytest.raises(DatasetError, match=says):
            write_table(frame, schema.VALUES, tmp_path / "a.parquet")
    assert names(tmp_path) == []


def test_any_flipped_bit_and_any_cut_is_found(file):
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    # A damaged file that reaches Polars may end the process.
    places = {*rng.integers(len(whole), size=300), *range(8), *range(len(whole) - 8, len(whole))}
    for place in sorted(places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        file.write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"values\.parquet (is damaged|cannot|was not)"):
            read_table(file, schema.VALUES)
    for length in (0, 1, 4, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DatasetError, match=r"values\.parquet cannot be read as Parquet"):
            read_table(file, schema.VALUES)
    file.write_bytes(whole[:4] + bytes(50) + whole[4:])
    with pytest.raises(DatasetError, match="is damaged"):
        read_table(file, schema.VALUES)
    file.write_bytes(whole)
    assert read_table(file, schema.VALUES)[0].equals(values())


def test_files_that_are_not_ours(tmp_path, file, monkeypatch):
    with pytest.raises(DatasetError, match=r"No file .*gone"):
        read_table(tmp_path / "gone", schema.VALUES)
    with pytest.raises(DatasetError, match="No file"):
        read_table(tmp_path, schema.VALUES)
    with pytest.raises(DatasetError, match="holds another table\n  found:    'values'"):
        read_table(file, schema.HISTOGRAMS)
    foreign = tmp_path / "foreign.parquet"
    values().write_parquet(foreign)
    with pytest.raises(DatasetError, match="was not written by connprops"):
        read_table(foreign, schema.VALUES)
    # The metadata alone, copied to other rows, do not make it ours.
    metadata = pl.read_parquet_metadata(file)
    values().head(1).write_parquet(foreign, metadata=metadata)
    with pytest.raises(DatasetError, match="is damaged"):
        read_table(foreign, schema.VALUES)
    with monkeypatch.context() as later:
        later.setattr(schema, "VERSION", schema.VERSION + 1)
        write_table(values(), schema.VALUES, file, overwrite=True)
    with pytest.raises(DatasetError, match="has a schema version that this connprops does not"):
        read_table(file, schema.VALUES)


def test_tables_are_sorted_by_their_keys_and_left_alone_where_they_are():
    rng = np.random.default_rng(0)
    names = pl.Series(["b", None, "a"], dtype=pl.Enum(["b", "a"]))
    for n in (0, 1, 2, 500):
        rows = pl.DataFrame(
            {
                **{key: names.gather(rng.integers(0, 3, n)) for key in schema.MODEL.keys[:-1]},
                schema.MODEL.keys[-1]: rng.integers(0, 3, n),
            }
        )
        found = schema.MODEL.sorted(rows)
        assert found.equals(rows.sort(schema.MODEL.keys))
        assert schema.MODEL.sorted(found) is found
        if n > 2:
            assert found is not rows
            swapped = pl.concat([found[1:2], found[:1], found[2:]])
            assert schema.MODEL.sorted(swapped).equals(found)
