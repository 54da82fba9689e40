"""Statistics and models of the synapses of SONATA circuits.

The names below are imported when they are first used, so that ``import connprops`` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connprops.charts.plot import plot
    from connprops.dataset.dataset import open_circuit, open_dataset
    from connprops.demo import write_circuit as write_demo
    from connprops.errors import ConnpropsError, ConnpropsWarning
    from connprops.fits.property import build
    from connprops.model.comparison import compare
    from connprops.model.cross_validation import (
        CrossValidation,
        cross_validate,
        read_cross_validation,
    )
    from connprops.model.model import Model, read_model
    from connprops.reports.report import report
    from connprops.run.merge import merge
    from connprops.statistics.extract import extract, extract_folds
    from connprops.statistics.statistics import read_statistics

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
    "CrossValidation": ("connprops.model.cross_validation", "CrossValidation"),
    "Model": ("connprops.model.model", "Model"),
    "build": ("connprops.fits.property", "build"),
    "compare": ("connprops.model.comparison", "compare"),
    "cross_validate": ("connprops.model.cross_validation", "cross_validate"),
    "extract": ("connprops.statistics.extract", "extract"),
    "extract_folds": ("connprops.statistics.extract", "extract_folds"),
    "merge": ("connprops.run.merge", "merge"),
    "open_circuit": ("connprops.dataset.dataset", "open_circuit"),
    "open_dataset": ("connprops.dataset.dataset", "open_dataset"),
    "plot": ("connprops.charts.plot", "plot"),
    "read_cross_validation": ("connprops.model.cross_validation", "read_cross_validation"),
    "read_model": ("connprops.model.model", "read_model"),
    "read_statistics": ("connprops.statistics.statistics", "read_statistics"),
    "report": ("connprops.reports.report", "report"),
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
