"""From a folder to a model."""
