"""The habits that keep the code easy to find one's way in (see CONTRIBUTING.md)."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "connprops"
MODULES = sorted(SOURCE.rglob("*.py"))
PACKAGES = sorted({module.parent for module in MODULES} - {SOURCE})
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_MODULES = 8
MOST_LINES = 500
MOST_LINES_OF_A_FUNCTION = 60

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def tree(file):
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def place(file, node):
    return f"{file.relative_to(ROOT)}:{node.lineno}"


def lines_without_docstring(function):
    first = function.body[0]
    n_lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function, clean=False) is None:
        return n_lines
    return n_lines - (first.end_lineno - first.lineno + 1)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_has_few_modules(package):
    modules = [file.stem for file in package.glob("*.py") if not file.stem.startswith("_")]
    assert len(modules) <= MOST_MODULES, modules


def test_modules_are_short():
    lengths = {
        str(file.relative_to(SOURCE)): len(file.read_text(encoding="utf-8").splitlines())
        for file in MODULES
    }
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_functions_are_short():
    lengths = {
        f"{place(file, node)} {node.name}": lines_without_docstring(node)
        for file in MODULES
        for node in ast.walk(tree(file))
        if isinstance(node, FUNCTIONS)
    }
    long = {name: length for name, length in lengths.items() if length > MOST_LINES_OF_A_FUNCTION}
    assert long == {}


def test_no_two_public_classes_share_a_name():
    names = Counter(
        node.name
        for file in MODULES
        for node in tree(file).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def calls_by_keyword(keyword_name):
    """Calls that pass a literal text by a keyword, with the text."""
    for file in MODULES:
        for node in ast.walk(tree(file)):
            for keyword in getattr(node, "keywords", []):
                if keyword.arg == keyword_name and isinstance(keyword.value, ast.Constant):
                    yield node, keyword.value.value


def test_help_of_an_option_is_written_once():
    helps = Counter(text for _, text in calls_by_keyword("help"))
    assert len(helps) > 40
    assert [text for text, count in helps.items() if count > 1] == []


def test_an_option_of_a_step_is_declared_once():
    """A field with `option(...)` has the type, default, help and check for Python and commands."""
    declared = Counter(
        node.target.id
        for file in MODULES
        for node in ast.walk(tree(file))
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.value, ast.Call)
        and getattr(node.value.func, "id", "") == "option"
    )
    assert len(declared) > 20
    assert [name for name, count in declared.items() if count > 1] == []


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def imported_names(module):
    """Names that a file binds by import: modules, classes and functions of other files."""
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(module)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def root_name(node):
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def targets_of(node):
    if isinstance(node, ast.Assign):
        return node.targets
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def sets_a_private_name(node, imported):
    if isinstance(node, ast.Call):
        function = getattr(node.func, "attr", getattr(node.func, "id", None))
        texts = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        return function in ("setattr", "delattr", "setitem") and any(map(is_private, names))
    return any(
        isinstance(target, ast.Attribute)
        and is_private(target.attr)
        and root_name(target) in imported
        for target in targets_of(node)
    )


def private_settings(module):
    """Where a test sets a private name of what it imports, by assignment or by `setattr`."""
    imported = imported_names(module)
    return [node for node in ast.walk(module) if sets_a_private_name(node, imported)]


def test_tests_set_no_private_constant():
    """A limit that a test needs small is a field or a parameter, so that users have it, too."""
    assert [place(file, node) for file in TESTS for node in private_settings(tree(file))] == []


@pytest.mark.parametrize(
    ("code", "n_settings"),
    [
        ("from connprops.export import parts\nparts._ROWS = 3", 1),
        ("from connprops.export import parts\nparts._ROWS += 3", 1),
        ("monkeypatch.setattr(parts, '_ROWS', 3)", 1),
        ("monkeypatch.setattr('connprops.export.parts._ROWS', 3)", 1),
        ("setattr(parts, '_ROWS', 3)", 1),
        ("monkeypatch.setattr(parts, 'ROWS', 3)\nparts.__name__ = 'x'\nself._rows = 3", 0),
    ],
)
def test_the_search_for_private_settings_finds_them(code, n_settings):
    assert len(private_settings(ast.parse(code))) == n_settings


VAGUE = {"found", "given", "one", "some"}


def test_values_have_names_that_say_what_they_are():
    """``found`` is what an error says that it found, in :mod:`connprops.errors` alone."""
    names = [
        (place(file, node), node.id if isinstance(node, ast.Name) else node.arg)
        for file in MODULES
        if file.name != "errors.py"
        for node in ast.walk(tree(file))
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
        or isinstance(node, ast.arg)
    ]
    assert [(at, name) for at, name in names if name in VAGUE] == []
