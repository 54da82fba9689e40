"""Which nodes take part, and in which group: selections, folds, types."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from connprops.arrays import Bools, Ints
from connprops.arrays.arrow import to_numpy
from connprops.arrays.gather import by_id
from connprops.arrays.random_numbers import sampling_key
from connprops.dataset.dataset import Dataset
from connprops.errors import ConnpropsWarning, OptionError, listing
from connprops.options import Selection
from connprops.pathways import number_of_pair
from connprops.sources.node_types import ID, TYPE, group_nodes

_NODE_SET, _ID = "node_set", "@id"

Conditions = tuple[tuple[str, tuple[Any, ...]], ...]
"""A selection as names (attributes, a node set, ids) and their values, all of which are to hold."""


@dataclass(frozen=True)
class Grouping:
    """How nodes form groups, and what the groups' codes mean: :data:`connprops.schema.TYPES`."""

    groups: Groups
    types: pl.DataFrame


@dataclass(frozen=True)
class FoldNodes:
    """A training or test set of a cross-validation, which a ``CV_dict`` names."""

    n_folds: int
    number: int
    is_training: bool

    @classmethod
    def parse(cls, folds: Mapping[str, Any]) -> FoldNodes:
        """Return the fold of a ``CV_dict``."""
        missing = {"n_folds", "fold_idx", "training_set"} - folds.keys()
        if missing:
            raise OptionError.of("CV_dict is incomplete", expected=f"the keys {sorted(missing)}")
        return cls(int(folds["n_folds"]), int(folds["fold_idx"]), bool(folds["training_set"]))

    def of(self, node_ids: Ints, selected: Bools, seed: int, side: str) -> Bools:
        """Return the selected nodes that are in the set.

        Nodes are ranked by a hash of seed, side and id; a node's fold is its rank modulo their
        number.
        """
        ids = node_ids[selected]
        if not (1 < self.n_folds <= max(ids.size, 2) and 0 <= self.number < self.n_folds):
            raise OptionError.of(
                f"CV_dict does not fit the {ids.size} selected {side} nodes",
                found=f"n_folds={self.n_folds}, fold_idx={self.number}",
                expected=f"2 <= n_folds <= {ids.size} and 0 <= fold_idx < n_folds",
            )
        key = sampling_key(seed, np.full(ids.size, 1 + (side == "target"), dtype=np.int64), ids)
        rank = np.empty(ids.size, dtype=np.int64)
        rank[np.lexsort((ids, key))] = np.arange(ids.size)
        is_tested = rank % self.n_folds == self.number
        kept = selected.copy()
        kept[selected] = is_tested != self.is_training
        return kept


@dataclass(frozen=True)
class Choice:
    """Which nodes take part and how they form groups: small enough to be sent to a worker.

    Groups are the dataset's types unless ``by`` gives an attribute for each side, as
    :func:`connprops.sources.node_types.group_nodes` takes it.
    """

    source: Conditions
    target: Conditions
    fold: FoldNodes | None
    seed: int
    by: tuple[str, str] | None = None

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
        fold = None if folds is None else FoldNodes.parse(folds)
        return cls(conditions_of(sel_src), conditions_of(sel_dest), fold, seed, by)

    def warn_of_unknown(self, dataset: Dataset) -> None:
        """Warn of values in a selection that no node has."""
        for side, conditions in (("source", self.source), ("target", self.target)):
            warn_of_unknown(dataset.numbered_nodes.filter(side=side), side, conditions)

    def grouping(self, dataset: Dataset) -> Grouping:
        """Return how the nodes of a dataset form groups."""
        return _grouping(dataset, self)


@lru_cache(maxsize=32)  # as many as the folds of a cross-validation have, and more
def _grouping(dataset: Dataset, choice: Choice) -> Grouping:
    """Return each node's group where it is selected, and the groups with selected nodes."""
    codes, types, n_groups = {}, [], {}
    for i, (side, conditions) in enumerate((("source", choice.source), ("target", choice.target))):
        nodes = dataset.numbered_nodes.filter(side=side).sort("node")
        of_side = dataset.types.filter(side=side)
        if choice.by is not None:
            attributes = nodes.drop("side", "code")
            grouped = group_nodes(
                attributes, dataset.node_population(side), choice.by[i], side, report=False
            )
            nodes, of_side = grouped.nodes, grouped.types
        n_groups[side] = len(of_side)
        ids, code = nodes["node"].to_numpy(), nodes["code"].to_numpy().astype(np.int32)
        selected = select_nodes(nodes, side, conditions, partial(dataset.node_set, side))
        if choice.fold is not None:
            selected = choice.fold.of(ids, selected, choice.seed, side)
        codes[side] = by_id(ids, np.where(selected, code, np.int32(-1)))
        n_nodes = np.bincount(code[selected], minlength=len(of_side))[of_side["code"].to_numpy()]
        types.append(
            of_side.with_columns(pl.Series("n_nodes", n_nodes, dtype=pl.Int64)).filter(
                pl.col("n_nodes") > 0
            )
        )
    groups = Groups(codes["source"], codes["target"], n_groups["target"], choice.by is None)
    return Grouping(groups, pl.concat(types))


