"""Killing an export or a run at random moments: the next one ends it all the same.

A process that has imported the package, and done nothing else, forks for each attempt, so that a
hundred of them do not take a hundred times the imports.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import connprops.export.export
import connprops.export.plan
from connprops.circuit.circuit import resolve_circuit
from connprops.options import RunOptions
from connprops.run.record import RUN_FILE
from connprops.run.run import run


def export_it(config: Path, out: Path) -> None:
    """Export in many small parts."""
    connprops.export.plan.ROWS_PER_PART = 20
    connprops.export.export.export(resolve_circuit(config), out)


def run_it(config: Path, out: Path) -> None:
    """Do everything, of one property."""
    run(config, out, RunOptions(sel_props=("u_syn",), distr_types={"u_syn": "normal"}))


def started(work: Callable[[Path, Path], None], config: Path, out: Path) -> int:
    """Fork, and do the work in the child; return its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        warnings.simplefilter("ignore")
        work(config, out)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent must learn of it
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """Wait for a child; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def content(folder: Path) -> dict[str, str]:
    """Return the checksum of every file beside and below, hidden ones too.

    Not of ``run.json``, which tells the time.
    """
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != RUN_FILE
    }


def kill_often(
    work: Callable[[Path, Path], None], config: Path, folder: Path, kills: int, seed: int
) -> tuple[int, list[str]]:
    """Kill the work at random moments; return how many kills hit it, and what went wrong."""
    whole = folder / "whole"
    begun = time.monotonic()
    code = ended(started(work, config, whole / "out"))
    seconds = time.monotonic() - begun
    if code:
        return 0, [f"{work.__name__}: the uninterrupted one ended with {code}"]
    expected = content(whole)
    moments, hits, failures = random.Random(seed), 0, []  # noqa: S311 - not for secrets
    place = folder / "killed"
    while hits < kills and not failures:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for _ in range(moments.choice((1, 1, 2))):
            child = started(work, config, place / "out")
            time.sleep(moments.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            hits += ended(child) == -signal.SIGKILL
        code = ended(started(work, config, place / "out"))
        found = content(place)
        if code:
            failures.append(f"{work.__name__}, kill {hits}: the rerun ended with {code}")
        elif found != expected:
            names = expected.keys() | found.keys()
            other = sorted(n for n in names if found.get(n) != expected.get(n))
            failures.append(f"{work.__name__}, kill {hits}: other bytes in {other}")
    return hits, failures
