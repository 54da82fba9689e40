"""Errors of the reference's interface, which are also of the kinds that its users catch."""

from __future__ import annotations

from connprops.errors import ModelError


class CompatError(ModelError, AssertionError):
    """What the reference refuses with an AssertionError."""


class UnknownNameError(ModelError, KeyError):
    """A property or type that a model does not have, for which the reference raises KeyError."""

    __str__ = Exception.__str__  # that of KeyError would show line breaks as \n
