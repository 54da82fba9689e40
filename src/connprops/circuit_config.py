"""Circuit configurations: JSON, with a manifest whose names are put in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connprops.errors import CircuitError, listing


def read_config(config: Path) -> dict[str, Any]:
    """Return the content of a circuit or simulation configuration.

    Raises
    ------
    CircuitError
        Where the file is missing, or holds something else.
    """
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CircuitError.of(
            f"No circuit at {config}",
            found="no such file",
            expected="a SONATA circuit configuration, or the folder of a circuit_config.json",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitError.of(f"{config} cannot be read", found=str(error)) from error
    except ValueError as error:
        raise CircuitError.of(f"{config} is not valid JSON", found=str(error)) from error
    if not isinstance(content, dict) or not ({"networks", "network"} & content.keys()):
        raise CircuitError.of(
            f"{config} is not a SONATA circuit configuration",
            found=listing(content) if isinstance(content, dict) else type(content).__name__,
            expected="an object with the key 'networks'",
        )
    return content


def resolved_by_hand(config: Path, raw: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return networks and node sets file of a configuration, with absolute paths.

    A simulation configuration leads to the circuit that it names.
    """
    base = config.resolve().parent
    content = _expanded(raw, base, config)
    if "networks" not in content:
        follow = base / str(content["network"])
        if follow.resolve() == config.resolve():
            raise CircuitError.of(f"{config} names itself as its network")
        return resolved_by_hand(follow, read_config(follow))
    networks = content["networks"] or {}
    for entry in [*(networks.get("nodes") or []), *(networks.get("edges") or [])]:
        for key, value in entry.items():
            if key.endswith("_file") and isinstance(value, str) and value not in ("", "NULL"):
                entry[key] = str(base / value)
    node_sets = content.get("node_sets_file")
    return networks, str(base / node_sets) if node_sets else None


def _expanded(raw: dict[str, Any], base: Path, config: Path) -> dict[str, Any]:
    """Return a configuration with the manifest's names replaced, wherever they stand."""
    manifest = {"$configdir": str(base), "${configdir}": str(base)}
    manifest |= {str(k): str(v) for k, v in (raw.get("manifest") or {}).items()}
    names = sorted(manifest, key=len, reverse=True)

    def expand(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: expand(v) for k, v in value.items()}
        if isinstance(value, list):
            return [expand(v) for v in value]
        return text(value) if isinstance(value, str) else value

    def text(value: str) -> str:
        found = value
        for _ in range(len(names) + 1):
            if not any(name in found for name in names):
                return found
            for name in names:
                found = found.replace(name, manifest[name])
        raise CircuitError.of(
            f"{config}: the manifest's names refer to each other in a circle", found=value
        )

    return {k: expand(v) for k, v in raw.items() if k != "manifest"}
