"""Options of :func:`connprops.build`, checked against the properties that they name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from connprops.errors import OptionError
from connprops.families.registry import FAMILIES
from connprops.fits.choice import AUTO, AUTO_PER_PATHWAY, CRITERIA, Criterion, DistrType
from connprops.schema import Property

TruncnormFit = Literal["mle", "histogram"]
Interpolation = Literal["pooled", "unweighted"]

_FEWEST_SAMPLES = 19


@dataclass(frozen=True)
class Settings:
    """What ``build`` was asked for; options by property hold those that it names only."""

    families: dict[str, DistrType]
    criterion: Criterion
    dtypes: dict[str, str]
    bounds: dict[str, tuple[float | None, float | None]]
    shared: dict[str, bool]
    truncnorm: TruncnormFit
    interpolation: Interpolation
    shrinkage: bool
    p_values: int | None
    correlations: bool
    seed: int

    @classmethod
    def checked(
        cls,
        properties: Sequence[Property],
        *,
        distr_types: Mapping[str, DistrType] | None,
        criterion: str,
        data_types: Mapping[str, Any] | None,
        data_bounds: Mapping[str, Sequence[float | None]] | None,
        shared_within: Mapping[str, bool] | None,
        truncnorm: str,
        interpolation: str,
        shrinkage: bool,
        p_values: int | None,
        correlations: bool,
        seed: int,
    ) -> Settings:
        """Check the options.

        Raises
        ------
        OptionError
            Where one cannot be met.
        """
        settings = cls(
            families=_by_property(distr_types, properties, "distr_types", _family),
            criterion=_one_of("criterion", criterion, CRITERIA),
            dtypes=_by_property(data_types, properties, "data_types", _dtype),
            bounds=_by_property(data_bounds, properties, "data_bounds", _bounds),
            shared=_by_property(shared_within, properties, "shared_within", _shared),
            truncnorm=_one_of("truncnorm", truncnorm, ("mle", "histogram")),
            interpolation=_one_of("interpolation", interpolation, ("pooled", "unweighted")),
            shrinkage=_switch("shrinkage", shrinkage),
            p_values=_times(p_values),
            correlations=_switch("correlations", correlations),
            seed=seed,
        )
        if settings.shrinkage and settings.truncnorm == "histogram":
            raise OptionError.of(
                "shrinkage needs standard errors, and a fit to histograms has none",
                found="shrinkage=True, truncnorm='histogram'",
                expected="one of the two",
            )
        if settings.shrinkage and AUTO_PER_PATHWAY in settings.families.values():
            raise OptionError.of(
                "shrinkage needs one family for all pathways of a property",
                found=f"shrinkage=True, {AUTO_PER_PATHWAY!r}",
                expected="one of the two",
            )
        return settings

    def facts(self) -> dict[str, Any]:
        """Return the options as a model's metadata have them."""
        return {
            "distr_types": {
                name: family if isinstance(family, str) else list(family)
                for name, family in self.families.items()
            },
            "criterion": self.criterion,
            "data_types": self.dtypes,
            "data_bounds": {name: list(pair) for name, pair in self.bounds.items()},
            "shared_within": self.shared,
            "truncnorm": self.truncnorm,
            "interpolation": self.interpolation,
            "shrinkage": self.shrinkage,
            "p_values": self.p_values,
            "correlations": self.correlations,
            "seed": self.seed,
        }


def _by_property(
    given: Mapping[str, Any] | None,
    properties: Sequence[Property],
    option: str,
    check: Callable[[str, Any], Any],
) -> dict[str, Any]:
    """Return an option by property, each name known and each value checked."""
    known = [p.name for p in properties]
    for name in given or {}:
        if name not in known:
            raise OptionError.unknown(f"property in {option}", name, known)
    return {name: check(name, value) for name, value in (given or {}).items()}


def _one_of(option: str, value: Any, known: Sequence[str]) -> Any:
    if value not in known:
        raise OptionError.unknown(option, str(value), known)
    return value


def _family(name: str, family: DistrType) -> DistrType:
    if isinstance(family, str) and family in (AUTO, AUTO_PER_PATHWAY):
        return family
    several = [family] if isinstance(family, str) else family
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise OptionError.of(
            f"distr_types of property {name!r} is neither a distribution nor a list of them",
            found=repr(family),
        )
    for one in several:
        if one not in FAMILIES:
            raise OptionError.unknown(
                f"distribution for property {name!r}", one, [*FAMILIES, AUTO, AUTO_PER_PATHWAY]
            )
    if not isinstance(family, str) and not family:
        raise OptionError.of(f"distr_types has no candidate for property {name!r}")
    return family


def _dtype(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else getattr(value, "__name__", str(value))
    for dtype in ("int", "float"):
        if text.startswith(dtype) or (dtype == "int" and text.startswith("uint")):
            return dtype
    raise OptionError.unknown(f"data type for property {name!r}", text, ["int", "float"])


def _bounds(name: str, value: Any) -> tuple[float | None, float | None]:
    try:
        lower, upper = (None if v is None else float(v) for v in value)
    except (TypeError, ValueError) as error:
        raise OptionError.of(
            f"data_bounds of property {name!r} are not two bounds",
            found=repr(value),
            expected="[lower, upper], of which either may be null",
        ) from error
    if lower is not None and upper is not None and lower > upper:
        raise OptionError.of(
            f"data_bounds of property {name!r} exclude everything",
            found=f"lower {lower} above upper {upper}",
        )
    return lower, upper


def _shared(name: str, value: Any) -> bool:
    return _switch(f"shared_within of property {name!r}", value)


def _switch(option: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise OptionError.of(f"{option} is neither true nor false", found=repr(value))
    return bool(value)


def _times(value: Any) -> int | None:
    if value is None:
        return None
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not (whole and value >= _FEWEST_SAMPLES):
        raise OptionError.of(
            "p_values is no number of samples to simulate",
            found=repr(value),
            expected=f"None, or at least {_FEWEST_SAMPLES}, for p-values of 0.05 and less",
        )
    return int(value)
