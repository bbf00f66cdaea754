"""Servers to test against: the real one with its processes, only its API, and an S3 server."""
