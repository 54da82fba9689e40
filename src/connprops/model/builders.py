"""The files of other builders: recipes of functionalizer, blocks of obi-one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl

from connprops import schema
from connprops.arrays import Floats, Ints
from connprops.errors import ModelError, OptionError, listing
from connprops.model.model import Model
from connprops.model.nearest import (
    COUNTS,
    CUT_NORMAL,
    EXPONENTIAL,
    GAMMA,
    LOGNORMAL,
    MASS,
    NORMAL,
    UNIFORM,
    Nearest,
    Target,
    mixed,
    nearest,
    quantiles_as_drawn,
    quantiles_of,
    wasserstein,
)
from connprops.pathways import IS_OWN
from connprops.schema import N_SYN_PER_CONN

Grouping = Literal["class", "pathway"]
Parts = tuple[str, pl.DataFrame, tuple[str, ...]]
"""The text of a file, the distances of what is in it, and what it cannot hold."""

_AT_MOST = 10_000
"""Pathways that are written one by one, at most."""

_RECIPE: dict[str, Target] = {
    "conductance": GAMMA,
    "decay_time": CUT_NORMAL,
    "u_syn": CUT_NORMAL,
    "depression_time": GAMMA,
    "facilitation_time": GAMMA,
    "n_rrp_vesicles": COUNTS,
}
"""What functionalizer draws of each property; all of them must be in a recipe."""

_RECIPE_NUMBERS = ("conductance_scale_factor", "u_hill_coefficient")
"""Properties that are one number for a class of synapses in a recipe."""

_OBI_ONE = {
    "conductance": "conductance_distribution",
    "conductance_scale_factor": "conductance_scale_factor_distribution",
    "decay_time": "decay_time",
    "delay": "delay_distribution",
    "depression_time": "depression_time",
    "facilitation_time": "fascilitation_time",
    "n_rrp_vesicles": "n_rrp_vesicles_distribution",
    "u_hill_coefficient": "u_hill_coefficient_distribution",
    "u_syn": "u_syn",
}
"""Fields of obi-one's Tsodyks-Markram model, spelt as there: it refuses others."""

_OBI_ONE_FLAG = {p: f"{f}_shared_within" for p, f in _OBI_ONE.items()} | {
    name: f"{name}_shared_within" for name in ("delay", "n_rrp_vesicles", "u_hill_coefficient")
}
_OBI_ONE_TARGETS = (GAMMA, NORMAL, LOGNORMAL, UNIFORM, EXPONENTIAL)
_WITHIN = 0.5
"""Correlation within connections from which on a value is written as shared."""

_DIGITS = 6
COLUMNS = {
    "source_type": pl.String, "target_type": pl.String, "property": pl.String,
    "distribution": pl.String, "written": pl.String, "wasserstein": pl.Float64,
    "relative": pl.Float64,
}  # fmt: skip
"""Columns of distances."""


class _Group(NamedTuple):
    """Pathways that are written as one: their ends' names, whose class, and their numbers."""

    source: str
    target: str
    source_class: str | None
    pathways: Ints


class _Written(NamedTuple):
    """What is written of a property in a group: a family, None for a point, and parameters."""

    family: str | None
    parameters: dict[str, Any]
    values: Floats


_Own = tuple[str, dict[str, float]]
"""Family and parameters of the only distribution of a group."""

_Writer = Callable[[Floats, _Own | None], _Written]


