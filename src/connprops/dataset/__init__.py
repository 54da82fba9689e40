"""The Parquet dataset of an edge population: manifest, SQL relations, selections."""
