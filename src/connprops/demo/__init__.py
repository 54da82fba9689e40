"""The demo: a SONATA circuit whose truth is known.

It is a scale model of a published microcircuit (:mod:`connprops.demo.scale_model` has its
distributions), written in small or at full size, so that the whole way from a circuit to a model
can be tried, timed, and compared with what it should find.
"""

from connprops.demo.circuit import EDGES, NODES, DemoCircuit, write_demo

__all__ = ["EDGES", "NODES", "DemoCircuit", "write_demo"]
