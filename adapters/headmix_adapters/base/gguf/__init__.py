"""GGUF files, each converted once to a model folder."""
