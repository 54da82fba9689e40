"""Every option of the steps and of a run, and how configuration files are read.

A configuration file is TOML or JSON, flat, its keys the fields of :class:`RunOptions` and of
:class:`connprops.resources.Resources`::

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from connprops.declare import Checked, checked, names, option, shared
from connprops.display import Progress
from connprops.errors import OptionError
from connprops.resources import RESOURCES, Resources

Selection = str | Sequence[int] | Mapping[str, Any] | None
"""Nodes: all, a node set, ids, or attributes with a value or several, and ``node_set``."""

DistrType = str | Sequence[str]
Criterion = Literal["aicc", "bic", "held-out"]
TruncnormFit = Literal["mle", "histogram"]
Interpolation = Literal["pooled", "unweighted"]

SELECTION, STATISTICS, MODEL, OUTPUT = "Selection", "Statistics", "Model", "Input and output"
TABLE = "Tables instead of a circuit"


def parse_selection(text: str) -> Selection:
    """Return a selection from text: the name of a node set, or JSON with ids or attributes."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        selection: Selection = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OptionError.of(
            "A selection is no valid JSON",
            found=f"{text[:80]} ({error})",
            expected="""a node set's name, ids as [0, 1], or attributes as {"layer": ["4", "5"]}""",
        ) from error
    return selection


def parse_names(text: str) -> list[str]:
    """Return names from text that separates them by commas."""
    return [name for name in text.split(",") if name]


def parse_distr_types(texts: Sequence[str]) -> dict[str, DistrType]:
    """Return distributions by property from texts such as ``"u_syn=gamma"`` or ``"u_syn=a,b"``."""
    distr_types: dict[str, DistrType] = {}
    for text in texts:
        name, equals, families = text.partition("=")
        if not (name and equals and families):
            raise OptionError.of(
                "A distribution is not given as property=name",
                found=repr(text),
                expected="such as conductance=gamma, or conductance=gamma,lognormal to choose",
            )
        candidates = families.split(",")
        distr_types[name] = candidates if len(candidates) > 1 else families
    return distr_types


def _data_types(value: Any) -> Any:
    """Return ``"int"`` or ``"float"`` for each property: of a name, a type or a NumPy dtype."""
    if not isinstance(value, Mapping):
        return value
    data_types = {}
    for name, dtype in value.items():
        text = dtype if isinstance(dtype, str) else getattr(dtype, "__name__", str(dtype))
        kinds = [k for k in ("int", "float") if text.removeprefix("u").startswith(k)]
        if not kinds:
            raise OptionError.unknown(f"data type for property {name!r}", text, ["int", "float"])
        data_types[name] = kinds[0]
    return data_types


def _check_bins(bins: int | Sequence[float]) -> None:
    if isinstance(bins, Sequence) and not (
        len(bins) > 1 and all(lower < upper for lower, upper in pairwise(bins))
    ):
        raise OptionError.of(
            "hist_bins has no bins", found=repr(bins), expected="two or more increasing edges"
        )


def _check_bounds(data_bounds: Mapping[str, Sequence[float | None]]) -> None:
    for name, bounds in data_bounds.items():
        if len(bounds) != 2:  # noqa: PLR2004
            raise OptionError.of(
                f"data_bounds of property {name!r} are not two bounds",
                found=repr(bounds),
                expected="[lower, upper], of which either may be null",
            )
        lower, upper = bounds
        if lower is not None and upper is not None and lower > upper:
            raise OptionError.of(
                f"data_bounds of property {name!r} exclude everything",
                found=f"lower {lower} above upper {upper}",
            )


