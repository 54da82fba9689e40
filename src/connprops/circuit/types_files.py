"""Reading ``node_types.csv`` and ``edge_types.csv``: what nodes and edges have from their type."""

from __future__ import annotations

import csv
from pathlib import Path

from connprops.errors import CircuitError, listing


def read_types(file: Path, key: str) -> dict[int, dict[str, str]]:
    """Return the rows of a types file by their id; NULL and empty cells left out.

    Raises
    ------
    CircuitError
        Where the file cannot be read, or has rows without an id.
    """
    try:
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text, delimiter=" ", skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CircuitError.of(f"{file} cannot be read", found=str(error)) from error
    if rows and key not in rows[0]:
        raise CircuitError.of(f"{file} has no column {key!r}", found=listing(rows[0]))
    found: dict[int, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            type_id = int(row[key])
        except (TypeError, ValueError) as error:
            raise CircuitError.of(
                f"{file}: {key} in line {number} is no whole number", found=repr(row[key])
            ) from error
        if type_id in found:
            raise CircuitError.of(f"{file}: {key} {type_id} stands in several lines")
        found[type_id] = {
            k: v
            for k, v in row.items()
            if isinstance(k, str) and isinstance(v, str) and k != key and v not in ("", "NULL")
        }
    return found
