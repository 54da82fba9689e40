"""JSON files of this package: written whole, checked against a type when they are read.

A seal is the checksum of all other content, so that nobody changes a value unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from connprops import schema
from connprops.errors import DatasetError
from connprops.store.writing import replacing

Record = TypeVar("Record")


def write_record(
    path: Path, content: object, *, seal: bool = False, sort_keys: bool = False
) -> str:
    """Write a mapping, or a dataclass, as JSON; ``seal`` adds the key of that name. Return it."""
    fields = msgspec.to_builtins(content)
    if seal:
        fields["seal"] = seal_of(fields)
    text = json.dumps(fields, indent=1, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    with replacing(path, overwrite=True) as aside:
        aside.write_text(text, encoding="utf-8")
    return str(fields.get("seal", ""))


def read_record(
    path: Path,
    kind: type[Record],
    *,
    content: bytes | None = None,
    sealed: bool = False,
    hint: str | None = None,
) -> Record:
    """Read a JSON file as ``kind``: a dataclass or any other type; unknown keys are left out.

    ``content`` is what was read of it already.

    Where there is a schema version, and a seal in a ``sealed`` file, they are checked. Raises
    :class:`DatasetError`, which names the file and what is wrong with it.
    """
    try:
        fields = msgspec.json.decode(path.read_bytes() if content is None else content)
        if isinstance(fields, dict) and "schema_version" in fields:
            schema.check_version(fields["schema_version"], str(path), DatasetError)
        record = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise DatasetError.of(f"{path} is incomplete or changed", found=str(error)) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise DatasetError.of(f"{path} is damaged", found=str(error), hint=hint) from error
    except OSError as error:
        raise DatasetError.of(f"{path} cannot be read", found=str(error)) from error
    if sealed and fields.get("seal") != seal_of(fields):
        raise DatasetError.of(
            f"{path} is damaged: it is not what its checksum says",
            found="changed by hand?",
            hint=hint,
        )
    return record


def record_or_none(path: Path, kind: type[Record]) -> Record | None:
    """Return what :func:`read_record` does; None where it would raise."""
    try:
        return read_record(path, kind)
    except DatasetError:
        return None


def seal_of(content: Mapping[str, Any]) -> str:
    """Return the checksum of a JSON object, whatever its layout; not of its key ``seal``."""
    unsealed = {key: value for key, value in content.items() if key != "seal"}
    text = json.dumps(unsealed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
