"""Several runs of a recipe that differ in a few values; the best one's adapter is the result."""
