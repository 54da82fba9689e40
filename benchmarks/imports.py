"""What each step imports, and what that takes, as ``python -X importtime`` tells it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks import circuits
from benchmarks.measure import Measured, Result, connprops, empty, environment

_SHOWN = 5
"""Packages that are named, of those that take longest."""

_TIMES = 3

_PYTHON = {name.strip("_") for name in sys.stdlib_module_names} | {"zipimport", "sitecustomize"}


def imports(work: Path, synapses: int) -> Iterator[Result]:
    """Measure the imports of each step, in its own process: all, and of the dearest packages.

    The ratio is that to the whole step. Telling them makes imports a tenth longer.
    """
    config, out = str(circuits.demo(work, synapses)), work / "imports"
    dataset = str(out / "dataset")
    steps = (
        ("--help",),
        ("export", config, "-o", dataset, "-q"),
        ("extract", dataset, "-o", str(out), "-q"),
        ("build", str(out), "-q"),
        ("plot", str(out), "-q", "--formats", "json"),
        ("sql", str(out), "select 1"),
        ("run", config, "-o", str(out / "run"), "-q"),
    )
    told = []
    for _ in range(_TIMES):
        empty(out)
        told.append([_imported(step) for step in steps])
    empty(out)
    for step, *of_step in zip(steps, *told, strict=True):
        whole, seconds = connprops(*step), min(of_step, key=Counter.total)
        total = seconds.total()
        dearest = ", ".join(f"{name} {s:.3f}" for name, s in seconds.most_common(_SHOWN))
        against = f"the step's {whole.wall:.2f} s; {dearest}"
        taken = Measured(total, total, whole.peak_mb)
        yield Result("imports", step[0], taken, total / whole.wall, against, {"synapses": synapses})


def _imported(step: tuple[str, ...]) -> Counter[str]:
    """Return the seconds that a step spends in the modules of each package while they load."""
    code = "import connprops.cli as c; c.main()"
    command = [sys.executable, "-X", "importtime", "-c", code, *step]
    done = subprocess.run(  # noqa: S603 - our own commands
        command, check=True, capture_output=True, text=True, env=environment(),
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    seconds: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        fields = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and fields[0].strip().isdecimal():
            package = fields[-1].strip().partition(".")[0].strip("_")
            seconds["Python" if package in _PYTHON else package] += int(fields[0]) / 1e6
    return seconds
