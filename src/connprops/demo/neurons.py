"""The neurons of the scale model: their types, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.arrays import Ints
from connprops.demo.published import table

THICKNESS = {"6": 700.0, "5": 525.0, "4": 190.0, "3": 353.0, "2": 149.0, "1": 165.0}
"""Thickness of the layers in µm, from below (Markram et al. 2015)."""

_RADIUS = 230.0  # µm


@dataclass(frozen=True)
class Neurons:
    """The neurons: arrays of one length.

    ``group`` is the row of ``groups``, the table of m-types and layers; ``etype`` the place in
    the list of e-types there. ``soma`` are the positions of somata in µm: x, y (up) and z.
    """

    groups: pl.DataFrame
    group: Ints
    etype: Ints
    soma: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def mtypes(self) -> list[str]:
        """The m-types, sorted."""
        return self.groups.get_column("mtype").unique().sort().to_list()

    @cached_property
    def mtype(self) -> Ints:
        """Each neuron's m-type, as its place in ``mtypes``."""
        return np.searchsorted(self.mtypes, self.groups.get_column("mtype").to_list())[self.group]

    @cached_property
    def by_mtype(self) -> Ints:
        """The neurons, ordered by m-type."""
        return np.argsort(self.mtype, kind="stable")

    @cached_property
    def first(self) -> Ints:
        """Where each m-type begins in ``by_mtype``, and where the last one ends."""
        return np.searchsorted(self.mtype[self.by_mtype], np.arange(len(self.mtypes) + 1))

    @cached_property
    def rank(self) -> Ints:
        """Each neuron's place among those of its m-type."""
        rank = np.empty(len(self), np.int64)
        rank[self.by_mtype] = np.arange(len(self)) - self.first[self.mtype[self.by_mtype]]
        return rank


def place_neurons(scale: float, at_least: int, rng: np.random.Generator) -> Neurons:
    """Return the published neurons, their numbers multiplied, in an order without a system.

    Each m-type keeps ``at_least`` neurons in each layer; positions are uniform within layers.
    """
    groups = table("mtypes")
    n_neurons = np.maximum(at_least, np.rint(scale * groups.get_column("n_neurons").to_numpy()))
    group = rng.permutation(np.repeat(np.arange(len(groups)), n_neurons.astype(np.int64)))
    n_etypes = groups.get_column("etypes").str.split(" ").list.len().to_numpy()
    layer = np.array([list(THICKNESS).index(name) for name in groups.get_column("layer")])[group]
    thickness = np.array(list(THICKNESS.values()))
    top = np.cumsum(thickness)
    radius = _RADIUS * np.sqrt(rng.random(len(group)))
    bearing = 2 * np.pi * rng.random(len(group))
    etype = rng.integers(0, n_etypes[group])
    height = top[layer] - thickness[layer] * rng.random(len(group))
    soma = np.array([radius * np.cos(bearing), height, radius * np.sin(bearing)], np.float32)
    return Neurons(groups, group, etype, soma)
