"""What messages tell people to type: commands and options that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import typer.main

import connprops
from connprops.cli import app

COMMANDS = typer.main.get_command(app).commands
OPTIONS = {
    name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    for name, command in COMMANDS.items()
}
OF_OTHERS = {"--array", "--version"}
"""SLURM's, and that of the program itself."""


def texts():
    """Give every text of the code, the pieces of a formatted one together, with its place."""
    for file in sorted(Path(connprops.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (getattr(part, "value", None) for part in node.values)
                text = "".join(part if isinstance(part, str) else "X" for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
            else:
                continue
            yield pytest.param(text, id=f"{file.stem}:{node.lineno}")


def unknown(text):
    """Return the options of a text that no command has, or not the one that it names."""
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    wrong = named - set().union(*OPTIONS.values()) - OF_OTHERS
    for command, rest in re.findall(
        r"connprops ([a-z][a-z-]*)((?:(?!connprops |, or |;)[^\n])*)", text
    ):
        if command in OPTIONS:
            wrong |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) - OPTIONS[command]
    return wrong


def test_every_option_that_a_text_names_is_declared():
    wrong = {place.id: unknown(place.values[0]) for place in texts()}
    assert {place: names for place, names in wrong.items() if names} == {}


def test_the_check_finds_wrong_ones():
    assert unknown("connprops verify --circuit compares") == {"--circuit"}
    assert unknown("overwrite (--overwirte)") == {"--overwirte"}
    assert unknown("connprops export CIRCUIT --overwrite") == set()
