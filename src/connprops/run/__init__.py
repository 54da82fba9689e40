"""Everything in one folder: the run, its record, its checks."""
