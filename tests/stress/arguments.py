"""Each option of each command with hostile values: done or refused with a message, no defect."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import typer
from circuits import two_types
from typer.testing import CliRunner

from connprops.cli import app

_SECONDS = 120

HOSTILE = (
    "", " ", ".", "..", "/", "-1", "0", "1", "1e400", "nan", "-0", "9" * 400, str(2**31),
    str(2**63),
    "1/0", "2/1", "0/1", "9" * 30 + "/" + "9" * 31, ",", "a,,b", "=1", "a=", "u_syn=", "u_syn=nan",
    "u_syn=gamma,gamma", "x" * 300, "x" * 100_000, "x/" * 2000, "*", "'", '"', "{", "[" * 3000,
    "[]",
    "[1e400]", "[-1]", "[" + "9" * 400 + "]", '{"layer": {}}', '{"layer": [[]]}', "[null]", "null",
    '"\\ud800"', '{"\\u0000": 1}', "\udce9", "\x1b[31m", "\u202e", "%s", "{0}", "${HOME}", "~",
    "/dev/null", "/dev/full", "/proc/self/mem", "/nowhere/at/all", "tcp://", "1GB", "9e9TB", "1B",
    "4096PB", "error", "select 1", "drop table types", "copy types to 'x.csv'", "--", "-",
)  # fmt: skip
"""Values of options. Those of files and folders that are there are added."""


def prepared(folder: Path) -> dict[str, list[str]]:
    """Make what commands read; return for each command arguments that it takes."""
    circuit = str(two_types(folder / "circuit"))
    out, list_of = str(folder / "out"), str(folder / "list.parquet")
    invoke("run", circuit, "-o", out, "-q")
    invoke("sql", out, "select source_node, target_node from connections", "-o", list_of)
    new = str(folder / "new")
    return {
        "run": [circuit, "-o", new], "export": [circuit, "-o", new],
        "extract": [f"{out}/dataset", "-o", new], "build": [out, "-o", new],
        "plot": [out, "-o", new, "--formats", "json"],
        "cross-validate": [f"{out}/dataset", "-o", f"{new}.parquet"],
        "compare": [out, out],
        "draw": [f"{out}/model.parquet", "--circuit", circuit, "--connections", list_of,
                 "-o", f"{new}.parquet"],
        "sql": [out, "from types"], "database": [out], "info": [out], "verify": [out],
        "merge": [out], "build-model": [circuit], "demo": [new, "--synapses", "1000"],
    }  # fmt: skip


def invoke(*arguments: str) -> tuple[int | None, str]:
    """Return the exit code and all output of a command; None where it does not end."""

    def give_up(_number: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SECONDS)
    try:
        done = CliRunner().invoke(app, list(arguments))
    except TimeoutError:
        return None, "it does not end"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return done.exit_code, done.output


def cases(folder: Path, base: dict[str, list[str]]) -> list[list[str]]:
    """Return the commands to try: of each, a value in the place of an argument or of an option."""
    there = [str(folder), str(folder / "circuit" / "edges.h5"), str(folder / "out" / "run.json"),
             str(folder / "out" / "model.parquet"), str(folder / "out")]  # fmt: skip
    tried = []
    for name, command in typer.main.get_command(app).commands.items():
        for value in (*HOSTILE, *there):
            given = base[name]
            tried.append([name, value, *given[1:]])
            for parameter in command.params:
                if parameter.param_type_name == "option" and not parameter.is_flag:
                    flag = max(parameter.opts, key=len)
                    values = [value] * parameter.nargs
                    tried.append([name, *given, flag, *values])
    return [case for case in tried if not _takes_long(case)]


def _takes_long(case: list[str]) -> bool:
    """Return whether a case asks for so much that it is right to work for hours."""
    return case[0] == "demo" and case[-2] == "--synapses" and case[-1] == str(2**31)


def try_arguments(n: int, folder: Path, seed: int) -> tuple[Counter[str], list[str]]:
    """Try some of the cases; return how many ended how, and what failed."""
    folder.mkdir(exist_ok=True)
    base = prepared(folder)
    every = cases(folder, base)
    chosen = random.Random(seed).sample(  # noqa: S311 - no secret
        every, min(n, len(every))
    )
    counts, failures = Counter(), []
    for case in chosen:
        code, output = invoke(*case)
        counts[str(code)] += 1
        if code not in (0, 2):
            shown = [text[:60] for text in case]
            failures.append(f"{shown}: {code}: {output.strip()[-300:]}")
        for left in folder.glob("new*"):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()
        if not (folder / "out" / "run.json").is_file():
            failures.append(f"{case} has removed results")
            base = prepared(folder)
    return counts, failures
