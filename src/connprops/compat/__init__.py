"""What connectome-manipulator's ``conn_props`` reads and writes, from and to our tables.

``import connprops.compat as conn_props`` serves a script that used the reference's module.
"""

from connprops.compat.conn_props import MAX_UNIQUE_COUNT, build, extract, plot
from connprops.compat.conn_props_model import ConnPropsModel
from connprops.compat.errors import CompatError

__all__ = ["MAX_UNIQUE_COUNT", "CompatError", "ConnPropsModel", "build", "extract", "plot"]
