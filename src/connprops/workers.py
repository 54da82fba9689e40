"""Where units of work run: in this process, in others of this machine, or on a cluster.

A unit of work is the argument of a function: a small specification that can be pickled. The
result does not depend on where it is computed. A unit whose worker is lost runs again.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from connprops.errors import OptionError, WorkerError
from connprops.resources import LEAST_MEMORY, Resources

Workers = Any
"""None for this process; a number of processes beside it, or :class:`Shared`; a Dask scheduler's
address, or its client; or any executor."""


class Shared(int):
    """So many processes of this machine, of which this one is one."""


_WORTH, _WORTH_OF_READY = 1.0, 0.3
"""Seconds of work for each process of this machine from which they are started unasked, for what
they import takes a third of a second; and of work that is given to those that are there."""

_MEMORY_OF_PROCESS = 1 << 30
"""Bytes to have for each of these."""

_LOST_AT_MOST = 3
"""Times that processes may be lost over one unit, before it is taken for the cause."""

_WORKERS_OF_CLUSTER = 16
"""Workers to plan for where a cluster is named by its address."""

Unit = TypeVar("Unit")
Made = TypeVar("Made")


def run_units(
    function: Callable[[Unit], Made], units: Sequence[Unit], workers: Workers, what: str
) -> Generator[tuple[int, Made]]:
    """Run a function on units of work; give each unit's number and what it made, as they end.

    Other processes import the function by its name. ``what`` is what a unit is, for messages.
    """
    if workers is None:
        yield from ((i, function(unit)) for i, unit in enumerate(units))
        return
    left, lost = set(range(len(units))), 0
    while left:
        with _executors(workers, len(left)) as executors:
            try:
                for i, made in _made_by(executors, function, units, sorted(left)):
                    left.discard(i)
                    yield i, made
            except Exception as error:
                # A new pool is made for processes of our own; those in flight alone are run again.
                lost += 1
                if not _is_loss(error):
                    raise
                if lost > _LOST_AT_MOST or not isinstance(workers, int):
                    raise _given_up(what, left) from error
                _forget(executors)


def _made_by(
    executors: Mapping[Executor, int],
    function: Callable[[Unit], Made],
    units: Sequence[Unit],
    numbers: Iterable[int],
) -> Generator[tuple[int, Made]]:
    """Give the numbers of some units and what is made of them, as they end."""
    waiting, room = iter(numbers), dict(executors)
    futures: dict[Future[Made], tuple[int, Executor]] = {}
    try:
        while True:
            for executor, n in room.items():
                for i in islice(waiting, n):
                    futures[executor.submit(function, units[i])] = i, executor
                    room[executor] -= 1
            if not futures:
                return
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                i, executor = futures.pop(future)
                room[executor] += 1
                yield i, future.result()
    finally:
        for future in futures:
            future.cancel()


def with_processes(resources: Resources, seconds: float) -> Resources:
    """Return resources with processes of this machine, where nobody said what works.

    ``seconds`` is how long one would take, about. This one works too, beside as many as are worth
    it, so that there is one for each thread at most; or beside those that are there already.
    """
    if resources.workers is not None or multiprocessing.parent_process() is not None:
        return resources
    most = min(resources.threads, resources.memory // _MEMORY_OF_PROCESS)
    ready = max((n for n in _of_machine if n < most), default=0)
    n = ready + 1 if ready and seconds > _WORTH_OF_READY else min(most, int(seconds / _WORTH))
    return replace(resources, workers=Shared(n)) if n > 1 else resources


def of_each_worker(resources: Resources) -> Resources:
    """Return what each worker may use: processes of this machine share what there is."""
    if not isinstance(resources.workers, int):
        return resources
    n = max(resources.workers, 1)
    memory = max(resources.memory // n, LEAST_MEMORY)
    return replace(resources, threads=max(resources.threads // n, 1), memory=memory)


def number_of(workers: Workers) -> int:
    """Return how many units may run at once, about; 1 where nobody knows."""
    if isinstance(workers, int):
        return workers
    if isinstance(workers, Executor):
        return int(getattr(workers, "_max_workers", 1))
    scheduler = getattr(workers, "scheduler_info", None)
    if scheduler is not None:
        return max(sum(int(w["nthreads"]) for w in scheduler(n_workers=-1)["workers"].values()), 1)
    return 1 if workers is None else _WORKERS_OF_CLUSTER


@contextmanager
def _executors(workers: Workers, n_units: int) -> Iterator[Mapping[Executor, int]]:
    """Give what runs units, whatever the workers are, and how many each is given at once.

    Processes of this machine are given a few, for units may be large.
    """
    if not isinstance(workers, int):
        with _executor(workers) as executor:
            yield {executor: n_units}
    elif workers < 1:
        raise OptionError.of("workers", found=str(workers), expected="at least 1 process")
    elif isinstance(workers, Shared):
        with _processes(workers - 1) as pool, ThreadPoolExecutor(1) as own:
            yield {own: 1, pool: 2 * (workers - 1)}
    else:
        with _processes(workers) as pool:
            yield {pool: 2 * workers}


@contextmanager
def _executor(workers: Workers) -> Iterator[Executor]:
    """Give the executor that stands for workers elsewhere."""
    if isinstance(workers, Executor):
        yield workers
        return
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise OptionError.of(
            "A Dask cluster needs the package distributed",
            found="it is not installed",
            hint="pip install 'connprops[cluster]'",
        ) from error
    if isinstance(workers, distributed.Client):
        yield workers.get_executor(pure=False)
        return
    if not isinstance(workers, str):
        raise OptionError.of(
            "workers can run no units",
            found=type(workers).__name__,
            expected="a number of processes, a Dask scheduler's address or client, or an executor",
        )
    try:
        client = distributed.Client(workers, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OptionError.of(
            f"No Dask scheduler answers at {workers}",
            found=str(error),
            expected="an address such as tcp://host:8786",
        ) from error
    with client:
        yield client.get_executor(pure=False)


@contextmanager
def started(resources: Resources, *modules: str) -> Iterator[None]:
    """Start the processes that resources name, if any: what is done within finds them ready."""
    with ExitStack() as stack:
        if isinstance(resources.workers, int):
            n = resources.workers - isinstance(resources.workers, Shared)
            stack.enter_context(_processes(n, modules))
        yield


class _Processes:
    """Processes of this machine, which stay until nobody needs them."""

    def __init__(self, n: int, modules: Sequence[str]) -> None:
        self.pool = _started(n, modules)
        self.n_users = 0


_of_machine: dict[int, _Processes] = {}
_lock = threading.Lock()


@contextmanager
def _processes(n: int, modules: Sequence[str] = ()) -> Iterator[Executor]:
    """Give n processes of this machine, those that a caller has already or new ones."""
    with _lock:
        own = _of_machine.get(n) or _Processes(n, modules)
        _of_machine[n] = own
        own.n_users += 1
    try:
        yield own.pool
    finally:
        with _lock:
            own.n_users -= 1
            is_last = not own.n_users
            if is_last and _of_machine.get(n) is own:
                del _of_machine[n]
        if is_last:
            own.pool.shutdown(cancel_futures=True)


def _forget(executors: Iterable[Executor]) -> None:
    """Let nobody use processes again of which some were lost."""
    with _lock:
        for n in [n for n, own in _of_machine.items() if own.pool in executors]:
            del _of_machine[n]


def _started(n: int, modules: Sequence[str]) -> ProcessPoolExecutor:
    """Return n new processes: not forks, which would copy locks of other threads.

    They would import the main module too, and a script that does not ask whether it is the main one
    would run again in each of them.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n, mp_context=context, initializer=_end_with_parent)
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        for _ in range(n):  # each starts a process
            pool.submit(_import, modules)
    finally:
        sys.modules["__main__"] = main
    return pool


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


def _end_with_parent() -> None:
    """Let this worker end when the process that started it does, however that ends."""
    parent = multiprocessing.parent_process()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it too, without a word

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _is_loss(error: Exception) -> bool:
    """Return whether an error says that workers were lost: of an executor, or of Dask."""
    distributed: Any = sys.modules.get("distributed")
    lost = BrokenExecutor if distributed is None else (BrokenExecutor, distributed.KilledWorker)
    return isinstance(error, lost)


def _given_up(what: str, left: set[int]) -> WorkerError:
    return WorkerError.of(
        f"Workers were lost again and again, {len(left)} of the {what}s are not done",
        found=f"the first of them: {', '.join(map(str, sorted(left)[:5]))}",
        hint="a worker that needs more memory than it may take is killed: give workers more, "
        "or connprops less (--memory)",
    )
