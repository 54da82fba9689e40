"""The reference's three functions: extract, build, plot, with its arguments and its results."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connprops.circuit.circuit import Circuit, CircuitSource, resolve_circuit
from connprops.compat.errors import CompatError
from connprops.dataset.dataset import Dataset
from connprops.display import Progress
from connprops.errors import ConnpropsWarning, DatasetError, OptionError, listing
from connprops.export.export import export
from connprops.options import Selection
from connprops.schema import N_SYN_PER_CONN, is_exported_by_default
from connprops.statistics.extract import extract as extract_statistics
from connprops.store.writing import make_private

if TYPE_CHECKING:
    from connprops.compat.conn_props_model import ConnPropsModel

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
        See :meth:`connprops.Statistics.to_arrays`; ``build`` and ``plot`` take it apart.

    Raises
    ------
    CompatError
        Where an option cannot be met.
    CircuitError, OutputError
        Where the circuit cannot be read, or its dataset not be written.
    """
    opened = resolve_circuit(circuit)
    columns = list(sel_props) if sel_props is not None else None
    try:
        folder = _cache(opened, edges_popul_name, columns)
        stats = extract_statistics(
            exported(opened, folder, edges_popul_name, columns),
            # An infinite number of connections, as scripts write it, is the largest one.
            min_sample_size_per_group=_whole(min_sample_size_per_group),
            max_sample_size_per_group=_whole(max_sample_size_per_group),
            hist_bins=hist_bins, sel_props=columns, sel_src=sel_src, sel_dest=sel_dest,
            CV_dict=CV_dict,
        )  # fmt: skip
        return stats.to_arrays(order=columns)
    except OptionError as error:
        raise CompatError(str(error)) from error


def exported(
    circuit: Circuit,
    folder: Path,
    population: str | None,
    columns: Sequence[str] | None,
    progress: Progress | None = None,
) -> Dataset:
    """Return the dataset of a circuit, made where need be: also from one of another version.

    ``columns`` are the properties asked for, of which some may not be exported by default.
    """
    options: dict[str, Any] = {"population": population, "properties": _named(columns)}

    def made() -> Dataset:
        return Dataset(export(circuit, folder, overwrite=True, progress=progress, **options))

    try:
        return made()
    except DatasetError as error:
        _warn(f"the dataset is made anew: {str(error).splitlines()[0]}")
        shutil.rmtree(folder)
        return made()


def _cache(circuit: Circuit, population: str | None, columns: Sequence[str] | None) -> Path:
    """Return where the dataset of a circuit is kept between calls, for this user alone."""
    extra = _named(columns)
    key = repr((str(circuit.config.resolve()), population, extra and sorted(extra)))
    place = Path(tempfile.gettempdir()) / f"connprops-{os.getuid()}"
    make_private(place)  # the temporary folder is everybody's
    return place / f"{circuit.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _named(columns: Sequence[str] | None) -> Sequence[str] | None:
    """Return the properties asked for, where an export must name them: not all are its default."""
    return None if all(map(is_exported_by_default, columns or ())) else columns


def _whole(limit: float | None) -> int | None:
    return None if limit is None else int(min(limit, sys.maxsize))


def _warn(text: str) -> None:
    warnings.warn(text, ConnpropsWarning, stacklevel=4)


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
    # Not before they are needed: extract takes half of the time without them.
    from connprops.compat.conn_props_model import ConnPropsModel
    from connprops.compat.interpolation import interpolated
    from connprops.compat.specifications import parameters

    data_types, data_bounds = data_types or {}, data_bounds or {}
    distr_types, shared_within = distr_types or {}, shared_within or {}
    options = {*distr_types, *data_types, *data_bounds, *shared_within}
    unknown = sorted(options - {*syn_props, N_SYN_PER_CONN})
    if unknown:
        _warn(f"options for properties that were not extracted: {listing(unknown)}")
    data = interpolated(syns_per_conn_data, conn_prop_data, m_type_class, m_type_layer)
    prop_stats: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    for name, cells in by_property(*data, syn_props).items():
        is_count = name == N_SYN_PER_CONN
        family = _family(name, distr_types, cells)
        shared = shared_within.get(name)
        if shared is None and family == "zero" and not is_count:
            shared = False
        about = _about(name, data_types.get(name), data_bounds.get(name), shared)
        kept = parameters(family) + ([] if is_count else ["shared_within"])
        missing = [key for key in kept if key not in cells]
        if missing:
            raise CompatError.of(
                f"ERROR: Not all required attribute(s) found! {name!r} is to be {family!r}",
                found=f"no {listing(missing)}",
                expected=listing(kept),
            )
        prop_stats[name] = {
            source: {
                target: {"type": family, **{key: cells[key][i, j] for key in kept}, **about}
                for j, target in enumerate(m_types[1])
            }
            for i, source in enumerate(m_types[0])
        }
    return ConnPropsModel(src_types=m_types[0], tgt_types=m_types[1], prop_stats=prop_stats)


def by_property(
    of_connections: Mapping[str, Any], of_synapses: Mapping[str, Any], syn_props: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return the arrays (sources, targets) of each property, ``n_syn_per_conn`` last."""
    cells = {
        name: {key: array[:, :, i] for key, array in of_synapses.items()}
        for i, name in enumerate(syn_props)
    }
    return {**cells, N_SYN_PER_CONN: dict(of_connections)}


def _family(name: str, distr_types: Mapping[str, str], cells: Mapping[str, Any]) -> str:
    """Return the distribution of a property; warn where it is a guess, or loses what varies."""
    from connprops.compat.specifications import check_family

    if name not in distr_types:
        _warn(
            f'No distribution type for "{name}" specified - using "normal", '
            "which also gives values below 0"
        )
    family = distr_types.get(name, "normal")
    check_family(family, f"It is asked for {name!r}")
    varying = int(np.count_nonzero(np.asarray(cells.get("std", 0)) > 0))
    if family == "constant" and varying:
        _warn(
            f"{name!r} is to be constant, yet varies in {varying} pathways: the mean stands for "
            "all values there"
        )
    return family


def _about(
    name: str, dtype: str | None, bounds: Sequence[float | None] | None, shared: Any
) -> dict[str, Any]:
    """Return what the options say of a property's distributions, as these hold it."""
    if dtype is not None:
        try:
            np.dtype(dtype)
        except TypeError as error:
            fact = f"The data type of {name!r} is none of numpy's"
            raise CompatError.of(fact, found=repr(dtype)) from error
    if bounds is not None and (isinstance(bounds, str) or len(bounds) != 2):  # noqa: PLR2004
        raise CompatError.of(
            f"Data bounds error! Those of {name!r} are not two",
            found=repr(bounds),
            expected="[lower, upper], of which either may be null",
        )
    if shared is not None and not isinstance(shared, bool):
        raise CompatError.of(f"shared_within of {name!r} is no bool", found=repr(shared))
    lower, upper = bounds or (None, None)
    about = {"dtype": dtype, "lower_bound": lower, "upper_bound": upper, "shared_within": shared}
    return {key: value for key, value in about.items() if value is not None}


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
    cells = by_property(syns_per_conn_data, conn_prop_data, syn_props)
    return write_figures(Path(out_dir), cells, m_types, about, model, plot_sample_size)
