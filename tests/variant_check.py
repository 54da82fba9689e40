"""Whether connprops reads a variant of SONATA as the slow reader does, or refuses it rightly."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from oracle import assert_agrees
from sonata_reader import SonataReader, Value
from sonata_variants import Variant, Written, variant, write

import connprops as cp
from connprops.errors import OptionError

_Holds = Callable[[Variant], bool]

_GROUPED = {"edge": ("weight", "dynamics", "label", "nsyns"), "node": ("mtype", "size")}


def _reads_size(layout: Variant) -> bool:
    """Return whether the nodes' sizes matter: floating ones group nothing by themselves."""
    by_sets = layout["node_set"] in ("comparison", "several")
    return by_sets or not layout["size_dtype"].startswith("float")


def _lacks(layout: Variant, kind: str, what: str) -> bool:
    """Return whether columns lie in several groups, and rows, if any, do not say where."""
    if 0 in (layout["n_nodes"], layout["n_rows"] if kind == "edge" else 1):
        return False
    read = [name for name in _GROUPED[kind] if name != "size" or _reads_size(layout)]
    in_groups = any("groups" in layout[column] for column in read)
    return in_groups and layout[f"{kind}_groups"] > 1 and layout[f"{kind}_group_{what}"] == "absent"


def _says_no_types(layout: Variant, kind: str) -> bool:
    """Return whether rows do not say their types, where a file of types is named."""
    return layout[f"{kind}_type_id"] == "absent" and layout[f"{kind}_types_file"] == "named"


def _says_no_number(layout: Variant) -> bool:
    """Return whether no dataset tells how many nodes there are."""
    if layout["node_type_id"] == "stored" or layout["node_id"] != "absent":
        return False
    groups = layout["node_groups"]
    if groups and (layout["node_group_id"] == "stored" or layout["node_group_index"] != "absent"):
        return False
    has_columns = any("groups" in layout[column] for column in _GROUPED["node"])
    return groups != 1 or not has_columns


MUST_BE_REFUSED: Mapping[str, _Holds] = (
    {
        rf"{kind}s\.h5 lacks {kind}s/\w+/{kind}_group_{what}": partial(_lacks, kind=kind, what=what)
        for kind in ("edge", "node")
        for what in ("id", "index")
    }
    | {
        rf"{kind}s\.h5 lacks {kind}s/\w+/{kind}_type_id": partial(_says_no_types, kind=kind)
        for kind in ("edge", "node")
    }
    | {r"nodes\.h5: nodes/\w+ does not say how many nodes it has": _says_no_number}
)
"""What no reader can know, by what the message says."""

MAY_BE_REFUSED: Mapping[str, _Holds] = {
    r"edges\.h5: groups of /edges/\w+ name the values of 'label' differently": lambda layout: (
        layout["label_form"] == "libraries" and layout["edge_groups"] > 1
    ),
    r"nodes\.h5: nodes/\w+/node_id has an id that tables by id have no room for": lambda layout: (
        layout["node_id"] == "far apart"
    ),
    r"'label' of \S+edges\.h5 cannot be a property": lambda layout: (
        layout["label_form"] == "text or library" and layout["edge_groups"] > 1
    ),
}
"""What is legal but unusual, by what the message says."""


def check(layout: Variant, folder: Path) -> str:
    """Compare all statistics of a variant; return whether it was read or refused, as it must."""
    shutil.rmtree(folder, ignore_errors=True)
    written = write(folder / "circuit", layout)
    must, may = (
        "|".join(message for message, holds in refusals.items() if holds(layout))
        for refusals in (MUST_BE_REFUSED, MAY_BE_REFUSED)
    )
    outcome = "read"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cp.ConnpropsWarning)
        try:
            if must:
                cp.open_circuit(
                    written.config, folder / "dataset", edges_popul_name=written.population
                )
            else:
                outcome = compare(written, folder / "dataset")
        except cp.ConnpropsError as error:
            if not re.search("|".join(filter(None, (must, may))) or "(?!)", str(error)):
                raise
            outcome = "refused"
    shutil.rmtree(folder)
    assert outcome == "refused" or not must, f"{layout} is not refused"
    return outcome


