"""The rules an artifact is judged by."""
