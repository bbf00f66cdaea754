"""GGUF files: converted once to a folder."""
