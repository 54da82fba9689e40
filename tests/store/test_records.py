"""JSON files say what is wrong with them, and folders appear whole or not at all."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from connprops import schema
from connprops.errors import DatasetError, OutputError
from connprops.store.records import read_record, record_or_none, seal_of, write_record
from connprops.store.stage import new_folder


@dataclass(frozen=True)
class Note:
    name: str
    sizes: tuple[int, ...]
    weight: float | None = None


NOTE = Note("µ", (1, 2), 0.1 + 0.2)


@pytest.mark.parametrize("seal", [False, True])
def test_records_come_back_as_they_were(tmp_path, seal):
    file = tmp_path / "note.json"
    write_record(file, NOTE, seal=seal)
    assert read_record(file, Note, sealed=seal) == NOTE
    assert record_or_none(file, Note) == NOTE
    content = json.loads(file.read_text(encoding="utf-8"))
    assert ("seal" in content) is seal
    write_record(file, {"unknown": 1, **content})  # of a later version
    assert read_record(file, Note) == NOTE


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is damaged"),
        (b'{"name": "a"', "is damaged"),
        (b'{"name": "\xff"}', "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"[]", "is incomplete or changed\n  found:    Expected `object`, got `array`"),
        (b'{"name": "a"}', "is incomplete or changed\n  found:    .*required field `sizes`"),
        (b'{"name": "a", "sizes": [1, "2"]}', r"Expected `int`, got `str` - at `\$.sizes"),
        (b'{"schema_version": 99}', "schema version that this connprops does not read"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(tmp_path, text, says):
    file = tmp_path / "note.json"
    file.write_bytes(text)
    with pytest.raises(DatasetError, match=says) as raised:
        read_record(file, Note, hint="write it again")
    assert str(file) in str(raised.value)
    assert ("Hint: write it again" in str(raised.value)) == ("damaged" in says)
    assert record_or_none(file, Note) is None


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read"):
        read_record(tmp_path / "gone.json", Note)
    assert record_or_none(tmp_path, Note) is None


def test_a_seal_finds_each_change(tmp_path):
    file = tmp_path / "note.json"
    write_record(file, NOTE, seal=True)
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["seal"] == seal_of(content)
    for change in ({"name": "n"}, {"weight": None}, {"seal": "0"}, {"more": 1}):
        file.write_text(json.dumps({**content, **change}))
        with pytest.raises(DatasetError, match="is not what its checksum says"):
            read_record(file, Note, sealed=True)
    file.write_text(json.dumps(dict(reversed(content.items())), indent=4))
    assert read_record(file, Note, sealed=True) == NOTE


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder"

    def fail():
        with new_folder(target) as folder:
            (folder / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "a").write_text("a")
        assert not target.exists()
        with pytest.raises(OutputError, match="Another process is writing"), new_folder(target):
            pass
    assert [file.name for file in tmp_path.rglob("*")] == ["folder", "a"]


def test_tables_of_the_schema_are_whole():
    assert len(schema.TABLES) == 12
    for table in {**schema.TABLES, **schema.LARGE}.values():
        assert table.grain.startswith("one row")
        assert table.keys
        assert all(column.meaning for column in table.columns)
    text = (schema.Path(schema.__file__).with_name("schema.txt")).read_text(encoding="utf-8")
    n_columns = sum(len(table.columns) for table in schema._TABLES.values())
    lines = [line for line in text.splitlines() if line.startswith("    ") and line[4] != " "]
    assert len(lines) == n_columns  # none is passed over
