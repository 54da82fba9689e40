"""Numbers in groups of groups, each scattered about its group's: who borrows how much from whom."""
