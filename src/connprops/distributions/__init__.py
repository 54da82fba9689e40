"""The distributions of one property in all pathways, with their parameters."""
