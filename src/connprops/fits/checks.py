"""Whether what is asked of fits suits the properties."""

from __future__ import annotations

from collections.abc import Sequence

from connprops.errors import OptionError, listing
from connprops.families.registry import FAMILIES
from connprops.options import AUTO, AUTO_PER_PATHWAY, FitOptions
from connprops.schema import Property


def check_names(options: FitOptions, properties: Sequence[Property]) -> None:
    """Raise :class:`OptionError` where an option names an unknown property or distribution."""
    names = [p.name for p in properties]
    for option in ("distr_types", "data_types", "data_bounds", "shared_within"):
        for name in getattr(options, option):
            if name not in names:
                raise OptionError.unknown(f"property in {option}", name, names)
    choices = [*FAMILIES, AUTO, AUTO_PER_PATHWAY]
    for name, asked in options.distr_types.items():
        if not asked:
            raise OptionError.of(f"distr_types has no candidate for property {name!r}")
        for family in [asked] if isinstance(asked, str) else asked:
            if family not in (choices if isinstance(asked, str) else FAMILIES):
                what, n = f"distribution for property {name!r}", len(choices)
                raise OptionError.unknown(what, family, choices, at_most=n)
    for prop in properties:
        if prop.labels is not None:
            _check_labelled(options, prop)


def _check_labelled(options: FitOptions, prop: Property) -> None:
    """Raise :class:`OptionError` where options take the codes of labels for numbers."""
    asked = options.distr_types.get(prop.name, AUTO)
    numeric = {asked} if isinstance(asked, str) else {*asked}
    numeric -= {AUTO, AUTO_PER_PATHWAY, "discrete"}
    for as_numbers, expected in (
        (numeric and listing(sorted(numeric)), "discrete, the probabilities of the labels"),
        (options.data_types.get(prop.name) == "float" and "data type float", "int, their codes"),
        (prop.name in options.data_bounds and "data_bounds", "none: labels have no order"),
    ):
        if as_numbers:
            raise OptionError.of(
                f"The values of property {prop.name!r} are labels, not numbers",
                found=str(as_numbers),
                expected=expected,
            )
