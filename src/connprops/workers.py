"""Where units of work run: in this process, in others of this machine, or on a cluster.

A unit of work is a call of a function of some module with a small specification, which can be
pickled. What it gives does not depend on where it runs. A unit whose worker is lost runs again.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, as_completed
from dataclasses import replace
from typing import Any, TypeVar

from connprops.errors import OptionError, WorkerError
from connprops.resources import LEAST_MEMORY, Resources

Workers = Any
"""None for this process; a number of processes; a Dask scheduler's address, or its client; or
any executor."""

_LOST_AT_MOST = 3
"""Times that workers may be lost over one unit, before it is taken for the cause."""

_TIMEOUT = "30s"
"""Time that a scheduler has to answer."""

Unit = TypeVar("Unit")
Made = TypeVar("Made")


def run_units(
    function: Callable[[Unit], Made], units: Sequence[Unit], workers: Workers, what: str
) -> Iterator[tuple[int, Made]]:
    """Run a function on units of work; give each unit's number and what it made, as they end.

    Parameters
    ----------
    function
        Of a module, so that other processes find it.
    units
        What to call it with.
    workers
        Where: see :data:`Workers`.
    what
        What a unit is, for messages.

    Raises
    ------
    WorkerError
        Where workers are lost again and again.
    OptionError
        Where ``workers`` is nothing that can run units, or a scheduler does not answer.
    """
    if workers is None:
        yield from ((i, function(unit)) for i, unit in enumerate(units))
    elif isinstance(workers, int):
        yield from _in_processes(function, units, workers, what)
    elif isinstance(workers, Executor):
        yield from _in_executor(function, units, workers, what)
    else:
        yield from _on_dask(function, units, workers, what)


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


_WORKERS_OF_CLUSTER = 16
"""Workers to plan for where a cluster is named by its address."""


def _in_processes(
    function: Callable[[Unit], Made], units: Sequence[Unit], n: int, what: str
) -> Iterator[tuple[int, Made]]:
    """Run units in processes of our own; a lost process costs the units in flight alone."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if n < 1:
        raise OptionError.of("workers", found=str(n), expected="at least 1 process")
    left, lost = set(range(len(units))), 0
    context = multiprocessing.get_context("spawn")  # a fork would copy locks of other threads
    while left:
        with ProcessPoolExecutor(min(n, len(left)), mp_context=context) as pool:
            futures = {pool.submit(function, units[i]): i for i in sorted(left)}
            try:
                for i, made in _completed(futures):
                    left.discard(i)
                    yield i, made
            except BrokenExecutor as error:
                lost += 1
                if lost > _LOST_AT_MOST:
                    raise _given_up(what, left) from error


def _in_executor(
    function: Callable[[Unit], Made], units: Sequence[Unit], executor: Executor, what: str
) -> Iterator[tuple[int, Made]]:
    futures = {executor.submit(function, unit): i for i, unit in enumerate(units)}
    left = set(futures.values())
    try:
        for i, made in _completed(futures):
            left.discard(i)
            yield i, made
    except BrokenExecutor as error:
        raise _given_up(what, left) from error


def _completed(futures: dict[Future[Made], int]) -> Iterator[tuple[int, Made]]:
    """Give results as they come; cancel what has not begun where one fails."""
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _on_dask(
    function: Callable[[Unit], Made], units: Sequence[Unit], workers: Any, what: str
) -> Iterator[tuple[int, Made]]:
    """Run units on a Dask cluster, which runs those of a lost worker again."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise OptionError.of(
            "A Dask cluster needs the package distributed",
            found="it is not installed",
            hint="pip install 'connprops[cluster]'",
        ) from error
    if isinstance(workers, distributed.Client):
        yield from _with_client(function, units, workers, what)
        return
    if not isinstance(workers, str):
        raise OptionError.of(
            "workers can run no units",
            found=type(workers).__name__,
            expected="a number of processes, a Dask scheduler's address or client, or an executor",
        )
    try:
        client = distributed.Client(workers, timeout=_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OptionError.of(
            f"No Dask scheduler answers at {workers}",
            found=str(error),
            expected="an address such as tcp://host:8786",
        ) from error
    with client:
        yield from _with_client(function, units, client, what)


def _with_client(
    function: Callable[[Unit], Made],
    units: Sequence[Unit],
    client: Any,
    what: str,
) -> Iterator[tuple[int, Made]]:
    distributed: Any = importlib.import_module("distributed")
    futures = client.map(function, units, pure=False, batch_size=100)
    number = {future.key: i for i, future in enumerate(futures)}
    left = set(number.values())
    try:
        for future in distributed.as_completed(futures, loop=client.loop):
            made = future.result()
            i = number[future.key]
            left.discard(i)
            yield i, made
            future.release()
    except distributed.KilledWorker as error:
        raise _given_up(what, left) from error
    finally:
        client.cancel(futures)


def _given_up(what: str, left: set[int]) -> WorkerError:
    first = ", ".join(str(i) for i in sorted(left)[:5])
    return WorkerError.of(
        f"Workers were lost again and again, {len(left)} of the {what}s are not done",
        found=f"the first of them: {first}",
        hint="a worker that needs more memory than it may take is killed: give workers more, "
        "or connprops less (--memory)",
    )
