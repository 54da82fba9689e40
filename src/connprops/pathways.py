"""Pathways: pairs of a source type and a target type, and the number of each.

This is the only place that knows how pathways are numbered; tables hold names, kernels numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.errors import OptionError
from connprops.schema import PATHWAY, ROW_KEYS, Table

_PATHWAYS_AT_MOST = 2**31 - 1

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
Places = TypeVar("Places", Ints, NDArray[np.int32], pl.Expr, int)


def number_of_pair(source: Places, target: Places, n_target_types: int) -> Places:
    """Return the number of each pathway, given the places of its types among all types."""
    return source * n_target_types + target


def pair_of_number(number: pl.Expr, n_target_types: int) -> tuple[pl.Expr, pl.Expr]:
    """Return the places of the types of each pathway, given its number."""
    n_target = max(n_target_types, 1)
    return number // n_target, number % n_target


def check_number(n_source_types: int, n_target_types: int) -> None:
    """Raise :class:`OptionError` unless each pathway can have a number of 32 bits."""
    n_pathways = n_source_types * n_target_types
    if n_pathways > _PATHWAYS_AT_MOST:
        raise OptionError.of(
            "There are too many types",
            found=f"{n_pathways:,} pathways",
            expected=f"at most {_PATHWAYS_AT_MOST:,}",
            hint="group by another attribute",
        )


def rows_of_types(rows: Frame, types: pl.DataFrame) -> Frame:
    """Return the rows whose types, classes and layers, where they name one, are those given."""
    columns = rows.collect_schema()
    for side in ("source", "target"):
        own = types.filter(pl.col("side") == side)
        for of_rows, of_types in (("type", "type"), ("class", "synapse_class"), ("layer", "layer")):
            if (key := f"{side}_{of_rows}") in columns:
                name = pl.col(key)
                known = own[of_types].drop_nulls().to_list()
                rows = rows.filter(name.is_null() | name.cast(pl.String).is_in(known))
    return rows


@dataclass(frozen=True)
class Pathways:
    """All pairs of types, numbered: those of the first source type first."""

    source_types: Sequence[str]
    target_types: Sequence[str]

    def __len__(self) -> int:
        return len(self.source_types) * len(self.target_types)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of source and target types."""
        return len(self.source_types), len(self.target_types)

    def number(self, source_type: str, target_type: str) -> int:
        """Return the number of a pathway; raise :class:`OptionError` for an unknown type."""
        for what, name, names in (
            ("source type", source_type, self.source_types),
            ("target type", target_type, self.target_types),
        ):
            if name not in names:
                raise OptionError.unknown(what, name, names)
        source, target = self.source_types.index(source_type), self.target_types.index(target_type)
        return number_of_pair(source, target, len(self.target_types))

    def places(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the places of the types of pathways, among source and among target types."""
        source, target = np.divmod(numbers, max(len(self.target_types), 1))
        return source, target

    def names(self, number: int) -> tuple[str, str]:
        """Return the source type and the target type of a pathway."""
        source, target = divmod(int(number), len(self.target_types))
        return self.source_types[source], self.target_types[target]

    @cached_property
    def enums(self) -> dict[str, pl.Enum]:
        """Return the types of the columns ``source_type`` and ``target_type``, in their order."""
        return {
            "source_type": pl.Enum(self.source_types),
            "target_type": pl.Enum(self.target_types),
        }

    @property
    def number_of_row(self) -> pl.Expr:
        """Return each row's pathway, int64, from its ``source_type`` and ``target_type``.

        The columns are text, or Enums of any order; names that are not among the types give null.
        """
        source, target = (
            pl.col(name).cast(pl.String).cast(enum, strict=False).to_physical().cast(pl.Int64)
            for name, enum in self.enums.items()
        )
        return number_of_pair(source, target, len(self.target_types))

    def names_of(self, number: pl.Expr) -> list[pl.Expr]:
        """Return the columns ``source_type`` and ``target_type``, Enums, of a column of numbers."""
        pair = pair_of_number(number, len(self.target_types))
        return [
            place.cast(pl.Series(dtype=self.enums[name]).to_physical().dtype)
            .cat.to(self.enums[name])
            .alias(name)
            for name, place in zip(PATHWAY, pair, strict=True)
        ]

    def columns(self, numbers: Ints) -> list[pl.Series]:
        """Return the columns ``source_type`` and ``target_type``, Enums, of these pathways."""
        places = dict(zip(self.enums, self.places(numbers), strict=True))
        return [
            pl.Series(name, self.enums[name].categories, dtype=self.enums[name]).gather(at)
            for name, at in places.items()
        ]


# Which row of a model a pathway has: rows are for all pathways that have the types, classes and
# layers that they name, and of several the one of the lowest level counts.

IS_OWN = pl.all_horizontal(pl.col(PATHWAY).is_not_null())
"""Whether a row is of one pathway."""

_ATTRIBUTES = {"type": "type", "class": "synapse_class", "layer": "layer"}


def resolved(keys: pl.DataFrame, types: pl.DataFrame, pathways: Pathways, numbers: Ints) -> Ints:
    """Return which row of ``keys`` counts for each pathway, (n,), -1 where none does.

    ``keys`` has :data:`connprops.schema.ROW_KEYS` and ``level``, a row for each group that lends.
    """
    rows = np.full(numbers.size, -1, dtype=np.int64)
    said = keys.select(pl.col(*ROW_KEYS).cast(pl.String), "level").with_row_index("row")
    kinds = said.group_by("level", *(pl.col(k).is_not_null().alias(f"{k}?") for k in ROW_KEYS))
    for (_, *has), of_kind in sorted(kinds, key=lambda kind: kind[0]):
        names = [name for name, is_said in zip(ROW_KEYS, has, strict=True) if is_said]
        left = np.flatnonzero(rows < 0)
        places = dict(zip(("source", "target"), pathways.places(numbers[left]), strict=True))
        key, known = np.zeros((2, left.size + len(of_kind)), dtype=np.int64)
        for side, place in places.items():
            code = _codes(side, [n for n in names if n.startswith(side)], types, of_kind)
            n_types = code.size - len(of_kind)
            code = np.concatenate([code[place], code[n_types:]])
            key = key * (int(code.max(initial=0)) + 1) + code
            known = known | (code < 0)
        wanted, lent = np.split(np.where(known, -1, key), [left.size])
        order = np.argsort(lent, kind="stable")
        at = np.minimum(np.searchsorted(lent[order], wanted), lent.size - 1)
        fits = (lent[order][at] == wanted) & (wanted >= 0)
        rows[left[fits]] = of_kind["row"].to_numpy()[order][at[fits]]
    return rows


def _codes(side: str, names: Sequence[str], types: pl.DataFrame, rows: pl.DataFrame) -> Ints:
    """Return a number of what each type of a side, and then each row, has of some columns.

    It is -1 where a type lacks one of them.
    """
    of_side = types.filter(pl.col("side") == side).sort("code")
    if not names:
        return np.zeros(len(of_side) + len(rows), dtype=np.int64)
    column_of = {name: pl.col(_ATTRIBUTES[name.removeprefix(f"{side}_")]) for name in names}
    of_types = of_side.select(column.cast(pl.String).alias(n) for n, column in column_of.items())
    both = pl.concat([of_types, rows.select(names)])
    code = pl.struct(names).rank("dense").cast(pl.Int64)
    lacks = pl.any_horizontal(pl.col(names).is_null())
    return both.select(pl.when(lacks).then(-1).otherwise(code)).to_series().to_numpy()


def expanded(rows: pl.DataFrame, types: pl.DataFrame, pathways: Pathways) -> pl.DataFrame:
    """Return rows of each pathway by its types, of rows with ``property`` that groups have too."""
    pieces = [rows.filter(IS_OWN)]
    on = [*ROW_KEYS, "level"]
    for _, lent in rows.filter(~IS_OWN).group_by("property", maintain_order=True):
        name = lent["property"][0]
        keys = lent.select(on).unique(maintain_order=True)
        own = pieces[0].filter(pl.col("property") == name).select(pathways.number_of_row.unique())
        others = np.setdiff1d(np.arange(len(pathways)), own.to_series().to_numpy())
        row = resolved(keys, types, pathways, others)
        borrowers = pl.DataFrame(
            [*pathways.columns(others[row >= 0]), pl.Series("row", row[row >= 0])]
        ).cast({name: rows.schema[name] for name in PATHWAY})
        piece = (
            lent.join(keys.with_columns(row=pl.int_range(pl.len())), on=on, nulls_equal=True)
            .drop(PATHWAY)
            .join(borrowers, on="row")
            .with_columns(pl.lit(None, rows.schema[n]).alias(n) for n in ROW_KEYS[2:])
        )
        pieces.append(piece.select(rows.columns))
    return pl.concat(pieces)


def layout_of(table: Table, dtypes: Mapping[str, pl.DataType]) -> pl.Schema:
    """Return a table's columns with their types, where Enums name types and properties."""
    enums = {**dtypes, "other_property": dtypes["property"]}
    return table.polars_schema(**{name: enums[name] for name in table.names if name in enums})


def enums_of_keys(types: pl.DataFrame, pathways: Pathways) -> dict[str, pl.Enum]:
    """Return the Enums of the columns that say which pathways a row is for."""
    names = {"class": "synapse_class", "layer": "layer"}
    enums = {what: pl.Enum(types[column].drop_nulls().unique().sort())
             for what, column in names.items()}  # fmt: skip
    return pathways.enums | {key: enums[key.split("_")[1]] for key in ROW_KEYS[2:]}


def enums_of(types: pl.DataFrame, properties: Sequence[str]) -> dict[str, pl.Enum]:
    """Return the Enum of each column that names a type, class, layer or property."""
    of_sides = (types.filter(side=side).sort("code")["type"] for side in ("source", "target"))
    pathways = Pathways(*(names.to_list() for names in of_sides))
    return {"property": pl.Enum(properties), **enums_of_keys(types, pathways)}
