"""The application: how a command gets its options, and how it reports errors and warnings."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from connprops._version import __version__
from connprops.cli.ending import errors, say, show_warnings
from connprops.declare import Checked, about, checked, names, option
from connprops.display import show_progress
from connprops.errors import OptionError, collected_warnings, is_text
from connprops.options import (
    MODEL,
    OUTPUT,
    SELECTION,
    STATISTICS,
    TABLE,
    CrossValidateOptions,
    ExportOptions,
    RunOptions,
    read_options,
)
from connprops.resources import RESOURCES, Resources, keep_fewer_heaps, reuse_freed_memory

MESSAGES = "Messages"
_PANELS = (OUTPUT, SELECTION, TABLE, STATISTICS, MODEL, RESOURCES, MESSAGES)

_TIGHT = 2 * 10**9
"""Bytes allowed below which freed memory is given back at once, which takes time."""


@dataclass(frozen=True, kw_only=True)
class CommandOptions(Checked):
    """Options that only commands have."""

    config: Path | None = option(
        None, help="Options as TOML or JSON, named as in Python (sel_src, distr_types, "
        "data_bounds, ...). Options on the command line override them.",
        metavar="FILE", panel=OUTPUT, is_checked=False,
    )  # fmt: skip
    dry_run: bool = option(
        default=False, help="Estimate the work and the number of tasks, and write nothing.",
        panel=RESOURCES,
    )  # fmt: skip
    connections: Path | None = option(
        None, help="Parquet with source_node and target_node; with source_type and target_type, "
        "unless a circuit has them; with n_syn_per_conn, unless it is to be drawn.",
        default_text="those of the circuit or the dataset, each drawn anew", from_text=Path,
        metavar="FILE", panel=OUTPUT, is_checked=False,
    )  # fmt: skip
    circuit: Path | None = option(
        None,
        help="Circuit that the nodes are of, by its configuration file or folder; or a dataset.",
        from_text=Path, metavar="CIRCUIT", panel=OUTPUT, is_checked=False,
    )  # fmt: skip
    missing: str = option(
        "error", help="What to do with connections of pathways that the model lacks: error; "
        "borrow, from an observed pathway of the same types, layers or classes; skip.",
        metavar="WHAT", panel=SELECTION,
    )  # fmt: skip
    force_reextract: bool = option(
        default=False, help="Extract again even if circuit and options are unchanged.", panel=OUTPUT
    )
    force_rebuild: bool = option(
        default=False, help="Build again even if statistics and options are unchanged.",
        panel=OUTPUT,
    )  # fmt: skip
    quiet: bool = option(
        default=False, help="Show neither progress, warnings nor a summary. A run's warnings are "
        "in run.json and in the report.", flags=("--quiet", "-q"), panel=MESSAGES,
    )  # fmt: skip
    as_json: bool = option(
        default=False, help="Print JSON, for programs.", flags=("--json",), panel=MESSAGES
    )
    debug: bool = option(default=False, help="Show where an error comes from.", panel=MESSAGES)


_DECLARED = {
    f.name: (cls, f)
    for cls in (CrossValidateOptions, ExportOptions, RunOptions, Resources, CommandOptions)
    for f in fields(cls)
}
_READ = {*names(RunOptions), *names(Resources)}

Circuit = Annotated[
    Path,
    typer.Argument(
        metavar="CIRCUIT",
        help="The circuit's configuration file, or its folder; an edge file; a table of synapses.",
    ),
]


def _epilog(*lines: str) -> str:
    """Return commands as an epilog, where an empty line begins a new one."""
    return "\n\n".join(("Examples:", *lines))


class _Command(TyperCommand):
    """A command whose flags show no type, for they have no value; and that starts quickly.

    A list that is given twice is refused: the last would win over the others without a word, as is
    the custom for options of one value.
    """

    def get_params(self, ctx: Any) -> Any:
        return _prepared(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, in_turn = self.make_parser(ctx).parse_args(args=[*args])
        times_of: Counter[Any] = Counter(in_turn)
        for parameter, times in times_of.items():
            is_list = "," in str(parameter.metavar) and not parameter.multiple
            if is_list and times > 1:
                text = f"it is given {times} times; give it once, its values with commas between"
                raise typer.BadParameter(text, ctx=ctx, param=parameter)
        return super().parse_args(ctx, args)


class _Commands(TyperGroup):
    """The program itself, likewise."""

    def get_params(self, ctx: Any) -> Any:
        return _prepared(super().get_params(ctx))


def _prepared(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        typed = getattr(parameter, "get_runtime_param", None)  # which a later Typer may lack
        if typed is not None and not isinstance(typed, _Quick):
            parameter.get_runtime_param = _Quick(parameter.type_descriptor, typed)
    return parameters


@dataclass(frozen=True)
class _Quick:
    """What Typer asks to convert a parameter's value: text, paths and whole numbers.

    All else goes ``typed``, Typer's own way, by pydantic, whose import takes a tenth of a second.
    """

    descriptor: Any
    typed: Callable[[], Any]

    def __call__(self) -> _Quick:
        return self

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """Return a value, text as a rule, as the parameter's type."""
        kind, info = self.descriptor.annotation, self.descriptor.parameter_info
        if value is None or (kind is str and isinstance(value, str)):
            return () if value is None and param.multiple else value
        if kind is Path and isinstance(value, str) and not info.exists:
            return Path(value)
        if kind == list[str] and isinstance(value, list | tuple):
            return list(value)
        if kind is int and str(value).isdecimal() and int(value) >= (info.min or 0):
            return int(value)
        return self.typed().coerce(value, param=param, ctx=ctx)


