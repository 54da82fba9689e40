"""Gaussian copulas: correlation matrices of pathways, and correlated numbers from them.

The properties of a pathway that connections share have one matrix, those that vary within
connections another. A value is the quantile of its property's distribution at Phi(z), and the z of
one connection, or of one synapse, are normal with that matrix. Where the synapses of a connection
are alike, their z are sums of a part of the connection and one of the synapse, both with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from scipy.special import ndtr

from connprops.arrays import Floats, Ints
from connprops.pathways import Pathways

LEAST_EIGENVALUE = 1e-6
"""Matrices with an eigenvalue below it count as singular."""

_ITERATIONS = 500
_TOLERANCE = 1e-9
_LEAST, _MOST = 2.0**-54, 1 - 2.0**-53


@dataclass(frozen=True)
class Copulas:
    """Correlations of some properties, in those pathways that have any.

    Attributes
    ----------
    properties
        Names of the properties, (d,).
    pathway
        Numbers of the pathways with a matrix, (g,), increasing: see
        :class:`connprops.pathways.Pathways`. In all others the properties are independent.
    matrix
        Correlations of the normal variables, (g, d, d); a property that a pathway does not
        correlate has zeros.
    """

    properties: tuple[str, ...]
    pathway: Ints
    matrix: Floats

    @cached_property
    def factor(self) -> Floats:
        """Return the lower Cholesky factors of the matrices, (g, d, d)."""
        return np.asarray(np.linalg.cholesky(self.matrix), dtype=np.float64)

    def normals(self, independent: Floats, pathway: Ints) -> Floats:
        """Return normal numbers with the correlations of each row's pathway.

        Parameters
        ----------
        independent
            Independent standard normal numbers, (n, d).
        pathway
            Pathway of each row, (n,).

        Returns
        -------
        numpy.ndarray
            (n, d), the first column as it was; rows of pathways without a matrix as they were.
            A row depends on nothing but its own numbers and pathway.
        """
        normal = independent.astype(np.float64)
        if not self.pathway.size:
            return normal
        place = np.minimum(np.searchsorted(self.pathway, pathway), self.pathway.size - 1)
        rows = np.flatnonzero(self.pathway[place] == pathway)
        z, at = normal[rows], place[rows]
        for i in range(len(self.properties)):
            total = np.zeros(rows.size)
            for j in range(i + 1):  # term by term: the same bits, however many rows
                total += self.factor[at, i, j] * z[:, j]
            normal[rows, i] = total
        return normal

    def uniforms(self, independent: Floats, pathway: Ints) -> Floats:
        """Return numbers on (0, 1), (n, d), at which to take quantiles: see :meth:`normals`."""
        return uniforms(self.normals(independent, pathway))


def uniforms(normal: Floats) -> Floats:
    """Return numbers on (0, 1) at which to take quantiles, from standard normal ones."""
    numbers: Floats = np.clip(ndtr(normal), _LEAST, _MOST)
    return numbers


def copulas(rows: pl.DataFrame, properties: Sequence[str], pathways: Pathways) -> Copulas:
    """Return the copulas of rows of a model's correlations that have one ``shared_within``."""
    columns = [rows[name].cast(pl.String) for name in ("property", "other_property")]
    used = set(columns[0]) | set(columns[1])
    names = tuple(name for name in properties if name in used)
    i, j = (c.cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy() for c in columns)
    numbers = rows.select(pathways.number_of_row).to_series().to_numpy()
    pathway, at = np.unique(numbers, return_inverse=True)
    matrix = np.tile(np.eye(len(names)), (pathway.size, 1, 1))
    matrix[at, i, j] = matrix[at, j, i] = rows["value"].to_numpy()
    return Copulas(names, pathway, matrix)


def nearest_correlations(matrices: Floats) -> Floats:
    """Return the positive definite correlation matrices nearest to symmetric ones, (g, d, d).

    By alternating projections with Dykstra's correction (Higham 2002, IMA J. Numer. Anal. 22).
    """
    nearest = matrices.astype(np.float64)
    if not nearest.size:
        return nearest
    singular = np.flatnonzero(np.linalg.eigvalsh(nearest)[:, 0] < LEAST_EIGENVALUE)
    correction = np.zeros_like(nearest)
    diagonal = np.arange(nearest.shape[1])
    for _ in range(_ITERATIONS):
        if not singular.size:
            break
        before = nearest[singular]
        shifted = before - correction[singular]
        values, vectors = np.linalg.eigh(shifted)
        raised = np.maximum(values, LEAST_EIGENVALUE)
        projected = (vectors * raised[:, None, :]) @ vectors.swapaxes(1, 2)
        correction[singular] = projected - shifted
        projected = (projected + projected.swapaxes(1, 2)) / 2
        projected[:, diagonal, diagonal] = 1.0
        nearest[singular] = projected
        moved = np.abs(projected - before).max(axis=(1, 2))
        singular = singular[moved > _TOLERANCE]
    return _shrunk_to_identity(nearest)


def _shrunk_to_identity(matrices: Floats) -> Floats:
    """Return matrices, mixed with identity as far as the least eigenvalue asks for."""
    least = np.linalg.eigvalsh(matrices)[:, 0]
    weight = np.maximum(LEAST_EIGENVALUE - least, 0) / (1 - np.minimum(least, 0.5))
    identity = np.eye(matrices.shape[1])
    mixed: Floats = matrices + weight[:, None, None] * (identity - matrices)
    mixed[:, identity == 1] = 1.0
    return mixed
