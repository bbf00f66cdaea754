"""Batches: files of requests that are answered when there is room, each line as if it were sent over HTTP."""
