"""One claimed job: its folder, what is told of it, its checkpoints, and what comes of it."""
