"""A page for each command, from what ``connprops COMMAND --help`` prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[1] / "commands"
_WIDTH = "96"


def printed(*arguments: str) -> str:
    """Return what the program prints, without colours."""
    environment = os.environ | {"COLUMNS": _WIDTH, "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run(  # noqa: S603 - our own program
        [
            sys.executable,
            "-c",
            "import sys; from connprops.cli import main; sys.argv[0] = 'connprops'; main()",
            *arguments,
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n"


def names() -> list[str]:
    """Return the names of all commands, in the order of ``connprops --help``."""
    panel = printed("--help").partition(" Commands ")[2]
    return re.findall(r"^│ ([a-z][a-z-]+) ", panel, re.MULTILINE)


def page(name: str) -> str:
    """Return the page of a command, Markdown."""
    return f"# {name}\n\n```text\n{printed(name, '--help')}```\n"


def _write(_: Any) -> None:
    _FOLDER.mkdir(exist_ok=True)
    for name in names():
        file, text = _FOLDER / f"{name}.md", page(name)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Write the pages before the others are read."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
