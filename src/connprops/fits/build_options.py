"""Whether the properties and distributions that options of a fit name are there."""

from __future__ import annotations

from collections.abc import Sequence

from connprops.errors import OptionError
from connprops.families.registry import FAMILIES
from connprops.options import AUTO, AUTO_PER_PATHWAY, FitOptions
from connprops.schema import Property


def check_names(options: FitOptions, properties: Sequence[Property]) -> None:
    """Raise :class:`OptionError` where an option names an unknown property or distribution."""
    known = [p.name for p in properties]
    for option in ("distr_types", "data_types", "data_bounds", "shared_within"):
        for name in getattr(options, option):
            if name not in known:
                raise OptionError.unknown(f"property in {option}", name, known)
    for name, family in options.distr_types.items():
        if family in (AUTO, AUTO_PER_PATHWAY):
            continue
        candidates = [family] if isinstance(family, str) else family
        if not candidates:
            raise OptionError.of(f"distr_types has no candidate for property {name!r}")
        for candidate in candidates:
            if candidate not in FAMILIES:
                raise OptionError.unknown(
                    f"distribution for property {name!r}",
                    candidate,
                    [*FAMILIES, AUTO, AUTO_PER_PATHWAY],
                )
