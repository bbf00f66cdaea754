"""Choosing the next token of every row of a step at once: the plan of the rows' requests, its implementations."""
