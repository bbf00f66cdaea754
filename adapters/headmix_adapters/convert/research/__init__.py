"""Checkpoints of the paper authors' research code."""
