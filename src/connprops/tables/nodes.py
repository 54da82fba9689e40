"""The nodes of tables: those of a table of their own, or those that the edges name."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import polars as pl
import pyarrow as pa

from connprops.errors import ConnpropsWarning, TableError, listing
from connprops.sources.node_types import ID
from connprops.sources.sql_text import quoted
from connprops.tables.columns import is_text
from connprops.tables.files import TableFiles

_OWN = ("side", "node", "code")
"""Names that connprops has for columns of its own in the table of nodes."""


def check_kinds(tables: Sequence[tuple[TableFiles, str]]) -> None:
    """Raise unless some columns hold ids of one kind: integers, or text."""
    kinds = {}
    for table, name in tables:
        kind = table.schema.field(name).type
        if not is_text(kind) and not pa.types.is_integer(kind):
            raise TableError.of(
                f"{table.path}: column {name!r} holds no ids of nodes", found=str(kind),
                expected="integers or text",
                hint="floating numbers have no room for ids beyond 2^53",
            )  # fmt: skip
        kinds[f"{name!r} of {table.path}"] = "text" if is_text(kind) else "integers"
    _warn_of_signs(tables)
    if len({*kinds.values()}) > 1:
        raise TableError.of(
            "The ids of nodes are of two kinds, so that none can be found",
            found="; ".join(f"{what} in {place}" for place, what in kinds.items()),
            expected="integers everywhere, or text everywhere",
        )


def _warn_of_signs(tables: Sequence[tuple[TableFiles, str]]) -> None:
    """Warn of ends of which one has integers with signs and the other without."""
    kinds = {name: table.schema.field(name).type for table, name in tables[:2]}
    signs = {pa.types.is_signed_integer(kind) for kind in kinds.values()}
    if len(signs) > 1 and all(pa.types.is_integer(kind) for kind in kinds.values()):
        warnings.warn(
            "the ids of both ends have different types ("
            + ", ".join(f"{name!r} {kind}" for name, kind in kinds.items())
            + "): equal numbers are taken as the same neuron",
            ConnpropsWarning,
            stacklevel=2,
        )


def listed(table: TableFiles, node_id: str, asked: Collection[str | None]) -> pl.DataFrame:
    """Return the nodes that a table lists: their ids, in order, and what may group them."""
    names = [
        field.name for field in table.schema
        if field.name in (node_id, *asked) or is_text(field.type)
        or pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
    ]  # fmt: skip
    frame = pl.read_parquet(list(table.files), columns=names, glob=False)
    whole = {
        name: pl.col(name).cast(pl.Int64) for name, dtype in frame.schema.items()
        if dtype.is_float() and frame[name].drop_nulls().round().equals(frame[name].drop_nulls())
    }  # fmt: skip
    frame = frame.with_columns(**whole).select(_as_id(frame[node_id]), pl.exclude(node_id))
    frame = _without_none(frame, zero=_is_whole(frame) and (frame[ID] == 0).sum() > 1)
    twice = frame.filter(pl.col(ID).is_duplicated())[ID]
    if len(twice):
        raise TableError.of(
            f"{table.path} lists nodes twice",
            found=f"{twice.n_unique():,} of them, such as {twice[0]}",
            expected=f"one row per node, by its {node_id!r}",
        )
    own = {name: f"node_{name}" for name in frame.columns if name in _OWN}
    if own:
        warnings.warn(
            f"columns of {table.path} are renamed, as connprops has columns of these names: "
            + ", ".join(f"{old!r} to {new!r}" for old, new in own.items()),
            ConnpropsWarning,
            stacklevel=2,
        )
    return frame.rename(own).sort(ID)


def named(table: TableFiles, ends: tuple[str, str], types: Sequence[str | None]) -> pl.DataFrame:
    """Return the nodes that the edges name, in order, and the ``type`` that they have there."""
    sides = " union all ".join(
        f"select {quoted(end)} as id, {quoted(of) if of else 'null'}::varchar as type from rows"  # noqa: S608
        for end, of in zip(ends, types, strict=True)
    )
    query = f"select id, min(type) as type, max(type) as other from ({sides}) group by id"  # noqa: S608
    frame = table.ask(query)
    frame = frame.select(_as_id(frame["id"]), "type", "other").sort(ID)
    frame = _without_none(frame, zero=_is_whole(frame) and not (frame[ID] == 1).any())
    contrary = frame.filter(pl.col("type") != pl.col("other"))
    if len(contrary):
        node, *of_node = contrary.row(0)
        raise TableError.of(
            f"{table.path}: {len(contrary):,} nodes have several types",
            found=f"node {node}: {listing(of_node)}",
            expected="one for each node", hint="give them in a table of nodes (nodes=, --nodes)",
        )  # fmt: skip
    return frame.drop("other" if any(types) else ("type", "other"))


def with_unlisted(nodes: pl.DataFrame, edges: TableFiles, ends: tuple[str, str]) -> pl.DataFrame:
    """Return nodes, and beside them those without attributes that only the edges name."""
    extra = named(edges, ends, (None, None)).select(pl.col(ID).cast(nodes[ID].dtype))
    extra = extra.join(nodes.select(ID), on=ID, how="anti")
    return pl.concat([nodes, extra], how="diagonal").sort(ID)


def numbered(nodes: pl.DataFrame) -> pl.DataFrame:
    """Return nodes with their numbers from 0, and with their ids where these are others."""
    frame = nodes.with_row_index("node").with_columns(pl.col("node").cast(pl.Int64))
    is_same = _is_whole(nodes) and (frame[ID] == frame["node"]).all()
    return frame.drop(ID) if is_same else frame


def _is_whole(frame: pl.DataFrame) -> bool:
    return frame[ID].dtype.is_integer()


def _without_none(frame: pl.DataFrame, *, zero: bool) -> pl.DataFrame:
    """Return nodes without those that stand for none: null, -1 and, if ``zero``, 0."""
    frame = frame.filter(pl.col(ID).is_not_null())
    if not _is_whole(frame):
        return frame
    return frame.filter(pl.col(ID) != -1, *([pl.col(ID) != 0] if zero else []))


def _as_id(ids: pl.Series) -> pl.Series:
    """Return ids as text or as integers of 64 bits."""
    if not ids.dtype.is_integer():
        return ids.cast(pl.String).alias(ID)
    largest = ids.max()
    fits = not isinstance(largest, int) or largest < 1 << 63
    return ids.cast(pl.Int64 if fits else pl.UInt64).alias(ID)
