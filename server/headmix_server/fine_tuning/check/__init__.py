"""A job's data checked before it is queued, in a process of its own."""
