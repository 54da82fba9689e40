"""The model: built, evaluated, read, written, compared and cross-validated."""
