"""How an option is declared: once, as a field of a dataclass.

The field has the option's type, default, help and check. Signatures and docstrings of functions,
options of the command line, and the checks of configuration files are made from it.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import lru_cache, wraps
from typing import (
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from connprops.errors import OptionError

P = ParamSpec("P")
T = TypeVar("T")
Result = TypeVar("Result")
Options = TypeVar("Options")
Data1 = TypeVar("Data1")
Data2 = TypeVar("Data2")

_TOO_MUCH = 1 << 63
"""For a whole number: tables hold none."""

_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Option:
    """What is said of an option beside its name, type and default."""

    help: str
    detail: str = ""
    """What else the documentation in Python says."""
    default_text: str = ""
    """The default in words, where the value does not show it."""
    at_least: int | None = None
    expected: str = ""
    """What a value must be, where the type does not say it."""
    convert: Callable[[Any], Any] | None = None
    """Makes a value of the field's type of what users may write."""
    check: Callable[[Any], None] | None = None
    """Raises where a value of the field's type will not do."""
    from_text: Callable[[Any], Any] | None = None
    """Reads the text on the command line, where it is neither a number nor a flag."""
    flags: tuple[str, ...] = ()
    """Names on the command line, by default that of the field."""
    metavar: str = ""
    panel: str = ""
    """Heading in help; an option without one is in Python and in configuration files only."""
    repeated: bool = False
    is_checked: bool = True


def option(default: Any = MISSING, *, factory: Any = None, **about: Any) -> Any:
    """Return a dataclass field for an option; ``about`` are fields of :class:`Option`."""
    metadata = {"option": Option(**about)}
    if factory is not None:
        return field(default_factory=factory, metadata=metadata)
    return field(default=default, metadata=metadata)


def about(declared: Field[Any]) -> Option:
    """Return what is said of the option that a field declares."""
    of_field: Option = declared.metadata["option"]
    return of_field


def names(cls: type) -> list[str]:
    """Return the names of the options that a dataclass declares."""
    return [f.name for f in fields(cls)]


def shared(options: Any, cls: type) -> dict[str, Any]:
    """Return those options that a class declares too, by name."""
    return {name: getattr(options, name) for name in names(cls) if hasattr(options, name)}


class Checked:
    """Base of dataclasses of options: values are checked and converted; None is the default."""

    def __post_init__(self) -> None:
        for declared in fields(self):  # type: ignore[arg-type]
            value = getattr(self, declared.name)
            object.__setattr__(self, declared.name, checked(type(self), declared, value))


def checked(cls: type, declared: Field[Any], value: Any) -> Any:
    """Return the value of an option, converted to its type; an error where that cannot be."""
    if value is None:
        factory = declared.default_factory
        return declared.default if factory is MISSING else factory()
    said = about(declared)
    if not said.is_checked:
        return value
    import msgspec  # takes time, which help does without

    hint = _hints(cls)[declared.name]
    value = _plain(value) if said.convert is None else said.convert(value)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise OptionError.unknown(declared.name, str(value), get_args(hint))
        return value
    expected = said.expected or _in_words(hint)
    if not said.expected and said.at_least is not None:
        expected += f", at least {said.at_least}"
    try:
        converted = value if hint is Any else msgspec.convert(value, hint)
    except ValueError as error:
        raise _unfit(declared.name, value, expected) from error
    least = -_TOO_MUCH + 1 if said.at_least is None else said.at_least
    if isinstance(converted, int) and not least <= converted < _TOO_MUCH:
        raise _unfit(declared.name, value, expected)
    converted = tuple(converted) if isinstance(converted, list) else converted
    if said.check is not None:
        said.check(converted)
    return converted


def _unfit(name: str, value: Any, expected: str) -> OptionError:
    return OptionError.of(f"{name} is not valid", found=repr(value), expected=expected)


@lru_cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _in_words(hint: Any) -> str:
    """Write a type for people."""
    if hint in _WORDS:
        return _WORDS[hint]
    kind, inner = get_origin(hint), [a for a in get_args(hint) if a not in (type(None), ...)]
    if kind is not None and isinstance(kind, type) and issubclass(kind, Mapping):
        return f"a table with properties as keys, each value {_in_words(inner[1])}"
    if kind is not None and isinstance(kind, type) and issubclass(kind, Iterable):
        return f"a list, each {_in_words(inner[0])}"
    return " or ".join(_in_words(part) for part in inner) if inner else str(hint)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays, ranges and other mappings as lists and dicts."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | type):
        return [_plain(item) for item in value]
    return value


class _Decorator(Generic[P, Options]):
    """See :func:`takes`."""

    def __init__(self, options: Callable[P, Options]) -> None:
        self.options: Any = options

    @overload
    def __call__(
        self, function: Callable[[Data1, Options], Result]
    ) -> Callable[Concatenate[Data1, P], Result]: ...
    @overload
    def __call__(
        self, function: Callable[[Data1, Data2, Options], Result]
    ) -> Callable[Concatenate[Data1, Data2, P], Result]: ...
    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        cls, before = self.options, inspect.signature(function)
        data = list(before.parameters.values())[:-1]

        @wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            default = {f.name: f.default for f in fields(cls)}  # of what may be positional, too
            place = [
                keywords.pop(p.name, default.get(p.name))
                for p in data[len(args) :]
                if p.name in keywords or p.name in default
            ]
            for name in keywords:
                if name not in names(cls):
                    raise OptionError.unknown(f"option of {function.__name__}", name, names(cls))
            return function(*args, *place, cls(**keywords))

        options = [
            inspect.Parameter(
                f.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=f.default if f.default_factory is MISSING else f.default_factory(),
                annotation=f.type,
            )
            for f in fields(cls)
            if f.name not in before.parameters
        ]
        call.__signature__ = before.replace(parameters=[*data, *options])  # type: ignore[attr-defined]
        head, heading, rest = (function.__doc__ or "").partition("\n    Returns\n")
        call.__doc__ = head + textwrap.indent(documentation(cls), "    ") + heading + rest
        return call


def takes(options: Callable[P, Options]) -> _Decorator[P, Options]:
    """Let a function that takes data and a dataclass of options take these by keyword.

    The options are described at the end of the section Parameters of its docstring.
    """
    return _Decorator(options)


def documented(cls: type[T]) -> type[T]:
    """Describe the options of a dataclass in its docstring."""
    head = (cls.__doc__ or "").rstrip()
    attributes = textwrap.indent(documentation(cls), "    ")
    cls.__doc__ = f"{head}\n\n    Attributes\n    ----------\n{attributes}"
    return cls


def documentation(cls: type) -> str:
    """Return the options of a dataclass as a section of numpydoc lists them."""
    entries = []
    for declared in fields(cls):
        said = about(declared)
        plain = declared.default not in (None, MISSING)
        shown = said.default_text or (repr(declared.default) if plain else "")
        default = f", default: {shown}" if shown else ", optional"
        text = textwrap.fill(f"{said.help} {said.detail}".strip(), 88)
        entries.append(
            f"{declared.name} : {declared.type}{default}\n{textwrap.indent(text, '    ')}\n"
        )
    return "".join(entries)
