"""The reference's three functions: extract, build, plot, with its arguments and its results."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from connprops.circuit.circuit import Circuit, CircuitSource, open_circuit
from connprops.compat.conn_props_model import ConnPropsModel
from connprops.compat.errors import CompatError
from connprops.compat.interpolation import interpolated
from connprops.compat.specifications import parameters
from connprops.dataset.dataset import Dataset
from connprops.dataset.selection import Selection
from connprops.errors import ConnpropsWarning, DatasetError, OptionError, OutputError, listing
from connprops.export.export import export
from connprops.export.request import is_property
from connprops.families.registry import REFERENCE_FAMILIES
from connprops.progress import Progress
from connprops.schema import N_SYN_PER_CONN
from connprops.statistics.arrays import to_arrays
from connprops.statistics.extract import extract as extract_statistics

MAX_UNIQUE_COUNT = 100
"""Distinct values are listed where there are no more than this."""


def extract(
    circuit: CircuitSource,
    min_sample_size_per_group: float | None = None,
    max_sample_size_per_group: float | None = None,
    hist_bins: int | Sequence[float] = 51,
    sel_props: Sequence[str] | None = None,
    sel_src: Selection = None,
    sel_dest: Selection = None,
    edges_popul_name: str | None = None,
    CV_dict: Mapping[str, Any] | None = None,  # noqa: N803 - the reference's name
    **_: Any,
) -> dict[str, Any]:
    """Describe every property of every pathway, as the reference's ``extract`` returns it.

    The circuit's edges are exported to a dataset in the system's temporary folder on first use,
    and the dataset is reused while the circuit stays as it is.

    Parameters
    ----------
    circuit
        The circuit, or the path of its configuration.
    min_sample_size_per_group, max_sample_size_per_group, hist_bins, sel_props, sel_src, sel_dest, \
edges_popul_name, CV_dict
        As for :func:`connprops.extract`.
    **_
        Arguments of :func:`build` and :func:`plot`, left aside.

    Returns
    -------
    dict
        See :func:`connprops.statistics.arrays.to_arrays`; ``build`` and ``plot`` take it apart.

    Raises
    ------
    CompatError
        Where an option cannot be met.
    CircuitError, OutputError
        Where the circuit cannot be read, or its dataset not be written.
    """
    opened = open_circuit(circuit)
    columns = list(sel_props) if sel_props is not None else None
    try:
        dataset = exported(
            opened, _cache(opened, edges_popul_name, columns), edges_popul_name, columns
        )
        stats = extract_statistics(
            dataset,
            min_sample_size_per_group=_whole(min_sample_size_per_group),
            max_sample_size_per_group=_whole(max_sample_size_per_group),
            hist_bins=hist_bins,
            sel_props=columns,
            sel_src=sel_src,
            sel_dest=sel_dest,
            CV_dict=CV_dict,
        )
        return to_arrays(stats, order=columns)
    except OptionError as error:
        raise CompatError(str(error)) from error


def exported(
    circuit: Circuit,
    folder: Path,
    population: str | None,
    columns: Sequence[str] | None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset of a circuit, made where need be.

    One of another circuit in the folder is replaced, and so is one that is damaged or of another
    version. ``columns`` are the properties asked for, of which some may not be exported by default.
    """
    make = partial(
        export,
        circuit,
        folder,
        population=population,
        properties=columns if _not_exported_by_default(columns) else None,
        overwrite=True,
        progress=progress,
    )
    try:
        return Dataset(make())
    except DatasetError as error:
        warnings.warn(
            f"the dataset is made anew: {str(error).splitlines()[0]}",
            ConnpropsWarning,
            stacklevel=2,
        )
        shutil.rmtree(folder)
        return Dataset(make())


def _cache(circuit: Circuit, population: str | None, columns: Sequence[str] | None) -> Path:
    """Return where the dataset of a circuit is kept between calls, for this user alone."""
    extra = sorted(columns or ()) if _not_exported_by_default(columns) else None
    key = repr((str(circuit.config.resolve()), population, extra))
    place = Path(tempfile.gettempdir()) / f"connprops-{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    if place.stat().st_uid != os.getuid():  # the temporary folder is everybody's
        raise OutputError.of(
            f"{place} belongs to another user", hint="set TMPDIR to a folder of your own"
        )
    return place / f"{circuit.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _not_exported_by_default(columns: Sequence[str] | None) -> bool:
    return not all(is_property(name) for name in columns or ())


