"""The manifest of a dataset: what its files hold, and whether they still do.

Neither DuckDB nor Polars nor pyarrow notices a flipped bit in Parquet, so the manifest has the
checksum and the number of rows of every file, and one of itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from connprops import schema
from connprops.errors import DatasetError
from connprops.progress import Progress
from connprops.store.writing import seal_of, sha256_of, write_text

MANIFEST = "manifest.json"

SOURCE = "source.json"
"""The file of a dataset that tells when its source was last written, which no number depends on."""

_KEYS = {
    "schema_version": int, "identity": dict, "columns": list, "parts": list, "tables": dict,
    "n_synapses": int, "n_connections": int, "warnings": list, "seal": str,
}  # fmt: skip


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest, with the checksum of itself, which makes a folder a dataset."""
    sealed = {**content, "seal": seal_of(content)}
    text = json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(folder / MANIFEST, text, overwrite=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a dataset.

    Raises
    ------
    DatasetError
        Where there is none, or it is damaged or of a later version.
    """
    file = folder / MANIFEST
    hint = "remove the folder and export again"
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError.of(
            f"No dataset at {folder}",
            found="a folder without manifest.json" if folder.is_dir() else "no such folder",
            hint="connprops export CIRCUIT makes one",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError.of(f"{file} is damaged", found=str(error), hint=hint) from error
    except OSError as error:
        raise DatasetError.of(f"{file} cannot be read", found=str(error)) from error
    if not isinstance(manifest, dict):
        raise DatasetError.of(f"{file} is not a manifest", found=type(manifest).__name__)
    schema.check_version(manifest.get("schema_version"), str(file), DatasetError)
    if missing := sorted(key for key, kind in _KEYS.items() if type(manifest.get(key)) is not kind):
        raise DatasetError.of(f"{file} is incomplete", expected=f"the keys {', '.join(missing)}")
    if manifest["seal"] != seal_of(manifest):
        raise DatasetError.of(
            f"{file} is damaged: it is not what its checksum says", found="changed by hand?",
            hint=hint,
        )  # fmt: skip
    return manifest


def write_source(folder: Path, state: Mapping[str, int], sha256: str | None) -> None:
    """Note the state of the source file, and its checksum if that is known."""
    text = json.dumps({**state, "sha256": sha256}, indent=1)
    write_text(folder / SOURCE, text, overwrite=True)


def read_source(folder: Path) -> dict[str, Any]:
    """Return the state of the source file that the dataset was made of; empty if not known."""
    try:
        found = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def expected_files(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, int]]:
    """Yield path, checksum and number of rows of each file."""
    for name, facts in manifest["tables"].items():
        yield name, facts["sha256"], facts["rows"]
    for part in manifest["parts"]:
        for name, digest in part["sha256"].items():
            yield name, digest, part[f"n_{Path(name).parent}"]


def damage(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    only: str | None = None,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Return what is wrong with each file, or one alone, that is not what the manifest says.

    Every byte is read: 1.7 GB a second and processor, on a machine of 2024.
    """
    files = [file for file in expected_files(manifest) if only in (None, file[0])]
    if only is not None and not files:
        return {only: "is no file of this dataset"}
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda file: damage_of(folder / file[0], file[1], file[2]), files)
        damaged = {}
        for done, ((name, *_), what) in enumerate(zip(files, found, strict=True), 1):
            if what:
                damaged[name] = what
            if progress:
                progress("check", done, len(files), "files")
    return damaged


def damage_of(path: Path, sha256: str, rows: int) -> str | None:
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
