"""What an export is asked for, all of it; and whether a folder holds that already."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from connprops import schema
from connprops._version import __version__
from connprops.dataset.manifest import (
    MANIFEST,
    DatasetColumn,
    Manifest,
    Part,
    TableFile,
    damage,
    read_manifest,
    read_source,
    write_source,
)
from connprops.declare import names
from connprops.display import Progress
from connprops.errors import (
    CircuitError,
    ConnpropsWarning,
    DatasetError,
    OptionError,
    OutputError,
    listing,
)
from connprops.export.parts import UNMET, RangeSummary
from connprops.export.profile import Profile, merged
from connprops.options import EdgeOptions
from connprops.pathways import check_number
from connprops.sources.labels import with_labels
from connprops.sources.node_types import Side, group_nodes, node_sets_of
from connprops.sources.predicate import Predicate, checked_predicate
from connprops.sources.source import (
    CATEGORIES_AT_MOST,
    LEFT_OUT,
    Network,
    SourceColumn,
    SourceEdges,
)
from connprops.store.writing import writing


@dataclass(frozen=True)
class ExportRequest:
    """What an export is to be of.

    ``identity`` is all that the dataset's content depends on; ``state`` the size and modification
    time of the edge file, ``sha256`` its checksum where that was asked for. ``are_asked`` says
    that the columns were named, so that even identifiers are properties.
    """

    config: Path
    edges: SourceEdges
    asked: EdgeOptions
    where: Predicate | None
    columns: tuple[SourceColumn, ...]
    sides: Mapping[str, Side]
    node_sets: pl.DataFrame
    identity: dict[str, Any]
    state: dict[str, int]
    sha256: str | None
    are_asked: bool = False

    @property
    def depends_on(self) -> dict[str, Any]:
        """Return by name what finished parts are of: one that differs makes them useless."""
        return {**self.identity, "time of the edge file": self.state}

    @property
    def options(self) -> dict[str, Any]:
        """Return the circuit, and the options and properties of the same request."""
        return {
            **{name: getattr(self.asked, name) for name in names(EdgeOptions)},
            "circuit": str(self.config.resolve()),
            **({} if self.asked.merge_populations else {"population": self.edges.name}),
            "properties": [c.name for c in self.columns] if self.are_asked else None,
        }


def describe(
    network: Network,
    asked: EdgeOptions,
    properties: Sequence[str] | None = None,
    *,
    verify: bool = False,
) -> ExportRequest:
    """Return what an export with these options would be of; no edges are read but samples.

    Parameters and errors are those of :func:`export`.
    """
    edges = network.population(asked.population)
    state = edges.state()  # before anything of the file is read
    if asked.nominal:
        edges = with_labels(edges, asked.nominal)
    columns = _chosen(edges, properties)
    where = None if asked.where is None else checked_predicate(asked.where, edges.columns)
    source, target = edges.source, edges.target
    nodes = {population: population.attributes() for population in {source, target}}
    sides = {
        side: group_nodes(
            nodes[population], population.name, by or asked.type or population.grouped_by, side,
            untyped=asked.untyped or population.untyped,
        )
        for side, population, by in (
            ("source", source, asked.source_type), ("target", target, asked.target_type)
        )
    }  # fmt: skip
    check_number(len(sides["source"].types), len(sides["target"].types))
    node_sets = node_sets_of(network, edges)
    identity = {
        "schema_version": schema.VERSION,
        "connprops_version": __version__,
        "edges": edges.identity(),
        "nodes_sha256": _sha256_of_frames([*(side.nodes for side in sides.values()), node_sets]),
        "source_population": source.name,
        "target_population": target.name,
        "source_type": sides["source"].by,
        "target_type": sides["target"].by,
        "properties": [column.name for column in columns],
        **({} if properties is None else {"properties_named": True}),
        **_counted(asked),
    }
    sha256 = edges.sha256() if verify else None
    return ExportRequest(
        network.config, edges, asked, where, columns, sides, node_sets, identity, state, sha256,
        are_asked=properties is not None,
    )  # fmt: skip


def _counted(asked: EdgeOptions) -> dict[str, Any]:
    """Return the options that say which edges count, but for defaults."""
    names = ("where", "min_syn_per_conn", "nominal", "untyped")
    chosen = {name: getattr(asked, name) for name in names}
    return {name: value for name, value in chosen.items() if value != getattr(EdgeOptions(), name)}


def _chosen(edges: SourceEdges, properties: Sequence[str] | None) -> tuple[SourceColumn, ...]:
    """Return the columns to export, in the file's order."""
    for name in properties or ():
        if name not in edges.columns and name != schema.N_SYN_PER_CONN:
            raise OptionError.unknown("property", name, edges.columns)
    _check_multiplicity(edges)
    asked = None if properties is None else {*properties} - {schema.N_SYN_PER_CONN}
    chosen = [
        column
        for name, column in edges.columns.items()
        if (schema.is_exported_by_default(name) if asked is None else name in asked)
    ]
    unfit = _left_out(chosen)
    for name, reason in unfit.items() if properties is not None else ():
        raise OptionError.of(
            f"Column {name!r} of {edges.file} cannot be a property",
            found=reason,
            expected=f"numbers, or text with at most {CATEGORIES_AT_MOST} distinct values, and a "
            f"name other than {', '.join(sorted(schema.RESERVED))}",
        )
    if tables := [name for name, column in edges.columns.items() if column.stored == "several"]:
        warnings.warn(
            f"{edges.file}: columns with several values for each row are left out: "
            f"{listing(tables)}",
            ConnpropsWarning,
            stacklevel=3,
        )
    return tuple(column for column in chosen if column.name not in unfit)


