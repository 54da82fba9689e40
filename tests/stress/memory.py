"""A whole run of a large circuit in little memory, which the kernel keeps to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from connprops.run.verify import verify

LIMIT = 500 * 10**6
"""Bytes that all of a run may take: interpreter and libraries too, and its files in the cache."""

PACKAGES = 250 * 10**6
"""What the resident memory of a process has beside it: pages of libraries that others share."""

_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def control_group(limit: int) -> Iterator[Path | None]:
    """Make a control group below our own; None where the system does not let us."""
    group = _made(limit)
    try:
        yield group
    finally:
        if group is not None:
            _remove(group)


def _remove(group: Path) -> None:
    """Remove a group, once what a killed process had started has ended, too."""
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)
    group.rmdir()


def _made(limit: int) -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers == "memory":  # version 1
            group, name = _GROUPS / "memory" / own.lstrip("/"), "memory.limit_in_bytes"
        elif not controllers:  # version 2
            group, name = _GROUPS / own.lstrip("/"), "memory.max"
        else:
            continue
        group /= f"connprops-stress-{os.getpid()}"
        try:
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    return None


def run_in_little(circuit: Path, out: Path) -> list[str]:
    """Run all steps on a circuit with 500 MB, and check what they have written."""
    command = [
        sys.executable, "-c", "from connprops.cli import main; main()", "run", str(circuit),
        "-o", str(out), "--quiet", "--memory", f"{LIMIT // 10**6}MB", "--threads", "2",
    ]  # fmt: skip
    with control_group(LIMIT) as group:

        def enter() -> None:
            if group is not None:
                (group / "cgroup.procs").write_text("0")

        with subprocess.Popen(command, preexec_fn=enter) as child:  # noqa: PLW1509, S603 - no thread yet; ours
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = ended = os.waitstatus_to_exitcode(status)
        peak = used.ru_maxrss * 1024
        kept = "in a control group" if group else "measured: no control group can be made here"
    print(f"  {LIMIT >> 20} MiB {kept}; most resident, libraries included: {peak >> 20} MiB")
    if ended:
        return [f"a run with {LIMIT >> 20} MiB ended with {ended}"]
    failures = [f"{file} {what}" for file, what in verify(out).damaged.items()]
    if peak > LIMIT + PACKAGES:
        failures.append(f"a run took {peak >> 20} MiB of {LIMIT + PACKAGES >> 20}")
    return failures
