"""From statistics to distributions, for pathways with and without data."""
