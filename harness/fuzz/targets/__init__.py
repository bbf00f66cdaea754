"""The fuzzing targets: what an input is, and what must hold for every input."""
