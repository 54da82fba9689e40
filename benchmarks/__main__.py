"""Run benchmarks: ``python -m benchmarks NAME ... [--synapses N] [--work FOLDER] [--out FILE]``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import BENCHMARKS
from benchmarks.measure import show

_SLOW = ("reference_hex0", "reference_capped")


def main() -> None:
    """Read the command line, and run what it names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [name for name in BENCHMARKS if name not in _SLOW]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", choices=[*BENCHMARKS, []],
        help=f"which: {', '.join(BENCHMARKS)}; all but {', '.join(_SLOW)} by default",
    )  # fmt: skip
    parser.add_argument("--synapses", type=int, help="size of the circuit, in place of its own")
    parser.add_argument("--work", type=Path, help="folder for circuits, kept for the next time")
    parser.add_argument("--out", type=Path, help="file to add a line of JSON for each result to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        show(
            (
                result
                for name in arguments.names or names
                for result in BENCHMARKS[name][0](work, arguments.synapses or BENCHMARKS[name][1])
            ),
            arguments.out,
        )


if __name__ == "__main__":
    main()
