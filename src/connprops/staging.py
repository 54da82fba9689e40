"""Writing a folder so that nobody ever sees half of it, and what is finished is kept.

A stage beside the target holds::

    .NAME.partial/lock            held by the process that writes
    .NAME.partial/plan.json       of what input and options the finished parts are
    .NAME.partial/notes/          what each finished part holds
    .NAME.partial/dataset/        what takes the target's place
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connprops.artifacts import leftover_of, locked, sync, write_text, writing


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


def keep_finished(stage: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    """Take away what an earlier export left, unless it was the same one."""
    file = stage / "plan.json"
    text = json.dumps(plan, sort_keys=True, indent=1)
    if not (resume and file.is_file() and file.read_bytes() == text.encode()):
        for item in stage.iterdir():
            if item.name != "lock":
                shutil.rmtree(item) if item.is_dir() else item.unlink()
    for name in ("notes", "dataset/connections", "dataset/synapses"):
        (stage / name).mkdir(parents=True, exist_ok=True)
    write_text(file, text, overwrite=True)


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
