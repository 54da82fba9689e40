"""Every command killed at each call that changes files; and many readers beside runs.

After each kill readers have the old generation or the new, verify says that what is there is intact
or what is not, and the same command again gives the bytes of one that was never interrupted.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from circuits import write_circuit
from faults import calls_of, killed_at
from kills import content, ended

import connprops as cp
from connprops.draw import write_synapses
from connprops.options import RunOptions
from connprops.query.session import Session
from connprops.run.merge import merge
from connprops.run.run import run
from connprops.run.verify import verify

P = RunOptions(distr_types={"p": "normal"})
MEANS = """
    select (select avg(p) from synapses),
        (select avg(mean) from statistics where property = 'p'),
        (select avg(value) from model where property = 'p' and parameter = 'mean' and level = -1)
"""
COMMANDS = ("export", "extract", "merge", "build", "draw", "run")
PROCESSES = 5
"""In which there are readers, in threads of each."""

PAUSE = 0.2


def circuit_of(folder: Path, scale: float) -> Path:
    """Write a circuit whose property has about one value: it tells what answers are of."""
    values = {"p": scale * np.array([1.0, 1.0, 1.0, 1.001, 0.999])}
    return write_circuit(folder, [0, 1, 0, 1, 0], [2, 2, 3, 3, 2], values, mtype=[*"AABB"])


def answer(folder: Path) -> tuple[int, ...]:
    """Return which circuit the data, the statistics and the model of a run are of."""
    with Session(folder) as session:
        (row,) = session.ask(MEANS).rows()
    return tuple(round(mean) for mean in row)


def command(name: str, circuits: list[Path], folder: Path, which: int) -> None:
    """Do a command in a folder, of the first circuit or the second."""
    config, steps = circuits[which], folder.parent / f"steps-{which}"
    match name:
        case "export":
            cp.open_circuit(config, folder, overwrite=True)
        case "extract":
            cp.extract(steps / "dataset").write(folder, overwrite=True)
        case "merge":
            for shard in ("1/2", "2/2"):
                cp.extract(steps / "dataset").write(folder, overwrite=True, shard=shard)
            merge(folder, overwrite=True)
        case "build":
            cp.build(cp.read_statistics(steps), distr_types={"p": "normal"}).write(
                folder, overwrite=True
            )
        case "draw":
            model = cp.read_model(steps / "model.parquet")
            folder.mkdir(exist_ok=True)
            drawn = folder / "drawn.h5"
            write_synapses(model, None, drawn, nodes=config, overwrite=True)
        case "run":
            run(config, folder, P, overwrite=True)


def seen(name: str, folder: Path) -> object:
    """Return what a reader has of a folder."""
    match name:
        case "export":
            dataset = cp.open_dataset(folder)
            return round(dataset.synapses.collect()["p"].mean())
        case "extract" | "merge":
            stats = cp.read_statistics(folder)
            return round(stats.table.collect().filter(property="p")["mean"].mean())
        case "build":
            model = cp.read_model(folder / "model.parquet")
            assert cp.read_model(folder / "model.json").properties == model.properties
            assert model.fits is not None
            return round(model.table.filter(parameter="mean", property="p")["value"].mean())
        case "draw":
            assert not verify(folder / "drawn.h5").damaged
            return (folder / "drawn.h5").read_bytes()
    return answer(folder)


def prepare(folder: Path) -> list[Path]:
    """Write two circuits, and the results of a run on each; return the circuits."""
    circuits = [circuit_of(folder / f"circuit-{i}", 10**i) for i in range(2)]
    for i, config in enumerate(circuits):
        _told(lambda i=i, config=config: run(config, folder / f"steps-{i}", P).state)
    return circuits


def kill_at_every_call(
    name: str, circuits: list[Path], folder: Path, every: int = 1
) -> tuple[int, list[str]]:
    """Kill a command at each n-th call; return how many there are, and what went wrong."""
    old, new, place = (folder / f"{name}-{which}" for which in ("old", "new", "killed"))
    _told(lambda: command(name, circuits, old, 0))
    shutil.copytree(old, new)
    n_calls = calls_of(lambda: command(name, circuits, new, 1))
    expected, failures = content(new), []
    values = [_told(lambda at=at: seen(name, at)) for at in (old, new)]
    for n in range(every - 1, n_calls, every):
        shutil.rmtree(place, ignore_errors=True)
        for left in folder.glob(f".{place.name}*"):
            shutil.rmtree(left)
        shutil.copytree(old, place)
        killed_at(n, lambda: command(name, circuits, place, 1))
        try:
            told = [
                _told(work)
                for work in (
                    lambda: seen(name, place),
                    lambda: verify(place).damaged if name != "draw" else {},
                    lambda: seen(name, place),
                    lambda: command(name, circuits, place, 1),
                )
            ]
        except AssertionError as error:
            failures.append(f"{name}, call {n}: {error}")
            continue
        if told[0] not in values or told[2] != told[0] or told[1] != "{}":
            failures.append(f"{name}, call {n}: seen {told[0]} and {told[2]}, verify {told[1]}")
        if (found := content(place)) != expected:
            names = found.keys() | expected.keys()
            other = sorted(k for k in names if found.get(k) != expected.get(k))
            failures.append(f"{name}, call {n}: other bytes in {other}")
        if left := [f.name for f in folder.glob(f".{place.name}*")]:
            failures.append(f"{name}, call {n}: {left} stay")
    return n_calls, failures


def _told(work: Callable[[], object]) -> str:
    """Return what the work gives, as text, from a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            warnings.simplefilter("ignore")
            text = repr(work())
            code = 0
        except Exception as error:  # noqa: BLE001 - it is told
            text = f"{type(error).__name__}: {error}"
        with os.fdopen(writing, "w") as pipe:
            pipe.write(text)
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    code = ended(child)
    assert not code, text
    return text


def read_beside_runs(folder: Path, n_readers: int) -> tuple[int, int, list[str]]:
    """Let readers ask while a fifth as many runs replace each other.

    Return how many answers and refusals there were, and the failures.
    """
    each = n_readers // PROCESSES
    circuits = [circuit_of(folder / f"circuit-{i}", 10**i) for i in range(2)]
    out, stop = folder / "out", folder / "stop"
    _told(lambda: run(circuits[0], out, P).state)
    pipes = [_readers(out, stop, each) for _ in range(PROCESSES)]
    for i in range(each):
        _told(lambda i=i: run(circuits[(i + 1) % 2], out, P, overwrite=True).state)
    stop.touch()
    answers, refused, failures = 0, 0, []
    for pipe in pipes:
        with os.fdopen(pipe) as told:
            for line in told.read().splitlines():
                if line in ("(1, 1, 1)", "(10, 10, 10)"):
                    answers += 1
                elif "was replaced since it was opened" in line:
                    refused += 1
                else:
                    failures.append(f"a reader: {line}")
    return answers, refused, failures


def _readers(out: Path, stop: Path, n: int) -> int:
    """Start a process whose threads ask until they are to stop; return where it tells answers."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    os.nice(19)  # so many threads would leave a run next to nothing of the processors

    def ask_often(_: int) -> str:
        lines = []
        while not stop.exists():
            try:
                text = f"{answer(out)}"
            except Exception as error:  # noqa: BLE001 - it is told
                text = f"{type(error).__name__} {error}".replace("\n", " ")
            lines.append(f"{text}\n")
            time.sleep(PAUSE)
        return "".join(lines)

    with os.fdopen(writing, "w") as pipe, ThreadPoolExecutor(n) as threads:
        pipe.writelines(threads.map(ask_often, range(n)))
    os._exit(0)
