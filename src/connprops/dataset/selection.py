"""Which nodes take part, and in which group: selections, folds, types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.arrays.arrow import to_numpy
from connprops.arrays.random_numbers import sampling_key
from connprops.circuit.node_types import group_nodes
from connprops.dataset.dataset import Dataset
from connprops.errors import OptionError

Selection = str | Sequence[int] | Mapping[str, Any] | None
"""Nodes: all, a node set, ids, or attributes with a value or several, and ``node_set``."""


@dataclass(frozen=True)
class Grouping:
    """How nodes form groups, and what the groups' codes mean: :data:`connprops.schema.TYPES`."""

    groups: Groups
    types: pl.DataFrame


@dataclass(frozen=True)
class Choice:
    """Which nodes take part and how they form groups, as text that other processes can be sent."""

    text: str

    @classmethod
    def of(
        cls,
        sel_src: Selection,
        sel_dest: Selection,
        folds: Mapping[str, Any] | None,
        seed: int,
        by: tuple[str, str] | None = None,
    ) -> Choice:
        """Return the choice that these options make."""
        folds = dict(folds) if folds is not None else None
        return cls(json.dumps([plain(sel_src), plain(sel_dest), folds, seed, by]))

    def grouping(self, dataset: Dataset) -> Grouping:
        """Return how the nodes of a dataset form groups."""
        nodes = (str(dataset.folder), str(dataset.identity.get("nodes_sha256")))
        key = (*nodes, self.text)
        if key not in _groupings:
            sel_src, sel_dest, folds, seed, by = json.loads(self.text)
            grouping = group_selected(dataset, sel_src, sel_dest, folds, seed, by)
            while len(_groupings) >= _GROUPINGS_AT_MOST:
                del _groupings[next(iter(_groupings))]
            _groupings[key] = grouping
        return _groupings[key]


_GROUPINGS_AT_MOST = 32
"""Groupings that are remembered: as many as the folds of a cross-validation have, and more."""

_groupings: dict[tuple[str, str, str], Grouping] = {}


def group_selected(
    dataset: Dataset,
    sel_src: Selection,
    sel_dest: Selection,
    folds: Mapping[str, Any] | None,
    seed: int,
    by: tuple[str, str] | None = None,
) -> Grouping:
    """Return each node's group where it is selected, and the groups with selected nodes.

    Groups are the dataset's types unless ``by`` gives an attribute for each side, as
    :func:`connprops.circuit.node_types.group_nodes` takes it.
    """
    codes, types, n_groups = {}, [], {}
    for i, (side, selection) in enumerate((("source", sel_src), ("target", sel_dest))):
        nodes = dataset.nodes.filter(pl.col("side") == side).sort("node")
        of_side = dataset.types.filter(pl.col("side") == side)
        if by is not None:
            attributes = nodes.drop("side", "code")
            grouped = group_nodes(
                attributes, dataset.node_population(side), by[i], side, report=False
            )
            nodes, of_side = grouped.nodes, grouped.types
        n_groups[side] = len(of_side)
        code = nodes["code"].to_numpy().astype(np.int32)
        chosen = select_nodes(nodes, side, selection, partial(dataset.node_set, side))
        if folds is not None:
            chosen = _in_fold(chosen, folds, seed, side)
        codes[side] = np.where(chosen, code, np.int32(-1))
        present = np.bincount(code[chosen], minlength=len(of_side))
        types.append(
            of_side.with_columns(pl.Series("n_nodes", present[of_side["code"].to_numpy()]))
            .filter(pl.col("n_nodes") > 0)
            .cast({"n_nodes": pl.Int64})
        )
    groups = Groups(codes["source"], codes["target"], n_groups["target"], by is None)
    return Grouping(groups, pl.concat(types))


