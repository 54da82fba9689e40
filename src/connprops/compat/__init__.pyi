from .conn_props import MAX_UNIQUE_COUNT, build, extract, plot
from .conn_props_model import ConnPropsModel
from .errors import CompatError

__all__ = ["MAX_UNIQUE_COUNT", "CompatError", "ConnPropsModel", "build", "extract", "plot"]
