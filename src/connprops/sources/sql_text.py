"""Names and values as SQL has them."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return a name as an identifier of SQL, in quotation marks."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """Return a text, a number, or a list of them, as SQL has it."""
    if isinstance(value, list):
        return f"[{', '.join(literal(item) for item in value)}]::varchar[]"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
