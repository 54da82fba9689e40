"""The reference's framework: from its configuration file to data, models and figures.

Files go where the reference puts them. An extraction, or a model, is reused only where circuit
and options are what they were; what is done, and why, is said.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from connprops.circuit.circuit import resolve_circuit
from connprops.compat.conn_props import build, exported, plot
from connprops.compat.conn_props_model import ConnPropsModel
from connprops.compat.errors import CompatError
from connprops.display import Progress
from connprops.errors import ConnpropsError, ConnpropsWarning, DatasetError, OptionError, listing
from connprops.model.reference_json import as_text
from connprops.statistics.extract import extract, extract_folds
from connprops.statistics.statistics import Statistics, read_statistics
from connprops.store import sealed
from connprops.store.folder import write_text

SEED = 123456
"""The reference's, where a configuration names none."""

_EXTRACT = ("min_sample_size_per_group", "max_sample_size_per_group", "hist_bins", "sel_props",
            "sel_src", "sel_dest")  # fmt: skip
_BUILD = ("distr_types", "data_types", "data_bounds", "shared_within")
_OTHERS = ("edges_popul_name", "plot_sample_size")

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Function:
    source: str
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True)
class _Model:
    name: str
    fct: _Function


@dataclass(frozen=True)
class ModelConfig:
    """A configuration: what is built of what, and where the files go.

    Relative paths start from the working folder, as the reference's do.
    """

    circuit_config: str
    working_dir: str
    out_dir: str
    model: _Model
    seed: int = SEED
    CV_folds: int | None = None

    @classmethod
    def of(cls, content: Any, file: Path) -> ModelConfig:
        """Read the configuration out of a file's content, and check it."""
        try:
            config = msgspec.convert(content, cls, strict=False)
        except msgspec.ValidationError as error:
            raise OptionError.of(
                f"{file} does not configure the building of a model",
                found=str(error),
                expected="circuit_config, working_dir, out_dir, model: {name, fct: {source, "
                "kwargs}}, and optionally seed and CV_folds",
            ) from error
        if config.model.fct.source != "conn_props":
            what = f"kind of model in {file}"
            raise OptionError.unknown(what, config.model.fct.source, ["conn_props"])
        if not Path(config.circuit_config).exists():
            beside = file.parent / config.circuit_config
            raise OptionError.of(
                f"{file}: there is no circuit at {config.circuit_config}",
                hint=f"relative paths start from the working folder, {Path.cwd()}"
                + (f"; go to {file.parent}" if beside.exists() else ""),
            )
        unknown = [name for name in config.kwargs if name not in (*_EXTRACT, *_BUILD, *_OTHERS)]
        if unknown:
            text = f"{file}: kwargs that nothing takes: {listing(unknown)}"
            warnings.warn(text, ConnpropsWarning, stacklevel=3)
        return config

    @property
    def kwargs(self) -> dict[str, Any]:
        """Return the arguments of the reference's functions."""
        return self.model.fct.kwargs or {}

    def arguments(self, *names: str) -> dict[str, Any]:
        """Return those of some arguments that the configuration gives."""
        return {name: self.kwargs[name] for name in names if name in self.kwargs}


