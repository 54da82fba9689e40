"""The fits of all properties, several at once: by threads, or by processes of this machine.

Threads hold each other up, for a fit is many short steps. Processes do not, but must be started,
and sent a property's rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, TypeVar

import polars as pl

from connprops.fits.property import PropertyTables, fit_property
from connprops.fits.samples import StatisticsTables
from connprops.options import BuildOptions
from connprops.resources import Resources
from connprops.schema import Property
from connprops.statistics.statistics import Statistics
from connprops.statistics.tables import StoredTables, enums_of
from connprops.workers import of_each_worker, run_units, with_processes

_SECONDS_OF_PROPERTY, _SECONDS_OF_FIT = 0.1, 1.5e-4
"""What a property takes, whose family is chosen, and each of its pathways."""

Made = TypeVar("Made")


def fit_properties(
    properties: Sequence[Property],
    stats: Statistics,
    tables: StatisticsTables,
    options: BuildOptions,
) -> Iterator[PropertyTables]:
    """Fit properties, several at once; give their tables in order."""
    resources = options.resources or Resources()
    of_property = _SECONDS_OF_PROPERTY + _SECONDS_OF_FIT * tables.n_pathways
    shared = with_processes(resources, len(properties) * of_property)
    at_once = tables.fits_at_once(len(properties), shared)
    if options.truncnorm == "histogram":  # which silences warnings, for all threads at once
        yield from (fit_property(prop, stats, tables, options) for prop in properties)
    elif isinstance(shared.workers, int) and 1 < at_once == min(shared.workers, len(properties)):
        own = replace(of_each_worker(shared), workers=None)
        tasks = _Tasks(properties, stats, tables, replace(options, progress=None, resources=own))
        made = _in_order(run_units(_fit, tasks, shared.workers, "property"))
        yield from (PropertyTables(*map(_unpacked, packed)) for packed in made)
    else:
        own = replace(resources, threads=max(resources.threads // at_once, 1))
        of_each = replace(options, resources=own)
        with ThreadPoolExecutor(at_once) as executor:
            yield from executor.map(
                lambda prop: fit_property(prop, stats, tables, of_each), properties
            )


@dataclass(frozen=True)
class _Task:
    """A property to fit, and the statistics that it takes, as another process can be sent them.

    Frames are bytes: pickling frames stops for ever now and then in Polars 2.1.
    """

    prop: Property
    properties: tuple[Property, ...]
    types: bytes
    tables: Mapping[str, bytes]
    facts: Mapping[str, Mapping[str, Any]]
    options: BuildOptions


class _Tasks(Sequence[_Task]):
    """The tasks of all properties, each made when it is asked for: not all need be in memory."""

    def __init__(
        self,
        properties: Sequence[Property],
        stats: Statistics,
        tables: StatisticsTables,
        options: BuildOptions,
    ) -> None:
        self._properties, self._options = properties, options
        self._stats, self._tables = stats, tables

    def __len__(self) -> int:
        return len(self._properties)

    def __getitem__(self, i: Any) -> Any:
        stats, prop = self._stats, self._properties[i]
        return _Task(
            prop,
            stats.properties,
            _packed(stats.types),
            {name: _packed(rows) for name, rows in self._tables.of_property(prop.name).items()},
            {"options": stats.options, "identity": stats.identity},
            self._options,
        )


def _fit(task: _Task) -> tuple[bytes, ...]:
    """Fit the property of a task; return its tables."""
    types = _unpacked(task.types)
    dtypes = enums_of(types, [p.name for p in task.properties])
    rows = {name: _unpacked(packed).lazy() for name, packed in task.tables.items()}
    stats = Statistics(task.properties, types, StoredTables(rows, dtypes), **task.facts)
    tables = StatisticsTables.of(stats, task.options.resources)
    return tuple(map(_packed, fit_property(task.prop, stats, tables, task.options)))


def _packed(frame: pl.DataFrame) -> bytes:
    content = BytesIO()
    frame.write_ipc(content)
    return content.getvalue()


def _unpacked(content: bytes) -> pl.DataFrame:
    return pl.read_ipc(content)


def _in_order(made: Iterable[tuple[int, Made]]) -> Iterator[Made]:
    """Give what is made out of order in order."""
    waiting: dict[int, Made] = {}
    following = 0
    for i, each in made:
        waiting[i] = each
        while following in waiting:
            yield waiting.pop(following)
            following += 1
