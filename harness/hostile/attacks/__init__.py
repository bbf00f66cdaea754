"""The attacks, by what they need: nothing, a key for inference, a key for adapters."""