def build_model(
    config_file: str | Path,
    *,
    force_reextract: bool = False,
    force_rebuild: bool = False,
    cv_folds: int | None = None,
    say: Say = lambda _: None,
    progress: Progress | None = None,
) -> list[Path]:
    """Extract, build and plot as a configuration file of the reference says; return model files.

    Files, NAME being the model's and PART nothing or, with n folds, ``CVn-i-train`` and
    ``CVn-i-test``: the circuit's dataset in ``working_dir/data/NAME__dataset``, statistics in
    ``working_dir/data/NAME__PART``, models in ``working_dir/model/NAME__PART.json``, figures in
    ``out_dir/output/NAME/PART``, and the configuration in ``out_dir/output/NAME``. Models are
    built on training data, and plotted against both.

    ``cv_folds`` goes before that of the file; ``say`` is told what is done, and why.
    """
    file = Path(config_file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError.of(f"{file} cannot be read as JSON", found=str(error)) from error
    contents = content if isinstance(content, list) else [content]
    configs = [ModelConfig.of(entry, file) for entry in contents]
    again = {"reextract": force_reextract, "rebuild": force_rebuild}
    models: list[Path] = []
    for config, entry in zip(configs, contents, strict=True):
        folds = config.CV_folds if cv_folds is None else cv_folds
        parts = _parts(config, folds or 1, progress)
        out_dir = Path(config.out_dir, "output", config.model.name)
        text = json.dumps(entry, indent=2) + "\n"
        write_text(out_dir / "model_config.json", text, overwrite=True)
        models += [_built(config, sets, out_dir, say, **again) for sets in parts]
    return models


def _parts(
    config: ModelConfig, folds: int, progress: Progress | None
) -> Iterator[dict[str, Statistics]]:
    """Return for each model its training statistics, and those to test it, by the files' suffix."""
    population, columns = (config.kwargs.get(key) for key in ("edges_popul_name", "sel_props"))
    folder = Path(config.working_dir, "data", f"{config.model.name}__dataset")
    circuit = resolve_circuit(config.circuit_config)
    dataset = exported(circuit, folder, population, columns, progress)
    options = {**config.arguments(*_EXTRACT), "seed": config.seed, "progress": progress}
    if folds <= 1:
        return iter([{"": extract(dataset, **options)}])
    return (
        {f"CV{folds}-{i}-train": fold.training, f"CV{folds}-{i}-test": fold.test}
        for i, fold in enumerate(extract_folds(dataset, folds, **options), start=1)
    )


def _built(
    config: ModelConfig,
    sets: Mapping[str, Statistics],
    out_dir: Path,
    say: Say,
    *,
    reextract: bool,
    rebuild: bool,
) -> Path:
    """Build a model of the first set of statistics, and plot it against all; return its file."""
    options = config.arguments(*_BUILD)
    families = options.get("distr_types") or {}
    truncated = [name for name, family in families.items() if family == "truncnorm"]
    model: ConnPropsModel | None = None
    for suffix, computed in sets.items():
        name = f"{config.model.name}__{suffix}" if suffix else config.model.name
        folder = Path(config.working_dir, "data", name)
        stats = "--force-reextract" if reextract else _reusable_statistics(folder, computed)
        if isinstance(stats, str):
            say(f"{folder}: extracted ({stats})")
            computed.write(folder, overwrite=True)
            stats = computed
        else:
            say(f"{folder}: reused, circuit and options are the same")
        arrays = stats.to_arrays(order=config.kwargs.get("sel_props"), fitted=truncated)
        training = model is None
        if model is None:
            file = Path(config.working_dir, "model", f"{name}.json")
            text = json.dumps(stats.facts(), sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()
            facts = {"statistics": digest, "options": options}
            reusable = "--force-rebuild" if rebuild else _reusable_model(file, facts)
            if isinstance(reusable, str):
                say(f"{file}: built ({reusable})")
                model = build(**arrays, **options)
                parts = (model.src_types, model.tgt_types, model.prop_stats, model.prop_cov)
                write_text(file, as_text(*parts, built_from=facts), overwrite=True)
            else:
                say(f"{file}: reused, statistics and options are the same")
                model = reusable
        try:
            plot(out_dir / suffix, **arrays, model=model, **config.arguments("plot_sample_size"))
        except CompatError as error:
            if training:
                raise
            warnings.warn(f"{name}: {error}", ConnpropsWarning, stacklevel=2)
    return file


def _reusable_statistics(folder: Path, computed: Statistics) -> Statistics | str:
    """Return the statistics of a folder if they are those to be computed, else why not."""
    if not folder.exists():
        return "not there yet"
    try:
        existing = read_statistics(folder)
    except ConnpropsError as error:
        return str(error).splitlines()[0]
    old, new = (json.loads(json.dumps(stats.facts())) for stats in (existing, computed))
    if old == new:
        return existing
    options = [
        f"{name} was {old['options'].get(name)}, is {value}"
        for name, value in new["options"].items()
        if old["options"].get(name) != value
    ]
    by_version = [key for key in new if old.get(key) != new[key]] == ["versions"]
    other = "computed by other versions" if by_version else "the circuit has changed"
    return "; ".join(options) or other


def _reusable_model(file: Path, facts: Mapping[str, Any]) -> ConnPropsModel | str:
    """Return the model of a file if it was built of the same, else why not."""
    if not file.exists():
        return "not there yet"
    try:
        with file.open("rb") as opened:
            content = json.loads(sealed.checked(opened, file))
        origin = content["__version_info__"]["built_from"]
        changed = [name for name in facts if origin.get(name) != facts[name]]
    except DatasetError as error:
        return str(error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "of unknown origin"
    return f"other {' and '.join(changed)}" if changed else ConnPropsModel.model_from_file(file)