class PathwayGroups:
    """The pathways of a model by what a format tells apart, and their distributions."""

    def __init__(self, model: Model, by: Grouping) -> None:
        self.model, self.by = model, by
        self.distances: list[tuple[Any, ...]] = []

    @cached_property
    def groups(self) -> list[_Group]:
        """Return the groups in order."""
        sides = {side: self.model.types.filter(side=side).sort("code") for side in _SIDES}
        classes = {side: rows["synapse_class"].to_list() for side, rows in sides.items()}
        n = len(self.model.pathways)
        if self.by == "pathway":
            if n > _AT_MOST:
                raise OptionError.of(
                    "There are too many pathways to write one by one", found=f"{n:,}",
                    expected=f"at most {_AT_MOST:,}", hint="by='class' (--by class) writes few",
                )  # fmt: skip
            places = zip(range(n), *(p.tolist() for p in self.model.pathways.places(np.arange(n))),
                         strict=True)  # fmt: skip
            return [_Group(*self.model.pathways.names(i), classes["source"][source], np.array([i]))
                    for i, source, _ in places]  # fmt: skip
        for side, of_side in classes.items():
            if None in of_side:
                raise ModelError.of(
                    f"A {side} type has no synapse class",
                    found=sides[side]["type"][of_side.index(None)],
                    hint="by='pathway' (--by pathway) does without",
                )
        own = self._observed
        source, target = self.model.pathways.places(own)
        names = [np.array(classes[side], dtype=str) for side in _SIDES]
        pairs = np.stack([names[0][source], names[1][target]], axis=1)
        return [
            _Group(str(s), str(t), str(s), own[(pairs == (s, t)).all(axis=1)])
            for s, t in np.unique(pairs, axis=0)
        ]

    @cached_property
    def _observed(self) -> Ints:
        """Return the numbers of the pathways with data of their own."""
        own = self.model.table.filter(IS_OWN & (pl.col("level") < 0))
        number = own.select(self.model.pathways.number_of_row.unique().sort())
        return np.asarray(number.to_series().to_numpy(), dtype=np.int64)

    @cached_property
    def _weights(self) -> dict[str, dict[int, float]]:
        """Return the number of values of each property's pathways, where it is known."""
        if self.model.fits is None:
            return {}
        rows = self.model.fits.filter(IS_OWN & (pl.col("level") < 0)).select(
            pl.col("property").cast(pl.String), self.model.pathways.number_of_row.alias("p"), "n"
        )
        weights: dict[str, dict[int, float]] = {}
        for name, pathway, n in rows.iter_rows():
            weights.setdefault(name, {})[pathway] = float(n)
        return weights

    def of(self, name: str, write: _Writer) -> Iterator[_Written | None]:
        """Yield what is written of a property in each group, and note how far that is."""
        whole = self.model.dtype(name) == "int"
        values: dict[int, Floats] = {}
        family: dict[int, str] = {}
        own: dict[int, _Own] = {}
        wanted = np.unique(np.concatenate([g.pathways for g in self.groups]))
        for distributions in self.model.distributions(name):
            part = distributions.take(np.isin(distributions.pathway, wanted))
            drawn = quantiles_as_drawn(part, whole=whole)
            values.update(zip(part.pathway.tolist(), drawn, strict=True))
            family.update(dict.fromkeys(part.pathway.tolist(), part.family.name))
            if not any(p.is_list for p in part.family.parameters):
                columns = zip(*(part.parameters[p.name].tolist() for p in part.family.parameters),
                              strict=True)  # fmt: skip
                names = [p.name for p in part.family.parameters]
                own.update(
                    (pathway, (part.family.name, dict(zip(names, row, strict=True))))
                    for pathway, row in zip(part.pathway.tolist(), columns, strict=False)
                )
        weights, observed = self._weights.get(name, {}), set(self._observed.tolist())
        known: dict[bytes, _Written] = {}
        for group in self.groups:
            numbers = [p for p in group.pathways.tolist() if p in values]
            if not numbers:
                yield None
                continue
            parts = np.stack([values[p] for p in numbers])
            mixture = mixed(parts, np.array([weights.get(p, 1.0) for p in numbers]))
            key = mixture.tobytes()  # pathways that borrow have the same distribution
            if key not in known:
                known[key] = write(mixture, own.get(numbers[0]) if len(numbers) == 1 else None)
            written = known[key]
            for p, part, away in zip(numbers, parts, wasserstein(parts, written.values),
                                     strict=True):  # fmt: skip
                if p in observed:
                    std = float(part.std())
                    self.distances.append(
                        (*self.model.pathways.names(p), name, family[p], written.family or "point",
                         float(away), float(away) / std if std else float(away != 0))
                    )  # fmt: skip
            yield written

    def conversion(self, text: str, losses: Sequence[str]) -> Parts:
        """Return the result."""
        distances = pl.DataFrame(self.distances, schema=COLUMNS, orient="row")
        return text, distances, tuple(losses)

    def losses(self, carried: Sequence[str]) -> Iterator[str]:
        """Yield what neither format can hold."""
        left = [name for name in self.model.properties if name not in carried]
        if left:
            yield f"the properties {listing(left)}"
        if len(self.model.correlations):
            yield f"{len(self.model.correlations):,} correlations of properties"
        if self.by == "class":
            yield "differences between the pathways of two classes, which distances include"
        yield "levels, standard errors, intervals"

    def within(self, carried: Sequence[str]) -> dict[str, list[float]]:
        """Return the correlations within connections of properties, of the pathways with data."""
        rows = self.model.table.filter(
            pl.col("property").cast(pl.String).is_in(carried), pl.col("other_property").is_null()
        ).unique([*schema.ROW_KEYS, "property"])
        return {
            str(name): of["within_correlation"].drop_nulls().to_list()
            for (name,), of in rows.group_by("property", maintain_order=True)
        }


_SIDES = ("source", "target")


def _rounded(value: float) -> float:
    """Return a number with as many digits as mean anything."""
    return float(f"{value:.{_DIGITS}g}")


