"""The rules an artifact is verified against."""
