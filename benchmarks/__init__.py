"""Measurements and whole-path comparisons; nothing here is installed."""