def select_nodes(
    nodes: pl.DataFrame,
    side: str,
    selection: Selection,
    members: Callable[[str], NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Return which nodes of a side a selection holds, in the order of ``nodes``.

    Parameters
    ----------
    nodes
        All nodes of the side by their id, with their attributes.
    side
        ``"source"`` or ``"target"``.
    selection
        See :data:`Selection`.
    members
        Gives the ids of a node set by its name.

    Raises
    ------
    OptionError
        Where the selection names a node set, an attribute, a value or a node that is not there.
    """
    if selection is None:
        return np.ones(len(nodes), dtype=np.bool_)
    if isinstance(selection, str):
        chosen = np.zeros(len(nodes), dtype=np.bool_)
        chosen[members(selection)] = True
        return chosen
    if not isinstance(selection, Mapping):
        return _by_id(selection, nodes, side)
    chosen = np.ones(len(nodes), dtype=np.bool_)
    for attribute, wanted in selection.items():
        if attribute == "node_set":
            chosen &= select_nodes(nodes, side, wanted, members)
        else:
            chosen &= _by_attribute(attribute, wanted, nodes, side)
    return chosen


def _by_id(ids: Sequence[int], nodes: pl.DataFrame, side: str) -> NDArray[np.bool_]:
    wanted = np.asarray(ids)
    if wanted.size and wanted.dtype.kind not in "iu":
        raise OptionError.of(
            f"A {side} selection by ids needs whole numbers", found=repr(wanted[:3].tolist())
        )
    outside = wanted[(wanted < 0) | (wanted >= len(nodes))] if wanted.size else wanted
    if outside.size:
        raise OptionError.of(
            f"The {side} selection names nodes that do not exist",
            found=f"id {outside[0]}",
            expected=f"ids from 0 to {len(nodes) - 1}",
        )
    chosen = np.zeros(len(nodes), dtype=np.bool_)
    chosen[wanted.astype(np.int64)] = True
    return chosen


def _by_attribute(
    attribute: str,
    wanted: Any,
    nodes: pl.DataFrame,
    side: str,
) -> NDArray[np.bool_]:
    known = [name for name in nodes.columns if name not in ("side", "node", "code")]
    if attribute not in known:
        raise OptionError.unknown(f"{side} node attribute", attribute, [*known, "node_set"])
    several = [wanted] if isinstance(wanted, str | int | float) else list(wanted)
    texts = [str(value) for value in several]
    column = nodes[attribute].cast(pl.String)
    values = set(column.drop_nulls().unique())
    for text in texts:
        if text not in values:
            raise OptionError.unknown(
                f"value of {side} node attribute {attribute!r}", text, sorted(values)
            )
    return column.is_in(texts).fill_null(value=False).to_numpy()


def _in_fold(
    chosen: NDArray[np.bool_], folds: Mapping[str, Any], seed: int, side: str
) -> NDArray[np.bool_]:
    """Return the selected nodes that a training or test set keeps.

    Nodes are ranked by a hash of seed, side and id; a node's fold is its rank modulo their number.
    """
    missing = {"n_folds", "fold_idx", "training_set"} - folds.keys()
    if missing:
        raise OptionError.of("CV_dict is incomplete", expected=f"the keys {sorted(missing)}")
    n_folds, fold = int(folds["n_folds"]), int(folds["fold_idx"])
    ids = np.flatnonzero(chosen)
    if not (1 < n_folds <= max(ids.size, 2) and 0 <= fold < n_folds):
        raise OptionError.of(
            f"CV_dict does not fit the {ids.size} selected {side} nodes",
            found=f"n_folds={n_folds}, fold_idx={fold}",
            expected=f"2 <= n_folds <= {ids.size} and 0 <= fold_idx < n_folds",
        )
    key = sampling_key(seed, np.full(ids.size, 1 + (side == "target"), dtype=np.int64), ids)
    rank = np.empty(ids.size, dtype=np.int64)
    rank[np.lexsort((ids, key))] = np.arange(ids.size)
    inside = rank % n_folds == fold
    kept = np.zeros_like(chosen)
    kept[ids[~inside if folds["training_set"] else inside]] = True
    return kept


def plain(selection: Selection) -> Any:
    """Return a selection as JSON has it, for the metadata."""
    if selection is None or isinstance(selection, str):
        return selection
    if isinstance(selection, Mapping):
        return {str(k): _plain_value(v) for k, v in selection.items()}
    return [int(node) for node in selection]


def _plain_value(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    return [v if isinstance(v, str) else int(v) for v in value]


@dataclass(frozen=True)
class Groups:
    """How connections form groups, and a range of them.

    ``source_code`` and ``target_code`` give each node's group, -1 for nodes not selected; a
    connection's group is ``source_code * n_target_codes + target_code``. ``is_pathway`` says that
    these are the dataset's own pathways, which lie together in its parts.
    """

    source_code: NDArray[np.int32]
    target_code: NDArray[np.int32]
    n_target_codes: int
    is_pathway: bool

    def of(self, connections: pa.Table) -> Ints:
        """Return the group of each connection, -1 where it is not selected."""
        source = self.source_code[to_numpy(connections.column("source_node"))]
        target = self.target_code[to_numpy(connections.column("target_node"))]
        group: Ints = source.astype(np.int64) * self.n_target_codes + target
        group[(source < 0) | (target < 0)] = -1
        return group