def _left_out(columns: Iterable[SourceColumn]) -> dict[str, str]:
    """Return why columns cannot be properties, or not beside the others, by name."""
    reasons: dict[str, str] = {}
    names: dict[str, str] = {}
    for column in columns:
        name = column.name.lower()
        if column.dtype in LEFT_OUT:
            reasons[column.name] = LEFT_OUT[column.dtype]
        elif name in schema.RESERVED:
            reasons[column.name] = f"a name that connprops has for a column of its own, {name!r}"
        elif names.setdefault(name, column.name) != column.name:
            reasons[column.name] = (
                f"the name of {names[name]!r} but for its case, which SQL ignores"
            )
    return reasons


def _check_multiplicity(edges: SourceEdges) -> None:
    """Raise where the numbers of synapses of the rows are no numbers."""
    column = edges.columns.get(schema.MULTIPLICITY)
    if column is not None and (column.labels is not None or column.dtype in LEFT_OUT):
        raise CircuitError.of(
            f"{edges.file}: column {schema.MULTIPLICITY!r} must hold numbers of synapses",
            found=LEFT_OUT[column.dtype] if column.dtype in ("other", "several")
            else listing(column.labels) if column.labels else "text",
            expected="whole numbers from 1",
        )  # fmt: skip


def _sha256_of_frames(frames: Sequence[pl.DataFrame]) -> str:
    checksum = hashlib.sha256()
    for frame in frames:
        content = io.BytesIO()
        frame.rechunk().write_ipc(content)
        checksum.update(content.getbuffer())
    return checksum.hexdigest()


def is_reusable(
    target: Path,
    request: ExportRequest,
    *,
    overwrite: bool,
    check_files: bool = True,
    progress: Progress | None = None,
) -> bool:
    """Return whether the folder holds this very dataset; raise where it holds something else."""
    changed = differences(target, request)
    if changed and not overwrite:
        raise OutputError.of(
            f"{target} holds a dataset of another input or of other options",
            found=f"differs in: {', '.join(changed)}",
            hint="give another folder, or overwrite (--overwrite)",
        )
    if changed is None or changed:
        return False
    if not check_files:
        return True
    manifest = read_manifest(target)
    damaged = damage(target, manifest, progress=progress)
    if not damaged:
        if read_source(target, manifest).state != request.state:  # but with the same checksum
            write_source(target, request.state, request.sha256, manifest.seal)
        return True
    file, what = next(iter(damaged.items()))
    more = f", and {len(damaged) - 1} more files are damaged" if len(damaged) > 1 else ""
    text = f"{target / file} {what}{more}"
    if not overwrite:
        raise DatasetError.of(text, hint="export again, over it (--overwrite)")
    warnings.warn(f"{text}: the dataset is exported again", ConnpropsWarning, stacklevel=4)
    return False


