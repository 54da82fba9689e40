"""What connectome-manipulator's ``conn_props`` reads and writes, from and to our tables.

``import connprops.compat as conn_props`` serves a script that used the reference's module. Each
name of ``__init__.pyi`` is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
