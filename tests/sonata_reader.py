"""A slow reader of SONATA circuits, row by row, written from the format's description alone.

It knows nothing of ``connprops``: what both read of a file must be the same.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py

Value = float | str | None

_LARGEST = 1_000_000


@dataclass(frozen=True)
class Edges:
    """The rows of an edge population: ids and types of both ends, and values by column."""

    source: list[int]
    target: list[int]
    source_type: dict[int, Value]
    target_type: dict[int, Value]
    source_population: str
    target_population: str
    values: dict[str, list[Value]]


@dataclass(frozen=True)
class _Population:
    """A population in an open file, and the types file that belongs to it."""

    kind: str
    name: str
    h5: h5py.Group
    types_file: Path | None

    def values(self, column: str) -> list[Value]:
        """Return a column's value in each row: that of its group, else that of its type."""
        types = self._types()
        n = self.n_rows()
        groups = [name for name, member in self.h5.items()
                  if name.isdecimal() and isinstance(member, h5py.Group)]  # fmt: skip
        group_id = self._of_rows("group_id", [int(name) for name in groups[:1]] * n)
        group_index = self._of_rows("group_index", list(range(n)))
        type_id = self._of_rows("type_id", [-1] * n)
        of_group = {int(name): _column_of(self.h5[name], column) for name in groups}
        values: list[Value] = []
        for row in range(n):
            column_of_group = of_group.get(group_id[row]) if groups else None
            if column_of_group is not None:
                values.append(column_of_group[group_index[row]])
            else:
                values.append(types.get(type_id[row], {}).get(column))
        return values

    def n_rows(self) -> int:
        """Return the number of rows: all that is about them has as many values."""
        for name in ("source_node_id", "node_type_id", "node_id", "node_group_id",
                     "node_group_index"):  # fmt: skip
            if name in self.h5:
                return len(self.h5[name])
        (group,) = (m for name, m in self.h5.items() if name.isdecimal())
        return next(len(m) for m in group.values() if isinstance(m, h5py.Dataset))

    def ids(self) -> list[int]:
        """Return the id of each node: its row where the population gives no ids."""
        return self._of_rows("id", list(range(self.n_rows())))

    def _of_rows(self, name: str, default: list[int]) -> list[int]:
        path = f"{self.kind}_{name}"
        return list(map(int, _stored(self.h5[path]))) if path in self.h5 else default

    def _types(self) -> dict[int, dict[str, str]]:
        """Return the cells of this population's types; empty and NULL cells left out."""
        types: dict[int, dict[str, str]] = {}
        if self.types_file is None:
            return types
        with self.types_file.open(encoding="utf-8", newline="") as text:
            for line in csv.DictReader(text, delimiter=" "):
                if line.get("population", self.name) == self.name:
                    types[int(line[f"{self.kind}_type_id"])] = {
                        name: cell for name, cell in line.items() if cell not in ("", "NULL")
                    }
        return types


def _stored(dataset: h5py.Dataset) -> list[Value]:
    """Return the values of a dataset, which a damaged file may say are trillions."""
    assert dataset.ndim == 1, dataset
    assert dataset.size <= _LARGEST, dataset
    return dataset[()].tolist()


def _column_of(group: h5py.Group, column: str) -> list[Value] | None:
    """Return a column of a group, its codes replaced by what they stand for."""
    name = column.removeprefix("@dynamics:")
    if name != column:
        group = group.get("dynamics_params", {})
    if name not in group or not isinstance(group[name], h5py.Dataset):
        return None
    values = [v.decode() if isinstance(v, bytes) else v for v in _stored(group[name])]
    if name in group.get("@library", {}):
        labels = [label.decode() for label in _stored(group["@library"][name])]
        return [labels[code] for code in values]
    return values


def _holds(value: object) -> Callable[[Value], bool]:
    """Return what a clause of a node set says of an attribute's value."""
    if isinstance(value, dict):
        ((name, operand),) = value.items()
        if name == "$regex":
            return lambda v: re.search(operand, v) is not None
        return {
            "$gt": lambda v: v > operand, "$gte": lambda v: v >= operand,
            "$lt": lambda v: v < operand, "$lte": lambda v: v <= operand,
        }[name]  # fmt: skip
    allowed = value if isinstance(value, list) else [value]
    return lambda v: v in allowed


class SonataReader:
    """The populations and node sets that a configuration names."""

    def __init__(self, config: Path) -> None:
        text = config.read_text()
        manifest = {"$configdir": str(config.parent), **json.loads(text).get("manifest", {})}
        for _ in manifest:
            for name, path in manifest.items():
                text = text.replace(name, str(path))
        self._base = config.parent
        self._content = json.loads(text)

    def edges(self, name: str, attribute: str, columns: Sequence[str]) -> Edges:
        """Return the rows of an edge population; the ends' types are an attribute's values."""
        with self._opened("edge", name) as population:
            ends = [population.h5[f"{side}_node_id"] for side in ("source", "target")]
            names = [next(n for n in ("node_population", "network") if n in e.attrs) for e in ends]
            populations = [str(end.attrs[n]) for end, n in zip(ends, names, strict=True)]
            source, target = (list(map(int, _stored(end))) for end in ends)
            values = {column: population.values(column) for column in columns}
        source_type, target_type = (self.attribute(nodes, attribute) for nodes in populations)
        return Edges(source, target, source_type, target_type, *populations, values)

    def attribute(self, population: str, name: str) -> dict[int, Value]:
        """Return an attribute of each node, by its id."""
        with self._opened("node", population) as nodes:
            return dict(zip(nodes.ids(), nodes.values(name), strict=True))

    def node_set(self, name: str, population: str) -> set[int]:
        """Return the ids of the nodes of a population that belong to a node set."""
        sets = json.loads((self._base / self._content["node_sets_file"]).read_text())
        if isinstance(sets[name], list):
            return set().union(*(self.node_set(other, population) for other in sets[name]))
        with self._opened("node", population) as nodes:
            ids = set(nodes.ids())
        for clause, value in sets[name].items():
            holds = _holds(value)
            if clause == "population":
                ids &= ids if holds(population) else set()
            elif clause == "node_id":
                ids &= {node for node in ids if holds(node)}
            else:
                of_nodes = self.attribute(population, clause)
                ids &= {node for node, v in of_nodes.items() if v is not None and holds(v)}
        return ids

    @contextmanager
    def _opened(self, kind: str, name: str) -> Iterator[_Population]:
        for entry in self._content["networks"][f"{kind}s"]:
            types_file = entry.get(f"{kind}_types_file", "NULL").replace("NULL", "")
            with h5py.File(self._base / entry[f"{kind}s_file"], "r") as h5:
                if name in h5[f"{kind}s"]:
                    group = h5[f"{kind}s/{name}"]
                    types = self._base / types_file if types_file else None
                    yield _Population(kind, name, group, types)
                    return
        raise KeyError(name)
