"""The routes that run the model."""
