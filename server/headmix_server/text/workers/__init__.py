"""Processes that tokenize long texts and parse large bodies, and their jobs."""
