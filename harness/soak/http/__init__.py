"""The walk over HTTP, against a real server."""
