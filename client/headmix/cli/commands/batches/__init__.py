"""Batches: those that the server runs, and one that a server of its own runs."""
