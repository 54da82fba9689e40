"""Statistics in shards: each finished bucket is a file of each table, until all are merged.

The stage of a folder of statistics is ``.statistics.partial`` in it, where beside what
:mod:`connprops.store.stage` has in each there are::

    pathways.parquet                        counted once, by the shard that came first
    buckets/00012.statistics.parquet, ...   each table of a finished bucket
    ranges/00003.correlations.parquet       of a finished range of pathways
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from connprops import schema
from connprops.errors import DatasetError
from connprops.store.shards import Shard
from connprops.store.stage import asked_of_shards, keep_for_shards, one_at_a_time, staged_shard
from connprops.store.tables import read_table, write_table
from connprops.store.writing import leftover_of

TABLES_OF = {
    "buckets": (schema.STATISTICS, schema.HISTOGRAMS, schema.VALUES, schema.ORDER_STATISTICS),
    "ranges": (schema.CORRELATIONS,),
}
"""The tables that each kind of unit gives."""

_PATHWAYS = "pathways.parquet"


@dataclass(frozen=True)
class Kind:
    """A kind of unit of work: buckets, or ranges of pathways whose correlations are computed.

    Attributes
    ----------
    name
        One of :data:`TABLES_OF`.
    unit
        The class of a unit.
    plan
        Gives all units, for so many shards.
    compute
        Computes some units, and gives the place of each among them and its tables by name.
    """

    name: str
    unit: type[Any]
    plan: Callable[[int], Sequence[Any]]
    compute: Callable[[Sequence[Any]], Iterator[tuple[int, Mapping[str, pl.DataFrame]]]]

    def parse(self, fields: Mapping[str, Any]) -> Any:
        """Return a unit from JSON."""
        return self.unit(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def stage_target(folder: Path) -> Path:
    """Return the name whose stage holds what shards of a folder's statistics have finished."""
    return folder / "statistics"


def stage_of(folder: Path) -> Path:
    """Return the stage of a folder's statistics."""
    return leftover_of(stage_target(folder))


def write_shard(
    folder: Path,
    shard: Shard,
    facts: Mapping[str, Any],
    pathways: Callable[[], pl.DataFrame],
    kinds: Sequence[Kind],
) -> list[Path]:
    """Compute what is not finished of a shard's share; return the files of the whole share.

    Parameters
    ----------
    folder
        Where the tables are to be.
    shard
        The share.
    facts
        What the tables' metadata says of them.
    pathways
        Counts the pathways.
    kinds
        What there is to compute.

    Raises
    ------
    OutputError
        Where another process works on this shard, or other shards were asked for something else.
    """
    names = [kind.name for kind in kinds]
    plan = {**facts["options"], "dataset": facts["identity"], "correlations": "ranges" in names}
    files = []
    with staged_shard(stage_target(folder), shard) as stage:
        with one_at_a_time(stage):
            # The plan is made once, for it must not depend on the machine of each shard.
            asked = asked_of_shards(stage) or {
                "facts": dict(facts),
                **{kind.name: [asdict(unit) for unit in kind.plan(shard.of)] for kind in kinds},
            }
            keep_for_shards(stage, plan, shard, asked)
            if not (stage / _PATHWAYS).is_file():
                write_table(pathways(), schema.PATHWAYS, stage / _PATHWAYS)
        for kind in kinds:
            units = [kind.parse(fields) for fields in asked[kind.name]]
            own = shard.share(range(len(units)))
            left = [i for i in own if not is_finished(stage, kind.name, i)]
            for at, tables in kind.compute([units[i] for i in left]) if left else ():
                for table in TABLES_OF[kind.name]:
                    file = _file(stage, kind.name, left[at], table)
                    write_table(tables[table.name], table, file, overwrite=True)
            files += [
                _file(stage, kind.name, i, table) for i in own for table in TABLES_OF[kind.name]
            ]
    return files


def is_finished(stage: Path, kind: str, i: int) -> bool:
    """Return whether the tables of a unit are there and intact."""
    try:
        for table in TABLES_OF[kind]:
            read_table(_file(stage, kind, i, table), table)
    except DatasetError:
        return False
    return True


def merged(stage: Path, table: schema.Table, empty: pl.DataFrame, n_units: int) -> pl.DataFrame:
    """Return a table of all units; ``empty`` has its columns."""
    if table is schema.PATHWAYS:
        return read_table(stage / _PATHWAYS, table)[0]
    kind = next(kind for kind, tables in TABLES_OF.items() if table in tables)
    files = [_file(stage, kind, i, table) for i in range(n_units)]
    frames = (read_table(file, table)[0].cast(empty.schema) for file in files)
    return pl.concat([empty, *frames])


def _file(stage: Path, kind: str, i: int, table: schema.Table) -> Path:
    return stage / kind / f"{i:05d}.{table.name}.parquet"
