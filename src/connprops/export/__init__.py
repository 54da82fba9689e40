"""From the edges of a circuit to a dataset."""
