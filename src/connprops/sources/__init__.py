"""Where synapses come from: what a source of them is, and how its nodes are grouped."""