def differences(target: Path, request: ExportRequest) -> list[str] | None:
    """Return in what a dataset is another than the one described; None where there is none."""
    with writing(target):
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return None
    if not (target / MANIFEST).is_file():
        raise OutputError.of(
            f"{target} exists and is not a connprops dataset",
            found="no manifest.json" if target.is_dir() else "a file",
            expected="a new or an empty folder",
            hint="choose another folder with -o",
        )
    manifest = read_manifest(target)
    before, now = manifest.identity, request.identity
    changed = sorted(name for name in before | now if before.get(name) != now.get(name))
    if "edges" not in changed:
        changed += _changes_of_source(target, manifest, request)
    return changed


def _changes_of_source(target: Path, manifest: Manifest, request: ExportRequest) -> list[str]:
    """Return in what the edge file differs, its structure apart: in its checksum, or its time.

    A checksum that was not computed before cannot be compared now, and never becomes that of the
    file that was read then.
    """
    try:
        source = read_source(target, manifest)
    except DatasetError:
        return ["source.json, which is damaged"]
    if request.sha256 is None:
        return [] if source.state == request.state else ["time of the edge file"]
    if source.sha256 is None:
        return ["checksum of the edge file, which an export without --verify has not recorded"]
    return [] if source.sha256 == request.sha256 else ["content of the edge file"]


def manifest_of(
    request: ExportRequest, tables: Mapping[str, TableFile], summaries: Sequence[RangeSummary]
) -> Manifest:
    """Return the manifest of a dataset: what its parts hold, and what that means."""
    profiles = {c.name: merged([s.profiles[c.name] for s in summaries]) for c in request.columns}
    varying = set().union(*(summary.varies for summary in summaries))
    columns = []
    for column in request.columns:
        name, profile = column.name, profiles[column.name]
        role = profile.role(column.stored, column.labels, is_asked=request.are_asked)
        described = DatasetColumn(
            name, column.dtype, schema.unit_of(name), column.labels, varies=name in varying,
            role=role, n_not_finite=profile.n_not_finite,
        )  # fmt: skip
        columns.append(described)
    left_out = _left_out(request.edges.columns.values())
    left_out = {name: why for name, why in left_out.items() if name not in profiles}
    counts = Counter({UNMET: request.edges.unmet} if request.edges.unmet else {})
    for summary in summaries:
        counts.update(summary.left_out)
    told = [f"{n:,} rows are left out: {why}" for why, n in counts.items()]
    told += [
        f"column {name!r} is left out: {why}"
        for name, why in left_out.items()
        if why not in LEFT_OUT.values()
    ]
    return Manifest(
        schema_version=schema.VERSION,
        identity=request.identity,
        kind=request.edges.kind,
        n_synapses=sum(s.n_synapses for s in summaries),
        n_connections=sum(s.n_connections for s in summaries),
        contiguous=all(s.contiguous for s in summaries),
        columns=tuple(columns),
        left_out=left_out,
        parts=tuple(Part(s.n_synapses, s.n_connections, s.sha256) for s in summaries),
        tables=dict(tables),
        left_out_rows=dict(counts),
        warnings=(*told, *_warnings(profiles, columns)),
    )


def _warnings(profiles: Mapping[str, Profile], columns: Sequence[DatasetColumn]) -> Iterator[str]:
    """Give what in the data changes what is computed from it."""
    for column in columns:
        name, profile = column.name, profiles[column.name]
        if profile.n_not_finite:
            yield (
                f"property {name!r} has {profile.n_not_finite:,} values that are NaN or infinite: "
                "they are left out of its statistics, whose n_null says how many where"
            )
        if profile.has_sentinel:
            yield (
                f"property {name!r} is -1 in {profile.n_minus_one:,} places and else never "
                "negative: if -1 stands for 'none' there, leave the property out"
            )
        if column.role == "identifier":
            yield (
                f"column {name!r} has {profile.n:,} whole numbers that all differ, as identifiers "
                "do: it has no statistics unless it is asked for (--sel-props, properties=)"
            )
        if column.role == "too large":
            yield (
                f"property {name!r} has integers beyond 2^53, which statistics cannot hold exactly"
            )