def _whole(limit: float | None) -> int | None:
    """Return a number of connections; an infinite one, as scripts write it, is the largest."""
    return None if limit is None else int(min(limit, sys.maxsize))


def build(
    syns_per_conn_data: Mapping[str, Any],
    conn_prop_data: Mapping[str, Any],
    m_types: Sequence[Sequence[str]],
    m_type_class: Sequence[Sequence[Any]],
    m_type_layer: Sequence[Sequence[Any]],
    syn_props: Sequence[str],
    distr_types: Mapping[str, str] | None = None,
    data_types: Mapping[str, str] | None = None,
    data_bounds: Mapping[str, Sequence[float | None]] | None = None,
    shared_within: Mapping[str, bool] | None = None,
    **_: Any,
) -> ConnPropsModel:
    """Build a model from what :func:`extract` returned, as the reference does.

    The distributions' parameters are the statistics themselves; pathways without data borrow
    unweighted means, see :mod:`connprops.compat.interpolation`. :func:`connprops.build` fits
    instead.

    Parameters
    ----------
    syns_per_conn_data, conn_prop_data, m_types, m_type_class, m_type_layer, syn_props
        As :func:`extract` returns them.
    distr_types
        For a property the name of its distribution; by default normal, with a warning.
    data_types
        For a property the type of drawn values, ``"int"`` or ``"float"`` say.
    data_bounds
        For a property the bounds of drawn values, lower and upper; either may be None.
    shared_within
        For a property whether all synapses of a connection get one value, where it is not to be
        as in the data.
    **_
        Arguments of :func:`extract` and :func:`plot`, left aside.

    Returns
    -------
    ConnPropsModel
        With its properties in the order of ``syn_props``, ``n_syn_per_conn`` last.

    Raises
    ------
    CompatError
        Where there are no data, an option cannot be met, or a distribution does not hold together.
    """
    properties = [*syn_props, N_SYN_PER_CONN]
    _warn_of_unknown(properties, distr_types, data_types, data_bounds, shared_within)
    syns, props = interpolated(syns_per_conn_data, conn_prop_data, m_type_class, m_type_layer)
    distributions: dict[str, dict[str, dict[str, Any]]] = {}
    for p, name in enumerate(properties):
        is_count = name == N_SYN_PER_CONN
        cells = syns if is_count else {key: array[:, :, p] for key, array in props.items()}
        family = _family(name, distr_types or {}, cells)
        about = _about(name, family, data_types or {}, data_bounds or {}, shared_within or {})
        kept = parameters(family) + ([] if is_count else ["shared_within"])
        missing = [key for key in kept if key not in cells]
        if missing:
            raise CompatError.of(
                f"ERROR: Not all required attribute(s) found! {name!r} is to be {family!r}",
                found=f"no {listing(missing)}", expected=listing(kept),
            )  # fmt: skip
        distributions[name] = {
            source: {
                target: {"type": family, **{key: cells[key][i, j] for key in kept}, **about}
                for j, target in enumerate(m_types[1])
            }
            for i, source in enumerate(m_types[0])
        }
    return ConnPropsModel(src_types=m_types[0], tgt_types=m_types[1], prop_stats=distributions)


def _warn_of_unknown(properties: Sequence[str], *options: Mapping[str, Any] | None) -> None:
    unknown = sorted({name for option in options for name in option or ()} - set(properties))
    if unknown:
        warnings.warn(
            f"options for properties that were not extracted: {listing(unknown)}",
            ConnpropsWarning,
            stacklevel=3,
        )


