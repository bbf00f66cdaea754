"""Data: everything that holds or computes tensors for the engine."""