app = typer.Typer(
    name="connprops",
    cls=_Commands,
    help="Statistics and models of the synapses of SONATA circuits.\n\n"
    "`connprops run CIRCUIT` does everything. export, extract, build and plot are its steps, each "
    "of which reads what the previous one has written. `connprops demo` tries it on a small "
    "circuit.\n\nExit codes: 0 done, 1 a defect of connprops, 2 invalid input, options or output, "
    "129 its terminal has gone, 130 interrupted, 141 its reader has gone, 143 terminated.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_epilog("connprops demo", "connprops run CIRCUIT"),
)


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"connprops {__version__}")
        raise typer.Exit


def command(
    *chosen: type | str, examples: tuple[str, ...]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a command of a function.

    Its parameter ``options`` gets a :class:`RunOptions` from the ``chosen`` options, classes of
    them or single ones, and a configuration file; ``progress`` what shows progress. Parameters
    that are not annotated for Typer are declared options as well. What the function returns is
    printed: text, or what a function writes to a stream.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        of_classes = (n for c in chosen for n in ([c] if isinstance(c, str) else names(c)))
        read = [n for n in of_classes if n in _READ and about(_DECLARED[n][1]).panel]
        name = function.__name__.replace("_", "-")
        app.command(name, cls=_Command, epilog=_epilog(*examples))(_as_command(function, read))
        return function

    return register


def _as_command(function: Callable[..., Any], read: list[str]) -> Callable[..., None]:
    """Return what Typer calls: with all options, and none of what the function is given."""
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if hasattr(p.annotation, "__metadata__")]
    rest = signature.parameters.keys() - {p.name for p in own}
    single = [n for n in signature.parameters if n in rest - {"options", "progress"}]
    common = ["config"] if {*read} - {*names(Resources)} else []
    if signature.return_annotation is not None and "quiet" not in single:
        common.append("quiet")
    common.append("debug")

    @wraps(function)
    def command(**arguments: Any) -> None:
        asked = {n: arguments.pop(n) for n in common}
        quiet = bool(asked.get("quiet") or arguments.get("quiet"))
        with errors(debug=bool(asked["debug"])):
            _check_texts([*asked.values(), *arguments.values()])
            silent = quiet or "progress" not in rest  # a bar would take hold of standard output
            with collected_warnings() as texts, show_progress(quiet=silent) as progress:
                values = {n: _from_text(n, arguments.pop(n)) for n in read}
                for n in single:
                    arguments[n] = checked(*_DECLARED[n], _from_text(n, arguments[n]))
                if "options" in rest:
                    arguments["options"] = _options(asked.get("config"), values)
                if "progress" in rest:
                    arguments["progress"] = progress
                result = function(**arguments)
            if not quiet:
                show_warnings(texts)
            if callable(result) and not quiet:
                result(sys.stdout)
            elif result is not None and not quiet:
                say(result)

    listed = [_DECLARED[n][1] for n in (*single, *read, *common)]
    listed.sort(key=lambda declared: _PANELS.index(about(declared).panel))
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    parameters = [*keyword, *map(_parameter, listed)]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _check_texts(values: Iterable[Any]) -> None:
    """Refuse arguments that are no text: results have them in JSON and in tables."""
    for value in values:
        if isinstance(value, list | tuple):
            _check_texts(value)
        elif isinstance(value, str | Path) and not is_text(str(value)):
            raise OptionError.of("An argument is not UTF-8", found=ascii(str(value)))


def _parameter(declared: Field[Any]) -> inspect.Parameter:
    """Return what Typer makes an option of."""
    said = about(declared)
    default = said.default_text or declared.default
    is_shown = default not in (None, MISSING) and not isinstance(default, bool)
    help_text = said.help + " May be repeated." * said.repeated
    kind: Any = list[str] if said.repeated else str
    if declared.type == "bool":
        kind = bool
    elif said.from_text is None and str(declared.type).startswith("int"):
        kind = int
    name = declared.name.replace("_", "-")
    flag = f"--{name}/--no-{name}" if declared.default is True else f"--{name}"
    info = typer.Option(
        *(said.flags or (flag,)),
        metavar=said.metavar or None,
        help=f"{help_text} [default: {default}]" if is_shown else help_text,
        rich_help_panel=said.panel,
        show_default=False,
    )
    kind = Annotated[kind | None, info]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(declared.name, keyword, default=None, annotation=kind)


def argument(metavar: str, text: str) -> Any:
    """Return a positional argument of one command."""
    return typer.Argument(metavar=metavar, help=text)


def setting(metavar: str, text: str, *flags: str, panel: str | None = None, **more: Any) -> Any:
    """Return an option of one command; its flag is the parameter's name unless given."""
    return typer.Option(*flags, metavar=metavar or None, help=text, rich_help_panel=panel, **more)


def out(text: str, metavar: str = "OUT", panel: str = OUTPUT) -> Any:
    """Return the option that says where results go."""
    return setting(metavar, text, "--out", "-o", panel=panel)


def _from_text(name: str, value: Any) -> Any:
    read = about(_DECLARED[name][1]).from_text
    return read(value) if read is not None and value else value


def _options(config: str | None, values: Mapping[str, Any]) -> RunOptions:
    """Return options from a file and the command line."""
    options = read_options(config, **values)
    if options.limits.memory < _TIGHT:
        keep_fewer_heaps(give_back=True)
    else:
        reuse_freed_memory()
    return options
