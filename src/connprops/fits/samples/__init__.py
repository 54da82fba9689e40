"""From the tables of statistics to samples of pathways, and who borrows from whom."""
