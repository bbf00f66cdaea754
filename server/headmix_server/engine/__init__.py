"""Control: sequences, scheduling, cache and slot accounting, the loop. Plain Python, no torch."""
