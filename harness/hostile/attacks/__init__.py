"""The attacks, by what they require: nothing, a key for inference, or a key for adapters."""
