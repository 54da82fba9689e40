"""Circuit configurations: JSON, with a manifest whose names are put in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connprops.errors import CircuitError, listing

_LONGEST = 1 << 16
"""Characters of a path with the manifest's names put in: more than any system takes."""


def read_config(config: Path) -> dict[str, Any]:
    """Return the content of a circuit or simulation configuration."""
    if config.exists() and not config.is_file():
        raise CircuitError.of(f"{config} is not a file", expected="a SONATA circuit configuration")
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
    except (ValueError, RecursionError) as error:
        raise CircuitError.of(f"{config} is not valid JSON", found=str(error)) from error
    if not isinstance(content, dict) or not ({"networks", "network"} & content.keys()):
        raise CircuitError.of(
            f"{config} is not a SONATA circuit configuration",
            found=listing(content) if isinstance(content, dict) else type(content).__name__,
            expected="an object with the key 'networks'",
        )
    return content


def checked_networks(networks: object, config: Path) -> dict[str, Any]:
    """Return the networks of a configuration, each part of them of the kind that it must be."""
    content: dict[str, Any] = _of_kind(networks or {}, dict, "networks", config)
    for kind in ("nodes", "edges"):
        for entry in _of_kind(content.get(kind) or [], list, f"networks/{kind}", config):
            place = f"an entry of networks/{kind}"
            for key, value in _of_kind(entry, dict, place, config).items():
                if key.endswith("_file") and value is not None:
                    _of_kind(value, str, f"{key} in {place}", config)
            populations = _of_kind(
                entry.get("populations") or {}, dict, f"populations in {place}", config
            )
            for name, facts in populations.items():
                kind_of = _of_kind(facts or {}, dict, f"population {name!r}", config).get("type")
                _of_kind("" if kind_of is None else kind_of, str, f"type of {name!r}", config)
    return content


_KINDS: Mapping[type, str] = {dict: "an object", list: "an array", str: "text"}


def _of_kind(value: Any, kind: type, place: str, config: Path) -> Any:
    if not isinstance(value, kind):
        raise CircuitError.of(
            f"{config}: {place} is of the wrong kind", found=repr(value)[:80], expected=_KINDS[kind]
        )
    return value


def resolved(config: Path, followed: tuple[Path, ...] = ()) -> tuple[dict[str, Any], str | None]:
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
    networks = checked_networks(content["networks"], config)
    for entry in [*(networks.get("nodes") or []), *(networks.get("edges") or [])]:
        for key, value in entry.items():
            if key.endswith("_file") and isinstance(value, str) and value not in ("", "NULL"):
                entry[key] = str(base / value)
    node_sets = _of_kind(content.get("node_sets_file") or "", str, "node_sets_file", config)
    return networks, str(base / node_sets) if node_sets else None


def _expanded(raw: dict[str, Any], base: Path, config: Path) -> dict[str, Any]:
    """Return a configuration with the manifest's names replaced, wherever they stand."""
    manifest = _of_kind(raw.get("manifest") or {}, dict, "manifest", config)
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

    return {k: expand(v) for k, v in raw.items() if k != "manifest"}
