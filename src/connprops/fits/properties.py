"""The fits of all properties, several at once: by threads, or by processes of this machine.

Threads hold each other up, for a fit is many short steps. Processes do not, but must be started,
and sent a property's rows. What a fit holds grows with its pathways. So where these are very many,
a property is fitted range by range, each with the same others to borrow from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
import polars as pl

from connprops.arrays import Ints
from connprops.fits.property import PropertyTables, fit_property
from connprops.fits.samples.tables import Ranges, StatisticsTables
from connprops.options import AUTO, BuildOptions
from connprops.pathways import enums_of
from connprops.resources import Resources, release_memory
from connprops.schema import Property
from connprops.statistics.statistics import Statistics
from connprops.statistics.tables import StoredTables
from connprops.workers import Shared, of_each_worker, run_units, with_processes

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
    elif options.interpolation == "pooled" and tables.is_divided:
        alone = replace(options, resources=replace(resources, workers=None))
        for prop in properties:
            if (ranges := tables.ranges(prop)) is None:
                yield fit_property(prop, stats, tables, alone)
            else:
                yield _fit_ranges(prop, ranges, stats, tables, replace(options, resources=shared))
    elif isinstance(shared.workers, int) and 1 < at_once == min(shared.workers, len(properties)):
        own = replace(of_each_worker(shared), workers=None)
        of_each = replace(options, progress=None, resources=own)
        tasks = _Tasks([(prop, _Part()) for prop in properties], stats, tables, of_each)
        made = _in_order(run_units(_fit, tasks, shared.workers, "property"))
        yield from (PropertyTables(*map(_unpacked, packed)) for packed in made)
    else:
        own = replace(resources, threads=max(resources.threads // at_once, 1))
        of_each = replace(options, resources=own)
        with ThreadPoolExecutor(at_once) as executor:
            yield from executor.map(
                lambda prop: fit_property(prop, stats, tables, of_each), properties
            )


def _fit_ranges(
    prop: Property,
    ranges: Ranges,
    stats: Statistics,
    tables: StatisticsTables,
    options: BuildOptions,
) -> PropertyTables:
    """Fit a property range by range: pathways without data borrow from the reference.

    What is finished stays packed until all is.
    """
    number, resources = tables.pathways.number_of_row, options.resources or Resources()
    of_reference = tables.of_property(
        prop.name, number.is_in(pl.Series(ranges.reference).implode())
    )
    further = np.setdiff1d(ranges.numbers, ranges.reference)
    workers = tables.ranges_at_once(ranges, resources)
    shared = replace(resources, workers=Shared(workers) if workers > 1 else None)
    alone = replace(options, progress=None, resources=replace(of_each_worker(shared), workers=None))

    first = _Tasks([(prop, _Part(further=further))], stats, tables, alone, of_reference)
    borrowed = PropertyTables(*map(_unpacked, _fit(first[0])))
    chosen = borrowed.scores.filter("chosen")["distribution"]
    if len(chosen) and options.distr_types.get(prop.name, AUTO) == AUTO:
        alone = replace(alone, distr_types={**options.distr_types, prop.name: chosen[0]})

    parts = [(prop, _Part(kept=kept)) for kept in ranges.bounds]
    tasks = _Tasks(parts, stats, tables, alone, of_reference)
    models, fits = [], []
    for model, of_model, _ in _in_order(run_units(_fit, tasks, shared.workers, "range")):
        models.append(model)
        fits.append(of_model)
        if options.progress:
            options.progress("build", len(fits), len(parts), f"ranges of {prop.name}")
    release_memory()
    of_pools = (frame.filter(pl.col("level") >= 0) for frame in (borrowed.model, borrowed.fits))
    joined = [
        pl.concat([pools, *(_unpacked(packed.pop(0)) for _ in parts)])
        for packed, pools in zip((models, fits), of_pools, strict=True)
    ]
    return PropertyTables(joined[0], joined[1], borrowed.scores)


@dataclass(frozen=True)
class _Part:
    """Which pathways a task is of.

    ``kept`` are the numbers of those whose fits are kept, from one to another; others are there to
    borrow from, and none borrows that has no data. ``further`` ones have data, and are not here.
    """

    kept: tuple[int, int] | None = None
    further: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))


@dataclass(frozen=True)
class _Task:
    """A property to fit, and the statistics that it takes, as another process can be sent them.

    Frames are bytes: pickling frames stops for ever now and then in Polars 2.1.
    """

    prop: Property
    part: _Part
    properties: tuple[Property, ...]
    types: bytes
    tables: Mapping[str, bytes]
    facts: Mapping[str, Mapping[str, Any]]
    options: BuildOptions


class _Tasks(Sequence[_Task]):
    """The tasks of properties, each made when it is asked for: not all need be in memory.

    Tasks have the rows of a ``reference``, if there is one, beside those that they keep.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Property, _Part]],
        stats: Statistics,
        tables: StatisticsTables,
        options: BuildOptions,
        reference: Mapping[str, pl.DataFrame] | None = None,
    ) -> None:
        self._parts, self._options = parts, options
        self._stats, self._tables, self._reference = stats, tables, reference

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, i: Any) -> Any:
        stats, (prop, part) = self._stats, self._parts[i]
        return _Task(
            prop,
            part,
            stats.properties,
            _packed(stats.types),
            {name: _packed(rows) for name, rows in self._rows(prop.name, part).items()},
            {"options": stats.options, "identity": stats.identity},
            self._options,
        )

    def _rows(self, name: str, part: _Part) -> Mapping[str, pl.DataFrame]:
        """Return the rows of statistics that a task takes."""
        if self._reference is None:
            return self._tables.of_property(name)
        if part.kept is None:
            return self._reference
        first, last = (self._tables.pathways.places(np.array(at))[0] for at in part.kept)
        types = self._tables.source["type"][int(first) : int(last)].implode()
        is_kept = pl.col("source_type").cast(pl.String).is_in(types)
        return {
            table: pl.concat([rows, self._reference[table].filter(~is_kept)])
            for table, rows in self._tables.of_property(name, is_kept).items()
        }


def _fit(task: _Task) -> tuple[bytes, ...]:
    """Fit the property of a task; return its tables."""
    types, kept = _unpacked(task.types), task.part.kept
    dtypes = enums_of(types, [p.name for p in task.properties])
    rows = {name: _unpacked(packed).lazy() for name, packed in task.tables.items()}
    stats = Statistics(task.properties, types, StoredTables(rows, dtypes), **task.facts)
    tables = StatisticsTables.of(stats, task.options.resources)
    tables = replace(tables, further=task.part.further, lends=kept is None)
    fitted = fit_property(task.prop, stats, tables, task.options)
    if kept is not None:
        number = tables.pathways.number_of_row
        is_kept = number.is_between(*kept, closed="left")
        model = fitted.model.filter(is_kept).sort(number, "parameter", "position")
        fitted = PropertyTables(model, fitted.fits.filter(is_kept), fitted.scores)
    return tuple(map(_packed, fitted))


def _packed(frame: pl.DataFrame) -> bytes:
    content = BytesIO()
    frame.write_ipc(content, compression="lz4")
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
