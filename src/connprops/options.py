"""Options of a run: from a configuration file and the command line to one checked object.

A configuration file is TOML or JSON, flat, its keys the fields of :class:`RunOptions`::

    population = "default"
    min_sample_size_per_group = 10
    sel_src = { synapse_class = "EXC" }
    memory = "4GB"
    [distr_types]
    conductance = "gamma"
    u_syn = ["truncnorm", "beta"]
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from connprops.errors import OptionError
from connprops.resources import Resources, parse_memory

Selection = str | Sequence[int] | Mapping[str, Any] | None


@dataclass(frozen=True)
class RunOptions:
    """What a run computes, of which part of a circuit, and with which means.

    The fields are the arguments of ``export.export.export``, ``extract`` and ``build``,
    where they are explained; ``threads``, ``memory`` (bytes), ``temp_dir`` and ``workers`` those of
    :class:`connprops.resources.Resources`, None for its defaults.
    """

    population: str | None = None
    source_type: str = "mtype"
    target_type: str = "mtype"
    sel_src: Selection = None
    sel_dest: Selection = None
    sel_props: tuple[str, ...] | None = None
    min_sample_size_per_group: int | None = None
    max_sample_size_per_group: int | None = None
    hist_bins: int | tuple[float, ...] = 51
    seed: int = 0
    distr_types: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    data_types: Mapping[str, Any] = field(default_factory=dict)
    data_bounds: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    shared_within: Mapping[str, bool] = field(default_factory=dict)
    criterion: str = "aicc"
    truncnorm: str = "mle"
    interpolation: str = "pooled"
    shrinkage: bool = False
    p_values: int | None = None
    correlations: bool = False
    threads: int | None = None
    memory: int | None = None
    temp_dir: Path | None = None
    workers: int | str | None = None

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Return the edge columns that the export must have; None for the default ones."""
        if self.sel_props is None:
            return None
        return tuple(name for name in self.sel_props if name != "n_syn_per_conn")

    def resources(self) -> Resources:
        """Return the limits of the run."""
        given = {"threads": self.threads, "memory": self.memory, "temp_dir": self.temp_dir,
                 "workers": self.workers}  # fmt: skip
        return Resources(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def export(self) -> dict[str, Any]:
        """Return the arguments of ``export.export.export`` that stand for these options."""
        return {
            "population": self.population,
            "source_type": self.source_type,
            "target_type": self.target_type,
            "properties": self.columns,
        }

    def extract(self) -> dict[str, Any]:
        """Return the arguments of :func:`connprops.extract`."""
        return self._picked(
            "sel_src", "sel_dest", "sel_props", "min_sample_size_per_group",
            "max_sample_size_per_group", "hist_bins", "seed",
        )  # fmt: skip

    def build(self) -> dict[str, Any]:
        """Return the arguments of :func:`connprops.build`."""
        return self._picked(
            "distr_types", "data_types", "data_bounds", "shared_within", "criterion", "truncnorm",
            "interpolation", "shrinkage", "p_values", "correlations", "seed",
        )  # fmt: skip

    def cross_validate(self) -> dict[str, Any]:
        """Return the arguments of :func:`connprops.cross_validate`."""
        given = {**self.extract(), **self.build(), "edges_popul_name": self.population}
        for name in (
            "p_values",
            "correlations",
        ):  # they say nothing of the test part's distributions
            del given[name]
        return given

    def numbers_depend_on(self) -> dict[str, Any]:
        """Return, as JSON has it, all options but those of means: they change no number."""
        content = asdict(self)
        for means in ("threads", "memory", "temp_dir", "workers"):
            del content[means]
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    def _picked(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


def read_options(config: str | Path | None = None, **given: Any) -> RunOptions:
    """Return the options of a configuration file, overridden by those given and not None.

    Raises
    ------
    OptionError
        Where the file cannot be read, an option is unknown, or its value is of a wrong kind.
    """
    options = RunOptions()
    origins = [] if config is None else [(f" in {config}", _read_config(Path(config)))]
    origins.append(("", {name: value for name, value in given.items() if value is not None}))
    for origin, content in origins:
        options = _with(options, content, origin)
    return options


def parse_selection(text: str) -> Selection:
    """Return a selection from text: the name of a node set, or JSON with ids or attributes.

    Raises
    ------
    OptionError
        Where the text begins like JSON and is none.
    """
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        found: Selection = json.loads(text)
    except ValueError as error:
        raise OptionError.of(
            "A selection is no valid JSON",
            found=f"{text} ({error})",
            expected="""a node set's name, ids as [0, 1], or attributes as {"layer": ["4", "5"]}""",
        ) from error
    return found


def parse_distr_types(texts: Sequence[str]) -> dict[str, str | list[str]]:
    """Return distributions by property from texts such as ``"u_syn=gamma"`` or ``"u_syn=a,b"``.

    Raises
    ------
    OptionError
        Where a text is not of that form.
    """
    found: dict[str, str | list[str]] = {}
    for text in texts:
        name, equals, families = text.partition("=")
        if not (name and equals and families):
            raise OptionError.of(
                "A distribution is not given as property=name",
                found=repr(text),
                expected="such as conductance=gamma, or conductance=gamma,lognormal to choose",
            )
        several = families.split(",")
        found[name] = several if len(several) > 1 else families
    return found


def _read_config(file: Path) -> dict[str, Any]:
    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}
    if file.suffix not in readers:
        raise OptionError.unknown("kind of configuration file", file.name, ["*.toml", "*.json"])
    try:
        content = readers[file.suffix](file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError.of(f"{file} cannot be read as options", found=str(error)) from error
    if not isinstance(content, dict):
        raise OptionError.of(f"{file} holds no options", found=type(content).__name__)
    return content


def _with(options: RunOptions, content: Mapping[str, Any], origin: str) -> RunOptions:
    """Return the options with some replaced, each known and of its kind; dicts are merged."""
    known = [f.name for f in fields(RunOptions)]
    changed = {}
    for name, value in content.items():
        if name not in known:
            raise OptionError.unknown(f"option{origin}", name, known)
        accepts, expected, convert = _KINDS[name]
        if not accepts(value):
            raise OptionError.of(
                f"Option {name!r}{origin} is of the wrong kind",
                found=repr(value),
                expected=expected,
            )
        changed[name] = convert(value)
        if isinstance(changed[name], dict) and name not in ("sel_src", "sel_dest"):
            changed[name] = {**getattr(options, name), **changed[name]}
    return replace(options, **changed)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)


def _are_edges(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in value)
        and len(value) > 1
        and all(a < b for a, b in pairwise(value))
    )