def _point(values: Floats, at: float | None = None) -> _Written:
    """Return a single point: the median, which is nearest."""
    point = float(np.median(values)) if at is None else at
    return _Written(None, {"value": point}, np.full_like(values, point))


# A recipe of functionalizer


def _nearest(values: Floats, own: _Own | None, targets: Sequence[Target]) -> Nearest | None:
    """Return a group's own distribution if the format has it, or the nearest that it has."""
    if own and np.ptp(values) > 0 and own[0] in {t.family for t in targets} - {"truncnorm"}:
        exact = quantiles_of(*own)
        if np.array_equal(exact, values):
            return Nearest(*own, exact, 0.0)
    return nearest(values, targets)


def _recipe_values(name: str) -> _Writer:
    def write(values: Floats, own: _Own | None) -> _Written:
        near = _nearest(values, own, [_RECIPE[name]]) if name in _RECIPE else None
        if near is None:
            return _point(values)
        p = near.parameters
        center = p.get("norm_loc", p.get("mean", 0.0))
        spread = p.get("norm_scale", p.get("std"))
        return _Written(near.family, {"mu": center, "sd": spread}, near.values)

    return write


def recipe(groups: PathwayGroups) -> Parts:
    """Return the synapse properties of a recipe: a class of synapses for each group."""
    lacking = [name for name in _RECIPE if name not in groups.model.properties]
    if lacking:
        raise ModelError.of(
            f"The model lacks {listing(lacking)}",
            expected=f"all that a recipe must have: {listing(_RECIPE)}",
        )
    carried = [*_RECIPE, *(p for p in _RECIPE_NUMBERS if p in groups.model.properties)]
    classes, rules = _classes_and_rules(groups)
    for name in carried:
        for entry, written in zip(classes, groups.of(name, _recipe_values(name)), strict=True):
            if written is None:
                continue
            if name in _RECIPE_NUMBERS:
                entry[name] = _rounded(written.parameters["value"])
                continue
            p = written.parameters
            entry[f"{name}_mu"] = _rounded(p["value"] if written.family is None else p["mu"])
            if name != "n_rrp_vesicles":
                entry[f"{name}_sd"] = _rounded(p.get("sd") or 0.0)
    kept = [i for i, entry in enumerate(classes) if f"{next(iter(_RECIPE))}_mu" in entry]
    content = {"synapse_properties": {"rules": [rules[i] for i in kept],
                                      "classes": [classes[i] for i in kept]}}  # fmt: skip
    losses = list(groups.losses(carried))
    for name, within in groups.within(carried).items():
        varied = [w for w in within if w < 1]
        if varied:
            losses.append(
                f"values of {name} that differ within connections, in {len(varied)} of "
                f"{len(within)} distributions: functionalizer draws one for each connection"
            )
    losses.append(
        "delays, which functionalizer computes from distances: set "
        "axonal_conduction_velocity and neural_transmitter_release_delay in the rules"
    )
    return groups.conversion(json.dumps(content, indent=2) + "\n", losses)


