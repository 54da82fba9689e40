"""One file is written whole or not at all, and nobody else has a say in where."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from connprops.errors import OutputError
from connprops.store.folder import write_text
from connprops.store.stage import new_folder, staged
from connprops.store.writing import (
    leftover_of,
    locked,
    refuse_existing,
    remove_leftovers,
    replacing,
    target_of,
)

ANOTHER = 65534
"""Another user."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of other users")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as aside:
        aside.write_text("half")
        assert not path.exists()
        assert aside.parent.parent == path.parent  # so that it can be renamed
        assert aside.parent.name.startswith(".")
    assert path.read_text() == "half"
    assert names(path.parent) == ["a.txt"]

    def fail():
        with replacing(path, overwrite=True) as aside:
            aside.write_text("other")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "half"
    assert names(path.parent) == ["a.txt"]


def test_files_have_the_permissions_of_others(tmp_path):
    before = os.umask(0o027)
    try:
        path = write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert mode(path) == 0o640


def test_nothing_is_overwritten_unasked(tmp_path):
    path = write_text(tmp_path / "a.txt", "µ 1")
    assert path.read_bytes() == "µ 1".encode()
    with pytest.raises(OutputError, match=r"a\.txt exists already\n  Hint: .*overwrite"):
        write_text(path, "2")
    assert path.read_text(encoding="utf-8") == "µ 1"
    write_text(path, "2", overwrite=True)
    assert path.read_text() == "2"
    nowhere = tmp_path / "link"
    nowhere.symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="link exists already"):
        refuse_existing(tmp_path / "new", nowhere)


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a.txt", tmp_path / ("x" * 300)):
        with pytest.raises(OutputError, match="cannot be written"):
            write_text(path, "a")
    with pytest.raises(OutputError, match="folder cannot be written"):
        write_text(tmp_path / "folder", "a", overwrite=True)
    assert names(tmp_path) == ["file", "folder"]


def test_a_folder_can_be_locked(tmp_path):
    with (
        locked(tmp_path, "the folder"),
        pytest.raises(OutputError, match="Another process is writing the folder"),
        locked(tmp_path, "the folder"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path, "it", shared=True), locked(tmp_path, "it", shared=True):
        pass


def test_nobody_else_can_see_or_foresee_what_is_being_written(tmp_path):
    places = set()
    for _ in range(3):
        with replacing(tmp_path / "a", overwrite=True) as aside:
            aside.write_text("secret")
            assert mode(aside.parent) == 0o700
            assert mode(tmp_path / aside.parent / ".lock") == 0o600
            places.add(aside.parent)
    assert len(places) == 3
    with staged(tmp_path / "folder") as stage:
        assert mode(stage) == 0o700
        (stage / "finished").mkdir()
    with new_folder(tmp_path / "folder"):
        pass
    assert mode(tmp_path / "folder") == 0o777 & ~umask()


def umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_planted_links_lead_nowhere(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("do not lose me")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / ".answer.csv.partial").symlink_to(precious)
    (shared / ".data.partial").symlink_to(tmp_path)
    write_text(shared / "answer.csv", "1")
    assert (shared / "answer.csv").read_text() == "1"
    assert not (shared / "answer.csv").is_symlink()
    with pytest.raises(OutputError, match=r"\.data\.partial is in the way.*\n.*a link"):
        staged(shared / "data").__enter__()
    (shared / ".held.partial").mkdir()
    (shared / ".held.partial" / "lock").symlink_to(precious)
    with pytest.raises(OutputError, match="held cannot be written"):
        staged(shared / "held").__enter__()
    assert precious.read_text() == "do not lose me"
    assert names(tmp_path) == ["precious", "shared"]


@as_root
def test_what_other_users_planted_is_refused(tmp_path):
    tmp_path.chmod(0o777)
    (tmp_path / ".data.partial").mkdir()
    os.chown(tmp_path / ".data.partial", ANOTHER, ANOTHER)
    with pytest.raises(OutputError, match="another user"):
        staged(tmp_path / "data").__enter__()
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    assert target_of(tmp_path / "link") == tmp_path / "mine"
    os.chown(tmp_path / "link", ANOTHER, ANOTHER, follow_symlinks=False)
    with pytest.raises(OutputError, match="a link that another user has made"):
        write_text(tmp_path / "link", "theirs", overwrite=True)
    assert (tmp_path / "mine").read_text() == "mine"
    tmp_path.chmod(0o755)  # where nobody else can plant links, they are as the owner wants them
    assert target_of(tmp_path / "link") == tmp_path / "mine"


def test_links_of_our_own_are_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    for name in ("a.txt", "folder"):
        (tmp_path / name).symlink_to(tmp_path / "scratch" / name)
        with pytest.raises(OutputError, match="exists already"):
            refuse_existing(tmp_path / name)
    write_text(tmp_path / "a.txt", "1", overwrite=True)
    for content in "12":
        with new_folder(tmp_path / "folder") as folder:
            (folder / "b.txt").write_text(content)
        assert (tmp_path / "scratch/folder/b.txt").read_text() == content
    assert (tmp_path / "scratch/a.txt").read_text() == "1"
    assert names(tmp_path) == ["a.txt", "folder", "scratch"]
    assert names(tmp_path / "scratch") == ["a.txt", "folder"]
    assert (tmp_path / "folder").is_symlink()
    assert leftover_of(tmp_path / "folder") == tmp_path / "scratch" / ".folder.partial"


def test_what_a_killed_process_left_goes_when_the_next_one_writes(tmp_path):
    left = [tmp_path / f".a.{n}.{n * 16}.tmp" for n in "0f"]
    others = [tmp_path / ".a.other.tmp", tmp_path / f".{'0' * 16}.tmp"]
    for folder in (*left, *others):
        folder.mkdir()
        (folder / ".lock").touch()
    (left[0] / "a.txt").write_text("half")
    with (left[1] / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        write_text(tmp_path / "b.txt", "b")
        assert names(tmp_path) == sorted(p.name for p in (left[1], *others, tmp_path / "b.txt"))
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(p.name for p in (*others, tmp_path / "b.txt"))
    remove_leftovers(tmp_path / "nowhere")


def test_of_two_that_write_at_once_the_second_is_told(tmp_path):
    def second():
        with replacing(tmp_path / "a") as aside:
            aside.write_text("second")
            write_text(tmp_path / "a", "first")

    with pytest.raises(OutputError, match="exists already"):
        second()
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_names_of_any_length_that_a_system_takes(tmp_path):
    for name in ("x" * 255, "µ" * 127, "\U0001d6fc" * 63):
        write_text(tmp_path / name, name)
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("path", ["a\0b", "\ud800"])
def test_paths_that_no_system_takes(path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_text(path, "a")


@pytest.mark.parametrize("path", [".", "/", ".."])
def test_a_folder_does_not_replace_the_one_that_we_are_in(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="the folder that this command runs in"):
        staged(Path(path)).__enter__()
    assert names(tmp_path) == []
