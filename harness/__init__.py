"""Programs that check headmix as a whole (random walks, attacks, fuzzing, comparisons), and what they are built from.

The tests and the benchmarks use it; it imports neither. Nothing here is installed.
"""
