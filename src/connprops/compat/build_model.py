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
from functools import partial
from pathlib import Path
from typing import Any

from connprops.circuit.circuit import open_circuit
from connprops.compat.conn_props import build, exported, plot
from connprops.compat.conn_props_model import ConnPropsModel
from connprops.compat.errors import CompatError
from connprops.errors import ConnpropsError, ConnpropsWarning, OptionError, listing
from connprops.model.reference_json import as_text
from connprops.progress import Progress
from connprops.statistics.arrays import to_arrays
from connprops.statistics.extract import extract, extract_folds
from connprops.statistics.statistics import Statistics, read_statistics
from connprops.store.writing import write_text

SEED = 123456
"""The reference's, where a configuration names none."""

_EXTRACT = (
    "min_sample_size_per_group", "max_sample_size_per_group", "hist_bins", "sel_props", "sel_src",
    "sel_dest",
)  # fmt: skip
_POPULATION = "edges_popul_name"
_BUILD = ("distr_types", "data_types", "data_bounds", "shared_within")
_PLOT = ("plot_sample_size",)

Say = Callable[[str], None]


@dataclass(frozen=True)
class ModelConfig:
    """A configuration: what is built of what, and where the files go.

    Relative paths start from the working folder, as the reference's do.
    """

    name: str
    circuit: Path
    working_dir: Path
    out_dir: Path
    seed: int
    cv_folds: int
    kwargs: Mapping[str, Any]
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, content: Any, file: Path) -> ModelConfig:
        """Read the configuration out of a file's content.

        Raises
        ------
        OptionError
            Where an entry is missing, or asks for another kind of model.
        """
        try:
            function = content["model"]["fct"]
            source, kwargs = function["source"], function.get("kwargs") or {}
            config = cls(
                name=str(content["model"]["name"]),
                circuit=Path(content["circuit_config"]),
                working_dir=Path(content["working_dir"]),
                out_dir=Path(content["out_dir"]),
                seed=int(content.get("seed", SEED)),
                cv_folds=int(content.get("CV_folds") or 1),
                kwargs=dict(kwargs),
                raw=content,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise OptionError.of(
                f"{file} does not configure the building of a model",
                found=f"{type(error).__name__}: {error}",
                expected="circuit_config, working_dir, out_dir, model: {name, fct: {source, "
                "kwargs}}, and optionally seed and CV_folds",
            ) from error
        if source != "conn_props":
            raise OptionError.unknown(f"kind of model in {file}", source, ["conn_props"])
        if not config.circuit.exists():
            beside = file.parent / config.circuit
            raise OptionError.of(
                f"{file}: there is no circuit at {config.circuit}",
                hint=f"relative paths start from the working folder, {Path.cwd()}"
                + (f"; go to {file.parent}" if beside.exists() else ""),
            )
        known = [*_EXTRACT, _POPULATION, *_BUILD, *_PLOT]
        unknown = [name for name in kwargs if name not in known]
        if unknown:
            warnings.warn(
                f"{file}: kwargs that nothing takes: {listing(unknown)}",
                ConnpropsWarning,
                stacklevel=3,
            )
        return config

    def given(self, *names: str) -> dict[str, Any]:
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
    """Extract, build and plot as a configuration file of the reference says.

    Files, NAME being the model's and PART nothing or, with n folds, ``CVn-i-train`` and
    ``CVn-i-test``: the circuit's dataset in ``working_dir/data/NAME__dataset``, statistics in
    ``working_dir/data/NAME__PART``, models in ``working_dir/model/NAME__PART.json``, figures in
    ``out_dir/output/NAME/PART``, and the configuration in ``out_dir/output/NAME``. Models are
    built on training data, and plotted against both.

    Parameters
    ----------
    config_file
        The file; a list of configurations in it is worked off one by one.
    force_reextract, force_rebuild
        Do anew also what could be reused.
    cv_folds
        Number of folds, before that of the file; 1 for none.
    say
        Told what is done, and why.
    progress
        Called as work gets done.

    Returns
    -------
    list of Path
        The model files.

    Raises
    ------
    OptionError, CircuitError, OutputError, CompatError
        Where the file, the circuit or an option will not do, or the output cannot be written.
    """
    file = Path(config_file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OptionError.of(f"{file} cannot be read as JSON", found=str(error)) from error
    several = content if isinstance(content, list) else [content]
    configs = [ModelConfig.of(one, file) for one in several]
    models: list[Path] = []
    for config in configs:
        folds = config.cv_folds if cv_folds is None else cv_folds
        models += _built(config, folds, _Reuse(force_reextract, force_rebuild, say), progress)
    return models


@dataclass(frozen=True)
class _Reuse:
    """Whether what an earlier run left may be reused, and whom to tell."""

    force_reextract: bool
    force_rebuild: bool
    say: Say

    def statistics(self, wanted: Statistics, folder: Path) -> Statistics:
        """Return the statistics of a folder if they are the wanted ones, else compute these."""
        reason = "--force-reextract" if self.force_reextract else ""
        if not reason and not folder.exists():
            reason = "not there yet"
        if not reason:
            try:
                found = read_statistics(folder)
                reason = _difference(found, wanted)
            except ConnpropsError as error:
                reason = str(error).splitlines()[0]
        if not reason:
            self.say(f"{folder}: reused, circuit and options are the same")
            return found
        self.say(f"{folder}: extracted ({reason})")
        wanted.write(folder, overwrite=True)
        return wanted

    def model(
        self, file: Path, facts: Mapping[str, Any], make: Callable[[], ConnPropsModel]
    ) -> ConnPropsModel:
        """Return the model of a file if it was built of the same, else build it."""
        reason = "--force-rebuild" if self.force_rebuild else ""
        if not reason and not file.exists():
            reason = "not there yet"
        if not reason:
            try:
                content = json.loads(file.read_text(encoding="utf-8"))
                found = content["__version_info__"]["built_from"]
            except (OSError, ValueError, KeyError, TypeError):
                reason = "of unknown origin"
            else:
                changed = [name for name in facts if found.get(name) != facts[name]]
                reason = f"other {' and '.join(changed)}" if changed else ""
        if not reason:
            self.say(f"{file}: reused, statistics and options are the same")
            return ConnPropsModel.model_from_file(file)
        self.say(f"{file}: built ({reason})")
        model = make()
        text = as_text(
            model.src_types, model.tgt_types, model.prop_stats, model.prop_cov, built_from=facts
        )
        write_text(file, text, overwrite=True)
        return model


def _difference(found: Statistics, wanted: Statistics) -> str:
    """Return in words how statistics differ from those wanted; "" where they do not."""
    old, new = _plain(found.facts()), _plain(wanted.facts())
    options = [
        f"{name} was {old['options'].get(name)}, is {new['options'][name]}"
        for name in new["options"]
        if old["options"].get(name) != new["options"][name]
    ]
    if options:
        return "; ".join(options)
    if old == new:
        return ""
    changed = [key for key in new if old.get(key) != new[key]]
    return "computed by other versions" if changed == ["versions"] else "the circuit has changed"


def _plain(facts: Mapping[str, Any]) -> Any:
    """Return facts as they come back from a file."""
    return json.loads(json.dumps(facts))


def _digest(stats: Statistics) -> str:
    """Return what tells statistics from others: a checksum of what they were computed of."""
    text = json.dumps(stats.facts(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _built(
    config: ModelConfig, folds: int, reuse: _Reuse, progress: Progress | None
) -> Iterator[Path]:
    """Work off one configuration; give the files of its models."""
    data_dir, model_dir = config.working_dir / "data", config.working_dir / "model"
    out_dir = config.out_dir / "output" / config.name
    columns = config.kwargs.get("sel_props")
    circuit = open_circuit(config.circuit)
    dataset = exported(
        circuit, data_dir / f"{config.name}__dataset", config.kwargs.get(_POPULATION), columns,
        progress,
    )  # fmt: skip
    options = {**config.given(*_EXTRACT), "seed": config.seed, "progress": progress}
    parts: dict[str, tuple[Statistics, ...]] = {"": (extract(dataset, **options),)}
    if folds > 1:
        parts = {
            f"CV{folds}-{i}-": (fold.training, fold.test)
            for i, fold in enumerate(extract_folds(dataset, folds, **options), start=1)
        }
    write_text(
        out_dir / "model_config.json", json.dumps(config.raw, indent=2) + "\n", overwrite=True
    )
    build_options = config.given(*_BUILD)
    families = build_options.get("distr_types") or {}
    truncated = [name for name, family in families.items() if family == "truncnorm"]
    for part, sets in parts.items():
        model: ConnPropsModel | None = None
        for wanted, which in zip(sets, ("train", "test"), strict=False):
            suffix = f"{part}{which}" if part else ""
            name = f"{config.name}__{suffix}" if suffix else config.name
            stats = reuse.statistics(wanted, data_dir / name)
            arrays = to_arrays(stats, order=columns, fitted=truncated)
            if model is None:
                file = model_dir / f"{name}.json"
                facts = {"statistics": _digest(stats), "options": build_options}
                model = reuse.model(file, facts, partial(build, **arrays, **build_options))
                yield file
            try:
                plot(out_dir / suffix, **arrays, model=model, **config.given(*_PLOT))
            except CompatError as error:
                if which != "test":
                    raise
                warnings.warn(f"{name}: {error}", ConnpropsWarning, stacklevel=2)
