"""Tables of synapses or connections as a source of edges: Parquet, CSV, Arrow, DuckDB, frames."""
