"""From a dataset to the statistics of every property of every pathway."""
