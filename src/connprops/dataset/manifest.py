"""The manifest of a dataset: what its files hold, and whether they still do.

Neither DuckDB nor Polars nor pyarrow notices a flipped bit in Parquet, so the manifest has the
checksum and the number of rows of every file, and one of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from connprops.display import Progress
from connprops.errors import DatasetError, listing
from connprops.store.records import read_record, write_record
from connprops.store.stage import standing
from connprops.store.writing import sha256_of

MANIFEST = "manifest.json"

SOURCE = "source.json"
"""The file of a dataset that tells when its source was last written, which no number depends on."""

_ATTEMPTS = 3
"""How often a dataset is looked for: between two looks, another may have taken its place."""

KINDS = ("connections", "synapses")
"""The tables of a part, each a file in the folder of its name."""


@dataclass(frozen=True)
class DatasetColumn:
    """A property of a dataset: its type and unit, and whether it varies within connections."""

    name: str
    dtype: str
    unit: str
    labels: tuple[str, ...] | None
    varies: bool
    role: str
    n_not_finite: int


@dataclass(frozen=True)
class Part:
    """A part of a dataset: its size, and the checksum of each of its files by name."""

    n_synapses: int
    n_connections: int
    sha256: dict[str, str]


@dataclass(frozen=True)
class TableFile:
    """One of the files that a dataset has beside its parts."""

    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What the files of a dataset hold, and the checksum of each.

    The ``seal``, which is the manifest's own checksum, is the dataset's generation: it says what
    all files are.
    """

    schema_version: int
    identity: dict[str, Any]
    n_synapses: int
    n_connections: int
    columns: tuple[DatasetColumn, ...]
    parts: tuple[Part, ...]
    tables: dict[str, TableFile]
    warnings: tuple[str, ...]
    kind: str
    contiguous: bool
    left_out: dict[str, str]
    left_out_rows: dict[str, int] = field(default_factory=dict)
    seal: str = ""

    def files(self) -> Iterator[tuple[str, str, int]]:
        """Yield path, checksum and number of rows of each file."""
        for name, table in self.tables.items():
            yield name, table.sha256, table.rows
        for part in self.parts:
            for name, digest in part.sha256.items():
                n = part.n_synapses if name.startswith("synapses") else part.n_connections
                yield name, digest, n


def part_file(kind: str, number: int, sha256: str) -> str:
    """Return the name of a file of a part; no other rows are ever in a file of this name."""
    return f"{kind}/{number:05d}-{sha256[:16]}.parquet"


def write_manifest(folder: Path, manifest: Manifest) -> str:
    """Write a manifest, which makes a folder a dataset; return its seal."""
    return write_record(folder / MANIFEST, manifest, seal=True, sort_keys=True)


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a dataset, which must be there, and as it was written."""
    file = folder / MANIFEST
    if not file.is_file():
        raise DatasetError.of(
            f"No dataset at {folder}",
            found="a folder without manifest.json" if folder.is_dir() else "no such folder",
            hint="connprops export CIRCUIT makes one",
        )
    hint = "remove the folder and export again"
    manifest = read_record(file, Manifest, sealed=True, hint=hint)
    if fault := _contradiction(manifest):
        raise DatasetError.of(f"{file} contradicts itself", found=fault, hint=hint)
    return manifest


@dataclass(frozen=True)
class _Edges:
    """What each dataset's identity says of its edges, among other things."""

    file: str
    population: str


@dataclass(frozen=True)
class _Identity:
    """What each dataset's identity says, among other things."""

    edges: _Edges
    source_population: str
    target_population: str
    source_type: str
    target_type: str


