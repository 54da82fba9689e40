"""Circuit configurations: JSON, with a manifest whose names are put in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from connprops.errors import CircuitError, is_text, listing

Value = TypeVar("Value")

_LONGEST = 1 << 16
"""Characters of a path with the manifest's names put in: more than any system takes."""


class Declared(msgspec.Struct):
    """What a configuration says of a population."""

    type: str | None = None


class Entry(msgspec.Struct):
    """A file of nodes or edges, and the populations to take from it: all where none is declared."""

    nodes_file: str | None = None
    node_types_file: str | None = None
    edges_file: str | None = None
    edge_types_file: str | None = None
    populations: dict[str, Declared | None] | None = None


class Networks(msgspec.Struct):
    """The files of a circuit."""

    nodes: list[Entry] | None = None
    edges: list[Entry] | None = None


def read_config(config: Path) -> dict[str, Any]:
    """Return the content of a circuit or simulation configuration."""
    if config.exists() and not config.is_file():
        raise CircuitError.of(f"{config} is not a file", expected="a SONATA circuit configuration")
    try:
        content = json.loads(config.read_text(encoding="utf-8"), object_pairs_hook=distinct_names)
    except FileNotFoundError as error:
        raise CircuitError.of(
            f"No circuit at {config}",
            found="no such file",
            expected="a SONATA circuit configuration, or the folder of a circuit_config.json",
        ) from error
    except OSError as error:
        raise CircuitError.of(f"{config} cannot be read", found=str(error)) from error
    except UnicodeDecodeError as error:
        starts = {b"\x89HDF": "an HDF5 file", b"PAR1": "a Parquet file"}
        raise CircuitError.of(
            f"{config} is not a SONATA circuit configuration",
            found=starts.get(error.object[:4], "a file that is not text"),
            expected="a JSON file that lists the circuit's files of nodes and edges",
        ) from error
    except (ValueError, RecursionError) as error:
        raise CircuitError.of(f"{config} is not valid JSON", found=str(error)) from error
    if not isinstance(content, dict) or not ({"networks", "network"} & content.keys()):
        raise CircuitError.of(
            f"{config} is not a SONATA circuit configuration",
            found=listing(content) if isinstance(content, dict) else type(content).__name__,
            expected="an object with the key 'networks'",
        )
    return content


def distinct_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a JSON file; refuse a name that stands in it for two things."""
    content = dict(pairs)
    for name, value in pairs:
        if content[name] != value:
            raise ValueError(f"{name!r} stands in one object twice, for different things")
    return content


def checked(value: object, kind: type[Value], place: str, config: Path) -> Value:
    """Return a part of a configuration as the type that it must be."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        types, _, within = str(error).partition(" - at `$")
        expected, _, actual = types.removeprefix("Expected ").partition(", got ")
        place += within.rstrip("`")
        raise CircuitError.of(
            f"{config}: {place} is of the wrong kind", found=actual, expected=expected
        ) from error


def resolved(config: Path, followed: tuple[Path, ...] = ()) -> tuple[Networks, str | None]:
    """Return networks and node sets file of a configuration, with absolute paths.

    A simulation configuration leads to the circuit that it names.
    """
    base = config.resolve().parent
    content = _expanded(read_config(config), base, config)
    if "networks" not in content:
        follow = (base / str(content["network"])).resolve()
        if follow in (config.resolve(), *followed):
            raise CircuitError.of(f"{config} names itself as its network, or one that names it")
        return resolved(follow, (config.resolve(), *followed))
    networks = checked(content["networks"] or {}, Networks, "networks", config)
    for entry in [*(networks.nodes or []), *(networks.edges or [])]:
        for name in ("nodes_file", "node_types_file", "edges_file", "edge_types_file"):
            path = getattr(entry, name)
            setattr(entry, name, str(base / path) if path and path != "NULL" else None)
    node_sets = checked(content.get("node_sets_file") or "", str, "node_sets_file", config)
    return networks, str(base / node_sets) if node_sets else None


def _expanded(raw: dict[str, Any], base: Path, config: Path) -> dict[str, Any]:
    """Return a configuration with the manifest's names replaced, wherever they stand."""
    manifest = checked(raw.get("manifest") or {}, dict[str, Any], "manifest", config)
    values = {"$configdir": str(base), "${configdir}": str(base)}
    values |= {str(k): str(v) for k, v in manifest.items() if k}
    names = re.compile("|".join(map(re.escape, sorted(values, key=len, reverse=True))))

    def expand(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: expand(v) for k, v in value.items()}
        if isinstance(value, list):
            return [expand(v) for v in value]
        return text(value) if isinstance(value, str) else value

    def text(value: str) -> str:
        if not is_text(value):
            raise CircuitError.of(f"{config} has a text that is none", found=ascii(value[:80]))
        replaced = value
        for _ in values:  # a name may stand for one that stands for another
            replaced = names.sub(lambda match: values[match.group()], replaced)
            if len(replaced) > _LONGEST:
                break
        if len(replaced) <= _LONGEST and not names.search(replaced):
            return replaced
        raise CircuitError.of(
            f"{config}: the manifest's names refer to each other in a circle, or too often",
            found=value,
        )

    try:
        return {k: expand(v) for k, v in raw.items() if k != "manifest"}
    except RecursionError as error:
        raise CircuitError.of(f"{config} is nested too deeply", found=str(error)) from error
