"""The data side: everything that holds or computes tensors for the engine."""
