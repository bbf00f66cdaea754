"""Tensors in, tensors out: routed adapter deltas and attention."""
