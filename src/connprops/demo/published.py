"""The published tables and the schematic cells, as they lie in the folder ``nmc2015``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

import polars as pl

MORPHOLOGY: Mapping[str, str] = {"EXC": "pyramidal", "INH": "interneuron"}
"""The schematic cell of each class."""


def table(name: str) -> pl.DataFrame:
    """Read the table ``<name>.csv``; layers are text."""
    return pl.read_csv(
        _resource(f"{name}.csv"), comment_prefix="#", schema_overrides={"layer": pl.String}
    )


def morphology(name: str) -> str:
    """Return the text of a schematic cell's SWC file."""
    return _resource(f"{name}.swc").decode()


def template(name: str) -> str:
    """Return the text of a schematic cell's hoc template."""
    return _resource("cell.hoc").decode().replace("CELL", name)


def _resource(name: str) -> bytes:
    return (files(__package__) / "nmc2015" / name).read_bytes()
