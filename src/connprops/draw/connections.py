"""Connections to be drawn: lists of them in any form, and the pathway of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.arrays.arrow import to_numpy
from connprops.arrays.random_numbers import keys, named, uniform
from connprops.distributions.table import ModelTable
from connprops.draw.types_of_nodes import SIDES, TypeCodes
from connprops.errors import DatasetError, ModelError, OptionError, listing
from connprops.fits.levels import borrowed_levels
from connprops.schema import N_SYN_PER_CONN

ConnectionStream: TypeAlias = pl.LazyFrame | pa.Table | pa.RecordBatchReader | str | Path
ConnectionTable: TypeAlias = pl.DataFrame | ConnectionStream
"""A list of connections; a path is that of a Parquet file."""

Missing = Literal["error", "borrow", "skip"]
"""What to do with connections of a pathway that the model has no distributions of."""

MISSING: tuple[Missing, ...] = ("error", "borrow", "skip")

_AT_ONCE = 1 << 14
_NAMED = 5


@dataclass(frozen=True)
class Connections:
    """Connections, or stretches of the synapses of some.

    ``types`` is the pathway that a connection is of, source index times number of target types
    plus target index, and ``pathway`` the one whose distributions it is drawn from. ``n_syn`` is
    the number of synapses and ``first`` the place of the first within its connection. All (n,).
    """

    source: Ints
    target: Ints
    types: Ints
    pathway: Ints
    n_syn: Ints
    first: Ints

    def take(self, rows: slice | NDArray[np.bool_]) -> Connections:
        """Return some of them."""
        return Connections(
            self.source[rows], self.target[rows], self.types[rows], self.pathway[rows],
            self.n_syn[rows], self.first[rows],
        )  # fmt: skip


def read_connections(table: ConnectionTable) -> Iterator[pa.RecordBatch]:
    """Yield a list of connections in small batches, in its order.

    Raises
    ------
    DatasetError
        Where a file is missing or cannot be read as Parquet.
    """
    for batch in _batches(table):
        for start in range(0, batch.num_rows, _AT_ONCE):
            yield batch.slice(start, _AT_ONCE)


def _batches(table: ConnectionTable) -> Iterator[pa.RecordBatch]:
    match table:
        case pl.DataFrame():
            yield from _of_frame(table)
        case pl.LazyFrame():
            for frame in table.collect_batches(maintain_order=True, lazy=True):
                yield from _of_frame(frame)
        case pa.Table():
            yield from table.to_batches()
        case pa.RecordBatchReader():
            yield from table
        case _:
            yield from _of_file(Path(table))


def _of_frame(frame: pl.DataFrame) -> Iterator[pa.RecordBatch]:
    yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()


def _of_file(file: Path) -> Iterator[pa.RecordBatch]:
    if not file.is_file():
        raise DatasetError.of(f"No file {file}", expected="a list of connections as Parquet")
    try:
        with pq.ParquetFile(file) as parquet:
            wanted = {f"{side}_{what}" for side in SIDES for what in ("node", "type")}
            columns = [n for n in parquet.schema_arrow.names if n in {*wanted, N_SYN_PER_CONN}]
            yield from parquet.iter_batches(batch_size=_AT_ONCE, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError.of(
            f"{file} cannot be read as Parquet", found=str(error), hint="cut short?"
        ) from error


def column(batch: pa.RecordBatch, name: str, lowest: int) -> Ints:
    """Return a column of whole numbers.

    Raises
    ------
    OptionError
        Where it is missing, of another type, has nulls, or is below ``lowest``.
    """
    if name not in batch.schema.names:
        raise OptionError.of(
            f"The connections lack the column {name!r}", found=listing(batch.schema.names),
            expected="source_node, target_node; optional are source_type, target_type, "
            f"{N_SYN_PER_CONN}",
        )  # fmt: skip
    values = batch.column(name)
    if not pa.types.is_integer(values.type) or values.null_count:
        found = f"{values.null_count} nulls" if values.null_count else str(values.type)
        raise OptionError.of(
            f"Column {name!r} of the connections", found=found, expected="a whole number each"
        )
    numbers = _numbers(values)
    if numbers.size and numbers.min() < lowest:
        raise OptionError.of(
            f"Column {name!r} of the connections",
            found=str(numbers.min()), expected=f"at least {lowest}",
        )  # fmt: skip
    return numbers


class Pathways:
    """The pathway of each connection, and what to do with those that the model does not have.

    Parameters
    ----------
    model
        The model.
    known
        Whether it has the distributions of each pathway, (n_pathways,).
    seed
        Seed of what is borrowed.
    missing
        ``"error"``; ``"skip"``; or ``"borrow"``: each connection takes the distributions of one of
        the observed pathways of the first level that has any (:mod:`connprops.fits.levels`), at
        random.
    """

    def __init__(
        self, model: ModelTable, known: NDArray[np.bool_], seed: int, missing: Missing
    ) -> None:
        if missing not in MISSING:
            raise OptionError.unknown("value of missing", missing, MISSING)
        self._model = model
        self._known = known
        self._seed = seed
        self._missing = missing
        self._names = {"source": model.source_types, "target": model.target_types}
        self._pools = _Pools(model, known) if missing == "borrow" else None

    def __call__(
        self, source: Ints, target: Ints, types: dict[str, TypeCodes]
    ) -> tuple[Ints, Ints]:
        """Return the pathway of each connection, and that to draw from; -1 where to leave it out.

        Raises
        ------
        OptionError
            Where a type is not one of the model's, unless it is to be skipped.
        ModelError
            Where the model lacks a pathway, and nothing else is to be done.
        """
        codes = [self._codes(side, types[side]) for side in SIDES]
        own = codes[0] * len(self._names["target"]) + codes[1]
        own[(codes[0] < 0) | (codes[1] < 0)] = -1
        pathway = np.where((own >= 0) & self._known[own], own, -1)
        lost = np.flatnonzero((pathway < 0) & (own >= 0))
        if lost.size and self._missing == "error":
            raise self._unknown(np.unique(own[lost]))
        if lost.size and self._pools:
            number = uniform(named(keys(self._seed, source[lost], target[lost]), "pathway"))
            pathway[lost] = self._pools.pick(own[lost], number)
            if (pathway[lost] < 0).any():
                raise self._unknown(np.unique(own[lost][pathway[lost] < 0]))
        return own, pathway

    def _codes(self, side: str, types: TypeCodes) -> Ints:
        """Return the model's code of each node's type, -1 where it has none."""
        known = {name: code for code, name in enumerate(self._names[side])}
        code = np.array([known.get(name, -1) for name in types.names], dtype=np.int64)
        used = np.unique(types.codes)
        unknown = [types.names[i] for i in used.tolist() if code[i] < 0]
        if unknown and self._missing != "skip":
            raise OptionError.unknown(
                f"{side} type of connections", unknown[0], self._names[side],
                hint="missing='skip' (--missing skip) leaves its connections out",
            )  # fmt: skip
        return code[types.codes]

    def _unknown(self, pathways: Ints) -> ModelError:
        n_target = len(self._names["target"])
        names = [
            f"{self._names['source'][p // n_target]} to {self._names['target'][p % n_target]}"
            for p in pathways.tolist()
        ]
        return ModelError.of(
            f"The model lacks {len(names)} of the connections' pathways",
            found=", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else ""),
            expected="the distributions of all its properties in each",
            hint="missing='borrow' or 'skip' (--missing) says what else to do with them",
        )


class _Pools:
    """The observed pathways from which one that the model lacks borrows."""

    def __init__(self, model: ModelTable, known: NDArray[np.bool_]) -> None:
        n_target = len(model.target_types)
        rows = model.marginals.filter(pl.col("level") >= 0)
        place = pl.col("source_type").to_physical().cast(pl.Int64) * n_target
        place += pl.col("target_type").to_physical()
        observed = known.copy()
        observed[rows.select(place.unique()).to_series().to_numpy()] = False
        chosen = observed if observed.any() else known
        sides = [model.types.filter(pl.col("side") == side).sort("code") for side in SIDES]
        levels = borrowed_levels(sides[0], sides[1], np.flatnonzero(chosen))
        self._pool = np.full(known.size, -1, dtype=np.int64)
        self._pool[levels.missing] = levels.pool_of_missing
        order = np.argsort(levels.pool, kind="stable")
        self._members = levels.observed[levels.member[order]]
        self._stops = np.searchsorted(levels.pool[order], np.arange(levels.n_pools), side="right")
        self._starts = np.searchsorted(levels.pool[order], np.arange(levels.n_pools))

    def pick(self, pathway: Ints, number: NDArray[np.float64]) -> Ints:
        """Return a pathway of the pool of each, by a number from 0 to 1; -1 where it has none."""
        pool = self._pool[pathway]
        found = np.full(pathway.shape, -1, dtype=np.int64)
        has = np.flatnonzero(pool >= 0)
        start, stop = self._starts[pool[has]], self._stops[pool[has]]
        found[has] = self._members[start + ((stop - start) * number[has]).astype(np.int64)]
        return found


class Distinct:
    """The connections of a list so far: whether one is in it twice, at 8 bytes each."""

    def __init__(self) -> None:
        self._seen: list[NDArray[np.uint64]] = []

    def add(self, source: Ints, target: Ints) -> None:
        """Take note of connections."""
        for ids in (source, target):
            if ids.size and ids.max() >> 32:
                raise OptionError.of(
                    "A node id of the connections", found=str(ids.max()), expected="less than 2^32"
                )
        self._seen.append((target.astype(np.uint64) << np.uint64(32)) | source.astype(np.uint64))

    def check(self) -> None:
        """Raise :class:`OptionError` where a connection came twice."""
        if not self._seen:
            return
        pairs = np.concatenate(self._seen)
        if not (pairs[1:] > pairs[:-1]).all():  # most lists are sorted by target and source
            pairs.sort()
        twice = np.flatnonzero(pairs[1:] == pairs[:-1])
        if twice.size:
            target, source = divmod(int(pairs[twice[0]]), 1 << 32)
            raise OptionError.of(
                "A connection is listed several times",
                found=f"source_node {source}, target_node {target}",
                expected=f"each once, with its number of synapses in {N_SYN_PER_CONN}",
            )


def types_in(batch: pa.RecordBatch, side: str) -> TypeCodes | None:
    """Return the types that a list of connections names; None where it names none."""
    name = f"{side}_type"
    if name not in batch.schema.names:
        return None
    values: Any = batch.column(name)
    if values.null_count:
        raise OptionError.of(f"Column {name!r} of the connections has nulls")
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    names = [str(one) for one in values.dictionary.to_pylist()]
    return TypeCodes(_numbers(values.indices), names)


def _numbers(values: pa.Array) -> Ints:
    return to_numpy(values).astype(np.int64, copy=False)