def conditions_of(selection: Selection) -> Conditions:
    """Return a selection as conditions, which can be compared and sent to workers."""
    if selection is None:
        return ()
    if isinstance(selection, str):
        return ((_NODE_SET, (selection,)),)
    if not isinstance(selection, Mapping):
        return ((_ID, tuple(selection)),)
    conditions: Conditions = ()
    for name, value in selection.items():
        if name == _NODE_SET:
            conditions += conditions_of(value)
        else:
            is_single = isinstance(value, str | int | float)
            conditions += ((str(name), (value,) if is_single else tuple(value)),)
    return conditions


def select_nodes(
    nodes: pl.DataFrame, side: str, conditions: Conditions, members: Callable[[str], Ints]
) -> Bools:
    """Return which of a side's ``nodes`` meet all conditions; ``members`` gives node sets' ids.

    Raises :class:`OptionError` where none does.
    """
    selected = np.ones(len(nodes), dtype=np.bool_)
    for name, values in conditions:
        if name == _NODE_SET:
            selected &= np.isin(nodes["node"].to_numpy(), members(values[0]))
        elif name == _ID:
            selected &= _by_id(values, nodes, side)
        else:
            selected &= _by_attribute(name, values, nodes, side)
    if conditions and not selected.any():
        raise OptionError.of(
            f"The {side} selection is empty", found=f"none of {len(nodes):,} nodes",
            expected="at least one node that meets all conditions",
        )  # fmt: skip
    return selected


def warn_of_unknown(nodes: pl.DataFrame, side: str, conditions: Conditions) -> None:
    """Warn of values in a selection that no node has, where others of the same list are there."""
    for name, values in conditions:
        if name not in (_NODE_SET, _ID):
            unknown = [text for text in map(str, values) if text not in _present(nodes, name)]
            if unknown:
                text = f"no {side} node has the {name} {listing(unknown)} of the selection"
                warnings.warn(text, ConnpropsWarning, stacklevel=3)


def _present(nodes: pl.DataFrame, attribute: str) -> set[str]:
    return set(nodes[attribute].cast(pl.String).drop_nulls().unique())


def _by_id(ids: tuple[Any, ...], nodes: pl.DataFrame, side: str) -> Bools:
    if ID in nodes.columns:
        return _by_own_id(ids, nodes[ID], side)
    numbers = np.asarray(ids)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise OptionError.of(
            f"A {side} selection by ids needs whole numbers", found=repr(numbers[:3].tolist())
        )
    known: Ints = nodes["node"].to_numpy()
    outside = numbers[~np.isin(numbers, known)]
    if outside.size:
        first, last = (known[0], known[-1]) if known.size else (0, -1)
        gaps = ", with gaps" if known.size < last - first + 1 else ""
        raise OptionError.of(
            f"The {side} selection names nodes that do not exist",
            found=f"id {outside[0]}",
            expected=f"ids from {first} to {last}{gaps}",
        )
    return np.isin(known, numbers)


def _by_own_id(ids: tuple[Any, ...], known: pl.Series, side: str) -> Bools:
    asked = pl.Series(ids, dtype=known.dtype, strict=False)
    unknown = [i for i, is_known in zip(ids, asked.is_in(known), strict=True) if not is_known]
    if unknown:
        raise OptionError.of(
            f"The {side} selection names nodes that do not exist",
            found=f"id {unknown[0]!r}", expected=f"ids of the nodes, such as {known[0]!r}",
        )  # fmt: skip
    return known.is_in(asked.to_list()).to_numpy()


def _by_attribute(attribute: str, values: tuple[Any, ...], nodes: pl.DataFrame, side: str) -> Bools:
    attributes = [name for name in nodes.columns if name not in ("side", "node", "code", ID, TYPE)]
    if attribute not in attributes:
        raise OptionError.unknown(f"{side} node attribute", attribute, [*attributes, _NODE_SET])
    texts = [str(value) for value in values]
    present = _present(nodes, attribute)
    if texts and present.isdisjoint(texts):
        raise OptionError.unknown(
            f"value of {side} node attribute {attribute!r}", texts[0], sorted(present)
        )
    return nodes[attribute].cast(pl.String).is_in(texts).fill_null(value=False).to_numpy()


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
        group: Ints = number_of_pair(source.astype(np.int64), target, self.n_target_codes)
        group[(source < 0) | (target < 0)] = -1
        return group
