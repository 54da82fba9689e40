"""Statistics and models of the synapses of SONATA circuits."""

__version__ = "0.1.0"
