"""Long runs: kills, mutations, circuits and arguments of all kinds, limited memory.

Prints what failed.

    python tests/stress/run.py --calls 1 --readers 100 --kills 200 --mutations 10000 \\
        --circuits 1000 --variants 2000 --arguments 20000 --synapses 10000000

ends with 0 if nothing failed. The memory is limited by a control group where one can be made.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "stress")]

from circuits import two_types
from kills import ended, export_it, kill_often, run_it
from mutations import try_cases


@contextmanager
def timed(what: str) -> Iterator[None]:
    begun = time.monotonic()
    print(f"{what} ...", flush=True)
    yield
    print(f"{what}: {time.monotonic() - begun:.0f} s", flush=True)


def kills(n: int, folder: Path, seed: int) -> list[str]:
    """Kill exports and runs, half of the kills each."""
    config = two_types(folder / "circuit")
    failures = []
    for work, share in ((export_it, n - n // 2), (run_it, n // 2)):
        hits, wrong = kill_often(work, config, folder / work.__name__, share, seed)
        print(f"  {work.__name__}: {hits} kills of a running process, {len(wrong)} failures")
        failures += wrong
    return failures


def mutations(n: int, folder: Path, seed: int) -> list[str]:
    """Try damaged inputs."""
    counts, failures = try_cases(n, folder, first=seed * 1_000_000)
    for kind in dict.fromkeys(kind for kind, _ in counts):
        of_kind = {what: k for (name, what), k in sorted(counts.items()) if name == kind}
        print(f"  {kind}: " + ", ".join(f"{k:,} {what}" for what, k in of_kind.items()))
    print(f"  in all {sum(counts.values()):,}")
    return failures


def in_child(work: str, *arguments: object) -> list[str]:
    """Run a part in a process of its own, so that this one stays fit to fork."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        code = 1
        try:
            failures = PARTS[work](*arguments)
            with os.fdopen(writing, "w") as pipe:
                pipe.write("\0".join(failures))
            code = 0
        except Exception:  # noqa: BLE001 - what is raised beyond is lost with the process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    code = ended(child)
    return [f for f in told.split("\0") if f] + ([f"{work} ended with {code}"] if code else [])


def random_circuits(n: int, folder: Path, seed: int) -> list[str]:
    """Try random circuits."""
    from random_circuits import try_circuits

    counts, failures = try_circuits(n, folder, seed)
    print("  " + ", ".join(f"{k:,} {what}" for what, k in counts.items()))
    return failures


def calls(n: int, folder: Path, _seed: int) -> list[str]:
    """Kill every command at each n-th call that changes files."""
    from generations import COMMANDS, kill_at_every_call, prepare

    failures, circuits = [], prepare(folder)
    for name in COMMANDS:
        n_calls, wrong = kill_at_every_call(name, circuits, folder, n)
        print(f"  {name}: {n_calls} calls, {len(wrong)} failures", flush=True)
        failures += wrong
    return failures


def readers(n: int, folder: Path, _seed: int) -> list[str]:
    """Let n readers ask while runs replace each other."""
    from generations import read_beside_runs

    answers, refused, failures = read_beside_runs(folder, n)
    print(f"  {answers:,} answers, {refused:,} refused, {len(failures)} failures")
    return failures


def variants(n: int, folder: Path, seed: int) -> list[str]:
    """Try circuits laid out in all the ways that SONATA allows."""
    from variant_check import try_variants

    counts, failures = try_variants(n, folder, seed)
    print("  " + ", ".join(f"{k:,} {what}" for what, k in counts.items()))
    return failures


def limited(n: int, folder: Path, _seed: int) -> list[str]:
    """Run all steps on a large circuit with 500 MB."""
    from memory import run_in_little

    from connprops.demo import write_demo

    if ended(fork_of(lambda: write_demo(folder / "large", synapses=n))):
        return ["the circuit was not written"]
    return run_in_little(folder / "large", folder / "out")


def fork_of(work: object) -> int:
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def arguments(n: int, folder: Path, seed: int) -> list[str]:
    """Try options of all commands with hostile values."""
    from arguments import try_arguments

    os.chdir(folder)
    counts, failures = try_arguments(n, folder / "of-commands", seed)
    print("  " + ", ".join(f"{k:,} with {what}" for what, k in sorted(counts.items())))
    return failures


PARTS = {
    "calls": calls,
    "readers": readers,
    "circuits": random_circuits,
    "variants": variants,
    "arguments": arguments,
    "synapses": limited,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("kills", "mutations", *PARTS, "seed"):
        parser.add_argument(f"--{name}", type=int, default=0)
    given = parser.parse_args()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="stress-") as name:
        folder = Path(name)
        for what, part in (("kills", kills), ("mutations", mutations)):
            if n := getattr(given, what):
                with timed(f"{n:,} {what}"):
                    (folder / what).mkdir()
                    failures += part(n, folder / what, given.seed)
        for what in PARTS:
            if n := getattr(given, what):
                with timed(f"{n:,} {what}"):
                    (folder / f"the-{what}").mkdir()
                    failures += in_child(what, n, folder / f"the-{what}", given.seed)
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{len(failures)} failures")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
