"""Processes that die at the n-th call that changes files: writing, syncing, renaming, removing."""

from __future__ import annotations

import os
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

_CALLS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")


def calls_of(work: Callable[[], object]) -> int:
    """Do the work in a process of its own; return how many calls it makes."""
    reading, writing = os.pipe()
    child = _forked(work, None, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return int(told)


def killed_at(n: int, work: Callable[[], object]) -> bool:
    """Do the work in a process that is killed just before its call n; return whether it was."""
    code = os.waitstatus_to_exitcode(os.waitpid(_forked(work, n, None), 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _forked(work: Callable[[], object], n: int | None, told: int | None) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        warnings.simplefilter("ignore")
        calls = _count(n)
        work()
        if told is not None:
            os.write(told, str(len(calls)).encode())
        code = 0
    except BaseException:  # noqa: BLE001 - the parent must learn of it
        traceback.print_exc()
    finally:
        os._exit(code)


def _count(n: int | None) -> list[str]:
    """Let calls be counted, and the process die at one of them: of a text, half is written."""
    calls: list[str] = []

    def count(name: str) -> bool:
        calls.append(name)
        return len(calls) - 1 == n

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def counted(name: str, original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if count(name):
                die()
            return original(*arguments, **options)

        return call

    write_bytes = Path.write_bytes

    def half_written(path: Path, data: bytes) -> int:
        if count("write"):
            write_bytes(path, data[: len(data) // 2])
            die()
        return write_bytes(path, data)

    for name in _CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    Path.write_bytes = half_written
    Path.write_text = lambda path, text, encoding="utf-8": half_written(path, text.encode(encoding))
    return calls
