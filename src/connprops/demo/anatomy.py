"""Where the neurons of the scale model lie, and where on their dendrites the synapses are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from connprops.demo import published

THICKNESS = {"6": 700.0, "5": 525.0, "4": 190.0, "3": 353.0, "2": 149.0, "1": 165.0}
"""Thickness of the layers in µm, from below (Markram et al. 2015)."""

_RADIUS = 230.0  # µm
_SOMA = 1  # the soma's id in the SWC files


@dataclass(frozen=True)
class Neurons:
    """The neurons: arrays of one length.

    ``group`` is the row of ``groups``, the table of m-types and layers; ``etype`` the place in
    the list of e-types there. ``x``, ``y``, ``z`` is the soma's position in µm, ``angle`` the
    rotation about the vertical (y) in radians.
    """

    groups: pl.DataFrame
    group: NDArray[np.int64]
    etype: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]
    angle: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.group)

    @cached_property
    def mtypes(self) -> list[str]:
        """The m-types, sorted."""
        return self.groups.get_column("mtype").unique().sort().to_list()

    @cached_property
    def mtype(self) -> NDArray[np.int64]:
        """Each neuron's m-type, as its place in ``mtypes``."""
        return np.searchsorted(self.mtypes, self.groups.get_column("mtype").to_list())[self.group]

    @cached_property
    def is_inhibitory(self) -> NDArray[np.int64]:
        """1 for inhibitory neurons, 0 for excitatory ones."""
        classes = self.groups.get_column("synapse_class")
        return (classes == "INH").cast(pl.Int64).to_numpy()[self.group]

    @cached_property
    def by_mtype(self) -> NDArray[np.int64]:
        """The neurons, ordered by m-type."""
        return np.argsort(self.mtype, kind="stable")

    @cached_property
    def first(self) -> NDArray[np.int64]:
        """Where each m-type begins in ``by_mtype``, and where the last one ends."""
        return np.searchsorted(self.mtype[self.by_mtype], np.arange(len(self.mtypes) + 1))

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """Each neuron's place among those of its m-type."""
        rank = np.empty(len(self), np.int64)
        rank[self.by_mtype] = np.arange(len(self)) - self.first[self.mtype[self.by_mtype]]
        return rank


def place_neurons(scale: float, at_least: int, rng: np.random.Generator) -> Neurons:
    """Return the published neurons, their numbers multiplied, in an order without a system.

    Parameters
    ----------
    scale
        Factor on the number of neurons of each m-type and layer.
    at_least
        Number that each m-type keeps in each of its layers.
    rng
        Source of the order, the e-types and the positions, which are uniform in a cylinder of
        radius 230 µm, each within its layer.
    """
    groups = published.table("mtypes")
    n_neurons = np.maximum(at_least, np.rint(scale * groups.get_column("n_neurons").to_numpy()))
    group = rng.permutation(np.repeat(np.arange(len(groups)), n_neurons.astype(np.int64)))
    n_etypes = groups.get_column("etypes").str.split(" ").list.len().to_numpy()
    layer = np.array([list(THICKNESS).index(name) for name in groups.get_column("layer")])[group]
    thickness = np.array(list(THICKNESS.values()))
    top = np.cumsum(thickness)
    radius = _RADIUS * np.sqrt(rng.random(len(group)))
    bearing = 2 * np.pi * rng.random(len(group))
    return Neurons(
        groups=groups,
        group=group,
        etype=rng.integers(0, n_etypes[group]),
        x=(radius * np.cos(bearing)).astype(np.float32),
        y=(top[layer] - thickness[layer] * rng.random(len(group))).astype(np.float32),
        z=(radius * np.sin(bearing)).astype(np.float32),
        angle=2 * np.pi * rng.random(len(group)),
    )