def _classes_and_rules(groups: PathwayGroups) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a class of synapses and its rule for each group, still without numbers.

    Functionalizer takes the first letter of a class, E or I, for excitatory or inhibitory.
    """
    names = {"class": "synapse_class", "pathway": "mtype"}[groups.by]
    classes: list[dict[str, Any]] = []
    rules: list[dict[str, Any]] = []
    count = {"E": 0, "I": 0}
    for group in groups.groups:
        letter = "I" if (group.source_class or "").upper().startswith("I") else "E"
        count[letter] += 1
        name = f"{letter}{count[letter]}"
        classes.append({"class": name})
        rules.append({f"src_{names}": group.source, f"dst_{names}": group.target, "class": name})
    return classes, rules


# Blocks of obi-one


def _obi_one_values(values: Floats, own: _Own | None, *, whole: bool) -> _Written:
    """Return the nearest of the distributions that obi-one has."""
    if np.ptp(values) == 0:
        return _point(values)
    if whole:
        at, place = np.unique(values, return_inverse=True)
        p = np.bincount(place, MASS)
        return _Written("discrete", {"values": at.tolist(), "p": p.tolist()}, values)
    near = _nearest(values, own, _OBI_ONE_TARGETS)
    return _Written(near.family, near.parameters, near.values) if near else _point(values)


_BLOCKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "point": lambda p: {"type": "FloatConstantDistribution", "value": p["value"]},
    "gamma": lambda p: {"type": "GammaDistribution", "shape": (p["mean"] / p["std"]) ** 2,
                        "scale": p["std"] ** 2 / p["mean"]},
    "normal": lambda p: {"type": "NormalDistribution", "mean": p["mean"],
                         "standard_deviation": p["std"]},
    "lognormal": lambda p: {"type": "LogNormalDistribution", "mean": p["mean_log"],
                            "sigma": p["std_log"]},
    "uniform": lambda p: {"type": "FloatUniformDistribution", "low": p["min"], "high": p["max"]},
    "exponential": lambda p: {"type": "ExponentialDistribution", "scale": p["mean"]},
}  # fmt: skip


def _block(written: _Written, *, whole: bool) -> dict[str, Any]:
    """Return the block of a distribution."""
    p = written.parameters
    if written.family == "discrete":
        return {"type": "IntDiscreteDistribution", "values": [int(x) for x in p["values"]],
                "probabilities": [_rounded(x) for x in p["p"]]}  # fmt: skip
    if written.family is None and whole:
        return {"type": "IntConstantDistribution", "value": int(p["value"])}
    block = _BLOCKS[written.family or "point"](p)
    return {key: x if key == "type" else _rounded(x) for key, x in block.items()}


def _reference_to(kind: str, dictionary: str, name: str) -> dict[str, str]:
    return {"type": kind, "block_dict_name": dictionary, "block_name": name}


def obi_one(groups: PathwayGroups) -> Parts:
    """Return the blocks of a synapse parameterization."""
    model = groups.model
    carried = [name for name in _OBI_ONE if name in model.properties]
    if not carried:
        raise ModelError.of(
            "The model has no property of obi-one's synaptic models",
            found=listing(model.properties),
            expected=listing(_OBI_ONE),
        )
    identity = model.facts.get("identity") or {}
    population = (identity.get("edges") or {}).get("population")
    within = groups.within(carried)
    distributions: dict[str, Any] = {}
    named: dict[str, str] = {}
    models: list[dict[str, Any]] = [{} for _ in groups.groups]
    for name in carried:
        whole = model.dtype(name) == "int"
        shared = float(np.median(within[name])) >= _WITHIN

        of_groups = groups.of(name, partial(_obi_one_values, whole=whole))
        for group, entry, written in zip(groups.groups, models, of_groups, strict=True):
            if written is None:
                continue
            block = _block(written, whole=whole)
            text = f"{name} {json.dumps(block)}"
            place = named.setdefault(text, f"{name} {group.source} to {group.target}")
            distributions[place] = block
            entry[_OBI_ONE[name]] = _reference_to("AllDistributionsReference", "distributions",
                                                  place)  # fmt: skip
            entry[_OBI_ONE_FLAG[name]] = shared
    content: dict[str, Any] = {"distributions": distributions, "synaptic_models": {},
                               "neuron_sets": {}, "synapse_model_assigners": {}}  # fmt: skip
    for group, entry in zip(groups.groups, models, strict=True):
        if entry:
            _assign(content, group, entry, identity, groups.by, population)
    losses = list(groups.losses(carried))
    for name, values in within.items():
        partly = [w for w in values if 0 < w < 1]
        if partly or len({w >= _WITHIN for w in values}) > 1:
            losses.append(f"how alike values of {name} are within connections: one flag says all")
    if N_SYN_PER_CONN in model.properties:
        losses.append("numbers of synapses, which the circuit has already")
    return groups.conversion(json.dumps(content, indent=2) + "\n", losses)


def _assign(
    content: dict[str, Any], group: _Group, entry: Mapping[str, Any], identity: Mapping[str, Any],
    by: Grouping, population: str | None,
) -> None:  # fmt: skip
    """Add a synaptic model, its neuron sets, and what assigns it."""
    name = f"{group.source} to {group.target}"
    is_inhibitory = (group.source_class or "").upper().startswith("I")
    kind = "Inhibitory" if is_inhibitory else "Excitatory"
    content["synaptic_models"][name] = {"type": f"{kind}TsodyksMarkramSynapticModel", **entry}
    sets = {}
    for side, end in (("source", group.source), ("target", group.target)):
        key = "synapse_class" if by == "class" else identity.get(f"{side}_type", "mtype")
        sets[side] = f"{side} {end}"
        content["neuron_sets"][sets[side]] = {
            "type": "BiophysicalPopulationPropertyNeuronSet",
            "population": identity.get(f"{side}_population"),
            "property_filter": {"type": "NeuronPropertyFilter", "filter_dict": {key: [end]}},
        }
    content["synapse_model_assigners"][name] = {
        "type": "InterNeuronSetSynapticModelAssigner",
        "edge_population_name": population,
        "synaptic_model": _reference_to("SynapticModelReference", "synaptic_models", name),
        "source_neuron_set": _reference_to("BiophysicalNeuronSetReference", "neuron_sets",
                                           sets["source"]),
        "targeted_neuron_set": _reference_to("BiophysicalNeuronSetReference", "neuron_sets",
                                             sets["target"]),
    }  # fmt: skip
