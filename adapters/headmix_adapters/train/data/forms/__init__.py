"""Rows of other forms turned into those that training reads."""
