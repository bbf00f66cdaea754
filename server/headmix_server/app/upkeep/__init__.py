"""Periodic work besides serving."""
