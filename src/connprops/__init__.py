"""Statistics and models of the synapses of SONATA circuits.

The names of the interface stand in ``__init__.pyi``; each is imported when it is first used, so
that ``import connprops`` is quick.
"""

import lazy_loader

from connprops._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
