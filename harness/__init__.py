"""Programs that check headmix as a whole (random walks, attacks, fuzzing, comparisons), and their building blocks.

Tests and benchmarks use it; it imports neither. Nothing here is installed.
"""
