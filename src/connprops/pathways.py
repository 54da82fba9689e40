"""Pathways: pairs of a source type and a target type, and the number of each.

This is the only place that knows how pathways are numbered; tables hold names, kernels numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.errors import OptionError

_PATHWAYS_AT_MOST = 2**31 - 1

Places = TypeVar("Places", Ints, NDArray[np.int32], pl.Expr, int)


def number_of_pair(source: Places, target: Places, n_target_types: int) -> Places:
    """Return the number of each pathway, given the places of its types among all types."""
    return source * n_target_types + target


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
        n_target = max(len(self.target_types), 1)
        places = {"source_type": number // n_target, "target_type": number % n_target}
        return [
            place.cast(pl.Series(dtype=self.enums[name]).to_physical().dtype)
            .cat.to(self.enums[name])
            .alias(name)
            for name, place in places.items()
        ]

    def columns(self, numbers: Ints) -> list[pl.Series]:
        """Return the columns ``source_type`` and ``target_type``, Enums, of these pathways."""
        n_target = max(len(self.target_types), 1)
        places = {"source_type": numbers // n_target, "target_type": numbers % n_target}
        return [
            pl.Series(name, self.enums[name].categories, dtype=self.enums[name]).gather(at)
            for name, at in places.items()
        ]