def compare(written: Written, folder: Path) -> str:
    """Compare all statistics of a circuit with those of what the slow reader finds in it.

    Where it finds no node that is selected, there must be an error.
    """
    reader = SonataReader(written.config)
    edges = reader.edges(written.population, "mtype", [*written.columns, "nsyns"])
    # A column of which no row has a value is no column.
    names = [name for name in written.columns if any(v is not None for v in edges.values[name])]
    data = cp.open_circuit(
        written.config, folder, edges_popul_name=written.population, properties=names
    )
    sel_src, sel_dest = (written.node_sets.get(side) for side in ("source", "target"))
    n_synapses = [1 if n is None else int(n) for n in edges.values["nsyns"]]
    selects_none = False
    for node_set, population, nodes in (
        (sel_src, edges.source_population, edges.source),
        (sel_dest, edges.target_population, edges.target),
    ):
        chosen = set(nodes) if node_set is None else reader.node_set(node_set, population)
        selects_none |= node_set is not None and not chosen
        n_synapses = [n * (node in chosen) for n, node in zip(n_synapses, nodes, strict=True)]
    if selects_none:
        with pytest.raises(OptionError, match=r"The (source|target) selection is empty"):
            cp.extract(data, sel_props=names, sel_src=sel_src, sel_dest=sel_dest)
        return "refused"
    stats = cp.extract(data, sel_props=names, sel_src=sel_src, sel_dest=sel_dest)
    rows = np.repeat(np.arange(len(n_synapses)), n_synapses)
    columns = {}
    for column in data.columns:
        values = _numbers(edges.values[column.name], column.labels)
        columns[column.name] = values.astype(column.dtype)
        lossless = columns[column.name].astype(np.float64)
        np.testing.assert_array_equal(lossless, values, f"{column.name} as {column.dtype}")
        columns[column.name] = columns[column.name][rows]
    assert_agrees(
        stats,
        np.array(edges.source, dtype=np.int64)[rows],
        np.array(edges.target, dtype=np.int64)[rows],
        columns,
        _types(edges.source_type, edges.source_population, data.source_types),
        _types(edges.target_type, edges.target_population, data.target_types),
    )
    return "read"


def _numbers(values: list[Value], labels: tuple[str, ...] | None) -> np.ndarray:
    """Return values as numbers: text by its label's code, NaN where there is none."""
    codes = None if labels is None else {label: code for code, label in enumerate(labels)}
    numbers = [np.nan if v is None else float(v) if codes is None else codes[v] for v in values]
    return np.array(numbers, dtype=np.float64)


def _types(types: dict[int, Value], population: str, names: Sequence[str]) -> dict[int, str]:
    """Return the types of nodes as connprops names them.

    Where no node has one, it depends on whether a group has the attribute that no node is in.
    """
    none = "(none)"
    if all(value is None for value in types.values()) and names == [population]:
        none = population
    return {node: none if value is None else str(value) for node, value in types.items()}


def try_variants(n: int, folder: Path, seed: int = 0) -> tuple[dict[str, int], list[str]]:
    """Try that many variants; return how many were read and refused, and the failures, shrunk."""
    counts, failures = {"read": 0, "refused": 0}, []

    def failure(layout: Variant) -> str | None:
        try:
            counts[check(layout, folder / "variant")] += 1
        except Exception as error:  # noqa: BLE001 - each is a failure, and told
            return f"{layout!r}: {type(error).__name__}: {error}"
        return None

    for number in range(seed * 1_000_000, seed * 1_000_000 + n):
        layout = variant(number)
        if failure(layout):
            smallest = layout.shrunk(lambda plainer: failure(plainer) is not None)
            failures.append(f"variant({number}), or plainer {failure(smallest)}")
    return counts, failures
