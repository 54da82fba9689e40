"""From a dataset to statistics: `extract` checks what is asked for, and promises its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connprops import schema
from connprops.dataset.dataset import Dataset
from connprops.dataset.manifest import is_dataset
from connprops.dataset.selection import Choice
from connprops.declare import takes
from connprops.errors import OptionError
from connprops.options import ExtractOptions
from connprops.schema import N_SYN_PER_CONN, Property
from connprops.statistics.bucket import BucketSpec
from connprops.statistics.correlations import CorrelationSpec
from connprops.statistics.statistics import Statistics
from connprops.statistics.tables import ComputedTables

if TYPE_CHECKING:  # datasets need no HDF5
    from connprops.circuit.circuit import CircuitSource


@takes(ExtractOptions)
def extract(data: Dataset | CircuitSource, options: ExtractOptions) -> Statistics:
    """Describe every property of every pathway.

    Parameters
    ----------
    data
        A dataset, a circuit, or a path to either. A circuit is exported on first use.

    Returns
    -------
    Statistics
        Lazy: nothing is computed before a table is collected.

    Raises
    ------
    OptionError
        Where an option cannot be met: an unknown property, node set, attribute or value, say.
    """
    seed, dataset = options.seed, _opened(data, options)
    columns = [
        (c.name, c.dtype, c.unit, c.labels, c.role in ("property", "categories"))
        for c in dataset.columns
    ]
    properties = chosen_properties(columns, options.sel_props)
    sel_src, sel_dest, folds = options.sel_src, options.sel_dest, options.CV_dict
    bins = options.hist_bins if isinstance(options.hist_bins, int) else tuple(options.hist_bins)
    sides = (options.by, options.by) if isinstance(options.by, str) else options.by
    least = options.min_sample_size_per_group or None
    most = options.max_sample_size_per_group or None
    recorded = {
        "min_sample_size_per_group": least,
        "max_sample_size_per_group": most,
        "hist_bins": bins if isinstance(bins, int) else list(bins),
        "sel_props": [p.name for p in properties],
        "sel_src": list(sel_src) if isinstance(sel_src, tuple) else sel_src,
        "sel_dest": list(sel_dest) if isinstance(sel_dest, tuple) else sel_dest,
        "CV_dict": dict(folds) if folds else None,
        "by": list(sides) if sides else None,
        "seed": seed,
    }
    choice = Choice.of(sel_src, sel_dest, folds, seed, sides)
    names = tuple(p.name for p in properties)
    labelled = tuple(p.name for p in properties if p.labels is not None)
    values = tuple(name for name in names if name not in (N_SYN_PER_CONN, *labelled))
    tables = ComputedTables(
        dataset,
        BucketSpec((choice,), names, most, seed, bins, least, labelled),
        CorrelationSpec((choice,), values, most, seed),
        options.limits,
        options.progress,
    )
    choice.warn_of_unknown(dataset)
    # In the order that they have when they are read again.
    identity = dict(sorted({**dataset.identity, "dataset": dataset.manifest.seal}.items()))
    return Statistics(
        properties, tables.grouping.types, tables, options=recorded, identity=identity
    )


@dataclass(frozen=True)
class Fold:
    """One fold of a cross-validation: statistics of the nodes outside it, and of those in it."""

    training: Statistics
    test: Statistics


def extract_folds(data: Dataset | CircuitSource, cv_folds: int, **options: Any) -> list[Fold]:
    """Describe the training and the test set of every fold, all in one pass over the data.

    Parameters
    ----------
    data
        As for :func:`extract`.
    cv_folds
        Number of folds, at least 2.
    **options
        Those of :func:`extract` but ``CV_dict``.

    Returns
    -------
    list of Fold
        Lazy: the first table that is collected computes its properties for all folds.
    """
    folds = []
    for fold in range(cv_folds):
        sets = []
        for training in (True, False):
            chosen = {"n_folds": cv_folds, "fold_idx": fold, "training_set": training}
            sets.append(extract(data, **options, CV_dict=chosen))
            data = sets[-1].dataset or data
        folds.append(Fold(*sets))
    several = [stats.computed for fold in folds for stats in (fold.training, fold.test)]
    for tables in several:
        tables.compute_with(several)
    return folds


def _opened(data: Dataset | CircuitSource, options: ExtractOptions) -> Dataset:
    population = options.edges_popul_name
    if isinstance(data, str | Path) and is_dataset(Path(data)):
        data = Dataset(data)
    if not isinstance(data, Dataset):
        from connprops.export.opening import open_circuit

        extra = [name for name in options.sel_props or () if name != N_SYN_PER_CONN]
        return open_circuit(
            data, edges_popul_name=population, properties=extra or None,
            resources=options.resources, progress=options.progress,
        )  # fmt: skip
    if population is not None and population != data.population:
        raise OptionError.unknown("edge population", population, [data.population])
    return data


def chosen_properties(
    columns: Iterable[tuple[str, str, str, tuple[str, ...] | None, bool]],
    names: Sequence[str] | None,
) -> tuple[Property, ...]:
    """Return the properties asked for, of all by default, ``n_syn_per_conn`` last.

    Of each column come name, type, unit, labels, and whether its values measure anything.
    """
    columns = list(columns)
    known = [*(name for name, *_ in columns), N_SYN_PER_CONN]
    for name in names or ():
        if name not in known:
            raise OptionError.unknown("property", name, known)
    chosen = [
        Property(name, dtype, unit, labels)
        for name, dtype, unit, labels, is_value in columns
        if (is_value and schema.has_statistics_by_default(name) if names is None else name in names)
    ]
    return (*chosen, Property(N_SYN_PER_CONN, "int64", schema.unit_of(N_SYN_PER_CONN)))
