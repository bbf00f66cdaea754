"""One small module per family of checkpoints."""