def _contradiction(manifest: Manifest) -> str | None:
    """Return in what a manifest is none that an export writes; None if nothing."""
    try:
        msgspec.convert(manifest.identity, _Identity)
    except msgspec.ValidationError as error:
        return f"identity: {error}"
    if lacking := {"types.parquet", "nodes.parquet", "node_sets.parquet"} - manifest.tables.keys():
        return f"no {min(lacking)}"
    for number, part in enumerate(manifest.parts):
        digests = sorted(part.sha256.items())  # of connections, then of synapses
        if [
            (part_file(kind, number, d), d) for kind, (_, d) in zip(KINDS, digests, strict=False)
        ] != digests:
            return f"files of part {number}: {listing(part.sha256)}"
    sums = (sum(p.n_synapses for p in manifest.parts), sum(p.n_connections for p in manifest.parts))
    if not manifest.parts or sums != (manifest.n_synapses, manifest.n_connections):
        return f"{len(manifest.parts)} parts with {sums[0]:,} synapses in {sums[1]:,} connections"
    return None


def is_dataset(folder: Path) -> bool:
    """Return whether a folder holds a dataset, whole or not."""
    return (standing(folder) / MANIFEST).is_file()


def opened(folder: Path) -> tuple[Path, Manifest]:
    """Return the place of a dataset and its manifest, even while another takes its place."""
    for _ in range(_ATTEMPTS):
        place = standing(folder)
        with suppress(DatasetError):
            return place, read_manifest(place)
    return folder, read_manifest(folder)


Written = tuple[int, int, int] | None
"""What tells a file from another of the same content: size, time, and number of the file."""


def written(file: Path) -> Written:
    """Return what tells whether somebody has written a file again; None if there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def seal_at(folder: Path) -> str | None:
    """Return the seal of the dataset that is in a folder now; None if there is none."""
    when = written(folder / MANIFEST)
    return None if when is None else _remembered_seal(folder, when)


@lru_cache(maxsize=64)
def _remembered_seal(folder: Path, _when: Written) -> str:
    return read_manifest(folder).seal


@dataclass(frozen=True)
class SourceState:
    """The file that a dataset was made of: size and time; and checksum, where it was computed.

    ``dataset`` is the seal of the dataset's manifest.
    """

    state: dict[str, int]
    sha256: str | None
    dataset: str


def write_source(folder: Path, state: dict[str, int], sha256: str | None, dataset: str) -> None:
    """Note the state of the source file, and its checksum if that is known."""
    write_record(folder / SOURCE, SourceState(state, sha256, dataset), seal=True)


def read_source(folder: Path, manifest: Manifest) -> SourceState:
    """Return the state of the source file that the dataset was made of, as it was written."""
    file = folder / SOURCE
    source = read_record(file, SourceState, sealed=True, hint="export again, with --overwrite")
    if source.dataset != manifest.seal:
        raise DatasetError.of(
            f"{file} is of another dataset", hint="export again, with --overwrite"
        )
    return source


def damage(
    folder: Path, manifest: Manifest, *, only: str | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Return what is wrong with each file, or one alone, that is not what the manifest says.

    Every byte is read: 1.7 GB a second and processor, on a machine of 2024.
    """
    files = [file for file in manifest.files() if only in (None, file[0])]
    if only not in (None, SOURCE) and not files:
        return {only: "is no file of this dataset"}
    damaged = {}
    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda file: _damage_of(folder / file[0], *file[1:]), files)
        for done, ((name, *_), what) in enumerate(zip(files, checks, strict=True), 1):
            if what:
                damaged[name] = what
            if progress:
                progress("check", done, len(files), "files")
    if only in (None, SOURCE):
        try:
            read_source(folder, manifest)
        except DatasetError as error:
            damaged[SOURCE] = str(error).removeprefix(f"{folder / SOURCE} ")
    return damaged


def damage_since(path: Path, sha256: str, rows: int) -> str | None:
    """Return what is wrong with a file, which is read again only when somebody has written it."""
    when = written(path)
    return "is missing" if when is None else _remembered_damage(path, sha256, rows, when)


def _damage_of(path: Path, sha256: str, rows: int, _when: Written = None) -> str | None:
    """Return what is wrong with a file; None if nothing is."""
    try:
        if not path.is_file():
            return "is missing"
        if sha256_of(path) != sha256:
            return "is not what its checksum says"
        n = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read: {error}"
    return None if n == rows else f"has {n:,} rows instead of {rows:,}"


_remembered_damage = lru_cache(maxsize=1 << 14)(_damage_of)
