"""Pathways: pairs of a source type and a target type, and the number of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from connprops.arrays import Ints
from connprops.errors import OptionError


@dataclass(frozen=True)
class Pathways:
    """All pairs of types, numbered: place of the source type * number of target types + target.

    This is the only place that knows the rule; tables hold names, kernels hold numbers.
    """

    source_types: Sequence[str]
    target_types: Sequence[str]

    def __len__(self) -> int:
        return len(self.source_types) * len(self.target_types)

    @property
    def shape(self) -> tuple[int, int]:
        """Return the numbers of source and target types."""
        return len(self.source_types), len(self.target_types)

    def number(self, source_type: str, target_type: str) -> int:
        """Return the number of a pathway.

        Raises
        ------
        OptionError
            Where there is no such source or target type.
        """
        for what, name, known in (
            ("source type", source_type, self.source_types),
            ("target type", target_type, self.target_types),
        ):
            if name not in known:
                raise OptionError.unknown(what, name, known)
        source = self.source_types.index(source_type)
        return source * len(self.target_types) + self.target_types.index(target_type)

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
        return source * len(self.target_types) + target

    def columns(self, numbers: Ints) -> list[pl.Series]:
        """Return the columns ``source_type`` and ``target_type``, Enums, of these pathways."""
        n_target = max(len(self.target_types), 1)
        places = {"source_type": numbers // n_target, "target_type": numbers % n_target}
        return [
            pl.Series(name, self.enums[name].categories, dtype=self.enums[name]).gather(at)
            for name, at in places.items()
        ]