_Kind = tuple[Callable[[Any], bool], str, Callable[[Any], Any]]
_TEXT: _Kind = (_is_text, "text", str)
_WHOLE: _Kind = (_is_whole, "a whole number", int)
_SIZE: _Kind = (lambda v: _is_whole(v) and v > 0, "a whole number, at least 1", int)
_BY_PROPERTY: _Kind = (lambda v: isinstance(v, dict), "a table with properties as keys", dict)
_SELECTION: _Kind = (
    lambda v: isinstance(v, str | list | dict),
    "a node set's name, a list of ids, or a table of attributes",
    lambda v: v,
)
_KINDS: Mapping[str, _Kind] = {
    "population": _TEXT,
    "source_type": _TEXT,
    "target_type": _TEXT,
    "sel_src": _SELECTION,
    "sel_dest": _SELECTION,
    "sel_props": (_are_texts, "a list of properties", tuple),
    "min_sample_size_per_group": _SIZE,
    "max_sample_size_per_group": _SIZE,
    "hist_bins": (
        lambda v: (_is_whole(v) and v > 0) or _are_edges(v),
        "a whole number, at least 1, or a list of increasing edges",
        lambda v: v if _is_whole(v) else tuple(v),
    ),
    "seed": _WHOLE,
    "distr_types": _BY_PROPERTY,
    "data_types": _BY_PROPERTY,
    "data_bounds": _BY_PROPERTY,
    "shared_within": _BY_PROPERTY,
    "criterion": _TEXT,
    "truncnorm": _TEXT,
    "interpolation": _TEXT,
    "shrinkage": (lambda v: isinstance(v, bool), "true or false", bool),
    "p_values": _SIZE,
    "correlations": (lambda v: isinstance(v, bool), "true or false", bool),
    "threads": _SIZE,
    "memory": (
        lambda v: _is_text(v) or _is_whole(v),
        'bytes, or text such as "4GB"',
        lambda v: v if _is_whole(v) else parse_memory(v),
    ),
    "temp_dir": (lambda v: isinstance(v, str | Path), "a folder", Path),
    "workers": (
        lambda v: _is_text(v) or (_is_whole(v) and v > 0),
        "a number of processes, or a Dask scheduler's address such as tcp://host:8786",
        lambda v: int(v) if str(v).isdigit() else v,
    ),
}
