"""Adapters next to each other: their scores, sizes, shapes and head maps."""
