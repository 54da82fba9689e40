"""Legal SONATA circuits of all kinds: how groups, ids, types, columns and files may be laid out.

``variant(seed)`` draws one, and shows as the dimensions in which it differs from a plain circuit.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_IDS = ("uint64", "int64", "uint32", "int32", "float64")
_INDEX = ("in order", "permuted", "with gaps", "repeated", "absent")
_PLACES = ("all groups", "some groups", "types", "some groups and types", "all groups and types")

DIMENSIONS: Mapping[str, tuple[Any, ...]] = {
    "n_rows": (25, 1, 60, 0),
    "n_nodes": (6, 1, 9, 0),
    "order": ("by target", "by source", "scattered"),
    "indices": (False, True),
    "storage": ("contiguous", "chunked", "compressed"),
    "id_dtype": _IDS,
    "group_dtype": ("uint64", "int64", "uint32", "uint16", "int32", "float32"),
    "type_dtype": ("int64", "uint32", "int32", "uint64", "float64"),
    "says_nodes": ("node_population", "network"),
    "listed": ("all", "none", "one"),
    "manifest": ("$BASE_DIR", "$configdir"),
    "populations": ("one", "two in a file", "two files"),
    "projection": ("none", "in one file", "in a file of its own"),
    # Groups of edges.
    "edge_groups": (1, 2, 3, 0),
    "edge_type_id": ("stored", "absent"),
    "edge_group_names": ("from 0", "with gaps"),
    "edge_group_id": ("stored", "absent"),
    "edge_group_index": _INDEX,
    # Columns of edges: a number, one of dynamics, one of text, and the number of synapses of a row.
    "shared": (False, True),
    "nan": (False, True),
    "weight": _PLACES,
    "weight_dtype": (
        "float32", "float64", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "mixed",
    ),
    "dynamics": ("absent", *_PLACES[:2]),
    "label": ("absent", *_PLACES),
    "label_form": ("text", "fixed text", "library", "libraries", "text or library"),
    "code_dtype": ("uint32", "uint8", "uint16", "uint64", "int32"),
    "nsyns": ("absent", *_PLACES),
    # Nodes.
    "node_id": ("absent", "in order", "permuted", "from 1", "from 101", "with gaps", "far apart"),
    "node_groups": (1, 2, 3, 0),
    "node_type_id": ("stored", "absent"),
    "node_group_names": ("from 0", "with gaps"),
    "node_group_id": ("stored", "absent"),
    "node_group_index": _INDEX,
    "mtype": _PLACES,
    "mtype_form": ("text", "fixed text", "library", "libraries", "text or library", "numbers"),
    "size": ("absent", *_PLACES[:2]),
    "size_dtype": ("float32", "int16", "uint8", "float64"),
    "node_set": (
        "none", "ids", "attribute", "compound", "population", "pattern", "comparison", "several",
    ),
    "selected": ("source", "target", "both"),
    # Types files.
    "edge_types_file": ("named", "NULL", "absent"),
    "node_types_file": ("named", "NULL", "absent"),
    "null": (False, True),
    "types_missing": (False, True),
    "odd_text": (False, True),
    "quoted": (False, True),
    "population_column": ("absent", "one population", "two populations"),
}  # fmt: skip
"""The values of each dimension, that of a plain circuit first."""

_WORDS = ("soma", "axon", "dend", "apic")
_ODD_WORDS = ("basal dendrite", "it's é", 'say "x"', "a,b;c")
_TYPES = (100, 3, 7)
_LIKELY = 0.3


@dataclass(frozen=True)
class Variant:
    """A circuit: what differs from a plain one, by dimension; the rest follows from the seed."""

    seed: int
    odd: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, dimension: str) -> Any:
        return self.odd.get(dimension, DIMENSIONS[dimension][0])

    def plainer(self, *dimensions: str) -> Variant:
        """Return the same circuit, plain in these dimensions."""
        odd = {name: value for name, value in self.odd.items() if name not in dimensions}
        return Variant(self.seed, odd)

    def shrunk(self, fails: Callable[[Variant], bool]) -> Variant:
        """Return the plainest circuit that still fails."""
        smallest = self
        for name in self.odd:
            if fails(plainer := smallest.plainer(name)):
                smallest = plainer
        return smallest


def variant(seed: int) -> Variant:
    """Draw a circuit: most dimensions are plain, so that mixtures stay to be understood."""
    rng = np.random.default_rng([1, seed])
    likely = _LIKELY * rng.uniform(0.2, 2)
    odd = {}
    for name, (_, *others) in DIMENSIONS.items():
        value = others[int(rng.integers(len(others)))]
        if rng.random() < likely:
            odd[name] = value
    for kind in ("edge", "node"):  # several groups without those are not legal: some are enough
        if odd.get(f"{kind}_groups") and rng.random() < 0.9:
            for what in ("id", "index"):
                if odd.get(f"{kind}_group_{what}") == "absent":
                    del odd[f"{kind}_group_{what}"]
        if odd.get(f"{kind}_type_id") and rng.random() < 0.8:  # nor are types that no row has
            odd[f"{kind}_types_file"] = "NULL"
    return Variant(seed, odd)


@dataclass(frozen=True)
class Written:
    """A circuit on disk: its configuration, what to read of it, and sides with a node set."""

    config: Path
    population: str
    columns: tuple[str, ...]
    node_sets: Mapping[str, str]


@dataclass(frozen=True)
class _Column:
    """A column: where its values are, how they are stored, and how to draw some."""

    name: str
    places: str
    form: str
    draw: Callable[[int], np.ndarray]
    cell: Callable[[], str]

    def in_groups(self, n_groups: int, rng: np.random.Generator) -> list[int]:
        """Return the groups that have the column."""
        if "groups" not in self.places:
            return []
        if "all" in self.places or n_groups < 2:
            return list(range(n_groups))
        return sorted(rng.choice(n_groups, n_groups - 1, replace=False).tolist())


class _Writer:
    """What it takes to write one variant."""

    def __init__(self, folder: Path, layout: Variant) -> None:
        self.folder, self.layout = folder, layout
        self.rng = np.random.default_rng([2, layout.seed])
        self.words = _WORDS[: int(self.rng.integers(1, 5))]
        if layout["odd_text"]:
            self.words += _ODD_WORDS[: int(self.rng.integers(1, 5))]

    def store(self, parent: h5py.Group, name: str, values: Any, dtype: Any = None) -> h5py.Dataset:
        """Write a dataset."""
        array = np.asarray(values, dtype=dtype)
        options: dict[str, Any] = {}
        if self.layout["storage"] != "contiguous":
            options = {"chunks": (7,), "maxshape": (None,)}
        if self.layout["storage"] == "compressed":
            options |= {"compression": "gzip", "shuffle": True}
        return parent.create_dataset(name, data=array, **options)

    def rows(
        self, base: h5py.Group, kind: str, n: int, columns: Sequence[_Column], keys: np.ndarray
    ) -> None:
        """Write groups, group indices, types and columns of the rows of a population.

        Rows of the same key have the same values.
        """
        rng, layout = self.rng, self.layout
        n_groups = layout[f"{kind}_groups"]
        names = list(range(n_groups))
        if layout[f"{kind}_group_names"] == "with gaps":
            names = sorted(rng.choice(50, n_groups, replace=False).tolist())
        group_of_row = rng.integers(0, max(n_groups, 1), n)
        if rng.random() < 0.5:
            group_of_row.sort()
        index = np.zeros(n, dtype=np.int64)
        sizes = []
        for number in range(n_groups):
            rows = np.flatnonzero(group_of_row == number)
            index[rows], size = self._places(layout[f"{kind}_group_index"], rows)
            sizes.append(size)
        if layout[f"{kind}_group_id"] == "stored" and n_groups:
            numbers = np.array(names)[group_of_row]
            self.store(base, f"{kind}_group_id", numbers, layout["group_dtype"])
        if layout[f"{kind}_group_index"] != "absent" and n_groups:
            self.store(base, f"{kind}_group_index", index, layout["group_dtype"])
        types = np.array(_TYPES)[rng.integers(0, len(_TYPES), n)]
        if layout[f"{kind}_type_id"] == "stored":
            self.store(base, f"{kind}_type_id", types, layout["type_dtype"])
        groups = [base.create_group(str(name)) for name in names]
        for column in columns:
            _, connection = np.unique(keys, return_inverse=True)
            values = column.draw(n)[connection] if layout["shared"] else column.draw(n)
            with_column = column.in_groups(n_groups, rng)
            for number in with_column:
                stored = column.draw(sizes[number])
                rows = np.flatnonzero(group_of_row == number)
                stored[index[rows]] = values[rows]
                form = column.form
                if form == "text or library":
                    form = "text" if number == with_column[0] else "library"
                self._column(groups[number], column.name, stored, form)

    def _places(self, how: str, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the places of rows in their group, and the number of places there."""
        n = rows.size
        if how == "permuted":
            return self.rng.permutation(n), n
        if how == "with gaps":
            return self.rng.choice(2 * n + 3, n, replace=False), 2 * n + 3
        if how == "repeated":
            return self.rng.integers(0, n // 2 + 1, n), n // 2 + 1
        return np.arange(n), n

    def _column(self, group: h5py.Group, name: str, values: np.ndarray, form: str) -> None:
        """Write a column of a group."""
        if name.startswith("@dynamics:"):
            group, name = group.require_group("dynamics_params"), name.removeprefix("@dynamics:")
        text = h5py.string_dtype()
        if form == "text":
            self.store(group, name, values.astype(object), text)
        elif form == "fixed text":
            self.store(group, name, [str(v).encode() for v in values], "S20")
        elif form in {"library", "libraries"}:
            labels = np.array(sorted(self.words))
            if form == "libraries":
                labels = self.rng.permutation(labels)
            codes = [labels.tolist().index(v) for v in values]
            self.store(group, name, codes, self.layout["code_dtype"])
            self.store(group, f"@library/{name}", labels.astype(object), text)
        elif form == "mixed":
            dtypes = DIMENSIONS["weight_dtype"][:-2]
            self.store(group, name, values, dtypes[int(self.rng.integers(len(dtypes)))])
        else:
            self.store(group, name, values, form)

    def types_file(self, kind: str, population: str, columns: Sequence[_Column]) -> str:
        """Write a types file; return its name."""
        layout, rng = self.layout, self.rng
        inherited = [column for column in columns if "types" in column.places]
        file = self.folder / f"{population}_{kind}_types.csv"
        populations = {
            "absent": [""], "one population": [population],
            "two populations": [population, f"{population}2"],
        }[layout["population_column"]]  # fmt: skip
        ids = list(_TYPES[1:] if layout["types_missing"] else _TYPES)
        lines = []
        for name in populations:
            for type_id in ids:
                line: dict[str, Any] = {f"{kind}_type_id": type_id, "comment": "any thing"}
                if name:
                    line["population"] = name
                for column in inherited:
                    is_null = layout["null"] and rng.random() < 0.4
                    line[column.name] = "NULL" if is_null else column.cell()
                lines.append(line)
        lines = [lines[i] for i in rng.permutation(len(lines))]
        header = [str(name) for name in rng.permutation(list(lines[0]))]
        quoting = csv.QUOTE_NONNUMERIC if layout["quoted"] else csv.QUOTE_MINIMAL
        with file.open("w", encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, header, delimiter=" ", quoting=quoting)
            writer.writeheader()
            writer.writerows(lines)
        return file.name

    def words_column(self, name: str, places: str, form: str) -> _Column:
        """Return a column of text."""
        words = np.array(self.words)

        def draw(n: int) -> np.ndarray:
            return words[self.rng.integers(0, words.size, n)]

        return _Column(name, places, form, draw, lambda: str(draw(1)[0]))

    def numbers_column(self, name: str, places: str, dtype: str, most: int = 100) -> _Column:
        """Return a column of numbers."""

        def draw(n: int) -> np.ndarray:
            if dtype.startswith("float"):
                values = self.rng.gamma(3, 1, n).astype(dtype)
                values[self.rng.random(n) < (0.2 if self.layout["nan"] else 0)] = np.nan
                return values
            low = 1 if name == "nsyns" else -most if dtype.startswith("int") else 0
            return self.rng.integers(low, 1 if dtype == "bool" else most, n, endpoint=True)

        def cell() -> str:
            if name in {"nsyns", "mtype"} or self.rng.random() < 0.3:
                return str(self.rng.integers(name == "nsyns", 4))
            return str(round(self.rng.gamma(3, 1), 2))

        return _Column(name, places, dtype, draw, cell)

    def node_ids(self, n: int) -> np.ndarray | None:
        """Return the ids of nodes by row; None where the file has none."""
        how = self.layout["node_id"]
        if how == "absent":
            return None
        if how == "permuted":
            return self.rng.permutation(n)
        if how == "with gaps":
            return self.rng.choice(4 * n + 10, n, replace=False)
        if how == "far apart":
            return self.rng.choice(2**31 - 1, n)
        return np.arange(n) + {"in order": 0, "from 1": 1, "from 101": 101}[how]

    def nodes(self, file: Path, name: str, columns: Sequence[_Column]) -> np.ndarray:
        """Write a node population; return the ids of its nodes."""
        n = self.layout["n_nodes"]
        ids = self.node_ids(n)
        with h5py.File(file, "a") as h5:
            base = h5.create_group(f"nodes/{name}")
            if ids is not None:
                self.store(base, "node_id", ids, self.layout["id_dtype"])
            self.rows(base, "node", n, columns, np.arange(n))
        return np.arange(n) if ids is None else ids

    def edges(
        self, file: Path, name: str, columns: Sequence[_Column],
        ids: Mapping[str, tuple[str, np.ndarray]],
    ) -> None:  # fmt: skip
        """Write an edge population between the node populations of the sides."""
        n = self.layout["n_rows"]
        if not all(of_side.size for _, of_side in ids.values()):
            n = 0
        source, target = (self.rng.choice(ids[side][1], n) for side in ("source", "target"))
        order = {
            "by target": np.lexsort((source, target)), "by source": np.lexsort((target, source)),
            "scattered": np.arange(n),
        }[self.layout["order"]]  # fmt: skip
        source, target = source[order], target[order]
        with h5py.File(file, "a") as h5:
            base = h5.create_group(f"edges/{name}")
            for side, of_side in (("source", source), ("target", target)):
                stored = self.store(base, f"{side}_node_id", of_side, self.layout["id_dtype"])
                stored.attrs[self.layout["says_nodes"]] = ids[side][0]
                if self.layout["indices"] and of_side.max(initial=0) < 10_000:
                    to = {"source": "source_to_target", "target": "target_to_source"}[side]
                    _write_index(base.create_group(f"indices/{to}"), of_side)
            self.rows(base, "edge", n, columns, source * 1000 + target)


def _write_index(group: h5py.Group, ids: np.ndarray) -> None:
    """Write the ranges of rows of each node."""
    of_node, ranges = [], []
    for node in range(int(ids.max(initial=-1)) + 1):
        rows = np.flatnonzero(ids == node)
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if rows.size else []
        of_node.append((len(ranges), len(ranges) + len(runs)))
        ranges += [(run[0], run[-1] + 1) for run in runs]
    group["node_id_to_ranges"] = np.array(of_node, dtype=np.uint64)
    group["range_to_edge_id"] = np.array(ranges, dtype=np.uint64)


def write(folder: Path, layout: Variant) -> Written:
    """Write a circuit."""
    folder.mkdir(parents=True)
    writer = _Writer(folder, layout)
    if layout["mtype_form"] == "numbers":
        mtype = writer.numbers_column("mtype", layout["mtype"], "uint8", 3)
    else:
        mtype = writer.words_column("mtype", layout["mtype"], layout["mtype_form"])
    populations = {"cells": "nodes.h5"}
    if layout["projection"] != "none":
        own = layout["projection"] == "in a file of its own"
        populations["thalamus"] = "thalamus_nodes.h5" if own else "nodes.h5"
    of_nodes = [mtype]
    if layout["size"] != "absent":
        of_nodes.append(writer.numbers_column("size", layout["size"], layout["size_dtype"], 5))
    ids = {name: writer.nodes(folder / file, name, of_nodes) for name, file in populations.items()}
    source = list(populations)[-1]
    sides = {"source": (source, ids[source]), "target": ("cells", ids["cells"])}
    columns = [writer.numbers_column("weight", layout["weight"], layout["weight_dtype"])]
    if layout["dynamics"] != "absent":
        columns.append(writer.numbers_column("@dynamics:weight", layout["dynamics"], "float32"))
    if layout["label"] != "absent":
        columns.append(writer.words_column("label", layout["label"], layout["label_form"]))
    stored = list(columns)
    if layout["nsyns"] != "absent":
        stored.append(writer.numbers_column("nsyns", layout["nsyns"], "uint16", 3))
    of_edges = {"synapses": "edges.h5"}
    if layout["populations"] != "one":
        of_edges["other"] = "edges.h5" if layout["populations"] == "two in a file" else "other.h5"
    for name, file in of_edges.items():
        writer.edges(folder / file, name, stored, sides)
    config: dict[str, Any] = {
        "version": 2,
        "manifest": {"$BASE_DIR": "."},
        "networks": {
            "nodes": _entries(writer, "node", populations, of_nodes),
            "edges": _entries(writer, "edge", of_edges, stored),
        },
    }
    if layout["node_set"] != "none":
        sets = _node_sets(writer, source, ids[source])
        (folder / "node_sets.json").write_text(json.dumps(sets))
        config["node_sets_file"] = "node_sets.json"
    path = folder / "circuit_config.json"
    path.write_text(json.dumps(config))
    selected = ("source", "target") if layout["selected"] == "both" else (layout["selected"],)
    node_sets = {} if layout["node_set"] == "none" else dict.fromkeys(selected, "Chosen")
    return Written(path, "synapses", tuple(column.name for column in columns), node_sets)


def _entries(
    writer: _Writer, kind: str, populations: Mapping[str, str], columns: Sequence[_Column]
) -> list[dict[str, Any]]:
    """Return the entries of a configuration for populations, by their files, with types files.

    Populations of one file share its types file, which is about the first where it says so.
    """
    entries = []
    for file in dict.fromkeys(populations.values()):
        names = [name for name, other in populations.items() if other == file]
        entry: dict[str, Any] = {f"{kind}s_file": f"{writer.layout['manifest']}/{file}"}
        types_file = writer.types_file(kind, names[0], columns)
        if writer.layout[f"{kind}_types_file"] != "absent":
            is_named = writer.layout[f"{kind}_types_file"] == "named"
            entry[f"{kind}_types_file"] = types_file if is_named else "NULL"
        if writer.layout["listed"] != "none":
            types = {"thalamus": "virtual", "cells": "biophysical"}
            listed = names[:1] if kind == "edge" and writer.layout["listed"] == "one" else names
            entry["populations"] = {name: {"type": types.get(name, "chemical")} for name in listed}
        entries.append(entry)
    return entries


def _node_sets(writer: _Writer, population: str, ids: np.ndarray) -> dict[str, object]:
    chosen = sorted(writer.rng.choice(ids, -(-ids.size // 2), replace=False).tolist())
    value: object = writer.words[0]
    if writer.layout["mtype_form"] == "numbers":
        # A number in a types file may be text as well: no rule says which a node set means.
        value = [1, 2] if writer.layout["mtype"] == "all groups" else "none"
    pattern: object = {"$regex": ("o", "^[sa]", "d$|e", ".", "")[int(writer.rng.integers(5))]}
    sign = ("$gt", "$gte", "$lt", "$lte")[int(writer.rng.integers(4))]
    comparison = {sign: (2, 2.5, -1, 0)[int(writer.rng.integers(4))]}
    if writer.layout["mtype_form"] == "numbers":
        pattern = value
    return {
        "ids": {"Chosen": {"node_id": chosen}},
        "pattern": {"Chosen": {"mtype": pattern}},
        "comparison": {"Chosen": {"size": comparison}},
        "several": {"Chosen": {"mtype": pattern, "size": comparison, "node_id": chosen}},
        "attribute": {"Chosen": {"mtype": value}},
        "population": {"Chosen": {"population": population, "mtype": value}},
        "compound": {
            "Ids": {"node_id": chosen}, "Words": {"mtype": value}, "Chosen": ["Ids", "Words"],
        },
    }[writer.layout["node_set"]]  # fmt: skip
