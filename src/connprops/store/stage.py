"""Writing a folder so that nobody ever sees half of it, and what is finished is kept.

A stage beside the target holds::

    .NAME.partial/lock            held by the process that writes; shards hold it together
    .NAME.partial/shards/N.lock   held by the process that works on shard N
    .NAME.partial/planning.lock   held while something is made that all shards need
    .NAME.partial/plan.json       of what input and options the finished work is
    .NAME.partial/notes/          what each finished part of an export holds
    .NAME.partial/dataset/        what takes the target's place
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connprops.errors import OutputError
from connprops.store.records import record_or_none, write_record
from connprops.store.shards import Shard
from connprops.store.writing import leftover_of, locked, sync, target_of, writing

_NOTHING_FINISHED = {"lock", "planning.lock", "plan.json", "cuts.json", "notes", "sorted"}
"""What is of no use in a stage by itself: it describes, or leads to, what is finished."""


@dataclass(frozen=True)
class _Plan:
    """What finished work is of; and, beside, what its shards were asked to do."""

    plan: dict[str, Any]
    asked: dict[str, Any] | None = None


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Hold a hidden folder beside the target to write in; it goes when the target is there.

    Where the work ends early it stays with what is finished, to go on from.
    """
    stage = leftover_of(target)
    if Path.cwd().is_relative_to(target_of(target)):
        raise OutputError.of(
            "The output would take the place of the folder that this command runs in",
            found=str(target),
            expected="the name of a new folder, or of one to replace",
        )
    with writing(target), locked(stage / "lock", str(target)):
        restore(target)
        yield stage
        shutil.rmtree(stage)


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder to write in, which becomes the target at the end; nothing else stays."""
    with staged(target) as stage:
        finished = stage / "finished"
        shutil.rmtree(finished, ignore_errors=True)  # of a process that was killed
        finished.mkdir()
        try:
            yield finished
            put_in_place(finished, target)
        except BaseException:
            shutil.rmtree(stage)
            raise


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
    with locked(stage / "planning.lock", str(stage), wait=math.inf):
        yield


def keep_finished(stage: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    """Take away what an earlier process left, unless it did the same work.

    What shards of other work have left is not removed, but an :class:`OutputError`.
    """
    before = record_or_none(stage / "plan.json", _Plan)
    if resume and before is not None and before.asked is not None:
        check_same(stage, plan)
    elif not (resume and before is not None and before.plan == _as_json(plan)):
        for item in stage.iterdir():
            if item.name != "lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
    for item in (stage / "notes").glob("*.tmp"):  # of processes that were killed
        item.unlink()
    write_record(stage / "plan.json", {"plan": plan})


def keep_for_shards(
    stage: Path, plan: Mapping[str, Any], shard: Shard, asked: Mapping[str, Any]
) -> None:
    """Make the stage that shards share, or check that it is one of the same ``plan``.

    ``asked`` is what the merge needs to know beside the plan. Raises :class:`OutputError` where
    other shards are of another input, other options or another number.
    """
    before = asked_of_shards(stage)
    if before is not None and before["shards"] != shard.of:
        raise OutputError.of(
            f"The shards in {stage} are others",
            found=f"shard {shard}",
            expected=f"one of {before['shards']} shards",
            hint=f"to begin anew, remove {stage}",
        )
    if record_or_none(stage / "plan.json", _Plan) is not None:
        check_same(stage, plan)
    if before is None:
        write_record(stage / "plan.json", {"plan": plan, "asked": {"shards": shard.of, **asked}})


def asked_of_shards(stage: Path) -> dict[str, Any] | None:
    """Return the number of ``shards`` and what they were asked to do; None where there are none."""
    before = record_or_none(stage / "plan.json", _Plan)
    return None if before is None else before.asked


def check_same(stage: Path, plan: Mapping[str, Any]) -> None:
    """Raise :class:`OutputError`, which names what differs, unless a stage is of this plan."""
    record = record_or_none(stage / "plan.json", _Plan)
    before, now = {} if record is None else record.plan, _as_json(plan)
    names = sorted(now.keys() | before.keys())
    if changed := [name for name in names if now.get(name) != before.get(name)]:
        raise OutputError.of(
            f"{stage} holds finished work of another input or of other options",
            found=f"differs in: {', '.join(changed)}",
            expected="the same circuit, options and version for all shards",
            hint=f"give another place, or remove {stage} to begin anew",
        )


def put_in_place(finished: Path, target: Path) -> None:
    """Rename the finished folder; an older one in its place goes only then."""
    target = target_of(target)
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


def _as_json(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan as it is read from JSON."""
    return msgspec.json.decode(msgspec.json.encode(plan), type=dict[str, Any])


def standing(target: Path) -> Path:
    """Return where a folder is, which a process may be putting another one in the place of."""
    old = _old_of(target)
    return old if not target.exists() and old.exists() else target


def _old_of(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def restore(target: Path) -> None:
    """Put an older folder back that a process was killed about, or finish removing it."""
    target = target_of(target)
    old = _old_of(target)
    if old.exists():
        if target.exists():
            shutil.rmtree(old)
        else:
            old.rename(target)


def restored(target: Path) -> None:
    """Do what :func:`restore` does, unless another process is writing the target.

    A stage goes that holds nothing finished.
    """
    stage = leftover_of(target)
    if stage.is_dir() or _old_of(target).exists():
        with suppress(OutputError), locked(stage / "lock", str(target)):
            restore(target)
            if {item.name for item in stage.iterdir()} <= _NOTHING_FINISHED:
                shutil.rmtree(stage)
