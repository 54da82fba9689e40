"""The families by name."""

from __future__ import annotations

import dataclasses

import pytest

from connprops.errors import OptionError
from connprops.families.registry import FAMILIES, REFERENCE_FAMILIES, family_named


def test_the_registry_is_closed_and_complete() -> None:
    with pytest.raises(TypeError):
        FAMILIES["new"] = FAMILIES["gamma"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILIES["gamma"].name = "other"  # type: ignore[misc]
    assert list(REFERENCE_FAMILIES) == [
        "constant", "normal", "truncnorm", "gamma", "poisson", "ztpoisson", "discrete", "zero"
    ]  # fmt: skip
    assert all(name == family.name for name, family in FAMILIES.items())


def test_an_unknown_family_is_named_with_a_near_one() -> None:
    with pytest.raises(OptionError, match=r"'gama'(?s:.*)did you mean 'gamma'"):
        family_named("gama")
