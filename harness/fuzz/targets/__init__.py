"""The fuzzing targets: what an input is, and what must hold whatever it is."""
