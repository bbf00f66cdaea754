"""Servers to test against: the real one in its processes, its API alone, an S3 server."""