def places_on_dendrites(
    neurons: Neurons, target: NDArray[np.int64], rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    """Draw a place on each target neuron, uniform along its dendrites.

    Returns
    -------
    dict
        SONATA's columns for a synapse on a dendrite: ``afferent_section_id``, ``_type`` and
        ``_pos`` (0 to 1), ``afferent_segment_offset``, and the point on the axis
        (``afferent_center_*``) and on the surface (``afferent_surface_*``) of the dendrite, in µm.
    """
    dendrites = _dendrites()
    cell = neurons.is_inhibitory[target]
    way = dendrites.begin[cell] + dendrites.total[cell] * rng.random(len(target))
    section = np.searchsorted(dendrites.before, way, side="right") - 1
    along = (way - dendrites.before[section]).astype(np.float32)
    columns: dict[str, NDArray[Any]] = {
        "afferent_section_id": dendrites.id[section],
        "afferent_section_type": dendrites.type[section],
        "afferent_section_pos": along / dendrites.length[section],
        "afferent_segment_offset": along,
    }
    center = [
        dendrites.start[axis, section] + along * dendrites.direction[axis, section]
        for axis in range(3)
    ]
    surface = [center[axis] + dendrites.outward[axis, section] for axis in range(3)]
    cos, sin = (f(neurons.angle).astype(np.float32)[target] for f in (np.cos, np.sin))
    soma_x, soma_y, soma_z = (soma[target] for soma in (neurons.x, neurons.y, neurons.z))
    for place, (x, y, z) in {"center": center, "surface": surface}.items():
        columns[f"afferent_{place}_x"] = soma_x + x * cos + z * sin
        columns[f"afferent_{place}_y"] = soma_y + y
        columns[f"afferent_{place}_z"] = soma_z + z * cos - x * sin
    return columns


@dataclass(frozen=True)
class _Dendrites:
    """The dendritic sections of both schematic cells, one after the other, all straight.

    Lengths in µm. Vectors (start, direction, and outward from axis to surface) have shape
    (3, sections). ``before`` is the way along all sections before each; ``begin`` and ``total``
    are, for each cell, the way before its first section, and the length of all of them.
    """

    id: NDArray[np.uint16]
    type: NDArray[np.uint8]
    start: NDArray[np.float32]
    direction: NDArray[np.float32]
    outward: NDArray[np.float32]
    length: NDArray[np.float32]
    before: NDArray[np.float64]
    begin: NDArray[np.float64]
    total: NDArray[np.float64]


@cache
def _dendrites() -> _Dendrites:
    """Read the sections from the SWC files, the excitatory cell's first.

    In these files a section is one segment: a point whose parent is not the soma. SONATA counts
    sections from 1, in the order of the file, since 0 is the soma.
    """
    cells = []
    for name in published.MORPHOLOGY.values():
        points = np.loadtxt(published.morphology(name).splitlines())
        sections = points[points[:, 6] > _SOMA]
        starts = points[sections[:, 6].astype(int) - 1, 2:5]
        number = 1 + np.arange(len(sections))
        cells.append(np.column_stack([number, sections[:, 1:6], starts]))
    number, kind, *end, radius, start_x, start_y, start_z = np.concatenate(cells).T
    start = np.array([start_x, start_y, start_z])
    length = np.linalg.norm(np.array(end) - start, axis=0)
    direction = (np.array(end) - start) / length
    across = np.cross(direction, [[1.0], [2.0], [3.0]], axis=0)  # no section points that way
    ends = np.cumsum(length)
    last = ends[np.cumsum([len(cell) for cell in cells]) - 1]
    return _Dendrites(
        id=number.astype(np.uint16),
        type=kind.astype(np.uint8),
        start=start.astype(np.float32),
        direction=direction.astype(np.float32),
        outward=(radius * across / np.linalg.norm(across, axis=0)).astype(np.float32),
        length=length.astype(np.float32),
        before=ends - length,
        begin=np.concatenate([[0.0], last[:-1]]),
        total=np.diff(last, prepend=0.0),
    )
