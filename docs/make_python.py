"""Write ``python.md``, the reference of the Python interface, from its docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

import connprops as cp
import connprops.compat
import connprops.draw
from connprops import demo
from connprops.dataset import dataset
from connprops.export.export import export
from connprops.query import session as query
from connprops.resources import Resources
from connprops.statistics import statistics
from connprops.statistics.extract import Fold

_INTRODUCTION = """\
# Python

Made by `python docs/make_python.py` from the docstrings. In these, tables are named as in the
[reference of tables](tables.md), and modules that are named hold more on how a thing is done.

`import connprops as cp` gives all names of the first sections; it is quick, for each is imported
when it is first used. Arguments after `*` are given by name.
"""

_WIDTH = 88

PAGE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "Circuits and datasets": (
        "cp",
        (cp.write_demo, demo.DemoCircuit, cp.open_circuit, cp.open_dataset, dataset.Dataset),
    ),
    "Statistics": (
        "cp",
        (cp.extract, cp.read_statistics, statistics.Statistics, cp.extract_folds, Fold),
    ),
    "Models": ("cp", (cp.build, cp.read_model, cp.Model, cp.compare)),
    "Cross-validation": ("cp", (cp.cross_validate, cp.read_cross_validation, cp.CrossValidation)),
    "Charts and report": ("cp", (cp.plot, cp.report)),
    "Errors": ("cp", (cp.ConnpropsError, cp.ConnpropsWarning)),
    "Drawing: `connprops.draw`": (
        "connprops.draw",
        (connprops.draw.draw_synapses, connprops.draw.write_synapses),
    ),
    "Questions in SQL: `connprops.query.session`": (
        "connprops.query.session",
        (query.questions, query.question, query.Session, query.Answer),
    ),
    "Job arrays: `connprops.export.export`": ("connprops.export.export", (export,)),
    "Job arrays: putting shards together": ("cp", (cp.merge,)),
    "Memory and threads: `connprops.resources`": ("connprops.resources", (Resources,)),
    "Scripts of connectome-manipulator: `connprops.compat`": (
        "connprops.compat",
        (
            connprops.compat.extract,
            connprops.compat.build,
            connprops.compat.plot,
            connprops.compat.ConnPropsModel,
        ),
    ),
}
"""Sections of the page, in the data's order: the module that names are used from, and they."""

_MADE_BY_USERS = (query.Session, Resources, connprops.compat.ConnPropsModel)
"""Classes that are called; others are what functions return."""

_STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}

_ROLE = re.compile(r":\w+:`~?([^`]+)`")
_TABLE = re.compile(r"`connprops\.schema\.([A-Z_]+)`")
_HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
_LISTS = ("Parameters", "Attributes", "Returns", "Raises")


def page() -> str:
    """Return the page, Markdown."""
    parts = [_INTRODUCTION]
    for title, (module, members) in PAGE.items():
        parts.append(f"## {title}\n")
        for member in members:
            parts += _entry(member, module)
    return "\n".join(parts)


def _entry(member: Any, module: str) -> Iterator[str]:
    name = public_name(member)
    yield f"### {name}\n"
    if not inspect.isclass(member):
        yield f"```text\n{_signature(member, f'{module}.{name}')}\n```\n"
    elif member in _MADE_BY_USERS:
        yield f"```text\n{_signature(member.__init__, f'{module}.{name}', returns=False)}\n```\n"
    yield _markdown(inspect.getdoc(member) or "")
    if inspect.isclass(member) and not issubclass(member, Exception):
        for method, what in vars(member).items():
            if not method.startswith("_") and _is_method(what):
                yield from _method(name, method, what)


def public_name(member: Any) -> str:
    """Return the name that something has in the interface."""
    names = (name for name in cp.__all__ if getattr(cp, name) is member)
    return str(next(names, member.__name__))


def _is_method(what: Any) -> bool:
    kinds = (property, cached_property, classmethod, staticmethod, FunctionType)
    return isinstance(what, kinds)


def _method(of: str, name: str, what: Any) -> Iterator[str]:
    if isinstance(what, property | cached_property):
        function = what.fget if isinstance(what, property) else what.func
        kind = str(function.__annotations__.get("return", ""))
        yield f"#### {of}.{name}: `{kind}`\n"
    else:
        yield f"#### {of}.{name}\n"
        function = inspect.unwrap(getattr(what, "__func__", what))
        yield f"```text\n{_signature(function, name)}\n```\n"
    yield _markdown(inspect.getdoc(what) or "")


def _signature(function: Callable[..., Any], name: str, *, returns: bool = True) -> str:
    """Return how something is called; on lines of their own, if all is too long for one."""
    signature = inspect.signature(function)
    given = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    kinds = [p.kind for p in given]
    arguments = [_argument(p) for p in given]
    by_name = inspect.Parameter.KEYWORD_ONLY
    if by_name in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        arguments.insert(kinds.index(by_name), "*")
    by_place = kinds.count(inspect.Parameter.POSITIONAL_ONLY)
    if by_place:
        arguments.insert(by_place, "/")
    returned = f" -> {signature.return_annotation}" if returns else ""
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) <= _WIDTH:
        return line
    lines = "".join(f"    {argument},\n" for argument in arguments)
    return f"{name}(\n{lines}){returned}"


def _argument(parameter: inspect.Parameter) -> str:
    stars = _STARS.get(parameter.kind, "")
    kind = parameter.annotation
    text = f"{stars}{parameter.name}" + ("" if kind is parameter.empty else f": {kind}")
    return text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}"


def _markdown(docstring: str) -> str:
    """Return a docstring of numpy's style as Markdown."""
    text = _ROLE.sub(lambda role: f"`{role[1]}`", docstring).replace("``", "`")
    text = _TABLE.sub(lambda table: f"[{table[1].lower()}](tables.md#{table[1].lower()})", text)
    head, *sections = _HEADING.split(text)
    parts = [head.strip() + "\n"]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        parts.append(f"**{title}**\n")
        parts.append(_definitions(body) if title in _LISTS else body.strip() + "\n")
    return "\n".join(parts)


def _definitions(body: str) -> str:
    """Return what is defined in a section: names in the margin, and indented what they are."""
    items: list[list[str]] = []
    for line in body.splitlines():
        if line and not line.startswith(" "):
            items.append([f"- `{line.strip()}`:"])
        elif items:
            items[-1].append(line.strip())
        elif line.strip():
            items.append([line.strip()])
    return "".join(" ".join(" ".join(item).split()) + "\n" for item in items)


if __name__ == "__main__":
    Path(__file__).with_name("python.md").write_text(page(), encoding="utf-8")
