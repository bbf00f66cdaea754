"""Artifacts' bytes: a folder or a bucket, uploads on their way, and who holds what."""
