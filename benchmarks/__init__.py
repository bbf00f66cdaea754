"""Measurements and end-to-end comparisons; nothing here is installed."""
