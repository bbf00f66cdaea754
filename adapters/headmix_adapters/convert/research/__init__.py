"""Checkpoints of the authors' research code."""
