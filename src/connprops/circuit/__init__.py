"""SONATA in: configuration, HDF5 columns, node sets, types; edge files out."""
