"""The report: one HTML file to look at, offline."""
