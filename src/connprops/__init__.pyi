from .charts.plot import plot
from .dataset.dataset import open_dataset
from .demo.circuit import write_demo
from .errors import ConnpropsError, ConnpropsWarning
from .export.opening import open_circuit, open_table
from .groups.describe import describe
from .groups.fit import fit
from .model.build import build
from .model.comparison import compare
from .model.conversion import convert
from .model.cross_validation import CrossValidation, cross_validate, read_cross_validation
from .model.model import Model, read_model
from .reports.clickable import explore
from .reports.report import report
from .run.merge import merge
from .statistics.extract import extract, extract_folds
from .statistics.statistics import read_statistics

__all__ = [
    "ConnpropsError",
    "ConnpropsWarning",
    "CrossValidation",
    "Model",
    "build",
    "compare",
    "convert",
    "cross_validate",
    "describe",
    "explore",
    "extract",
    "extract_folds",
    "fit",
    "merge",
    "open_circuit",
    "open_dataset",
    "open_table",
    "plot",
    "read_cross_validation",
    "read_model",
    "read_statistics",
    "report",
    "write_demo",
]
