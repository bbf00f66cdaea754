"""Choosing the next token of every row of a step at once: the plan of what rows ask for, and its implementations."""
