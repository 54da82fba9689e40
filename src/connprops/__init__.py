"""Statistics and models of the synapses of SONATA circuits.

The names below are imported when they are first used, so that ``import connprops`` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connprops.compare import compare
    from connprops.cross_validation import (
        CrossValidation,
        cross_validate,
        read_cross_validation,
    )
    from connprops.dataset import open_circuit, open_dataset
    from connprops.demo import write_circuit as write_demo
    from connprops.errors import ConnpropsError, ConnpropsWarning
    from connprops.extract import extract, extract_folds
    from connprops.fit import build
    from connprops.merge import merge
    from connprops.model import Model, read_model
    from connprops.plots import plot
    from connprops.report import report
    from connprops.statistics import read_statistics

__version__ = "0.1.0"

__all__ = [
    "ConnpropsError",
    "ConnpropsWarning",
    "CrossValidation",
    "Model",
    "build",
    "compare",
    "cross_validate",
    "extract",
    "extract_folds",
    "merge",
    "open_circuit",
    "open_dataset",
    "plot",
    "read_cross_validation",
    "read_model",
    "read_statistics",
    "report",
    "write_demo",
]

_HOME = {
    "ConnpropsError": ("connprops.errors", "ConnpropsError"),
    "ConnpropsWarning": ("connprops.errors", "ConnpropsWarning"),
    "CrossValidation": ("connprops.cross_validation", "CrossValidation"),
    "Model": ("connprops.model", "Model"),
    "build": ("connprops.fit", "build"),
    "compare": ("connprops.compare", "compare"),
    "cross_validate": ("connprops.cross_validation", "cross_validate"),
    "extract": ("connprops.extract", "extract"),
    "extract_folds": ("connprops.extract", "extract_folds"),
    "merge": ("connprops.merge", "merge"),
    "open_circuit": ("connprops.dataset", "open_circuit"),
    "open_dataset": ("connprops.dataset", "open_dataset"),
    "plot": ("connprops.plots", "plot"),
    "read_cross_validation": ("connprops.cross_validation", "read_cross_validation"),
    "read_model": ("connprops.model", "read_model"),
    "read_statistics": ("connprops.statistics", "read_statistics"),
    "report": ("connprops.report", "report"),
    "write_demo": ("connprops.demo", "write_circuit"),
}
"""Where each name of the interface is defined, and under which name."""


class _Package(ModuleType):
    """The package, in which importing the module ``report`` does not hide the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    try:
        module, original = _HOME[name]
    except KeyError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message) from None
    found = getattr(import_module(module), original)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


sys.modules[__name__].__class__ = _Package
