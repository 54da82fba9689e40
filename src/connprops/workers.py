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
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from connprops.errors import OptionError, WorkerError
from connprops.resources import LEAST_MEMORY, Resources

Workers = Any
"""None for this process; a number of processes; a Dask scheduler's address, or its client; or
any executor."""

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
        with _executor(workers, len(left)) as executor:
            futures: dict[Future[Made], int] = {}
            try:
                futures |= {executor.submit(function, units[i]): i for i in sorted(left)}
                for future in as_completed(list(futures)):
                    i, made = futures.pop(future), future.result()
                    left.discard(i)
                    yield i, made
            except Exception as error:
                # A new pool is made for processes of our own; those in flight alone are run again.
                lost += 1
                if not _is_loss(error):
                    raise
                if lost > _LOST_AT_MOST or not isinstance(workers, int):
                    raise _given_up(what, left) from error
            finally:
                for future in futures:
                    future.cancel()


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
def _executor(workers: Workers, n_units: int) -> Iterator[Executor]:
    """Give the executor that runs units, whatever the workers are."""
    if isinstance(workers, Executor):
        yield workers
        return
    if isinstance(workers, int):
        if workers < 1:
            raise OptionError.of("workers", found=str(workers), expected="at least 1 process")
        context = multiprocessing.get_context("spawn")  # a fork would copy locks of other threads
        n = min(workers, n_units)
        with ProcessPoolExecutor(n, mp_context=context, initializer=_end_with_parent) as pool:
            yield pool
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
