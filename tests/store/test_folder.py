"""A folder's files change together: whatever ends the writer, readers have the old or the new."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from pathlib import Path

import pytest
from faults import calls_of, killed_at

from connprops.errors import ConnpropsWarning, DatasetError, OutputError
from connprops.store.folder import RECORD, Folder, clean, new_generation, output_file, reading
from connprops.store.stage import put_in_place, standing

OLD = {"a": "1", "b": "1", "dropped": "1", "dataset/manifest.json": "1"}
NEW = {"a": "2", "b": "2", "added": "2", "dataset/manifest.json": "2"}


def write(folder: Path, files: dict[str, str]) -> None:
    with new_generation(folder, ["dropped"]) as stage:
        for name, text in files.items():
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(text)


def seen(folder: Path) -> dict[str, str]:
    return reading(folder, lambda of: {name: text_of(of, name) for name in of.listed or {}})


def text_of(folder: Folder, name: str) -> str:
    """Return the text of a file of a generation, or the error that it is of another."""
    try:
        with folder.open(name) as file:
            data = file.read()
    except FileNotFoundError as error:
        raise DatasetError.of(str(error)) from error
    folder.check(name, hashlib.sha256(data).hexdigest())
    return data.decode()


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def hidden(folder: Path) -> list[str]:
    return [item.name for item in folder.iterdir() if item.name.startswith(".")]


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "f", OLD)
    return tmp_path / "f"


def test_files_are_replaced_together_and_listed(folder):
    (folder / "mine.txt").write_text("dear")
    write(folder, NEW)
    assert seen(folder) == NEW
    assert set(Folder(folder).listed) == set(NEW)
    assert {p.name for p in folder.iterdir()} == {"a", "b", "added", "dataset", RECORD, "mine.txt"}


def test_killed_at_every_call_readers_see_the_old_or_the_new(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    n_calls = calls_of(lambda: write(whole, NEW))
    assert n_calls > 20
    outcomes = set()
    for n in range(n_calls):
        place = shutil.copytree(folder, tmp_path / f"killed-{n}")
        assert killed_at(n, lambda place=place: write(place, NEW))
        found = seen(place)
        assert found in (OLD, NEW), n
        outcomes.add(found == NEW)
        clean(place)
        assert hidden(place) == [], n
        assert seen(place) == found, n
        write(place, NEW)
        assert content(place) == content(whole), n
    assert outcomes == {True, False}


def test_whoever_recovers_may_be_killed_too(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    n_calls = calls_of(lambda: write(whole, NEW))
    for n in range(n_calls - 12, n_calls, 3):
        place = shutil.copytree(folder, tmp_path / f"killed-{n}")
        assert killed_at(n, lambda place=place: write(place, NEW))
        later = 0
        while killed_at(later, lambda place=place: clean(place)):  # each a little later
            assert seen(place) in (OLD, NEW)
            later += 1
        assert hidden(place) == []


def test_an_error_leaves_the_old(folder):
    before = content(folder)

    def fails():
        with new_generation(folder) as stage:
            (stage / "a").write_text("2")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert content(folder) == before


def test_readers_never_mix(folder):
    wrong, done = [], threading.Event()

    def read_often():
        while not done.is_set():
            texts = set(seen(folder).values())
            if len(texts) != 1:
                wrong.append(texts)

    threads = [threading.Thread(target=read_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(40):
        write(folder, NEW if i % 2 else {**OLD, "added": "1"})
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_pinned_generation_is_read_or_refused(folder):
    pinned = Folder(folder)
    assert text_of(pinned, "a") == "1"
    write(folder, NEW)
    with pytest.raises(DatasetError, match=f"a is damaged: it is not what {RECORD} says"):
        text_of(pinned, "a")


def test_what_was_read_between_two_generations_alike_is_read_again(folder):
    times = []

    def slowly(of: Folder) -> str:
        times.append(1)
        if len(times) > 1:
            return text_of(of, "a")
        write(folder, {**OLD, "a": "2"})
        try:
            return text_of(of, "a")
        finally:
            write(folder, OLD)

    before = Folder(folder).listed
    assert reading(folder, slowly) == "1"
    assert Folder(folder).listed == before
    assert len(times) == 2


@pytest.mark.parametrize(
    "change", [lambda b: b[: len(b) // 2], lambda _: b"", lambda b: b[:9] + b"\xff" + b[10:]]
)
def test_a_damaged_record_stops_readers_and_shows_when_it_is_replaced(folder, change):
    file = folder / RECORD
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DatasetError, match=RECORD):
        seen(folder)
    with pytest.warns(ConnpropsWarning, match="lists no files but those that are written now"):
        write(folder, {"a": "2"})
    assert set(Folder(folder).listed) == {"a"}


def test_other_files_join_the_record_of_their_folder(folder, tmp_path):
    with output_file(folder / "answer.csv") as aside:
        aside.write_text("x")
    assert set(Folder(folder).listed) == {*OLD, "answer.csv"}
    with pytest.raises(OutputError, match="exists already"), output_file(folder / "answer.csv"):
        pass
    with output_file(tmp_path / "answer.csv") as aside:
        aside.write_text("x")
    assert not (tmp_path / RECORD).exists()


def test_an_older_folder_is_found_between_two_renames(tmp_path):
    for name in ("target", "finished"):
        (tmp_path / "from" / name).mkdir(parents=True)
        (tmp_path / "from" / name / "f").write_text(name)

    def copy_and_put(n):
        place = shutil.copytree(tmp_path / "from", tmp_path / f"{n}")
        return lambda: put_in_place(place / "finished", place / "target")

    found = []
    for n in range(calls_of(copy_and_put("whole"))):
        assert killed_at(n, copy_and_put(n))
        found.append((standing(tmp_path / f"{n}" / "target") / "f").read_text())
    assert found == sorted(found, reverse=True)
    assert set(found) == {"target", "finished"}


def test_what_another_process_writes_is_left_alone(folder):
    with new_generation(folder) as stage:
        (stage / "a").write_text("2")
        if not (child := os.fork()):
            clean(folder)
            os._exit(not stage.is_dir())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert seen(folder)["a"] == "2"
