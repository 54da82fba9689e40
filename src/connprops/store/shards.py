"""Shares of the work for the jobs of an array, which need no scheduler between them.

Each job does one share of the units and leaves what it has finished in a stage that all of them
see (:mod:`connprops.store.stage`). In the end a merge puts the output together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self, TypeVar

from connprops.errors import OptionError

Unit = TypeVar("Unit")

_LISTED = 8
"""Ranges of numbers that a message lists."""


@dataclass(frozen=True)
class Shard:
    """One of ``of`` shares of the work; ``number`` counts from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, shard: str | tuple[int, int]) -> Self:
        """Return the shard that ``"3/20"`` or ``(3, 20)`` names."""
        if isinstance(shard, str):
            match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", shard)
            numbers = (int(match[1]), int(match[2])) if match else None
        else:
            numbers = shard
        if numbers is None or not 1 <= numbers[0] <= numbers[1]:
            raise OptionError.of(
                "There is no such shard",
                found=shard if isinstance(shard, str) else "{}/{}".format(*shard),
                expected="i/n, with i from 1 to n: 1/20, 2/20, ... 20/20",
            )
        return cls(*numbers)

    def share(self, units: Sequence[Unit]) -> list[Unit]:
        """Return this shard's units: consecutive ones, so that they lie together in files."""
        first, stop = (len(units) * i // self.of for i in (self.number - 1, self.number))
        return list(units[first:stop])

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


WHOLE = Shard(1, 1)
"""All of the work."""


def shards_of(units: Iterable[int], n_units: int, n_shards: int) -> list[int]:
    """Return the numbers of the shards that some units, counted from 0, belong to."""
    left = set(units)
    shards = (Shard(number, n_shards) for number in range(1, n_shards + 1))
    return [s.number for s in shards if not left.isdisjoint(s.share(range(n_units)))]


def ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers for a message, and as SLURM's ``--array`` takes them: 1,4-7,12."""
    # Of consecutive numbers, place and number differ by the same.
    groups = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    spans = [[number for _, number in group] for _, group in groups]
    texts = [str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in spans[:_LISTED]]
    return ",".join(texts) + (", ..." if len(spans) > _LISTED else "")
