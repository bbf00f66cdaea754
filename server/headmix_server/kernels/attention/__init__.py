"""Attention over a paged cache: one protocol and its implementations."""
