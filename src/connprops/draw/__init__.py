"""From a model back to synapses: those of listed connections, or of a circuit's."""

from connprops.draw.tables import draw_synapses, write_synapses

__all__ = ["draw_synapses", "write_synapses"]