def _family(name: str, distr_types: Mapping[str, str], cells: Mapping[str, Any]) -> str:
    """Return the distribution of a property; warn where it is a guess, or loses what varies."""
    if name not in distr_types:
        warnings.warn(
            f'No distribution type for "{name}" specified - using "normal", '
            "which also gives values below 0",
            ConnpropsWarning,
            stacklevel=3,
        )
    family = distr_types.get(name, "normal")
    if family not in REFERENCE_FAMILIES:
        raise CompatError.of(
            f'Distribution type "{family}" not supported! It is asked for {name!r}',
            expected=listing(REFERENCE_FAMILIES),
        )
    varying = int(np.count_nonzero(np.asarray(cells.get("std", 0)) > 0))
    if family == "constant" and varying:
        warnings.warn(
            f"{name!r} is to be constant, yet varies in {varying} pathways: the mean stands for "
            "all values there",
            ConnpropsWarning,
            stacklevel=3,
        )
    return family


def _about(
    name: str,
    family: str,
    data_types: Mapping[str, str],
    data_bounds: Mapping[str, Sequence[float | None]],
    shared_within: Mapping[str, bool],
) -> dict[str, Any]:
    """Return what the options say of a property's distributions, as these hold it."""
    about: dict[str, Any] = {}
    if data_types.get(name) is not None:
        try:
            np.dtype(data_types[name])
        except TypeError as error:
            raise CompatError.of(
                f"The data type of {name!r} is none of numpy's", found=repr(data_types[name])
            ) from error
        about["dtype"] = data_types[name]
    bounds = data_bounds.get(name)
    if bounds is not None:
        if isinstance(bounds, str) or len(bounds) != 2:  # noqa: PLR2004 - lower and upper
            raise CompatError.of(
                f"Data bounds error! Those of {name!r} are not two", found=repr(bounds),
                expected="[lower, upper], of which either may be null",
            )  # fmt: skip
        names = "lower_bound", "upper_bound"
        about |= {k: v for k, v in zip(names, bounds, strict=True) if v is not None}
    shared = shared_within.get(name)
    if shared is not None:
        if not isinstance(shared, bool):
            raise CompatError.of(f"shared_within of {name!r} is no bool", found=repr(shared))
        about["shared_within"] = shared
    elif family == "zero" and name != N_SYN_PER_CONN:
        about["shared_within"] = False
    return about


def plot(
    out_dir: str | Path,
    syns_per_conn_data: Mapping[str, Any],
    conn_prop_data: Mapping[str, Any],
    m_types: Sequence[Sequence[str]],
    syn_props: Sequence[str],
    model: ConnPropsModel,
    plot_sample_size: int = 1000,
    **others: Any,
) -> list[Path]:
    """Draw data and model side by side, and write the reference's files.

    For each property P: ``data_vs_model_map_mean__P.png``, the same of ``std`` and
    ``shared_within``, of all pathways; and of the pathway with most connections
    ``data_vs_model_hist__P.png`` and ``data_vs_model_AUC__P.png``. Files that are there are
    replaced, as the reference does.

    Parameters
    ----------
    out_dir
        Folder of the files.
    syns_per_conn_data, conn_prop_data, m_types, syn_props
        As :func:`extract` returns them.
    model
        As :func:`build` returns it.
    plot_sample_size
        How many draws from the model a histogram shows.
    **others
        Arguments of :func:`extract` and :func:`build`, left aside; but for ``m_type_class`` and
        ``m_type_layer``, by which the maps put types in order.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    CompatError
        Where no pathway has data, or ``plot_sample_size`` is below 1.
    OutputError
        Where a file cannot be written.
    """
    from connprops.compat.figures import write_figures

    if plot_sample_size < 1:
        raise CompatError.of("plot_sample_size is too small", found=str(plot_sample_size))
    about = {"synapse_class": others.get("m_type_class"), "layer": others.get("m_type_layer")}
    cells = _by_property(syns_per_conn_data, conn_prop_data, syn_props)
    return write_figures(Path(out_dir), cells, m_types, about, model, plot_sample_size)


def _by_property(
    of_connections: Mapping[str, Any], of_synapses: Mapping[str, Any], syn_props: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the arrays (sources, targets) of each property, ``n_syn_per_conn`` last."""
    cells = {
        name: {key: array[:, :, i] for key, array in of_synapses.items()}
        for i, name in enumerate(syn_props)
    }
    return {**cells, N_SYN_PER_CONN: dict(of_connections)}
