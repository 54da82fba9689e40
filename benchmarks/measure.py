"""Measure commands: wall time, processor time and peak memory, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_LIBRARIES = ("connprops", "duckdb", "polars", "pyarrow", "numpy", "scipy", "h5py")


@dataclass(frozen=True)
class Measured:
    """What a command took: seconds of wall and processor time, megabytes at its peak."""

    wall: float
    cpu: float
    peak_mb: float
    output: str = ""


@dataclass(frozen=True)
class Result:
    """One figure of a benchmark: what was done, what it took, and how that compares."""

    benchmark: str
    what: str
    measured: Measured
    ratio: float | None = None
    against: str = ""
    size: dict[str, int] = field(default_factory=dict)

    def line(self) -> str:
        """Return the result with the machine and the versions as one line of JSON."""
        content = asdict(self)
        del content["measured"]["output"]
        return json.dumps({**content, "machine": machine(), "versions": versions()})


def measure(command: Sequence[str], *, times: int = 1, fresh: Path | None = None) -> Measured:
    """Run a command; return what the fastest of several runs took.

    The folder ``fresh`` is emptied before each run: what is there already would be used again.

    Raises
    ------
    RuntimeError
        Where the command fails; its messages are in the text.
    """
    runs = []
    for _ in range(times):
        if fresh is not None:
            empty(fresh)
        runs.append(_once(command))
    return min(runs, key=lambda m: m.wall)


def empty(folder: Path) -> Path:
    """Return the folder, new and empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def task(*arguments: str, times: int = 1, fresh: Path | None = None) -> Measured:
    """Measure one of the functions of ``benchmarks.tasks``."""
    command = [sys.executable, "-m", "benchmarks.tasks", *arguments]
    return measure(command, times=times, fresh=fresh)


def connprops(*arguments: str, times: int = 1, fresh: Path | None = None) -> Measured:
    """Measure connprops' command line."""
    command = [sys.executable, "-c", "import connprops.cli as c; c.main()", *arguments]
    return measure(command, times=times, fresh=fresh)


def _once(command: Sequence[str]) -> Measured:
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 - our own commands
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        cwd=Path(__file__).parents[1],
    ) as process:  # fmt: skip
        output, errors = _read(process)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        message = f"{' '.join(command)} ended with {process.returncode}:\n{errors}"
        raise RuntimeError(message)
    return Measured(wall, usage.ru_utime + usage.ru_stime, _megabytes(usage), output)


def environment() -> dict[str, str]:
    """Return the environment, in which Python keeps compiled modules, as for an installed one."""
    return {name: v for name, v in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _read(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return all that a process prints, without waiting for its end."""
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
    reader.start()
    output = process.stdout.read()  # type: ignore[union-attr]
    reader.join()
    return output, errors[0]


def _megabytes(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def machine() -> dict[str, Any]:
    """Return the machine and versions that the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def versions() -> dict[str, str]:
    """Return the versions of the libraries that do the work."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def show(results: Iterable[Result], out: Path | None) -> None:
    """Print results as they come, as a table, and add each as a line of JSON to a file."""
    head = f"{'benchmark':16} {'what':44} {'wall s':>8} {'cpu s':>8} {'peak MB':>8}  ratio"
    sys.stdout.write(f"{head}\n{'-' * len(head)}\n")
    for result in results:
        m = result.measured
        ratio = "" if result.ratio is None else f"{result.ratio:.3g} x {result.against}"
        sys.stdout.write(
            f"{result.benchmark:16} {result.what:44} {m.wall:8.2f} {m.cpu:8.2f} "
            f"{m.peak_mb:8.0f}  {ratio}\n"
        )
        sys.stdout.flush()
        if out is not None:
            with out.open("a", encoding="utf-8") as file:
                file.write(result.line() + "\n")
