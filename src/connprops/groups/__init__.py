"""Statistics and fits of groups of one's own, of any table."""
