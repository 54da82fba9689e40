"""Writing a folder so that nobody ever sees half of it, and what is finished is kept.

A stage beside the target holds::

    .NAME.partial/lock            held by the process that writes; shards hold it together
    .NAME.partial/shards/N.lock   held by the process that works on shard N
    .NAME.partial/planning.lock   held while something is made that all shards need
    .NAME.partial/plan.json       of what input and options the finished work is
    .NAME.partial/shards.json     how many shards there are, and what they were asked to do
    .NAME.partial/notes/          what each finished part of an export holds
    .NAME.partial/dataset/        what takes the target's place
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connprops.errors import OutputError
from connprops.store.shards import Shard
from connprops.store.writing import leftover_of, locked, sync, write_text, writing

_PLAN, _SHARDS = "plan.json", "shards.json"


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Hold a hidden folder beside the target to write in; it goes when the target is there.

    An interrupted export leaves it with its finished parts, to go on from.
    """
    stage = leftover_of(target)
    with writing(target), locked(stage / "lock", str(target)):
        _restore(target)
        yield stage
        shutil.rmtree(stage)


@contextmanager
def staged_shard(target: Path, shard: Shard) -> Iterator[Path]:
    """Hold one shard's share of the stage, beside other shards; it stays for the merge."""
    stage = leftover_of(target)
    own = stage / "shards" / f"{shard.number}.lock"
    with (
        writing(target),
        locked(stage / "lock", str(target), shared=True),
        locked(own, f"shard {shard} of {target}"),
    ):
        yield stage


@contextmanager
def one_at_a_time(stage: Path) -> Iterator[None]:
    """Wait for other shards that make what all need; then it is there, or this one makes it."""
    with locked(stage / "planning.lock", str(stage), wait=True):
        yield


def keep_finished(stage: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    """Take away what an earlier export left, unless it was the same one.

    Raises
    ------
    OutputError
        Where shards of another export have left it, which may not be lost in passing.
    """
    if resume and asked_of_shards(stage) is not None:
        check_same(stage, plan)
    elif not (resume and _planned(stage) == _plain(plan)):
        for item in stage.iterdir():
            if item.name != "lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
    for item in (stage / "notes").glob("*.tmp"):  # of processes that were killed
        item.unlink()
    _make(stage, plan)


def keep_for_shards(
    stage: Path, plan: Mapping[str, Any], shard: Shard, asked: Mapping[str, Any]
) -> None:
    """Make the stage that shards share, or check that it is one of the same plan.

    Parameters
    ----------
    stage
        Its folder.
    plan
        What the finished parts depend on.
    shard
        The one that asks.
    asked
        What the merge needs to know beside.

    Raises
    ------
    OutputError
        Where the other shards are of another input, other options or another number.
    """
    before = asked_of_shards(stage)
    if before is not None and before["shards"] != shard.of:
        raise OutputError.of(
            f"The shards in {stage} are others",
            found=f"shard {shard}",
            expected=f"one of {before['shards']} shards",
            hint=f"to begin anew, remove {stage}",
        )
    if _planned(stage) is not None:
        check_same(stage, plan)
    _make(stage, plan)
    if before is None:
        text = json.dumps({"shards": shard.of, **asked}, sort_keys=True, indent=1)
        write_text(stage / _SHARDS, text)


def asked_of_shards(stage: Path) -> dict[str, Any] | None:
    """Return the number of ``shards`` and what they were asked to do; None where there are none."""
    return _json_of(stage / _SHARDS)


def check_same(stage: Path, plan: Mapping[str, Any]) -> None:
    """Raise :class:`OutputError`, which names what differs, unless a stage is of this plan."""
    wanted, before = _plain(plan), _planned(stage) or {}
    names = sorted(wanted.keys() | before.keys())
    changed = [name for name in names if wanted.get(name) != before.get(name)]
    if changed:
        raise OutputError.of(
            f"{stage} holds finished work of another input or of other options",
            found=f"differs in: {', '.join(changed)}",
            expected="the same circuit, options and version for all shards",
            hint=f"give another place, or remove {stage} to begin anew",
        )


def put_in_place(finished: Path, target: Path) -> None:
    """Rename the finished folder; an older dataset in its place goes only then."""
    for item in sorted(finished.rglob("*")):
        sync(item)
    sync(finished)
    old = _old_of(target)
    if target.is_dir() and any(target.iterdir()):
        target.rename(old)
    finished.rename(target)
    sync(target.parent)
    if old.exists():
        shutil.rmtree(old)


def _make(stage: Path, plan: Mapping[str, Any]) -> None:
    write_text(stage / _PLAN, json.dumps(plan, sort_keys=True, indent=1), overwrite=True)


def _planned(stage: Path) -> dict[str, Any] | None:
    return _json_of(stage / _PLAN)


def _json_of(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _plain(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan as JSON has it."""
    plain: dict[str, Any] = json.loads(json.dumps(plan))
    return plain


def _old_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _restore(target: Path) -> None:
    """Put an older dataset back that a process was killed about, or finish removing it."""
    old = _old_of(target)
    if old.exists():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)
