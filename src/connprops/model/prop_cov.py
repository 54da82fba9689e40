"""Correlations of properties as the reference's model files have them, out and in.

``{"props": names, "cov": {source: {target: matrix}}}``: one list of properties for all pathways, of
which those of a pathway are shared within connections all or none, and whose distributions are of
four families.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np

from connprops.distributions.copula import Copulas, nearest_correlations
from connprops.distributions.table import ModelTable
from connprops.errors import ConnpropsWarning, listing
from connprops.schema import COPULA, CORRELATION, N_SYN_PER_CONN

_SPREAD = {"normal": "std", "truncnorm": "norm_scale", "gamma": "std", "poisson": "mean"}
"""The families that the reference can correlate, each with what must not be 0."""

_MOVED = 1e-3

Specs = Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]
"""Distributions by property, source and target type."""


def prop_cov(model: ModelTable, distributions: Specs) -> dict[str, Any]:
    """Return the correlations of a model, as far as the reference can have them.

    Properties are left out, with a warning that tells which and why, where in some pathway
    the distribution is of another family, or where in some pathway they are shared and in others
    not. Of those shared and those not, the more are written.
    """
    both = [model.copulas(shared=shared) for shared in (True, False)]
    names = [n for n in model.properties if n in {*both[0].properties, *both[1].properties}]
    if not names:
        return {}
    reasons: dict[str, str] = {}
    by_flag: dict[bool, list[str]] = {True: [], False: []}
    for name in names:
        specs = [spec for of_source in distributions[name].values() for spec in of_source.values()]
        unfit = [s["type"] for s in specs if not s.get(_SPREAD.get(s["type"], ""), 0)]
        flags = {bool(spec["shared_within"]) for spec in specs}
        if unfit:
            reasons[name] = (
                f"{listing(sorted(set(unfit)))} in {len(unfit)} of {len(specs)} pathways"
            )
        elif len(flags) > 1:
            reasons[name] = "shared within connections in some pathways only"
        else:
            by_flag[flags.pop()].append(name)
    shared = len(by_flag[True]) >= len(by_flag[False])
    kept, others = by_flag[shared], by_flag[not shared]
    word = "" if shared else "not "
    reasons |= dict.fromkeys(
        others, f"the {len(kept)} written ones are {word}shared, this is not so"
    )
    if len(kept) == 1:
        reasons[kept.pop()] = "no other property is left that it could be correlated with"
    if reasons:
        told = "; ".join(f"{name!r} ({reason})" for name, reason in reasons.items())
        warnings.warn(
            "connectome-manipulator correlates normal, truncnorm, gamma and poisson distributions, "
            f"all or none of them shared: written without correlations are {told}",
            ConnpropsWarning,
            stacklevel=3,
        )
    if not kept:
        return {}
    return {"props": kept, "cov": _matrices(model, both[0 if shared else 1], kept)}


def _matrices(model: ModelTable, copulas: Copulas, names: Sequence[str]) -> dict[str, Any]:
    """Return the matrices of all pathways; ones and zeros where nothing is correlated."""
    at = [copulas.properties.index(name) for name in names if name in copulas.properties]
    matrices = dict(zip(copulas.pathway.tolist(), copulas.matrix[:, at][:, :, at], strict=True))
    n_target, none = len(model.target_types), np.eye(len(names))
    return {
        source: {
            target: matrices.get(i * n_target + j, none).tolist()
            for j, target in enumerate(model.target_types)
        }
        for i, source in enumerate(model.source_types)
    }


def correlation_rows(
    given: Mapping[str, Any],
    properties: Sequence[str],
    types: tuple[Sequence[str], Sequence[str]],
    about: Mapping[tuple[str, str, str], Sequence[Any]],
) -> list[tuple[Any, ...]]:
    """Return the correlations of a file as rows of the model, with lists for values.

    Matrices that are not positive definite become the nearest ones that are, with a warning where
    that moves a correlation by more than 0.001.

    Parameters
    ----------
    given
        What stands in the file; empty for nothing.
    properties
        The model's properties in order.
    types
        Source and target types.
    about
        For a property and pathway what its rows say after the standard error.

    Raises
    ------
    ValueError, KeyError, TypeError
        Where it is of another form.
    """
    if not given:
        return []
    names = list(given["props"])
    if not set(names) <= set(properties) - {N_SYN_PER_CONN} or len(set(names)) < len(names):
        raise ValueError(f"properties of 'prop_cov' are {names!r}")
    pathways = list(product(*types))
    matrices = np.array([given["cov"][s][t] for s, t in pathways], dtype=np.float64)
    if matrices.shape != (len(pathways), len(names), len(names)):
        raise ValueError(f"matrices of 'prop_cov' are {matrices.shape[1:]} for {names!r}")
    is_correlation = (
        np.array_equal(matrices, matrices.swapaxes(1, 2))
        and (np.abs(matrices) <= 1).all()
        and (np.diagonal(matrices, axis1=1, axis2=2) == 1).all()
    )
    if not is_correlation:
        raise ValueError("'prop_cov' has matrices that hold no correlations")
    nearest = nearest_correlations(matrices)
    moved = float(np.abs(nearest - matrices).max(initial=0.0))
    if moved > _MOVED:
        warnings.warn(
            "correlations that no normal variables can have are replaced by the nearest ones, "
            f"off by up to {moved:.3f}",
            ConnpropsWarning,
            stacklevel=4,
        )
    pairs = [
        sorted(pair, key=lambda i: properties.index(names[i]))
        for pair in combinations(range(len(names)), 2)
    ]
    return [
        (source, target, names[i], names[j], COPULA, CORRELATION, [float(matrix[i, j])], None,
         *about[names[i], source, target])
        for (source, target), matrix in zip(pathways, nearest, strict=True)
        for i, j in pairs
    ]  # fmt: skip
