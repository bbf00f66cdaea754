"""The control side: sequences, scheduling, cache and slot accounting, and the engine loop. Plain Python, no torch."""
