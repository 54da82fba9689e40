"""Write ``commands.md``, the reference of the command line, from what its commands say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from connprops.cli import app

_INTRODUCTION = """\
# Commands

Made by `python docs/make_commands.py` from what `connprops COMMAND --help` says.
"""


def page() -> str:
    """Return the page, Markdown."""
    group: Any = typer.main.get_command(app)
    parts = [_INTRODUCTION, f"{group.help}\n"]
    for name, command in group.commands.items():
        parts.append(f"## {name}\n\n```text\n{_usage(name, command)}\n```\n\n{command.help}\n")
        parts += _arguments(command)
        examples = [line for line in command.epilog.splitlines()[1:] if line]
        parts.append("```sh\n" + "".join(f"{line}\n" for line in examples) + "```\n")
    return "\n".join(parts)


def _usage(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if not _is_option(parameter)]
    words = [one.metavar if one.required else f"[{one.metavar}]" for one in arguments]
    return " ".join(["connprops", name, *words, "[OPTIONS]"])


def _arguments(command: Any) -> Iterator[str]:
    """Give a table of the arguments, and one for each panel of options."""
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        panel = (parameter.rich_help_panel or "Options") if _is_option(parameter) else "Arguments"
        cells = (text.replace("|", "\\|") for text in (_call(parameter), _meaning(parameter)))
        panels.setdefault(panel, []).append("| `{}` | {} |\n".format(*cells))
    for panel, rows in panels.items():
        yield f"| {panel} | |\n|---|---|\n{''.join(rows)}"


def _is_option(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "option")


def _call(parameter: Any) -> str:
    if not _is_option(parameter):
        return str(parameter.metavar)
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _meaning(parameter: Any) -> str:
    text = " ".join(parameter.help.split())
    if parameter.required:
        return f"{text} [required]"
    told = "[default:" in text or (_is_option(parameter) and parameter.is_flag)
    return text if told or parameter.default is None else f"{text} [default: {parameter.default}]"


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(page(), encoding="utf-8")