@dataclass(frozen=True, kw_only=True)
class EdgeOptions(Checked):
    """Which edges an export takes, how it groups their nodes, and where a table has what."""

    population: str | None = option(
        None, help="Edge population; needed where there are several and none is named default. "
        "A run takes several too: A,B or all, each in a folder of its own.",
        metavar="P", panel=SELECTION,
    )  # fmt: skip
    merge_populations: bool = option(
        default=False, help="Take several populations (--population A,B or all) as one, with the "
        "columns that all have; types are named with their population.", panel=SELECTION,
    )  # fmt: skip
    type: str | None = option(
        None, help="Node attribute that groups neurons, or @population, or @node.",
        default_text="mtype, or what a table of nodes has", metavar="T", panel=SELECTION,
    )  # fmt: skip
    source_type: str | None = option(
        None, help="The same for source neurons only; of a table without nodes, a column of it.",
        metavar="T", panel=SELECTION,
    )  # fmt: skip
    target_type: str | None = option(
        None, help="The same for target neurons only.", metavar="T", panel=SELECTION
    )
    where: str | None = option(
        None, help="Condition on columns of the edges, in SQL: only synapses that meet it count.",
        detail="Such as 'size > 100 and confidence >= 0.7'. Labels are text there, and what is "
        "compared with a missing value does not count.",
        metavar="SQL", panel=SELECTION,
    )  # fmt: skip
    min_syn_per_conn: int = option(
        1, help="Connections of fewer synapses than N do not count.", at_least=1,
        metavar="N", panel=SELECTION,
    )  # fmt: skip
    nominal: Sequence[str] = option(
        factory=tuple, help="Whole-number columns of the edges whose values are labels.",
        expected="a list of columns", from_text=parse_names, metavar="A,B", panel=SELECTION,
    )  # fmt: skip
    untyped: Literal["keep", "leave-out"] | None = option(
        None, help="Neurons whose type is not known, and in tables those that no table of nodes "
        "lists: keep, as of the type (none), or leave-out.",
        default_text="leave-out in tables, keep in circuits", metavar="WHAT", panel=SELECTION,
    )  # fmt: skip
    nodes: Any = option(
        None, help="Table of the nodes of a table of edges; or nodes.h5 of an edge file.",
        detail="In Python also a frame, or what streams as Arrow.", from_text=str,
        metavar="FILE", panel=TABLE, is_checked=False,
    )  # fmt: skip
    source: str | None = option(
        None, help="Column of a table of edges that names source neurons.",
        default_text="as its name says", metavar="C", panel=TABLE,
    )  # fmt: skip
    target: str | None = option(
        None, help="Column that names target neurons.", default_text="as its name says",
        metavar="C", panel=TABLE,
    )  # fmt: skip
    node_id: str | None = option(
        None, help="Column of the table of nodes that source and target refer to.",
        default_text="as its name says", metavar="C", panel=TABLE,
    )  # fmt: skip
    count: str | None = option(
        None, help="Column that says of how many synapses a row stands.",
        default_text="as its name says, or one each", metavar="C", panel=TABLE,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Checked):
    """What is described, of which nodes, and in how much detail."""

    min_sample_size_per_group: int | None = option(
        None, help="Pathways with fewer connections have no statistics; their model is borrowed.",
        at_least=0, metavar="N", panel=STATISTICS,
    )  # fmt: skip
    max_sample_size_per_group: int | None = option(
        None, help="Of pathways with more connections, a random subset of this size is described.",
        detail="It consists of those with the smallest hash of seed, source and target. So the "
        "subset is the same whatever else is selected, and that of a larger limit contains that "
        "of a smaller.",
        at_least=0, metavar="N", panel=STATISTICS,
    )  # fmt: skip
    hist_bins: int | Sequence[float] = option(
        51, help="Bins of each histogram.", detail="Their number, or their increasing edges.",
        at_least=1, expected="a whole number, at least 1, or a list of increasing edges",
        check=_check_bins,
        metavar="N", panel=STATISTICS,
    )  # fmt: skip
    sel_props: Sequence[str] | None = option(
        None, help="Properties to describe; n_syn_per_conn is always among them.",
        default_text="all but delays, spine lengths and positions", expected="a list of properties",
        from_text=parse_names, metavar="A,B", panel=SELECTION,
    )  # fmt: skip
    sel_src: Selection = option(
        None, help="Source neurons: a node set, ids such as [0, 1], or attributes such as "
        '{"layer": "4"}.',
        detail="An attribute has a value or a list of values, and all attributes must hold. The "
        "key node_set restricts them to a node set.",
        default_text="all", expected="a node set's name, a list of ids, or a table of attributes",
        from_text=parse_selection, metavar="X", panel=SELECTION,
    )  # fmt: skip
    sel_dest: Selection = option(
        None, help="The same for target neurons.", default_text="all",
        expected="a node set's name, a list of ids, or a table of attributes",
        from_text=parse_selection, metavar="X", panel=SELECTION,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FitOptions(Checked):
    """How distributions are chosen and fitted."""

    distr_types: Mapping[str, DistrType] = option(
        factory=dict, help="Distribution of a property; of several, the data choose.",
        detail="For each property a name, a list of candidates, or 'auto' for all that suit the "
        "data. The evidence of all pathways together decides among candidates; with "
        "'auto-per-pathway' each pathway chooses for itself.",
        default_text="the data choose among all that suit them", from_text=parse_distr_types,
        flags=("--distr-type",), metavar="P=NAME", panel=MODEL, repeated=True,
    )  # fmt: skip
    criterion: Criterion = option(
        "aicc", help="What the data choose a distribution by: aicc, bic or held-out.",
        metavar="C", panel=MODEL,
    )  # fmt: skip
    data_types: Mapping[str, str] = option(
        factory=dict, help="For each property 'int' or 'float', the type of drawn values.",
        default_text="that of the data", convert=_data_types,
    )  # fmt: skip
    data_bounds: Mapping[str, Sequence[float | None]] = option(
        factory=dict, help="For each property the lower and the upper bound of drawn values; "
        "either may be None.",
        expected="for each property [lower, upper], of which either may be null",
        check=_check_bounds,
    )  # fmt: skip
    shared_within: Mapping[str, bool] = option(
        factory=dict, help="For each property whether all synapses of a connection share a value.",
        default_text="as in the data",
    )  # fmt: skip
    truncnorm: TruncnormFit = option(
        "mle", help="How a truncated normal is fitted: mle, or histogram, as "
        "connectome-manipulator does.",
        detail="Fits to histograms have no standard errors and no p-values.",
        metavar="M", panel=MODEL,
    )  # fmt: skip
    interpolation: Interpolation = option(
        "pooled", help="How pathways without data borrow: pooled samples, or unweighted means of "
        "parameters, as connectome-manipulator does.",
        detail="With unweighted, the majority of the pathways borrowed from decides whether "
        "connections share a value, and a tie means no.",
        metavar="M", panel=MODEL,
    )  # fmt: skip
    shrinkage: bool = option(
        default=True,
        help="Pathways with few values, or none, borrow from similar ones, weighed by evidence.",
        detail="The column borrowed of the fits says how much, own_value of the model what the "
        "pathway's own values give alone. Truncated normals through histograms and unweighted "
        "interpolation, as connectome-manipulator has them, turn it off.", panel=MODEL,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truncnorm == "histogram" or self.interpolation == "unweighted":
            object.__setattr__(self, "shrinkage", False)


AUTO, AUTO_PER_PATHWAY = "auto", "auto-per-pathway"


@dataclass(frozen=True, kw_only=True)
class ExtraOptions(Checked):
    """What a model has beside its distributions."""

    p_values: int | None = option(
        None, help="A p-value for each fit, from N simulated samples, 200 say; takes N times as "
        "long.",
        detail="The p-value is that of the Kolmogorov-Smirnov distance.",
        at_least=19, metavar="N", panel=MODEL,
    )  # fmt: skip
    correlations: bool = option(
        default=False,
        help="Correlations between properties too; takes another pass over the data.",
        detail="A Gaussian copula holds them.", panel=MODEL,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SeedOptions(Checked):
    """What random choices depend on."""

    seed: int = option(0, help="Seed of all random choices.", metavar="N", panel=STATISTICS)


@dataclass(frozen=True, kw_only=True)
class LimitOptions(Checked):
    """What a step may use; no number depends on it."""

    resources: Resources | None = option(
        None, help="Threads, memory, temporary folder and workers.",
        default_text="what the machine allows", is_checked=False,
    )  # fmt: skip

    @property
    def limits(self) -> Resources:
        """Return the resources, those of the machine where none are named."""
        return self.resources or Resources()


@dataclass(frozen=True, kw_only=True)
class StepOptions(LimitOptions):
    """What a step may use, and whom it tells; no number depends on it."""

    progress: Progress | None = option(
        None, help="Called with step, units done, units in all, and the unit's name.",
        is_checked=False,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GroupOptions(Checked):
    """What statistics in Python can be of, beside what a run describes."""

    edges_popul_name: str | None = option(
        None, help="Edge population of a circuit; that of a dataset is compared with it."
    )
    by: str | tuple[str, str] | None = option(
        None, help="Groups instead of the dataset's types: a node attribute such as 'layer', "
        "'@population' for all nodes of a side together, '@node' for each node apart.",
        detail="A pair gives the groups of sources and of targets; ('@node', '@node') gives one "
        "row per connection.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExportOptions(StepOptions, EdgeOptions):
    """Options of :func:`connprops.export.export.export`."""

    properties: Sequence[str] | None = option(
        None,
        help="Edge columns to export.",
        default_text="all but positions, sections and dynamics",
    )
    overwrite: bool = option(
        default=False, help="Replace earlier results of other input or other options.",
        detail="A damaged dataset is replaced too.", panel=OUTPUT,
    )  # fmt: skip
    resume: bool = option(
        default=True, help="Continue from the finished parts of an interrupted export.",
        flags=("--resume/--no-resume",), panel=OUTPUT,
    )  # fmt: skip
    verify: bool = option(
        default=False, help="Compare all bytes of the edge file with those of earlier results, not "
        "only its size, time and samples.", panel=OUTPUT,
    )  # fmt: skip
    shard: str | tuple[int, int] | None = option(
        None, help="Do the I-th of N shares of the work only, as a job of an array; "
        "`connprops merge` puts them together.",
        detail="Such as '3/20' or (3, 20). A shard that runs again continues from its finished "
        "parts.",
        metavar="I/N", panel=RESOURCES,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TableOptions(ExportOptions):
    """Options of :func:`connprops.open_table`."""

    folder: str | Path | None = option(
        None, help="Folder of the dataset.", is_checked=False,
        default_text="NAME-connprops/dataset, NAME the table's",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(StepOptions, SeedOptions, GroupOptions, SampleOptions):
    """Options of :func:`connprops.extract`."""

    CV_dict: Mapping[str, Any] | None = option(
        None, help="Cross-validation: n_folds, fold_idx and training_set.",
        detail="Selected nodes of each side are split into folds; training takes those outside "
        "the fold, test those in it.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class BuildOptions(StepOptions, SeedOptions, ExtraOptions, FitOptions):
    """Options of :func:`connprops.build`."""


@dataclass(frozen=True, kw_only=True)
class CrossValidateOptions(StepOptions, SeedOptions, FitOptions, GroupOptions, SampleOptions):
    """Options of :func:`connprops.cross_validate`."""

    cv_folds: int = option(
        5, help="Number of parts; each in turn is held back and predicted.",
        at_least=2, metavar="N", panel=STATISTICS,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunOptions(LimitOptions, SeedOptions, ExtraOptions, FitOptions, SampleOptions, EdgeOptions):
    """What a run computes, of which part of a circuit, and with which resources."""

    json_at_most: int = option(
        5_000_000, help="Numbers up to which model.json is written; 0 for none.",
        detail="That format has each pathway by itself, also those without data, and lists of "
        "values where it lacks a distribution.",
        at_least=0, metavar="N", panel=MODEL,
    )  # fmt: skip
    expected: str | None = option(
        None, help="Parquet table of expected means, which the report compares data and model "
        "with: source_type, target_type, property and mean.",
        metavar="FILE", from_text=str, panel=OUTPUT,
    )  # fmt: skip

    @property
    def columns(self) -> list[str] | None:
        """Return the columns of the edges that the properties to describe are; None for all."""
        from connprops.schema import N_SYN_PER_CONN  # with Polars, which help does without

        if self.sel_props is None:
            return None
        return [name for name in self.sel_props if name != N_SYN_PER_CONN]

    def edges(self) -> dict[str, Any]:
        """Return what an export takes of the circuit."""
        return {**shared(self, EdgeOptions), "properties": self.columns}

    def of(self, step: type) -> dict[str, Any]:
        """Return those options that a step takes, by name."""
        return shared(self, step)

    def numbers_depend_on(self) -> dict[str, Any]:
        """Return, as JSON has it, all options but resources: they change no number."""
        content = {n: getattr(self, n) for n in names(RunOptions) if n != "resources"}
        return dict(json.loads(json.dumps(content)))


def read_options(config: str | Path | None = None, **overrides: Any) -> RunOptions:
    """Return the options of a configuration file; those given beside it go first, unless None."""
    values = _checked({n: value for n, value in overrides.items() if value is not None}, "")
    if config is not None:
        for name, value in _checked(_read_config(Path(config)), f" in {config}").items():
            by_property = isinstance(value, dict) and not name.startswith("sel_")
            values[name] = (
                {**value, **values.get(name, {})} if by_property else values.get(name, value)
            )
    limits = {name: values.pop(name) for name in names(Resources) if name in values}
    return RunOptions(**values, resources=Resources(**limits))


def _checked(content: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the options of one origin, each one known and of its type."""
    declared = {f.name: (cls, f) for cls in (RunOptions, Resources) for f in fields(cls)}
    del declared["resources"]
    values = {}
    for name, value in content.items():
        if name not in declared:
            raise OptionError.unknown(f"option{origin}", name, declared)
        try:
            values[name] = checked(*declared[name], value)
        except OptionError as error:
            fact, *lines = str(error).splitlines()
            raise OptionError("\n".join([f"{fact}{origin}", *lines])) from error
    return values


def _read_config(file: Path) -> dict[str, Any]:
    import tomllib  # takes time, which help does without

    readers: dict[str, Callable[[str], Any]] = {".toml": tomllib.loads, ".json": json.loads}
    if file.suffix not in readers:
        raise OptionError.unknown("kind of configuration file", file.name, ["*.toml", "*.json"])
    try:
        content = readers[file.suffix](file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError.of(f"{file} cannot be read as options", found=str(error)) from error
    if not isinstance(content, dict):
        raise OptionError.of(f"{file} holds no options", found=type(content).__name__)
    return content
